#include "data/cache/layout.h"

#include "data/file/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const dtype_texts[] = {[KV_F32] = "f32", [KV_BF16] = "bf16", [KV_F16] = "f16"};

const char *kv_cache_dtype_text(kv_dtype dtype) {
    return dtype_texts[dtype];
}

bool kv_cache_dtype_parse(const char *text, kv_dtype *dtype) {
    for (int i = KV_F32; i <= KV_F16; i++) {
        if (strcmp(text, dtype_texts[i]) != 0) continue;
        *dtype = (kv_dtype)i;
        return true;
    }
    return false;
}

// HDF5 has no name for the 16-bit types, but knows how floats are made of bits.
hid_t kv_cache_type(kv_dtype dtype) {
    const size_t exponent = dtype == KV_BF16 ? 8 : 5, mantissa = 15 - exponent;
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type < 0 || dtype == KV_F32) return type;
    if (H5Tset_fields(type, 15, mantissa, exponent, 0, mantissa) >= 0 && H5Tset_size(type, 2) >= 0 &&
        H5Tset_ebias(type, dtype == KV_BF16 ? 127 : 15) >= 0)
        return type;
    H5Tclose(type);
    return H5I_INVALID_HID;
}

void kv_cache_name(kv_cache_part part, int64_t layer, char name[KV_CACHE_NAME]) {
    static const char *const groups[] = {"/base/key", "/base/value", "/aux/key", "/aux/value"};
    snprintf(name, KV_CACHE_NAME, "%s/%" PRIi64, groups[part], layer);
}

const kv_cache_model *kv_cache_part_model(const kv_cache_info *info, kv_cache_part part) {
    return part < KV_CACHE_AUX_KEY ? &info->base : &info->aux;
}

static double model_width(const kv_cache_model *model) {
    double width = 0;
    for (int64_t i = 0; i < model->spec.n_layers; i++) width += 2 * (double)kv_spec_kv_dim(&model->spec, i);
    return width;
}

double kv_cache_bytes(const kv_cache_info *info) {
    const double tokens = (double)info->n_rows * (double)info->seq_len;
    const double width = model_width(&info->base) + (kv_cache_has_aux(info) ? model_width(&info->aux) : 0);
    const double logits = info->top_k > 0 ? 8 * (double)info->top_k + 4 : 0;
    return tokens * (width * (double)kv_dtype_size(info->dtype) + logits + 4);
}

kv_status kv_cache_path(const char *dir, int64_t number, char *path, size_t size, kv_error *err) {
    const int n = snprintf(path, size, "%s/cache-%05" PRIi64 ".h5", dir, number);
    if (n >= 0 && (size_t)n < size) return KV_OK;
    return kv_path_too_long(dir, err);
}

// ---- Comparing -----------------------------------------------------------------------------------------

static kv_status differs(const char *path, const char *what, const char *found, const char *expected,
                         kv_error *err) {
    return kv_fail(err, KV_ERR_MISMATCH, "%s: made with %s %s, expected %s", path, what,
                   found[0] ? found : "(none)", expected[0] ? expected : "(none)");
}

static kv_status differs_int(const char *path, const char *what, int64_t found, int64_t expected,
                             kv_error *err) {
    return kv_fail(err, KV_ERR_MISMATCH, "%s: made with %s %" PRIi64 ", expected %" PRIi64, path, what, found,
                   expected);
}

// A fingerprint is what a file says; the widths are what readers make room for.
static kv_status same_widths(const char *path, const kv_model_spec *found, const kv_model_spec *expected,
                             kv_error *err) {
    if (found->n_layers != expected->n_layers)
        return differs_int(path, "a number of layers of", found->n_layers, expected->n_layers, err);
    for (int64_t i = 0; i < found->n_layers; i++)
        if (kv_spec_kv_dim(found, i) != kv_spec_kv_dim(expected, i))
            return differs_int(path, "keys of a width of", kv_spec_kv_dim(found, i),
                               kv_spec_kv_dim(expected, i), err);
    return KV_OK;
}

kv_status kv_cache_same_kind(const char *path, const kv_cache_info *found, const kv_cache_info *expected,
                             kv_error *err) {
    const struct {
        const char *what, *found, *expected;
    } texts[] = {{"a base of fingerprint", found->base.fingerprint, expected->base.fingerprint},
                 {"an aux of fingerprint", found->aux.fingerprint, expected->aux.fingerprint},
                 {"tokenizer", found->tokenizer, expected->tokenizer},
                 {"dtype", kv_cache_dtype_text(found->dtype), kv_cache_dtype_text(expected->dtype)}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(texts[i].found, texts[i].expected) != 0)
            return differs(path, texts[i].what, texts[i].found, texts[i].expected, err);
    if (found->seq_len != expected->seq_len)
        return differs_int(path, "seq_len", found->seq_len, expected->seq_len, err);
    if (found->top_k != expected->top_k)
        return differs_int(path, "top_k", found->top_k, expected->top_k, err);
    if (kv_cache_temperature(found) != kv_cache_temperature(expected))
        return kv_fail(err, KV_ERR_MISMATCH, "%s: made with a temperature of %g, expected %g", path,
                       kv_cache_temperature(found), kv_cache_temperature(expected));
    const kv_status status = same_widths(path, &found->base.spec, &expected->base.spec, err);
    return status == KV_OK ? same_widths(path, &found->aux.spec, &expected->aux.spec, err) : status;
}

// ---- Rows ----------------------------------------------------------------------------------------------

static bool move_rows(hid_t dataset, hid_t type, int64_t row, int64_t n, const void *from, void *to) {
    hsize_t dims[H5S_MAX_RANK], start[H5S_MAX_RANK] = {(hsize_t)row};
    hid_t space = H5Dget_space(dataset), memory = H5I_INVALID_HID;
    const int rank = space >= 0 ? H5Sget_simple_extent_dims(space, dims, NULL) : -1;
    bool ok = rank > 0;
    if (ok) {
        dims[0] = (hsize_t)n;
        memory = H5Screate_simple(rank, dims, NULL);
        ok = memory >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, dims, NULL) >= 0;
    }
    if (ok)
        ok = (from ? H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, from)
                   : H5Dread(dataset, type, memory, space, H5P_DEFAULT, to)) >= 0;
    // Closing anything forgets why it failed.
    const hid_t why = ok ? H5I_INVALID_HID : H5Eget_current_stack();
    if (memory >= 0) H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    if (why >= 0) H5Eset_current_stack(why);
    return ok;
}

bool kv_cache_put_rows(hid_t dataset, hid_t type, int64_t row, int64_t n, const void *data) {
    return move_rows(dataset, type, row, n, data, NULL);
}

bool kv_cache_get_rows(hid_t dataset, hid_t type, int64_t row, int64_t n, void *data) {
    return move_rows(dataset, type, row, n, NULL, data);
}

int64_t kv_cache_chunk_rows(int64_t n_rows, int64_t row_bytes) {
    enum { LEAST_BYTES = 1 << 10 };
    int64_t rows = row_bytes > 0 && row_bytes < LEAST_BYTES ? (LEAST_BYTES + row_bytes - 1) / row_bytes : 1;
    return rows < n_rows ? rows : n_rows > 0 ? n_rows : 1;
}
