// Predictors: maps from what an auxiliary model makes of a text to the base model's keys and values.
//
//   K̂_i = k_norm_i( map_i(x_i) + table_i[token] ),   V̂_i = map'_i(x'_i) + table'_i[token]
//                          [paper, section 3.2, eq. 3 and 4; core/README.md §3, eq. 11 and 12; §9]
// with x_i what base layer i reads (core/predictor/spec.h): in the paper keys of one aux layer, before its own
// k_norm and RoPE, for keys, and its values for values. k_norm_i is the base's (skipped when it has none).
//
//   kv_predictor_spec *spec = malloc(sizeof *spec); // large: not on the stack
//   kv_predictor_spec_prefix(&base->spec, 3, spec);
//   kv_predictor_create(&base->spec, &base->spec, spec, &predictor, &err);
//   kv_predictor_init(predictor, base, seed);
//   kv_taps taps;
//   kv_predictor_read(tape, predictor, base, base, ids, n, &pass, &taps);
//   kv_predict(tape, predictor, &norms, &taps, k, v);
#pragma once

#include "core/api.h"
#include "core/predictor/map.h"
#include "core/predictor/mapping.h"

KV_API_BEGIN

// What several outputs read, put together once for all of them.
typedef struct kv_predictor_input {
    const kv_sources *sources; // of one of those outputs
    int64_t n_blocks, dim;
    const int64_t *dims; // of each source
} kv_predictor_input;

typedef struct kv_predictor_output {
    kv_map map;
    int64_t input;  // index of predictor->inputs; -1: nothing, the table's row is the output (tabulated)
    kv_param table; // [vocab_size, kv_dim]; or, of a table with a width, the matrix [kv_dim, width]
} kv_predictor_output;

typedef struct kv_predictor {
    kv_predictor_spec spec;
    int64_t n_inputs;
    kv_predictor_input *inputs;             // [n_inputs]
    int64_t *source_dims;                   // what their dims point at
    kv_predictor_output *outputs[KV_SIDES]; // [n_base_layers] each
    kv_param embedding;         // [vocab_size, width]: what all tables with a width share; else no rows
    kv_query_adapter *adapters; // [n_base_layers], or NULL: queries are the base's own
    kv_param *adapter_params;   // what those point at
    void *storage;
    float *grads;
    // What depends on the token alone is looked up (core/predictor/tabulated.h): maps read the rest, tables have
    // a row for each token and lie in somebody else's memory.
    bool tabulated;
    kv_sources *joined;      // [n_inputs]: what of the sources is still read
    uint64_t token_products; // that a token is spared
    void *tables;            // whose memory the tables lie in: given back by release(tables), if not NULL
    void (*release)(void *tables);
} kv_predictor;

// float32 predictors for a pair, weights zero. The aux of a prefix is the base. KV_ERR_ARGUMENT as
// kv_predictor_spec_check says. On failure *predictor is NULL. Free with kv_predictor_free.
kv_status kv_predictor_create(const kv_model_spec *base, const kv_model_spec *aux,
                              const kv_predictor_spec *spec, kv_predictor **predictor, kv_error *err);
// The same without memory for weights, to plan with: what is asked of shapes alone works, no weight's data do.
kv_status kv_predictor_plan(const kv_model_spec *base, const kv_model_spec *aux,
                            const kv_predictor_spec *spec, kv_predictor **predictor, kv_error *err);
// The same of what is left of a predictor whose token parts are looked up (core/predictor/tabulated.h). Tables have
// sizes; their data, and a type other than KV_F32, are set by whoever makes or maps them.
kv_status kv_predictor_plan_tabulated(const kv_model_spec *base, const kv_model_spec *aux,
                                      const kv_predictor_spec *spec, kv_predictor **predictor, kv_error *err);
kv_status kv_predictor_create_tabulated(const kv_model_spec *base, const kv_model_spec *aux,
                                        const kv_predictor_spec *spec, kv_predictor **predictor,
                                        kv_error *err);
void kv_predictor_free(kv_predictor *predictor);

