// Writes one cache file, row by row as models make them, so that memory does not grow with the shard. Numbers are
// narrowed here, and one that the type cannot hold is refused rather than kept as infinity.
#include "data/cache/layout.h"

#include "core/vecmath.h"
#include "data/checkpoint/hf_config.h"
#include "data/file/h5.h"
#include "data/file/whole_file.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// Mantissas are noise to deflate; a higher level finds nothing more in them.
enum { DEFLATE_LEVEL = 1 };

struct kv_cache_writer {
    kv_whole_file target;
    kv_cache_info info;
    hid_t file, type; // type: of keys and values
    kv_cache_sets sets;
    int64_t first_row, n_done; // first_row: of a part, else -1
    char shown[PATH_MAX];      // the name that users know: of the file that a part is of
    void *narrow;              // one row of the widest layer
    void *buffer;              // [size] of kv_cache_writer_copy
    size_t size;
};

static kv_status cannot_write(const kv_cache_writer *w, const char *name, kv_error *err) {
    return kv_fail_within(err, kv_h5_error(err, KV_ERR_IO, w->file, "cannot write", name),
                          "%s (is the disk full?)", w->target.final);
}

// ---- Opening -------------------------------------------------------------------------------------------

// [n_rows, second, third]; third 0: two dimensions. Of a part as many of the rows as there are.
static kv_status create_set(kv_cache_writer *w, const char *name, hid_t type, int64_t second, int64_t third,
                            hid_t *set, kv_error *err) {
    const int rank = third > 0 ? 3 : 2;
    const hsize_t most[3] = {(hsize_t)w->info.n_rows, (hsize_t)second, (hsize_t)third};
    const hsize_t dims[3] = {w->first_row < 0 ? most[0] : 0, most[1], most[2]};
    hsize_t chunk[3] = {1, dims[1], dims[2]};
    const int64_t row_bytes = second * (third > 0 ? third : 1) * (int64_t)H5Tget_size(type);
    chunk[0] = (hsize_t)kv_cache_chunk_rows(w->info.n_rows, row_bytes);
    hid_t space = H5Screate_simple(rank, dims, most), links = H5Pcreate(H5P_LINK_CREATE);
    hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
    // Without times equal content makes equal files.
    if (space >= 0 && links >= 0 && layout >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0 &&
        H5Pset_obj_track_times(layout, false) >= 0 && H5Pset_chunk(layout, rank, chunk) >= 0 &&
        H5Pset_shuffle(layout) >= 0 && H5Pset_deflate(layout, DEFLATE_LEVEL) >= 0 &&
        H5Pset_fletcher32(layout) >= 0)
        *set = H5Dcreate2(w->file, name, type, space, links, layout, H5P_DEFAULT);
    if (space >= 0) H5Sclose(space);
    if (links >= 0) H5Pclose(links);
    if (layout >= 0) H5Pclose(layout);
    return *set >= 0 ? KV_OK : cannot_write(w, name, err);
}

static kv_status create_part(kv_cache_writer *w, kv_cache_part part, kv_error *err) {
    const kv_model_spec *spec = &kv_cache_part_model(&w->info, part)->spec;
    kv_status status = KV_OK;
    char name[KV_CACHE_NAME];
    for (int64_t i = 0; status == KV_OK && i < spec->n_layers; i++) {
        kv_cache_name(part, i, name);
        status = create_set(w, name, w->type, w->info.seq_len, kv_spec_kv_dim(spec, i),
                            &w->sets.parts[part][i], err);
    }
    return status;
}

static kv_status write_model(hid_t file, const char *group, const kv_cache_model *model, kv_error *err) {
    char *config = NULL;
    kv_status status = kv_hf_config_write(&model->spec, &config, err);
    if (status == KV_OK) status = kv_h5_set_string(file, group, "config", config, err);
    if (status == KV_OK) status = kv_h5_set_string(file, group, "fingerprint", model->fingerprint, err);
    if (status == KV_OK) status = kv_h5_set_string(file, group, "source", model->source, err);
    free(config);
    return status;
}

