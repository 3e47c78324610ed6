// Things are dealt out before the first is begun, by what they will cost as far as that is known: nobody has to be asked for more.
#include "train/sweep/share.h"

#include "data/system/number.h"

#include <stdlib.h>
#include <string.h>

bool kv_sweep_read_share(const char *text, kv_sweep_share *share) {
    const char *at = text;
    int64_t i, n;
    *share = (kv_sweep_share){0};
    if (strspn(text, "0123456789/") != strlen(text) || !kv_take_whole(&at, &i) || *at++ != '/' ||
        !kv_read_whole(at, &n))
        return false;
    if (i >= 1 && i <= n) *share = (kv_sweep_share){.i = i, .n = n};
    return true;
}

static kv_status no_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the sweep");
}

// The dearest that is not dealt out yet, of several the first.
static size_t dearest(const double *cost, const bool *dealt, size_t n) {
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (!dealt[i] && (best == n || cost[i] > cost[best])) best = i;
    return best;
}

kv_status kv_sweep_deal(const double *cost, size_t n, size_t n_parts, size_t *part, kv_error *err) {
    double *load = calloc(n_parts, sizeof *load);
    bool *dealt = calloc(n + 1, sizeof *dealt);
    const kv_status status = load && dealt ? KV_OK : no_memory(err);
    for (size_t k = 0; status == KV_OK && k < n; k++) {
        const size_t i = dearest(cost, dealt, n);
        size_t least = 0;
        for (size_t p = 1; p < n_parts; p++)
            if (load[p] < load[least]) least = p;
        part[i] = least;
        load[least] += cost[i];
        dealt[i] = true;
    }
    free(load);
    free(dealt);
    return status;
}
