// Runs are dealt out before the first begins, by what they will cost as far as that is known: nobody has to be asked for more work.
#include "train/sweep/share.h"

#include "data/ranks/ranks.h"
#include "data/system/number.h"

#include <fnmatch.h>
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

// ---- Of a sweep ----------------------------------------------------------------------------------------

// Runs of no steps have to begin and end, too, and go round.
static double tokens_of(const kv_train_config *config) {
    return 1 + (double)config->train.steps * (double)config->data.batch_size * (double)config->data.seq_len;
}

static double work_left(const kv_sweep_look *look) {
    const double done =
        look->changed || look->steps == 0 ? 0 : (double)look->steps_done / (double)look->steps;
    return 1 + look->flops * (1 - done);
}

// Runs of which something is asked, by their place among all.
struct chosen {
    size_t n, *run, *part;
    double *cost;
};

static kv_status room_for(const kv_sweep *sweep, struct chosen *c, kv_error *err) {
    const size_t n = sweep->n_runs + 1;
    *c = (struct chosen){.run = calloc(n, sizeof *c->run),
                         .part = calloc(n, sizeof *c->part),
                         .cost = calloc(n, sizeof *c->cost)};
    return c->run && c->part && c->cost ? KV_OK : no_memory(err);
}

static void free_chosen(struct chosen *c) {
    free(c->run);
    free(c->part);
    free(c->cost);
}

static void choose(struct chosen *c, size_t run, double cost) {
    c->run[c->n] = run;
    c->cost[c->n++] = cost;
}

kv_status kv_sweep_choose(const kv_sweep_args *args, kv_sweep *sweep, kv_error *err) {
    struct chosen c;
    kv_status status = room_for(sweep, &c, err);
    for (size_t i = 0; status == KV_OK && i < sweep->n_runs; i++) {
        kv_sweep_run *run = &sweep->runs[i];
        run->wanted = !args->only || fnmatch(args->only, run->name, 0) == 0;
        if (run->wanted) choose(&c, i, tokens_of(run->config));
    }
    sweep->n_matched = c.n;
    if (status == KV_OK && args->share.n > 1)
        status = kv_sweep_deal(c.cost, c.n, (size_t)args->share.n, c.part, err);
    for (size_t k = 0; status == KV_OK && args->share.n > 1 && k < c.n; k++)
        sweep->runs[c.run[k]].wanted = (int64_t)c.part[k] + 1 == args->share.i;
    free_chosen(&c);
    return status;
}

kv_status kv_sweep_share_ranks(kv_sweep *sweep, kv_error *err) {
    struct chosen c;
    kv_status status = room_for(sweep, &c, err);
    for (size_t i = 0; status == KV_OK && i < sweep->n_runs; i++)
        if (sweep->runs[i].wanted && sweep->runs[i].look.state == KV_SWEEP_TO_DO)
            choose(&c, i, work_left(&sweep->runs[i].look));
    if (status == KV_OK) status = kv_sweep_deal(c.cost, c.n, (size_t)kv_n_ranks(), c.part, err);
    for (size_t k = 0; status == KV_OK && k < c.n; k++) sweep->runs[c.run[k]].rank = (int)c.part[k];
    free_chosen(&c);
    return status;
}
