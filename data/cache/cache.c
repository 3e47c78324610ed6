#include "data/cache/layout.h"
#include "data/checkpoint/hf_config.h"
#include "data/file/h5.h"
#include "data/file/mistaken.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 1 << 16, CHUNK_CACHE = 4 << 20 };

struct kv_cache {
    char *path;
    kv_cache_info info;
    hid_t file, type;
    kv_cache_sets sets;
    void *narrow; // one row of the widest layer, as stored
};

// ---- What a file says of itself ------------------------------------------------------------------------

static kv_status wrong(const char *path, kv_error *err, const char *what) {
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged cache: %s", path, what);
}

static kv_status read_model(hid_t file, const char *path, const char *group, kv_cache_model *model,
                            kv_error *err) {
    char *config = malloc(MAX_CONFIG), name[KV_CACHE_NAME];
    if (!config) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    snprintf(name, sizeof name, "config of %s", group);
    kv_status status = kv_h5_attr_string(file, group, "config", config, MAX_CONFIG, err);
    if (status == KV_OK) {
        status = kv_hf_config_parse(name, config, &model->spec, err);
        if (status != KV_OK) status = kv_fail_within(err, KV_ERR_FORMAT, "%s", path);
    }
    if (status == KV_OK)
        status =
            kv_h5_attr_string(file, group, "fingerprint", model->fingerprint, sizeof model->fingerprint, err);
    if (status == KV_OK)
        status = kv_h5_attr_string(file, group, "source", model->source, sizeof model->source, err);
    if (status == KV_OK && strlen(model->fingerprint) != sizeof model->fingerprint - 1)
        status = wrong(path, err, "a fingerprint is not 16 digits long");
    free(config);
    return status;
}

// Rows are counted by /tokens, whose shape also has to fit the attributes.
static kv_status read_rows(hid_t file, const char *path, kv_cache_info *info, kv_error *err) {
    hsize_t dims[2] = {0, 0};
    hid_t set = kv_h5_exists(file, "tokens") ? H5Dopen2(file, "tokens", H5P_DEFAULT) : H5I_INVALID_HID;
    hid_t space = set >= 0 ? H5Dget_space(set) : H5I_INVALID_HID;
    const bool ok = space >= 0 && H5Sget_simple_extent_ndims(space) == 2 &&
                    H5Sget_simple_extent_dims(space, dims, NULL) == 2 &&
                    dims[1] == (hsize_t)info->seq_len + 1 && dims[0] > 0 && dims[0] < INT32_MAX;
    if (space >= 0) H5Sclose(space);
    if (set >= 0) H5Dclose(set);
    info->n_rows = (int64_t)dims[0];
    return ok ? KV_OK : wrong(path, err, "no tokens of [rows, seq_len + 1]");
}

static kv_status read_header(hid_t file, const char *path, kv_cache_info *info, kv_error *err) {
    char format[32] = "", dtype[8] = "";
    int64_t version = 0;
    if (H5Aexists(file, "format") <= 0 ||
        kv_h5_attr_string(file, "/", "format", format, sizeof format, NULL) != KV_OK ||
        strcmp(format, "kv-cache") != 0)
        return kv_fail(
            err, KV_ERR_FORMAT,
            "%s: not a cache (attribute \"format\" is \"%s\", expected \"kv-cache\"; make one with "
            "kvdata cache)",
            path, format);
    kv_status status = kv_h5_attr_i64(file, "/", "version", &version, err);
    if (status == KV_OK)
        status = kv_check_version(path, KV_FILE_CACHE, version, 1, 2, "kvdata cache makes it again", err);
    if (status == KV_OK) status = kv_h5_attr_string(file, "/", "dtype", dtype, sizeof dtype, err);
    if (status == KV_OK && !kv_cache_dtype_parse(dtype, &info->dtype))
        return kv_fail(err, KV_ERR_FORMAT, "%s: dtype is \"%s\", expected f32, bf16 or f16", path, dtype);
    if (status == KV_OK) status = kv_h5_attr_i64(file, "/", "seq_len", &info->seq_len, err);
    if (status == KV_OK) status = kv_h5_attr_i64(file, "/", "top_k", &info->top_k, err);
    if (status == KV_OK && (info->seq_len < 1 || info->seq_len > INT32_MAX - 1 || info->top_k < 0 ||
                            info->top_k > KV_CACHE_MAX_TOP_K))
        return wrong(path, err, "seq_len or top_k makes no sense");
    info->temperature = 1;
    if (status == KV_OK && version > 1)
        status = kv_h5_attr_f64(file, "/", "temperature", &info->temperature, err);
    if (status == KV_OK &&
        !(info->temperature >= KV_CACHE_MIN_TEMPERATURE && info->temperature <= KV_CACHE_MAX_TEMPERATURE))
        return wrong(path, err, "temperature makes no sense");
    return status;
}

