// Fitting is ours; what each depth is worth is an evaluation like any other, of a configuration that is written here and
// left behind.
#include "eval/curve/curve.h"

#include "core/flops.h"
#include "data/checkpoint/pair.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/made_by.h"
#include "data/file/path.h"
#include "data/system/blas.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/limits.h"
#include "data/system/memory.h"
#include "data/system/speed.h"
#include "data/tokenizer/files.h"
#include "eval/curve/fit.h"
#include "eval/curve/table.h"
#include "eval/evaluate/evaluate.h"
#include "eval/evaluate/plan.h"
#include "eval/report/output.h"
#include "infer/cost.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct curve {
    kv_curve_options options;
    kv_model_spec spec; // the base's
    int64_t depths[KV_CURVE_DEPTHS], n;
    const char *tokenizer_path;
    kv_tokenizer *tokenizer;
    kv_curve_text text;
    char fingerprint[17]; // of the base; "" until it is loaded
};

// ---- What is there -------------------------------------------------------------------------------------

static kv_status open_tokenizer(struct curve *c, kv_error *err) {
    const kv_curve_options *o = &c->options;
    c->tokenizer_path = o->tokenizer ? o->tokenizer : kv_tokenizer_present(o->base) ? o->base : NULL;
    if (!c->tokenizer_path)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s has no tokenizer to read %s with: expected --tokenizer PATH",
                       o->base, o->text);
    return kv_tokenizer_open(c->tokenizer_path, &c->tokenizer, err);
}

static kv_status check_pair(struct curve *c, kv_error *err) {
    kv_model_spec aux = {0};
    kv_pair_part part = KV_PAIR_BASE;
    const kv_pair pair = {.base = c->options.base,
                          .aux = c->options.aux,
                          .tokenizer = c->tokenizer_path,
                          .opened = c->tokenizer,
                          .n_tokens = c->options.window,
                          .base_spec = &c->spec,
                          .aux_spec = &aux,
                          .blamed = &part};
    const kv_status status = kv_pair_check(&pair, err);
    return status != KV_OK && part == KV_PAIR_CONTEXT ? kv_fail_within(err, status, "--window") : status;
}

static kv_status same_text(const kv_curve_options *o, kv_error *err) {
    char *a = realpath(o->text, NULL), *b = o->held_out ? realpath(o->held_out, NULL) : NULL;
    const bool same = a && b && !strcmp(a, b);
    free(a);
    free(b);
    return same ? kv_fail(err, KV_ERR_ARGUMENT,
                          "--held-out: found the text that maps are fitted on, expected another "
                          "one, or no --held-out at all: a part of the text is then held out")
                : KV_OK;
}

static kv_status open_curve(struct curve *c, kv_error *err) {
    kv_status status = kv_checkpoint_spec(c->options.base, &c->spec, err);
    if (status == KV_OK) {
        status = kv_curve_depths(c->options.depths, c->spec.n_layers, c->depths, &c->n, err);
        if (status != KV_OK) return kv_fail_within(err, status, "--depths");
        status = same_text(&c->options, err);
    }
    if (status == KV_OK) status = open_tokenizer(c, err);
    if (status == KV_OK) status = check_pair(c, err);
    return status == KV_OK ? kv_curve_text_read(&c->options, c->tokenizer, &c->text, err) : status;
}

static void close_curve(struct curve *c) {
    kv_curve_text_free(&c->text);
    kv_tokenizer_free(c->tokenizer);
}

// Windows that there are to judge on; of another text what was asked for at most.
static int64_t n_windows(const struct curve *c) {
    const int64_t n = c->text.n_held_out / c->options.window;
    return c->options.held_out || n > c->options.windows ? c->options.windows : n;
}

// ---- What it takes -------------------------------------------------------------------------------------

// from: up to where the depth before has read the windows.
static double row_flops(const struct curve *c, const kv_system *system, int64_t from) {
    const kv_curve_options *o = &c->options;
    const double windows = (double)n_windows(c), repeats = o->repeats > 0 ? (double)o->repeats + 1 : 0;
    const uint64_t window = system->predictor && o->prompt > 1
                                ? kv_system_prefix_flops(system, from, o->window, o->window - o->prompt)
                                : kv_system_score_flops(system, o->window, o->window - 1);
    return windows * (double)window + repeats * (double)kv_system_flops(system, o->prompt);
}