// Matrices normal with std 1/sqrt(fan_in), both factors of a low-rank map (so that their product's outputs are
// as large as a full map's); biases and tables 0; adapted queries the base's own, or what adds nothing to
// them. base may be NULL where no queries are adapted in full (KV_ERR_ARGUMENT otherwise).
kv_status kv_predictor_init(kv_predictor *predictor, const kv_model *base, uint64_t seed, kv_error *err);

// Brings the matrices of a predictor that is not trained into panels (core/gemm/packed.h), in place; not its tables. False
// when memory ran out; it then computes as before, packed in part.
bool kv_predictor_pack(kv_predictor *predictor);

// KV_ERR_ARGUMENT for tabulated ones, of which not all that there was to learn is left.
kv_status kv_predictor_set_trainable(kv_predictor *predictor, bool trainable, kv_error *err);

// All parameters, in this order: of every base layer the keys' and then the values' ("key.0.weight",
// "key.0.bias", "value.0.weight", …; with low rank "key.0.down.weight", …), each with its "key.0.table" or
// "key.0.token.weight" behind; then "token.embedding"; then "query.0.weight" or "query.0.down.weight" and
// "query.0.up.weight" of the layers that have adapted queries. Not what was tabulated. Returns their number;
// fills params[] when not NULL.
int64_t kv_predictor_params(kv_predictor *predictor, kv_param **params);
int64_t kv_predictor_size(const kv_predictor *predictor);       // weights
int64_t kv_predictor_table_size(const kv_predictor *predictor); // of these, those of token tables
// Of these, those in tables of which a token looks up one row each; *width: the numbers in its rows.
int64_t kv_predictor_looked_up(const kv_predictor *predictor, int64_t *width);

// Of a separate aux's parameters those that what is read of it depends on: all that can learn where it has no loss of
// its own. params[] has room for all of the aux's (kv_model_params); returns their number. And their weights, from
// shapes alone.
int64_t kv_predictor_aux_params(const kv_predictor *predictor, kv_model *aux, kv_param **params);
int64_t kv_predictor_aux_size(const kv_predictor *predictor, const kv_model_spec *aux);

// ---- Running it ----------------------------------------------------------------------------------------

// Whether any of its maps reads such a source.
bool kv_predictor_reads(const kv_predictor *predictor, kv_source_kind kind);

// What of some tokens a predictor reads; NULL where it reads nothing.
typedef struct kv_taps {
    kv_tensor *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS]; // of aux layers: keys before k_norm; values
    kv_tensor *h[KV_MAX_LAYERS];                    // of aux layers: their normed inputs
    kv_tensor *embedding, *own_k, *own_v, *own_h;   // of the base
    const int32_t *ids;                             // the tokens, for tables: valid until backward
    int64_t n;
} kv_taps;

// Runs as much of the aux as the predictor reads, and of the base what is of the token alone (base may be
// NULL when the predictor reads nothing of it). ids[n] in the sequences of `pass`; of the pass n_layers, k,
// raw_k, v, h, reads and only_kv are set here. With `whole` all of the aux is run and its hidden states before
// the final norm are returned, else nothing that may be used (but NULL only when the tape failed).
kv_tensor *kv_predictor_read(kv_tape *tape, const kv_predictor *predictor, kv_model *base, kv_model *aux,
                             const int32_t *ids, int64_t n, const kv_pass *pass, bool whole, kv_taps *taps);
// The part of that which is the base's, where the aux's is known.
void kv_predictor_read_base(kv_tape *tape, const kv_predictor *predictor, kv_model *base, const int32_t *ids,
                            int64_t n, kv_taps *taps);

// Fills k[n_base_layers] (after the base's k_norm, before RoPE) and v[n_base_layers], [tokens, kv_dim_base];
// entries are NULL when the tape failed. norms: the base's, see kv_model_key_norms.
void kv_predict(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms, const kv_taps *taps,
                kv_tensor **k, kv_tensor **v);
// Of base layers from `first` on: the entries before are left alone, and what only they read need not be there.
void kv_predict_from(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms, const kv_taps *taps,
                     int64_t first, kv_tensor **k, kv_tensor **v);

