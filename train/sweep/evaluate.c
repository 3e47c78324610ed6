// The evaluation of a sweep: a configuration for kveval, which runs as a program of its own.
#include "data/config/seed.h"
#include "data/config/tree.h"
#include "data/file/content.h"
#include "data/file/path.h"
#include "data/system/console.h"
#include "data/tokenizer/files.h"
#include "train/config/corpora.h"
#include "train/sweep/child.h"
#include "train/sweep/sweep.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- kveval --------------------------------------------------------------------------------------------

static bool is_program(const char *dir, const char *name, char path[PATH_MAX]) {
    struct stat info;
    return kv_path_join(dir, name, path, NULL) == KV_OK && stat(path, &info) == 0 && S_ISREG(info.st_mode) &&
           access(path, X_OK) == 0;
}

static bool in_path(char path[PATH_MAX]) {
    const char *variable = getenv("PATH");
    char *copy = strdup(variable ? variable : ""), *rest = copy;
    bool found = false;
    for (const char *dir; !found && rest && (dir = strsep(&rest, ":"));)
        found = is_program(*dir ? dir : ".", "kveval", path);
    free(copy);
    return found;
}

// Installed it lies beside kvtrain, after a build on its own floor.
kv_status kv_sweep_find_kveval(char path[PATH_MAX], kv_error *err) {
    char own[PATH_MAX];
    kv_status status = kv_own_program(own, sizeof own, err);
    if (status != KV_OK) return status;
    char *slash = strrchr(own, '/');
    *(slash ? slash : own) = '\0';
    if (is_program(own, "kveval", path) || is_program(own, "../eval/kveval", path) || in_path(path))
        return KV_OK;
    return kv_fail(err, KV_ERR_IO,
                   "kveval: found neither in %s nor in ../eval beside it nor in PATH; --no-eval does without",
                   own);
}

// ---- eval.yaml -----------------------------------------------------------------------------------------

static void put(FILE *out, const char *key, const char *text) {
    fprintf(out, ", %s: ", key);
    kv_yaml_quote(out, text);
}

static void put_below(FILE *out, const char *key, const char *dir, const char *name) {
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) < 0) return;
    put(out, key, path);
    free(path);
}

// Runs of one arm share marker and colour in the picture.
static void put_run(FILE *out, const kv_sweep *sweep, const kv_sweep_run *run) {
    const kv_train_config *config = run->config;
    const char *slash = strrchr(sweep->output, '/');
    fputs("\n- {name: ", out);
    kv_yaml_quote(out, run->row);
    put(out, "family", run->arm->name ? run->arm->name : slash && slash[1] ? slash + 1 : sweep->output);
    if (config->task == KV_TASK_LM) {
        put_below(out, "model", run->directory, "final/model");
    } else {
        put(out, "base", config->base);
        if (kv_train_prefix(config))
            ; // the base, which stands above
        else if (config->aux && !kv_path_exists_in(run->directory, "final/aux"))
            put(out, "aux", config->aux);
        else
            put_below(out, "aux", run->directory, "final/aux");
        put_below(out, "predictor", run->directory, "final/predictor");
    }
    fputc('}', out);
}

// The file's own systems, then the runs of the seed that are done, each on a line of its own.
static void put_systems(FILE *out, const kv_sweep *sweep, const uint64_t *seed, const kv_config *config) {
    fputs("systems=", out);
    for (size_t i = 0;; i++) {
        char key[32], *system;
        snprintf(key, sizeof key, "systems[%zu]", i);
        system = kv_config_value(config, key);
        if (!system) break;
        fprintf(out, "\n- %s", system);
        free(system);
    }
    for (size_t i = 0; i < sweep->n_runs; i++)
        if (sweep->runs[i].look.state == KV_SWEEP_DONE && sweep->runs[i].seed == seed)
            put_run(out, sweep, &sweep->runs[i]);
}

// ---- Before anything is trained ------------------------------------------------------------------------

