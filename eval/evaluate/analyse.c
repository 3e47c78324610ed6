// Comparing caches reads as much text as answering does; so it has a journal of its own, and goes on where it
// stopped.
#include "eval/evaluate/analyse.h"

#include "core/gemm.h"
#include "core/text.h"
#include "data/checkpoint/pair.h"
#include "data/corpus/corpus.h"
#include "data/file/hash.h"
#include "data/ranks/ranks.h"
#include "eval/evaluate/journal.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_SEQ_LEN = 256 };

// ---- Opening -------------------------------------------------------------------------------------------

static bool predicts(const kv_evaluation *e, int64_t system) {
    return e->config->systems[system].predictor != NULL;
}

static int64_t choose_seq_len(const kv_evaluation *e) {
    int64_t seq_len = e->config->analysis.seq_len;
    if (seq_len > 0) return seq_len;
    seq_len = DEFAULT_SEQ_LEN;
    for (int64_t s = 0; s < e->systems->n; s++)
        if (predicts(e, s) && e->systems->contexts[s] < seq_len) seq_len = e->systems->contexts[s];
    return seq_len;
}

// The systems fit each other (kv_systems_open); so what is wrong now, the text is to blame for.
static kv_status check_pairs(const kv_evaluation *e, const kv_corpus *corpus, int64_t seq_len,
                             kv_error *err) {
    const kv_eval_config *config = e->config;
    kv_status status = KV_OK;
    for (int64_t s = 0; s < e->systems->n && status == KV_OK; s++) {
        if (!predicts(e, s)) continue;
        const kv_eval_system *row = &config->systems[s];
        kv_pair_part part = KV_PAIR_SHARD;
        kv_pair pair = {.base = row->base,
                        .aux = row->aux,
                        .predictor = row->predictor,
                        .tokenizer = config->tokenizer, // where there are no tasks, not opened yet
                        .opened = e->tokenizer,
                        .shard = config->analysis.corpus,
                        .shard_info = &corpus->info,
                        .n_tokens = seq_len,
                        .blamed = &part};
        kv_systems_known(e->systems, s, &pair);
        status = kv_pair_check(&pair, err);
        if (status != KV_OK)
            kv_eval_blame(e->source,
                          part == KV_PAIR_CONTEXT     ? "analysis.seq_len"
                          : part == KV_PAIR_TOKENIZER ? "tokenizer"
                                                      : "analysis.corpus",
                          err);
    }
    return status;
}

kv_status kv_evaluation_open_analysis(kv_evaluation *e, kv_error *err) {
    const kv_eval_analysis *a = &e->config->analysis;
    bool any = false;
    for (int64_t s = 0; s < e->systems->n; s++) any |= predicts(e, s);
    const int64_t seq_len = choose_seq_len(e);
    kv_corpus *corpus = NULL;
    kv_status status = kv_corpus_open(a->corpus, &corpus, err);
    if (status != KV_OK) return kv_eval_blame(e->source, "analysis.corpus", err);
    status = check_pairs(e, corpus, seq_len, err);
    kv_corpus_free(corpus);
    if (status != KV_OK) return status;
    if (!any) {
        // A sweep asks what there is before its first run is trained.
        fprintf(stderr, "kveval: note: no system with a `predictor`, so there is nothing to analyse\n");
        return KV_OK;
    }
    status = kv_analysis_text_read(a->corpus, a->sequences, seq_len, &e->text, err);
    if (status == KV_OK && e->text.sequences < a->sequences && kv_config_has(e->source, "analysis.sequences"))
        kv_config_warn(e->source, "analysis.sequences",
                       "found %lld, but %s has %lld sequences of %lld tokens, all of which are compared",
                       (long long)a->sequences, a->corpus, (long long)e->text.sequences, (long long)seq_len);
    return status == KV_OK ? KV_OK : kv_eval_blame(e->source, "analysis.corpus", err);
}

// ---- What is kept between runs -------------------------------------------------------------------------