static kv_status read_attributes(hid_t file, const char *path, kv_cache_info *info, kv_error *err) {
    *info = (kv_cache_info){0};
    kv_status status = read_header(file, path, info, err);
    if (status == KV_OK)
        status = kv_h5_attr_string(file, "/", "tokenizer", info->tokenizer, sizeof info->tokenizer, err);
    if (status == KV_OK) status = kv_h5_attr_string(file, "/", "shard", info->shard, sizeof info->shard, err);
    if (status == KV_OK)
        status = kv_h5_attr_string(file, "/", "source", info->source, sizeof info->source, err);
    if (status == KV_OK) status = read_model(file, path, "/base", &info->base, err);
    if (status == KV_OK && kv_h5_exists(file, "/aux"))
        status = read_model(file, path, "/aux", &info->aux, err);
    if (status == KV_OK && info->top_k > info->base.spec.vocab_size)
        status = wrong(path, err, "top_k is more than the base's vocabulary");
    return status == KV_OK ? read_rows(file, path, info, err) : status;
}

kv_status kv_cache_read_info(const char *path, kv_cache_info *info, kv_error *err) {
    hid_t file;
    *info = (kv_cache_info){0};
    kv_status status = kv_h5_open(path, &file, err);
    if (status == KV_OK) status = read_attributes(file, path, info, err);
    if (file >= 0) H5Fclose(file);
    return kv_mistaken(path, KV_FILE_CACHE, status, err);
}

// ---- Opening -------------------------------------------------------------------------------------------

// Whole rows are read at random, mostly each once an epoch: chunks of one row are not worth keeping, of those
// of several the others may be wanted soon.
static hid_t access_list(const kv_cache *c, int64_t row_bytes) {
    hid_t list = H5Pcreate(H5P_DATASET_ACCESS);
    const bool single = kv_cache_chunk_rows(c->info.n_rows, row_bytes) == 1;
    const int64_t n = 2 * (c->info.base.spec.n_layers + c->info.aux.spec.n_layers) + 4;
    if (list >= 0) H5Pset_chunk_cache(list, 521, single ? 0 : (size_t)(CHUNK_CACHE / n), 1);
    return list;
}

// Opens a dataset that must be [n_rows, second, third] (third 0: two dimensions) of exactly this type.
static kv_status open_set(kv_cache *c, const char *name, hid_t type, int64_t second, int64_t third,
                          hid_t *set, kv_error *err) {
    const int rank = third > 0 ? 3 : 2;
    hsize_t dims[3] = {0};
    char why[128];
    if (!kv_h5_exists(c->file, name)) {
        snprintf(why, sizeof why, "%s is missing", name);
        return wrong(c->path, err, why);
    }
    hid_t list = access_list(c, second * (third > 0 ? third : 1) * (int64_t)H5Tget_size(type));
    *set = list >= 0 ? H5Dopen2(c->file, name, list) : H5I_INVALID_HID;
    if (list >= 0) H5Pclose(list);
    hid_t found = *set >= 0 ? H5Dget_type(*set) : H5I_INVALID_HID;
    hid_t space = *set >= 0 ? H5Dget_space(*set) : H5I_INVALID_HID;
    bool ok = space >= 0 && H5Sget_simple_extent_ndims(space) == rank &&
              H5Sget_simple_extent_dims(space, dims, NULL) == rank && dims[0] == (hsize_t)c->info.n_rows &&
              dims[1] == (hsize_t)second && dims[2] == (hsize_t)third;
    ok = ok && found >= 0 && H5Tequal(found, type) > 0;
    if (space >= 0) H5Sclose(space);
    if (found >= 0) H5Tclose(found);
    if (ok) return KV_OK;
    int used = snprintf(why, sizeof why, "%s is not [%" PRIi64 ", %" PRIi64, name, c->info.n_rows, second);
    if (third > 0) used += snprintf(why + used, sizeof why - (size_t)used, ", %" PRIi64, third);
    snprintf(why + used, sizeof why - (size_t)used, "] of the type it says");
    return wrong(c->path, err, why);
}

