// Caches are too large to be kept: each batch is compared and forgotten, and what is kept are sums. The range
// of a histogram has to be known before, so a few rows are read twice. Sums of a batch begin at zero and are added to those
// before it, so that it makes no difference to any bit whose batch it was, where several ranks measure.
#include "eval/evaluate/cache_errors.h"

#include "core/gemm.h"
#include "data/corpus/corpus.h"
#include "data/corpus/packing.h"
#include "data/file/hash.h"
#include "data/ranks/ranks.h"
#include "eval/evaluate/attended.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Rows that the histograms' range is taken from; what infer/ reads at once, too.
enum { SAMPLE_ROWS = 8, BATCH_TOKENS = 4096 };
static const double within = 0.995; // share of the sample's errors that a histogram's range holds

int64_t kv_analysis_work(const kv_analysis_text *text) {
    return text->sequences + (text->sequences < SAMPLE_ROWS ? text->sequences : SAMPLE_ROWS);
}

// ---- The text ------------------------------------------------------------------------------------------

// Rows of one shard behind those that are there.
static kv_status add_shard(const char *path, int64_t wanted, kv_analysis_text *text, kv_error *err) {
    kv_shard *shard;
    kv_status status = kv_shard_open(path, &shard, err);
    if (status != KV_OK) return status;
    const int64_t n_rows = kv_packed_rows(shard->n_tokens, text->seq_len), width = text->seq_len + 1;
    const int64_t n = n_rows < wanted - text->sequences ? n_rows : wanted - text->sequences;
    int32_t *cut = malloc((size_t)(n_rows * width) * sizeof *cut + 1);
    int32_t *rows = realloc(text->rows, (size_t)((text->sequences + n) * width) * sizeof *rows + 1);
    if (rows) text->rows = rows;
    if (cut && rows)
        status = kv_packed_cut(shard, text->seq_len, cut, err);
    else
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for %lld rows", path, (long long)n_rows);
    if (status == KV_OK && n > 0) {
        memcpy(text->rows + text->sequences * width, cut, (size_t)(n * width) * sizeof *cut);
        text->sequences += n;
    }
    free(cut);
    kv_shard_free(shard);
    return status;
}

kv_status kv_analysis_text_read(const char *path, int64_t sequences, int64_t seq_len, kv_analysis_text *text,
                                kv_error *err) {
    kv_corpus *corpus;
    *text = (kv_analysis_text){.seq_len = seq_len};
    kv_status status = kv_corpus_open(path, &corpus, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < corpus->n_shards && text->sequences < sequences && status == KV_OK; i++)
        status = add_shard(corpus->shards[i].path, sequences, text, err);
    if (status == KV_OK && text->sequences == 0)
        status = kv_fail(err, KV_ERR_RANGE, "%s: %lld tokens make not one row of %lld and its targets", path,
                         (long long)corpus->n_tokens, (long long)seq_len);
    kv_corpus_free(corpus);
    if (status == KV_OK)
        kv_hash_text(kv_hash64((uint64_t)seq_len, text->rows,
                               (size_t)(text->sequences * (seq_len + 1)) * sizeof *text->rows),
                     text->hash);
    else
        kv_analysis_text_free(text);
    return status;
}

void kv_analysis_text_free(kv_analysis_text *text) {
    free(text->rows);
    *text = (kv_analysis_text){0};
}

// ---- The range of a histogram --------------------------------------------------------------------------

// Sizes of errors are counted by their float32's exponent and the first 6 bits behind it: whatever they turn
// out to be, a quantile is then known to a 64th of an octave, from counts that need no order and no room for
// the errors themselves.
enum { SIZE_SHIFT = 17, N_SIZES = 1 << (31 - SIZE_SHIFT) };

static int64_t size_of(double error) {
    const float absolute = fabsf((float)error);
    uint32_t bits;
    memcpy(&bits, &absolute, sizeof bits);
    return bits >> SIZE_SHIFT;
}

// What all errors of this size are below.
static double size_limit(int64_t size) {
    const uint32_t bits = (uint32_t)(size + 1) << SIZE_SHIFT;
    float limit;
    memcpy(&limit, &bits, sizeof limit);
    return limit;
}

// 0: nothing was counted, or hardly anything but zeros.
static double quantile(const int64_t *sizes, double share) {
    int64_t total = 0, below = 0;
    for (int64_t i = 0; i < N_SIZES; i++) total += sizes[i];
    for (int64_t i = 0; total > 0 && i < N_SIZES; i++) {
        below += sizes[i];
        if ((double)below >= share * (double)total) return i > 0 ? size_limit(i) : 0;
    }
    return 0;
}

