// Rows are read once and kept: a corpus is large, what is looked at is small, and every look must see the
// same.
#include "train/run/validation.h"

#include "data/corpus/packing.h"
#include "data/file/hash.h"
#include "data/ranks/ranks.h"
#include "train/task/shared_work.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- Rows ----------------------------------------------------------------------------------------------

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t wanted_rows(const kv_train_config *config) {
    const int64_t rows = config->train.validation_tokens / config->data.seq_len;
    return rows > 0 ? rows : 1;
}

static kv_status allocate(kv_validation *v, kv_error *err) {
    const size_t row = (size_t)v->seq_len * sizeof *v->rows, batch = (size_t)v->micro_batch_size * row;
    v->rows = calloc((size_t)v->n_rows, row + sizeof *v->rows);
    v->ids = malloc(batch);
    v->targets = malloc(batch);
    if (v->rows && v->ids && v->targets) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " rows of held-out text", v->n_rows);
}

// Rows there are in the corpus, at most as many as wanted: rows never cross shards.
static int64_t count_rows(const kv_corpus *corpus, int64_t seq_len, int64_t wanted) {
    int64_t n = 0;
    for (int64_t i = 0; n < wanted && i < corpus->n_shards; i++)
        n += kv_packed_rows(corpus->shards[i].n_tokens, seq_len);
    return smaller(n, wanted);
}

static kv_status take_rows(kv_validation *v, const kv_shard *shard, int64_t *taken, kv_error *err) {
    const int64_t row = v->seq_len + 1, all = kv_packed_rows(shard->n_tokens, v->seq_len);
    const int64_t n = smaller(all, v->n_rows - *taken);
    int32_t *tokens = malloc((size_t)(all * row + 1) * sizeof *tokens);
    if (!tokens) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %" PRIi64 " rows", all);
    kv_status status = kv_packed_cut(shard, v->seq_len, tokens, err);
    if (status == KV_OK) memcpy(v->rows + *taken * row, tokens, (size_t)(n * row) * sizeof *tokens);
    *taken += n;
    free(tokens);
    return status;
}

static kv_status read_rows(kv_validation *v, const kv_corpus *corpus, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0, taken = 0; status == KV_OK && taken < v->n_rows; i++) {
        kv_shard *shard;
        status = kv_shard_open(corpus->shards[i].path, &shard, err);
        if (status != KV_OK) break;
        status = take_rows(v, shard, &taken, err);
        kv_shard_free(shard);
    }
    return status;
}

static kv_status make(const kv_train_config *config, const kv_corpus *corpus, kv_validation *v,
                      kv_error *err) {
    *v = (kv_validation){.seq_len = config->data.seq_len};
    v->n_rows = count_rows(corpus, v->seq_len, wanted_rows(config));
    v->micro_batch_size = smaller(config->data.micro_batch_size, v->n_rows);
    if (v->n_rows == 0)
        return kv_fail(err, KV_ERR_RANGE,
                       "%s: found at most %" PRIi64 " tokens in a shard, expected %" PRIi64
                       " at least, one more than data.seq_len",
                       config->data.validation, kv_corpus_largest_tokens(corpus), v->seq_len + 1);
    kv_status status = allocate(v, err);
    if (status == KV_OK) status = read_rows(v, corpus, err);
    if (status == KV_OK)
        kv_hash_text(kv_hash64(0, v->rows, (size_t)(v->n_rows * (v->seq_len + 1)) * sizeof *v->rows),
                     v->hash);
    return status;
}

kv_status kv_validation_open(const kv_config *source, const kv_train_config *config,
                             const kv_train_text *text, kv_validation **validation, kv_error *err) {
    *validation = NULL;
    if (!text->validation) return KV_OK;
    kv_error inner = {0};
    kv_validation *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = make(config, text->validation, made, &inner);
    if (status == KV_OK) {
        *validation = made;
        return KV_OK;
    }
    kv_validation_free(made);
    kv_config_fail(source, err, "data.validation", "%s", inner.message);
    if (err) err->code = status;
    return status;
}

