// Reads a whole cache file, as far as training ever will.
#include "data/cache/layout.h"

#include <stdlib.h>

static kv_status verify_layers(kv_cache *cache, int64_t row, float *values, kv_error *err) {
    const kv_cache_info *info = kv_cache_about(cache);
    kv_status status = KV_OK;
    for (int part = 0; part < (kv_cache_has_aux(info) ? KV_CACHE_PARTS : KV_CACHE_AUX_KEY); part++)
        for (int64_t i = 0;
             status == KV_OK && i < kv_cache_part_model(info, (kv_cache_part)part)->spec.n_layers; i++)
            status = kv_cache_read(cache, (kv_cache_part)part, i, row, values, err);
    return status;
}

// Room for one row of whatever is widest.
static size_t row_values(const kv_cache_info *info) {
    int64_t widest = info->top_k > 1 ? info->top_k : 1;
    for (int part = 0; part < KV_CACHE_PARTS; part++) {
        const kv_model_spec *spec = &kv_cache_part_model(info, (kv_cache_part)part)->spec;
        for (int64_t i = 0; i < spec->n_layers; i++)
            widest = kv_spec_kv_dim(spec, i) > widest ? kv_spec_kv_dim(spec, i) : widest;
    }
    return (size_t)((info->seq_len + 1) * widest);
}

kv_status kv_cache_verify(const char *path, kv_error *err) {
    kv_cache *cache = NULL;
    kv_status status = kv_cache_open(path, &cache, err);
    if (status != KV_OK) return status;
    const kv_cache_info *info = kv_cache_about(cache);
    const size_t n = row_values(info);
    float *values = malloc(n * sizeof *values), *logsumexp = malloc(n * sizeof *logsumexp);
    int32_t *ids = malloc(n * sizeof *ids);
    if (!values || !logsumexp || !ids) status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    for (int64_t row = 0; status == KV_OK && row < info->n_rows; row++) {
        status = kv_cache_read_tokens(cache, row, ids, err);
        if (status == KV_OK) status = verify_layers(cache, row, values, err);
        if (status == KV_OK && info->top_k > 0)
            status = kv_cache_read_topk(cache, row, ids, values, logsumexp, err);
    }
    free(values);
    free(logsumexp);
    free(ids);
    kv_cache_free(cache);
    return status;
}
