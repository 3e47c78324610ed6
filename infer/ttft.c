// Prefills against the clock, cell by cell of a grid, whose memory is looked at before the first of them runs.
#include "infer/ttft.h"

#include "core/gemm.h"
#include "core/quantile.h"
#include "core/rng.h"
#include "data/system/memory.h"
#include "infer/memory.h"
#include "infer/session/engine.h"
#include "infer/session/sample.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Summary -------------------------------------------------------------------------------------------

kv_ttft kv_ttft_summary(double *samples, int64_t n) {
    kv_sort_doubles(samples, n);
    return (kv_ttft){.seconds = kv_quantile(samples, n, 0.5),
                     .spread = (kv_quantile(samples, n, 0.75) - kv_quantile(samples, n, 0.25)) / 2};
}

// ---- One cell ------------------------------------------------------------------------------------------

struct bench {
    const kv_system *systems;
    int64_t n, repeats;
    uint64_t seed;
    const kv_ttft_cell *cell;
    bool together;         // every system keeps its session through all turns
    kv_session **sessions; // [n]
    int32_t *ids;          // [batch_size, prompt_tokens]
    int64_t *lengths;      // [batch_size]
    int32_t *first;        // [batch_size]
    float *logits;         // [batch_size, largest vocabulary]
    double *samples;       // [n, repeats]
    kv_progress *progress;
    int64_t done; // timed prefills of all cells so far
};

static void free_bench(struct bench *b) {
    for (int64_t i = 0; b->sessions && i < b->n; i++) kv_session_free(b->sessions[i]);
    free(b->sessions);
    free(b->ids);
    free(b->lengths);
    free(b->first);
    free(b->logits);
    free(b->samples);
}

static kv_status prepare_bench(struct bench *b, kv_error *err) {
    const int64_t n_seq = b->cell->batch_size, n_tokens = b->cell->prompt_tokens, n_ids = n_seq * n_tokens;
    int64_t vocab_size = 0, smallest = INT64_MAX;
    for (int64_t i = 0; i < b->n; i++) {
        const int64_t size = b->systems[i].base->spec.vocab_size;
        const int64_t readable = kv_system_vocab_size(&b->systems[i]);
        vocab_size = size > vocab_size ? size : vocab_size;
        smallest = readable < smallest ? readable : smallest;
    }
    b->sessions = calloc((size_t)b->n, sizeof *b->sessions);
    b->ids = calloc((size_t)n_ids, sizeof *b->ids);
    b->lengths = calloc((size_t)n_seq, sizeof *b->lengths);
    b->first = calloc((size_t)n_seq, sizeof *b->first);
    b->logits = calloc((size_t)n_seq, (size_t)vocab_size * sizeof *b->logits);
    b->samples = calloc((size_t)b->n, (size_t)b->repeats * sizeof *b->samples);
    if (!b->sessions || !b->ids || !b->lengths || !b->first || !b->logits || !b->samples)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a batch of %" PRIi64 " x %" PRIi64 " tokens",
                       n_seq, n_tokens);
    const kv_rng rng = kv_rng_stream(b->seed, "ttft.prompts");
    for (int64_t i = 0; i < n_ids; i++)
        b->ids[i] = (int32_t)kv_rng_below(rng, (uint64_t)i, (uint64_t)smallest);
    for (int64_t s = 0; s < n_seq; s++) b->lengths[s] = n_tokens;
    return KV_OK;
}

static kv_status time_prefill(const struct bench *b, int64_t system, double *seconds, kv_error *err) {
    kv_session *session = b->sessions[system];
    kv_session_reset(session);
    const double start = kv_now();
    kv_status status = kv_session_prefill(session, b->ids, b->lengths, b->logits, err);
    *seconds = NAN;
    if (status == KV_ERR_NOT_FINITE) return KV_OK; // there is no first token to wait for
    if (status != KV_OK) return status;
    kv_argmax(b->logits, b->cell->batch_size, kv_session_vocab_size(session), b->first);
    *seconds = kv_now() - start;
    return KV_OK;
}

static void show(struct bench *b, uint64_t flops, double seconds) {
    b->done++;
    if (!b->progress) return;
    char note[96];
    snprintf(note, sizeof note, "%" PRIi64 " tokens x %" PRIi64 "  %.1f GFLOP/s", b->cell->prompt_tokens,
             b->cell->batch_size, seconds > 0 ? 1e-9 * (double)flops / seconds : 0);
    kv_progress_show(b->progress, b->done, note);
}

// A prefill that warms caches and memory up (repeat -1), or one that counts.
static kv_status run_prefill(struct bench *b, int64_t system, int64_t repeat, kv_error *err) {
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    double seconds;
    const uint64_t flops = kv_gemm_flops();
    kv_status status = time_prefill(b, system, &seconds, err);
    if (status != KV_OK || repeat < 0) return status;
    b->samples[system * b->repeats + repeat] = seconds;
    show(b, kv_gemm_flops() - flops, seconds);
    return KV_OK;
}

