// kvdata inspect: token shards, results, the optimiser's state and any other HDF5 file.
#include "data/corpus/shard.h"
#include "data/file/h5.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/kvdata/inspect/inspect.h"
#include "data/kvdata/inspect/list_hdf5.h"
#include "data/kvdata/kvdata.h"
#include "data/system/width.h"
#include "data/tokenizer/tokenizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SYSTEMS = 10000 };

static bool is_hdf5(const inspect_subject *s) {
    static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1A, '\n'};
    if (s->is_dir || s->random) return false;
    return (s->n_head >= 8 && memcmp(s->head, signature, 8) == 0) || kv_path_is_named(s->path, ".h5") ||
           kv_path_is_named(s->path, ".hdf5");
}

// ---- Token shards --------------------------------------------------------------------------------------

// What a model wrote may be bytes that are no text.
static kv_status show_text(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, kv_error *err) {
    char *text = NULL, *shown = NULL;
    size_t length = 0;
    kv_status status = kv_tokenizer_decode(tokenizer, ids, n, &text, &length, err);
    for (size_t i = 0; !status && i < length; i++)
        if (text[i] == '\0') text[i] = '\1'; // as unprintable, and no end
    if (!status && !(shown = kv_text_printable(text, true)))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (!status) fputs(shown, stdout);
    if (!status && (length == 0 || text[length - 1] != '\n')) putchar('\n');
    free(shown);
    free(text);
    return status;
}

kv_status inspect_documents(const inspect_options *options, const kv_shard *shard, kv_error *err) {
    kv_tokenizer *tokenizer = NULL;
    kv_status status = KV_OK;
    if (options->tokenizer) status = kv_tokenizer_open(options->tokenizer, &tokenizer, err);
    if (!status && tokenizer && strcmp(kv_tokenizer_hash(tokenizer), shard->info.tokenizer) != 0)
        status = kv_fail(err, KV_ERR_MISMATCH, "%s was made with tokenizer %s, but %s is %s", options->path,
                         shard->info.tokenizer, options->tokenizer, kv_tokenizer_hash(tokenizer));
    for (int64_t i = 0; !status && !options->json && i < options->n_documents && i < shard->n_documents;
         i++) {
        const int32_t *ids = shard->tokens + shard->documents[i];
        int64_t n = shard->documents[i + 1] - shard->documents[i];
        printf("-- document %" PRIi64 ", %" PRIi64 " tokens\n", i, n);
        if (tokenizer) {
            status = show_text(tokenizer, ids, n, err);
            continue;
        }
        for (int64_t t = 0; t < n; t++) printf("%s%" PRIi32, t ? " " : "", ids[t]);
        putchar('\n');
    }
    kv_tokenizer_free(tokenizer);
    return status;
}

static kv_status describe_shard(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_shard *shard = NULL;
    kv_status status = kv_shard_open(s->path, &shard, err);
    if (status) return status;
    const kv_shard_info *info = &shard->info;
    int64_t shortest = shard->n_documents ? INT64_MAX : 0, longest = 0;
    char shown[INSPECT_SHORT];
    for (int64_t i = 0; i < shard->n_documents; i++) {
        int64_t n = shard->documents[i + 1] - shard->documents[i];
        if (n < shortest) shortest = n;
        if (n > longest) longest = n;
    }
    inspect_title(report, "token shard", s->path);
    inspect_fact(report, "documents", json_integer(shard->n_documents),
                 "%" PRIi64 ", of %" PRIi64 " to %" PRIi64 " tokens", shard->n_documents, shortest, longest);
    inspect_fact(report, "tokens", json_integer(shard->n_tokens), "%" PRIi64, shard->n_tokens);
    inspect_fact(report, "vocabulary", json_integer(info->vocab_size),
                 "%" PRIi64 ", BOS %" PRIi32 ", EOS %" PRIi32, info->vocab_size, info->bos_id, info->eos_id);
    inspect_value(report, "shortest", json_integer(shortest));
    inspect_value(report, "longest", json_integer(longest));
    inspect_value(report, "bos", json_integer(info->bos_id));
    inspect_value(report, "eos", json_integer(info->eos_id));
    status = inspect_tokenizer_of(info->tokenizer, s->path, report, err);
    inspect_fact(report, "hash", json_string(shard->hash), "%s", shard->hash);
    inspect_fact(report, "source", json_string(info->source), "%s", inspect_short(info->source, 200, shown));
    if (!status) status = inspect_documents(s->options, shard, err);
    kv_shard_free(shard);
    return status;
}

// ---- results.h5 of kveval ------------------------------------------------------------------------------

