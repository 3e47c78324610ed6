// The passes of a training step in their order: aux, predictors, base on its own cache, base on the predicted
// one. Each is run only where a term with a weight asks for it and the batch does not bring its result.
//                                                            [core/README.md §4, eq. 15 to 20]
#include "core/objective.h"

#include <assert.h>
#include <string.h>

static int64_t batch_rows(const kv_batch *batch) {
    return batch->n_seq * batch->seq_len;
}

double kv_batch_valid(const kv_batch *batch) {
    if (batch->n_valid > 0) return batch->n_valid;
    int64_t n = 0;
    for (int64_t i = 0; i < batch_rows(batch); i++) n += batch->target_ids[i] != batch->ignore_index;
    return n > 0 ? (double)n : 1; // without a single target all sums are 0, whatever they are divided by
}

// n_seq sequences of equal length, each attending to itself.
static kv_sequence *batch_sequences(kv_tape *tape, const kv_batch *batch) {
    kv_sequence *sequences = kv_arena_alloc(kv_tape_arena(tape), (size_t)batch->n_seq * sizeof *sequences);
    if (!sequences) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for a batch");
    for (int64_t s = 0; s < batch->n_seq; s++)
        sequences[s] = (kv_sequence){s * batch->seq_len, batch->seq_len, s * batch->seq_len, batch->seq_len};
    return sequences;
}

static kv_tensor *token_loss(kv_tape *tape, kv_model *model, const kv_batch *batch, kv_tensor *hidden,
                             const kv_lm_loss_args *weights, kv_lm_loss_terms *terms) {
    kv_lm_loss_args args = *weights;
    args.targets = batch->target_ids;
    args.ignore_index = batch->ignore_index;
    args.n_valid = kv_batch_valid(batch);
    return kv_lm_loss(tape, kv_model_final_norm(tape, model, hidden), kv_model_head(model), &args, terms);
}

kv_tensor *kv_lm_objective(kv_tape *tape, kv_model *model, kv_model *teacher, const kv_batch *batch,
                           const kv_lm_weights *weights, kv_lm_loss_terms *terms) {
    kv_sequence *sequences = batch_sequences(tape, batch);
    if (!sequences) return NULL;
    const kv_pass pass = {.sequences = sequences, .n_sequences = batch->n_seq};
    kv_lm_loss_args args = {.weight_ce = weights->ce,
                            .weight_z = weights->ce * weights->z_loss,
                            .weight_kl = weights->kl,
                            .kl_temperature = weights->kl_temperature};
    if (weights->kl != 0 && batch->given) args.topk = batch->given->topk;
    // The teacher first: what one of its layers works on is given back before the model's are kept.
    if (weights->kl != 0 && args.topk.k == 0) {
        kv_tensor *x = kv_model_forward(tape, teacher, batch->input_ids, batch_rows(batch), &pass);
        args.teacher_hidden = kv_model_final_norm(tape, teacher, x);
        args.teacher_head = kv_model_head(teacher);
    }
    kv_tensor *hidden = kv_model_forward(tape, model, batch->input_ids, batch_rows(batch), &pass);
    return token_loss(tape, model, batch, hidden, &args, terms);
}

static uint8_t *kept_rows(kv_tape *tape, const kv_batch *batch) {
    uint8_t *keep = kv_arena_alloc(kv_tape_arena(tape), (size_t)batch_rows(batch));
    if (!keep) return kv_tape_fail(tape, KV_ERR_MEMORY, "out of memory for a batch");
    for (int64_t i = 0; i < batch_rows(batch); i++) keep[i] = batch->target_ids[i] != batch->ignore_index;
    return keep;
}

// What the passes of one step share.
enum { BASE, AUX, HIDDEN_STATE, FIRST_LAYER };
struct step {
    kv_tape *tape;
    kv_model *base, *aux;
    const kv_batch *batch;
    const kv_kvp_given *given; // never NULL
    const kv_kvp_weights *weights;
    int64_t n_base_layers;
    const kv_query_adapter *adapters;
    kv_sequence *sequences;
    kv_kvp_terms *terms;
    kv_kvp_trace *trace;
    // The scalars of the total and their weights: base, aux, hidden, and |K̂-K|, |V̂-V| of every layer.
    kv_tensor *parts[FIRST_LAYER + 2 * KV_MAX_LAYERS];
    float part_weights[FIRST_LAYER + 2 * KV_MAX_LAYERS];
};