// Sessions that come and go have new memory, which the system hands out page by page at its first use: every
// turn then warms up for itself.
static kv_status take_turn(struct bench *b, int64_t system, int64_t repeat, kv_error *err) {
    kv_session **session = &b->sessions[system];
    const bool fresh = !*session;
    kv_status status = KV_OK;
    if (fresh)
        status =
            kv_session_create(&b->systems[system], b->cell->batch_size, b->cell->prompt_tokens, session, err);
    if (status == KV_OK && fresh) status = run_prefill(b, system, -1, err);
    if (status == KV_OK && repeat >= 0) status = run_prefill(b, system, repeat, err);
    if (b->together) return status;
    kv_session_free(*session);
    *session = NULL;
    return status;
}

static kv_status run_bench(struct bench *b, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t r = b->together ? -1 : 0; r < b->repeats; r++)
        for (int64_t i = 0; i < b->n && status == KV_OK; i++) status = take_turn(b, i, r, err);
    return status;
}

int64_t kv_ttft_bytes(const kv_system *systems, int64_t n, const kv_ttft_cell *cell) {
    double bytes = 0;
    for (int64_t i = 0; i < n; i++)
        bytes += kv_prefill_bytes(&systems[i], cell->batch_size, cell->prompt_tokens);
    return bytes < 0x1p62 ? (int64_t)bytes : INT64_MAX;
}

// ---- The grid ------------------------------------------------------------------------------------------

static kv_status check_context(const kv_system *systems, int64_t n, int64_t prompt_tokens, kv_error *err) {
    for (int64_t i = 0; i < n; i++) {
        const int64_t context = kv_system_context(&systems[i]);
        if (prompt_tokens > context)
            return kv_fail(err, KV_ERR_RANGE,
                           "timing a prompt of %" PRIi64 " tokens: system %" PRIi64
                           " has a context of %" PRIi64 "%s",
                           prompt_tokens, i + 1, context,
                           kv_pruning_lookahead(&systems[i].pruning) ? ", less the look-ahead" : "");
    }
    return KV_OK;
}

static kv_status check_cell(const kv_system *systems, int64_t n, const kv_ttft_cell *cell, int64_t available,
                            const char *by, kv_error *err) {
    if (cell->prompt_tokens < 1 || cell->batch_size < 1)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "timing needs at least one token and one sequence, not %" PRIi64 " tokens x %" PRIi64,
                       cell->prompt_tokens, cell->batch_size);
    kv_status status = check_context(systems, n, cell->prompt_tokens, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < n; i++) {
        const int64_t needed = kv_ttft_bytes(&systems[i], 1, cell);
        if (needed > available)
            return kv_fail(
                err, KV_ERR_MEMORY,
                "timing %" PRIi64 " tokens x %" PRIi64 ": system %" PRIi64
                " needs about %.1f GB beside the weights, expected at most the %.1f GB available%s%s",
                cell->prompt_tokens, cell->batch_size, i + 1, 1e-9 * (double)needed, 1e-9 * (double)available,
                by ? ": so much is left by " : "", by ? by : "");
    }
    return KV_OK;
}

static kv_status check_grid(const kv_system *systems, int64_t n, const kv_ttft_grid_args *args,
                            int64_t available, const char *by, kv_error *err) {
    if (args->repeats < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "timing needs at least one repeat, not %" PRIi64, args->repeats);
    kv_status status = KV_OK;
    for (int64_t c = 0; status == KV_OK && c < args->n_cells; c++)
        status = check_cell(systems, n, &args->cells[c], available, by, err);
    return status;
}

// What all say together is never as much as INT64_MAX, which stands for "too much to count". *by: NULL when the caller
// said how much there is.
static int64_t available_memory(const kv_ttft_grid_args *args, const char **by) {
    const kv_memory_limit limit =
        args->memory > 0 ? (kv_memory_limit){args->memory, NULL} : kv_memory_left("");
    *by = limit.by;
    return limit.left < INT64_MAX ? limit.left : INT64_MAX - 1;
}

bool kv_ttft_fits(const kv_system *systems, int64_t n, const kv_ttft_cell *cell) {
    const char *by;
    const int64_t available = available_memory(&(kv_ttft_grid_args){0}, &by);
    return check_cell(systems, n, cell, available - available / 16, by, NULL) == KV_OK;
}

kv_status kv_ttft_grid(const kv_system *systems, int64_t n, const kv_ttft_grid_args *args,
                       kv_progress *progress, kv_ttft *ttft, double *samples, kv_error *err) {
    if (n < 1) return KV_OK;
    const char *by;
    const int64_t repeats = args->repeats, available = available_memory(args, &by);
    int64_t done = 0;
    kv_status status = check_grid(systems, n, args, available, by, err);
    for (int64_t c = 0; status == KV_OK && c < args->n_cells; c++) {
        struct bench b = {.systems = systems,
                          .n = n,
                          .repeats = repeats,
                          .seed = args->seed,
                          .cell = &args->cells[c],
                          .together = kv_ttft_bytes(systems, n, &args->cells[c]) <= available,
                          .progress = progress,
                          .done = done};
        status = prepare_bench(&b, err);
        if (status == KV_OK) status = run_bench(&b, err);
        done = b.done;
        for (int64_t i = 0; status == KV_OK && i < n; i++) {
            double *own = b.samples + i * repeats;
            if (samples) memcpy(samples + (c * n + i) * repeats, own, (size_t)repeats * sizeof *own);
            ttft[c * n + i] = kv_ttft_summary(own, repeats);
        }
        free_bench(&b);
    }
    return status;
}