// ---- Sums ----------------------------------------------------------------------------------------------

// Keys or values of one layer of the base, as the sample has them.
struct sample {
    int64_t n_features;
    double *first;  // [n_features] the first token's, which sums of squares are taken about
    int64_t *sizes; // [N_SIZES] how many errors are of each size
    double magnitude;
    int64_t n_tokens;
};

static double mean_of(double sum, int64_t n_tokens, const struct sample *s) {
    return sum / ((double)n_tokens * (double)s->n_features);
}

// Symmetric, and of some width even where there is no error, or none that is a number.
static void set_edges(const struct sample *s, double *edges, int64_t bins) {
    double half = quantile(s->sizes, within);
    if (!(half > 0 && isfinite(half))) half = mean_of(s->magnitude, s->n_tokens, s);
    if (!(half > 0 && isfinite(half))) half = 1;
    for (int64_t j = 0; j <= bins; j++) edges[j] = half * (double)(2 * j - bins) / (double)bins;
}

static void count(double error, const double *edges, int64_t bins, double *histogram) {
    if (!isfinite(error)) return;
    const double place = floor((error - edges[0]) / (edges[bins] - edges[0]) * (double)bins);
    histogram[place < 0 ? 0 : place >= (double)bins ? bins - 1 : (int64_t)place]++;
}

static void add_sample(struct sample *s, const kv_tensor *truth, const kv_tensor *predicted) {
    if (s->n_tokens == 0)
        for (int64_t d = 0; d < s->n_features; d++) s->first[d] = truth->data[d];
    for (int64_t i = 0; i < truth->rows * truth->cols; i++) {
        const double error = (double)predicted->data[i] - (double)truth->data[i];
        if (isfinite((float)error)) s->sizes[size_of(error)]++;
        s->magnitude += fabs((double)truth->data[i]);
    }
    s->n_tokens += truth->rows;
}

// Of keys or values of one layer over some tokens.
struct sums {
    double *sum, *squares;        // [n_features] of true - first
    double *residual, *magnitude; // Σ error², Σ |true|
    double *error;                // [seq_len] Σ |error|
    double *histogram;            // [bins]
};

static int64_t n_sums(const struct sample *s, const kv_analysis *a) {
    return 2 * s->n_features + 2 + a->seq_len + a->bins;
}

// The sums that numbers[n_sums] are.
static struct sums sums_in(double *numbers, const struct sample *s, const kv_analysis *a) {
    double *after = numbers + 2 * s->n_features;
    return (struct sums){.sum = numbers,
                         .squares = numbers + s->n_features,
                         .residual = after,
                         .magnitude = after + 1,
                         .error = after + 2,
                         .histogram = after + 2 + a->seq_len};
}

static void add_token(const struct sample *s, const float *truth, const float *predicted, const double *edges,
                      int64_t bins, int64_t position, const struct sums *to) {
    double total = 0;
    for (int64_t d = 0; d < s->n_features; d++) {
        const double value = truth[d], error = (double)predicted[d] - value;
        const double shifted = value - s->first[d];
        to->sum[d] += shifted;
        to->squares[d] += shifted * shifted;
        *to->residual += error * error;
        *to->magnitude += fabs(value);
        total += fabs(error);
        count(error, edges, bins, to->histogram);
    }
    to->error[position] += total;
}

static double finite_or_nan(double value) {
    return isfinite(value) ? value : NAN;
}

// One layer's part of the figures.
struct place {
    double *error, *histogram, *edges, *explained, *magnitude;
};

// Sums become means.
static void finish(const struct sample *s, const kv_analysis *a, const struct sums *sums,
                   const struct place *to) {
    const int64_t n_tokens = a->sequences * a->seq_len;
    double total = 0;
    for (int64_t d = 0; d < s->n_features; d++)
        total += sums->squares[d] - sums->sum[d] * sums->sum[d] / (double)n_tokens;
    for (int64_t p = 0; p < a->seq_len; p++)
        to->error[p] = finite_or_nan(mean_of(sums->error[p], a->sequences, s));
    memcpy(to->histogram, sums->histogram, (size_t)a->bins * sizeof *to->histogram);
    *to->magnitude = finite_or_nan(mean_of(*sums->magnitude, n_tokens, s));
    *to->explained = total > 0 ? finite_or_nan(1 - *sums->residual / total) : NAN;
}

// ---- Running the models --------------------------------------------------------------------------------

