#include "infer/prune.h"

#include "core/flops.h"

enum { DEFAULT_LOOKAHEAD = 8 };

// Mean tokens of a TriviaQA prompt.                                                    [method.md section 8]
static const double paper_prompt = 59;

// Everything up to 30 % of the depth, then from start down to end, which holds from 90 % on.
static double mean_of_schedule(double start, double end) {
    return 0.3 + 0.6 * (start + end) / 2 + 0.1 * end;
}

static double speculative_cost(const kv_pruning *pruning, const kv_model_spec *base,
                               const kv_model_spec *aux) {
    const double lookahead = (double)(pruning->lookahead ? pruning->lookahead : DEFAULT_LOOKAHEAD);
    return (1 + lookahead / paper_prompt) / kv_paper_reduction(base, aux) + pruning->keep;
}

double kv_pruning_paper_reduction(const kv_pruning *pruning, const kv_model_spec *base,
                                  const kv_model_spec *aux) {
    switch (pruning->kind) {
    case KV_PRUNE_NONE: break;
    case KV_PRUNE_RANDOM: return 1 / pruning->keep;
    case KV_PRUNE_STATIC: return 1 / (0.25 + pruning->keep);
    case KV_PRUNE_LAZY: return 1 / mean_of_schedule(pruning->start, pruning->end);
    case KV_PRUNE_SPECULATIVE: return 1 / speculative_cost(pruning, base, aux);
    }
    return 1;
}
