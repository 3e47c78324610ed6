// HDF5 rather than safetensors: two arrays for every weight, float32 whatever the weights are, read by nobody
// else.
#include "train/run/optimizer_file.h"

#include "data/checkpoint/checkpoint.h"
#include "data/file/h5.h"
#include "data/file/mistaken.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char weights_key[] = "weights";

static void moment_name(char name[KV_NAME_MAX + 4], char moment, const kv_param *param) {
    snprintf(name, KV_NAME_MAX + 4, "/%c/%s", moment, param->name);
}

static kv_status write_all(hid_t file, const kv_adamw *o, kv_error *err) {
    char weights[17];
    kv_params_fingerprint(o->params, o->n_params, weights);
    kv_status status = kv_h5_set_i64(file, "/", "step", o->step, err);
    if (status == KV_OK) status = kv_h5_set_string(file, "/", weights_key, weights, err);
    for (int64_t i = 0; status == KV_OK && i < o->n_params; i++) {
        const kv_param *param = o->params[i];
        const int64_t shape[2] = {param->rows, param->cols};
        char name[KV_NAME_MAX + 4];
        moment_name(name, 'm', param);
        status = kv_h5_write(file, name, H5T_NATIVE_FLOAT, o->m[i], 2, shape, err);
        moment_name(name, 'v', param);
        if (status == KV_OK) status = kv_h5_write(file, name, H5T_NATIVE_FLOAT, o->v[i], 2, shape, err);
    }
    return status;
}

kv_status kv_optimizer_save(const char *path, const kv_adamw *optimizer, kv_error *err) {
    hid_t file;
    kv_status status = kv_h5_create(path, &file, err);
    if (status != KV_OK) return status;
    status = write_all(file, optimizer, err);
    // The first failure is the one to report.
    kv_status closed = kv_h5_close(&file, status == KV_OK ? err : NULL);
    return status == KV_OK ? closed : status;
}

static kv_status read_moment(hid_t file, const char *path, char moment, const kv_param *param, float *into,
                             kv_error *err) {
    char name[KV_NAME_MAX + 4];
    moment_name(name, moment, param);
    float *data;
    int n_dims;
    int64_t shape[8], size = kv_param_size(param);
    kv_status status = kv_h5_read_f32(file, name, size, &data, &n_dims, shape, err);
    if (status != KV_OK) return status;
    if (n_dims != 2 || shape[0] != param->rows || shape[1] != param->cols)
        status = kv_fail(err, KV_ERR_MISMATCH,
                         "%s: %s has another shape than its parameter, expected [%" PRIi64 ", %" PRIi64 "]",
                         path, name, param->rows, param->cols);
    else
        memcpy(into, data, (size_t)size * sizeof *into);
    free(data);
    return status;
}

// Moments of other weights fit all the same where the shapes do. Files from before they said whose they are fit any.
static kv_status check_weights(hid_t file, const char *path, const kv_adamw *o, kv_error *err) {
    char expected[17], found[17];
    if (H5Aexists(file, weights_key) <= 0) return KV_OK;
    kv_status status = kv_h5_attr_string(file, "/", weights_key, expected, sizeof expected, err);
    if (status != KV_OK) return status;
    kv_params_fingerprint(o->params, o->n_params, found);
    if (strcmp(found, expected) == 0) return KV_OK;
    return kv_fail(
        err, KV_ERR_MISMATCH,
        "%s: found the optimiser's state of weights with fingerprint %s, expected that of those beside "
        "it, %s: files of two runs or steps",
        path, expected, found);
}

kv_status kv_optimizer_load(const char *path, kv_adamw *optimizer, kv_error *err) {
    hid_t file;
    kv_status status = kv_h5_open(path, &file, err);
    if (status == KV_OK) status = kv_h5_attr_i64(file, "/", "step", &optimizer->step, err);
    if (status == KV_OK && optimizer->step < 0)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: found step %" PRIi64 ", expected 0 or more", path,
                         optimizer->step);
    if (status == KV_OK) status = check_weights(file, path, optimizer, err);
    for (int64_t i = 0; status == KV_OK && i < optimizer->n_params; i++) {
        const kv_param *param = optimizer->params[i];
        status = read_moment(file, path, 'm', param, optimizer->m[i], err);
        if (status == KV_OK) status = read_moment(file, path, 'v', param, optimizer->v[i], err);
    }
    kv_h5_close(&file, NULL);
    return kv_mistaken(path, KV_FILE_OPTIMIZER, status, err);
}
