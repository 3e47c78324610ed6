// From the file of a sweep to its runs: the product of its lists, names, configurations.
#include "core/text.h"
#include "data/config/tree.h"
#include "data/file/hash.h"
#include "data/file/path.h"
#include "train/sweep/sweep.h"

#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

// kveval takes 256 systems.
enum { MAX_RUNS = 250, MAX_VALUE_NAME = 48, MAX_NAME = 200 };

// What lies in the output beside the runs.
static const char *const reserved[] = {"eval.yaml",    "sweep.yaml", "table.csv", "sweep.lock",
                                       "made_by.json", "samples",    "logs"};

static kv_status no_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the sweep");
}

// ---- Names ---------------------------------------------------------------------------------------------

// Every axis of the sweep, once for each place it is named at.
static bool next_axis(const kv_sweep_file *file, size_t *place, const kv_sweep_axis **axis) {
    size_t at = (*place)++;
    if (at < file->grid.n) {
        *axis = &file->grid.items[at];
        return true;
    }
    at -= file->grid.n;
    for (size_t i = 0; i < file->n_arms; i++) {
        if (at < file->arms[i].grid.n) {
            *axis = &file->arms[i].grid.items[at];
            return true;
        }
        at -= file->arms[i].grid.n;
    }
    return false;
}

// Whether the last parts of the key are `end`.
static bool ends_in(const char *key, const char *end) {
    const size_t n = strlen(key), m = strlen(end);
    return kv_ends_with(key, end) && (n == m || key[n - m - 1] == '.');
}

// As many of the key's last parts as tell it apart from all other keys that vary.
static const char *short_key(const kv_sweep_file *file, const char *key) {
    const char *at = key + strlen(key);
    bool shared = true;
    while (shared && at > key) {
        do at--;
        while (at > key && at[-1] != '.');
        shared = false;
        const kv_sweep_axis *other;
        for (size_t place = 0; next_axis(file, &place, &other);)
            shared = shared || (strcmp(other->key, key) != 0 && ends_in(other->key, at));
    }
    return at;
}

// A value as part of a file's name: "[0, 1]" as 0.1, "{rank: 8, layers: [0, 1]}" as rank=8-layers=0.1, other
// characters that do not belong there as _.
static void append_value(FILE *out, const char *value) {
    char text[MAX_VALUE_NAME + 16];
    size_t n = 0;
    int lists = 0;
    const char *c = value;
    for (; *c && n < MAX_VALUE_NAME; c++) {
        lists += (*c == '[') - (*c == ']');
        if (strchr("[]{}\" ", *c)) continue;
        const bool fit = isalnum((unsigned char)*c) || strchr("._+-", *c);
        const char stands_for = *c == ',' ? (lists ? '.' : '-') : *c == ':' && c[1] == ' ' ? '=' : '_';
        text[n++] = fit ? *c : stands_for;
    }
    if (*c) {
        char hash[17];
        kv_hash_text(kv_hash64(0, value, strlen(value)), hash);
        n -= 8, n += (size_t)sprintf(text + n, "~%.6s", hash);
    }
    text[n] = '\0';
    fputs(n ? text : "none", out);
}

// One run while it is put together: a value of each axis of the sweep and of its arm.
struct choice {
    const kv_sweep_file *file;
    const kv_sweep_arm *arm;
    const size_t *value;  // [grid.n + arm->grid.n]
    const uint64_t *seed; // NULL: none
};

static const kv_sweep_axis *chosen_axis(const struct choice *c, size_t i) {
    return i < c->file->grid.n ? &c->file->grid.items[i] : &c->arm->grid.items[i - c->file->grid.n];
}

static size_t n_axes(const struct choice *c) {
    return c->file->grid.n + c->arm->grid.n;
}

// Of a sweep over seeds alone: what its configuration's file is called.
static void put_file_name(FILE *out, const char *train) {
    const char *slash = strrchr(train, '/');
    const char *name = slash ? slash + 1 : train, *dot = strrchr(name, '.');
    char text[MAX_VALUE_NAME];
    snprintf(text, sizeof text, "%.*s", (int)(dot && dot > name ? dot - name : (ptrdiff_t)strlen(name)),
             name);
    append_value(out, text);
}

