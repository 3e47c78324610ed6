// The largest logits of a model, for caches that keep no more of a vocabulary.
#pragma once

#include "core/model.h"

// hidden [n, model_dim] before the final norm → the k <= vocabulary largest logits of every row, largest
// first (of equal ones the smaller id), and the logsumexp of all divided by the temperature: ids, logits [n, k],
// logsumexp [n]. Rows go through in blocks, never [n, vocabulary] at once. The tape must not be recording.
kv_status kv_top_logits(kv_tape *tape, kv_model *model, const kv_tensor *hidden, int64_t k,
                        double temperature, int32_t *ids, float *logits, float *logsumexp, kv_error *err);
