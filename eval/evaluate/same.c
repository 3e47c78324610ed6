// Fingerprints that results and journals have anyway, compared in an order that is the same on all ranks, as their
// configurations are.
#include "eval/evaluate/same.h"

#include "core/text.h"
#include "data/ranks/ranks.h"

#include <stdio.h>

kv_status kv_same_questions(const kv_evaluation *e, kv_error *err) {
    kv_status status = KV_OK;
    char what[256];
    if (e->tokenizer) {
        char both[40];
        snprintf(both, sizeof both, "%s/%s", e->tokenizer_id.hash, e->tokenizer_id.cuts);
        snprintf(what, sizeof what, "the tokenizer %.*s", KV_HEAD(e->tokenizer_path, 200));
        status = kv_ranks_same(what, both, err);
    }
    for (unsigned t = 0; t < e->config->n_tasks && status == KV_OK; t++) {
        const kv_eval_task *row = &e->config->tasks[t];
        snprintf(what, sizeof what, "what `tasks[%u]` asks (%.*s)", t, KV_HEAD(kv_task_source(row), 180));
        status = kv_ranks_same(what, e->benchmarks[t]->hash, err);
    }
    if (status == KV_OK && e->config->analysis.corpus)
        status = kv_ranks_same("the text of `analysis`", e->text.hash, err);
    return status;
}

kv_status kv_same_systems(const kv_evaluation *e, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t s = 0; s < e->systems->n && status == KV_OK && kv_n_ranks() > 1; s++) {
        char what[256], hash[17];
        kv_systems_hash(e->systems, s, hash);
        snprintf(what, sizeof what, "what the system `%.*s` computes (models, predictor, pruning)",
                 KV_HEAD(e->config->systems[s].name, 120));
        status = kv_ranks_same(what, hash, err);
    }
    return status;
}
