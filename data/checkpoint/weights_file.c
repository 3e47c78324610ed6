#include "data/checkpoint/weights_file.h"

#include "core/gemm/packed.h"
#include "core/text.h"
#include "data/file/content.h"
#include "data/file/path.h"
#include "data/file/whole_set.h"
#include "data/system/warning.h"

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

// ---- Checking ------------------------------------------------------------------------------------------

static kv_status check_type(const kv_weights_tensor *tensor, const kv_weights_entry *found, kv_error *err) {
    if (found->entry->is_float) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: tensor '%s' has type %.32s; expected F32, BF16 or F16",
                   kv_safetensors_path(found->file), tensor->name, found->entry->type);
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
                   kv_st_shape_text(entry->n_dims, entry->shape, has),
                   kv_st_shape_text(tensor->n_dims, tensor->shape, expected), expected_by);
}

// A tensor that may be the one meant, under a longer or a shorter name; or NULL.
static const char *similar(const kv_weights_set *set, const char *name) {
    for (int64_t i = 0; i < kv_weights_set_count(set); i++) {
        const char *found = kv_weights_set_at(set, i).entry->name;
        const size_t longer = strlen(found), n = strlen(name);
        const char *end = longer > n ? found + longer - n : name + n - longer;
        if (longer != n && end[-1] == '.' && strcmp(end, longer > n ? name : found) == 0) return found;
    }
    return NULL;
}

static kv_status missing(const kv_weights_set *set, const kv_weights_tensor *tensor, const char *expected_by,
                         kv_error *err) {
    char shape[96], hint[2 * KV_NAME_MAX] = "";
    kv_status status = kv_weights_set_missed(set, tensor->name, err);
    if (status) return status;
    const char *other = similar(set, tensor->name);
    if (other)
        snprintf(hint, sizeof hint, "; found '%.100s'", other);
    else if (tensor->if_missing)
        snprintf(hint, sizeof hint, "; %s", tensor->if_missing);
    else if (kv_weights_set_count(set) > 0)
        snprintf(hint, sizeof hint, "; the first one there is '%.100s'",
                 kv_weights_set_at(set, 0).entry->name);
    return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' is missing, expected with shape %s by %s%s",
                   kv_weights_set_path(set), tensor->name,
                   kv_st_shape_text(tensor->n_dims, tensor->shape, shape), expected_by, hint);
}

// The needed tensor that holds a parameter from its first row on.
static const kv_weights_tensor *holder(const kv_weights_request *request, const kv_param *param) {
    for (int64_t i = 0; i < request->n; i++) {
        const kv_weights_tensor *tensor = &request->tensors[i];
        if (tensor->role == KV_WEIGHTS_NEEDED && tensor->part[0] == param) return tensor;
    }
    return NULL;
}

enum { PIECE = 4096 };

static void widen_piece(float values[PIECE], const kv_st_entry *entry, int64_t begin, int64_t n) {
    const char *data = entry->data;
    kv_widen(values, data + (size_t)begin * kv_dtype_size(entry->dtype), entry->dtype, n);
}

// What the values are after a stay in a type.
static void round_piece(float values[PIECE], kv_dtype dtype, int64_t n) {
    uint16_t narrow[PIECE];
    if (dtype == KV_F32) return;
    kv_narrow(narrow, values, dtype, n);
    kv_widen(values, narrow, dtype, n);
}

// Whether two tensors of one shape hold the same numbers, as far as both types can.
static bool same_values(const kv_st_entry *a, const kv_st_entry *b) {
    float x[PIECE], y[PIECE];
    const int64_t size = (int64_t)(a->size / kv_dtype_size(a->dtype));
    for (int64_t i = 0; i < size; i += PIECE) {
        const int64_t n = size - i < PIECE ? size - i : PIECE;
        widen_piece(x, a, i, n);
        widen_piece(y, b, i, n);
        round_piece(x, b->dtype, n);
        round_piece(y, a->dtype, n);
        if (memcmp(x, y, (size_t)n * sizeof *x) != 0) return false;
    }
    return true;
}

// A repeated tensor with other values would be a model that differs from its description.
static kv_status check_repeat(const kv_weights_set *set, const kv_weights_request *request,
                              const kv_weights_tensor *tensor, const kv_weights_entry *found, kv_error *err) {
    const kv_weights_tensor *first = holder(request, tensor->part[0]);
    kv_weights_entry original;
    if (!kv_weights_set_find(set, first->name, &original))
        return missing(set, first, request->expected_by, err);
    kv_status status = check_type(first, &original, err);
    if (!status) status = check_shape(first, &original, request->expected_by, err);
    if (status) return status;
    const bool same = same_values(found->entry, original.entry);
    kv_safetensors_forget(found->file, found->entry);
    if (same) return KV_OK;
    return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' differs from '%s', expected the same by %s",
                   kv_safetensors_path(found->file), tensor->name, first->name, request->expected_by);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// How many there are that nobody asked for, and the names of the first.
struct left_out {
    int64_t n;
    char names[256];
};

