// Training steps of the quickstart's base, aux and predictors, whole and in micro-batches.
#include "tests/bench/bench.h"

#include "core/gemm.h"
#include "core/optimizer.h"

#include <stdio.h>
#include <stdlib.h>

struct training {
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_tape *tape;
    kv_param *params[4096];
    int64_t n_params;
    kv_adamw *optimizer;
    int32_t *ids;
    kv_kvp_weights weights;
    int64_t n_seq, seq_len, micro;
};

static void step(struct training *t) {
    kv_grad_zero(t->params, t->n_params);
    for (int64_t s = 0; s < t->n_seq; s += t->micro) {
        kv_batch batch = {.input_ids = t->ids + s * t->seq_len,
                          .target_ids = t->ids + s * t->seq_len + 1,
                          .n_seq = t->micro,
                          .seq_len = t->seq_len,
                          .ignore_index = -1,
                          .n_valid = (double)(t->n_seq * t->seq_len)};
        kv_tape_reset(t->tape);
        kv_tensor *loss;
        if (t->predictor)
            loss = kv_kvp_objective(t->tape, t->base, t->aux, t->predictor, &batch, &t->weights, NULL, NULL);
        else
            loss = kv_lm_objective(t->tape, t->base, NULL, &batch, &(kv_lm_weights){.ce = 1}, NULL);
        kv_error err;
        if (kv_tape_backward(t->tape, loss, &err) != KV_OK) bench_fail(&err);
    }
    double norm = kv_grad_norm(t->params, t->n_params);
    kv_adamw_step(t->optimizer, kv_same_rate(1e-3), kv_clip_scale(norm, 1));
}

static kv_status make_predictor(const bench_training_args *args, kv_predictor **predictor, kv_error *err) {
    static kv_predictor_spec spec;
    int32_t mapping[KV_MAX_LAYERS];
    kv_mapping_separate(args->base->n_layers, args->aux->n_layers, mapping);
    kv_predictor_spec_paper(args->base, args->aux, mapping, &spec);
    return kv_predictor_create(args->base, args->aux, &spec, predictor, err);
}

static kv_status make_models(struct training *t, const bench_training_args *args, kv_error *err) {
    kv_status status = kv_model_create(args->base, KV_F32, true, &t->base, err);
    if (status != KV_OK) return status;
    kv_model_fill_random(t->base, 1, NULL, 0);
    if (!args->aux) return kv_model_set_trainable(t->base, true, err);
    status = kv_model_create(args->aux, KV_F32, true, &t->aux, err);
    if (status == KV_OK) status = make_predictor(args, &t->predictor, err);
    if (status != KV_OK) return status;
    kv_model_fill_random(t->aux, 2, NULL, 0);
    kv_predictor_init(t->predictor, NULL, 3, NULL);
    status = kv_predictor_set_trainable(t->predictor, true, err);
    return status == KV_OK ? kv_model_set_trainable(t->aux, true, err) : status;
}

static void prepare(struct training *t, const bench_training_args *args) {
    kv_error err;
    const int64_t n = args->n_seq * args->seq_len;
    *t = (struct training){.weights = args->weights,
                           .n_seq = args->n_seq,
                           .seq_len = args->seq_len,
                           .micro = args->micro,
                           .tape = kv_tape_create(),
                           .ids = malloc((size_t)(n + 1) * sizeof *t->ids)};
    if (!t->tape || !t->ids) exit(1);
    if (make_models(t, args, &err) != KV_OK) bench_fail(&err);
    t->n_params = kv_model_params(args->aux ? t->aux : t->base, t->params);
    if (args->aux) t->n_params += kv_predictor_params(t->predictor, t->params + t->n_params);
    if (kv_adamw_create(t->params, t->n_params, &(kv_adamw_args){0.9f, 0.95f, 1e-8f, 0.1f}, &t->optimizer,
                        &err) != KV_OK)
        bench_fail(&err);
    const kv_rng rng = {.seed = 1};
    for (int64_t i = 0; i <= n; i++)
        t->ids[i] = (int32_t)kv_rng_below(rng, (uint64_t)i, (uint64_t)args->base->vocab_size);
}

static void release(struct training *t) {
    kv_adamw_free(t->optimizer);
    kv_tape_free(t->tape);
    kv_predictor_free(t->predictor);
    kv_model_free(t->aux);
    kv_model_free(t->base);
    free(t->ids);
}

double bench_training(const char *name, const bench_training_args *args, double peak) {
    struct training t;
    double seconds[BENCH_REPEATS];
    prepare(&t, args);
    step(&t); // memory is touched here for the first time
    kv_gemm_flops_reset();
    for (int r = 0; r < args->repeats; r++) {
        const double start = bench_now();
        step(&t);
        seconds[r] = bench_now() - start;
    }
    const double tokens = (double)(args->n_seq * args->seq_len), s = bench_median(seconds, args->repeats);
    bench_print(name, tokens, (double)kv_gemm_flops() / args->repeats, s,
                (double)kv_arena_peak(kv_tape_arena(t.tape)), peak);
    release(&t);
    return tokens / s;
}