static kv_status judging_flops(const struct curve *c, double *flops, kv_error *err) {
    kv_model *base, *aux = NULL;
    kv_model_spec spec;
    kv_status status = kv_model_create(&c->spec, KV_F32, false, &base, err);
    *flops = 0;
    if (status != KV_OK) return status;
    *flops = row_flops(c, &(kv_system){.base = base}, 0);
    for (int64_t i = 0; i < c->n && status == KV_OK; i++) {
        kv_predictor *shape;
        status = kv_curve_predictor(&c->spec, c->depths[i], c->options.first, false, &shape, err);
        if (status == KV_OK)
            *flops += row_flops(c, &(kv_system){.base = base, .aux = base, .predictor = shape},
                                i > 0 ? c->depths[i - 1] : 0);
        kv_predictor_free(shape);
    }
    if (status == KV_OK && c->options.aux) status = kv_checkpoint_spec(c->options.aux, &spec, err);
    if (status == KV_OK && c->options.aux) status = kv_model_create(&spec, KV_F32, false, &aux, err);
    if (aux) *flops += row_flops(c, &(kv_system){.base = aux}, 0);
    kv_model_free(aux);
    kv_model_free(base);
    return status;
}

static void print_text(const struct curve *c) {
    const kv_curve_options *o = &c->options;
    printf("%-12s %s: %lld tokens of %lld documents to fit on\n", "text", o->text, (long long)c->text.n_fit,
           (long long)c->text.fit_documents);
    if (o->held_out)
        printf("%-12s %s", "held out", o->held_out);
    else
        printf("%-12s %lld tokens of %lld %s", "held out", (long long)c->text.n_held_out,
               (long long)c->text.n_documents,
               c->text.cut ? "documents, the end of the text" : "other documents");
    printf(": %lld windows of %lld, of which %lld are the prompt\n", (long long)n_windows(c),
           (long long)o->window, (long long)o->prompt);
}

static kv_status show_plan(const struct curve *c, kv_error *err) {
    kv_curve_fit_cost cost;
    double judging, left;
    char a[32], b[32], d[32];
    kv_status status =
        kv_curve_fit_cost_of(&c->options, &c->spec, c->depths, c->n, c->text.n_fit, &cost, err);
    if (status == KV_OK) status = judging_flops(c, &judging, err);
    if (status != KV_OK) return status;
    const double weights = sizeof(float) * (double)kv_spec_size(&c->spec, true);
    printf("%-12s %s: %lld layers, %s weights\n", "base", c->options.base, (long long)c->spec.n_layers,
           kv_count_text(weights / 4, a));
    print_text(c);
    printf("%-12s", "depths");
    for (int64_t i = 0; i < c->n; i++) printf("%s %lld", i ? "," : "", (long long)c->depths[i]);
    left = (double)kv_memory_available("");
    printf("\n%-12s about %sB to fit: %sB weights, %sB sums and at work (with one depth at a time %sB)\n",
           "memory", kv_count_text(weights + cost.bytes, a), kv_count_text(weights, b),
           kv_count_text(cost.bytes, d), kv_count_text(cost.least, (char[32]){0}));
    printf("%-12s %sB are left%s\n", "", kv_count_text(left, a),
           weights + cost.bytes > left ? ": the text will be read several times" : "");
    printf("%-12s %sB of predictors, on disk and in memory to judge\n", "",
           kv_count_text(cost.predictors, a));
    const double speed = kv_speed_measure(c->options.window, c->spec.model_dim);
    printf("%-12s %sFLOPs to fit, %sFLOPs to judge", "time", kv_count_text(cost.flops, a),
           kv_count_text(judging, b));
    if (speed > 0)
        printf(": about %s and %s at %.3g GFLOP/s", kv_duration(cost.flops / speed, a),
               kv_duration(judging / speed, b), speed / 1e9);
    printf("\n%-12s %s\n", "output", c->options.output);
    return KV_OK;
}

// ---- The directory -------------------------------------------------------------------------------------

