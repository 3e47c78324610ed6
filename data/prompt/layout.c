// What writing and reading a saved prompt have in common: names, the checksum, whose it is.
#include "data/prompt/layout.h"

#include "data/file/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kv_saved_texts(kv_saved_maker *m, kv_saved_text texts[KV_SAVED_TEXTS]) {
    const kv_saved_text all[KV_SAVED_TEXTS] = {
        {"base", m->base, sizeof m->base},
        {"aux", m->aux, sizeof m->aux},
        {"predictor", m->predictor, sizeof m->predictor},
        {"weights", m->weights, sizeof m->weights},
        {"tokenizer", m->tokenizer, sizeof m->tokenizer},
        {"base_source", m->base_source, sizeof m->base_source},
        {"aux_source", m->aux_source, sizeof m->aux_source},
        {"predictor_source", m->predictor_source, sizeof m->predictor_source},
    };
    memcpy(texts, all, sizeof all);
}

void kv_saved_name(int model, int side, int64_t layer, char name[KV_SAVED_NAME]) {
    snprintf(name, KV_SAVED_NAME, "/%s/%s/%" PRIi64, model ? "aux" : "base", side ? "value" : "key", layer);
}

static uint64_t hash_cache(uint64_t hash, const kv_saved_cache *cache) {
    hash = kv_hash64(hash, &cache->n_layers, sizeof cache->n_layers);
    hash = kv_hash64(hash, &cache->n_rows, sizeof cache->n_rows);
    for (int64_t i = 0; i < cache->n_layers; i++) {
        const size_t size = (size_t)(cache->n_rows * cache->dims[i]) * sizeof(float);
        hash = kv_hash64(hash, &cache->dims[i], sizeof cache->dims[i]);
        hash = kv_hash64(hash, cache->k[i], size);
        hash = kv_hash64(hash, cache->v[i], size);
    }
    return hash;
}

void kv_saved_checksum(const kv_saved_prompt *p, char out[17]) {
    kv_saved_maker maker = p->maker;
    kv_saved_text texts[KV_SAVED_TEXTS];
    uint64_t hash = 0;
    kv_saved_texts(&maker, texts);
    for (int i = 0; i < KV_SAVED_TEXTS; i++)
        hash = kv_hash64(hash, texts[i].value, strlen(texts[i].value) + 1);
    hash = kv_hash64(hash, p->ids, (size_t)p->n_ids * sizeof *p->ids);
    hash = kv_hash64(hash, p->predicted, (size_t)p->n_rows);
    hash = kv_hash64(hash, p->text ? p->text : "", (size_t)p->n_text);
    hash = hash_cache(hash, &p->base);
    kv_hash_text(hash_cache(hash, &p->aux), out);
}

static void free_cache(kv_saved_cache *cache) {
    for (int64_t i = 0; i < cache->n_layers; i++) {
        free(cache->k[i]);
        free(cache->v[i]);
    }
}

void kv_saved_prompt_free(kv_saved_prompt *prompt) {
    if (!prompt) return;
    free_cache(&prompt->base);
    free_cache(&prompt->aux);
    free(prompt->ids);
    free(prompt->predicted);
    free(prompt->text);
    free(prompt);
}

static double cache_bytes(const kv_saved_cache *cache) {
    double sum = 0;
    for (int64_t i = 0; i < cache->n_layers; i++)
        sum += 2 * sizeof(float) * (double)cache->n_rows * (double)cache->dims[i];
    return sum;
}

double kv_saved_prompt_bytes(const kv_saved_prompt *prompt) {
    return (double)prompt->n_ids * sizeof(int32_t) + (double)prompt->n_rows + (double)prompt->n_text +
           cache_bytes(&prompt->base) + cache_bytes(&prompt->aux);
}

kv_status kv_saved_prompt_check(const char *path, const kv_saved_prompt *prompt,
                                const kv_saved_maker *expected, kv_error *err) {
    const kv_saved_maker *m = &prompt->maker;
    const struct {
        const char *what, *found, *source, *expected, *expected_source;
    } parts[] = {
        {"the base", m->base, m->base_source, expected->base, expected->base_source},
        {"the aux", m->aux, m->aux_source, expected->aux, expected->aux_source},
        {"the predictor", m->predictor, m->predictor_source, expected->predictor, expected->predictor_source},
        {"the tokenizer", m->tokenizer, "", expected->tokenizer, ""},
        {"weights held as", m->weights, "", expected->weights, ""}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!strcmp(parts[i].found, parts[i].expected)) continue;
        return kv_fail(err, KV_ERR_MISMATCH,
                       "%s: a prompt that was saved with another model: %s %s%s%s, expected %s%s%s", path,
                       parts[i].what, *parts[i].found ? parts[i].found : "none",
                       *parts[i].source ? " of " : "", parts[i].source,
                       *parts[i].expected ? parts[i].expected : "none",
                       *parts[i].expected_source ? " of " : "", parts[i].expected_source);
    }
    return KV_OK;
}