// A path of the eval file, with the seed that kveval will put into it. of_runs NULL: the file's own.
static char *path_value(const kv_config *config, const uint64_t *of_runs, const char *key) {
    char *path = kv_config_value(config, key), *seed = of_runs ? NULL : kv_config_value(config, "seed");
    if (of_runs && asprintf(&seed, "%" PRIu64, *of_runs) < 0) seed = NULL;
    char *whole = path ? kv_seed_path(path, seed ? seed : "1") : NULL;
    free(path);
    free(seed);
    return whole;
}

// The tokenizer that kveval will ask with, as far as it can be known yet; the caller frees *path. NULL: it cannot.
static kv_tokenizer *find_tokenizer(const kv_config *config, const uint64_t *seed, char key[48],
                                    char **path) {
    static const char *const fields[] = {"model", "base", "aux"};
    kv_tokenizer *tokenizer = NULL;
    snprintf(key, 48, "tokenizer");
    *path = path_value(config, seed, key);
    for (size_t i = 0, more = 1; !*path && more; i++) {
        more = 0;
        for (int f = 0; !*path && f < 3; f++) {
            snprintf(key, 48, "systems[%zu].%s", i, fields[f]);
            char *dir = path_value(config, seed, key);
            more += dir != NULL;
            if (dir && kv_tokenizer_present(dir))
                *path = dir;
            else
                free(dir);
        }
    }
    // One that cannot be opened is kveval's to tell of.
    if (*path) kv_tokenizer_open(*path, &tokenizer, NULL);
    return tokenizer;
}

static kv_status check_text(const kv_sweep_run *run, const kv_config *config, const kv_tokenizer *tokenizer,
                            const char *key, const char *path, kv_error *err) {
    kv_train_text text = {0};
    kv_status status = kv_train_text_open(run->source, run->config, &text, NULL);
    const kv_tokenizer_id id = kv_train_text_tokenizer(&text);
    // A text that cannot be read is told of later, and of one of more tokens kveval knows which they are.
    const bool fits = status != KV_OK || kv_tokenizer_vocab_size(tokenizer) < id.vocab_size ||
                      kv_tokenizer_serves(tokenizer, &id);
    kv_train_text_close(&text);
    if (fits) return KV_OK;
    kv_config_fail(
        config, err, key,
        "the tokenizer of %s is %s of %lld tokens, but the text of run %s was made with %s of %lld: expected the "
        "same one",
        path, kv_tokenizer_hash(tokenizer), (long long)kv_tokenizer_vocab_size(tokenizer), run->name, id.hash,
        (long long)id.vocab_size);
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

// The runs of one seed, or (NULL) all of them.
static kv_status check_texts(const kv_sweep *sweep, const kv_config *config, const uint64_t *seed,
                             kv_error *err) {
    char key[48], *path = NULL;
    kv_tokenizer *tokenizer = find_tokenizer(config, seed, key, &path);
    kv_status status = KV_OK;
    for (size_t i = 0; tokenizer && i < sweep->n_runs && status == KV_OK; i++)
        if (sweep->runs[i].seed == seed)
            status = check_text(&sweep->runs[i], config, tokenizer, key, path, err);
    kv_tokenizer_free(tokenizer);
    free(path);
    return status;
}

kv_status kv_sweep_check_tokenizer(const kv_sweep *sweep, kv_error *err) {
    kv_config *config = NULL;
    if (!sweep->file.eval || kv_config_load(sweep->file.eval, NULL, 0, NULL, &config, NULL) != KV_OK)
        return KV_OK;
    kv_status status = sweep->file.n_seeds ? KV_OK : check_texts(sweep, config, NULL, err);
    for (size_t i = 0; status == KV_OK && i < sweep->file.n_seeds; i++)
        status = check_texts(sweep, config, &sweep->file.seeds[i], err);
    kv_config_free(config);
    return status;
}

// kveval would find it when the first such run is done.
static kv_status check_names(const kv_sweep *sweep, const kv_config *config, kv_error *err) {
    for (size_t i = 0;; i++) {
        char key[48], *name;
        snprintf(key, sizeof key, "systems[%zu].name", i);
        name = kv_config_value(config, key);
        if (!name) return KV_OK;
        bool taken = false;
        for (size_t k = 0; k < sweep->n_runs; k++) taken = taken || strcmp(name, sweep->runs[k].row) == 0;
        if (taken)
            kv_config_fail(config, err, key, "%s is also the name of a run of %s", name, sweep->file.path);
        free(name);
        if (taken) return KV_ERR_FORMAT;
    }
}

static kv_status systems_override(const kv_sweep *sweep, const uint64_t *seed, const kv_config *config,
                                  char **text, kv_error *err) {
    if (!kv_config_has(config, "systems[0]"))
        return kv_config_fail(config, err, "systems",
                              "expected a list of at least the base, which the runs are compared with");
    const kv_status status = check_names(sweep, config, err);
    if (status != KV_OK) return status;
    size_t size;
    FILE *out = open_memstream(text, &size);
    if (out) put_systems(out, sweep, seed, config);
    if (out && fclose(out) == 0) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the evaluation");
}

static char *output_override(const char *output) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    fputs("output=", out);
    kv_yaml_quote(out, output);
    fclose(out);
    return text;
}

