#include "tests/bench/train.h"

#include "core/optimizer.h"
#include "core/slices.h"
#include "tests/bench/shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARAMS = 4096 };

struct training {
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_slices *slices;
    kv_param *params[MAX_PARAMS];
    int64_t n_params;
    kv_adamw *optimizer;
    int32_t *ids;
    kv_kvp_weights weights;
    int64_t n_seq, seq_len;
};

static kv_tensor *objective(void *context, kv_tape *tape, const kv_slice *slice) {
    const struct training *t = context;
    if (t->predictor)
        return kv_kvp_objective(tape, t->base, t->aux, t->predictor, &slice->batch, &t->weights, NULL, NULL);
    return kv_lm_objective(tape, t->base, NULL, &slice->batch, &(kv_lm_weights){.ce = 1}, NULL);
}

static void step(void *context) {
    struct training *t = context;
    const kv_batch batch = {.input_ids = t->ids,
                            .target_ids = t->ids + 1,
                            .n_seq = t->n_seq,
                            .seq_len = t->seq_len,
                            .ignore_index = -1,
                            .n_valid = (double)(t->n_seq * t->seq_len)};
    kv_error err;
    kv_grad_zero(t->params, t->n_params);
    double loss;
    if (kv_slices_backward(t->slices, &batch, objective, t, &loss, &err) != KV_OK) bench_fail(&err);
    const double norm = kv_grad_norm(t->params, t->n_params);
    kv_adamw_step(t->optimizer, kv_same_rate(1e-3), kv_clip_scale(norm, 1));
}

static void must(kv_status status, const kv_error *err) {
    if (status != KV_OK) bench_fail(err);
}

static void make_models(struct training *t, const bench_step_args *args, bool quick) {
    kv_error err;
    t->base = bench_trained_model(args->base, quick); // in rows where it is frozen, too, as kvtrain keeps it
    kv_model *trained = t->base;
    if (args->aux) {
        trained = t->aux = bench_trained_model(args->aux, quick);
        t->predictor = bench_predictor(&t->base->spec, &t->aux->spec, args->ours);
        must(kv_predictor_set_trainable(t->predictor, true, &err), &err);
        const float layers = (float)t->base->spec.n_layers;
        t->weights = args->ours ? (kv_kvp_weights){.consistency = 2 / layers, .kl = 1}
                                : (kv_kvp_weights){.base = 1, .aux = 1, .consistency = 1 / layers};
    }
    must(kv_model_set_trainable(trained, true, &err), &err);
    t->n_params = kv_model_params(trained, t->params);
    if (t->predictor) t->n_params += kv_predictor_params(t->predictor, t->params + t->n_params);
    must(kv_adamw_create(t->params, t->n_params, &(kv_adamw_args){0.9f, 0.95f, 1e-8f, 0.1f}, &t->optimizer,
                         &err),
         &err);
}

// As kvtrain cuts them: tables of predictors have gradients of a few rows.
static void make_slices(struct training *t) {
    int64_t n_trained = 0, width, n_weights = kv_model_size(t->base, true);
    kv_error err;
    for (int64_t i = 0; i < t->n_params; i++) n_trained += kv_param_size(t->params[i]);
    if (t->predictor) {
        n_weights += kv_model_size(t->aux, true) + kv_predictor_size(t->predictor);
        n_trained -= kv_predictor_looked_up(t->predictor, &width);
    }
    const kv_slice_shape shape = {t->n_seq, t->seq_len, n_weights, n_trained};
    must(kv_slices_create(t->params, t->n_params, kv_slice_count(&shape), &t->slices, &err), &err);
}

static struct training *prepare(const bench_step_args *args, bool quick) {
    struct training *t = calloc(1, sizeof *t);
    const int64_t n = args->n_seq * args->seq_len;
    if (!t || !(t->ids = malloc((size_t)(n + 1) * sizeof *t->ids))) bench_out_of_memory();
    t->n_seq = args->n_seq, t->seq_len = args->seq_len;
    make_models(t, args, quick);
    make_slices(t);
    bench_fill_ids(t->ids, n + 1, t->base->spec.vocab_size);
    return t;
}

void bench_step_free(void *context) {
    struct training *t = context;
    kv_adamw_free(t->optimizer);
    kv_slices_free(t->slices);
    kv_predictor_free(t->predictor);
    kv_model_free(t->aux);
    kv_model_free(t->base);
    free(t->ids);
    free(t);
}

static json_t *peer_of(const struct training *t, const bench_step_args *args) {
    json_t *request =
        json_pack("{s:s,s:o,s:s,s:I,s:I}", "do", "train", "model", bench_shape_json(&t->base->spec), "type",
                  "f32", "n_seq", (json_int_t)t->n_seq, "n_tokens", (json_int_t)t->seq_len);
    if (t->aux) {
        json_object_set_new(request, "do", json_string("train_kvp"));
        json_object_set_new(request, "aux", bench_shape_json(&t->aux->spec));
        json_object_set_new(request, "ours", json_boolean(args->ours));
    }
    return request;
}

void bench_step_phase(const bench_step_args *args, bool quick, bench_phase *phase) {
    bench_step_args small = *args;
    if (quick) small.n_seq = 2, small.seq_len = 16;
    struct training *t = prepare(&small, quick);
    const double tokens = (double)(t->n_seq * t->seq_len);
    *phase = (bench_phase){.group = "train",
                           .bound = BENCH_PRODUCTS,
                           .type = KV_F32,
                           .rows = t->n_seq * t->seq_len,
                           .tokens = tokens,
                           .run = step,
                           .context = t,
                           .peer = peer_of(t, args)};
    snprintf(phase->name, sizeof phase->name, "step %s, %lld x %lld", args->name, (long long)t->n_seq,
             (long long)t->seq_len);
}

// Of the small families those of a kind take turns; the published pair alone has 5 GB of weights, gradients and moments.
void bench_training(bench *b) {
    static const bench_step_args small[] = {
        {"quickstart base", "quickstart-base", NULL, false, 16, 96},
        {"quickstart aux", "quickstart-aux", NULL, false, 16, 96},
        {"quickstart KVP, ours", "quickstart-base", "quickstart-aux", true, 16, 96},
        {"quickstart KVP, paper's", "quickstart-base", "quickstart-aux", false, 16, 96},
        {"atlas base", "atlas-base", NULL, false, 24, 96},
        {"atlas near base", "atlas-near", NULL, false, 48, 96},
        {"atlas A1", "atlas-a1", NULL, false, 48, 96},
        {"atlas KVP, ours", "atlas-base", "atlas-a1", true, 24, 96},
        {"atlas near KVP, ours", "atlas-near", "atlas-a1", true, 24, 96},
    };
    static const bench_step_args published[] = {
        {"450M/270M KVP, paper's", "openelm-450m", "openelm-270m", false, 4, 128}};
    enum { N_SMALL = sizeof small / sizeof *small };
    bench_phase phases[N_SMALL];
    const int n = b->options->quick ? 3 : N_SMALL;
    for (int i = 0; i < n; i++) bench_step_phase(&small[i], b->options->quick, &phases[i]);
    bench_round(b, phases, n);
    for (int i = 0; i < n; i++) bench_step_free(phases[i].context);
    if (b->options->quick || !bench_wants_phase(b->options, "step 450M/270M KVP, paper's, 4 x 128")) return;
    bench_step_phase(&published[0], false, phases);
    bench_round(b, phases, 1);
    bench_step_free(phases[0].context);
}
