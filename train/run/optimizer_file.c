// HDF5 rather than safetensors: two arrays for every weight, float32 whatever the weights are, read by nobody
// else. They are not deflated: that would save a fifth of the file, at 50 MB/s, while all ranks wait. Before every collective ranks agree on what has failed so far: a disk that is full in the middle stops all.
#include "train/run/optimizer_file.h"

#include "data/checkpoint/checkpoint.h"
#include "data/file/h5.h"
#include "data/file/mistaken.h"
#include "data/ranks/ranks.h"
#include "train/run/moments.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char weights_key[] = "weights";

static void moment_name(char name[KV_NAME_MAX + 4], kv_moment moment, const kv_param *param) {
    snprintf(name, KV_NAME_MAX + 4, "/%c/%s", moment == KV_MOMENT_M ? 'm' : 'v', param->name);
}

// ---- Saving --------------------------------------------------------------------------------------------

// On rank 0.
static kv_status begin(const char *path, const kv_adamw *o, hid_t *file, kv_error *err) {
    char weights[17];
    kv_status status = kv_h5_create(path, file, err);
    if (status != KV_OK) return status;
    kv_params_fingerprint(o->params, o->n_params, weights);
    status = kv_h5_set_i64(*file, "/", "step", o->step, err);
    return status == KV_OK ? kv_h5_set_string(*file, "/", weights_key, weights, err) : status;
}

static kv_status save_moment(hid_t file, kv_moments *moments, const kv_adamw *o, int64_t i, kv_moment moment,
                             kv_error *err) {
    const kv_param *param = o->params[i];
    const int64_t shape[2] = {param->rows, param->cols};
    char name[KV_NAME_MAX + 4];
    const float *all = kv_moments_gather(moments, i, moment);
    moment_name(name, moment, param);
    const kv_status status =
        all ? kv_h5_write_checked(file, name, H5T_NATIVE_FLOAT, all, 2, shape, err) : KV_OK;
    return kv_ranks_agree(status, err);
}

static kv_status save_moments(hid_t file, kv_moments *moments, const kv_adamw *o, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; status == KV_OK && i < o->n_params; i++) {
        status = save_moment(file, moments, o, i, KV_MOMENT_M, err);
        if (status == KV_OK) status = save_moment(file, moments, o, i, KV_MOMENT_V, err);
    }
    return status;
}

kv_status kv_optimizer_save(const char *path, const kv_adamw *optimizer, kv_error *err) {
    hid_t file = H5I_INVALID_HID;
    kv_moments *moments;
    kv_status status = kv_moments_open(optimizer, &moments, err);
    if (status != KV_OK) return status;
    if (kv_rank_leads()) status = begin(path, optimizer, &file, err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = save_moments(file, moments, optimizer, err);
    kv_moments_free(moments);
    // The first failure is the one to report.
    const bool well = status == KV_OK;
    const kv_status closed = kv_h5_close(&file, well ? err : NULL);
    return well ? kv_ranks_agree(closed, err) : status;
}

// ---- Loading -------------------------------------------------------------------------------------------

// What rank 0 tells the others of the file.
struct head {
    int64_t step;
    char weights[17]; // "": files from before they said whose they are
};

static kv_status read_head(const char *path, hid_t *file, struct head *head, kv_error *err) {
    kv_status status = kv_h5_open(path, file, err);
    if (status == KV_OK) status = kv_h5_attr_i64(*file, "/", "step", &head->step, err);
    if (status == KV_OK && head->step < 0)
        status =
            kv_fail(err, KV_ERR_FORMAT, "%s: found step %" PRIi64 ", expected 0 or more", path, head->step);
    if (status == KV_OK && H5Aexists(*file, weights_key) > 0)
        status = kv_h5_attr_string(*file, "/", weights_key, head->weights, sizeof head->weights, err);
    return status;
}

// Moments of other weights fit all the same where the shapes do.
static kv_status check_weights(const char *path, const struct head *head, const kv_adamw *o, kv_error *err) {
    char found[17];
    if (!head->weights[0]) return KV_OK;
    kv_params_fingerprint(o->params, o->n_params, found);
    if (strcmp(found, head->weights) == 0) return KV_OK;
    return kv_fail(
        err, KV_ERR_MISMATCH,
        "%s: found the optimiser's state of weights with fingerprint %s, expected that of those beside "
        "it, %s: files of two runs or steps",
        path, head->weights, found);
}

// On rank 0: *all is the caller's to free.
static kv_status read_moment(hid_t file, const char *path, kv_moment moment, const kv_param *param,
                             float **all, kv_error *err) {
    char name[KV_NAME_MAX + 4];
    moment_name(name, moment, param);
    int n_dims;
    int64_t shape[8];
    kv_status status = kv_h5_read_f32(file, name, kv_param_size(param), all, &n_dims, shape, err);
    if (status != KV_OK || (n_dims == 2 && shape[0] == param->rows && shape[1] == param->cols)) return status;
    return kv_fail(err, KV_ERR_MISMATCH,
                   "%s: %s has another shape than its parameter, expected [%" PRIi64 ", %" PRIi64 "]", path,
                   name, param->rows, param->cols);
}

static kv_status load_moment(hid_t file, const char *path, kv_moments *moments, const kv_adamw *o, int64_t i,
                             kv_moment moment, kv_error *err) {
    float *all = NULL;
    kv_status status = KV_OK;
    if (kv_rank_leads())
        status = kv_mistaken(path, KV_FILE_OPTIMIZER,
                             read_moment(file, path, moment, o->params[i], &all, err), err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) kv_moments_spread(moments, i, moment, all);
    free(all);
    return status;
}

static kv_status load_head(const char *path, hid_t *file, kv_adamw *o, kv_error *err) {
    struct head head = {0};
    kv_status status = KV_OK;
    if (kv_rank_leads())
        status = kv_mistaken(path, KV_FILE_OPTIMIZER, read_head(path, file, &head, err), err);
    status = kv_ranks_agree(status, err);
    if (status != KV_OK) return status;
    kv_ranks_broadcast(&head, sizeof head, 0);
    o->step = head.step;
    return kv_ranks_agree(check_weights(path, &head, o, err), err);
}

kv_status kv_optimizer_load(const char *path, kv_adamw *optimizer, kv_error *err) {
    hid_t file = H5I_INVALID_HID;
    kv_moments *moments;
    kv_status status = kv_moments_open(optimizer, &moments, err);
    if (status == KV_OK) status = load_head(path, &file, optimizer, err);
    for (int64_t i = 0; status == KV_OK && i < optimizer->n_params; i++) {
        status = load_moment(file, path, moments, optimizer, i, KV_MOMENT_M, err);
        if (status == KV_OK) status = load_moment(file, path, moments, optimizer, i, KV_MOMENT_V, err);
    }
    kv_moments_free(moments);
    kv_h5_close(&file, NULL);
    return status;
}
