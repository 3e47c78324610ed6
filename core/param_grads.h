// Gradients of parameters that are not added to param->grad at once, because several tapes work on the same parameters at
// the same time: a place for each parameter, which a tape writes to (kv_tape_set_grads) and kv_param_grads_add_up empties
// afterwards.
//
// A matrix of which only a few rows get a gradient, a table of embeddings, has no place unless something else writes to all
// of it: the rows are kept as they come.
#pragma once

#include "core/api.h"
#include "core/arena.h"
#include "core/tensor.h"

KV_API_BEGIN

typedef struct kv_param_grads kv_param_grads;

// For params[n], each of them once, which are borrowed. NULL when out of memory. Memory for a place is taken when it is first
// written, and kept. Free with kv_param_grads_free (accepts NULL).
kv_param_grads *kv_param_grads_create(kv_param *const *params, int64_t n);
void kv_param_grads_free(kv_param_grads *grads);

// Forgets what was written.
void kv_param_grads_clear(kv_param_grads *grads);

// Where param's gradient is to be written; *beta as of kv_tape_grad. NULL when it is none of params or memory ran out.
float *kv_param_grads_at(kv_param_grads *grads, const kv_param *param, float *beta);

// Adds rows[n, table->cols] to the rows `ids` of the table's gradient; ids stay valid until they are added up. False when
// memory ran out.
bool kv_param_grads_add_rows(kv_param_grads *grads, const kv_param *table, const int32_t *ids, int64_t n,
                             const float *rows);

// param->grad += what was written to grads[0], then to grads[1] and so on, for each of params[n_params], which all of
// grads[n] are for. In that order for every number, whatever the number of threads.
void kv_param_grads_add_up(kv_param_grads *const *grads, int64_t n, kv_param *const *params,
                           int64_t n_params);

// Row ids[i] of sum[?, cols] += rows[i], for rows[n, cols].
void kv_add_rows(float *sum, int64_t cols, const int32_t *ids, int64_t n, const float *rows);

// Bytes taken at most so far.
size_t kv_param_grads_peak(const kv_param_grads *grads);

KV_API_END
