// Key by key, as people have to find the one that differs: rank 0's is sent to all.
#include "data/config/same.h"

#include "data/ranks/ranks.h"

#include <stdlib.h>
#include <string.h>

static kv_status compare_with(const kv_config *config, const kv_config *first, const char *const *ignored,
                              size_t n_ignored, kv_error *err) {
    kv_config_difference d;
    if (!kv_config_compare(config, first, ignored, n_ignored, &d)) return KV_OK;
    kv_config_fail(config, err, d.key, "found %s, expected %s as rank 0 (%s) has it", d.a, d.b,
                   kv_rank_host(0));
    if (err) err->code = KV_ERR_MISMATCH;
    return KV_ERR_MISMATCH;
}

// The text of rank 0, on all; NULL: out of memory there.
static kv_status share_text(const kv_config *config, char **text, size_t *size, kv_error *err) {
    *text = kv_rank_leads() ? kv_config_text(config) : NULL;
    uint64_t n = *text ? strlen(*text) : 0;
    kv_ranks_broadcast(&n, sizeof n, 0);
    *size = (size_t)n;
    if (!kv_rank_leads()) *text = malloc(n + 1);
    kv_status status = kv_ranks_agree(*text ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory"), err);
    if (status == KV_OK) kv_ranks_broadcast(*text, *size, 0);
    return status;
}

kv_status kv_config_same(const kv_config *config, const char *const *ignored, size_t n_ignored,
                         kv_error *err) {
    char *text;
    size_t size;
    kv_config *first = NULL;
    if (kv_n_ranks() == 1) return KV_OK;
    kv_status status = share_text(config, &text, &size, err);
    if (status == KV_OK && !kv_rank_leads()) {
        text[size] = '\0';
        status = kv_config_read_text(text, &first, err);
        if (status == KV_OK) status = compare_with(config, first, ignored, n_ignored, err);
        kv_config_free(first);
    }
    free(text);
    return kv_ranks_agree(status, err);
}
