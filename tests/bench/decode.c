// Decoding a token behind a prompt: bound by reading the weights once, be it for one sequence or for eight.
#include "tests/bench/bench.h"
#include "tests/bench/shapes.h"

#include <stdio.h>
#include <string.h>

enum { PROMPT = 59, MAX_PHASES = 4 };

// The token before it is forgotten again, so that each run is the same.
static void forget(void *context) {
    bench_reader *r = context;
    kv_session_rewind(r->session, r->n_tokens);
}

static void decode(void *context) {
    bench_reader *r = context;
    kv_error err;
    if (kv_session_decode(r->session, r->ids, NULL, r->logits, &err) != KV_OK) bench_fail(&err);
}

// Keys and values of what was read so far, too.
static double cache_bytes(const kv_model_spec *spec, int64_t n_seq, int64_t n_tokens) {
    int64_t width = 0;
    for (int64_t l = 0; l < spec->n_layers; l++) width += 2 * kv_spec_kv_dim(spec, l);
    return (double)(n_seq * n_tokens * width) * sizeof(float);
}

static void add(bench_phase *p, kv_model *model, const char *name, int64_t n_seq) {
    const char *type = model->embed.dtype == KV_F32 ? "f32" : "bf16";
    *p = (bench_phase){.group = "decode",
                       .bound = BENCH_READING,
                       .type = model->embed.dtype,
                       .rows = n_seq,
                       .tokens = (double)n_seq,
                       .bytes = bench_weight_bytes(model) + cache_bytes(&model->spec, n_seq, PROMPT),
                       .prepare = forget,
                       .run = decode};
    snprintf(p->name, sizeof p->name, "decode %s %s x %lld", name, type, (long long)n_seq);
    p->context = bench_reader_create(&(kv_system){.base = model}, n_seq, PROMPT, 1);
    bench_reader_prefill(p->context);
    p->peer = json_pack("{s:s,s:o,s:s,s:I,s:I}", "do", "decode", "model", bench_shape_json(&model->spec),
                        "type", type, "n_seq", (json_int_t)n_seq, "n_tokens", (json_int_t)PROMPT);
}

// ×8 beside ×1: how much longer the step takes.
static void time_models(bench *b, const char *name, const char *short_name, const int64_t *n_seq, int n) {
    static const kv_dtype types[] = {KV_F32, KV_BF16};
    bench_phase phases[MAX_PHASES];
    kv_model *models[2];
    for (int t = 0; t < 2; t++) {
        models[t] = bench_model(name, b->options->quick, types[t]);
        for (int i = 0; i < n; i++) add(&phases[t * n + i], models[t], short_name, n_seq[i]);
    }
    bench_round(b, phases, 2 * n);
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < n; i++) {
            bench_phase *p = &phases[t * n + i];
            if (t > 0) bench_add_ratio(p, "than_f32", phases[i].seconds / p->seconds);
            if (i > 0) bench_add_ratio(p, "of_x1", phases[t * n].seconds / p->seconds);
            bench_reader_free(p->context);
        }
    for (int t = 0; t < 2; t++) kv_model_free(models[t]);
}

void bench_decode(bench *b) {
    static const int64_t n_seq[] = {1, 8};
    time_models(b, "openelm-270m", "270M", n_seq, 2);
    if (!b->options->quick) time_models(b, "openelm-1.1b", "1.1B", n_seq, 1);
}