// What another call has to agree on to go on in the same directory.
static json_t *settings_of(const struct curve *c) {
    const kv_curve_options *o = &c->options;
    kv_tokenizer_id id;
    kv_tokenizer_identify(c->tokenizer, &id);
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:f, s:b}", "base_fingerprint", c->fingerprint,
                     "tokenizer", id.hash, "text_hash", c->text.hash, "tokens", (json_int_t)c->text.n_fit,
                     "held_out", o->held_out ? o->held_out : "", "window", (json_int_t)o->window, "prompt",
                     (json_int_t)o->prompt, "windows", (json_int_t)n_windows(c), "ridge", o->ridge, "first",
                     o->first);
}

static kv_status compare(const char *path, const json_t *there, const json_t *wanted, kv_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)wanted, key, value) {
        const json_t *other = json_object_get(there, key);
        if (json_equal(value, other)) continue;
        char *a = other ? json_dumps(other, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)) : NULL,
             *b = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        kv_fail(err, KV_ERR_MISMATCH,
                "%s: found another curve, with %s %s, expected %s: another --out, or remove it", path, key,
                a ? a : "nothing", b ? b : "?");
        free(a);
        free(b);
        return KV_ERR_MISMATCH;
    }
    return KV_OK;
}

static bool is_empty(const char *dir) {
    DIR *open = opendir(dir);
    const struct dirent *entry;
    bool empty = true;
    while (open && (entry = readdir(open)))
        empty = empty && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."));
    if (open) closedir(open);
    return empty;
}

static kv_status write_curve(const struct curve *c, const kv_curve_row *rows, int64_t n, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(c->options.output, "curve.json", path, err);
    if (status != KV_OK) return status;
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:s, s:o, s:o, s:o}", "format", "kv-curve", "version", 1, "base",
                  c->options.base, "text", c->options.text, "settings", settings_of(c), "systems",
                  rows ? kv_curve_json(rows, n) : json_array(), "made_by", kv_made_by(true));
    return kv_json_write(path, root, JSON_INDENT(1) | JSON_REAL_PRECISION(9), err);
}

// A directory of one's own, new or of the same curve.
static kv_status take_directory(const struct curve *c, kv_error *err) {
    const char *dir = c->options.output;
    char path[PATH_MAX];
    json_t *root = NULL;
    kv_status status = kv_path_join(dir, "curve.json", path, err);
    if (status != KV_OK) return status;
    if (!kv_path_exists(path)) {
        if (kv_path_exists(dir) && !is_empty(dir))
            return kv_fail(err, KV_ERR_MISMATCH,
                           "%s: found files of something else, expected a new directory, or one with "
                           "a curve (curve.json)",
                           dir);
        status = kv_make_dirs(dir, err);
        return status == KV_OK ? write_curve(c, NULL, 0, err) : status;
    }
    status = kv_json_read(path, 1 << 24, &root, err);
    if (status != KV_OK) return status;
    json_t *wanted = settings_of(c);
    status = compare(path, json_object_get(root, "settings"), wanted, err);
    json_decref(wanted);
    json_decref(root);
    return status;
}

static kv_status keep_text(const struct curve *c, char path[PATH_MAX], kv_error *err) {
    kv_status status = kv_path_join(c->options.output, "held_out.h5", path, err);
    if (status != KV_OK || c->options.held_out) return status;
    if (kv_path_exists(path)) return KV_OK;
    return kv_curve_text_write(&c->text, &c->options, c->tokenizer, c->tokenizer_path, path, err);
}

// ---- Fitting -------------------------------------------------------------------------------------------

static kv_status fit(struct curve *c, kv_error *err) {
    int64_t missing[KV_CURVE_DEPTHS], n = 0;
    kv_model *base = NULL;
    // Weights come first: what they are is what the directory is asked about.
    kv_status status =
        kv_checkpoint_load_frozen(c->options.base, &c->spec, KV_FROZEN_STORED, &base, NULL, err);
    if (status == KV_OK) kv_checkpoint_fingerprint(base, c->fingerprint);
    if (status == KV_OK) status = take_directory(c, err);
    for (int64_t i = 0; i < c->n && status == KV_OK; i++)
        if (!kv_curve_fitted(c->options.output, c->depths[i], &c->spec)) missing[n++] = c->depths[i];
    if (status == KV_OK && n > 0)
        status = kv_curve_fit(&c->options, base, c->fingerprint, missing, n, &c->text, err);
    kv_model_free(base);
    return status;
}

