// One pass over the text, in which the sums of all layers are kept: some matrices a layer are less than
// another pass of two models.
#include "train/task/start_pass.h"

#include "core/flops.h"
#include "core/predictor/least_squares.h"
#include "data/corpus/packing.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "train/task/shared_work.h"
#include "train/task/task.h"

#include <stdlib.h>
#include <string.h>

struct pass {
    const kv_start_args *args;
    const kv_start_pass *wanted;
    const kv_train_config *config;
    kv_batches *batches;
    kv_tape *tape;
    int32_t *ids, *targets;   // [n_seq · seq_len]
    kv_row_ref *rows;         // [n_seq]
    uint8_t *keep;            // [n_seq · seq_len]
    kv_sequence *sequences;   // [n_seq]
    int64_t n_all, n_batches; // tokens there are to read; batches that are
    int64_t done;             // of these by this rank
    double flops;             // of one of them
    kv_progress progress;
    char note[64];
};

static void free_pass(struct pass *p) {
    kv_batches_free(p->batches);
    kv_tape_free(p->tape);
    free(p->ids);
    free(p->targets);
    free(p->rows);
    free(p->keep);
    free(p->sequences);
}

// ---- Setting up ----------------------------------------------------------------------------------------

// Tokens of one epoch. Of a mixture, whose parts come round at different times, it is what all parts have.
static int64_t epoch_tokens(const kv_start_args *args) {
    const kv_train_text *text = args->text;
    const kv_data_config *d = &args->config->data;
    if (d->packing == KV_PACKING_STREAM) return text->n_tokens;
    int64_t n_rows = 0;
    for (int64_t p = 0; p < text->n_parts; p++)
        for (int64_t s = 0; s < text->corpora[p]->n_shards; s++)
            n_rows += kv_packed_rows(text->corpora[p]->shards[s].n_tokens, d->seq_len);
    return n_rows * d->seq_len;
}

int64_t kv_start_rows(const kv_start_args *args) {
    return args->config->data.micro_batch_size * args->config->data.seq_len;
}

static int64_t count_batches(const kv_start_args *args, int64_t wanted, int64_t n_all) {
    const int64_t rows = kv_start_rows(args);
    const int64_t n = wanted > 0 && wanted < n_all ? wanted : n_all;
    return (n + rows - 1) / rows;
}

static uint64_t batch_flops(const kv_start_args *a, const kv_start_pass *wanted) {
    const kv_data_config *d = &a->config->data;
    const kv_kvp_weights both = {.consistency = 1};
    const kv_kvp_known known = {a->cached != NULL, a->aux_cached, 0};
    const kv_predictor *reads = wanted->reads;
    const int64_t n_seq = d->micro_batch_size, len = d->seq_len;
    return kv_flops_least_squares(a->base_spec, a->aux_spec, reads, n_seq, len) -
           kv_flops_least_squares_sums(reads, n_seq * len) -
           kv_flops_kvp_spared(a->base_spec, a->aux_spec, reads, n_seq, len, &both, &known) + wanted->flops;
}

static kv_status allocate(struct pass *p, kv_error *err) {
    const kv_data_config *d = &p->config->data;
    const size_t n_seq = (size_t)d->micro_batch_size, rows = n_seq * (size_t)d->seq_len;
    p->tape = kv_tape_create();
    p->ids = malloc(rows * sizeof *p->ids);
    p->targets = malloc(rows * sizeof *p->targets);
    p->rows = malloc(n_seq * sizeof *p->rows);
    p->keep = malloc(rows);
    p->sequences = malloc(n_seq * sizeof *p->sequences);
    if (!p->tape || !p->ids || !p->targets || !p->rows || !p->keep || !p->sequences)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_tape_set_recording(p->tape, false);
    for (int64_t s = 0; s < d->micro_batch_size; s++)
        p->sequences[s] = (kv_sequence){s * d->seq_len, d->seq_len, s * d->seq_len, d->seq_len};
    return KV_OK;
}

static kv_status prepare(struct pass *p, kv_error *err) {
    const kv_data_config *d = &p->config->data;
    const kv_batches_args args = kv_train_batches(p->args->text, d->micro_batch_size);
    p->n_all = epoch_tokens(p->args);
    p->n_batches = count_batches(p->args, p->wanted->n_tokens, p->n_all);
    p->flops = (double)batch_flops(p->args, p->wanted);
    kv_status status = kv_batches_create(&args, &p->batches, err);
    return status == KV_OK ? allocate(p, err) : status;
}

// ---- Sums ----------------------------------------------------------------------------------------------

