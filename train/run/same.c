// The configurations are compared key by key (data/config/same.h), all else by its hash.
#include "train/run/same.h"

#include "data/config/same.h"
#include "data/file/hash.h"
#include "data/ranks/ranks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- The configuration ---------------------------------------------------------------------------------

// Places of what is compared by content, and what is a machine's own.
static const char *const may_differ[] = {"output",         "base",           "aux",        "cache",
                                         "model.path",     "predictor.path", "data.train", "data.validation",
                                         "train.memory_gb"};
enum { N_MAY_DIFFER = sizeof may_differ / sizeof *may_differ };

static kv_status same_configuration(const kv_training *t, kv_error *err) {
    const size_t n = N_MAY_DIFFER + (size_t)t->text.n_parts;
    char(*parts)[KV_TEXT_KEY] = calloc((size_t)t->text.n_parts, sizeof *parts);
    const char **ignored = calloc(n, sizeof *ignored);
    kv_status status = parts && ignored ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    for (size_t i = 0; status == KV_OK && i < n; i++)
        ignored[i] = i < N_MAY_DIFFER
                         ? may_differ[i]
                         : kv_train_text_key(t->config, (int64_t)i - N_MAY_DIFFER, parts[i - N_MAY_DIFFER]);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = kv_config_same(t->source, ignored, n, err);
    free(parts);
    free(ignored);
    return status;
}

// ---- Text ----------------------------------------------------------------------------------------------

// Which shard it is.
static kv_status name_shard(const kv_corpus *corpus, const char *key, kv_error *err) {
    int64_t n = corpus->n_shards;
    kv_ranks_broadcast(&n, sizeof n, 0);
    char count[32], what[96];
    snprintf(count, sizeof count, "%" PRIi64, corpus->n_shards);
    snprintf(what, sizeof what, "the number of shards of %s", key);
    kv_status status = kv_ranks_same(what, count, err);
    for (int64_t i = 0; status == KV_OK && i < n; i++) {
        snprintf(what, sizeof what, "shard %" PRIi64 " of %s", i, key);
        status = kv_ranks_same(what, corpus->shards[i].hash, err);
    }
    return status;
}

static kv_status same_text(const kv_training *t, kv_error *err) {
    kv_status status = kv_ranks_same("the tokenizer of the text", t->text.info.tokenizer, err);
    for (int64_t i = 0; status == KV_OK && i < t->text.n_parts; i++) {
        char key[KV_TEXT_KEY], hash[17], what[96];
        kv_train_text_key(t->config, i, key);
        kv_corpus_hash(t->text.corpora[i], hash);
        snprintf(what, sizeof what, "the text of %s", key);
        status = kv_ranks_same(what, hash, err);
        if (status != KV_OK && name_shard(t->text.corpora[i], key, err) != KV_OK) break;
    }
    return status;
}

kv_status kv_same_inputs(const kv_training *training, kv_error *err) {
    if (kv_n_ranks() == 1) return KV_OK;
    kv_status status = same_configuration(training, err);
    if (status == KV_OK) status = same_text(training, err);
    const kv_validation *held_out = training->validation;
    if (status == KV_OK)
        status = kv_ranks_same("the text of data.validation", held_out ? held_out->hash : "none", err);
    return status;
}

// ---- What a run goes on from ---------------------------------------------------------------------------

kv_status kv_same_beginning(const kv_run *run, kv_error *err) {
    char from[48] = "its beginning";
    if (run->finished)
        snprintf(from, sizeof from, "its end");
    else if (run->checkpoint[0])
        snprintf(from, sizeof from, "step %" PRIi64, run->state.step);
    return kv_ranks_same("what the run goes on from (all ranks have to see its directory)", from, err);
}

static void hash_trained(const kv_task *task, char text[17]) {
    uint64_t hash = 0;
    for (int64_t i = 0; i < task->n_params; i++) {
        const kv_param *p = task->params[i];
        hash = kv_hash64(hash, p->data, (size_t)kv_param_size(p) * kv_dtype_size(p->dtype));
    }
    kv_hash_text(hash, text);
}

kv_status kv_same_weights(const kv_task *task, kv_error *err) {
    char trained[17];
    if (kv_n_ranks() == 1) return KV_OK;
    hash_trained(task, trained);
    kv_status status = kv_ranks_same("the base (its weights)", task->frozen_base, err);
    if (status == KV_OK) status = kv_ranks_same("the aux (its weights)", task->frozen_aux, err);
    return status == KV_OK ? kv_ranks_same("what is trained (the weights it starts with)", trained, err)
                           : status;
}
