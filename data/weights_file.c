#include "data/weights_file.h"

#include "data/pending_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kv_weights_add_part(kv_weights_tensor *tensor, kv_param *param) {
    tensor->part[tensor->n_parts++] = param;
    if (tensor->n_dims == 1)
        tensor->shape[0] += param->cols;
    else {
        tensor->shape[0] += param->rows;
        tensor->shape[1] = param->cols;
    }
}

static kv_status join(const char *dir, const char *name, char path[PATH_MAX], kv_error *err) {
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "%.80s...: path is too long", dir);
}

kv_status kv_weights_open(const char *dir, const char *name, kv_safetensors **file, kv_error *err) {
    char path[PATH_MAX];
    *file = NULL;
    kv_status status = join(dir, name, path, err);
    return status ? status : kv_safetensors_open(path, file, err);
}

// ---- Taking --------------------------------------------------------------------------------------------

static const char *shape_text(int n_dims, const int64_t *shape, char text[96]) {
    int used = snprintf(text, 96, "[");
    for (int i = 0; i < n_dims; i++)
        used += snprintf(text + used, 96 - (size_t)used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + used, 96 - (size_t)used, "]");
    return text;
}

static kv_status check_shape(const kv_safetensors *file, const kv_weights_tensor *tensor,
                             const kv_st_entry *entry, const char *expected_by, kv_error *err) {
    bool same = entry->n_dims == tensor->n_dims;
    for (int i = 0; same && i < tensor->n_dims; i++) same = entry->shape[i] == tensor->shape[i];
    if (same) return KV_OK;
    char found[96], expected[96];
    return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' has shape %s, expected %s by %s",
                   kv_safetensors_path(file), tensor->name, shape_text(entry->n_dims, entry->shape, found),
                   shape_text(tensor->n_dims, tensor->shape, expected), expected_by);
}

static void take(const kv_weights_tensor *tensor, const kv_st_entry *entry, bool copy) {
    const char *data = entry->data;
    for (int i = 0; i < tensor->n_parts; i++) {
        kv_param *param = tensor->part[i];
        if (copy)
            kv_widen(param->data, data, entry->dtype, kv_param_size(param));
        else {
            param->dtype = entry->dtype;
            param->data = (void *)(uintptr_t)data; // frozen parameters are only read
        }
        data += (size_t)kv_param_size(param) * kv_dtype_size(entry->dtype);
    }
}

static kv_status find_surplus(const kv_safetensors *file, const kv_weights_tensor *tensors, int64_t n,
                              const char *expected_by, kv_error *err) {
    for (int64_t i = 0; i < kv_safetensors_count(file); i++) {
        const char *name = kv_safetensors_at(file, i)->name;
        int64_t j = 0;
        while (j < n && strcmp(tensors[j].name, name) != 0) j++;
        if (j == n)
            return kv_fail(err, KV_ERR_MISMATCH, "%s: surplus tensor '%s', not expected by %s",
                           kv_safetensors_path(file), name, expected_by);
    }
    return KV_OK;
}

kv_status kv_weights_take(const kv_safetensors *file, const kv_weights_tensor *tensors, int64_t n, bool copy,
                          const char *expected_by, kv_error *err) {
    for (int64_t i = 0; i < n; i++) {
        char shape[96];
        const kv_st_entry *entry = kv_safetensors_find(file, tensors[i].name);
        if (!entry)
            return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' is missing, expected with shape %s by %s",
                           kv_safetensors_path(file), tensors[i].name,
                           shape_text(tensors[i].n_dims, tensors[i].shape, shape), expected_by);
        kv_status status = check_shape(file, &tensors[i], entry, expected_by, err);
        if (status) return status;
    }
    // All n were found and names are unique: another count means surplus ones.
    if (kv_safetensors_count(file) != n) return find_surplus(file, tensors, n, expected_by, err);
    for (int64_t i = 0; i < n; i++) take(&tensors[i], kv_safetensors_find(file, tensors[i].name), copy);
    return KV_OK;
}

// ---- Writing -------------------------------------------------------------------------------------------

// The values of a parameter as float32: its own data, or a copy that *widened then owns.
static const float *as_f32(const kv_param *param, float **widened) {
    *widened = NULL;
    if (param->dtype == KV_F32) return param->data;
    *widened = malloc((size_t)kv_param_size(param) * sizeof(float));
    if (*widened) kv_widen(*widened, param->data, param->dtype, kv_param_size(param));
    return *widened;
}

static bool describe(const kv_weights_tensor *tensor, kv_st_tensor *out, float *widened[KV_ST_PARTS]) {
    *out = (kv_st_tensor){.name = tensor->name, .dtype = KV_F32, .n_dims = tensor->n_dims};
    for (int i = 0; i < tensor->n_dims; i++) out->shape[i] = tensor->shape[i];
    for (int i = 0; i < tensor->n_parts; i++) {
        out->part[i] = as_f32(tensor->part[i], &widened[i]);
        out->part_size[i] = (size_t)kv_param_size(tensor->part[i]) * sizeof(float);
        if (!out->part[i]) return false;
    }
    return true;
}

static kv_status write_tensors(const char *path, const kv_weights_tensor *tensors, int64_t n, kv_error *err) {
    static const char *const metadata[] = {"format", "pt"}; // what Hugging Face's loader asks for
    kv_st_tensor *out = calloc((size_t)n + 1, sizeof *out);
    float *(*widened)[KV_ST_PARTS] = calloc((size_t)n + 1, sizeof *widened);
    bool ok = out && widened;
    for (int64_t i = 0; ok && i < n; i++) ok = describe(&tensors[i], &out[i], widened[i]);
    kv_status status = ok ? kv_safetensors_write(path, out, n, metadata, 1, err)
                          : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    for (int64_t i = 0; widened && i < n; i++)
        for (int p = 0; p < KV_ST_PARTS; p++) free(widened[i][p]);
    free(widened);
    free(out);
    return status;
}

static kv_status write_text(const kv_pending *pending, const char *text, kv_error *err) {
    FILE *stream = fopen(pending->path, "wb");
    bool ok = stream && fputs(text, stream) >= 0;
    int failure = errno;
    if (stream && fclose(stream) != 0 && ok) {
        ok = false;
        failure = errno;
    }
    return ok ? KV_OK : kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", pending->final, strerror(failure));
}

// The text waits under its temporary name until the weights, which are what may not fit, are in place.
kv_status kv_weights_write(const char *dir, const char *name, const kv_weights_tensor *tensors, int64_t n,
                           const char *text_name, const char *text, kv_error *err) {
    char path[PATH_MAX], text_path[PATH_MAX];
    kv_pending pending;
    kv_status status = join(dir, name, path, err);
    if (!status) status = join(dir, text_name, text_path, err);
    if (!status) status = kv_pending_file(&pending, text_path, err);
    if (status) return status;
    status = write_text(&pending, text, err);
    if (!status) status = write_tensors(path, tensors, n, err);
    if (!status) return kv_pending_commit(&pending, err);
    kv_pending_abandon(&pending);
    return status;
}