// Systems, and the main metric of each at every task.
struct results {
    hid_t file;
    char **names, **families;
    int64_t n_systems, n_tasks, n_timings;
};

static kv_status read_systems(struct results *r, const char *path, kv_error *err) {
    int64_t n = 0;
    kv_status status = kv_h5_attr_i64(r->file, "/", "n_tasks", &r->n_tasks, err);
    if (!status) status = kv_h5_attr_i64(r->file, "/", "n_timings", &r->n_timings, err);
    if (!status)
        status = kv_h5_read_strings(r->file, "/systems/name", MAX_SYSTEMS, &r->names, &r->n_systems, err);
    if (!status) status = kv_h5_read_strings(r->file, "/systems/family", MAX_SYSTEMS, &r->families, &n, err);
    if (!status && n != r->n_systems)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: %" PRIi64 " families of %" PRIi64 " systems", path, n,
                         r->n_systems);
    return status;
}

// A list of doubles of which the first of every `row` belong to the systems; NULL when there is no such.
static double *read_column(const struct results *r, const char *name, int64_t *row, kv_error *err) {
    double *values = NULL;
    int n_dims = 0;
    int64_t shape[8] = {0};
    if (kv_h5_read_f64(r->file, name, MAX_SYSTEMS * 64, &values, &n_dims, shape, err) != KV_OK) return NULL;
    *row = n_dims == 2 ? shape[1] : 1;
    if ((n_dims == 1 || n_dims == 2) && shape[0] == r->n_systems && *row > 0) return values;
    kv_fail(err, KV_ERR_FORMAT, "%s has another shape than the systems", name);
    free(values);
    return NULL;
}

static void report_column(const struct results *r, const char *key, json_t *about, const double *values,
                          int64_t row, double unit, const char *title, inspect_report *report) {
    json_t *list = json_array();
    for (int64_t i = 0; i < r->n_systems; i++)
        json_array_append_new(list, isfinite(values[i * row]) ? json_real(values[i * row]) : json_null());
    json_object_set_new(about, "values", list);
    inspect_row(report, key, about, "%s", title);
    for (int64_t i = 0; i < r->n_systems && !inspect_is_json(report); i++) {
        char name[INSPECT_SHORT], family[INSPECT_SHORT], number[32] = "-";
        if (isfinite(values[i * row])) snprintf(number, sizeof number, "%.4g", unit * values[i * row]);
        inspect_short(r->names[i], 28, name);
        inspect_short(r->families[i], 24, family);
        printf("    %s%*s %s%*s %s\n", name, kv_text_pad(name, 28), "", family, kv_text_pad(family, 24), "",
               number);
    }
}

// Whether less is better of a task's main metric, which then is no share: files of before there were such do not say.
static bool lower_is_better(const struct results *r, const char *group) {
    char path[64], **words = NULL;
    int64_t n = 0;
    snprintf(path, sizeof path, "%s/better", group);
    if (!kv_h5_exists(r->file, path) || kv_h5_read_strings(r->file, path, 64, &words, &n, NULL) != KV_OK)
        return false;
    const bool lower = n > 0 && !strcmp(words[0], "lower");
    kv_h5_free_strings(words, n);
    return lower;
}

static kv_status report_task(const struct results *r, int64_t task, inspect_report *report, kv_error *err) {
    char group[48], path[64], name[96], split[96], title[320];
    char **metrics = NULL;
    int64_t n_items = 0, n_metrics = 0, row = 1;
    snprintf(group, sizeof group, "/tasks/%" PRIi64, task);
    kv_status status = kv_h5_attr_string(r->file, group, "name", name, sizeof name, err);
    if (!status) status = kv_h5_attr_string(r->file, group, "split", split, sizeof split, err);
    if (!status) status = kv_h5_attr_i64(r->file, group, "n_items", &n_items, err);
    snprintf(path, sizeof path, "%s/metrics", group);
    if (!status) status = kv_h5_read_strings(r->file, path, 64, &metrics, &n_metrics, err);
    if (status) return status;
    snprintf(path, sizeof path, "%s/accuracy", group);
    double *accuracy = n_metrics > 0 ? read_column(r, path, &row, err) : NULL;
    if (accuracy) {
        char a[INSPECT_SHORT], b[INSPECT_SHORT];
        const bool lower = lower_is_better(r, group);
        snprintf(title, sizeof title, "%s %s: %s%s of %" PRIi64 " items%s", inspect_short(name, 80, a),
                 inspect_short(split, 80, b), metrics[0], lower ? "" : " in %", n_items,
                 lower ? "; lower is better" : "");
        json_t *about =
            json_pack("{s:s, s:s, s:s, s:s, s:I}", "name", name, "split", split, "metric", metrics[0],
                      "better", lower ? "lower" : "higher", "n_items", (json_int_t)n_items);
        report_column(r, "tasks", about, accuracy, row, lower ? 1 : 100, title, report);
    }
    kv_h5_free_strings(metrics, n_metrics);
    free(accuracy);
    return accuracy ? KV_OK : kv_fail_within(err, KV_ERR_FORMAT, "task %" PRIi64, task);
}

