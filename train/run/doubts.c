// Reads nothing: all of it is known once a training is planned.
#include "train/run/doubts.h"

#include "data/corpus/packing.h"
#include "data/system/warning.h"
#include "train/config/doubts.h"
#include "train/task/kvp.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Text ----------------------------------------------------------------------------------------------

// Of fixed packing each shard loses its end, and one that fills no row all of it.
static int64_t in_rows(const kv_corpus *corpus, int64_t seq_len) {
    int64_t n = 0;
    for (int64_t i = 0; i < corpus->n_shards; i++) n += kv_packed_rows(corpus->shards[i].n_tokens, seq_len);
    return n * seq_len;
}

static void doubt_rows(const kv_training *s, int64_t i, const char *key) {
    const kv_data_config *d = &s->config->data;
    const kv_corpus *corpus = s->text.corpora[i];
    const int64_t lost = corpus->n_tokens - in_rows(corpus, d->seq_len);
    if (d->packing == KV_PACKING_FIXED && kv_much_is_lost(lost, corpus->n_tokens))
        kv_config_warn(
            s->source, key,
            "%" PRIi64 " of its %" PRIi64 " tokens (%.3g %%) fill no row of data.seq_len, %" PRIi64
            ", and are never read; data.packing: stream, a smaller data.seq_len, or fewer and larger shards keep "
            "more",
            lost, corpus->n_tokens, 100 * (double)lost / (double)corpus->n_tokens, d->seq_len);
}

static void doubt_part(const kv_training *s, const kv_batches *batches, int64_t i, double weights) {
    const kv_train_config *t = s->config;
    const kv_corpus *corpus = s->text.corpora[i];
    const double share = s->text.parts[i].weight / weights;
    const double a_step = share * (double)t->data.batch_size * (double)t->data.seq_len;
    char key[KV_TEXT_KEY];
    kv_train_text_key(t, i, key);
    doubt_rows(s, i, key);
    if (kv_batches_epochs(batches, i, t->train.steps) == 0) {
        kv_config_warn(s->source, key,
                       "%.3g %% of the weights: in %" PRIi64 " steps not one sequence of it is read",
                       100 * share, t->train.steps);
    } else if (a_step >= 2 * (double)corpus->n_tokens) {
        kv_config_warn(s->source, key,
                       "%s has %" PRIi64
                       " tokens, and every step reads it %.3g times over; a smaller data.batch_size "
                       "does the same with less work",
                       kv_train_text_path(t, i), corpus->n_tokens, a_step / (double)corpus->n_tokens);
    }
}

static void doubt_text(const kv_training *s) {
    const kv_batches_args args = kv_train_batches(&s->text, s->config->data.batch_size);
    kv_batches *batches;
    double weights = 0;
    if (s->config->train.steps == 0 || kv_batches_create(&args, &batches, NULL) != KV_OK) return;
    for (int64_t i = 0; i < s->text.n_parts; i++) weights += s->text.parts[i].weight;
    for (int64_t i = 0; i < s->text.n_parts; i++) doubt_part(s, batches, i, weights);
    kv_batches_free(batches);
}

// Shards tell text apart by what it is, whatever its name.
static bool also_trained_on(const kv_training *s, const char *hash) {
    for (int64_t i = 0; i < s->text.n_parts; i++)
        for (int64_t j = 0; j < s->text.corpora[i]->n_shards; j++)
            if (strcmp(s->text.corpora[i]->shards[j].hash, hash) == 0) return true;
    return false;
}

static void doubt_held_out(const kv_training *s) {
    const kv_train_config *t = s->config;
    const kv_validation *v = s->validation;
    if (!v) return;
    const int64_t read = v->n_rows * v->seq_len, wanted = t->train.validation_tokens;
    const int64_t there = s->text.validation->n_tokens,
                  lost = there - in_rows(s->text.validation, v->seq_len);
    if (t->given.validation_tokens && (read + v->seq_len <= wanted || read > wanted))
        kv_config_warn(s->source, "train.validation_tokens",
                       read > wanted
                           ? "found %" PRIi64 ", but one row of %" PRIi64
                             " tokens (data.seq_len) is the least that is read"
                           : "found %" PRIi64 ", but data.validation has rows for %" PRIi64
                             " tokens only, which are read each time; more held-out text is needed for more",
                       wanted, read);
    else if (read + v->seq_len <= wanted && kv_much_is_lost(lost, there))
        kv_config_warn(s->source, "data.validation",
                       "%" PRIi64 " of its %" PRIi64 " tokens (%.3g %%) fill no row of data.seq_len, %" PRIi64
                       ", and are not looked at; more held-out text, or a smaller data.seq_len, keeps more",
                       lost, there, 100 * (double)lost / (double)there, v->seq_len);
    for (int64_t i = 0; i < s->text.validation->n_shards; i++) {
        if (!also_trained_on(s, s->text.validation->shards[i].hash)) continue;
        kv_config_warn(
            s->source, "data.validation",
            "%s is text that is trained on, too: its loss says nothing about text the model has not seen",
            s->text.validation->shards[i].path);
        return;
    }
}