struct measuring {
    const kv_system *system;
    const kv_analysis_text *text;
    const kv_analysis *analysis;
    kv_cache_analysis *errors;
    kv_tape *tape;
    struct sample *samples; // [2, n_layers]: keys, then values
    // [n_numbers] of one batch and of all so far: the sums of each sample, one behind the other, then Σ cosine of each layer.
    double *batch, *all;
    int64_t *begins; // [2 · n_layers + 1] where the sums of each are
    kv_progress *progress;
    int64_t n_layers, n_numbers, at_once, done;
    uint64_t flops_before;
};

static struct place place_of(const struct measuring *m, int64_t i) {
    const kv_error_figures *f = i < m->n_layers ? &m->errors->key : &m->errors->value;
    const int64_t layer = i % m->n_layers, bins = m->analysis->bins;
    return (struct place){.error = f->error + layer * m->analysis->seq_len,
                          .histogram = f->histogram + layer * bins,
                          .edges = f->edges + layer * (bins + 1),
                          .explained = f->explained + layer,
                          .magnitude = f->magnitude + layer};
}

// [n_layers] each.
struct caches {
    kv_tensor *truth[2][KV_MAX_LAYERS], *predicted[2][KV_MAX_LAYERS]; // keys, values
    double *cosine;                                                   // [n_layers, rows], but of a sample
};

static bool lay_out(struct measuring *m, int64_t first, int64_t n, int32_t **ids, kv_sequence **sequences) {
    const int64_t seq_len = m->text->seq_len;
    kv_arena *arena = kv_tape_arena(m->tape);
    *ids = kv_arena_alloc(arena, (size_t)(n * seq_len) * sizeof **ids);
    *sequences = kv_arena_alloc(arena, (size_t)n * sizeof **sequences);
    for (int64_t r = 0; *ids && *sequences && r < n; r++) {
        memcpy(*ids + r * seq_len, m->text->rows + (first + r) * (seq_len + 1),
               (size_t)seq_len * sizeof **ids);
        (*sequences)[r] = (kv_sequence){r * seq_len, seq_len, r * seq_len, seq_len};
    }
    return *ids && *sequences;
}

static void predict(struct measuring *m, const int32_t *ids, int64_t n, kv_pass pass, struct caches *c) {
    kv_key_norms norms;
    kv_taps taps;
    kv_predictor_read(m->tape, m->system->predictor, m->system->base, m->system->aux, ids, n, &pass, false,
                      &taps);
    if (kv_tape_status(m->tape, NULL) != KV_OK) return;
    kv_model_key_norms(m->system->base, &norms);
    kv_predict(m->tape, m->system->predictor, &norms, &taps, c->predicted[0], c->predicted[1]);
}

// The base with its own cache, of a sample alone; else also how it would have attended to the predicted one.
static void read_truth(struct measuring *m, const int32_t *ids, int64_t n, kv_pass pass, bool sample,
                       struct caches *c) {
    const kv_attended attended = {.predicted_k = c->predicted[0],
                                  .predicted_v = c->predicted[1],
                                  .k = c->truth[0],
                                  .v = c->truth[1],
                                  .cosine = c->cosine};
    pass.k = c->truth[0], pass.v = c->truth[1];
    if (sample)
        kv_model_forward(m->tape, m->system->base, ids, n, &pass);
    else
        kv_attend_both(m->tape, m->system->base, ids, n, pass.sequences, pass.n_sequences, &attended);
}

static kv_status run_models(struct measuring *m, int64_t first, int64_t n, bool sample, struct caches *c,
                            kv_error *err) {
    kv_sequence *sequences;
    int32_t *ids;
    kv_tape_reset(m->tape);
    const int64_t rows = n * m->text->seq_len;
    c->cosine = kv_arena_alloc(kv_tape_arena(m->tape), (size_t)(m->n_layers * rows) * sizeof *c->cosine);
    if (!c->cosine || !lay_out(m, first, n, &ids, &sequences))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld sequences", (long long)n);
    const kv_pass pass = {.sequences = sequences, .n_sequences = n, .only_kv = true};
    predict(m, ids, rows, pass, c);
    if (kv_tape_status(m->tape, NULL) == KV_OK) read_truth(m, ids, rows, pass, sample, c);
    return kv_tape_status(m->tape, err);
}

