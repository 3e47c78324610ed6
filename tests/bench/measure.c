// Rounds of phases: each runs once in every turn, so that a slow spell of the machine hits all alike.
#include "core/gemm.h"
#include "data/system/console.h"
#include "tests/bench/bench.h"
#include "tests/bench/load.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_REPEATS = 7,
    LEAST_REPEATS = 3,
    MAX_PHASES = 24,
    PEER_REPEATS = 3,
    MOST_RUNS = 100,
    MAX_SAMPLES = MOST_REPEATS + PEER_REPEATS
};
static const double sample_seconds = 0.02; // a sample is the mean of as many runs as take so long
static const double patience = 3;          // seconds of a phase in a round, once it ran often enough
static const double long_seconds = 15;     // a phase that takes longer is run twice

void bench_fail(const kv_error *err) {
    fprintf(stderr, "kvbench: %s\n", err->message);
    exit(1);
}

void bench_out_of_memory(void) {
    fprintf(stderr, "kvbench: out of memory\n");
    exit(1);
}

void bench_obey_signals(void) {
    if (kv_console_interrupted()) exit(128 + kv_console_signal());
}

// ---- Samples -------------------------------------------------------------------------------------------

struct samples {
    double seconds[MAX_SAMPLES];
    int n;
};

struct timing {
    struct samples own[BENCH_MAX_THREADS]; // by number of threads
    struct samples peer;
    double spent, warm;
    int runs; // that a sample is the mean of
};

