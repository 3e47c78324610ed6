// Static: what each rank asks is known before the first question, and nobody waits for anybody until all is answered.
#include "eval/evaluate/shares.h"

#include "data/ranks/ranks.h"
#include "eval/evaluate/units.h"

#include <stdlib.h>
#include <string.h>

// ---- Jobs ----------------------------------------------------------------------------------------------

// Blocks that one rank asks: one or, where systems go on from what others before them left, one of each system.
struct job {
    double cost;
    int64_t number;
    int32_t rank;
};

// Of one task, while it is dealt out: of all systems, or of one.
struct dealing {
    const kv_evaluation *e;
    kv_shares *shares;
    int64_t task;
    struct job *jobs; // [n_units]
    int64_t n_jobs;
    double *loads; // [n_ranks] of everything that was dealt out
};

static int32_t *owners_of(const kv_shares *shares, int64_t system, int64_t task) {
    return shares->owners + shares->begins[system * shares->n_tasks + task];
}

// A step of one token for each sequence reads all weights for few products: it takes as long as some of many tokens.
static double cost_of(const kv_evaluation *e, int64_t system, int64_t task, int64_t first, int64_t n) {
    static const double step = 4;
    const kv_benchmark *b = e->benchmarks[task];
    const int64_t units = b->n_units / b->n_items;
    double sum = 0;
    for (int64_t u = first; u < first + n; u++) {
        kv_unit_cost cost;
        kv_benchmark_cost(b, e->systems->items, system, u / units, &cost);
        sum += cost.reading + step * cost.steps;
    }
    return sum;
}

// Its units get the number of their job for the time being.
static void add_block(struct dealing *d, int64_t system, int64_t first, int64_t n, int64_t job) {
    int32_t *owners = owners_of(d->shares, system, d->task);
    for (; d->n_jobs <= job; d->n_jobs++) d->jobs[d->n_jobs] = (struct job){.number = d->n_jobs};
    d->jobs[job].cost += cost_of(d->e, system, d->task, first, n);
    for (int64_t u = first; u < first + n; u++) owners[u] = (int32_t)job;
}

static kv_status add_blocks(struct dealing *d, int64_t system, kv_error *err) {
    const kv_benchmark *b = d->e->benchmarks[d->task];
    int32_t *owners = owners_of(d->shares, system, d->task);
    kv_journal *journal;
    kv_status status = kv_units_open(d->e, system, d->task, &journal, err);
    if (status != KV_OK) return status;
    const int64_t end = kv_units_end(b, journal);
    for (int64_t u = 0; u < b->n_units; u++) owners[u] = -1;
    int64_t job = 0;
    for (int64_t first = 0, n; first < b->n_units; first += n, job++) {
        n = kv_units_block(d->e, system, d->task, first);
        if (first + n > end) break;
        if (!kv_journal_has(journal, first, n)) add_block(d, system, first, n, job);
    }
    kv_journal_close(journal);
    return KV_OK;
}

// ---- Dealing out ---------------------------------------------------------------------------------------

static int dearer(const void *left, const void *right) {
    const struct job *a = left, *b = right;
    if (a->cost != b->cost) return a->cost > b->cost ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

static int in_order(const void *left, const void *right) {
    const struct job *a = left, *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

static void deal(struct dealing *d) {
    qsort(d->jobs, (size_t)d->n_jobs, sizeof *d->jobs, dearer);
    for (int64_t i = 0; i < d->n_jobs; i++) {
        int least = 0;
        for (int r = 1; r < kv_n_ranks(); r++)
            if (d->loads[r] < d->loads[least]) least = r;
        d->jobs[i].rank = least;
        d->loads[least] += d->jobs[i].cost;
    }
    qsort(d->jobs, (size_t)d->n_jobs, sizeof *d->jobs, in_order);
}

static kv_status deal_systems(struct dealing *d, int64_t first, int64_t n, kv_error *err) {
    const int64_t n_units = d->e->benchmarks[d->task]->n_units;
    kv_status status = KV_OK;
    d->n_jobs = 0;
    for (int64_t s = first; s < first + n && status == KV_OK; s++) status = add_blocks(d, s, err);
    if (status != KV_OK) return status;
    deal(d);
    for (int64_t s = first; s < first + n; s++) {
        int32_t *owners = owners_of(d->shares, s, d->task);
        for (int64_t u = 0; u < n_units; u++)
            if (owners[u] >= 0) owners[u] = d->jobs[owners[u]].rank;
    }
    return KV_OK;
}

static kv_status deal_task(struct dealing *d, kv_error *err) {
    const kv_benchmark *b = d->e->benchmarks[d->task];
    const int64_t n_systems = d->e->config->n_systems, together = b->ops->kept ? n_systems : 1;
    kv_status status = KV_OK;
    d->jobs = malloc((size_t)b->n_units * sizeof *d->jobs + 1);
    if (!d->jobs) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld answers", (long long)b->n_units);
    for (int64_t s = 0; s < n_systems && status == KV_OK; s += together)
        status = deal_systems(d, s, together, err);
    free(d->jobs);
    return status;
}

static kv_status deal_all(const kv_evaluation *e, kv_shares *shares, kv_error *err) {
    struct dealing d = {.e = e, .shares = shares};
    d.loads = calloc((size_t)kv_n_ranks(), sizeof *d.loads);
    kv_status status = d.loads ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (; d.task < shares->n_tasks && status == KV_OK; d.task++) status = deal_task(&d, err);
    free(d.loads);
    return status;
}

// ---- All together --------------------------------------------------------------------------------------

static kv_status make_room(const kv_evaluation *e, kv_shares *shares, kv_error *err) {
    const int64_t n_systems = e->config->n_systems, n_tasks = e->config->n_tasks;
    *shares = (kv_shares){.n_tasks = n_tasks};
    shares->begins = calloc((size_t)(n_systems * n_tasks) + 1, sizeof *shares->begins);
    for (int64_t i = 0; shares->begins && i < n_systems * n_tasks; i++)
        shares->begins[i + 1] = shares->begins[i] + e->benchmarks[i % n_tasks]->n_units;
    if (shares->begins)
        shares->owners = malloc((size_t)shares->begins[n_systems * n_tasks] * sizeof *shares->owners + 1);
    return shares->owners ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for what each rank asks");
}

kv_status kv_shares_make(const kv_evaluation *e, kv_shares *shares, kv_error *err) {
    kv_status status = make_room(e, shares, err);
    if (status == KV_OK && kv_rank_leads()) status = deal_all(e, shares, err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) {
        const int64_t n = shares->begins[(int64_t)e->config->n_systems * shares->n_tasks];
        kv_ranks_broadcast(shares->owners, (size_t)n * sizeof *shares->owners, 0);
    } else {
        kv_shares_free(shares);
    }
    return status;
}

void kv_shares_free(kv_shares *shares) {
    free(shares->begins);
    free(shares->owners);
    *shares = (kv_shares){0};
}

const int32_t *kv_shares_of(const kv_shares *shares, int64_t system, int64_t task) {
    return owners_of(shares, system, task);
}

int64_t kv_shares_count(const kv_shares *shares, int64_t system, int64_t task, int rank) {
    const int64_t i = system * shares->n_tasks + task;
    int64_t n = 0;
    for (int64_t u = shares->begins[i]; u < shares->begins[i + 1]; u++) n += shares->owners[u] == rank;
    return n;
}