// "ours-kl=2-init=random".
static char *make_row(const struct choice *c, const char *train) {
    char *name = NULL;
    size_t size;
    FILE *out = open_memstream(&name, &size);
    if (!out) return NULL;
    if (c->arm->name) fputs(c->arm->name, out);
    if (!c->arm->name && n_axes(c) == 0) put_file_name(out, train);
    for (size_t i = 0; i < n_axes(c); i++) {
        const kv_sweep_axis *axis = chosen_axis(c, i);
        const char *value = axis->values[c->value[i]];
        if (i || c->arm->name) fputc('-', out);
        if (*value != '{') fprintf(out, "%s=", short_key(c->file, axis->key)); // a group names its keys
        append_value(out, value);
    }
    if (fclose(out) != 0) {
        free(name);
        return NULL;
    }
    if (size > MAX_NAME) {
        char hash[17];
        kv_hash_text(kv_hash64(0, name, size), hash);
        sprintf(name + MAX_NAME - 8, "~%.6s", hash);
    }
    return name;
}

// The row's, with "-seed=2" behind it.
static char *make_name(const struct choice *c, const char *row) {
    char *name;
    if (!c->seed) return strdup(row);
    return asprintf(&name, "%s-seed=%" PRIu64, row, *c->seed) < 0 ? NULL : name;
}

// ---- Overrides -----------------------------------------------------------------------------------------

static bool add_override(kv_sweep_run *run, size_t line, char *text) {
    if (!text) return false;
    run->lines[run->n_overrides] = line;
    run->overrides[run->n_overrides++] = text;
    return true;
}

static bool add_setting(kv_sweep_run *run, const kv_sweep_axis *axis, size_t value) {
    char *text;
    if (asprintf(&text, "%s=%s", axis->key, axis->values[value]) < 0) return false;
    return add_override(run, axis->lines[value], text);
}

static bool add_seed(kv_sweep_run *run, const struct choice *c) {
    char *text;
    if (!c->seed) return true;
    if (asprintf(&text, "seed=%" PRIu64, *c->seed) < 0) return false;
    return add_override(run, c->file->seeds_line, text);
}

static char *output_override(const char *directory) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    fputs("output=", out);
    kv_yaml_quote(out, directory);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

// In the order in which they win over each other: the file's `set`, the arm's, the command line, the grid and the seed.
static bool add_overrides(kv_sweep_run *run, const kv_sweep_args *args, const struct choice *c) {
    const kv_sweep_axes *sets[] = {&c->file->set, &c->arm->set};
    const size_t room = c->file->set.n + c->arm->set.n + args->n_overrides + n_axes(c) + 2;
    run->overrides = calloc(room, sizeof *run->overrides);
    run->lines = calloc(room, sizeof *run->lines);
    bool ok = run->overrides && run->lines;
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; ok && i < sets[s]->n; i++) ok = add_setting(run, &sets[s]->items[i], 0);
    for (size_t i = 0; ok && i < args->n_overrides; i++)
        ok = add_override(run, 0, strdup(args->overrides[i]));
    for (size_t i = 0; ok && i < n_axes(c); i++) ok = add_setting(run, chosen_axis(c, i), c->value[i]);
    return ok && add_seed(run, c) && add_override(run, 0, output_override(run->directory));
}

// What varies may not be set for all: half the runs would carry names that lie.
static kv_status check_command_line(const kv_sweep_args *args, const kv_sweep_file *file, kv_error *err) {
    for (size_t i = 0; i < args->n_overrides; i++) {
        const char *text = args->overrides[i];
        char key[256];
        const kv_sweep_axis *axis;
        snprintf(key, sizeof key, "%.*s", (int)strcspn(text, "="), text);
        if (file->n_seeds && strcmp(key, "seed") == 0)
            return kv_fail(err, KV_ERR_ARGUMENT, "-s %.*s: key `seed`: varies by `seeds` on line %zu of %s",
                           KV_HEAD(text, 200), file->seeds_line, file->path);
        for (size_t place = 0; next_axis(file, &place, &axis);) {
            const kv_sweep_axes one = {.items = (kv_sweep_axis *)axis, .n = 1};
            if (kv_sweep_axes_touch(&one, key))
                return kv_fail(err, KV_ERR_ARGUMENT, "-s %.*s: key `%s`: varies on line %zu of %s",
                               KV_HEAD(text, 200), axis->key, axis->lines[0], file->path);
        }
    }
    return KV_OK;
}

