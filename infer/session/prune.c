// What the settings of a policy mean in tokens, and what the papers say that they save.
#include "infer/session/prune.h"

#include "core/flops.h"

#include <math.h>

enum { DEFAULT_LOOKAHEAD = 8, DEFAULT_WINDOW = 13, DEFAULT_CHUNK = 32 };

// Of lazy pruning's schedule, as parts of the depth.
//                                                                             [core/README.md §6, eq. 26]
static const double falls_from = 0.3, falls_to = 0.9;
// Part of the depth that static pruning looks through.
static const double static_part = 0.25;
// Mean tokens of a TriviaQA prompt.
//                                                                                     [core/README.md §8]
static const double paper_prompt = 59;

// ---- Settings ------------------------------------------------------------------------------------------

kv_pruning kv_pruning_resolved(const kv_pruning *pruning) {
    kv_pruning p = *pruning;
    if (p.lookahead == 0) p.lookahead = DEFAULT_LOOKAHEAD;
    if (p.window == 0) p.window = DEFAULT_WINDOW;
    if (p.chunk == 0) p.chunk = DEFAULT_CHUNK;
    return p;
}

static kv_status check_part(const char *name, double value, kv_error *err) {
    if (value > 0 && value <= 1) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "pruning: %s is a part of the tokens above 0 and up to 1, not %g",
                   name, value);
}

static kv_status check_lazy(const kv_pruning *p, kv_error *err) {
    kv_status status = check_part("start", p->start, err);
    if (status == KV_OK) status = check_part("end", p->end, err);
    if (status != KV_OK || p->end <= p->start) return status;
    return kv_fail(err, KV_ERR_ARGUMENT, "pruning: end (%g) must not be above start (%g)", p->end, p->start);
}

static kv_status check_speculative(const kv_pruning *given, kv_error *err) {
    const kv_pruning p = kv_pruning_resolved(given);
    kv_status status = check_part("keep", p.keep, err);
    if (status != KV_OK) return status;
    if (p.lookahead < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "pruning: lookahead needs at least one token, not %lld",
                       (long long)p.lookahead);
    if (p.window < 1 || p.window % 2 == 0)
        return kv_fail(err, KV_ERR_ARGUMENT, "pruning: window is an odd number of tokens, not %lld",
                       (long long)p.window);
    if (p.chunk < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "pruning: a chunk needs at least one token, not %lld",
                       (long long)p.chunk);
    return KV_OK;
}

kv_status kv_pruning_check(const kv_pruning *pruning, kv_error *err) {
    switch (pruning->kind) {
    case KV_PRUNE_NONE: return KV_OK;
    case KV_PRUNE_RANDOM:
    case KV_PRUNE_STATIC: return check_part("keep", pruning->keep, err);
    case KV_PRUNE_LAZY: return check_lazy(pruning, err);
    case KV_PRUNE_SPECULATIVE: return check_speculative(pruning, err);
    }
    return kv_fail(err, KV_ERR_ARGUMENT, "pruning: unknown kind %d", (int)pruning->kind);
}

int64_t kv_pruning_lookahead(const kv_pruning *pruning) {
    return pruning->kind == KV_PRUNE_SPECULATIVE ? kv_pruning_resolved(pruning).lookahead : 0;
}

// ---- How many ------------------------------------------------------------------------------------------

static int64_t part_of(double part, int64_t n, int64_t least) {
    const int64_t kept = (int64_t)llround(part * (double)n);
    if (least > n) least = n;
    return kept < least ? least : kept > n ? n : kept;
}

int64_t kv_pruning_kept(const kv_pruning *pruning, int64_t n) {
    switch (pruning->kind) {
    case KV_PRUNE_RANDOM:
    case KV_PRUNE_STATIC: return part_of(pruning->keep, n, 1);
    case KV_PRUNE_SPECULATIVE: return part_of(pruning->keep, n, 2);
    case KV_PRUNE_NONE:
    case KV_PRUNE_LAZY: break;
    }
    return n;
}

int64_t kv_lazy_kept(const kv_pruning *pruning, int64_t n_layers, int64_t layer, int64_t n) {
    const double depth = ((double)layer + 0.5) / (double)n_layers;
    if (layer == 0 || depth <= falls_from) return n;
    if (depth >= falls_to) return part_of(pruning->end, n, 1);
    const double fallen = (depth - falls_from) / (falls_to - falls_from);
    return part_of(pruning->start - fallen * (pruning->start - pruning->end), n, 1);
}

int64_t kv_static_layers(int64_t n_layers) {
    return part_of(static_part, n_layers, 1);
}

// ---- The paper's convention ----------------------------------------------------------------------------

static double mean_of_schedule(double start, double end) {
    return falls_from + (falls_to - falls_from) * (start + end) / 2 + (1 - falls_to) * end;
}

static double speculative_cost(const kv_pruning *pruning, const kv_model_spec *base,
                               const kv_model_spec *aux) {
    const double lookahead = (double)kv_pruning_resolved(pruning).lookahead;
    return (1 + lookahead / paper_prompt) / kv_paper_reduction(base, aux) + pruning->keep;
}

double kv_pruning_paper_reduction(const kv_pruning *pruning, const kv_model_spec *base,
                                  const kv_model_spec *aux) {
    switch (pruning->kind) {
    case KV_PRUNE_NONE: break;
    case KV_PRUNE_RANDOM: return 1 / pruning->keep;
    case KV_PRUNE_STATIC: return 1 / (static_part + pruning->keep);
    case KV_PRUNE_LAZY: return 1 / mean_of_schedule(pruning->start, pruning->end);
    case KV_PRUNE_SPECULATIVE: return 1 / speculative_cost(pruning, base, aux);
    }
    return 1;
}
