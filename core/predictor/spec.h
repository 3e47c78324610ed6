// What a predictor is like, without its weights: for every layer of the base, for keys and for values, what
// the map reads (sources), what the map is (kind), what stands beside it (a table per token); and what else
// is trained with the maps (adapted queries).
//
//                   sources, side by side                    map            + table of the token
//   aux layer 0     k0  v0  h0  ─┐
//   aux layer 1     k1  v1  h1  ─┼──  [k1, h2, embedding]  ──  linear  ──  +  ──  K̂ before k_norm
//   aux layer 2     k2  v2  h2  ─┤                             low rank           of base layer i
//   base            embedding   ─┘                             MLP …
//                                                                             [core/README.md §9]
// With a prefix the aux is the base's own first layers: their keys and values are read as they are (kind
// "exact"), and the others are predicted from what enters the next layer.
#pragma once

#include "core/api.h"
#include "core/model.h"

#include <assert.h>
#include <string.h>

KV_API_BEGIN

// What of the two models a map may read, each a tensor of [tokens, dim].
typedef enum kv_source_kind {
    KV_SOURCE_KEYS,      // of an aux layer, before its k_norm and RoPE
    KV_SOURCE_VALUES,    // of an aux layer
    KV_SOURCE_HIDDEN,    // the normed input of an aux layer: what its q, k and v are made of
    KV_SOURCE_EMBEDDING, // the base's embedding of the token
    KV_SOURCE_OWN_KEYS,  // the base's own keys of layer 0, before k_norm: they depend on the token alone
    KV_SOURCE_OWN_VALUES,
    KV_SOURCE_OWN_HIDDEN // and what these are made of: its embedding behind the layer's norm
} kv_source_kind;
enum { KV_SOURCE_KINDS = 7 };

typedef struct kv_source {
    uint8_t kind;  // a kv_source_kind
    uint8_t layer; // of the aux, from 0; 0 for what is the base's
} kv_source;
static_assert(KV_MAX_LAYERS <= UINT8_MAX + 1, "a source has a byte for its layer");

enum { KV_MAX_SOURCES = 3 * KV_MAX_LAYERS + 4 };
typedef struct kv_sources {
    int32_t n;
    kv_source at[KV_MAX_SOURCES]; // what depends on the token alone comes last
} kv_sources;

// Columns of a source; its heads (0: it has none); whether it depends on the token alone.
int64_t kv_source_dim(const kv_model_spec *base, const kv_model_spec *aux, kv_source source);
int64_t kv_source_heads(const kv_model_spec *aux, kv_source source);
bool kv_source_of_token(kv_source source);

// "k3", "v0", "h12", "embedding", "own_k", "own_v", "own_h": written with at most 16 bytes, and read: false when it is none.
void kv_source_name(kv_source source, char name[16]);
bool kv_source_parse(const char *name, kv_source *source);
// "k", "v", "h": the same without a layer, which somebody else chooses. And all names in words, for those who ask for one.
bool kv_source_kind_parse(const char *name, kv_source_kind *kind);
enum { KV_SOURCE_NAMES = 200 };
const char *kv_source_names_text(char text[KV_SOURCE_NAMES]);
// Of how many aux layers, the first ones, such a source can be read, of n or of the base's own first `prefix`.
int64_t kv_source_layers(kv_source_kind kind, int64_t n_aux_layers, int64_t prefix);

// Adds a source: behind those that are there already, but before those of the token alone if it is not such
// a one. A source that is there already is not added again.
void kv_sources_add(kv_sources *sources, kv_source_kind kind, int64_t layer);
bool kv_sources_equal(const kv_sources *a, const kv_sources *b);
bool kv_sources_of_aux(const kv_sources *sources); // whether any of them is the aux's

typedef struct kv_map_kind kv_map_kind; // core/predictor/map.h

enum { KV_TABLE_NONE = 0, KV_TABLE_FULL = -1 }; // above 0: the width of a trained embedding of the
// token, one for all tables, which a matrix of each output makes its row of

// How one output, the keys or the values of one base layer, is made.
typedef struct kv_output_spec {
    const kv_map_kind *kind;
    int64_t width; // what the kind takes it for: a rank, a number of hidden features; 0 for kinds without
    // Each head of the output reads its share of the sources' heads: with g the greatest common divisor of
    // their numbers of KV heads, g blocks of input columns make g blocks of output columns.
    bool matched;
    int64_t table; // KV_TABLE_NONE, KV_TABLE_FULL or a width
    kv_sources sources;
} kv_output_spec;