// ---- Predictors ----------------------------------------------------------------------------------------

static void doubt_rank(const kv_training *s, const kvp_task *kvp) {
    kv_predictor *full = NULL;
    const kv_predictor_config *p = &s->config->predictor;
    const int64_t rank = kv_train_map_kind(p) == &kv_map_low_rank ? kv_train_map_width(p) : 0;
    kv_predictor_spec *spec = rank > 0 ? malloc(sizeof *spec) : NULL;
    if (!spec) return;
    *spec = kvp->shape->spec;
    kv_predictor_spec_set_map(spec, &kv_map_linear, 0);
    if (kv_predictor_plan(&kvp->base_spec, &kvp->aux_spec, spec, &full, NULL) == KV_OK) {
        const int64_t n = kv_predictor_size(kvp->shape), n_full = kv_predictor_size(full);
        if (n >= n_full)
            kv_config_warn(s->source, p->width > 0 ? "predictor.width" : "predictor.rank",
                           "maps of rank %" PRIi64 " have %" PRIi64 " weights, more than the %" PRIi64
                           " of full ones, which can do all that they can; %s makes these",
                           rank, n, n_full, p->width > 0 ? "predictor.map: linear" : "predictor.rank: 0");
    }
    kv_predictor_free(full);
    free(spec);
}

// Layers above the highest that is read are of no use unless the aux learns language itself. Which the best ones are is
// not known yet.
static void doubt_map(const kv_training *s, const kvp_task *kvp) {
    uint8_t reads[KV_MAX_LAYERS];
    char unused[160] = "";
    const int64_t n_aux = kvp->aux_spec.n_layers, depth = kv_predictor_spec_reads(&kvp->shape->spec, reads);
    if (depth == n_aux || depth == 0 || kvp->weights.aux != 0 || kvp_prefix(kvp)) return;
    if (s->config->predictor.choose == KV_CHOICE_BEST) return;
    snprintf(unused, sizeof unused, "%" PRIi64 "%s", depth, depth + 1 < n_aux ? " and above" : "");
    kv_config_warn(s->source,
                   s->config->predictor.mapping == KV_MAPPING_EXPLICIT ? "predictor.layers"
                                                                       : "predictor.mapping",
                   "no base layer reads aux layer %s: of no use; an aux of %" PRIi64 " layers gives the same",
                   unused, depth);
}

// Rows of tokens that are never seen stay at zero.
static void doubt_table(const kv_training *s, const kvp_task *kvp) {
    const kv_data_config *d = &s->config->data;
    const double rows = (double)kvp->base_spec.vocab_size, there = (double)s->text.n_tokens;
    const double read = (double)s->config->train.steps * (double)d->batch_size * (double)d->seq_len;
    const double seen = read < there ? read : there;
    if (s->config->train.steps == 0 || s->config->predictor.token_table != KV_TABLE_FULL || 2 * seen >= rows)
        return;
    kv_config_warn(
        s->source, "predictor.token_table",
        "full tables have %.0f rows each, and the run sees %.0f tokens: at least %.0f rows stay 0; a width "
        "(such as predictor.token_table: 64), or own_h among predictor.sources, is told from "
        "fewer tokens",
        rows, seen, rows - seen);
}

// Heads of numbers without a common divisor cannot be matched.
static void doubt_heads(const kv_training *s, const kvp_task *kvp) {
    if (s->config->predictor.heads != KV_HEADS_MATCHED) return;
    for (int64_t i = 0; i < kvp->shape->n_inputs; i++)
        if (kvp->shape->inputs[i].n_blocks > 1) return;
    kv_config_warn(s->source, "predictor.heads",
                   "matched without effect: the numbers of heads of what maps read and make have no common "
                   "divisor but 1 in any layer");
}

void kv_training_doubts(const kv_training *training) {
    kv_train_config_doubts(training->source, training->config);
    doubt_text(training);
    doubt_held_out(training);
    if (training->config->task != KV_TASK_KVP) return;
    const kvp_task *kvp = (const kvp_task *)training->task;
    doubt_rank(training, kvp);
    doubt_map(training, kvp);
    doubt_heads(training, kvp);
    doubt_table(training, kvp);
}
