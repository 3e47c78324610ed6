// Which of a sweep's runs are whose: of a pattern of names, of one share among several, of one rank among several.
#include "data/ranks/ranks.h"
#include "train/sweep/sweep.h"

#include <fnmatch.h>
#include <stdlib.h>

static kv_status no_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the sweep");
}

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
