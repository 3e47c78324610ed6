#include "data/checkpoint/weights_file.h"

#include "data/file/content.h"
#include "data/file/path.h"
#include "data/file/whole_set.h"

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

// ---- Taking --------------------------------------------------------------------------------------------

static const char *shape_text(int n_dims, const int64_t *shape, char text[96]) {
    int used = snprintf(text, 96, "[");
    for (int i = 0; i < n_dims; i++)
        used += snprintf(text + used, 96 - (size_t)used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + used, 96 - (size_t)used, "]");
    return text;
}

static kv_status check_shape(const kv_weights_tensor *tensor, const kv_weights_entry *found,
                             const char *expected_by, kv_error *err) {
    const kv_st_entry *entry = found->entry;
    bool same = entry->n_dims == tensor->n_dims;
    for (int i = 0; same && i < tensor->n_dims; i++) same = entry->shape[i] == tensor->shape[i];
    if (same) return KV_OK;
    char has[96], expected[96];
    return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' has shape %s, expected %s by %s",
                   kv_safetensors_path(found->file), tensor->name,
                   shape_text(entry->n_dims, entry->shape, has),
                   shape_text(tensor->n_dims, tensor->shape, expected), expected_by);
}

static kv_status missing(const kv_weights_set *set, const kv_weights_tensor *tensor, const char *expected_by,
                         kv_error *err) {
    char shape[96];
    return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' is missing, expected with shape %s by %s",
                   kv_weights_set_path(set), tensor->name, shape_text(tensor->n_dims, tensor->shape, shape),
                   expected_by);
}

// The needed tensor that holds a parameter from its first row on.
static const kv_weights_tensor *holder(const kv_weights_tensor *tensors, int64_t n, const kv_param *param) {
    for (int64_t i = 0; i < n; i++)
        if (tensors[i].role == KV_WEIGHTS_NEEDED && tensors[i].part[0] == param) return &tensors[i];
    return NULL;
}

// A repeated tensor with other values would be a model that differs from its description.
static kv_status check_repeat(const kv_weights_set *set, const kv_weights_tensor *tensors, int64_t n,
                              const kv_weights_tensor *tensor, const kv_weights_entry *found,
                              const char *expected_by, kv_error *err) {
    const kv_weights_tensor *first = holder(tensors, n, tensor->part[0]);
    kv_weights_entry original;
    if (!kv_weights_set_find(set, first->name, &original)) return missing(set, first, expected_by, err);
    const kv_st_entry *a = found->entry, *b = original.entry;
    const bool same = a->dtype == b->dtype && a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
    kv_safetensors_forget(found->file, a);
    if (same) return KV_OK;
    return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' differs from '%s', expected the same by %s",
                   kv_safetensors_path(found->file), tensor->name, first->name, expected_by);
}

static void take(const kv_weights_tensor *tensor, const kv_weights_entry *found, bool copy) {
    const kv_st_entry *entry = found->entry;
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
    if (copy) kv_safetensors_forget(found->file, entry);
}

static kv_status find_surplus(const kv_weights_set *set, const kv_weights_tensor *tensors, int64_t n,
                              const char *expected_by, kv_error *err) {
    for (int64_t i = 0; i < kv_weights_set_count(set); i++) {
        const kv_weights_entry found = kv_weights_set_at(set, i);
        int64_t j = 0;
        while (j < n && strcmp(tensors[j].name, found.entry->name) != 0) j++;
        if (j == n)
            return kv_fail(err, KV_ERR_MISMATCH, "%s: surplus tensor '%s', not expected by %s",
                           kv_safetensors_path(found.file), found.entry->name, expected_by);
    }
    return KV_OK;
}

kv_status kv_weights_take(const kv_weights_set *set, const kv_weights_tensor *tensors, int64_t n, bool copy,
                          const char *expected_by, kv_error *err) {
    kv_weights_entry found;
    kv_status status = KV_OK;
    int64_t n_found = 0;
    for (int64_t i = 0; i < n && !status; i++) {
        if (!kv_weights_set_find(set, tensors[i].name, &found)) {
            if (tensors[i].role == KV_WEIGHTS_NEEDED) status = missing(set, &tensors[i], expected_by, err);
            continue;
        }
        n_found++;
        if (tensors[i].role != KV_WEIGHTS_IGNORED)
            status = check_shape(&tensors[i], &found, expected_by, err);
        if (!status && tensors[i].role == KV_WEIGHTS_REPEATS)
            status = check_repeat(set, tensors, n, &tensors[i], &found, expected_by, err);
    }
    if (status) return status;
    // Names are unique: another count than that of those found means surplus ones.
    if (kv_weights_set_count(set) != n_found) return find_surplus(set, tensors, n, expected_by, err);
    for (int64_t i = 0; i < n; i++)
        if (tensors[i].role == KV_WEIGHTS_NEEDED && kv_weights_set_find(set, tensors[i].name, &found))
            take(&tensors[i], &found, copy);
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
    int64_t n_written = 0;
    for (int64_t i = 0; ok && i < n; i++) {
        if (tensors[i].role != KV_WEIGHTS_NEEDED) continue;
        ok = describe(&tensors[i], &out[n_written], widened[i]);
        n_written++;
    }
    kv_status status = ok ? kv_safetensors_write(path, out, n_written, metadata, 1, err)
                          : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    for (int64_t i = 0; widened && i < n; i++)
        for (int p = 0; p < KV_ST_PARTS; p++) free(widened[i][p]);
    free(widened);
    free(out);
    return status;
}

kv_status kv_weights_write(const char *dir, const char *name, const kv_weights_tensor *tensors, int64_t n,
                           const char *text_name, const char *text, kv_error *err) {
    char path[PATH_MAX];
    kv_whole_set set;
    kv_status status = kv_whole_set_begin(&set, dir, err);
    if (!status) status = kv_path_join(set.staged.path, text_name, path, err);
    if (!status) status = kv_write_file(path, text, strlen(text), err);
    if (!status) status = kv_path_join(set.staged.path, name, path, err);
    if (!status) status = write_tensors(path, tensors, n, err);
    return kv_whole_set_end(&set, NULL, 0, status, err);
}
