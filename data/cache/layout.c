#include "data/cache/layout.h"

#include "data/file/path.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

// ---- Datasets ------------------------------------------------------------------------------------------

void kv_cache_sets_none(kv_cache_sets *sets) {
    sets->tokens = sets->ids = sets->values = sets->logsumexp = H5I_INVALID_HID;
    for (int part = 0; part < KV_CACHE_PARTS; part++)
        for (int64_t i = 0; i < KV_MAX_LAYERS; i++) sets->parts[part][i] = H5I_INVALID_HID;
}

bool kv_cache_sets_each(kv_cache_sets *sets, bool (*each)(void *context, hid_t *set), void *context) {
    hid_t *const single[] = {&sets->tokens, &sets->ids, &sets->values, &sets->logsumexp};
    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (*single[i] >= 0 && !each(context, single[i])) return false;
    for (int part = 0; part < KV_CACHE_PARTS; part++)
        for (int64_t i = 0; i < KV_MAX_LAYERS; i++)
            if (sets->parts[part][i] >= 0 && !each(context, &sets->parts[part][i])) return false;
    return true;
}

static bool close_set(void *context, hid_t *set) {
    bool *ok = context;
    *ok = H5Dclose(*set) >= 0 && *ok;
    *set = H5I_INVALID_HID;
    return true;
}

bool kv_cache_sets_close(kv_cache_sets *sets) {
    bool ok = true;
    kv_cache_sets_each(sets, close_set, &ok);
    return ok;
}

// ---- Models --------------------------------------------------------------------------------------------

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

// Of the rows of a dataset that go into one chunk; *bytes: of a row in memory. 0: it is not to be found out.
static hsize_t rows_of_chunk(hid_t set, size_t *bytes) {
    hsize_t chunk[H5S_MAX_RANK] = {0};
    hid_t layout = H5Dget_create_plist(set), type = H5Dget_type(set);
    const int rank = layout >= 0 ? H5Pget_chunk(layout, H5S_MAX_RANK, chunk) : -1;
    *bytes = type >= 0 ? H5Tget_size(type) : 0;
    for (int i = 1; i < rank; i++) *bytes *= (size_t)chunk[i];
    if (layout >= 0) H5Pclose(layout);
    if (type >= 0) H5Tclose(type);
    return rank > 0 ? chunk[0] : 0;
}

static bool make_room(size_t wanted, void **buffer, size_t *size) {
    if (wanted <= *size) return true;
    void *larger = realloc(*buffer, wanted);
    if (!larger) return false;
    *buffer = larger;
    *size = wanted;
    return true;
}

static bool copy_chunk(hid_t from, int64_t row, hid_t to, int64_t to_row, void **buffer, size_t *size) {
    const hsize_t here[H5S_MAX_RANK] = {(hsize_t)row}, there[H5S_MAX_RANK] = {(hsize_t)to_row};
    hsize_t stored = 0;
    uint32_t mask = 0; // of the filters that were left out
    return H5Dget_chunk_storage_size(from, here, &stored) >= 0 && stored > 0 &&
           make_room((size_t)stored, buffer, size) &&
           H5Dread_chunk(from, H5P_DEFAULT, here, &mask, *buffer) >= 0 &&
           H5Dwrite_chunk(to, H5P_DEFAULT, mask, there, (size_t)stored, *buffer) >= 0;
}

bool kv_cache_copy_row(hid_t from, int64_t row, hid_t to, int64_t to_row, void **buffer, size_t *size) {
    size_t bytes, same;
    if (rows_of_chunk(from, &bytes) == 1 && rows_of_chunk(to, &same) == 1)
        return copy_chunk(from, row, to, to_row, buffer, size);
    hid_t type = H5Dget_type(to);
    const bool ok = type >= 0 && make_room(bytes, buffer, size) &&
                    kv_cache_get_rows(from, type, row, 1, *buffer) &&
                    kv_cache_put_rows(to, type, to_row, 1, *buffer);
    if (type >= 0) H5Tclose(type);
    return ok;
}

int64_t kv_cache_chunk_rows(int64_t n_rows, int64_t row_bytes) {
    enum { LEAST_BYTES = 1 << 10 };
    int64_t rows = row_bytes > 0 && row_bytes < LEAST_BYTES ? (LEAST_BYTES + row_bytes - 1) / row_bytes : 1;
    return rows < n_rows ? rows : n_rows > 0 ? n_rows : 1;
}
