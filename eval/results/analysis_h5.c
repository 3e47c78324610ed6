// Written and read here, so that both ends of the format stand beside each other.
#include "eval/results/analysis_h5.h"

#include "core/model.h"

#include <stdlib.h>
#include <string.h>

static const char group[] = "/analysis";
enum { NAME_SIZE = 80, TEXT_SIZE = 4096 };

// ---- Writing -------------------------------------------------------------------------------------------

static kv_status write_counts(hid_t file, const char *name, const kv_analysis_array *array, int n_dims,
                              const int64_t *shape, kv_error *err) {
    int64_t *counts = malloc((size_t)array->size * sizeof *counts + 1);
    if (!counts) return kv_fail(err, KV_ERR_MEMORY, "out of memory for results.h5");
    for (int64_t i = 0; i < array->size; i++) counts[i] = (int64_t)array->values[i];
    kv_status status = kv_h5_write(file, name, H5T_NATIVE_INT64, counts, n_dims, shape, err);
    free(counts);
    return status;
}

static kv_status write_system(const kv_analysis *analysis, int64_t system, hid_t file, kv_error *err) {
    const kv_cache_analysis *errors = &analysis->systems[system];
    kv_status status = KV_OK;
    for (int i = 0; errors->n_layers > 0 && i < KV_CACHE_ARRAYS && status == KV_OK; i++) {
        const kv_analysis_array array = kv_cache_analysis_array(errors, analysis, i);
        const int64_t shape[2] = {errors->n_layers, array.columns};
        const int n_dims = array.columns ? 2 : 1;
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "%s/%lld/%s", group, (long long)system, array.name);
        status = array.counts ? write_counts(file, name, &array, n_dims, shape, err)
                              : kv_h5_write(file, name, H5T_NATIVE_DOUBLE, array.values, n_dims, shape, err);
    }
    return status;
}

kv_status kv_analysis_write_h5(const kv_analysis *a, int64_t n_systems, hid_t file, kv_error *err) {
    kv_status status = KV_OK;
    if (!a->corpus) return KV_OK;
    for (int64_t s = 0; s < n_systems && status == KV_OK; s++) status = write_system(a, s, file, err);
    if (status == KV_OK) status = kv_h5_set_string(file, group, "corpus", a->corpus, err);
    if (status == KV_OK) status = kv_h5_set_string(file, group, "hash", a->hash, err);
    if (status == KV_OK) status = kv_h5_set_i64(file, group, "sequences", a->sequences, err);
    if (status == KV_OK) status = kv_h5_set_i64(file, group, "seq_len", a->seq_len, err);
    return status == KV_OK ? kv_h5_set_i64(file, group, "bins", a->bins, err) : status;
}

// ---- Reading -------------------------------------------------------------------------------------------

struct reader {
    const char *path;
    hid_t file;
    kv_error *err;
};

static kv_status wrong(const struct reader *r, const char *name, const char *expected) {
    return kv_fail(r->err, KV_ERR_FORMAT, "%s: '%s': expected %s", r->path, name, expected);
}

static kv_status read_number(const struct reader *r, const char *name, int64_t most, int64_t *value) {
    char full[NAME_SIZE];
    kv_status status = kv_h5_attr_i64(r->file, group, name, value, r->err);
    snprintf(full, sizeof full, "%s/%s", group, name);
    return status == KV_OK && (*value < 1 || *value > most) ? wrong(r, full, "a number within bounds")
                                                            : status;
}

static kv_status read_head(const struct reader *r, kv_analysis *a) {
    char corpus[TEXT_SIZE] = "";
    kv_status status = kv_h5_attr_string(r->file, group, "corpus", corpus, sizeof corpus, r->err);
    if (status == KV_OK) status = kv_h5_attr_string(r->file, group, "hash", a->hash, sizeof a->hash, r->err);
    if (status == KV_OK) status = read_number(r, "sequences", INT32_MAX, &a->sequences);
    if (status == KV_OK) status = read_number(r, "seq_len", INT32_MAX, &a->seq_len);
    if (status == KV_OK) status = read_number(r, "bins", KV_ANALYSIS_MAX_BINS, &a->bins);
    if (status != KV_OK) return status;
    a->corpus = strdup(corpus);
    return a->corpus ? KV_OK : kv_fail(r->err, KV_ERR_MEMORY, "%s: out of memory", r->path);
}

// [n_layers, columns] into *values; *n_layers 0 is set by the first array that is read.
static kv_status read_array(const struct reader *r, const char *name, int64_t columns, int64_t *n_layers,
                            double **values) {
    int n_dims;
    int64_t shape[8];
    const int64_t most = KV_MAX_LAYERS * (columns ? columns : 1);
    kv_status status = kv_h5_read_f64(r->file, name, most, values, &n_dims, shape, r->err);
    if (status != KV_OK) return status;
    if (n_dims == (columns ? 2 : 1) && *n_layers == 0) *n_layers = shape[0];
    const bool fits = n_dims == (columns ? 2 : 1) && shape[0] == *n_layers && *n_layers > 0 &&
                      *n_layers <= KV_MAX_LAYERS && (!columns || shape[1] == columns);
    if (fits) return KV_OK;
    free(*values);
    *values = NULL;
    return wrong(r, name, "a row for each layer, as wide as sequences or bins");
}

static kv_status read_system(const struct reader *r, int64_t system, kv_analysis *a) {
    kv_cache_analysis *errors = &a->systems[system];
    char name[NAME_SIZE];
    double *values[KV_CACHE_ARRAYS] = {0};
    int64_t n_layers = 0;
    kv_status status = KV_OK;
    for (int i = 0; i < KV_CACHE_ARRAYS && status == KV_OK; i++) {
        const kv_analysis_array array =
            kv_cache_analysis_array(errors, a, i); // name and columns: no values yet
        snprintf(name, sizeof name, "%s/%lld/%s", group, (long long)system, array.name);
        if (!array.optional || kv_h5_exists(r->file, name))
            status = read_array(r, name, array.columns, &n_layers, &values[i]);
    }
    if (status == KV_OK) status = kv_cache_analysis_init(errors, n_layers, a, r->err);
    for (int i = 0; i < KV_CACHE_ARRAYS; i++) {
        if (status == KV_OK) {
            const kv_analysis_array array = kv_cache_analysis_array(errors, a, i);
            for (int64_t k = 0; k < array.size; k++)
                array.values[k] = values[i] ? values[i][k] : array.missing;
        }
        free(values[i]);
    }
    return status;
}

kv_status kv_analysis_read_h5(const char *path, hid_t file, int64_t n_systems, kv_analysis *a,
                              kv_error *err) {
    const struct reader r = {.path = path, .file = file, .err = err};
    *a = (kv_analysis){0};
    if (!kv_h5_exists(file, "analysis")) return KV_OK;
    kv_status status = kv_analysis_init(a, n_systems, err);
    if (status == KV_OK) status = read_head(&r, a);
    for (int64_t s = 0; s < n_systems && status == KV_OK; s++) {
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "%s/%lld", group + 1, (long long)s);
        if (kv_h5_exists(file, name)) status = read_system(&r, s, a);
    }
    return status;
}