// ---- Configurations ------------------------------------------------------------------------------------

kv_status kv_sweep_name_place(const kv_sweep *sweep, const kv_sweep_run *run, kv_status code,
                              const kv_error *inner, kv_error *err) {
    for (size_t i = 0; i < run->n_overrides; i++) {
        char label[240];
        const int n = snprintf(label, sizeof label, "-s %s", run->overrides[i]);
        const size_t length = n < (int)sizeof label ? (size_t)n : sizeof label - 1;
        const char *rest = inner->message + length;
        if (!run->lines[i] || strncmp(inner->message, label, length) != 0) continue;
        if (length == (size_t)n && *rest != ':') continue; // kl=1 also begins kl=10
        rest = strstr(rest, ": ");
        return kv_fail(err, code, "%s:%zu: run %s: %s", sweep->file.path, run->lines[i], run->name,
                       rest ? rest + 2 : inner->message);
    }
    return kv_fail(err, code, "run %s: %s", run->name, inner->message);
}

static kv_status load_run(const kv_sweep *sweep, kv_sweep_run *run, kv_error *err) {
    kv_error inner = {0};
    kv_status status = kv_train_config_load(run->train, (const char *const *)run->overrides, run->n_overrides,
                                            &run->source, &run->config, &inner);
    return status == KV_OK ? KV_OK : kv_sweep_name_place(sweep, run, status, &inner, err);
}

static kv_status check_new(const kv_sweep *sweep, const kv_sweep_run *run, kv_error *err) {
    static const char *const ignored[] = {"output"};
    kv_config_difference difference;
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strcmp(run->name, reserved[i]) == 0)
            return kv_fail(err, KV_ERR_FORMAT, "%s:%zu: key `name`: `%s` is the name of another file there",
                           sweep->file.path, run->arm->line, run->name);
    for (const kv_sweep_run *other = sweep->runs; other < run; other++)
        if (strcmp(other->name, run->name) == 0 ||
            !kv_config_compare(other->source, run->source, ignored, 1, &difference))
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s:%zu: run %s is the same training as run %s, expected every run once",
                           sweep->file.path, run->arm->line, run->name, other->name);
    return KV_OK;
}

static kv_status add_run(const kv_sweep_args *args, kv_sweep *sweep, const struct choice *c, kv_error *err) {
    if (sweep->n_runs == MAX_RUNS)
        return kv_fail(err, KV_ERR_FORMAT, "%s: found more than %d runs, expected fewer", sweep->file.path,
                       MAX_RUNS);
    kv_sweep_run *run = &sweep->runs[sweep->n_runs++];
    char directory[PATH_MAX];
    *run = (kv_sweep_run){
        .arm = c->arm, .train = c->arm->train ? c->arm->train : sweep->file.train, .seed = c->seed};
    run->row = make_row(c, run->train);
    run->name = run->row ? make_name(c, run->row) : NULL;
    if (!run->name) return no_memory(err);
    kv_status status = kv_path_join(sweep->output, run->name, directory, err);
    if (status != KV_OK) return status;
    run->directory = strdup(directory);
    if (!run->directory || !add_overrides(run, args, c)) return no_memory(err);
    status = load_run(sweep, run, err);
    return status == KV_OK ? check_new(sweep, run, err) : status;
}

// One combination, with each seed.
static kv_status add_runs(const kv_sweep_args *args, kv_sweep *sweep, struct choice *c, kv_error *err) {
    const kv_sweep_file *file = &sweep->file;
    if (file->n_seeds == 0) return add_run(args, sweep, c, err);
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < file->n_seeds; i++) {
        c->seed = &file->seeds[i];
        status = add_run(args, sweep, c, err);
    }
    return status;
}

