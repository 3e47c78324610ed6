// They are as large as the maps squared: written as they are, once, when somebody stops a fit.
#include "eval/curve/sums.h"

#include "data/file/h5.h"
#include "data/file/path.h"
#include "data/file/whole_file.h"
#include "data/system/warning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Where a visit is.
struct place {
    hid_t file;
    int64_t depth, array;
    kv_status status;
    kv_error *err;
};

static void name_of(struct place *p, char name[64]) {
    snprintf(name, 64, "sums_%02lld/%lld", (long long)p->depth, (long long)p->array++);
}

static bool write_array(double *sums, int64_t n, void *what) {
    struct place *p = what;
    char name[64];
    name_of(p, name);
    p->status = kv_h5_write_plain(p->file, name, H5T_NATIVE_DOUBLE, sums, 1, &n, p->err);
    return p->status == KV_OK;
}

static bool read_array(double *sums, int64_t n, void *what) {
    struct place *p = what;
    char name[64];
    double *data = NULL;
    int64_t shape[8] = {0};
    int n_dims = 0;
    name_of(p, name);
    p->status = kv_h5_read_f64(p->file, name, n, &data, &n_dims, shape, p->err);
    if (p->status == KV_OK && (n_dims != 1 || shape[0] != n))
        p->status = kv_fail(p->err, KV_ERR_FORMAT, "%s: found sums of other maps", name);
    if (p->status == KV_OK) memcpy(sums, data, (size_t)n * sizeof *sums);
    free(data);
    return p->status == KV_OK;
}

static bool forget_array(double *sums, int64_t n, void *what) {
    (void)what;
    memset(sums, 0, (size_t)n * sizeof *sums);
    return true;
}

static kv_status write_all(hid_t file, const kv_curve_sums *depths, int64_t n, int64_t n_tokens,
                           kv_error *err) {
    int64_t *layers = malloc((size_t)n * sizeof *layers);
    if (!layers) return kv_fail(err, KV_ERR_MEMORY, "out of memory for sums");
    for (int64_t i = 0; i < n; i++) layers[i] = depths[i].n_layers;
    kv_status status = kv_h5_set_i64(file, "/", "tokens", n_tokens, err);
    if (status == KV_OK) status = kv_h5_write(file, "depths", H5T_NATIVE_INT64, layers, 1, &n, err);
    for (int64_t i = 0; i < n && status == KV_OK; i++) {
        struct place p = {.file = file, .depth = layers[i], .err = err};
        kv_least_squares_visit(depths[i].sums, write_array, &p);
        status = p.status;
    }
    free(layers);
    return status;
}

kv_status kv_curve_sums_write(const char *output, const kv_curve_sums *depths, int64_t n, int64_t n_tokens,
                              kv_error *err) {
    char path[PATH_MAX];
    kv_whole_file whole;
    hid_t file = H5I_INVALID_HID;
    kv_status status = kv_path_join(output, "sums.h5", path, err);
    if (status == KV_OK) status = kv_whole_file_begin(&whole, path, err);
    if (status != KV_OK) return status;
    status = kv_h5_create(whole.path, &file, err);
    if (status == KV_OK) status = write_all(file, depths, n, n_tokens, err);
    const kv_status closed = kv_h5_close(&file, status == KV_OK ? err : NULL);
    return kv_whole_file_end(&whole, status == KV_OK ? closed : status, err);
}

static bool has(const int64_t *layers, int64_t n, int64_t layer) {
    for (int64_t i = 0; i < n; i++)
        if (layers[i] == layer) return true;
    return false;
}

static kv_status read_all(hid_t file, const kv_curve_sums *depths, int64_t n, int64_t *n_tokens,
                          kv_error *err) {
    int64_t *layers = NULL, shape[8] = {0}, tokens = 0;
    int n_dims = 0;
    kv_status status = kv_h5_attr_i64(file, "/", "tokens", &tokens, err);
    if (status == KV_OK) status = kv_h5_read_i64(file, "depths", KV_MAX_LAYERS, &layers, &n_dims, shape, err);
    bool all = status == KV_OK && n_dims == 1;
    for (int64_t i = 0; all && i < n; i++) all = has(layers, shape[0], depths[i].n_layers);
    for (int64_t i = 0; i < n && all && status == KV_OK; i++) {
        struct place p = {.file = file, .depth = depths[i].n_layers, .err = err};
        kv_least_squares_visit(depths[i].sums, read_array, &p);
        kv_least_squares_tell_tokens(depths[i].sums, tokens);
        status = p.status;
    }
    if (status == KV_OK && all) *n_tokens = tokens;
    free(layers);
    return status;
}

kv_status kv_curve_sums_read(const char *output, const kv_curve_sums *depths, int64_t n, int64_t *n_tokens,
                             kv_error *err) {
    char path[PATH_MAX];
    hid_t file = H5I_INVALID_HID;
    kv_error own = {0};
    *n_tokens = 0;
    kv_status status = kv_path_join(output, "sums.h5", path, err);
    if (status != KV_OK || !kv_path_exists(path)) return status;
    status = kv_h5_open(path, &file, &own);
    if (status == KV_OK) status = read_all(file, depths, n, n_tokens, &own);
    kv_h5_close(&file, NULL);
    if (status == KV_OK) return KV_OK;
    if (status == KV_ERR_MEMORY) return kv_fail(err, status, "%s", own.message);
    kv_warn("%s: the text is read from its beginning", own.message);
    for (int64_t i = 0; i < n; i++) {
        kv_least_squares_visit(depths[i].sums, forget_array, NULL);
        kv_least_squares_tell_tokens(depths[i].sums, 0);
    }
    return KV_OK;
}

void kv_curve_sums_remove(const char *output) {
    char path[PATH_MAX];
    if (kv_path_join(output, "sums.h5", path, NULL) == KV_OK) unlink(path);
}