static void add(struct samples *s, double seconds) {
    if (s->n < MAX_SAMPLES && !isnan(seconds)) s->seconds[s->n++] = seconds;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(struct samples *s) {
    if (s->n == 0) return NAN;
    qsort(s->seconds, (size_t)s->n, sizeof *s->seconds, by_value);
    return (s->seconds[(s->n - 1) / 2] + s->seconds[s->n / 2]) / 2;
}

static double spread(const struct samples *sorted) {
    return sorted->n ? (sorted->seconds[3 * (sorted->n - 1) / 4] - sorted->seconds[(sorted->n - 1) / 4]) / 2
                     : NAN;
}

static double time_once(bench_phase *p) {
    if (p->prepare) p->prepare(p->context);
    const double start = kv_now();
    p->run(p->context);
    return kv_now() - start;
}

static double time_sample(bench_phase *p, const struct timing *t) {
    double seconds = 0;
    for (int i = 0; i < t->runs; i++) seconds += time_once(p);
    return seconds / t->runs;
}

// ---- A round -------------------------------------------------------------------------------------------

static void warm_up(const bench *b, bench_phase *p, struct timing *t) {
    bench_obey_signals();
    kv_gemm_flops_reset();
    t->warm = time_once(p); // memory is touched here for the first time
    p->flops = (double)kv_gemm_flops();
    t->runs = 1;
    if (b->options->quick || t->warm > 1) return;
    t->warm = time_once(p);
    if (t->warm < sample_seconds) t->runs = (int)fmin(MOST_RUNS, ceil(sample_seconds / t->warm));
}

static bool finished(const bench *b, const struct timing *t) {
    const int n = t->own[0].n;
    if (b->options->quick) return n >= 2;
    if (n >= MOST_REPEATS) return true;
    const int least = t->warm > long_seconds ? 1 : LEAST_REPEATS;
    return n >= least && t->spent > patience;
}

static void take_turn(bench *b, bench_phase *p, struct timing *t) {
    const bench_options *o = b->options;
    for (int i = 0; i < o->n_threads; i++) {
        bench_obey_signals();
        omp_set_num_threads(o->threads[i]);
        const double seconds = time_sample(p, t);
        add(&t->own[i], seconds);
        t->spent += seconds * t->runs;
    }
    p->limit = p->bound == BENCH_READING ? bench_limit_reading(&b->limits)
                                         : bench_limit_products(&b->limits, p->type, p->rows);
}

// PyTorch takes its turns behind ours, one phase after another: it keeps one model at a time.
static void ask_peer(const bench *b, bench_phase *p, struct timing *t) {
    if (!b->peers || !p->peer) return;
    const double warm = bench_peers_prepare(b->peers, p->peer);
    if (isnan(warm)) return;
    double spent = 0;
    for (int r = 0; r < PEER_REPEATS && (r == 0 || spent < patience); r++) {
        bench_obey_signals();
        const double seconds = warm > long_seconds ? warm : bench_peers_run(b->peers);
        add(&t->peer, seconds);
        spent += seconds;
        if (warm > long_seconds) break;
        add(&t->own[b->options->n_threads - 1], time_sample(p, t));
    }
}

// ---- What came of it -----------------------------------------------------------------------------------

static json_t *threads_json(const bench_options *o, const double *seconds) {
    json_t *threads = json_object();
    for (int i = 0; i < o->n_threads; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", o->threads[i]);
        json_object_set_new(threads, name, json_real(seconds[i]));
    }
    return threads;
}

static void record(bench *b, bench_phase *p, const double *seconds, int repeats, double fraction) {
    p->entry = json_pack("{s:s,s:s,s:f,s:f,s:i,s:f,s:f,s:f,s:f,s:f,s:s,s:f,s:f}", "name", p->name, "group",
                         p->group, "seconds", p->seconds, "spread", p->spread, "repeats", repeats, "tokens",
                         p->tokens, "ns_per_token", 1e9 * p->seconds / p->tokens, "flops", p->flops, "gflops",
                         p->flops / p->seconds / 1e9, "gbs", p->bytes / p->seconds / 1e9, "bound",
                         p->bound == BENCH_PRODUCTS ? "products" : "reading", "limit", p->limit, "fraction",
                         fraction);
    if (!p->entry || json_array_append_new(b->phases, p->entry)) bench_out_of_memory();
    if (b->options->n_threads > 1)
        json_object_set_new(p->entry, "threads", threads_json(b->options, seconds));
}

static void print(const bench *b, const bench_phase *p, const double *seconds, double fraction, double peer,
                  double others) {
    printf("%-40s %9.4g ms %10.4g ns/token %7.1f GFLOP/s", p->name, 1e3 * p->seconds,
           1e9 * p->seconds / p->tokens, p->flops / p->seconds / 1e9);
    if (p->bound == BENCH_READING)
        printf("  %3.0f %% of reading's %.1f GB/s", 100 * fraction, p->limit);
    else
        printf("  %3.0f %% of products' %.0f", 100 * fraction, p->limit);
    const bench_options *o = b->options;
    for (int i = 0; i + 1 < o->n_threads; i++)
        printf("; %.2f x %d thread%s", seconds[i] / p->seconds, o->threads[i], o->threads[i] == 1 ? "" : "s");
    if (!isnan(peer)) printf("; PyTorch %.4g ms, %.2f x", 1e3 * peer, peer / p->seconds);
    if (others > BENCH_DISTURBED) printf("; others took %.0f %% of the processors", 100 * others);
    putchar('\n');
    fflush(stdout);
}

static void conclude(bench *b, bench_phase *p, struct timing *t, double others) {
    const bench_options *o = b->options;
    double seconds[BENCH_MAX_THREADS];
    for (int i = 0; i < o->n_threads; i++) seconds[i] = median(&t->own[i]);
    const struct samples *own = &t->own[o->n_threads - 1];
    p->seconds = seconds[o->n_threads - 1], p->spread = spread(own);
    const double rate = (p->bound == BENCH_READING ? p->bytes : p->flops) / p->seconds / 1e9;
    const double fraction = rate / p->limit, peer = median(&t->peer);
    record(b, p, seconds, own->n, fraction);
    if (!isnan(peer)) json_object_set_new(p->entry, "torch_seconds", json_real(peer));
    json_object_set_new(p->entry, "others", json_real(others));
    print(b, p, seconds, fraction, peer, others);
    json_decref(p->peer);
    p->peer = NULL;
}

static void time_all(bench *b, bench_phase *const *phases, int n) {
    struct timing timings[MAX_PHASES] = {0};
    kv_progress progress;
    kv_progress_begin(&progress, stderr, phases[0]->group, (int64_t)n * MOST_REPEATS);
    omp_set_num_threads(b->options->threads[b->options->n_threads - 1]);
    for (int i = 0; i < n; i++) warm_up(b, phases[i], &timings[i]);
    bench_load load;
    bench_load_begin(&load);
    bench_limits_begin(&b->limits);
    bool going = true;
    for (int64_t r = 0; going; r++) {
        going = false;
        bench_limits_turn(&b->limits);
        for (int i = 0; i < n; i++) {
            kv_progress_show(&progress, r * n + i, phases[i]->name);
            if (finished(b, &timings[i])) continue;
            take_turn(b, phases[i], &timings[i]);
            going = true;
        }
    }
    const double others = bench_load_others(&load);
    if (progress.terminal) fputs("\r\033[K", stderr);
    for (int i = 0; i < n; i++) {
        ask_peer(b, phases[i], &timings[i]);
        conclude(b, phases[i], &timings[i], others);
    }
}

void bench_round(bench *b, bench_phase *phases, int n) {
    bench_phase *chosen[MAX_PHASES];
    int n_chosen = 0;
    if (n > MAX_PHASES) abort();
    for (int i = 0; i < n; i++) {
        phases[i].seconds = NAN, phases[i].entry = NULL;
        if (bench_wants_phase(b->options, phases[i].name)) {
            chosen[n_chosen++] = &phases[i];
        } else {
            json_decref(phases[i].peer);
            phases[i].peer = NULL;
        }
    }
    if (n_chosen > 0) time_all(b, chosen, n_chosen);
}

static void add_to(bench_phase *phase, const char *key, const char *name, double value) {
    if (!phase->entry || isnan(value)) return;
    json_t *group = json_object_get(phase->entry, key);
    if (!group) {
        group = json_object();
        json_object_set_new(phase->entry, key, group);
    }
    json_object_set_new(group, name, json_real(value));
}

void bench_add_ratio(bench_phase *phase, const char *name, double value) {
    add_to(phase, "ratios", name, value);
}

void bench_add_note(bench_phase *phase, const char *name, double value) {
    add_to(phase, "notes", name, value);
}
