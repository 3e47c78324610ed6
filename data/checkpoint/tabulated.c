// Files of token tables: written a few hundred tokens at a time, so that they may be larger than memory, and mapped.
#include "data/checkpoint/tabulated.h"

#include "core/predictor/tabulated.h"
#include "data/checkpoint/safetensors.h"
#include "data/file/path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char kv_tabulated_name[] = "tabulated.safetensors";
static const char format_name[] = "kv-tabulated", version[] = "1";

enum { TOKENS_AT_ONCE = 512, METADATA = 4 };

// ---- Size ----------------------------------------------------------------------------------------------

static kv_status check_any(kv_predictor *left, kv_error *err) {
    if (kv_predictor_token_tables(left, NULL) > 0) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "nothing of this predictor depends on the token alone: expected maps that read the base's "
                   "embedding or its own first layer, or token tables");
}

kv_status kv_tabulated_measure(const kv_predictor *predictor, const kv_model_spec *base,
                               const kv_model_spec *aux, kv_dtype dtype, kv_tabulated_size *size,
                               kv_error *err) {
    kv_predictor *left;
    kv_status status = kv_predictor_plan_tabulated(base, aux, &predictor->spec, &left, err);
    if (status) return status;
    status = check_any(left, err);
    size->width = kv_token_tables_width(left);
    size->bytes = (double)size->width * (double)base->vocab_size * (double)kv_dtype_size(dtype);
    size->products_left = kv_flops_predictor_maps(left, base, 1);
    size->products = size->products_left + kv_flops_predictor_tokens(left, base, 1);
    kv_predictor_free(left);
    return status;
}

// ---- Writing -------------------------------------------------------------------------------------------

struct making {
    kv_predictor *full, *left;
    kv_model *base;
    kv_dtype dtype;
    int64_t n;
    kv_token_table *tables; // [n]
    kv_st_tensor *tensors;  // [n]
    int32_t *ids;           // [TOKENS_AT_ONCE]
    void *narrow;           // [TOKENS_AT_ONCE, widest table]
    kv_tape *tape;
    kv_st_writer *writer;
};

static void making_free(struct making *m) {
    kv_predictor_free(m->left);
    kv_tape_free(m->tape);
    free(m->tables);
    free(m->tensors);
    free(m->ids);
    free(m->narrow);
}

static kv_status prepare(struct making *m, const kv_model_spec *aux, kv_error *err) {
    const int64_t vocab = m->base->spec.vocab_size;
    int64_t widest = 0;
    kv_status status = kv_predictor_plan_tabulated(&m->base->spec, aux, &m->full->spec, &m->left, err);
    if (!status) status = check_any(m->left, err);
    if (status) return status;
    m->n = kv_predictor_token_tables(m->left, NULL);
    m->tables = calloc((size_t)m->n, sizeof *m->tables);
    m->tensors = calloc((size_t)m->n, sizeof *m->tensors);
    m->ids = calloc(TOKENS_AT_ONCE, sizeof *m->ids);
    m->tape = kv_tape_create();
    if (m->tables && m->tensors) kv_predictor_token_tables(m->left, m->tables);
    for (int64_t i = 0; m->tables && m->tensors && i < m->n; i++) {
        const kv_param *param = m->tables[i].param;
        m->tensors[i] = (kv_st_tensor){
            .name = param->name, .dtype = m->dtype, .n_dims = 2, .shape = {vocab, param->cols}};
        if (param->cols > widest) widest = param->cols;
    }
    m->narrow = malloc((size_t)widest * TOKENS_AT_ONCE * kv_dtype_size(m->dtype));
    if (!m->tables || !m->tensors || !m->ids || !m->tape || !m->narrow)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for token tables");
    kv_tape_set_recording(m->tape, false);
    return KV_OK;
}