static kv_status open_part(kv_cache *c, kv_cache_part part, kv_error *err) {
    const kv_model_spec *spec = &kv_cache_part_model(&c->info, part)->spec;
    kv_status status = KV_OK;
    char name[KV_CACHE_NAME];
    for (int64_t i = 0; status == KV_OK && i < spec->n_layers; i++) {
        kv_cache_name(part, i, name);
        status = open_set(c, name, c->type, c->info.seq_len, kv_spec_kv_dim(spec, i), &c->sets.parts[part][i],
                          err);
    }
    return status;
}

static kv_status open_sets(kv_cache *c, kv_error *err) {
    const int64_t n = c->info.seq_len, k = c->info.top_k;
    kv_status status = open_set(c, "/tokens", H5T_NATIVE_INT32, n + 1, 0, &c->sets.tokens, err);
    for (int part = 0;
         status == KV_OK && part < (kv_cache_has_aux(&c->info) ? KV_CACHE_PARTS : KV_CACHE_AUX_KEY); part++)
        status = open_part(c, (kv_cache_part)part, err);
    if (status != KV_OK || k == 0) return status;
    status = open_set(c, "/logits/ids", H5T_NATIVE_INT32, n, k, &c->sets.ids, err);
    if (status == KV_OK) status = open_set(c, "/logits/values", H5T_NATIVE_FLOAT, n, k, &c->sets.values, err);
    if (status == KV_OK)
        status = open_set(c, "/logits/logsumexp", H5T_NATIVE_FLOAT, n, 0, &c->sets.logsumexp, err);
    return status;
}

static kv_status allocate_row(kv_cache *c, kv_error *err) {
    int64_t widest = 1, size;
    for (int part = 0; part < KV_CACHE_PARTS; part++) {
        const kv_model_spec *spec = &kv_cache_part_model(&c->info, (kv_cache_part)part)->spec;
        for (int64_t i = 0; i < spec->n_layers; i++)
            widest = kv_spec_kv_dim(spec, i) > widest ? kv_spec_kv_dim(spec, i) : widest;
    }
    const bool fits = !__builtin_mul_overflow(widest, c->info.seq_len * (int64_t)sizeof(float), &size);
    c->narrow = fits ? malloc((size_t)size) : NULL;
    return c->narrow ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for a row", c->path);
}

