// kvdata inspect: safetensors files and the index of sharded ones.
#include "data/checkpoint/safetensors.h"
#include "data/checkpoint/tabulated.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/kvdata/inspect/inspect.h"
#include "data/system/width.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static const char model_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

// How much there is of each type, in the order of the enum; behind them what nobody computes with.
enum { OTHER = KV_F16 + 1, N_TYPES };
struct total {
    int64_t elements[N_TYPES], n_tensors;
    double bytes[N_TYPES];
};

static void add_tensor(struct total *total, const kv_st_entry *entry) {
    const int type = entry->is_float ? (int)entry->dtype : OTHER;
    int64_t n = 1; // at most INT64_MAX / 64, but there may be many tensors
    for (int d = 0; d < entry->n_dims; d++) n *= entry->shape[d];
    if (__builtin_add_overflow(total->elements[type], n, &total->elements[type]))
        total->elements[type] = INT64_MAX;
    total->n_tensors++;
    total->bytes[type] += (double)entry->size;
}

// "BF16 1.2 GB", "F32 1 MB + BF16 1.2 GB"; in JSON {"BF16": elements}.
static void report_types(const struct total *total, int64_t n_files, inspect_report *report) {
    char text[160] = "", bytes[32];
    size_t used = 0;
    double all = 0;
    if (n_files == 0) {
        inspect_fact(report, "weights", json_null(),
                     "none: there is no model.safetensors, nor an index of several");
        return;
    }
    json_t *types = json_object();
    for (int type = 0; type < N_TYPES; type++) {
        const char *name = type == OTHER ? "other" : kv_dtype_name((kv_dtype)type);
        all += total->bytes[type];
        if (!total->elements[type]) continue;
        json_object_set_new(types, name, json_integer(total->elements[type]));
        inspect_bytes(total->bytes[type], bytes);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %s", used ? " + " : "",
                                 type == OTHER ? "other types" : name, bytes);
    }
    json_t *value = json_pack("{s:o, s:f, s:I, s:I}", "types", types, "bytes", all, "tensors",
                              (json_int_t)total->n_tensors, "files", (json_int_t)n_files);
    inspect_fact(report, "weights", value, "%s, %" PRIi64 " tensors in %" PRIi64 " file%s",
                 used ? text : "nothing", total->n_tensors, n_files, n_files == 1 ? "" : "s");
}

// ---- One file ------------------------------------------------------------------------------------------

static bool is_safetensors(const inspect_subject *s) {
    uint64_t length = 0;
    if (s->is_dir || s->random) return false;
    if (kv_path_is_named(s->path, ".safetensors")) return true;
    for (int i = 7; i >= 0; i--) length = (length << 8) | s->head[i];
    return s->n_head > 8 && s->head[8] == '{' && length > 1 && length < 100000000;
}

// The header's own remarks, which kv_safetensors gives only by name.
static void report_metadata(const char *path, inspect_report *report) {
    unsigned char prefix[8];
    size_t length = 0;
    FILE *file = fopen(path, "rb");
    if (!file) return;
    if (fread(prefix, 1, 8, file) == 8)
        for (int i = 7; i >= 0; i--) length = (length << 8) | prefix[i];
    char *text = malloc(length + 1); // checked by kv_safetensors_open
    json_t *header =
        text && fread(text, 1, length, file) == length ? kv_json_parse(text, length, 0, NULL) : NULL;
    free(text);
    fclose(file);
    json_t *metadata = json_object_get(header, "__metadata__");
    const char *key;
    json_t *value;
    if (metadata) inspect_value(report, "metadata", json_incref(metadata));
    json_object_foreach(metadata, key, value) {
        char name[INSPECT_SHORT], shown[INSPECT_SHORT];
        if (!inspect_is_json(report))
            inspect_fact(report, "metadata", NULL, "%s = %s", inspect_short(key, 60, name),
                         inspect_short(json_string_value(value), 200, shown));
    }
    json_decref(header);
}

static void report_tables(const kv_tabulated_info *info, inspect_report *report) {
    inspect_fact(report, "lookups",
                 json_pack("{s:I, s:I, s:I}", "vocabulary", (json_int_t)info->vocab_size, "numbers",
                           (json_int_t)info->width, "bytes",
                           (json_int_t)(info->width * (int64_t)kv_dtype_size(info->dtype))),
                 "%" PRIi64 " numbers (%.1f kB) for each of %" PRIi64 " tokens", info->width,
                 (double)info->width * (double)kv_dtype_size(info->dtype) / 1e3, info->vocab_size);
}

static kv_status describe_safetensors(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_safetensors *file = NULL;
    kv_status status = kv_safetensors_open(s->path, &file, err);
    if (status) return status;
    struct total total = {0};
    kv_tabulated_info tabulated;
    const bool tables = kv_tabulated_read_info(s->path, &tabulated, NULL) == KV_OK;
    inspect_title(report, tables ? "tabulated predictor" : "safetensors", s->path);
    report_metadata(s->path, report);
    if (tables) report_tables(&tabulated, report);
    for (int64_t i = 0; i < kv_safetensors_count(file); i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        json_t *dims = json_array();
        char shape[96], shown[INSPECT_SHORT], type[INSPECT_SHORT];
        for (int d = 0; d < entry->n_dims; d++) json_array_append_new(dims, json_integer(entry->shape[d]));
        add_tensor(&total, entry);
        json_t *row = json_pack("{s:s, s:s, s:o}", "name", entry->name, "type", entry->type, "shape", dims);
        inspect_short(entry->name, 200, shown);
        inspect_row(report, "tensors", row, "%s%*s %-5s %s", shown, kv_text_pad(shown, 52), "",
                    inspect_short(entry->type, 20, type),
                    kv_st_shape_text(entry->n_dims, entry->shape, shape));
    }
    report_types(&total, 1, report);
    kv_safetensors_close(file);
    return KV_OK;
}