// Every sum belongs to one layer and is one thread's, which keeps its order.
static void add_batch(struct measuring *m, const struct caches *c, bool sample) {
    const int64_t seq_len = m->text->seq_len;
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < 2 * m->n_layers; i++) {
        const kv_tensor *truth = c->truth[i / m->n_layers][i % m->n_layers];
        const kv_tensor *predicted = c->predicted[i / m->n_layers][i % m->n_layers];
        const struct sums to = sums_in(m->batch + m->begins[i], &m->samples[i], m->analysis);
        const double *edges = place_of(m, i).edges;
        if (sample)
            add_sample(&m->samples[i], truth, predicted);
        else
            for (int64_t t = 0; t < truth->rows; t++)
                add_token(&m->samples[i], truth->data + t * truth->cols, predicted->data + t * truth->cols,
                          edges, m->analysis->bins, t % seq_len, &to);
    }
    double *cosine = m->batch + m->begins[2 * m->n_layers];
    const int64_t rows = sample ? 0 : c->truth[0][0]->rows;
    for (int64_t i = 0; i < m->n_layers; i++)
        for (int64_t t = 0; t < rows; t++) cosine[i] += c->cosine[i * rows + t];
}

static void show_progress(struct measuring *m, int64_t n) {
    char note[48];
    m->done += n;
    if (!m->progress) return;
    const double seconds = kv_now() - m->progress->started;
    snprintf(note, sizeof note, "sequences  %.1f GFLOP/s",
             seconds > 0 ? 1e-9 * (double)(kv_gemm_flops() - m->flops_before) / seconds : 0);
    kv_progress_show(m->progress, m->done, note);
}

static int64_t sample_rows(const struct measuring *m) {
    return kv_analysis_work(m->text) - m->text->sequences;
}

static kv_status read_batch(struct measuring *m, int64_t first, int64_t n_rows, bool sample,
                            struct caches *caches, kv_error *err) {
    const int64_t n = n_rows - first < m->at_once ? n_rows - first : m->at_once;
    memset(m->batch, 0, (size_t)m->n_numbers * sizeof *m->batch);
    kv_status status = run_models(m, first, n, sample, caches, err);
    if (status == KV_OK) add_batch(m, caches, sample);
    return status;
}

static kv_status read_sample(struct measuring *m, struct caches *caches, kv_error *err) {
    const int64_t n_rows = sample_rows(m);
    kv_status status = KV_OK;
    for (int64_t first = 0; first < n_rows && status == KV_OK; first += m->at_once) {
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        status = read_batch(m, first, n_rows, true, caches, err);
        if (status == KV_OK) show_progress(m, first + m->at_once < n_rows ? m->at_once : n_rows - first);
    }
    for (int64_t i = 0; i < 2 * m->n_layers && status == KV_OK; i++)
        set_edges(&m->samples[i], place_of(m, i).edges, m->analysis->bins);
    return status;
}

// The sample is rank 0's, since its batches are few.
static kv_status share_sample(struct measuring *m, struct caches *caches, kv_error *err) {
    kv_status status = kv_rank_leads() ? read_sample(m, caches, err) : KV_OK;
    status = kv_ranks_agree(status, err);
    for (int64_t i = 0; i < 2 * m->n_layers && status == KV_OK; i++) {
        struct sample *s = &m->samples[i];
        kv_ranks_broadcast(s->first, (size_t)s->n_features * sizeof *s->first, 0);
        kv_ranks_broadcast(place_of(m, i).edges, (size_t)(m->analysis->bins + 1) * sizeof(double), 0);
    }
    return status;
}

// What `n` ranks made of a batch each, in the order of the batches.
static void add_batches(struct measuring *m, const double *batches, int64_t n) {
    for (int64_t b = 0; b < n; b++)
        for (int64_t k = 0; k < m->n_numbers; k++) m->all[k] += batches[b * m->n_numbers + k];
}

