// Predictors of which all that depends on the token alone is looked up: worked out once for every token of the
// vocabulary, from a whole predictor and its base.
//
//   y = M([x, e]) + t              x: what is read of the aux; e: of the token (its embedding, the base's own
//                                  layer 0); t: its row of a table, its narrow embedding times a matrix
//   z = [x, e]·Wᵀ = x·W_xᵀ + e·W_eᵀ     for every matrix W of M that reads the input: e·W_eᵀ [vocab_size, rows of
//                                       W] is a table, the map goes on from the sum
//
// Where z is added to y as it is (linear maps), e·W_eᵀ + t is one table; where nothing of the aux is read, y is. So
// the map that is left has the inputs of the aux alone, and the base's embedding need not be read.
//                                                                                     [core/README.md §9]
//
//   kv_predictor_create_tabulated(&base->spec, &aux->spec, &full->spec, &tabulated, &err);
//   kv_predictor_take_rest(tabulated, full);
//   for each token_table, for some tokens at a time:
//       kv_predictor_read_base(tape, full, base, ids, n, &taps);
//       kv_tensor *rows = kv_token_table_rows(tape, full, &token_table, &taps); // into token_table.param->data
#pragma once

#include "core/api.h"
#include "core/predictor/predictor.h"

KV_API_BEGIN

// The weights that are left, from the predictor that all of them are of.
kv_status kv_predictor_take_rest(kv_predictor *tabulated, kv_predictor *full, kv_error *err);

typedef struct kv_token_table {
    kv_param *param; // [vocab_size, cols] of the tabulated one: "key.3.table", "key.3.down.weight.table"
    int side;
    int64_t layer;
    int64_t part; // which matrix of the map it belongs to; -1: the output itself
} kv_token_table;

enum { KV_MAX_TOKEN_TABLES = KV_SIDES * KV_MAX_LAYERS * (KV_MAP_PARAMS + 1) };

// All tables, layer by layer. Returns their number, 0 where nothing depends on the token alone; fills tables[]
// when not NULL.
int64_t kv_predictor_token_tables(kv_predictor *tabulated, kv_token_table *tables);

// Numbers of all of them, for one token.
int64_t kv_token_tables_width(const kv_predictor *tabulated);

// Rows of one of them for the tokens that `taps` are of (kv_predictor_read_base of the whole predictor): [n, cols].
// What tape failed of it says. Their products are kv_flops_predictor_tokens in all.
kv_tensor *kv_token_table_rows(kv_tape *tape, kv_predictor *full, const kv_token_table *table,
                               const kv_taps *taps);

KV_API_END
