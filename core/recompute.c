// Running a region twice. In backward its inputs get stand-ins whose gradients start from what has arrived so
// far, so that additions come in the same order as without; what is still needed afterwards is moved to
// places that were reserved before, and everything else is given back.
#include "core/recompute.h"

#include <string.h>

static size_t bytes_of(const kv_tensor *t) {
    return (size_t)(t->rows * t->cols) * sizeof *t->data;
}

static bool keep_outputs(const kv_recompute *region, kv_tensor *const *made) {
    for (int i = 0; i < KV_RECOMPUTE_OUTPUTS; i++) {
        if (!region->out[i]) continue;
        if (!made[i]) return false;
        memcpy(region->out[i]->data, made[i]->data, bytes_of(made[i]));
    }
    return true;
}

// ---- Backward ------------------------------------------------------------------------------------------

// What stands for an input while the region runs again: its gradient lies among what is given back
// afterwards, until it is brought out.
static kv_tensor *stand_in(kv_tape *tape, const kv_tensor *in) {
    kv_tensor *t = in ? kv_tape_view(tape, in->data, in->rows, in->cols) : NULL;
    if (t) t->wants_grad = in->wants_grad, t->grad = in->grad;
    return t;
}

static void hand_in_gradients(const kv_recompute *region, kv_tensor *const *made) {
    for (int i = 0; i < KV_RECOMPUTE_OUTPUTS; i++)
        if (region->out[i] && made[i]) made[i]->grad = region->out[i]->grad;
}

static bool outlives(const kv_recompute *region, const float *grad) {
    for (int i = 0; i < KV_RECOMPUTE_OUTPUTS; i++)
        if (region->out[i] && region->out[i]->grad == grad) return true;
    return false;
}

static void region_backward(kv_tape *tape, const kv_record *r) {
    const kv_recompute *region = r->saved;
    kv_arena *arena = kv_tape_arena(tape);
    kv_tensor *in[KV_RECOMPUTE_INPUTS] = {0}, *made[KV_RECOMPUTE_OUTPUTS] = {0};
    float *places[KV_RECOMPUTE_INPUTS] = {0};
    // Before each place, and behind the last: what is not needed at the end can be given back.
    kv_arena_mark marks[KV_RECOMPUTE_INPUTS + 1];
    for (int i = 0; i < KV_RECOMPUTE_INPUTS; i++) {
        const kv_tensor *t = region->in[i];
        marks[i] = kv_arena_get_mark(arena);
        if (!t || !t->wants_grad || t->grad) continue;
        places[i] = kv_arena_floats(arena, t->rows * t->cols);
        if (!places[i]) kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for a gradient");
    }
    marks[KV_RECOMPUTE_INPUTS] = kv_arena_get_mark(arena);
    for (int i = 0; i < KV_RECOMPUTE_INPUTS; i++) in[i] = stand_in(tape, region->in[i]);
    kv_tape_branch branch = kv_tape_begin_branch(tape, true);
    if (kv_tape_status(tape, NULL) == KV_OK) region->run(tape, region->what, in, made);
    hand_in_gradients(region, made);
    kv_tape_end_branch(tape, branch);
    int n_kept = 0;
    for (int i = 0; i < KV_RECOMPUTE_INPUTS; i++) {
        if (!in[i] || !in[i]->grad || in[i]->grad == region->in[i]->grad) continue;
        if (outlives(region, in[i]->grad)) {
            region->in[i]->grad = in[i]->grad;
        } else {
            memcpy(places[i], in[i]->grad, bytes_of(in[i]));
            region->in[i]->grad = places[i];
            n_kept = i + 1;
        }
    }
    kv_arena_release(arena, marks[n_kept]);
}

// ---- Forward -------------------------------------------------------------------------------------------

static bool push_record(kv_tape *tape, const kv_recompute *region) {
    const size_t list_size = (size_t)region->n_weights * sizeof(*region->weights);
    kv_record *r =
        kv_tape_record(tape, region_backward, region->out[0], sizeof *region + list_size + region->what_size);
    if (!r) return false;
    kv_recompute *saved = r->saved;
    *saved = *region;
    kv_param **weights = (kv_param **)(saved + 1);
    if (list_size > 0) memcpy(weights, region->weights, list_size);
    saved->weights = r->more_weights = weights, r->n_more_weights = region->n_weights;
    saved->what = memcpy(weights + region->n_weights, region->what, region->what_size);
    for (int i = 1; i < KV_RECOMPUTE_OUTPUTS; i++)
        if (region->out[i]) region->out[i]->wants_grad = true;
    r->more_outputs = saved->out + 1;
    r->n_more_outputs = KV_RECOMPUTE_OUTPUTS - 1;
    return true;
}

bool kv_recompute_run(kv_tape *tape, const kv_recompute *region, bool differentiated) {
    if (kv_tape_status(tape, NULL) != KV_OK) return false;
    kv_tensor *made[KV_RECOMPUTE_OUTPUTS] = {0};
    kv_arena *arena = kv_tape_arena(tape);
    kv_arena_mark mark = kv_arena_get_mark(arena);
    kv_tape_branch branch = kv_tape_begin_branch(tape, false);
    region->run(tape, region->what, region->in, made);
    kv_tape_end_branch(tape, branch);
    const bool ok = keep_outputs(region, made);
    kv_arena_release(arena, mark);
    return ok && (!differentiated || push_record(tape, region));
}