static kv_status write_rows(struct making *m, int64_t first, int64_t n, kv_error *err) {
    kv_taps taps = {0};
    kv_tape_reset(m->tape);
    for (int64_t i = 0; i < n; i++) m->ids[i] = (int32_t)(first + i);
    kv_predictor_read_base(m->tape, m->full, m->base, m->ids, n, &taps);
    kv_status status = kv_tape_status(m->tape, err);
    for (int64_t i = 0; i < m->n && !status; i++) {
        const size_t row = (size_t)m->tables[i].param->cols * kv_dtype_size(m->dtype);
        const kv_arena_mark mark = kv_arena_get_mark(kv_tape_arena(m->tape));
        const kv_tensor *rows = kv_token_table_rows(m->tape, m->full, &m->tables[i], &taps);
        status = kv_tape_status(m->tape, err);
        if (status) break;
        kv_narrow(m->narrow, rows->data, m->dtype, rows->rows * rows->cols);
        status = kv_safetensors_put(m->writer, i, (size_t)first * row, m->narrow, (size_t)n * row, err);
        kv_arena_release(kv_tape_arena(m->tape), mark);
    }
    return status;
}

static kv_status write_all(struct making *m, kv_tabulated_go_on *go_on, void *context, kv_error *err) {
    const int64_t vocab = m->base->spec.vocab_size;
    kv_status status = KV_OK;
    for (int64_t first = 0; first < vocab && !status; first += TOKENS_AT_ONCE) {
        const int64_t n = vocab - first < TOKENS_AT_ONCE ? vocab - first : TOKENS_AT_ONCE;
        status = write_rows(m, first, n, err);
        if (!status && go_on && !go_on(context, first + n))
            status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    }
    return status;
}

kv_status kv_tabulated_write(const char *path, kv_predictor *predictor, kv_model *base,
                             const char *base_fingerprint, const kv_model_spec *aux, kv_dtype dtype,
                             kv_tabulated_go_on *go_on, void *context, kv_error *err) {
    char of_predictor[17];
    struct making m = {.full = predictor, .base = base, .dtype = dtype};
    kv_status status = prepare(&m, aux, err);
    if (!status) {
        kv_predictor_fingerprint(predictor, of_predictor);
        const char *const metadata[2 * METADATA] = {"format",
                                                    format_name,
                                                    "version",
                                                    version,
                                                    "base_fingerprint",
                                                    base_fingerprint,
                                                    "predictor_fingerprint",
                                                    of_predictor};
        status = kv_safetensors_begin(path, m.tensors, m.n, metadata, METADATA, &m.writer, err);
    }
    if (!status) status = kv_safetensors_end(m.writer, write_all(&m, go_on, context, err), err);
    making_free(&m);
    return status;
}

// ---- Reading -------------------------------------------------------------------------------------------

static kv_status open_file(const char *path, kv_safetensors **file, kv_error *err) {
    char inside[PATH_MAX];
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        if (snprintf(inside, sizeof inside, "%s/%s", path, kv_tabulated_name) >= (int)sizeof inside)
            return kv_path_too_long(path, err);
        path = inside;
    }
    return kv_safetensors_open(path, file, err);
}

static kv_status read_fingerprint(const kv_safetensors *file, const char *key, char out[17], kv_error *err) {
    const char *text = kv_safetensors_metadata(file, key);
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return kv_fail(err, KV_ERR_FORMAT, "%s: %s is '%.40s', expected 16 hex digits",
                       kv_safetensors_path(file), key, text ? text : "");
    strcpy(out, text);
    return KV_OK;
}

static kv_status read_info(const kv_safetensors *file, kv_tabulated_info *info, kv_error *err) {
    const char *path = kv_safetensors_path(file), *format = kv_safetensors_metadata(file, "format"),
               *found = kv_safetensors_metadata(file, "version");
    *info = (kv_tabulated_info){0};
    if (!format || strcmp(format, format_name) != 0)
        return kv_fail(err, KV_ERR_FORMAT, "%s: no tabulated predictor, expected a file of kvdata tabulate",
                       path);
    if (!found || strcmp(found, version) != 0)
        return kv_fail(err, KV_ERR_FORMAT, "%s: version %.20s, expected %s: kvdata tabulate makes it again",
                       path, found ? found : "unknown", version);
    kv_status status = read_fingerprint(file, "base_fingerprint", info->base, err);
    if (!status) status = read_fingerprint(file, "predictor_fingerprint", info->predictor, err);
    info->n_tables = kv_safetensors_count(file);
    for (int64_t i = 0; i < info->n_tables && !status; i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        if (entry->n_dims != 2 || !entry->is_float || (i > 0 && entry->dtype != info->dtype) ||
            (i > 0 && entry->shape[0] != info->vocab_size))
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s: '%s' is no table like the others, expected [vocabulary, columns] of one type",
                           path, entry->name);
        info->dtype = entry->dtype, info->vocab_size = entry->shape[0], info->width += entry->shape[1];
    }
    return status;
}