static kv_status write_attributes(hid_t file, const kv_cache_info *info, int64_t first_row, kv_error *err) {
    const struct {
        const char *name, *text;
    } texts[] = {{"format", "kv-cache"},
                 {"dtype", kv_cache_dtype_text(info->dtype)},
                 {"tokenizer", info->tokenizer},
                 {"shard", info->shard},
                 {"source", info->source}};
    const double temperature = kv_cache_temperature(info);
    kv_status status = kv_h5_set_i64(file, "/", "version", temperature == 1 ? 1 : 2, err);
    if (status == KV_OK && temperature != 1)
        status = kv_h5_set_f64(file, "/", "temperature", temperature, err);
    for (size_t i = 0; status == KV_OK && i < sizeof texts / sizeof *texts; i++)
        status = kv_h5_set_string(file, "/", texts[i].name, texts[i].text, err);
    if (status == KV_OK) status = kv_h5_set_i64(file, "/", "seq_len", info->seq_len, err);
    if (status == KV_OK) status = kv_h5_set_i64(file, "/", "top_k", info->top_k, err);
    if (status == KV_OK && first_row >= 0)
        status = kv_h5_set_i64(file, "/", KV_CACHE_FIRST_ROW, first_row, err);
    if (status == KV_OK) status = write_model(file, "/base", &info->base, err);
    if (status == KV_OK && kv_cache_has_aux(info)) status = write_model(file, "/aux", &info->aux, err);
    return status;
}

static kv_status write_norms(kv_cache_writer *w, const kv_key_norms *norms, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; status == KV_OK && w->info.base.spec.qk_norm && i < w->info.base.spec.n_layers; i++) {
        const kv_param *weight = norms->weight[i];
        float *wide = malloc((size_t)weight->cols * sizeof *wide);
        char name[KV_CACHE_NAME];
        if (!wide) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", w->target.final);
        kv_widen(wide, weight->data, weight->dtype, weight->cols);
        snprintf(name, sizeof name, "/base/k_norm/%" PRIi64, i);
        if (!kv_all_finite(wide, weight->cols))
            status = kv_fail(err, KV_ERR_NOT_FINITE,
                             "%s: %s has values that are not finite: the base's weights are damaged",
                             w->target.final, name);
        else
            status = kv_h5_write(w->file, name, H5T_NATIVE_FLOAT, wide, 1, &weight->cols, err);
        free(wide);
    }
    return status;
}

static kv_status create_logits(kv_cache_writer *w, kv_error *err) {
    const int64_t n = w->info.seq_len, k = w->info.top_k;
    if (k == 0) return KV_OK;
    kv_status status = create_set(w, "/logits/ids", H5T_NATIVE_INT32, n, k, &w->sets.ids, err);
    if (status == KV_OK)
        status = create_set(w, "/logits/values", H5T_NATIVE_FLOAT, n, k, &w->sets.values, err);
    if (status == KV_OK)
        status = create_set(w, "/logits/logsumexp", H5T_NATIVE_FLOAT, n, 0, &w->sets.logsumexp, err);
    return status;
}

static kv_status create_layout(kv_cache_writer *w, const kv_key_norms *norms, kv_error *err) {
    kv_status status = kv_h5_create(w->target.path, &w->file, err);
    if (status != KV_OK) return status;
    w->type = kv_cache_type(w->info.dtype);
    if (w->type < 0) return kv_h5_error(err, KV_ERR_MEMORY, w->file, "cannot make the type", "16-bit float");
    status = create_set(w, "/tokens", H5T_NATIVE_INT32, w->info.seq_len + 1, 0, &w->sets.tokens, err);
    for (int part = 0;
         status == KV_OK && part < (kv_cache_has_aux(&w->info) ? KV_CACHE_PARTS : KV_CACHE_AUX_KEY); part++)
        status = create_part(w, (kv_cache_part)part, err);
    if (status == KV_OK) status = create_logits(w, err);
    if (status == KV_OK) status = write_norms(w, norms, err);
    return status == KV_OK ? write_attributes(w->file, &w->info, w->first_row, err) : status;
}

// `path`: of the file, or of the part `first_row` of the file `shown`.
static kv_status open_writer(const char *path, const char *shown, int64_t first_row,
                             const kv_cache_info *info, const kv_key_norms *norms, kv_cache_writer **writer,
                             kv_error *err) {
    *writer = NULL;
    kv_cache_writer *w = malloc(sizeof *w);
    if (!w) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    *w = (kv_cache_writer){.info = *info, .file = -1, .type = -1, .first_row = first_row};
    kv_cache_sets_none(&w->sets);
    snprintf(w->shown, sizeof w->shown, "%s", shown);
    int64_t widest = 0;
    for (int part = 0; part < KV_CACHE_PARTS; part++) {
        const kv_model_spec *spec = &kv_cache_part_model(info, (kv_cache_part)part)->spec;
        for (int64_t i = 0; i < spec->n_layers; i++)
            widest = kv_spec_kv_dim(spec, i) > widest ? kv_spec_kv_dim(spec, i) : widest;
    }
    w->narrow = malloc((size_t)(info->seq_len * widest) * sizeof(float));
    kv_status status = w->narrow ? kv_whole_file_begin(&w->target, path, err)
                                 : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    if (status == KV_OK) status = create_layout(w, norms, err);
    if (status == KV_OK) {
        *writer = w;
    } else {
        kv_whole_file_end(&w->target, status, err);
        kv_cache_writer_free(w);
    }
    return status;
}

