// Measured time to first token.
#pragma once

#include "core/api.h"
#include "data/system/console.h"
#include "infer/session/system.h"

KV_API_BEGIN

// NAN both, and in every sample: its logits are not finite, so there is no first token.
typedef struct kv_ttft {
    double seconds; // median over the repeats
    double spread;  // half the distance between the quartiles
} kv_ttft;

// A batch of prompts of one length.
typedef struct kv_ttft_cell {
    int64_t prompt_tokens, batch_size;
} kv_ttft_cell;

typedef struct kv_ttft_grid_args {
    const kv_ttft_cell *cells; // [n_cells]
    int64_t n_cells;
    int64_t repeats; // timed ones, after one to warm up
    uint64_t seed;   // of the random prompts
    int64_t memory;  // bytes that sessions may take; 0: what the machine has available
} kv_ttft_grid_args;

// Prefills random prompts on each of systems[n] up to the first token's argmax and times it, cell by cell.
// Within a cell the systems take turns in every repeat, so that a slow spell of the machine hits all of them
// alike. Sessions exist for one cell at a time; where those of all systems do not fit memory together, each
// lives for its turn only and is warmed up there, which takes up to twice as long. ttft [n_cells, n]; samples
// [n_cells, n, repeats] (may be NULL): every single time. progress (may be NULL) is shown one step a timed
// prefill, n_cells · n · repeats in all, with the cell and the GFLOP/s of its products.
//
// Before the first prefill every cell is checked: KV_ERR_ARGUMENT for sizes below 1, KV_ERR_RANGE for a
// prompt longer than a context, KV_ERR_MEMORY (needed and available) for a cell too large for one system's
// session alone. KV_ERR_INTERRUPTED on a signal to stop, obeyed between prefills; cells finished before that,
// or before any other failure, have been filled in.
kv_status kv_ttft_grid(const kv_system *systems, int64_t n, const kv_ttft_grid_args *args,
                       kv_progress *progress, kv_ttft *ttft, double *samples, kv_error *err);

// What the sessions of these systems take together for a cell: infer/memory.h.
int64_t kv_ttft_bytes(const kv_system *systems, int64_t n, const kv_ttft_cell *cell);

// Whether kv_ttft_grid would run the cell: it fits the contexts of all systems, and each system's session alone the memory
// that the machine has available, with a sixteenth to spare, so that it does a moment later, too.
bool kv_ttft_fits(const kv_system *systems, int64_t n, const kv_ttft_cell *cell);

// Median and spread of samples[n], n >= 1, which are sorted in place.
kv_ttft kv_ttft_summary(double *samples, int64_t n);

KV_API_END