// The product of the lists of one arm, the last one changing fastest.
static kv_status expand_arm(const kv_sweep_args *args, kv_sweep *sweep, const kv_sweep_arm *arm,
                            kv_error *err) {
    struct choice c = {.file = &sweep->file, .arm = arm};
    size_t *value = calloc(n_axes(&c) + 1, sizeof *value);
    if (!value) return no_memory(err);
    c.value = value;
    kv_status status;
    bool more;
    do {
        status = add_runs(args, sweep, &c, err);
        more = false;
        for (size_t i = n_axes(&c); !more && i-- > 0;) {
            more = ++value[i] < chosen_axis(&c, i)->n_values;
            if (!more) value[i] = 0;
        }
    } while (status == KV_OK && more);
    free(value);
    return status;
}

// ---- What differs --------------------------------------------------------------------------------------

static size_t n_leaves(const kv_sweep_axes *axes) {
    size_t n = 0;
    for (size_t i = 0; i < axes->n; i++) n += axes->items[i].n_leaves;
    return n;
}

static void add_keys(kv_sweep *sweep, const kv_sweep_axes *axes) {
    for (size_t i = 0; i < axes->n; i++)
        for (size_t leaf = 0; leaf < axes->items[i].n_leaves; leaf++) {
            const char *key = axes->items[i].leaves[leaf];
            bool known = false;
            for (size_t k = 0; k < sweep->n_keys; k++) known = known || !strcmp(sweep->keys[k], key);
            if (!known) sweep->keys[sweep->n_keys++] = key;
        }
}

static kv_status collect_keys(kv_sweep *sweep, kv_error *err) {
    const kv_sweep_file *file = &sweep->file;
    size_t n = n_leaves(&file->grid);
    for (size_t i = 0; i < file->n_arms; i++)
        n += n_leaves(&file->arms[i].set) + n_leaves(&file->arms[i].grid);
    sweep->keys = calloc(n + 2, sizeof *sweep->keys);
    if (!sweep->keys) return no_memory(err);
    add_keys(sweep, &file->grid);
    for (size_t i = 0; i < file->n_arms; i++) {
        add_keys(sweep, &file->arms[i].set);
        add_keys(sweep, &file->arms[i].grid);
    }
    if (file->n_seeds) sweep->keys[sweep->n_keys++] = "seed";
    return KV_OK;
}

// ---- All of it -----------------------------------------------------------------------------------------

kv_status kv_sweep_open(const kv_sweep_args *args, kv_sweep *sweep, kv_error *err) {
    kv_status status = kv_sweep_file_read(args->path, &sweep->file, err);
    if (status != KV_OK) return status;
    const char *output = args->output ? args->output : sweep->file.output;
    if (!output)
        return kv_fail(err, KV_ERR_FORMAT, "%s:1: key `output`: found nothing, expected a directory",
                       args->path);
    if (snprintf(sweep->output, sizeof sweep->output, "%s", output) >= (int)sizeof sweep->output)
        return kv_path_too_long(output, err);
    sweep->runs = calloc(MAX_RUNS, sizeof *sweep->runs);
    if (!sweep->runs) return no_memory(err);
    status = check_command_line(args, &sweep->file, err);
    for (size_t i = 0; status == KV_OK && i < sweep->file.n_arms; i++)
        status = expand_arm(args, sweep, &sweep->file.arms[i], err);
    if (status == KV_OK) status = collect_keys(sweep, err);
    if (status == KV_OK) status = kv_sweep_choose(args, sweep, err);
    return status == KV_OK ? kv_sweep_open_prepared(sweep, err) : status;
}

void kv_sweep_close(kv_sweep *sweep) {
    for (size_t i = 0; i < sweep->n_runs; i++) {
        kv_sweep_run *run = &sweep->runs[i];
        for (size_t o = 0; o < run->n_overrides; o++) free(run->overrides[o]);
        free(run->overrides);
        free(run->lines);
        free(run->name);
        free(run->row);
        free(run->directory);
        kv_config_free(run->source);
    }
    for (size_t i = 0; i < sweep->n_prepared; i++) free(sweep->prepared[i].output);
    free(sweep->prepared);
    free(sweep->runs);
    free(sweep->keys);
    kv_sweep_file_free(&sweep->file);
    *sweep = (kv_sweep){0};
}
