// kvdata inspect: frozen caches, a file or a directory of them.
#include "data/cache/cache.h"
#include "data/kvdata/inspect/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static double file_bytes(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 ? (double)info.st_size : 0;
}

static void report_model(const char *key, const kv_cache_model *model, inspect_report *report) {
    char source[INSPECT_SHORT];
    int64_t widest = 0;
    for (int64_t i = 0; i < model->spec.n_layers; i++)
        if (kv_spec_kv_dim(&model->spec, i) > widest) widest = kv_spec_kv_dim(&model->spec, i);
    json_t *about =
        json_pack("{s:s, s:s, s:I, s:I}", "fingerprint", model->fingerprint, "source", model->source,
                  "layers", (json_int_t)model->spec.n_layers, "kv_dim", (json_int_t)widest);
    inspect_fact(report, key, about, "%s, %" PRIi64 " layers, keys of up to %" PRIi64 ", from %s",
                 model->fingerprint, model->spec.n_layers, widest, inspect_short(model->source, 200, source));
}

static void report_common(const kv_cache_info *info, int64_t n_rows, double bytes, inspect_report *report) {
    char size[32], token[32], count[32];
    const int64_t n_tokens = n_rows * info->seq_len;
    inspect_fact(report, "rows", json_integer(n_rows), "%" PRIi64 " of %" PRIi64 " tokens, %s in all", n_rows,
                 info->seq_len, inspect_count(n_tokens, count));
    inspect_value(report, "seq_len", json_integer(info->seq_len));
    inspect_value(report, "tokens", json_integer(n_tokens));
    inspect_fact(report, "dtype", json_string(kv_cache_dtype_text(info->dtype)), "%s",
                 kv_cache_dtype_text(info->dtype));
    inspect_fact(report, "size", json_real(bytes), "%s, %s a token", inspect_bytes(bytes, size),
                 inspect_bytes(n_tokens > 0 ? bytes / (double)n_tokens : 0, token));
    report_model("base", &info->base, report);
    if (info->aux.fingerprint[0])
        report_model("aux", &info->aux, report);
    else
        inspect_fact(report, "aux", json_null(), "none");
    if (info->top_k > 0)
        inspect_fact(report, "logits", json_integer(info->top_k),
                     "the base's %" PRIi64 " largest of a token, for a temperature of %g", info->top_k,
                     info->temperature);
    else
        inspect_fact(report, "logits", json_integer(0), "none");
    inspect_value(report, "temperature", json_real(info->temperature));
    inspect_fact(report, "tokenizer", json_string(info->tokenizer), "%s", info->tokenizer);
}

// Opened as training would, so that what is missing in it shows here.
kv_status inspect_cache(const char *path, inspect_report *report, kv_error *err) {
    kv_cache *cache;
    char source[INSPECT_SHORT];
    kv_status status = kv_cache_open(path, &cache, err);
    if (status != KV_OK) return status;
    const kv_cache_info *info = kv_cache_about(cache);
    inspect_title(report, "frozen cache", path);
    report_common(info, info->n_rows, file_bytes(path), report);
    inspect_fact(report, "shard", json_string(info->shard), "%s", info->shard);
    inspect_fact(report, "source", json_string(info->source), "%s", inspect_short(info->source, 200, source));
    kv_cache_free(cache);
    return KV_OK;
}

static bool is_cache_dir(const inspect_subject *s) {
    kv_cache_file *files = NULL;
    int64_t n = 0;
    if (!s->is_dir) return false;
    const bool found = kv_cache_list(s->path, "", &files, &n, NULL) == KV_OK && n > 0;
    free(files);
    return found;
}

static kv_status describe_dir(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_cache_dir *dir;
    kv_status status = kv_cache_dir_open(s->path, &dir, err);
    if (status != KV_OK) return status;
    double bytes = 0;
    int64_t n_rows = 0;
    char path[PATH_MAX];
    for (int64_t i = 0; i < dir->n_files; i++) {
        n_rows += dir->files[i].n_rows;
        if (kv_cache_path(dir->path, dir->files[i].number, path, sizeof path, NULL) == KV_OK)
            bytes += file_bytes(path);
    }
    inspect_title(report, "frozen caches", s->path);
    inspect_fact(report, "files", json_integer(dir->n_files), "%" PRIi64, dir->n_files);
    report_common(&dir->info, n_rows, bytes, report);
    for (int64_t i = 0; i < dir->n_files; i++) {
        const kv_cache_file *f = &dir->files[i];
        inspect_row(report, "shards",
                    json_pack("{s:I, s:I, s:s}", "number", (json_int_t)f->number, "rows",
                              (json_int_t)f->n_rows, "shard", f->shard),
                    "cache-%05" PRIi64 ".h5  %s  %" PRIi64 " rows", f->number, f->shard, f->n_rows);
    }
    kv_cache_dir_free(dir);
    return KV_OK;
}

const inspect_kind inspect_cache_kinds[] = {{is_cache_dir, describe_dir}, {0}};
