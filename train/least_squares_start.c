#include "train/least_squares_start.h"

#include "core/flops.h"
#include "core/least_squares.h"
#include "data/console.h"

#include <inttypes.h>
#include <stdlib.h>

struct pass {
    const kv_train_config *config;
    kv_batches *batches;
    kv_tape *tape;
    int32_t *ids, *targets; // [n_seq · seq_len]
    kv_segment *segments;   // [n_seq]
    kv_least_squares *sums;
};

static void free_pass(struct pass *p) {
    kv_batches_free(p->batches);
    kv_tape_free(p->tape);
    kv_least_squares_free(p->sums);
    free(p->ids);
    free(p->targets);
    free(p->segments);
}

static kv_status prepare(struct pass *p, const kv_train_text *text, const kv_model *base,
                         const kv_predictor *predictor, kv_error *err) {
    const kv_data_config *d = &p->config->data;
    int64_t n_seq = d->micro_batch_size, rows = n_seq * d->seq_len;
    const kv_batches_args args = kv_train_batches(text, n_seq);
    kv_status status = kv_batches_create(&args, &p->batches, err);
    if (status == KV_OK) status = kv_least_squares_create(&base->spec, predictor, &p->sums, err);
    if (status != KV_OK) return status;
    p->tape = kv_tape_create();
    p->ids = malloc((size_t)rows * sizeof *p->ids);
    p->targets = malloc((size_t)rows * sizeof *p->targets);
    p->segments = malloc((size_t)n_seq * sizeof *p->segments);
    if (!p->tape || !p->ids || !p->targets || !p->segments)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_tape_set_recording(p->tape, false);
    for (int64_t s = 0; s < n_seq; s++)
        p->segments[s] = (kv_segment){s * d->seq_len, d->seq_len, s * d->seq_len, d->seq_len};
    return KV_OK;
}

static kv_status add_batch(struct pass *p, int64_t step, kv_model *base, kv_model *aux, kv_error *err) {
    int64_t n_seq = p->config->data.micro_batch_size, rows = n_seq * p->config->data.seq_len;
    kv_tensor *aux_k[KV_MAX_LAYERS], *aux_v[KV_MAX_LAYERS], *base_k[KV_MAX_LAYERS], *base_v[KV_MAX_LAYERS];
    kv_status status = kv_batches_get(p->batches, step, p->ids, p->targets, err);
    if (status != KV_OK) return status;
    kv_tape_reset(p->tape);
    kv_pass pass = {
        .segments = p->segments, .n_segments = n_seq, .raw_k = aux_k, .v = aux_v, .only_kv = true};
    kv_model_forward(p->tape, aux, p->ids, rows, &pass);
    pass.raw_k = base_k, pass.v = base_v;
    kv_model_forward(p->tape, base, p->ids, rows, &pass);
    status = kv_tape_status(p->tape, err);
    return status == KV_OK ? kv_least_squares_add(p->sums, aux_k, aux_v, base_k, base_v, NULL, err) : status;
}

static kv_status solve(const struct pass *p, kv_predictor *predictor, kv_error *err) {
    double k_r2[KV_MAX_LAYERS], v_r2[KV_MAX_LAYERS];
    kv_status status =
        kv_least_squares_solve(p->sums, p->config->predictor.ridge, predictor, k_r2, v_r2, err);
    if (status != KV_OK) return kv_fail_within(err, status, "least-squares start");
    fprintf(stderr, "explained variance   base layer  aux layer    keys  values\n");
    for (int64_t i = 0; i < predictor->n_base_layers; i++) {
        int32_t read[2];
        char text[32];
        const int64_t n = kv_predictor_inputs(predictor, i, read);
        snprintf(text, sizeof text, n > 1 ? "%" PRIi32 "+%" PRIi32 : "%" PRIi32, read[0], read[n - 1]);
        fprintf(stderr, "                     %10" PRIi64 " %10s  %5.1f %%  %5.1f %%\n", i, text,
                100 * k_r2[i], 100 * v_r2[i]);
    }
    return KV_OK;
}

kv_status kv_least_squares_start(const kv_train_config *config, const kv_train_text *text, kv_model *base,
                                 kv_model *aux, kv_predictor *predictor, kv_error *err) {
    struct pass p = {.config = config};
    kv_status status = prepare(&p, text, base, predictor, err);
    int64_t rows = config->data.micro_batch_size * config->data.seq_len;
    int64_t wanted = config->predictor.least_squares_tokens;
    // Text read a second time adds nothing to the sums.
    int64_t n_tokens = wanted < text->n_tokens ? wanted : text->n_tokens;
    int64_t n_batches = (n_tokens + rows - 1) / rows;
    const uint64_t flops = kv_flops_least_squares(&base->spec, &aux->spec, predictor,
                                                  config->data.micro_batch_size, config->data.seq_len);
    kv_progress progress;
    char note[64] = "tokens";
    kv_progress_begin(&progress, stderr, "least squares", n_batches * rows);
    for (int64_t i = 0; status == KV_OK && i < n_batches; i++) {
        status = add_batch(&p, i, base, aux, err);
        snprintf(note, sizeof note, "tokens  %.1f GFLOP/s",
                 1e-9 * (double)flops * (double)(i + 1) / (kv_now() - progress.started));
        kv_progress_show(&progress, (i + 1) * rows, note);
        if (status == KV_OK && kv_console_interrupted())
            status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted before the first step, nothing to save");
    }
    if (status == KV_OK) {
        kv_progress_end(&progress, note);
        status = solve(&p, predictor, err);
    }
    free_pass(&p);
    return status;
}