// A reads the tokens, as far as the predictors read it; its own loss is added when it has a weight.
static void run_aux(struct step *s, const kv_predictor *predictor, kv_taps *taps) {
    const bool loss = s->weights->aux != 0;
    if (s->given->aux_raw_k) {
        assert(!loss && s->given->aux_v);
        const size_t size = (size_t)predictor->spec.n_aux_layers * sizeof *taps->k;
        memset(taps, 0, sizeof *taps);
        memcpy(taps->k, s->given->aux_raw_k, size);
        memcpy(taps->v, s->given->aux_v, size);
        kv_predictor_read_base(s->tape, predictor, s->base, s->batch->input_ids, batch_rows(s->batch), taps);
        return;
    }
    const kv_pass pass = {.sequences = s->sequences, .n_sequences = s->batch->n_seq};
    kv_tensor *hidden = kv_predictor_read(s->tape, predictor, s->base, s->aux, s->batch->input_ids,
                                          batch_rows(s->batch), &pass, loss, taps);
    if (!loss) return;
    s->trace->aux_hidden = hidden;
    kv_lm_loss_args args = {.weight_ce = s->weights->aux, .weight_z = s->weights->aux * s->weights->z_loss};
    s->parts[AUX] = token_loss(s->tape, s->aux, s->batch, s->trace->aux_hidden, &args, &s->terms->aux);
    s->part_weights[AUX] = 1;
}

static bool wants_errors(const kv_kvp_weights *weights) {
    return weights->consistency != 0 || weights->errors;
}

kv_base_reach kv_kvp_teacher_reach(const kv_kvp_weights *weights, const kv_kvp_known *known,
                                   int64_t n_layers) {
    const bool logits = weights->kl != 0 && known->top_k == 0, hidden = weights->hidden != 0;
    const bool cache = wants_errors(weights) && !known->base_cache;
    const bool last = hidden && weights->hidden_layer == n_layers - 1;
    return (kv_base_reach){.n_layers = logits || cache ? n_layers
                                       : hidden        ? weights->hidden_layer + 1
                                                       : 0,
                           .only_kv = cache && !logits && !last,
                           .logits = logits};
}

kv_base_reach kv_kvp_student_reach(const kv_kvp_weights *weights, int64_t n_layers) {
    const bool logits = weights->base != 0 || weights->kl != 0;
    return (kv_base_reach){.n_layers = logits                 ? n_layers
                                       : weights->hidden != 0 ? weights->hidden_layer + 1
                                                              : 0,
                           .logits = logits};
}

// B reads the tokens itself: the true cache, and the hidden states its own logits come from.
static kv_tensor *run_teacher(struct step *s) {
    const kv_kvp_known known = {.base_cache = s->given->base_k != NULL, .top_k = s->given->topk.k};
    const kv_base_reach reach = kv_kvp_teacher_reach(s->weights, &known, s->n_base_layers);
    if (wants_errors(s->weights) && known.base_cache) {
        const size_t bytes = (size_t)s->n_base_layers * sizeof *s->trace->base_k;
        memcpy(s->trace->base_k, s->given->base_k, bytes);
        memcpy(s->trace->base_v, s->given->base_v, bytes);
    }
    if (reach.n_layers == 0) return NULL;
    kv_pass pass = {.sequences = s->sequences,
                    .n_sequences = s->batch->n_seq,
                    .n_layers = reach.n_layers,
                    .only_kv = reach.only_kv};
    if (wants_errors(s->weights) && !known.base_cache) pass.k = s->trace->base_k, pass.v = s->trace->base_v;
    if (s->weights->hidden != 0)
        pass.hidden = &s->trace->base_hidden, pass.hidden_layer = s->weights->hidden_layer;
    kv_tensor *hidden = kv_model_forward(s->tape, s->base, s->batch->input_ids, batch_rows(s->batch), &pass);
    return reach.logits ? kv_model_final_norm(s->tape, s->base, hidden) : NULL;
}

// L_C = Σ_layers mean |K̂-K| + mean |V̂-V|
//                                                                             [core/README.md §4, eq. 17]
static void add_consistency(struct step *s) {
    const uint8_t *keep = kept_rows(s->tape, s->batch);
    if (!keep) return;
    double n_valid = kv_batch_valid(s->batch);
    for (int64_t i = 0; i < s->n_base_layers; i++) {
        kv_tensor *k = kv_l1_loss(s->tape, s->trace->pred_k[i], s->trace->base_k[i], keep, n_valid);
        kv_tensor *v = kv_l1_loss(s->tape, s->trace->pred_v[i], s->trace->base_v[i], keep, n_valid);
        if (!k || !v) return;
        kv_tensor **parts = s->parts + FIRST_LAYER + 2 * i;
        float *weights = s->part_weights + FIRST_LAYER + 2 * i;
        if (s->weights->consistency != 0) parts[0] = k, parts[1] = v;
        weights[0] = weights[1] = s->weights->consistency;
        s->terms->k_l1[i] = (double)*k->data;
        s->terms->v_l1[i] = (double)*v->data;
        s->terms->consistency += s->terms->k_l1[i] + s->terms->v_l1[i];
    }
}