kv_status kv_sweep_results_dir(const kv_sweep *sweep, const uint64_t *seed, char path[PATH_MAX],
                               kv_error *err) {
    char name[48] = "";
    if (seed) snprintf(name, sizeof name, "eval/seed=%" PRIu64, *seed);
    if (seed) return kv_path_join(sweep->output, name, path, err);
    snprintf(path, PATH_MAX, "%s", sweep->output);
    return KV_OK;
}

// The eval file with all it extends, as one text.
static kv_status resolve(const kv_sweep *sweep, const uint64_t *seed, char **text, kv_error *err) {
    kv_config *config = NULL, *whole = NULL;
    char output[PATH_MAX], seed_override[40] = "", *overrides[3] = {NULL, NULL, seed_override};
    kv_status status = kv_sweep_results_dir(sweep, seed, output, err);
    if (status != KV_OK) return status;
    if (seed) snprintf(seed_override, sizeof seed_override, "seed=%" PRIu64, *seed);
    overrides[1] = output_override(output);
    status = kv_config_load(sweep->file.eval, NULL, 0, NULL, &config, err);
    if (status == KV_OK && !overrides[1]) status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (status == KV_OK) status = systems_override(sweep, seed, config, &overrides[0], err);
    if (status == KV_OK)
        status =
            kv_config_load(sweep->file.eval, (const char *const *)overrides, seed ? 3 : 2, NULL, &whole, err);
    if (status == KV_OK) {
        *text = kv_config_text(whole);
        if (!*text) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the evaluation");
    } else if (!config && err) {
        const kv_error inner = *err;
        kv_fail(err, inner.code, "%s:%zu: key `eval`: %s", sweep->file.path, sweep->file.eval_line,
                inner.message);
    }
    free(overrides[0]);
    free(overrides[1]);
    kv_config_free(config);
    kv_config_free(whole);
    return status;
}

// OUTPUT/eval.yaml, or of a seed OUTPUT/eval/seed=N.yaml.
static kv_status config_path(const kv_sweep *sweep, const uint64_t *seed, char path[PATH_MAX],
                             kv_error *err) {
    char name[48] = "eval.yaml";
    if (seed) snprintf(name, sizeof name, "eval/seed=%" PRIu64 ".yaml", *seed);
    if (seed) {
        kv_status status = kv_path_join(sweep->output, "eval", path, err);
        if (status == KV_OK) status = kv_make_dirs(path, err);
        if (status != KV_OK) return status;
    }
    return kv_path_join(sweep->output, name, path, err);
}

static kv_status write_config(const kv_sweep *sweep, const uint64_t *seed, char path[PATH_MAX],
                              kv_error *err) {
    char *text = NULL, *all = NULL;
    kv_status status = config_path(sweep, seed, path, err);
    if (status == KV_OK) status = resolve(sweep, seed, &text, err);
    if (status != KV_OK) return status;
    const int n = asprintf(&all, "# Written by kvtrain --sweep from %s and the runs of %s.\n%s",
                           sweep->file.eval, sweep->file.path, text);
    free(text);
    if (n < 0) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the evaluation");
    status = kv_write_file(path, all, (size_t)n, err);
    free(all);
    return status;
}