kv_status kv_cache_writer_open(const char *path, const kv_cache_info *info, const kv_key_norms *norms,
                               kv_cache_writer **writer, kv_error *err) {
    return open_writer(path, path, -1, info, norms, writer, err);
}

kv_status kv_cache_writer_open_part(const char *path, const char *file, int64_t first_row,
                                    const kv_cache_info *info, const kv_key_norms *norms,
                                    kv_cache_writer **writer, kv_error *err) {
    return open_writer(path, file, first_row, info, norms, writer, err);
}

// ---- Rows ----------------------------------------------------------------------------------------------

// x[n] belongs to a row of what is written here. What is not finite is no cache in any type.
static kv_status check_values(const kv_cache_writer *w, const char *name, int64_t row, kv_dtype dtype,
                              const float *x, int64_t n, kv_error *err) {
    const float most = dtype == KV_F16 ? 65504 : dtype == KV_BF16 ? 0x1.fep127f : 0x1.fffffep127f;
    row += w->first_row < 0 ? 0 : w->first_row;
    for (int64_t i = 0; i < n; i++) {
        if (fabsf(x[i]) <= most) continue;
        if (!isfinite(x[i]))
            return kv_fail(err, KV_ERR_NOT_FINITE,
                           "%s: row %" PRIi64 " of %s: %s has the value %g, which is not finite: the "
                           "model's weights are NaN or infinite, or its numbers grew too large for float32",
                           w->shown, row + 1, w->info.source, name, (double)x[i]);
        return kv_fail(err, KV_ERR_RANGE, "%s: %s has the value %g, which %s cannot hold (bf16 and f32 can)",
                       w->shown, name, (double)x[i], kv_cache_dtype_text(dtype));
    }
    return KV_OK;
}

static kv_status add_part(kv_cache_writer *w, kv_cache_part part, const kv_cache_rows *rows,
                          kv_tensor *const *tensors, kv_error *err) {
    const kv_model_spec *spec = &kv_cache_part_model(&w->info, part)->spec;
    char name[KV_CACHE_NAME];
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const int64_t size = w->info.seq_len * kv_spec_kv_dim(spec, i);
        kv_cache_name(part, i, name);
        for (int64_t r = 0; r < rows->n_rows; r++) {
            const float *x = tensors[i]->data + r * size;
            kv_status status = check_values(w, name, w->n_done + r, w->info.dtype, x, size, err);
            if (status != KV_OK) return status;
            kv_narrow(w->narrow, x, w->info.dtype, size);
            if (!kv_cache_put_rows(w->sets.parts[part][i], w->type, w->n_done + r, 1, w->narrow))
                return cannot_write(w, name, err);
        }
    }
    return KV_OK;
}

static kv_status add_logits(kv_cache_writer *w, const kv_topk_teacher *t, int64_t n, kv_error *err) {
    if (w->info.top_k == 0) return KV_OK;
    for (int64_t r = 0; r < n; r++) {
        const int64_t tokens = w->info.seq_len, first = r * tokens;
        kv_status status =
            check_values(w, "/logits/logsumexp", w->n_done + r, KV_F32, t->logsumexp + first, tokens, err);
        if (status == KV_OK)
            status = check_values(w, "/logits/values", w->n_done + r, KV_F32, t->logits + first * t->k,
                                  tokens * t->k, err);
        if (status != KV_OK) return status;
    }
    if (!kv_cache_put_rows(w->sets.ids, H5T_NATIVE_INT32, w->n_done, n, t->ids) ||
        !kv_cache_put_rows(w->sets.values, H5T_NATIVE_FLOAT, w->n_done, n, t->logits) ||
        !kv_cache_put_rows(w->sets.logsumexp, H5T_NATIVE_FLOAT, w->n_done, n, t->logsumexp))
        return cannot_write(w, "/logits", err);
    return KV_OK;
}

static bool set_rows(void *context, hid_t *set) {
    const kv_cache_writer *w = context;
    hsize_t dims[H5S_MAX_RANK];
    hid_t space = H5Dget_space(*set);
    bool ok = space >= 0 && H5Sget_simple_extent_dims(space, dims, NULL) > 0;
    if (space >= 0) H5Sclose(space);
    dims[0] = (hsize_t)w->n_done;
    return ok && H5Dset_extent(*set, dims) >= 0;
}

// A part has n rows; those behind n_done are none yet.
static kv_status stretch(kv_cache_writer *w, int64_t n, kv_error *err) {
    const int64_t done = w->n_done;
    w->n_done = n;
    const bool ok = w->first_row < 0 || kv_cache_sets_each(&w->sets, set_rows, w);
    w->n_done = done;
    return ok ? KV_OK : cannot_write(w, "/tokens", err);
}

