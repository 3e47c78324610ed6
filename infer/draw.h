// Whole documents drawn from a model, as many as wanted: text as the model itself would write it, to train others on.
//                                                                              [core/README.md §9]
//
// A document is a pure function of the model, the plan and its number. What else is drawn at the same time, how many
// sequences go through the model together, how many threads there are and which kernels OpenBLAS has changes none of its
// tokens, since the products are batch-invariant (core/gemm.h). Another build, for another set of instructions, may
// round otherwise, and then now and then draw another token.
#pragma once

#include "core/api.h"
#include "core/model.h"
#include "infer/session/sample.h"

KV_API_BEGIN

typedef struct kv_document_plan {
    kv_model *model;
    kv_sampling sampling; // document i has the random stream i of its seed
    // What the model has read when the first token is drawn, at least one token. The first n_before of them are in no
    // document: they stand for the end of the one before.
    const int32_t *opening;
    int64_t n_opening, n_before;
    int64_t max_tokens; // of a document; more than its part of the opening
    int64_t n_ids;      // ids from here on are never drawn: rows that pad the vocabulary
    // Tokens that end a document, as its last; beside those that the model's spec names.
    const int32_t *ends;
    int64_t n_ends;
    int32_t
        next; // begins the next document: drawn, it ends this one, and is no part of it; -1: there is none
    int32_t closing; // the last token of a document that has not ended by then; -1: it is cut off
} kv_document_plan;

// Takes documents in the order of their numbers, from one thread at a time. *enough: none behind this one is wanted.
typedef kv_status kv_take_document_fn(void *context, int64_t number, const int32_t *ids, int64_t n,
                                      bool *enough, kv_error *err);
// Asked after each step of each thread, one at a time: n_tokens were drawn so far, those of documents that are not
// taken yet included. false: stop, and forget these.
typedef bool kv_going_on_fn(void *context, int64_t n_tokens);

// Documents first, first + stride, ... up to n of them (-1: without end), `batch` at a time, over OpenMP's threads. A plan
// that makes no sense is KV_ERR_ARGUMENT, one that does not fit the context KV_ERR_RANGE; logits that are not finite are
// KV_ERR_NOT_FINITE, with the document's number. A failure of `take` ends it and is passed on.
kv_status kv_draw_documents(const kv_document_plan *plan, int64_t first, int64_t stride, int64_t n,
                            int64_t batch, kv_take_document_fn *take, kv_going_on_fn *going_on, void *context,
                            kv_error *err);

// Operations (2 per multiply-add) of all products that a document of n tokens takes: exactly what kv_gemm_flops()
// counts, where it ended with its last token.
uint64_t kv_document_flops(const kv_document_plan *plan, int64_t n);

// What kv_draw_documents takes of memory with this many threads, in bytes, the model's weights not counted: never
// less than it takes, but for what `take` keeps.
double kv_document_bytes(const kv_document_plan *plan, int64_t batch, int64_t n_threads);

KV_API_END