static void add_left_out(struct left_out *out, const char *name) {
    enum { SHOWN = 3 };
    const size_t used = strlen(out->names);
    if (out->n++ < SHOWN)
        snprintf(out->names + used, sizeof out->names - used, "%s'%.*s'", used ? ", " : "",
                 KV_HEAD(name, 72));
}

static kv_status judge_surplus(const kv_weights_set *set, const kv_weights_request *request,
                               const char *const *asked, kv_error *err) {
    struct left_out out = {0};
    for (int64_t i = 0; i < kv_weights_set_count(set); i++) {
        const kv_weights_entry found = kv_weights_set_at(set, i);
        const char *name = found.entry->name;
        if (bsearch(&name, asked, (size_t)request->n, sizeof *asked, compare_names)) continue;
        const kv_weights_verdict verdict = request->judge(request->context, name);
        if (verdict == KV_WEIGHTS_REFUSED)
            return kv_fail(err, KV_ERR_MISMATCH, "%s: surplus tensor '%.*s', not expected by %s: %s",
                           kv_safetensors_path(found.file), KV_HEAD(name, 200), request->expected_by,
                           request->if_refused);
        if (verdict == KV_WEIGHTS_LEFT_OUT) add_left_out(&out, name);
    }
    if (out.n > 0)
        kv_warn(
            "%s: left out %lld tensor%s that %s has no use for: %s%s; if they matter, it is the description "
            "of another model",
            kv_weights_set_path(set), (long long)out.n, out.n == 1 ? "" : "s", request->expected_by,
            out.names, out.n > 3 ? ", ..." : "");
    return KV_OK;
}

static kv_status check_surplus(const kv_weights_set *set, const kv_weights_request *request, kv_error *err) {
    const char **asked = malloc((size_t)(request->n + 1) * sizeof *asked);
    if (!asked) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", kv_weights_set_path(set));
    for (int64_t i = 0; i < request->n; i++) asked[i] = request->tensors[i].name;
    qsort(asked, (size_t)request->n, sizeof *asked, compare_names);
    kv_status status = judge_surplus(set, request, asked, err);
    free(asked);
    return status;
}

kv_status kv_weights_check(const kv_weights_set *set, const kv_weights_request *request, kv_error *err) {
    kv_weights_entry found;
    kv_status status = KV_OK;
    for (int64_t i = 0; i < request->n && !status; i++) {
        const kv_weights_tensor *tensor = &request->tensors[i];
        if (!kv_weights_set_find(set, tensor->name, &found)) {
            if (tensor->role == KV_WEIGHTS_NEEDED) status = missing(set, tensor, request->expected_by, err);
            continue;
        }
        status = check_type(tensor, &found, err);
        if (!status) status = check_shape(tensor, &found, request->expected_by, err);
        if (!status && tensor->role == KV_WEIGHTS_REPEATS)
            status = check_repeat(set, request, tensor, &found, err);
    }
    return status ? status : check_surplus(set, request, err);
}

// ---- Taking --------------------------------------------------------------------------------------------

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

kv_status kv_weights_take(const kv_weights_set *set, const kv_weights_request *request, bool copy,
                          kv_error *err) {
    kv_weights_entry found;
    kv_status status = kv_weights_check(set, request, err);
    for (int64_t i = 0; i < request->n && !status; i++) {
        const kv_weights_tensor *tensor = &request->tensors[i];
        if (tensor->role == KV_WEIGHTS_NEEDED && kv_weights_set_find(set, tensor->name, &found))
            take(tensor, &found, copy);
    }
    return status;
}

int64_t kv_weights_bytes(const kv_weights_set *set, const kv_weights_request *request) {
    kv_weights_entry found;
    int64_t bytes = 0;
    for (int64_t i = 0; i < request->n; i++) {
        const kv_weights_tensor *tensor = &request->tensors[i];
        if (tensor->role == KV_WEIGHTS_NEEDED && kv_weights_set_find(set, tensor->name, &found))
            bytes += (int64_t)found.entry->size;
    }
    return bytes;
}

// ---- Writing -------------------------------------------------------------------------------------------

// The values of a parameter as float32, row by row: its own data, or a copy that *widened then owns.
static const float *as_f32(const kv_param *param, float **widened) {
    *widened = NULL;
    if (param->dtype == KV_F32 && param->layout == KV_IN_ROWS) return param->data;
    *widened = malloc((size_t)kv_param_size(param) * sizeof(float));
    if (*widened) kv_param_values(param, 0, kv_param_size(param), *widened);
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
                           const kv_weights_text *texts, int n_texts, kv_error *err) {
    char path[PATH_MAX];
    kv_whole_set set;
    kv_status status = kv_whole_set_begin(&set, dir, err);
    for (int i = 0; i < n_texts && !status; i++) {
        status = kv_path_join(set.staged.path, texts[i].name, path, err);
        if (!status) status = kv_write_file(path, texts[i].text, strlen(texts[i].text), err);
    }
    if (!status) status = kv_path_join(set.staged.path, name, path, err);
    if (!status) status = write_tensors(path, tensors, n, err);
    return kv_whole_set_end(&set, NULL, 0, status, err);
}