static kv_status add_rows(kv_cache_writer *w, const kv_cache_rows *rows, kv_error *err) {
    kv_tensor *const *const parts[KV_CACHE_PARTS] = {rows->base_raw_k, rows->base_v, rows->aux_raw_k,
                                                     rows->aux_v};
    if (!kv_cache_put_rows(w->sets.tokens, H5T_NATIVE_INT32, w->n_done, rows->n_rows, rows->tokens))
        return cannot_write(w, "/tokens", err);
    kv_status status = KV_OK;
    for (int part = 0;
         status == KV_OK && part < (kv_cache_has_aux(&w->info) ? KV_CACHE_PARTS : KV_CACHE_AUX_KEY); part++)
        status = add_part(w, (kv_cache_part)part, rows, parts[part], err);
    return status == KV_OK ? add_logits(w, &rows->topk, rows->n_rows, err) : status;
}

static kv_status check_room(const kv_cache_writer *w, int64_t n, kv_error *err) {
    if (n <= w->info.n_rows - w->n_done) return KV_OK;
    return kv_fail(err, KV_ERR_RANGE, "%s: more than its %" PRIi64 " rows", w->target.final, w->info.n_rows);
}

kv_status kv_cache_writer_add(kv_cache_writer *w, const kv_cache_rows *rows, kv_error *err) {
    kv_status status = check_room(w, rows->n_rows, err);
    if (status == KV_OK) status = stretch(w, w->n_done + rows->n_rows, err);
    if (status == KV_OK) status = add_rows(w, rows, err);
    if (status == KV_OK) w->n_done += rows->n_rows;
    return status;
}

// ---- Rows of another file ------------------------------------------------------------------------------

struct copying {
    kv_cache_sets *from; // the same ones as those it goes to
    kv_cache_writer *to;
    int64_t row;
};

// The dataset of `from` that stands where `set` stands in the writer's.
static hid_t matching(const struct copying *c, const hid_t *set) {
    const ptrdiff_t at = (const char *)set - (const char *)&c->to->sets;
    return *(const hid_t *)((const char *)c->from + at);
}

static bool copy_set(void *context, hid_t *set) {
    struct copying *c = context;
    const hid_t from = matching(c, set);
    return from >= 0 && kv_cache_copy_row(from, c->row, *set, c->to->n_done, &c->to->buffer, &c->to->size);
}

kv_status kv_cache_writer_copy(kv_cache_writer *w, kv_cache *from, int64_t row, kv_error *err) {
    struct copying c = {kv_cache_sets_of(from), w, row};
    kv_status status = check_room(w, 1, err);
    if (status == KV_OK) status = stretch(w, w->n_done + 1, err);
    if (status == KV_OK && !kv_cache_sets_each(&w->sets, copy_set, &c))
        status = kv_fail_within(err, kv_h5_error(err, KV_ERR_IO, w->file, "cannot copy a row of", "a part"),
                                "%s (is the disk full?)", w->target.final);
    if (status == KV_OK) w->n_done++;
    return status;
}

int64_t kv_cache_writer_bytes(const kv_cache_writer *w) {
    hsize_t bytes = 0;
    return w->file >= 0 && H5Fget_filesize(w->file, &bytes) >= 0 ? (int64_t)bytes : 0;
}

// ---- Closing -------------------------------------------------------------------------------------------

// False when any of it failed; everything is closed all the same.
static bool close_sets(kv_cache_writer *w) {
    const bool ok = kv_cache_sets_close(&w->sets);
    if (w->type >= 0) H5Tclose(w->type);
    w->type = H5I_INVALID_HID;
    return ok;
}

kv_status kv_cache_writer_finish(kv_cache_writer *w, kv_error *err) {
    const bool complete = w->first_row < 0 ? w->n_done == w->info.n_rows : w->n_done > 0;
    if (!complete)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s: %" PRIi64 " rows, expected %" PRIi64, w->target.final,
                       w->n_done, w->info.n_rows);
    kv_status status = stretch(w, w->n_done, err);
    if (!close_sets(w) && status == KV_OK)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot write the cache (is the disk full?)", w->target.final);
    if (status == KV_OK) status = kv_h5_close(&w->file, err);
    return kv_whole_file_end(&w->target, status, err);
}

int64_t kv_cache_writer_rows(const kv_cache_writer *w) {
    return w->n_done;
}

void kv_cache_writer_free(kv_cache_writer *w) {
    if (!w) return;
    close_sets(w);
    if (w->file >= 0) H5Fclose(w->file);
    kv_whole_file_abandon(&w->target);
    free(w->narrow);
    free(w->buffer);
    free(w);
}