// ---- Judging -------------------------------------------------------------------------------------------

// A path as YAML takes it: between quotes, as JSON does.
static void put_path(FILE *file, const char *key, const char *path) {
    json_t *text = json_string(path);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    fprintf(file, "%s: %s", key, quoted ? quoted : "\"\"");
    free(quoted);
    json_decref(text);
}

static void put_systems(const struct curve *c, FILE *file, kv_error *err) {
    const kv_curve_options *o = &c->options;
    fprintf(file, "systems:\n  - {name: base, family: base, ");
    put_path(file, "model", o->base);
    if (o->aux) {
        fprintf(file, "}\n  - {name: aux, family: aux alone, ");
        put_path(file, "model", o->aux);
    }
    for (int64_t i = 0; i < c->n; i++) {
        char path[PATH_MAX] = "";
        kv_curve_place(o->output, c->depths[i], "predictor", path, err);
        fprintf(file, "}\n  - {name: %lld of %lld, family: prefix, ", (long long)c->depths[i],
                (long long)c->spec.n_layers);
        put_path(file, "base", o->base);
        put_path(file, ", predictor", path);
    }
    fprintf(file, "}\n");
}

static kv_status write_config(const struct curve *c, const char *held_out, char path[PATH_MAX],
                              kv_error *err) {
    const kv_curve_options *o = &c->options;
    char *text = NULL;
    size_t size = 0;
    kv_status status = kv_path_join(o->output, "eval.yaml", path, err);
    FILE *file = status == KV_OK ? open_memstream(&text, &size) : NULL;
    if (!file) return status == KV_OK ? kv_fail(err, KV_ERR_MEMORY, "out of memory") : status;
    fprintf(file, "# Written by kveval curve: what its maps are worth.\n");
    put_path(file, "output", o->output);
    put_path(file, "\ntokenizer", c->tokenizer_path);
    fprintf(file, "\n");
    put_systems(c, file, err);
    fprintf(file, "tasks:\n  - {name: text, split: held-out, kind: text, ");
    put_path(file, "corpus", o->held_out ? o->held_out : held_out);
    fprintf(file, ", window: %lld, prompt: %lld, limit: %lld}\n", (long long)o->window, (long long)o->prompt,
            (long long)n_windows(c));
    fprintf(file, "ttft: {prompt_tokens: %lld, batch_size: 1, repeats: %lld}\n", (long long)o->prompt,
            (long long)(o->repeats > 0 ? o->repeats : 1));
    if (o->aux) fprintf(file, "picture: {line: aux}\n");
    if (fclose(file) != 0 || !text) {
        free(text);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    }
    status = kv_write_file(path, text, size, err);
    free(text);
    return status;
}

// As kveval does it with any other configuration.
static kv_status evaluate(const struct curve *c, const char *config, kv_results *results, kv_error *err) {
    kv_evaluation e = {.measure = c->options.repeats > 0};
    kv_plan plan = {0};
    char note[KV_PLOT_NOTE] = "";
    kv_status status = kv_eval_config_load(config, NULL, 0, &e.source, &e.config, err);
    if (status != KV_OK) return status;
    status = kv_evaluation_open(&e, err);
    if (status == KV_OK) status = kv_plan_make(&e, &plan, err);
    if (status == KV_OK) status = kv_plan_check(&plan, err);
    kv_plan_free(&plan);
    if (status == KV_OK) status = kv_evaluation_load(&e, err);
    if (status == KV_OK) status = kv_evaluation_run(&e, results, err);
    if (status == KV_OK) status = kv_output_write(results, &e.config->picture, c->options.output, note, err);
    if (*note) fprintf(stderr, "kveval: note: %s\n", note);
    kv_evaluation_close(&e);
    return status;
}

static kv_status print(const struct curve *c, const kv_curve_row *rows, int64_t n, kv_error *err) {
    kv_tables *tables = kv_tables_create();
    kv_curve_tables(rows, n, tables);
    char *made_by = kv_made_by_text(true);
    kv_tables_made_by(tables, &made_by, made_by != NULL);
    kv_tables_fact(tables, "made_by", kv_made_by_list(&made_by, made_by != NULL));
    free(made_by);
    const kv_status status = kv_tables_write(tables, c->options.format, stdout, err);
    kv_tables_free(tables);
    return status;
}