void kv_validation_free(kv_validation *validation) {
    if (!validation) return;
    free(validation->rows);
    free(validation->ids);
    free(validation->targets);
    free(validation);
}

double kv_validation_bytes(const kv_validation *validation) {
    const int64_t row = validation->seq_len;
    return sizeof(int32_t) *
           (double)(validation->n_rows * (row + 1) + 2 * validation->micro_batch_size * row);
}

// ---- When ----------------------------------------------------------------------------------------------

// Every so often, before the first step and after the last.
bool kv_validation_due(const kv_steps_config *steps, int64_t step) {
    return step % steps->validate_every == 0 || step == steps->steps;
}

int64_t kv_validations_left(const kv_steps_config *steps, int64_t step) {
    const int64_t every = steps->validate_every, last = steps->steps;
    if (step >= last) return 0;
    return last / every - step / every + (last % every != 0);
}

// ---- One pass ------------------------------------------------------------------------------------------

// Rows [first, first + n) as a batch: every row but its last token, and every row but its first.
static void fill_batch(const kv_validation *v, int64_t first, int64_t n) {
    const size_t bytes = (size_t)v->seq_len * sizeof *v->ids;
    for (int64_t i = 0; i < n; i++) {
        const int32_t *row = v->rows + (first + i) * (v->seq_len + 1);
        memcpy(v->ids + i * v->seq_len, row, bytes);
        memcpy(v->targets + i * v->seq_len, row + 1, bytes);
    }
}

// Rows on their way, and what their slices found.
struct work {
    kv_task *task;
    double terms[KV_MAX_SLICES][KV_MAX_TERMS];
    kv_layer_errors errors[KV_MAX_SLICES];
};

static kv_tensor *slice_objective(void *context, kv_tape *tape, const kv_slice *slice) {
    struct work *w = context;
    return w->task->ops->validate(w->task, tape, &slice->batch, w->terms[slice->index],
                                  &w->errors[slice->index]);
}

// A validation on its way.
struct pass {
    const kv_validation *v;
    kv_task *task;
    kv_slices *slices;
    kv_progress *progress;
    int64_t step, n_batches, done; // done: by this rank
    int64_t n_layers;              // that there are errors of
    // [n_batches][loss, terms, errors of keys, of values] of each micro-batch: those of other ranks are 0.
    double *found;
};

static int64_t width_of(const struct pass *p) {
    return 1 + KV_MAX_TERMS + 2 * p->n_layers;
}

static kv_status make_room(struct pass *p, kv_error *err) {
    p->found = calloc((size_t)(p->n_batches * width_of(p)), sizeof *p->found);
    return p->found ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for what was validated");
}

static void add_slices(const struct pass *p, const struct work *w, double *terms) {
    double *keys = terms + KV_MAX_TERMS, *values = keys + p->n_layers;
    for (int s = 0; s < KV_MAX_SLICES; s++) {
        const kv_layer_errors *e = &w->errors[s];
        for (int i = 0; i < KV_MAX_TERMS; i++) terms[i] += w->terms[s][i];
        for (int64_t i = 0; i < e->n_layers; i++) keys[i] += e->key[i], values[i] += e->value[i];
    }
}

static void show(const struct pass *p) {
    char note[112];
    const int64_t rows = p->v->n_rows;
    if (!p->progress) return;
    snprintf(note, sizeof note, "validation of step %" PRIi64 ": %" PRIi64 "/%" PRIi64 " rows", p->step,
             smaller(kv_share_done(p->n_batches, p->done) * p->v->micro_batch_size, rows), rows);
    kv_progress_show(p->progress, p->step, note);
}