kv_status kv_tabulated_read_info(const char *path, kv_tabulated_info *info, kv_error *err) {
    kv_safetensors *file;
    kv_status status = open_file(path, &file, err);
    if (!status) status = read_info(file, info, err);
    kv_safetensors_close(file);
    return status;
}

// Points the tables at the file's.
static kv_status bind(const kv_safetensors *file, kv_predictor *left, kv_error *err) {
    const char *path = kv_safetensors_path(file);
    const int64_t n = kv_predictor_token_tables(left, NULL);
    kv_token_table *tables = calloc((size_t)n + 1, sizeof *tables);
    kv_status status = tables ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    if (tables) kv_predictor_token_tables(left, tables);
    if (!status && n != kv_safetensors_count(file))
        status = kv_fail(err, KV_ERR_MISMATCH,
                         "%s: %lld tables, this predictor has %lld: tabulated from another one", path,
                         (long long)kv_safetensors_count(file), (long long)n);
    for (int64_t i = 0; i < n && !status; i++) {
        kv_param *param = tables[i].param;
        const kv_st_entry *entry = kv_safetensors_find(file, param->name);
        if (!entry || entry->shape[1] != param->cols) {
            status = kv_fail(err, KV_ERR_MISMATCH,
                             "%s: has no '%s' of %lld columns: tabulated from another predictor", path,
                             param->name, (long long)param->cols);
            break;
        }
        param->dtype = entry->dtype;
        param->data = (void *)(uintptr_t)entry->data; // read only, as the map is
    }
    free(tables);
    return status;
}

static kv_status check_whose(const char *path, const char *what, const char *expected, const char *found,
                             kv_error *err) {
    if (!found || strcmp(expected, found) == 0) return KV_OK;
    return kv_fail(
        err, KV_ERR_MISMATCH,
        "%s: tabulated from a %s with fingerprint %s, this one has %s: kvdata tabulate makes it again", path,
        what, expected, found);
}

static kv_status check_made_for(const kv_safetensors *file, const kv_model_spec *base, const char *of_base,
                                const char *of_predictor, kv_error *err) {
    const char *path = kv_safetensors_path(file);
    kv_tabulated_info info;
    kv_status status = read_info(file, &info, err);
    if (status) return status;
    if (info.vocab_size != base->vocab_size)
        return kv_fail(err, KV_ERR_MISMATCH, "%s: made for a vocabulary of %lld tokens, this base has %lld",
                       path, (long long)info.vocab_size, (long long)base->vocab_size);
    status = check_whose(path, "base", info.base, of_base, err);
    return status ? status : check_whose(path, "predictor", info.predictor, of_predictor, err);
}

static void release(void *file) {
    kv_safetensors_close(file);
}

kv_status kv_tabulated_use(const char *path, const kv_model_spec *base, const kv_model_spec *aux,
                           const char *base_fingerprint, kv_predictor **predictor, kv_error *err) {
    kv_predictor *full = *predictor, *left = NULL;
    const bool planned = !full->storage;
    char whose[17];
    kv_safetensors *file;
    kv_status status = open_file(path, &file, err);
    if (status) return status;
    if (!planned) kv_predictor_fingerprint(full, whose);
    status = check_made_for(file, base, base_fingerprint, planned ? NULL : whose, err);
    if (!status)
        status = planned ? kv_predictor_plan_tabulated(base, aux, &full->spec, &left, err)
                         : kv_predictor_create_tabulated(base, aux, &full->spec, &left, err);
    if (!status && !planned) status = kv_predictor_take_rest(left, full, err);
    if (!status) status = bind(file, left, err);
    if (status) {
        kv_predictor_free(left);
        kv_safetensors_close(file);
        return status;
    }
    left->tables = file, left->release = release;
    kv_predictor_free(full);
    *predictor = left;
    return KV_OK;
}