static kv_status write_rows(const struct curve *c, const kv_results *results, kv_error *err) {
    const bool has_aux = c->options.aux;
    kv_curve_row *rows = calloc((size_t)results->n_systems, sizeof *rows);
    double *bytes = calloc((size_t)results->n_systems, sizeof *bytes);
    double(*explained)[2] = calloc((size_t)results->n_systems, sizeof *explained);
    char path[PATH_MAX];
    kv_status status =
        rows && bytes && explained ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the table");
    for (int i = 0; status == KV_OK && i < 1 + has_aux; i++) explained[i][0] = explained[i][1] = NAN;
    for (int64_t i = 0; i < c->n && status == KV_OK; i++) {
        kv_curve_fit_cost cost;
        kv_curve_explained(c->options.output, c->depths[i], explained[1 + has_aux + i]);
        status = kv_curve_fit_cost_of(&c->options, &c->spec, &c->depths[i], 1, 1, &cost, err);
        bytes[1 + has_aux + i] = cost.predictors;
    }
    if (status == KV_OK) {
        kv_curve_rows(results, has_aux, c->depths, bytes, explained, rows);
        status = print(c, rows, results->n_systems, err);
    }
    if (status == KV_OK) status = kv_path_join(c->options.output, "curve.csv", path, err);
    if (status == KV_OK) status = kv_curve_write_csv(rows, results->n_systems, path, err);
    if (status == KV_OK) status = write_curve(c, rows, results->n_systems, err);
    free(rows);
    free(bytes);
    free(explained);
    return status;
}

static kv_status judge(const struct curve *c, kv_error *err) {
    char held_out[PATH_MAX], config[PATH_MAX], best[PATH_MAX];
    kv_results results = {0};
    kv_status status = keep_text(c, held_out, err);
    if (status == KV_OK) status = write_config(c, held_out, config, err);
    if (status == KV_OK) status = evaluate(c, config, &results, err);
    if (status == KV_OK && kv_results_outcome(&results, 0, 0)->not_finite)
        status =
            kv_fail(err, KV_ERR_NOT_FINITE, "the base is not finite on %s: nothing can be compared with it",
                    c->options.held_out ? c->options.held_out : held_out);
    if (status == KV_OK) status = write_rows(c, &results, err);
    if (status == KV_OK)
        status = kv_curve_place(c->options.output, c->depths[c->n / 2], "predictor", best, err);
    if (status == KV_OK)
        fprintf(
            stderr,
            "kveval: predictors and table are in %s, the picture is %s/pareto.png; %.3g GB of memory at most. To "
            "hear one:\n"
            "  kvrun --base %s --predictor %s --compare \"…\"\n",
            c->options.output, c->options.output, (double)kv_memory_peak() / 1e9, c->options.base, best);
    kv_results_free(&results);
    return status;
}

int kv_curve_main(int argc, char **argv) {
    struct curve *c = calloc(1, sizeof *c);
    kv_error err = {0};
    if (!c) return 1;
    kv_curve_options_parse(argc, argv, &c->options);
    kv_console_catch_signals();
    if (c->options.dry_run) kv_console_printout();
    kv_status status = kv_blas_reserve(&err);
    if (status == KV_OK) status = open_curve(c, &err);
    if (status == KV_OK && c->options.dry_run) status = show_plan(c, &err);
    if (status == KV_OK && !c->options.dry_run) status = fit(c, &err);
    if (status == KV_OK && !c->options.dry_run) status = judge(c, &err);
    if (status == KV_OK && !kv_console_flush())
        status = kv_fail(&err, KV_ERR_IO, "standard output: cannot write the table: %s", strerror(errno));
    close_curve(c);
    free(c);
    if (status == KV_OK) return 0;
    char reason[KV_LIMITS_TEXT];
    kv_fold_complaint("%s%s%s", err.message, kv_limits_reason(&err, reason),
                      status == KV_ERR_INTERRUPTED ? "; the same command goes on from what is there" : "");
    return status == KV_ERR_INTERRUPTED ? 128 + kv_console_signal() : 1;
}