// JSON has no NAN: null stands for it.
static json_t *pack_array(const kv_analysis_array *array) {
    json_t *list = json_array();
    for (int64_t i = 0; list && i < array->size; i++) {
        const double value = array->values[i];
        json_t *number = !isfinite(value) ? json_null()
                         : array->counts  ? json_integer((json_int_t)value)
                                          : json_real(value);
        if (json_array_append_new(list, number) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *pack_errors(const kv_cache_analysis *errors, const kv_analysis *analysis) {
    json_t *record = json_object();
    for (int i = 0; record && i < KV_CACHE_ARRAYS; i++) {
        const kv_analysis_array array = kv_cache_analysis_array(errors, analysis, i);
        if (json_object_set_new(record, array.name, pack_array(&array)) == 0) continue;
        json_decref(record);
        return NULL;
    }
    return record;
}

static bool unpack_array(const json_t *list, const kv_analysis_array *array) {
    if (!json_is_array(list) || (int64_t)json_array_size(list) != array->size) return false;
    for (int64_t i = 0; i < array->size; i++) {
        const json_t *number = json_array_get(list, (size_t)i);
        if (!json_is_number(number) && !json_is_null(number)) return false;
        array->values[i] = json_is_null(number) ? NAN : json_number_value(number);
    }
    return true;
}

// false: it is no such record.
static bool unpack_errors(const json_t *record, const kv_cache_analysis *errors,
                          const kv_analysis *analysis) {
    bool ok = true;
    for (int i = 0; i < KV_CACHE_ARRAYS && ok; i++) {
        const kv_analysis_array array = kv_cache_analysis_array(errors, analysis, i);
        ok = unpack_array(json_object_get(record, array.name), &array);
    }
    return ok;
}

static void hash_run(const kv_evaluation *e, int64_t system, const kv_analysis *a, char out[17]) {
    char system_hash[17];
    const int64_t numbers[] = {a->sequences, a->seq_len, a->bins};
    kv_systems_hash(e->systems, system, system_hash);
    uint64_t hash = kv_hash64(0, numbers, sizeof numbers);
    hash = kv_hash64(hash, system_hash, 16);
    hash = kv_hash64(hash, a->hash, 16);
    kv_hash_text(kv_hash64(hash, KV_VERSION, strlen(KV_VERSION)), out);
}

// ---- Measuring -----------------------------------------------------------------------------------------

static kv_status keep(kv_journal *journal, const char *system, const kv_cache_analysis *errors,
                      const kv_analysis *analysis, kv_error *err) {
    json_t *record = pack_errors(errors, analysis);
    return record ? kv_journal_add(journal, 0, 1, &record, err)
                  : kv_fail(err, KV_ERR_MEMORY, "out of memory for the errors of `%s`", system);
}

// Rank 0 has the journal.
static kv_status measure(kv_evaluation *e, int64_t system, const kv_analysis *analysis, kv_journal *journal,
                         kv_cache_analysis *errors, kv_error *err) {
    const char *name = e->config->systems[system].name;
    char title[96];
    kv_progress progress;
    snprintf(title, sizeof title, "%.*s, predicted caches", KV_HEAD(name, 60));
    kv_progress_begin(&progress, stderr, title, kv_analysis_work(&e->text));
    kv_status status =
        kv_analysis_measure(&e->systems->items[system], &e->text, 0, analysis, &progress, errors, err);
    kv_progress_end(&progress, status == KV_OK ? "sequences" : "stopped");
    if (status == KV_OK && journal) status = keep(journal, name, errors, analysis, err);
    return kv_ranks_agree(status, err);
}

static kv_status look_up(kv_evaluation *e, int64_t system, const kv_analysis *analysis, kv_journal **journal,
                         kv_cache_analysis *errors, bool *known, kv_error *err) {
    const kv_journal_name name = {"analysis", "predicted-caches", e->config->systems[system].name};
    kv_journal_run run = {.n_units = 1};
    hash_run(e, system, analysis, run.hash);
    kv_status status = kv_journal_open(e->config->output, &name, &run, journal, err);
    if (status != KV_OK) return status;
    const json_t *record = kv_journal_records(*journal)[0];
    if (!record) return KV_OK;
    status = kv_cache_analysis_init(errors, e->systems->items[system].base->spec.n_layers, analysis, err);
    if (status != KV_OK) return status;
    *known = unpack_errors(record, errors, analysis);
    if (!*known) kv_cache_analysis_free(errors);
    return KV_OK;
}

static kv_status look_at(kv_evaluation *e, int64_t system, const kv_analysis *analysis,
                         kv_cache_analysis *errors, kv_error *err) {
    kv_journal *journal = NULL;
    bool known = false;
    kv_status status = kv_rank_leads() ? look_up(e, system, analysis, &journal, errors, &known, err) : KV_OK;
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) kv_ranks_broadcast(&known, sizeof known, 0);
    if (status == KV_OK && !known) status = measure(e, system, analysis, journal, errors, err);
    kv_journal_close(journal);
    return status;
}

kv_status kv_evaluation_analyse(kv_evaluation *e, kv_results *results, kv_error *err) {
    kv_analysis *a = &results->analysis;
    kv_status status = kv_analysis_init(a, e->systems->n, err);
    if (status == KV_OK) a->corpus = strdup(e->config->analysis.corpus);
    if (status == KV_OK && !a->corpus) status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (status != KV_OK) return status;
    a->sequences = e->text.sequences, a->seq_len = e->text.seq_len, a->bins = e->config->analysis.bins;
    memcpy(a->hash, e->text.hash, sizeof a->hash);
    if (a->sequences < e->config->analysis.sequences)
        fprintf(stderr, "kveval: note: %s has %lld rows of %lld tokens, not %lld\n", a->corpus,
                (long long)a->sequences, (long long)a->seq_len, (long long)e->config->analysis.sequences);
    for (int64_t s = 0; s < e->systems->n && status == KV_OK; s++)
        if (predicts(e, s)) status = look_at(e, s, a, &a->systems[s], err);
    return status;
}