kv_status kv_cache_open(const char *path, kv_cache **cache, kv_error *err) {
    *cache = NULL;
    kv_cache *c = malloc(sizeof *c);
    if (!c) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    *c = (kv_cache){.path = strdup(path), .file = -1, .type = -1};
    kv_cache_sets_none(&c->sets);
    kv_status status =
        c->path ? kv_h5_open(path, &c->file, err) : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    if (status == KV_OK) status = read_attributes(c->file, path, &c->info, err);
    if (status == KV_OK) {
        c->type = kv_cache_type(c->info.dtype);
        status = c->type >= 0 ? allocate_row(c, err) : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    if (status == KV_OK) status = open_sets(c, err);
    if (status == KV_OK)
        *cache = c;
    else
        kv_cache_free(c);
    return kv_mistaken(path, KV_FILE_CACHE, status, err);
}

void kv_cache_free(kv_cache *c) {
    if (!c) return;
    kv_cache_sets_close(&c->sets);
    if (c->type >= 0) H5Tclose(c->type);
    if (c->file >= 0) H5Fclose(c->file);
    free(c->narrow);
    free(c->path);
    free(c);
}

kv_cache_sets *kv_cache_sets_of(kv_cache *cache) {
    return &cache->sets;
}

const kv_cache_info *kv_cache_about(const kv_cache *cache) {
    return &cache->info;
}

// ---- Reading -------------------------------------------------------------------------------------------

static kv_status unreadable(const kv_cache *c, const char *name, int64_t row, kv_error *err) {
    char what[64];
    snprintf(what, sizeof what, "damaged cache: cannot read row %" PRIi64 " of", row);
    return kv_h5_error(err, KV_ERR_FORMAT, c->file, what, name);
}

static kv_status read_row(const kv_cache *c, hid_t set, hid_t type, const char *name, int64_t row, void *out,
                          kv_error *err) {
    if (row < 0 || row >= c->info.n_rows)
        return kv_fail(err, KV_ERR_RANGE, "%s: has %" PRIi64 " rows, there is no row %" PRIi64, c->path,
                       c->info.n_rows, row);
    return kv_cache_get_rows(set, type, row, 1, out) ? KV_OK : unreadable(c, name, row, err);
}

static kv_status check_finite(const kv_cache *c, const char *name, int64_t row, const float *x, int64_t n,
                              kv_error *err) {
    int64_t bad = 0;
    for (int64_t i = 0; i < n; i++) bad += !(fabsf(x[i]) < INFINITY);
    if (bad == 0) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT,
                   "%s: damaged cache: row %" PRIi64 " of '%s' has %" PRIi64
                   " values that are no finite numbers",
                   c->path, row, name, bad);
}

kv_status kv_cache_read(kv_cache *c, kv_cache_part part, int64_t layer, int64_t row, float *out,
                        kv_error *err) {
    const int64_t n = c->info.seq_len * kv_spec_kv_dim(&kv_cache_part_model(&c->info, part)->spec, layer);
    char name[KV_CACHE_NAME];
    kv_cache_name(part, layer, name);
    kv_status status = read_row(c, c->sets.parts[part][layer], c->type, name, row, c->narrow, err);
    if (status != KV_OK) return status;
    kv_widen(out, c->narrow, c->info.dtype, n);
    return check_finite(c, name, row, out, n, err);
}

kv_status kv_cache_read_tokens(kv_cache *c, int64_t row, int32_t *out, kv_error *err) {
    return read_row(c, c->sets.tokens, H5T_NATIVE_INT32, "/tokens", row, out, err);
}

// Probabilities that sum up to more than 1 would be a teacher that is none.
static kv_status check_topk(const kv_cache *c, int64_t row, const int32_t *ids, const float *logits,
                            const float *logsumexp, kv_error *err) {
    const int64_t k = c->info.top_k;
    const double temperature = c->info.temperature;
    for (int64_t t = 0; t < c->info.seq_len; t++) {
        double sum = 0;
        bool ok = true;
        for (int64_t i = 0; i < k; i++) {
            sum += exp((double)logits[t * k + i] / temperature - (double)logsumexp[t]);
            ok = ok && ids[t * k + i] >= 0 && ids[t * k + i] < c->info.base.spec.vocab_size;
        }
        if (ok && sum <= 1 + 1e-3) continue;
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: damaged cache: the logits of row %" PRIi64 ", token %" PRIi64
                       " have ids outside the vocabulary or probabilities of %g in all",
                       c->path, row, t, sum);
    }
    return KV_OK;
}

kv_status kv_cache_read_topk(kv_cache *c, int64_t row, int32_t *ids, float *logits, float *logsumexp,
                             kv_error *err) {
    kv_status status = read_row(c, c->sets.ids, H5T_NATIVE_INT32, "/logits/ids", row, ids, err);
    if (status == KV_OK)
        status = read_row(c, c->sets.values, H5T_NATIVE_FLOAT, "/logits/values", row, logits, err);
    if (status == KV_OK)
        status = read_row(c, c->sets.logsumexp, H5T_NATIVE_FLOAT, "/logits/logsumexp", row, logsumexp, err);
    return status == KV_OK ? check_topk(c, row, ids, logits, logsumexp, err) : status;
}