// As many batches as there are ranks, beginning with row `first`: all take as long, so that none waits for another.
static kv_status read_round(struct measuring *m, int64_t first, struct caches *caches, size_t *sizes,
                            kv_error *err) {
    const int64_t n_rows = m->text->sequences, own = first + kv_rank() * m->at_once;
    const int64_t left = (n_rows - first + m->at_once - 1) / m->at_once,
                  n = left < kv_n_ranks() ? left : kv_n_ranks();
    kv_status status = KV_OK;
    char *collected;
    if (kv_ranks_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (status == KV_OK && own < n_rows) status = read_batch(m, own, n_rows, false, caches, err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK)
        status = kv_ranks_collect(m->batch, own < n_rows ? (size_t)m->n_numbers * sizeof *m->batch : 0,
                                  &collected, sizes, err);
    if (status != KV_OK || !kv_rank_leads()) return status;
    add_batches(m, (const double *)(const void *)collected, n);
    free(collected);
    show_progress(m, n * m->at_once < n_rows - first ? n * m->at_once : n_rows - first);
    return KV_OK;
}

static kv_status read_all(struct measuring *m, struct caches *caches, kv_error *err) {
    size_t *sizes = calloc((size_t)kv_n_ranks(), sizeof *sizes);
    kv_status status = kv_ranks_agree(sizes ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory"), err);
    const int64_t rows = kv_n_ranks() * m->at_once;
    for (int64_t first = 0; first < m->text->sequences && status == KV_OK; first += rows)
        status = read_round(m, first, caches, sizes, err);
    free(sizes);
    return status;
}

// ---- All together --------------------------------------------------------------------------------------

static bool make_samples(struct measuring *m) {
    const kv_model_spec *spec = &m->system->base->spec;
    bool ok = true;
    for (int64_t i = 0; ok && i < 2 * m->n_layers; i++) {
        struct sample *s = &m->samples[i];
        s->n_features = kv_spec_kv_dim(spec, i % m->n_layers);
        s->first = calloc((size_t)s->n_features, sizeof *s->first);
        s->sizes = calloc(N_SIZES, sizeof *s->sizes);
        m->begins[i + 1] = m->begins[i] + n_sums(s, m->analysis);
        ok = s->first && s->sizes;
    }
    m->n_numbers = m->begins[2 * m->n_layers] + m->n_layers;
    return ok;
}

static kv_status prepare(struct measuring *m, kv_error *err) {
    kv_status status = kv_cache_analysis_init(m->errors, m->n_layers, m->analysis, err);
    if (status != KV_OK) return status;
    m->tape = kv_tape_create();
    m->samples = calloc(2 * (size_t)m->n_layers, sizeof *m->samples);
    m->begins = calloc(2 * (size_t)m->n_layers + 1, sizeof *m->begins);
    bool ok = m->tape && m->samples && m->begins && make_samples(m);
    if (ok) {
        m->batch = calloc((size_t)m->n_numbers, sizeof *m->batch);
        m->all = calloc((size_t)m->n_numbers, sizeof *m->all);
    }
    if (!ok || !m->batch || !m->all)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the errors of predicted caches");
    for (int64_t i = 0; i < m->n_layers; i++)
        m->errors->predicted[i] = kv_layer_predicted(&m->system->predictor->spec, i);
    kv_tape_set_recording(m->tape, false);
    m->flops_before = kv_gemm_flops();
    return KV_OK;
}

static kv_status measure(struct measuring *m, kv_error *err) {
    struct caches *caches = calloc(1, sizeof *caches);
    kv_status status = caches ? prepare(m, err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = share_sample(m, caches, err);
    if (status == KV_OK) status = read_all(m, caches, err);
    free(caches);
    for (int64_t i = 0; i < 2 * m->n_layers && status == KV_OK; i++) {
        const struct place to = place_of(m, i);
        const struct sums sums = sums_in(m->all + m->begins[i], &m->samples[i], m->analysis);
        finish(&m->samples[i], m->analysis, &sums, &to);
    }
    const double n_tokens = (double)(m->text->sequences * m->text->seq_len);
    for (int64_t i = 0; i < m->n_layers && status == KV_OK; i++)
        m->errors->attention_cosine[i] = finite_or_nan(m->all[m->begins[2 * m->n_layers] + i] / n_tokens);
    return status;
}

kv_status kv_analysis_measure(const kv_system *system, const kv_analysis_text *text, int64_t at_once,
                              const kv_analysis *analysis, kv_progress *progress, kv_cache_analysis *errors,
                              kv_error *err) {
    struct measuring m = {.system = system,
                          .text = text,
                          .analysis = analysis,
                          .errors = errors,
                          .progress = progress,
                          .n_layers = system->base->spec.n_layers,
                          .at_once = at_once > 0 ? at_once : BATCH_TOKENS / text->seq_len};
    if (m.at_once < 1) m.at_once = 1;
    *errors = (kv_cache_analysis){0};
    const kv_status status = measure(&m, err);
    if (status != KV_OK) kv_cache_analysis_free(errors);
    for (int64_t i = 0; m.samples && i < 2 * m.n_layers; i++) {
        free(m.samples[i].first);
        free(m.samples[i].sizes);
    }
    free(m.samples);
    free(m.begins);
    free(m.batch);
    free(m.all);
    kv_tape_free(m.tape);
    return status;
}
