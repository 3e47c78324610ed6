// One FLOP counter for training, evaluation and progress bars: what kv_gemm_flops() measures, worked out from
// shapes alone.
//                                                                      [core/README.md §7, eq. 31 and 32]
#pragma once

#include "core/api.h"
#include "core/objective.h"

KV_API_BEGIN

// Products executed by one prefill of a prompt of n tokens up to the first token's logits: every layer on all
// n tokens, but the last layer's queries, attention and FFN on the last token only (nothing else is read
// afterwards), LM head for one position.
uint64_t kv_flops_prefill(const kv_model_spec *spec, int64_t n);
// The same of n tokens behind `cached` ones.
uint64_t kv_flops_prefill_behind(const kv_model_spec *spec, int64_t n, int64_t cached);

// The same for KV prediction: aux on n - 1 tokens up to what of its last layer is read
// (kv_predictor_spec_reads), predictors, base on the last token against n - 1 predicted entries, base's LM
// head once. With nothing to predict, n 1, the base's own queries read.
uint64_t kv_flops_kvp_prefill(const kv_model_spec *base, const kv_model_spec *aux,
                              const kv_predictor *predictor, int64_t n);
// The same of n tokens behind `cached` entries of the base, of which the aux has read all but `unread`: it reads those,
// too. The cache has predicted entries, if only the new ones.
uint64_t kv_flops_kvp_prefill_behind(const kv_model_spec *base, const kv_model_spec *aux,
                                     const kv_predictor *predictor, int64_t n, int64_t cached,
                                     int64_t unread);

// One decoded token after `cached` tokens; and the same by way of predictors that adapt queries (NULL: none).
uint64_t kv_flops_decode(const kv_model_spec *spec, int64_t cached);
uint64_t kv_flops_kvp_decode(const kv_model_spec *base, const kv_predictor *predictor, int64_t cached);

// All layers on n tokens behind `cached` ones, every position to the end and no LM head; and the same with a predicted
// cache at every position, as kv_score reads.
uint64_t kv_flops_read(const kv_model_spec *spec, int64_t n, int64_t cached);
uint64_t kv_flops_kvp_read(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *predictor,
                           int64_t n);

// What those are made of, for whoever runs layers otherwise (infer/cost.c). A layer on n tokens behind
// `cached` ones, each seeing all before it; the last layer on n tokens of which only the newest goes beyond
// its keys and values; the LM head for one position.
uint64_t kv_flops_layer(const kv_model_spec *spec, int64_t layer, int64_t n, int64_t cached);
uint64_t kv_flops_last_layer(const kv_model_spec *spec, int64_t n);
uint64_t kv_flops_head(const kv_model_spec *spec);
// Keys, values or both (KV_READ_K, KV_READ_V) of a layer, n tokens.
uint64_t kv_flops_layer_parts(const kv_model_spec *spec, int64_t layer, int64_t n, uint8_t reads);

// kv_attention_importance of n new tokens behind `cached` ones, and the projections it needs.
uint64_t kv_flops_importance(const kv_model_spec *spec, int64_t layer, int64_t n, int64_t cached);
uint64_t kv_flops_queries_keys(const kv_model_spec *spec, int64_t layer, int64_t n);

// Products of one step of kv_lm_objective, forward and backward, on n_seq sequences of seq_len tokens with
// every parameter trainable. teacher: one that is run for its logits, or NULL. A step made of micro-batches is the
// sum of theirs. checkpointing: with layers that are computed again in backward (kv_tape_set_checkpointing).
uint64_t kv_flops_lm_step(const kv_model_spec *spec, const kv_model_spec *teacher, int64_t n_seq,
                          int64_t seq_len, bool checkpointing);

// The same for kv_kvp_objective with the terms that have a weight: base frozen, predictors trainable, aux
// trainable or not. (An aux layer that no loss reaches is counted as if one did, and so are the maps above the layer of
// a hidden state that is the only loss.)
uint64_t kv_flops_kvp_step(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *predictor,
                           int64_t n_seq, int64_t seq_len, const kv_kvp_weights *weights, bool aux_trained,
                           bool checkpointing);

// The same without a backward pass, as when held-out text is only looked at; for kv_kvp_objective the errors
// of the predicted cache included.
uint64_t kv_flops_lm_loss_only(const kv_model_spec *spec, const kv_model_spec *teacher, int64_t n_seq,
                               int64_t seq_len);
uint64_t kv_flops_kvp_loss_only(const kv_model_spec *base, const kv_model_spec *aux,
                                const kv_predictor *predictor, int64_t n_seq, int64_t seq_len,
                                const kv_kvp_weights *weights);

// What of those products is not executed when parts of the batch are given (kv_batch.given).
uint64_t kv_flops_kvp_spared(const kv_model_spec *base, const kv_model_spec *aux,
                             const kv_predictor *predictor, int64_t n_seq, int64_t seq_len,
                             const kv_kvp_weights *weights, const kv_kvp_known *known);

// One batch of the predictors' least-squares start: both models up to their last layer's keys and values, and
// the sums of the normal equations (in double precision). Solving them, once, is not counted.
uint64_t kv_flops_least_squares(const kv_model_spec *base, const kv_model_spec *aux,
                                const kv_predictor *predictor, int64_t n_seq, int64_t seq_len);

// Number of weights from a spec, with or without the embedding (and head) tables.
int64_t kv_spec_size(const kv_model_spec *spec, bool with_embedding);

// The paper's convention: t(1) ≈ 2 · parameters, so the reduction is params(base) / params(aux).
double kv_paper_reduction(const kv_model_spec *base, const kv_model_spec *smaller);

KV_API_END
