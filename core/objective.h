// What one training step computes: the language-model loss, and KV prediction's.
//                                                                           [core/README.md §4]
//
//   kv_kvp_terms terms;
//   const kv_batch batch = {.input_ids = ids, .target_ids = next_ids, .n_seq = 8, .seq_len = 64,
//                           .ignore_index = -100};
//   const kv_kvp_weights weights = {.base = 1, .aux = 1, .consistency = 1.0f / (float)base->spec.n_layers};
//   kv_tape *tape = kv_tape_create();
//   kv_predictor_set_trainable(predictor, true, &err);
//   kv_tensor *loss = kv_kvp_objective(tape, base, aux, predictor, &batch, &weights, &terms, NULL);
//   if (!loss || kv_tape_backward(tape, loss, &err) != KV_OK) fail(&err);
//   printf("loss %.3f, of which L_C %.3f\n", terms.total, terms.consistency);
//   kv_adamw_step(optimizer, kv_same_rate(1e-3), 1); // core/optimizer.h
//   kv_tape_free(tape);
#pragma once

#include "core/api.h"
#include "core/predictor/predictor.h"

KV_API_BEGIN

// What of a batch was computed before, as caches on disk hold it; each part may be missing (NULL, k 0) and is
// then computed. Rows are the batch's.
typedef struct kv_kvp_given {
    kv_tensor *const *base_k, *const *base_v; // [n_base_layers]: true keys (after k_norm) and values
    // [n_aux_layers]; of a frozen aux, which takes no loss, of whose hidden states nothing is read
    kv_tensor *const *aux_raw_k, *const *aux_v;
    kv_topk_teacher topk;      // what KL is taken to, instead of all of the base's logits
    const kv_key_norms *norms; // of a base that is not at hand
} kv_kvp_given;

// Which of its parts a batch will have, to plan with.
typedef struct kv_kvp_known {
    bool base_cache, aux_cache;
    int64_t top_k;
} kv_kvp_known;

// n_seq sequences of seq_len tokens, row-major. Pointers stay valid until backward.
typedef struct kv_batch {
    const int32_t *input_ids, *target_ids; // [n_seq · seq_len]
    int64_t n_seq, seq_len;
    int32_t ignore_index;
    // Valid targets of the whole step this batch is a part of, what means divide by; 0: count this batch's
    // own.
    double n_valid;
    const kv_kvp_given *given; // NULL: nothing; kv_lm_objective takes the logits alone
} kv_batch;

// n_valid, or where that is 0 the valid targets of the batch, 1 at least.
double kv_batch_valid(const kv_batch *batch);

// L = ce·(CE + z) + kl·KL(teacher ‖ model): what a rival of KV prediction is taught by the same base.
//                                                                             [core/README.md §9, eq. 37]
typedef struct kv_lm_weights {
    float ce;             // usually 1
    float z_loss;         // eps of the z-loss; 0 switches it off
    float kl;             // needs a teacher
    float kl_temperature; // of kl; 0: 1
} kv_lm_weights;

// Language modelling. The returned scalar is ready for kv_tape_backward; *terms is filled at once. teacher: a frozen
// model of the same vocabulary; it is run only where kl has a weight and the batch is not given its logits
// (kv_kvp_given.topk), and may be NULL elsewhere.
kv_tensor *kv_lm_objective(kv_tape *tape, kv_model *model, kv_model *teacher, const kv_batch *batch,
                           const kv_lm_weights *weights, kv_lm_loss_terms *terms);

// L = base·(CE_B + z_B) + aux·(CE_A + z_A) + consistency·L_C + kl·KL(base ‖ base on predicted cache)
//     + hidden·L_H.
// The first three as published; kl and hidden are ours: distillation from logits that the base computes anyway, and
// from what one of its layers puts out.
//                                                              [core/README.md §4, eq. 20; §9, eq. 36]
typedef struct kv_kvp_weights {
    float base, aux, consistency, kl, hidden;
    float z_loss;         // eps, 0 off
    float kl_temperature; // of kl; 0: 1
    int64_t hidden_layer; // of hidden: the base's layer, from 0
    // The errors k_l1, v_l1 and their sum are wanted even where the consistency has no weight.
    bool errors;
} kv_kvp_weights;

typedef struct kv_kvp_terms {
    kv_lm_loss_terms base, aux; // unweighted means; aux zero when its weight is 0
    // mean |K̂-K|, mean |V̂-V| per base layer; zero when neither the consistency nor the errors are wanted
    double k_l1[KV_MAX_LAYERS], v_l1[KV_MAX_LAYERS];
    double consistency; // their sum, L_C
    double hidden;      // L_H; zero without weight
    double total;
} kv_kvp_terms;

// How far a pass of the base goes.
typedef struct kv_base_reach {
    int64_t n_layers; // 0: it is not run
    bool only_kv;     // of the last of them no more than keys and values
    bool logits;
} kv_base_reach;

// What the weights ask of the base on its own cache, less what is known of it, and of the base on the predicted
// one; of a base of so many layers.
kv_base_reach kv_kvp_teacher_reach(const kv_kvp_weights *weights, const kv_kvp_known *known,
                                   int64_t n_layers);
kv_base_reach kv_kvp_student_reach(const kv_kvp_weights *weights, int64_t n_layers);

// Tensors a caller may want to look at (tests, analysis). Filled when given.
typedef struct kv_kvp_trace {
    kv_tensor *pred_k[KV_MAX_LAYERS], *pred_v[KV_MAX_LAYERS]; // [tokens, kv_dim_base]
    kv_tensor *base_k[KV_MAX_LAYERS], *base_v[KV_MAX_LAYERS]; // NULL when no term needed the true cache
    kv_tensor *hidden; // base on the predicted cache, before the final norm; NULL when it does not get there
    // What layer hidden_layer puts out, on the predicted and on the true cache; NULL without weight.
    kv_tensor *pred_hidden, *base_hidden;
    kv_tensor *aux_hidden; // before the final norm; NULL when the aux has no loss of its own
} kv_kvp_trace;

// Passes whose term has weight 0 are not run, nor what the batch has given. base must be frozen; it may be
// NULL when only the consistency has a weight, true cache and norms are given and the predictor reads nothing
// of it, aux when its cache is given. Of a prefix the aux is the base.
kv_tensor *kv_kvp_objective(kv_tape *tape, kv_model *base, kv_model *aux, kv_predictor *predictor,
                            const kv_batch *batch, const kv_kvp_weights *weights, kv_kvp_terms *terms,
                            kv_kvp_trace *trace);

KV_API_END
