// The models that are timed: published shapes, and those of the small families in configs/, with random weights.
#pragma once

#include "core/objective.h"
#include "infer/session/engine.h"

#include <jansson.h>

// "openelm-1.1b" and the like (with -lp-0.50 and the like behind), "quickstart-base", "quickstart-aux", "atlas-base",
// "atlas-near", "atlas-a1". quick: a tiny one in its place. Ends the program when there is no such name. Contexts are made long
// enough for all that is timed.
void bench_shape(const char *name, bool quick, kv_model_spec *spec);

// A frozen model of that shape, in panels, as programs that only run it load it; and one that can be made trainable. Free with
// kv_model_free.
kv_model *bench_model(const char *name, bool quick, kv_dtype type);
kv_model *bench_trained_model(const char *name, bool quick);

// Predictors to be trained, as the paper has them: keys from keys, values from values; tables of the token with `recipe`, as
// ours has them. To be run alone they are packed (kv_predictor_pack).
kv_predictor *bench_predictor(const kv_model_spec *base, const kv_model_spec *aux, bool recipe);

// Bytes that decoding a token reads of weights: all but the rows of the embedding that it leaves alone.
double bench_weight_bytes(const kv_model *model);

// A shape as peers.py wants it.
json_t *bench_shape_json(const kv_model_spec *spec);

// ids[n], each below the vocabulary's size.
void bench_fill_ids(int32_t *ids, int64_t n, int64_t vocab_size);

// Prompts of one length in a session of their own.
typedef struct bench_reader {
    kv_session *session;
    int64_t n_seq, n_tokens;
    int32_t *ids;
    int64_t *lengths;
    float *logits;
} bench_reader;

// room: tokens that may follow.
bench_reader *bench_reader_create(const kv_system *system, int64_t n_seq, int64_t n_tokens, int64_t room);
void bench_reader_free(bench_reader *reader);
void bench_reader_prefill(void *reader); // forgets all, reads the prompts up to their first token's logits