// What base layers that read a predicted cache have in place of their query projection.
typedef enum kv_adapt { KV_ADAPT_NONE, KV_ADAPT_QUERIES, KV_ADAPT_LORA } kv_adapt;

// Layers of the base from first to end - 1.
typedef struct kv_layer_range {
    int64_t first, end;
} kv_layer_range;

typedef enum kv_side { KV_KEYS, KV_VALUES } kv_side;
enum { KV_SIDES = 2 };
extern const char *const kv_side_names[KV_SIDES]; // "keys", "values"

typedef struct kv_predictor_spec {
    int64_t n_base_layers, n_aux_layers;
    int64_t prefix_layers; // 0: the aux is a model of its own; l: it is the base's own first l layers
    kv_output_spec outputs[KV_SIDES][KV_MAX_LAYERS];
    kv_adapt adapt;
    int64_t adapt_rank; // of KV_ADAPT_LORA
} kv_predictor_spec;

// The paper's: keys from keys and values from values of aux layer mapping[i], linear.
//                                                                      [paper, section 3.2, eq. 3 and 4]
void kv_predictor_spec_paper(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                             kv_predictor_spec *spec);

// The base's own first n_layers as aux: their caches exact, the others linear from the normed input of layer
// n_layers. The aux is then the base: its spec and its model stand wherever an aux is asked for.
//                                                                                   [core/README.md §9]
void kv_predictor_spec_prefix(const kv_model_spec *base, int64_t n_layers, kv_predictor_spec *spec);

// Keys and values of the base's first layer computed instead of predicted: they depend on the token alone.
void kv_predictor_spec_exact_first(kv_predictor_spec *spec);

// Sets the map of every output that is predicted; and its table.
void kv_predictor_spec_set_map(kv_predictor_spec *spec, const kv_map_kind *kind, int64_t width);
void kv_predictor_spec_set_table(kv_predictor_spec *spec, int64_t table);
// Each output that reads one aux layer reads the n nearest ones to it instead (kv_layers_near), as many as there are.
void kv_predictor_spec_neighbours(kv_predictor_spec *spec, int64_t n);

// Each output that reads aux layers reads all layers below n_layers instead, of each what it reads of the first.
void kv_predictor_spec_all_layers(kv_predictor_spec *spec, int64_t n_layers);

// Whether an output is what the base itself would compute.
bool kv_output_exact(const kv_output_spec *output);
// Whether a base layer reads keys or values that are not its own.
bool kv_layer_predicted(const kv_predictor_spec *spec, int64_t layer);

// KV_OK, or KV_ERR_ARGUMENT saying which layer's keys or values ask for what this pair of models has not: a
// source of a layer that is not there, or that a prefix does not compute; a width above the smaller side of a
// map; heads of what has none.
kv_status kv_predictor_spec_check(const kv_model_spec *base, const kv_model_spec *aux,
                                  const kv_predictor_spec *spec, kv_error *err);
bool kv_predictor_spec_equal(const kv_predictor_spec *a, const kv_predictor_spec *b);

// How many blocks what an output reads, and the output itself, fall into (1: unless matched).
int64_t kv_output_blocks(const kv_model_spec *base, const kv_model_spec *aux, int64_t layer,
                         const kv_output_spec *output);

// What has to be read of the aux, bits KV_READ_K, _V, _H (core/model.h) by layer; returns how many layers
// have to be run, the first ones, of the last of which no more than this is needed. 0: none.
int64_t kv_predictor_spec_reads(const kv_predictor_spec *spec, uint8_t reads[KV_MAX_LAYERS]);
// Whether the base's embedding, or its own first layer, is read.
bool kv_predictor_spec_reads_base(const kv_predictor_spec *spec);

// The width of its token tables; 0: none has one.
int64_t kv_predictor_spec_table_width(const kv_predictor_spec *spec);

// "linear from k0; …": what it is in at most a few lines, equal layers joined. Returns text's length as
// snprintf does.
size_t kv_predictor_spec_describe(const kv_predictor_spec *spec, char *text, size_t size);

KV_API_END
