// What answering will take: words behind a prompt or choices to be scored, as kinds of tasks do it unless they say
// otherwise.
#include "infer/cost.h"
#include "eval/benchmark/benchmark.h"
#include "infer/memory.h"

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Pruned ones read a context and decode its choice.
static void add_scored(const kv_system *system, bool behind, int64_t n, int64_t n_scored,
                       kv_unit_cost *cost) {
    const double all = (double)(behind ? kv_system_behind_flops : kv_system_score_flops)(system, n, n_scored);
    const bool decoded = system->pruning.kind != KV_PRUNE_NONE && n_scored > 0;
    const double steps = decoded ? (double)kv_system_decode_flops(system, n - n_scored, n_scored) : 0;
    cost->reading += all - steps, cost->steps += steps;
}

void kv_benchmark_cost(const kv_benchmark *b, const kv_system *systems, int64_t row, int64_t item,
                       kv_unit_cost *cost) {
    const kv_system *system = &systems[row];
    const kv_item *asked = &b->items[item];
    *cost = (kv_unit_cost){0};
    if (b->ops->cost) {
        b->ops->cost(b, systems, row, item, cost);
    } else if (b->answer_tokens > 0) {
        cost->reading = (double)kv_system_flops(system, b->prompt_tokens[item]);
        cost->steps = (double)kv_system_decode_flops(system, b->prompt_tokens[item], b->answer_tokens);
    } else {
        for (int64_t s = 0; s < asked->n_seq; s++)
            add_scored(system, kv_choices_behind_prompt(b, system), asked->lengths[s], asked->n_scored[s],
                       cost);
    }
}

// The longest prompt and the longest choice, which need not be of one sequence: never less than it takes.
static double behind_bytes(const kv_system *system, int64_t n_seq, int64_t longest, int64_t most_scored) {
    const double few = kv_behind_bytes(system, n_seq, longest, 1);
    return most_scored < 2 ? few : few + kv_behind_bytes(system, n_seq, longest, most_scored);
}

int64_t kv_benchmark_together(const kv_benchmark *b, const kv_batching *batching) {
    int64_t most = batching->most ? batching->most : KV_BATCH_MOST;
    if (b->answer_tokens > 0)
        most = kv_batching_fit(batching, b->longest - b->answer_tokens, b->answer_tokens);
    return smaller(b->most_units ? smaller(most, b->most_units) : most, b->n_units);
}

double kv_benchmark_bytes(const kv_benchmark *b, const kv_batching *batching) {
    const kv_system *system = batching->system;
    const int64_t n = kv_benchmark_together(b, batching);
    if (b->ops->bytes) return b->ops->bytes(b, system, n);
    if (b->answer_tokens > 0)
        return kv_batching_bytes(batching, b->n_units, b->longest - b->answer_tokens, b->answer_tokens);
    int64_t longest_item = 0, most_scored = 0, most_choices = 0; // of an item
    for (int64_t i = 0; i < b->n_items; i++) {
        const kv_item *item = &b->items[i];
        int64_t tokens = 0;
        for (int64_t s = 0; s < item->n_seq; s++) tokens += item->lengths[s];
        if (tokens > longest_item) longest_item = tokens;
        if (item->n_seq > most_choices) most_choices = item->n_seq;
        for (int64_t s = 0; s < item->n_seq; s++)
            if (item->n_scored[s] > most_scored) most_scored = item->n_scored[s];
    }
    if (kv_choices_behind_prompt(b, system))
        return behind_bytes(system, n * most_choices, b->longest, most_scored);
    return kv_score_bytes(system, n * longest_item, b->longest, true);
}

double kv_benchmark_kept(const kv_benchmark *b, const kv_system *system) {
    return b->ops->kept ? b->ops->kept(b, system) : 0;
}

void kv_benchmark_forget(kv_benchmark *b) {
    if (b->ops->forget) b->ops->forget(b);
}
