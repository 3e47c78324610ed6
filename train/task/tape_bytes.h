// How much memory one micro-batch takes on the tape, from shapes alone: what core/objective.c and the
// operators below it keep and work on, added up. Results in bytes.
#pragma once

#include "core/objective.h"

// What teaches a language model: a model that is run, or logits that are read.
typedef struct kv_tape_teacher {
    const kv_model_spec *spec; // NULL: none is run
    int64_t top_k;             // logits of a token that are read
} kv_tape_teacher;

// What is on the tape at the same time, and how many threads share it.
typedef struct kv_tape_shape {
    int64_t n_seq, seq_len;
    int n_threads;
} kv_tape_shape;

// A step of kv_lm_objective and its backward, every weight trainable. checkpointing: layers are computed again in backward.
double kv_tape_lm_bytes(const kv_model_spec *spec, const kv_tape_teacher *teacher, bool checkpointing,
                        const kv_tape_shape *shape);

// The same of kv_kvp_objective with the terms that have a weight. known: what the batch is given.
double kv_tape_kvp_bytes(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *predictor,
                         const kv_kvp_weights *weights, bool aux_trained, bool checkpointing,
                         const kv_kvp_known *known, const kv_tape_shape *shape);

// The same losses of held-out text, with every error of the predicted cache and nothing differentiated.
double kv_tape_lm_validation_bytes(const kv_model_spec *spec, const kv_tape_teacher *teacher,
                                   const kv_tape_shape *shape);
double kv_tape_kvp_validation_bytes(const kv_model_spec *base, const kv_model_spec *aux,
                                    const kv_predictor *predictor, const kv_kvp_weights *weights,
                                    const kv_tape_shape *shape);

// The predictors' least-squares start: the passes of one batch, the normal equations (in double precision)
// and what one layer's solution works on. Predictors may be without weights.
// Caches that are known are read instead. tables: these are fitted, too. n_passes: of its passes the one with the largest sums.
double kv_least_squares_bytes(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *shape,
                              const kv_kvp_known *known, bool tables, int64_t n_passes, int64_t n_seq,
                              int64_t seq_len);
// The same of the choice of the best aux layers, of which `all` reads all; the widest one's sources are joined at once.
double kv_best_start_bytes(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor *all,
                           const kv_kvp_known *known, int64_t n_seq, int64_t seq_len);