static kv_status report_timing(const struct results *r, int64_t index, inspect_report *report,
                               kv_error *err) {
    char group[48], path[64], title[128];
    int64_t prompt = 0, batch = 0, row = 1;
    snprintf(group, sizeof group, "/ttft/%" PRIi64, index);
    kv_status status = kv_h5_attr_i64(r->file, group, "prompt_tokens", &prompt, err);
    if (!status) status = kv_h5_attr_i64(r->file, group, "batch_size", &batch, err);
    if (status) return status;
    snprintf(path, sizeof path, "%s/seconds", group);
    double *seconds = read_column(r, path, &row, err);
    if (!seconds) return kv_fail_within(err, KV_ERR_FORMAT, "timing %" PRIi64, index);
    snprintf(title, sizeof title, "time to first token, %" PRIi64 " prompts of %" PRIi64 " tokens, ms", batch,
             prompt);
    report_column(
        r, "ttft",
        json_pack("{s:I, s:I}", "prompt_tokens", (json_int_t)prompt, "batch_size", (json_int_t)batch),
        seconds, row, 1000, title, report);
    free(seconds);
    return KV_OK;
}

// A number for each layer; *values NULL where there is none.
static kv_status read_layers(const struct results *r, int64_t system, const char *name, double **values,
                             int64_t *n, kv_error *err) {
    char full[80];
    int n_dims = 0;
    int64_t shape[8] = {0};
    *values = NULL, *n = 0;
    snprintf(full, sizeof full, "analysis/%" PRIi64 "/%s", system, name);
    if (!kv_h5_exists(r->file, full)) return KV_OK;
    kv_status status = kv_h5_read_f64(r->file, full, MAX_SYSTEMS, values, &n_dims, shape, err);
    if (!status && n_dims == 1) *n = shape[0];
    return status;
}

// What a system's predicted layers come to on average (eval/results/analysis.h); NAN for systems that were not looked at.
// *any: there is such a number.
static kv_status read_means(const struct results *r, const char *name, double *means, bool *any,
                            kv_error *err) {
    kv_status status = KV_OK;
    *any = false;
    for (int64_t s = 0; s < r->n_systems && !status; s++) {
        double *values = NULL, *predicted = NULL, sum = 0;
        int64_t n = 0, n_predicted = 0, counted = 0;
        status = read_layers(r, s, name, &values, &n, err);
        if (!status) status = read_layers(r, s, "predicted", &predicted, &n_predicted, err);
        for (int64_t i = 0; !status && i < n; i++) {
            if (i < n_predicted && predicted[i] == 0) continue;
            sum += values[i];
            counted++;
        }
        means[s] = counted > 0 ? sum / (double)counted : NAN;
        *any = *any || counted > 0;
        free(values);
        free(predicted);
    }
    return status;
}

// Predicted caches, where they were looked at.
static const struct {
    const char *name, *key, *of, *title;
    double unit;
} analysed[] = {
    {"key_explained", "explained", "keys", "explained variance of predicted keys in %", 100},
    {"value_explained", "explained", "values", "explained variance of predicted values in %", 100},
    {"attention_cosine", "cosine", "attention", "cosine of attention outputs with predicted caches", 1},
};

static kv_status report_analysis(const struct results *r, inspect_report *report, kv_error *err) {
    char corpus[4096] = "", shown[INSPECT_SHORT], title[320];
    int64_t sequences = 0, seq_len = 0;
    if (!kv_h5_exists(r->file, "analysis")) return KV_OK;
    kv_status status = kv_h5_attr_string(r->file, "/analysis", "corpus", corpus, sizeof corpus, err);
    if (!status) status = kv_h5_attr_i64(r->file, "/analysis", "sequences", &sequences, err);
    if (!status) status = kv_h5_attr_i64(r->file, "/analysis", "seq_len", &seq_len, err);
    double *means = malloc((size_t)r->n_systems * sizeof *means + 1);
    if (!means) status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < sizeof analysed / sizeof *analysed && !status; i++) {
        bool any;
        status = read_means(r, analysed[i].name, means, &any, err);
        if (status) break;
        if (!any) continue; // older files have not all of it
        snprintf(title, sizeof title, "%s, %" PRIi64 " x %" PRIi64 " tokens of %s", analysed[i].title,
                 sequences, seq_len, inspect_short(corpus, 100, shown));
        json_t *about = json_pack("{s:s, s:s, s:I, s:I}", "of", analysed[i].of, "corpus", corpus, "sequences",
                                  (json_int_t)sequences, "seq_len", (json_int_t)seq_len);
        report_column(r, analysed[i].key, about, means, 1, analysed[i].unit, title, report);
    }
    free(means);
    return status;
}

