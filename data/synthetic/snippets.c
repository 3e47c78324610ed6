// Which compositions there are and which are chosen: all are listed and shuffled, and operations that would
// be in no training text are brought to the front first.
#include "data/synthetic/snippets.h"

#include "core/rng.h"
#include "data/synthetic/snippets_ops.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *kv_snippet_split_name(kv_snippet_split split) {
    static const char *const names[KV_SNIPPET_SPLITS] = {"trained", "known", "held_out"};
    return names[split];
}

void kv_snippets_range(const kv_snippets *snippets, kv_snippet_split split, int64_t *begin, int64_t *end) {
    int64_t n_train = snippets->options.n_train, bounds[] = {0, n_train - n_train / 5, n_train, snippets->n};
    *begin = bounds[split];
    *end = bounds[split + 1];
}

void kv_snippets_free(kv_snippets *snippets) {
    free(snippets->compositions);
    *snippets = (kv_snippets){0};
}

// ---- Which compositions there are ----------------------------------------------------------------------

// Appends all that begin with the `n` operations in *prefix, whose result is of `type`; with all NULL it only
// counts them.
static void enumerate(kv_composition *prefix, int64_t n, int64_t depth, kv_snippet_type type,
                      kv_composition *all, int64_t *count) {
    if (n == depth || n == KV_SNIPPET_MAX_DEPTH) {
        if (all) all[*count] = *prefix;
        (*count)++;
        return;
    }
    for (int i = 0; i < kv_snippet_n_ops; i++) {
        if (kv_snippet_ops[i].in != type) continue;
        prefix->ops[n] = (uint8_t)i;
        enumerate(prefix, n + 1, depth, kv_snippet_ops[i].out, all, count);
    }
}

static int64_t enumerate_all(int64_t depth, kv_composition *all) {
    int64_t count = 0;
    for (int type = 0; type < KV_SNIPPET_TYPES; type++) {
        kv_composition prefix = {{0}};
        enumerate(&prefix, 0, depth, (kv_snippet_type)type, all, &count);
    }
    return count;
}

// ---- Which are chosen ----------------------------------------------------------------------------------

static void swap(kv_composition *a, kv_composition *b) {
    kv_composition kept = *a;
    *a = *b;
    *b = kept;
}

// Moves to the front, out of all[n] in random order, as few as it takes for every operation to occur. Returns
// how many.
static int64_t cover_operations(kv_composition *all, int64_t n, int64_t depth) {
    bool seen[UINT8_MAX + 1] = {false};
    int64_t front = 0;
    for (int64_t i = 0; i < n; i++) {
        bool news = false;
        for (int64_t d = 0; d < depth; d++) {
            news |= !seen[all[i].ops[d]];
            seen[all[i].ops[d]] = true;
        }
        if (news) swap(&all[front++], &all[i]);
    }
    return front;
}

static kv_status choose(const kv_composition *all, kv_snippets *snippets, kv_error *err) {
    const kv_snippets_options *o = &snippets->options;
    int64_t n = snippets->n_available, begin, n_trained;
    int64_t *order = malloc((size_t)n * sizeof *order);
    kv_composition *shuffled = malloc((size_t)n * sizeof *shuffled);
    if (!order || !shuffled) {
        free(order);
        free(shuffled);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " compositions", n);
    }
    kv_rng_permutation(kv_rng_stream(o->seed, "snippets compositions"), n, order);
    for (int64_t i = 0; i < n; i++) shuffled[i] = all[order[i]];
    free(order);
    snippets->compositions = shuffled;
    int64_t needed = cover_operations(shuffled, n, o->depth);
    kv_snippets_range(snippets, KV_SNIPPET_TRAINED, &begin, &n_trained);
    if (n_trained >= needed) return KV_OK;
    // The least n whose four fifths, rounded up, are enough.
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "%" PRIi64 " compositions to train on, expected at least %" PRIi64
                   ": fewer do not hold all %d operations",
                   o->n_train, needed + (needed - 1) / 4, kv_snippet_n_ops);
}

static kv_status check_options(const kv_snippets_options *o, kv_error *err) {
    if (o->depth < 2 || o->depth > KV_SNIPPET_MAX_DEPTH)
        return kv_fail(err, KV_ERR_ARGUMENT, "depth %" PRIi64 ", expected 2 to %d operations", o->depth,
                       KV_SNIPPET_MAX_DEPTH);
    if (o->n_train < 1 || o->n_held_out < 0)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%" PRIi64 " compositions to train on and %" PRIi64
                       " held out, expected at least 1 and 0",
                       o->n_train, o->n_held_out);
    if (o->n_texts < 1 || o->n_examples < 0 || o->n_examples > 3)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%" PRIi64 " texts of a composition, %" PRIi64
                       " examples; expected at least 1, and 0 to 3",
                       o->n_texts, o->n_examples);
    return KV_OK;
}

kv_status kv_snippets_build(const kv_snippets_options *options, kv_snippets *snippets, kv_error *err) {
    *snippets = (kv_snippets){.options = *options};
    kv_status status = check_options(options, err);
    if (status) return status;
    int64_t available = enumerate_all(options->depth, NULL);
    snippets->n_available = available;
    if (options->n_train > available || options->n_held_out > available - options->n_train)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%" PRIi64 " + %" PRIi64 " compositions asked for, but there are %" PRIi64
                       " of depth %" PRIi64,
                       options->n_train, options->n_held_out, available, options->depth);
    snippets->n = options->n_train + options->n_held_out;
    kv_composition *all = malloc((size_t)available * sizeof *all);
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " compositions", available);
    enumerate_all(options->depth, all);
    status = choose(all, snippets, err);
    free(all);
    if (status) kv_snippets_free(snippets);
    return status;
}