// L_H = mean (x̂ - x)², of what one layer puts out
//                                                                             [core/README.md §9, eq. 36]
static void add_hidden(struct step *s) {
    const uint8_t *keep = kept_rows(s->tape, s->batch);
    if (!keep) return;
    kv_tensor *loss =
        kv_mse_loss(s->tape, s->trace->pred_hidden, s->trace->base_hidden, keep, kv_batch_valid(s->batch));
    if (!loss) return;
    s->parts[HIDDEN_STATE] = loss;
    s->part_weights[HIDDEN_STATE] = s->weights->hidden;
    s->terms->hidden = (double)*loss->data;
}

// B attends to nothing but the predicted cache, at every position.
static void run_student(struct step *s, kv_tensor *teacher_hidden) {
    const kv_kvp_weights *w = s->weights;
    const kv_base_reach reach = kv_kvp_student_reach(w, s->n_base_layers);
    if (reach.n_layers == 0) return;
    kv_pass pass = {.sequences = s->sequences,
                    .n_sequences = s->batch->n_seq,
                    .n_layers = reach.n_layers,
                    .given_k = s->trace->pred_k,
                    .given_v = s->trace->pred_v,
                    .adapters = s->adapters};
    if (w->hidden != 0) pass.hidden = &s->trace->pred_hidden, pass.hidden_layer = w->hidden_layer;
    kv_tensor *hidden = kv_model_forward(s->tape, s->base, s->batch->input_ids, batch_rows(s->batch), &pass);
    if (w->hidden != 0) add_hidden(s);
    if (!reach.logits) return;
    s->trace->hidden = hidden;
    kv_lm_loss_args args = {.weight_ce = w->base,
                            .weight_z = w->base * w->z_loss,
                            .weight_kl = w->kl,
                            .kl_temperature = w->kl_temperature,
                            .teacher_hidden = teacher_hidden,
                            .teacher_head = kv_model_head(s->base),
                            .topk = s->given->topk};
    s->parts[BASE] = token_loss(s->tape, s->base, s->batch, hidden, &args, &s->terms->base);
    s->part_weights[BASE] = 1;
}

kv_tensor *kv_kvp_objective(kv_tape *tape, kv_model *base, kv_model *aux, kv_predictor *predictor,
                            const kv_batch *batch, const kv_kvp_weights *weights, kv_kvp_terms *terms,
                            kv_kvp_trace *trace) {
    kv_kvp_terms own_terms;
    kv_kvp_trace own_trace;
    static const kv_kvp_given nothing;
    struct step s = {.tape = tape, .base = base, .aux = aux, .batch = batch, .weights = weights};
    s.given = batch->given ? batch->given : &nothing;
    s.n_base_layers = predictor->spec.n_base_layers, s.adapters = predictor->adapters;
    s.terms = terms ? terms : &own_terms;
    s.trace = trace ? trace : &own_trace;
    memset(s.terms, 0, sizeof *s.terms);
    memset(s.trace, 0, sizeof *s.trace);
    s.sequences = batch_sequences(tape, batch);
    if (!s.sequences) return NULL;
    kv_taps taps;
    run_aux(&s, predictor, &taps);
    if (kv_tape_status(tape, NULL) != KV_OK) return NULL;
    kv_key_norms norms;
    if (base)
        kv_model_key_norms(base, &norms);
    else
        norms = *s.given->norms;
    kv_predict(tape, predictor, &norms, &taps, s.trace->pred_k, s.trace->pred_v);
    kv_tensor *teacher_hidden = run_teacher(&s);
    if (wants_errors(weights)) add_consistency(&s);
    run_student(&s, teacher_hidden);
    kv_tensor *total = kv_weighted_sum(tape, s.parts, s.part_weights, FIRST_LAYER + 2 * s.n_base_layers);
    if (kv_tape_status(tape, NULL) != KV_OK) return NULL;
    s.terms->total = (double)*total->data;
    return total;
}