kv_status inspect_results(const char *path, inspect_report *report, kv_error *err) {
    struct results r = {.file = -1};
    kv_status status = kv_h5_open(path, &r.file, err);
    if (status) return kv_mistaken(path, KV_FILE_RESULTS, status, err);
    status = read_systems(&r, path, err);
    if (!status) {
        inspect_title(report, "results of kveval", path);
        inspect_fact(report, "systems", json_integer(r.n_systems), "%" PRIi64, r.n_systems);
        for (int64_t i = 0; i < r.n_systems && inspect_is_json(report); i++)
            inspect_row(report, "names", json_string(r.names[i]), "%s", "");
    }
    for (int64_t t = 0; t < r.n_tasks && !status; t++) status = report_task(&r, t, report, err);
    for (int64_t t = 0; t < r.n_timings && !status; t++) status = report_timing(&r, t, report, err);
    if (!status) status = report_analysis(&r, report, err);
    kv_h5_free_strings(r.names, r.n_systems);
    kv_h5_free_strings(r.families, r.n_systems);
    H5Fclose(r.file);
    return status;
}

// ---- The optimiser's state -----------------------------------------------------------------------------

struct moments {
    int64_t n, size;
};

static herr_t count_moment(hid_t group, const char *name, const H5O_info_t *info, void *data) {
    struct moments *moments = data;
    if (info->type != H5O_TYPE_DATASET) return 0;
    hid_t dataset = H5Dopen2(group, name, H5P_DEFAULT);
    hid_t space = dataset >= 0 ? H5Dget_space(dataset) : -1;
    if (space >= 0) moments->size += (int64_t)H5Sget_simple_extent_npoints(space);
    moments->n++;
    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    return space < 0;
}

static kv_status describe_optimizer(const inspect_subject *s, hid_t file, inspect_report *report,
                                    kv_error *err) {
    struct moments moments = {0};
    int64_t step = 0;
    char count[32];
    kv_status status = kv_h5_attr_i64(file, "/", "step", &step, err);
    if (status) return status;
    hid_t group = H5Gopen2(file, "m", H5P_DEFAULT);
    const herr_t visited =
        group < 0 ? -1 : H5Ovisit2(group, H5_INDEX_NAME, H5_ITER_INC, count_moment, &moments, H5O_INFO_BASIC);
    if (group >= 0) H5Gclose(group);
    if (visited != 0)
        return kv_fail(err, KV_ERR_FORMAT, "%s: damaged HDF5 file: its moments cannot all be read", s->path);
    inspect_title(report, "optimiser state", s->path);
    inspect_fact(report, "step", json_integer(step), "%" PRIi64, step);
    inspect_fact(report, "tensors", json_integer(moments.n), "%" PRIi64, moments.n);
    inspect_fact(report, "parameters", json_integer(moments.size), "%s, two moments each",
                 inspect_count(moments.size, count));
    return KV_OK;
}

// ---- Which of them -------------------------------------------------------------------------------------

static kv_status describe_hdf5(const inspect_subject *s, inspect_report *report, kv_error *err) {
    hid_t file;
    kv_identity found;
    kv_status status = kv_h5_open(s->path, &file, err);
    if (status) return kv_mistaken(s->path, KV_FILE_HDF5, status, err);
    kv_identify(s->path, false, &found);
    if (found.kind == KV_FILE_OPTIMIZER) {
        status = describe_optimizer(s, file, report, err);
    } else if (found.kind == KV_FILE_HDF5) {
        inspect_title(report, "HDF5 file", s->path);
        status = inspect_list_hdf5(file, s->path, report, err);
    }
    H5Fclose(file);
    if (found.kind == KV_FILE_CACHE) return inspect_cache(s->path, report, err);
    if (found.kind == KV_FILE_PROMPT) return inspect_prompt(s->path, report, err);
    if (found.kind == KV_FILE_SHARD) return describe_shard(s, report, err);
    return found.kind == KV_FILE_RESULTS ? inspect_results(s->path, report, err) : status;
}

const inspect_kind inspect_hdf5_kinds[] = {{is_hdf5, describe_hdf5}, {0}};