// Takes one output, [tokens, kv_dim_base], keys after the base's k_norm. It lies in memory that is given back soon after.
typedef void kv_entries_fn(void *what, int side, int64_t layer, const kv_tensor *entries);

// Some of the rows that an aux reads, rising, and their ids.
typedef struct kv_some_rows {
    const int64_t *rows;
    const int32_t *ids;
    int64_t n;
} kv_some_rows;

// Both at once, where nobody differentiates: every output goes to `take`, made as soon as the last of what its map reads
// is there, before the aux goes on. The same bits as one after the other, in memory for one output and for what of the
// aux is read later than where it is made. only: rows that entries are made of, the others are read by the aux alone;
// NULL: all. false when the tape failed.
bool kv_predict_along(kv_tape *tape, kv_predictor *predictor, const kv_key_norms *norms, kv_model *base,
                      kv_model *aux, const int32_t *ids, int64_t n, const kv_pass *pass,
                      const kv_some_rows *only, kv_entries_fn *take, void *what);

// Of one output alone: what is predicted, keys before the base's k_norm; and what of it is its table's rows.
kv_tensor *kv_predict_one(kv_tape *tape, kv_predictor *predictor, int side, int64_t layer,
                          const kv_taps *taps);
kv_tensor *kv_predict_table(kv_tape *tape, kv_predictor *predictor, int side, int64_t layer,
                            const kv_taps *taps);

// The sources of one input side by side: what its maps, and least squares, read.
kv_tensor *kv_predictor_input_tensor(kv_tape *tape, const kv_predictor_input *input, const kv_taps *taps);

// ---- What it costs -------------------------------------------------------------------------------------
// base, aux: the pair's specs.

// Products of n tokens: of the aux as far as it is read, n_seq sequences of n / n_seq tokens each, each behind `cached`
// that it has read before; of the maps
// and of what is of the token alone; and what queries of the first n_layers cost more than the base's own.
uint64_t kv_flops_predictor_aux(const kv_predictor *predictor, const kv_model_spec *aux, int64_t n_seq,
                                int64_t n, int64_t cached);
uint64_t kv_flops_predictor_maps(const kv_predictor *predictor, const kv_model_spec *base, int64_t n);
uint64_t kv_flops_predictor_queries(const kv_predictor *predictor, const kv_model_spec *base,
                                    int64_t n_layers, int64_t n);
// Of a training step: forward and backward of the maps (aux_trained: what they read of it wants a gradient).
uint64_t kv_flops_predictor_step(const kv_predictor *predictor, const kv_model_spec *base, int64_t n,
                                 bool aux_trained);
// The part of kv_flops_predictor_maps that depends on the token alone, and could be looked up instead; of a
// tabulated predictor, which executes none of it, what that has saved.
uint64_t kv_flops_predictor_tokens(const kv_predictor *predictor, const kv_model_spec *base, int64_t n);

// Numbers read from tables for one token.
int64_t kv_predictor_lookups(const kv_predictor *predictor, const kv_model_spec *base);

// Floats a token on the tape beside the predicted keys and values (raw and normed): joined inputs, what maps
// keep in between, tables' rows; of each, in *gradients, what also has a gradient.
double kv_predictor_floats(const kv_predictor *predictor, const kv_model_spec *base, bool aux_trained,
                           double *gradients);
// The same of kv_predict_along: what it keeps throughout, of the aux for later layers and of the token alone; and while it
// makes outputs behind a layer of the aux (-1: before the first), the layer's own keys, values and input not counted.
double kv_predictor_kept_floats(const kv_predictor *predictor, const kv_model_spec *base);
double kv_predictor_along_floats(const kv_predictor *predictor, const kv_model_spec *base, int64_t layer);
// The aux layer behind which all sources of an input are there; -1: they are of the token alone.
int64_t kv_predictor_input_layer(const kv_predictor_input *input);

// Of adapted queries, while the base reads a predicted cache; each has a gradient, too.
double kv_predictor_query_floats(const kv_predictor *predictor, const kv_model_spec *base);

KV_API_END