// ---- kveval at work ------------------------------------------------------------------------------------

// what: of the message.
static kv_status run_kveval(const char *const *arguments, const char *what, kv_error *err) {
    pid_t child = 0;
    const kv_status status = kv_child_start(arguments, NULL, 0, &child, err);
    if (status != KV_OK) return status;
    int told = 0, code = 0;
    kv_child_wait(&child, 1, &told, &code);
    if (code == 0) return KV_OK;
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted while evaluating");
    return kv_fail(err, KV_ERR_MISMATCH, "kveval %s failed, with %s %d", what,
                   code < 0 ? "signal" : "exit status", code < 0 ? -code : code);
}

static kv_status evaluate(const kv_sweep *sweep, const uint64_t *seed, const char *kveval, bool measure_time,
                          kv_error *err) {
    char config[PATH_MAX];
    const kv_status status = write_config(sweep, seed, config, err);
    const char *const arguments[] = {kveval, config, measure_time ? NULL : "--no-ttft", NULL};
    return status == KV_OK ? run_kveval(arguments, config, err) : status;
}

// Whether a run of that seed is done or, where that counts, is to be trained.
static bool has_run(const kv_sweep *sweep, const uint64_t *seed, bool to_be_trained) {
    for (size_t i = 0; i < sweep->n_runs; i++) {
        const kv_sweep_run *run = &sweep->runs[i];
        if (run->seed == seed && (run->look.state == KV_SWEEP_DONE || (to_be_trained && run->wanted)))
            return true;
    }
    return false;
}

kv_status kv_sweep_evaluate(const kv_sweep *sweep, const char *kveval, bool measure_time, kv_error *err) {
    const kv_sweep_file *file = &sweep->file;
    if (file->n_seeds == 0) return evaluate(sweep, NULL, kveval, measure_time, err);
    kv_status status = KV_OK;
    for (size_t i = 0; status == KV_OK && i < file->n_seeds; i++)
        if (has_run(sweep, &file->seeds[i], true))
            status = evaluate(sweep, &file->seeds[i], kveval, measure_time, err);
    return status;
}

// The eval file's picture as options of kveval seeds; texts[4] to be freed.
static size_t picture_options(const kv_sweep *sweep, const char **arguments, char *texts[4]) {
    static const char *const keys[][2] = {{"picture.x", "-x"}, {"picture.y", "-y"}, {"picture.line", "-l"}};
    kv_config *config;
    size_t n = 0;
    if (kv_config_load(sweep->file.eval, NULL, 0, NULL, &config, NULL) != KV_OK) return 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        texts[i] = kv_config_value(config, keys[i][0]);
        if (!texts[i]) continue;
        arguments[n++] = keys[i][1];
        arguments[n++] = texts[i];
    }
    kv_config_free(config);
    return n;
}

kv_status kv_sweep_join_seeds(const kv_sweep *sweep, const char *kveval, kv_error *err) {
    const size_t n_seeds = sweep->file.n_seeds;
    char(*paths)[PATH_MAX] = calloc(n_seeds, sizeof *paths), *texts[4] = {NULL};
    const char **arguments = calloc(n_seeds + 16, sizeof *arguments);
    kv_status status =
        paths && arguments ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the seeds");
    size_t n = 0, n_joined = 0;
    if (status == KV_OK) {
        arguments[n++] = kveval;
        arguments[n++] = "seeds";
        arguments[n++] = "--output";
        arguments[n++] = sweep->output;
        n += picture_options(sweep, arguments + n, texts);
    }
    for (size_t i = 0; status == KV_OK && i < n_seeds; i++) {
        if (!has_run(sweep, &sweep->file.seeds[i], false)) continue;
        status = kv_sweep_results_dir(sweep, &sweep->file.seeds[i], paths[i], err);
        arguments[n++] = paths[i];
        n_joined++;
    }
    if (status == KV_OK && n_joined > 0) status = run_kveval(arguments, "seeds", err);
    for (size_t i = 0; i < 4; i++) free(texts[i]);
    free(arguments);
    free(paths);
    return status;
}
