#include "core/recompute.h"

#include <string.h>

static size_t bytes_of(const kv_tensor *t) {
    return (size_t)(t->rows * t->cols) * sizeof *t->data;
}

static bool keep_outputs(const kv_recompute *stage, kv_tensor *const *made) {
    for (int i = 0; i < KV_RECOMPUTE_OUTPUTS; i++) {
        if (!stage->out[i]) continue;
        if (!made[i]) return false;
        memcpy(stage->out[i]->data, made[i]->data, bytes_of(made[i]));
    }
    return true;
}

// ---- Backward ------------------------------------------------------------------------------------------

// What stands for an input while the stage runs again: its gradient is the sequence's until it is brought out.
static kv_tensor *stand_in(kv_tape *tape, const kv_tensor *in) {
    kv_tensor *t = in ? kv_tape_view(tape, in->data, in->rows, in->cols) : NULL;
    if (t) t->wants_grad = in->wants_grad, t->grad = in->grad;
    return t;
}

static void hand_in_gradients(const kv_recompute *stage, kv_tensor *const *made) {
    for (int i = 0; i < KV_RECOMPUTE_OUTPUTS; i++)
        if (stage->out[i] && made[i]) made[i]->grad = stage->out[i]->grad;
}

static bool outlives(const kv_recompute *stage, const float *grad) {
    for (int i = 0; i < KV_RECOMPUTE_OUTPUTS; i++)
        if (stage->out[i] && stage->out[i]->grad == grad) return true;
    return false;
}

static void stage_backward(kv_tape *tape, const kv_record *r) {
    const kv_recompute *stage = r->saved;
    kv_arena *arena = kv_tape_arena(tape);
    kv_tensor *in[KV_RECOMPUTE_INPUTS] = {0}, *made[KV_RECOMPUTE_OUTPUTS] = {0};
    float *places[KV_RECOMPUTE_INPUTS] = {0};
    // Before each place, and behind the last: what is not needed at the end can be given back.
    kv_arena_mark marks[KV_RECOMPUTE_INPUTS + 1];
    for (int i = 0; i < KV_RECOMPUTE_INPUTS; i++) {
        const kv_tensor *t = stage->in[i];
        marks[i] = kv_arena_get_mark(arena);
        if (!t || !t->wants_grad || t->grad) continue;
        places[i] = kv_arena_floats(arena, t->rows * t->cols);
        if (!places[i]) kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for a gradient");
    }
    marks[KV_RECOMPUTE_INPUTS] = kv_arena_get_mark(arena);
    for (int i = 0; i < KV_RECOMPUTE_INPUTS; i++) in[i] = stand_in(tape, stage->in[i]);
    kv_tape_branch branch = kv_tape_begin_branch(tape, true);
    if (kv_tape_status(tape, NULL) == KV_OK) stage->run(tape, stage->what, in, made);
    hand_in_gradients(stage, made);
    kv_tape_end_branch(tape, branch);
    int n_kept = 0;
    for (int i = 0; i < KV_RECOMPUTE_INPUTS; i++) {
        if (!in[i] || !in[i]->grad || in[i]->grad == stage->in[i]->grad) continue;
        if (outlives(stage, in[i]->grad)) {
            stage->in[i]->grad = in[i]->grad;
        } else {
            memcpy(places[i], in[i]->grad, bytes_of(in[i]));
            stage->in[i]->grad = places[i];
            n_kept = i + 1;
        }
    }
    kv_arena_release(arena, marks[n_kept]);
}

// ---- Forward -------------------------------------------------------------------------------------------

static bool push_record(kv_tape *tape, const kv_recompute *stage) {
    kv_record *r = kv_tape_record(tape, stage_backward, stage->out[0], sizeof *stage + stage->what_size);
    if (!r) return false;
    kv_recompute *saved = r->saved;
    *saved = *stage;
    saved->what = memcpy(saved + 1, stage->what, stage->what_size);
    for (int i = 1; i < KV_RECOMPUTE_OUTPUTS; i++)
        if (stage->out[i]) stage->out[i]->wants_grad = true;
    r->more_outputs = saved->out + 1;
    r->n_more_outputs = KV_RECOMPUTE_OUTPUTS - 1;
    return true;
}

bool kv_recompute_run(kv_tape *tape, const kv_recompute *stage, bool differentiated) {
    if (kv_tape_status(tape, NULL) != KV_OK) return false;
    kv_tensor *made[KV_RECOMPUTE_OUTPUTS] = {0};
    kv_arena *arena = kv_tape_arena(tape);
    kv_arena_mark mark = kv_arena_get_mark(arena);
    kv_tape_branch branch = kv_tape_begin_branch(tape, false);
    stage->run(tape, stage->what, stage->in, made);
    kv_tape_end_branch(tape, branch);
    const bool ok = keep_outputs(stage, made);
    kv_arena_release(arena, mark);
    return ok && (!differentiated || push_record(tape, stage));
}