// What both models make of the batch: from the cache what is in it, else by running them.
static kv_status make_caches(struct pass *p, const kv_batch *batch, kv_taps *taps, kv_tensor **base_k,
                             kv_tensor **base_v, kv_error *err) {
    const kv_start_args *a = p->args;
    const kv_predictor *predictor = p->wanted->reads;
    const int64_t rows = batch->n_seq * batch->seq_len;
    kv_pass pass = {.sequences = p->sequences, .n_sequences = batch->n_seq, .only_kv = true};
    kv_status status = KV_OK;
    if (!a->aux_cached) {
        kv_predictor_read(p->tape, predictor, a->base, a->aux, p->ids, rows, &pass, false, taps);
    } else {
        memset(taps, 0, sizeof *taps);
        kv_predictor_read_base(p->tape, predictor, a->base, p->ids, rows, taps);
    }
    if (!a->cached) {
        pass.raw_k = base_k, pass.v = base_v;
        kv_model_forward(p->tape, a->base, p->ids, rows, &pass);
    } else {
        status = kv_cached_raw(a->cached, p->tape, p->rows, batch, base_k, base_v,
                               a->aux_cached ? taps->k : NULL, a->aux_cached ? taps->v : NULL, err);
    }
    return status == KV_OK ? kv_tape_status(p->tape, err) : status;
}

static kv_status add_batch(struct pass *p, int64_t step, kv_error *err) {
    const kv_data_config *d = &p->config->data;
    const int64_t rows = d->micro_batch_size * d->seq_len, left = p->n_all - step * rows;
    kv_tensor *base_k[KV_MAX_LAYERS], *base_v[KV_MAX_LAYERS];
    kv_taps taps;
    kv_status status = kv_batches_get(p->batches, step, p->ids, p->targets, err);
    if (status == KV_OK && d->packing == KV_PACKING_FIXED)
        status = kv_batches_rows(p->batches, step, p->rows, err);
    if (status != KV_OK) return status;
    kv_tape_reset(p->tape);
    const kv_batch batch = {
        .input_ids = p->ids, .target_ids = p->targets, .n_seq = d->micro_batch_size, .seq_len = d->seq_len};
    status = make_caches(p, &batch, &taps, base_k, base_v, err);
    // Text read a second time, at the end of the last batch, adds nothing.
    for (int64_t i = 0; i < rows; i++) p->keep[i] = i < left;
    return status == KV_OK ? p->wanted->add(p->wanted->sums, p->tape, &taps, base_k, base_v, p->keep, err)
                           : status;
}

double kv_start_flops(const kv_start_args *args, const kv_start_pass *wanted) {
    const int64_t n = count_batches(args, wanted->n_tokens, epoch_tokens(args));
    return (double)batch_flops(args, wanted) * (double)n;
}

// ---- The pass ------------------------------------------------------------------------------------------

static kv_status read_batch(void *context, int64_t index, kv_error *err) {
    struct pass *p = context;
    const kv_status status = add_batch(p, index, err);
    p->done++;
    const int64_t done = kv_share_done(p->n_batches, p->done);
    snprintf(p->note, sizeof p->note, "tokens  %.1f GFLOP/s",
             1e-9 * p->flops * (double)done / (kv_now() - p->progress.started));
    kv_progress_show(&p->progress, done * kv_start_rows(p->args), p->note);
    return status;
}

static bool add_up(double *sums, int64_t n, void *what) {
    (void)what;
    kv_ranks_sum(sums, n);
    return true;
}

static kv_status read_all(struct pass *p, kv_error *err) {
    kv_status status = kv_share_work(p->n_batches, read_batch, p, err);
    // Who has stopped it does not wait for what comes of it, either.
    if (status == KV_OK && kv_ranks_interrupted()) status = KV_ERR_INTERRUPTED;
    if (status != KV_ERR_INTERRUPTED) return status;
    return kv_ranks_agree(kv_fail(err, status, "interrupted before the first step, nothing to save"), err);
}

kv_status kv_start_read(const kv_start_args *args, const kv_start_pass *wanted, int64_t *n_read,
                        kv_error *err) {
    struct pass p = {.args = args, .wanted = wanted, .config = args->config, .note = "tokens"};
    kv_status status = kv_ranks_agree(prepare(&p, err), err);
    const int64_t rows = kv_start_rows(args);
    kv_progress_begin(&p.progress, stderr, wanted->title, p.n_batches * rows);
    if (status == KV_OK) status = read_all(&p, err);
    *n_read = p.n_batches * rows < p.n_all ? p.n_batches * rows : p.n_all;
    if (status == KV_OK) {
        wanted->visit(wanted->sums, add_up, NULL);
        wanted->tell_tokens(wanted->sums, *n_read);
        kv_progress_end(&p.progress, p.note);
    }
    free_pass(&p);
    return status;
}
