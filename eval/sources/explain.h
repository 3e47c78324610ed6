// How much of a base's keys and values ridge regressions from some layers of an auxiliary model explain.
//
// One pass over the text gathers the normal equations of all layers of the aux at once (core/predictor/least_squares.h), those
// of the text that is held out apart; everything else is linear algebra on parts of them. Where the sums of all layers of the
// base do not fit into memory, there is a pass for some of them after the other. Where not even those of one layer do, and fewer
// layers of the aux are asked for than there are, those are chosen before (core/predictor/best.h), and only theirs are summed.
#pragma once

#include "core/model.h"
#include "eval/sources/curves.h"

typedef struct kv_explain_args {
    kv_model *base, *aux;
    const int32_t *ids; // [n_windows, window]
    int64_t n_windows, window;
    int64_t n_held_out; // of the windows, the last ones
    // Which layer is taken next: the one that explains most together with those before; else that does so alone.
    bool greedy;
    double memory; // bytes that the sums may take
} kv_explain_args;

// Fills in the curves, whose sizes, kinds, counts and ridge are set and which have their room (kv_source_curves_make).
// Shows its progress on stderr. KV_ERR_INTERRUPTED on a signal to stop; KV_ERR_MEMORY, with what it would take, when not even
// one layer of the base fits; KV_ERR_NOT_FINITE.
kv_status kv_explain(const kv_explain_args *args, kv_source_curves *curves, kv_error *err);