static kv_status validate_batch(void *context, int64_t index, kv_error *err) {
    struct pass *p = context;
    const kv_validation *v = p->v;
    const int64_t first = index * v->micro_batch_size, n = smaller(v->micro_batch_size, v->n_rows - first);
    show(p);
    fill_batch(v, first, n);
    // Divided by the targets of all rows, the losses of the batches add up to the mean.
    const kv_batch batch = {.input_ids = v->ids,
                            .target_ids = v->targets,
                            .n_seq = n,
                            .seq_len = v->seq_len,
                            .ignore_index = KV_IGNORE_INDEX,
                            .n_valid = (double)(v->n_rows * v->seq_len)};
    struct work work = {.task = p->task};
    double loss;
    kv_status status = kv_slices_forward(p->slices, &batch, slice_objective, &work, &loss, err);
    p->n_layers = work.errors[0].n_layers;
    if (status == KV_OK && !p->found) status = make_room(p, err);
    if (status != KV_OK) return status;
    double *found = p->found + index * width_of(p);
    found[0] = loss;
    add_slices(p, &work, found + 1);
    p->done++;
    return KV_OK;
}

// In the order of the micro-batches, whoever has had them: the same bits however many ranks there are.
static void add_batches(const struct pass *p, kv_validation_result *result) {
    kv_layer_errors *sum = &result->errors;
    sum->n_layers = p->n_layers;
    for (int64_t b = 0; b < p->n_batches; b++) {
        const double *terms = p->found + b * width_of(p) + 1, *keys = terms + KV_MAX_TERMS;
        result->loss += terms[-1];
        for (int i = 0; i < KV_MAX_TERMS; i++) result->terms[i] += terms[i];
        for (int64_t i = 0; i < p->n_layers; i++)
            sum->key[i] += keys[i], sum->value[i] += keys[p->n_layers + i];
    }
}

static kv_status run_pass(struct pass *p, kv_validation_result *result, kv_error *err) {
    kv_status status = kv_share_work(p->n_batches, validate_batch, p, err);
    if (status == KV_OK) {
        // Rank 0 has the first micro-batch; others may have none.
        kv_ranks_broadcast(&p->n_layers, sizeof p->n_layers, 0);
        if (!p->found) status = make_room(p, err);
        status = kv_ranks_agree(status, err);
    }
    if (status == KV_OK) {
        kv_ranks_sum(p->found, p->n_batches * width_of(p));
        add_batches(p, result);
    }
    free(p->found);
    return status;
}

kv_status kv_validate(const kv_validation *validation, kv_task *task, kv_slices *slices,
                      kv_progress *progress, int64_t step, kv_validation_result *result, kv_error *err) {
    const double started = kv_now();
    const int64_t rows = validation->micro_batch_size;
    *result = (kv_validation_result){0};
    struct pass pass = {.v = validation,
                        .task = task,
                        .slices = slices,
                        .progress = progress,
                        .step = step,
                        .n_batches = (validation->n_rows + rows - 1) / rows};
    kv_status status = run_pass(&pass, result, err);
    result->seconds = kv_now() - started;
    if (status == KV_OK && !isfinite(result->loss))
        status = kv_fail(err, KV_ERR_RANGE, "found a validation loss of %g, expected a finite number",
                         result->loss);
    return status;
}

// ---- Telling about it ----------------------------------------------------------------------------------

static json_t *numbers(const double *values, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_real(values[i]));
    return list;
}

char *kv_validation_line(const kv_task *task, int64_t step, double total_seconds,
                         const kv_validation_result *result) {
    json_t *found = json_object();
    json_object_set_new(found, "loss", json_real(result->loss));
    for (int i = 0; i < task->n_terms; i++)
        json_object_set_new(found, task->term_names[i], json_real(result->terms[i]));
    const kv_layer_errors *e = &result->errors;
    if (e->n_layers > 0) {
        json_object_set_new(found, "key_error", numbers(e->key, e->n_layers));
        json_object_set_new(found, "value_error", numbers(e->value, e->n_layers));
    }
    json_t *line = json_pack("{s:I, s:o, s:f, s:f}", "step", (json_int_t)step, "validation", found,
                             "validation_seconds", result->seconds, "seconds", total_seconds);
    char *text = line ? json_dumps(line, JSON_REAL_PRECISION(9)) : NULL;
    json_decref(line);
    return text;
}
