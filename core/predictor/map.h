// A kind of map: one file behind one table of functions. What trains, runs, counts, saves and describes maps
// asks this table and nothing else.
//
// To add one: write core/predictor/map_<name>.c with a kv_map_kind, and put it into the list in
// core/predictor/maps.c (core/README.md, "A kind of map").
#pragma once

#include "core/api.h"
#include "core/ops.h"
#include "core/predictor/ridge.h"
#include "core/predictor/spec.h"

KV_API_BEGIN

// What a map is made for. Of a matched one (n_blocks > 1) the matrices that read the input have input_dim /
// n_blocks columns, and block b of their rows reads block b of the input.
typedef struct kv_map_shape {
    int64_t width; // kv_output_spec.width
    int64_t n_blocks, input_dim, output_dim;
} kv_map_shape;

// A parameter of a map. Matrices are what products are counted by.
typedef struct kv_map_param {
    const char *name; // "weight": the parameter is then "key.3.weight"
    int64_t rows, cols;
    bool matrix;      // not a bias: decays, starts as noise of std 1/sqrt(cols)
    bool reads_input; // a matrix with the input's columns
    bool zero;        // a matrix that starts at zero
    bool to_output;   // a matrix that reads the input, and whose product is added to the output as it is
} kv_map_param;

enum { KV_MAP_PARAMS = 6 }; // of one map at most

// One output's map with its weights.
typedef struct kv_map {
    const kv_map_kind *kind;
    kv_map_shape shape;
    int64_t n_params;
    kv_param params[KV_MAP_PARAMS]; // in the order of kind->params
    // Of a tabulated predictor (core/predictor/tabulated.h), [vocab_size, rows] of each matrix that reads the
    // input: what its product has of the token. No rows: nothing, or it is in the output's table.
    kv_param tokens[KV_MAP_PARAMS];
} kv_map;

// What a map reads.
typedef struct kv_map_input {
    kv_tensor *x;       // [n, shape.input_dim]
    const int32_t *ids; // [n]: the tokens, valid until backward
} kv_map_input;

// x · Wᵀ + bias of the matrix params[weight], which reads the input, and params[bias] (-1: none): with what the
// token adds to it. Kinds make all their products with the input here.
kv_tensor *kv_map_read(kv_tape *tape, kv_map *map, const kv_map_input *input, int weight, int bias);

struct kv_map_kind {
    const char *name;
    const char *width_name; // "rank": what its width is called; NULL: it has none
    bool exact;             // hands on what it reads, the one source of an output that is not predicted
    // KV_OK, or KV_ERR_ARGUMENT saying what of the width makes no sense. NULL: nothing can be wrong.
    kv_status (*check)(const kv_map_shape *shape, kv_error *err);
    // Fills params[KV_MAP_PARAMS]; returns their number.
    int64_t (*params)(const kv_map_shape *shape, kv_map_param *params);
    // y [tokens, output_dim] of x [tokens, input_dim].
    kv_tensor *(*forward)(kv_tape *tape, kv_map *map, const kv_map_input *input);
    // Floats a token that forward leaves on the tape beside y, each with a gradient. NULL: none.
    int64_t (*inner)(const kv_map_shape *shape);
    // Doubles that take works on. NULL: none.
    int64_t (*work)(const kv_map_shape *shape);
    // Takes what a regression found for block `block` into its weights, as well as its kind can; what stays in
    // solution->weights is what the map then computes. NULL: it has nothing to learn.
    kv_status (*take)(kv_map *map, int64_t block, const kv_ridge_solution *solution, kv_error *err);
};

// All kinds, NULL behind the last; and by name, NULL when there is none.
extern const kv_map_kind *const kv_map_kinds[];
const kv_map_kind *kv_map_kind_find(const char *name);
// "linear, low_rank or mlp": for those who ask for one; exact: with those that predict nothing.
enum { KV_MAP_KIND_NAMES = 200 };
const char *kv_map_kind_names_text(char text[KV_MAP_KIND_NAMES], bool exact);

extern const kv_map_kind kv_map_linear, kv_map_low_rank, kv_map_exact;

// A full solution into rows of `weight` and of `bias` (for the kinds that have such a part).
void kv_ridge_store(const kv_ridge_solution *solution, int64_t block, kv_param *weight, kv_param *bias);

KV_API_END
