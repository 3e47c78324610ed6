// Predictors alone: maps from the auxiliary model's keys and values to the base's, all layers.
#include "core/gemm.h"
#include "tests/bench/bench.h"
#include "tests/bench/shapes.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct maps {
    kv_predictor *predictor;
    kv_key_norms norms;
    kv_taps taps;
    kv_tape *tape;
    kv_arena_mark mark; // behind what is read
} maps;

static void forget(void *context) {
    maps *m = context;
    kv_arena_release(kv_tape_arena(m->tape), m->mark);
}

static void predict(void *context) {
    maps *m = context;
    kv_tensor *k[KV_MAX_LAYERS], *v[KV_MAX_LAYERS];
    kv_error err;
    kv_predict(m->tape, m->predictor, &m->norms, &m->taps, k, v);
    if (kv_tape_status(m->tape, &err) != KV_OK) bench_fail(&err);
}

static kv_tensor *rows_of(kv_tape *tape, int64_t rows, int64_t cols) {
    kv_tensor *x = kv_tape_tensor(tape, rows, cols);
    if (!x) bench_out_of_memory();
    for (int64_t i = 0; i < rows * cols; i++) x->data[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    return x;
}

static maps *maps_create(kv_model *base, const kv_model_spec *aux, kv_predictor *predictor, int64_t rows) {
    maps *m = calloc(1, sizeof *m);
    if (!m || !(m->tape = kv_tape_create())) bench_out_of_memory();
    m->predictor = predictor;
    kv_tape_set_recording(m->tape, false);
    kv_model_key_norms(base, &m->norms);
    m->taps.n = rows;
    for (int64_t l = 0; l < aux->n_layers; l++) {
        m->taps.k[l] = rows_of(m->tape, rows, kv_spec_kv_dim(aux, l));
        m->taps.v[l] = rows_of(m->tape, rows, kv_spec_kv_dim(aux, l));
    }
    m->mark = kv_arena_get_mark(kv_tape_arena(m->tape));
    return m;
}

static void maps_free(maps *m) {
    kv_tape_free(m->tape);
    free(m);
}

static void add(bench_phase *p, maps *m, const char *name) {
    const int64_t rows = m->taps.n;
    *p = (bench_phase){.group = "predict",
                       .bound = BENCH_PRODUCTS,
                       .type = KV_F32,
                       .rows = rows,
                       .tokens = (double)rows,
                       .bytes = (double)kv_predictor_size(m->predictor) * sizeof(float),
                       .prepare = forget,
                       .run = predict,
                       .context = m};
    snprintf(p->name, sizeof p->name, "predictors %s, %lld rows", name, (long long)rows);
}

static void time_pair(bench *b, const char *base_name, const char *aux_name, const char *name) {
    static const int64_t rows[] = {58,
                                   464}; // of 1 and 8 prompts of 59 tokens, whose last the base reads itself
    kv_model *base = bench_model(base_name, b->options->quick, KV_BF16);
    kv_model_spec *aux = malloc(sizeof *aux);
    if (!aux) bench_out_of_memory();
    bench_shape(aux_name, b->options->quick, aux);
    kv_predictor *predictor = bench_predictor(&base->spec, aux, false);
    if (!kv_predictor_pack(predictor)) bench_out_of_memory();
    bench_phase phases[2];
    for (int i = 0; i < 2; i++) add(&phases[i], maps_create(base, aux, predictor, rows[i]), name);
    bench_round(b, phases, 2);
    for (int i = 0; i < 2; i++) maps_free(phases[i].context);
    kv_predictor_free(predictor);
    kv_model_free(base);
    free(aux);
}

void bench_predictors(bench *b) {
    time_pair(b, "atlas-base", "atlas-a1", "atlas A1");
    if (b->options->quick) return;
    time_pair(b, "openelm-1.1b", "openelm-450m", "450M");
    time_pair(b, "openelm-1.1b", "openelm-270m", "270M");
}