// ---- Several files -------------------------------------------------------------------------------------

// Files of an index with the number of tensors in each; *n_missing that are not beside it.
static json_t *count_files(const json_t *index, const char *dir, int64_t *n_tensors, int64_t *n_missing) {
    json_t *files = json_object(), *value;
    const char *name;
    *n_tensors = *n_missing = 0;
    json_object_foreach(json_object_get(index, "weight_map"), name, value) {
        const char *file = json_string_value(value);
        char path[PATH_MAX];
        if (!file) continue;
        json_t *count = json_object_get(files, file);
        ++*n_tensors;
        *n_missing += !count && !inspect_entry(dir, file, path, sizeof path);
        json_object_set_new(files, file, json_integer(json_integer_value(count) + 1));
    }
    return files;
}

static void report_missing(const json_t *files, const char *dir, inspect_report *report) {
    const char *name;
    json_t *count;
    json_object_foreach((json_t *)(uintptr_t)files, name, count) {
        char path[PATH_MAX], shown[INSPECT_SHORT];
        if (!inspect_entry(dir, name, path, sizeof path))
            inspect_row(report, "missing", json_string(name), "%-12s %s (%" JSON_INTEGER_FORMAT " tensors)",
                        "missing", inspect_short(name, 200, shown), json_integer_value(count));
    }
}

static bool is_index(const inspect_subject *s) {
    return json_is_object(json_object_get(s->json, "weight_map"));
}

static kv_status describe_index(const inspect_subject *s, inspect_report *report, kv_error *err) {
    (void)err;
    char dir[PATH_MAX], text[32];
    int64_t n_tensors, n_missing;
    json_t *files = count_files(s->json, inspect_directory_of(s->path, dir), &n_tensors, &n_missing), *count;
    const json_t *size = json_object_get(json_object_get(s->json, "metadata"), "total_size");
    const char *name;
    inspect_title(report, "safetensors index", s->path);
    inspect_fact(report, "tensors", json_integer(n_tensors), "%" PRIi64 " in %zu files", n_tensors,
                 json_object_size(files));
    if (json_is_integer(size))
        inspect_fact(report, "bytes", json_integer(json_integer_value(size)), "%s",
                     inspect_bytes((double)json_integer_value(size), text));
    json_object_foreach(files, name, count) {
        char shown[INSPECT_SHORT];
        inspect_short(name, 200, shown);
        inspect_row(report, "files", json_pack("{s:s, s:O}", "name", name, "tensors", count),
                    "%s%*s %" JSON_INTEGER_FORMAT " tensors", shown, kv_text_pad(shown, 40), "",
                    json_integer_value(count));
    }
    report_missing(files, dir, report);
    inspect_value(report, "n_missing", json_integer(n_missing));
    json_decref(files);
    return KV_OK;
}

static kv_status add_file(const char *dir, const char *name, struct total *total, kv_error *err) {
    char path[PATH_MAX];
    kv_safetensors *file;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return kv_path_too_long(dir, err);
    kv_status status = kv_safetensors_open(path, &file, err);
    for (int64_t i = 0; !status && i < kv_safetensors_count(file); i++)
        add_tensor(total, kv_safetensors_at(file, i));
    kv_safetensors_close(file);
    return status;
}

static kv_status add_indexed(const char *dir, struct total *total, int64_t *n_files, inspect_report *report,
                             kv_error *err) {
    char path[PATH_MAX];
    json_t *index;
    if (!inspect_entry(dir, index_name, path, sizeof path)) return KV_OK;
    kv_status status = kv_json_read(path, INSPECT_MAX_JSON, &index, err);
    if (status) return status;
    if (!json_is_object(json_object_get(index, "weight_map"))) {
        json_decref(index);
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: not the index of a checkpoint, expected JSON with a weight_map", path);
    }
    int64_t n_tensors, n_missing;
    json_t *files = count_files(index, dir, &n_tensors, &n_missing), *count;
    const char *name;
    json_object_foreach(files, name, count) {
        char file[PATH_MAX];
        if (status || !inspect_entry(dir, name, file, sizeof file)) continue;
        status = add_file(dir, name, total, err);
        ++*n_files;
    }
    if (!status) report_missing(files, dir, report);
    json_decref(files);
    json_decref(index);
    return status;
}

kv_status inspect_weights_in(const char *dir, inspect_report *report, kv_error *err) {
    struct total total = {0};
    int64_t n_files = 0;
    char path[PATH_MAX];
    kv_status status = KV_OK;
    if (inspect_entry(dir, model_name, path, sizeof path)) {
        n_files = 1;
        status = add_file(dir, model_name, &total, err);
    } else {
        status = add_indexed(dir, &total, &n_files, report, err);
    }
    if (!status) report_types(&total, n_files, report);
    return status;
}

const inspect_kind inspect_weights_kinds[] = {
    {is_safetensors, describe_safetensors},
    {is_index, describe_index},
    {0},
};
