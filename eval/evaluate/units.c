// Everything about units that those who share them out and those who ask them must see alike.
#include "eval/evaluate/units.h"

#include "data/file/hash.h"
#include "data/ranks/ranks.h"

#include <stdlib.h>
#include <string.h>

// ---- Blocks --------------------------------------------------------------------------------------------

// Of what is scored a block is a batch. Answers in words take a few batches' worth, for prompts of like length to meet and
// answers to take the places of others, as long as that is not much work to lose.
int64_t kv_units_block(const kv_evaluation *e, int64_t system, int64_t task, int64_t first) {
    enum { BATCHES = 4 };
    static const double much = 5e12; // FLOPs: a minute of two cores
    const kv_benchmark *b = e->benchmarks[task];
    const int64_t units = b->n_units / b->n_items,
                  batch = e->config->batch_size ? e->config->batch_size : KV_BATCH_MOST;
    const int64_t least = b->most_units > 0 && b->most_units < batch ? b->most_units : batch;
    const int64_t left = b->n_units - first, most = b->answer_tokens > 0 ? BATCHES * least : least;
    double flops = 0;
    int64_t n = 0;
    for (; n < left && n < most && (n < least || flops < much); n++) {
        kv_unit_cost cost;
        if (b->answer_tokens == 0) continue;
        kv_benchmark_cost(b, &e->systems->items[system], 0, (first + n) / units, &cost);
        flops += cost.reading + cost.steps;
    }
    return n;
}

int64_t kv_units_end(const kv_benchmark *b, const kv_journal *journal) {
    json_t *const *records = kv_journal_records(journal);
    int64_t u = 0;
    while (u < b->n_units && !json_object_get(records[u], "not_finite")) u++;
    return u;
}

// ---- Records -------------------------------------------------------------------------------------------

// What ends an answer, as config.json and the tokenizer's files say it: no weight tells of that.
static uint64_t hash_ends(const kv_evaluation *e, int64_t system, uint64_t hash) {
    const kv_model_spec *base = &e->systems->items[system].base->spec;
    const int32_t ids[] = {base->eos_id, kv_tokenizer_eos(e->tokenizer)};
    hash = kv_hash64(hash, base->stop_ids, (size_t)base->n_stop_ids * sizeof *base->stop_ids);
    return kv_hash64(hash, ids, sizeof ids);
}

// Raised when units meet in other batches than before.
enum { BATCHING = 2 };

// What is asked together is part of it: sums of many numbers round differently in another order.
void kv_units_run(const kv_evaluation *e, int64_t system, int64_t task, char out[17]) {
    const kv_benchmark *b = e->benchmarks[task];
    char system_hash[17];
    kv_systems_hash(e->systems, system, system_hash);
    const int64_t numbers[] = {(int64_t)e->config->seed, e->config->batch_size, BATCHING};
    uint64_t hash = kv_hash64(0, numbers, sizeof numbers);
    hash = kv_hash64(hash, system_hash, 16);
    hash = b->way ? kv_hash64(hash, &b->way, sizeof b->way) : kv_hash64(hash, b->hash, 16);
    hash = kv_hash64(hash, e->tokenizer_id.hash, 16);
    hash = kv_hash64(hash, e->tokenizer_id.cuts, 16);
    hash = kv_hash64(hash, KV_VERSION, strlen(KV_VERSION));
    if (b->answer_tokens > 0) hash = hash_ends(e, system, hash);
    kv_hash_text(hash, out);
}

kv_journal_name kv_units_name(const kv_evaluation *e, int64_t system, int64_t task) {
    const kv_eval_task *row = &e->config->tasks[task];
    return (kv_journal_name){row->name, row->split, e->config->systems[system].name};
}

static kv_status open_journal(const kv_evaluation *e, int64_t system, int64_t task, bool part,
                              kv_journal **journal, kv_error *err) {
    const kv_benchmark *b = e->benchmarks[task];
    const kv_journal_name name = kv_units_name(e, system, task);
    const char *dir = e->config->output;
    *journal = NULL;
    uint64_t *asked = malloc((size_t)b->n_units * sizeof *asked + 1);
    if (!asked) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld answers", (long long)b->n_units);
    for (int64_t u = 0; u < b->n_units; u++) asked[u] = kv_item_key(&b->items[u / (b->n_units / b->n_items)]);
    kv_journal_run run = {.n_units = b->n_units,
                          .asked = b->way ? asked : NULL,
                          .part = b->way && e->config->tasks[task].limit > 0};
    kv_units_run(e, system, task, run.hash);
    kv_status status = part ? kv_journal_open_part(dir, &name, &run, kv_rank(), journal, err)
                            : kv_journal_open(dir, &name, &run, journal, err);
    free(asked);
    return status;
}

kv_status kv_units_open(const kv_evaluation *e, int64_t system, int64_t task, kv_journal **journal,
                        kv_error *err) {
    const kv_journal_name name = kv_units_name(e, system, task);
    *journal = NULL;
    kv_status status = kv_journal_skipped(e->config->output, &name, e->benchmarks[task]->skipped, err);
    return status == KV_OK ? open_journal(e, system, task, false, journal, err) : status;
}

kv_status kv_units_open_part(const kv_evaluation *e, int64_t system, int64_t task, kv_journal **journal,
                             kv_error *err) {
    return open_journal(e, system, task, true, journal, err);
}
