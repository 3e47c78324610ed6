// Reading prompts: of several lengths up to 8192 tokens, in batches of 1 to 64; with attention's share of the work.
#include "core/gemm.h"
#include "data/system/console.h"
#include "tests/bench/bench.h"
#include "tests/bench/shapes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct cell {
    int64_t n_seq, n_tokens;
} cell;

static const cell lengths[] = {{1, 59}, {1, 128}, {1, 512}, {1, 2048}};
static const cell longest[] = {{1, 8192}};
static const cell batches[] = {{2, 59}, {4, 59}, {8, 59}, {16, 59}, {64, 59}};
static const cell large[] = {{1, 59}, {8, 59}, {1, 512}};
static const cell quick[] = {{1, 16}, {2, 16}};

enum { MAX_CELLS = 8, LONG = 512 };

static void add(bench_phase *p, kv_model *model, const char *short_name, const cell *c) {
    const kv_dtype type = model->embed.dtype;
    *p = (bench_phase){.group = "prefill",
                       .bound = BENCH_PRODUCTS,
                       .type = type,
                       .rows = c->n_seq * c->n_tokens,
                       .tokens = (double)(c->n_seq * c->n_tokens),
                       .bytes = bench_weight_bytes(model),
                       .run = bench_reader_prefill};
    snprintf(p->name, sizeof p->name, "prefill %s %s, %lld x %lld", short_name,
             type == KV_F32 ? "f32" : "bf16", (long long)c->n_seq, (long long)c->n_tokens);
    p->context = bench_reader_create(&(kv_system){.base = model}, c->n_seq, c->n_tokens, 0);
    p->peer = json_pack("{s:s,s:o,s:s,s:I,s:I}", "do", "prefill", "model", bench_shape_json(&model->spec),
                        "type", type == KV_F32 ? "f32" : "bf16", "n_seq", (json_int_t)c->n_seq, "n_tokens",
                        (json_int_t)c->n_tokens);
}

// ---- Attention -----------------------------------------------------------------------------------------

// Products of the attention of a prompt; of the last layer only the newest query's.
static double attention_flops(const kv_model_spec *spec, int64_t n) {
    uint64_t flops = 0;
    for (int64_t l = 0; l < spec->n_layers; l++) {
        const kv_layer_spec *own = &spec->layers[l];
        const int64_t queries = l + 1 < spec->n_layers ? n : 1;
        flops += kv_attention_flops(own->n_heads, own->n_kv_heads, spec->head_dim, queries, n);
    }
    return (double)flops;
}

static kv_tensor *random_rows(kv_tape *tape, int64_t rows, int64_t cols) {
    kv_tensor *x = kv_tape_tensor(tape, rows, cols);
    if (!x) bench_out_of_memory();
    for (int64_t i = 0; i < rows * cols; i++) x->data[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    return x;
}

// Seconds of it, layer by layer, without anything around it.
static double attention_seconds(kv_model *model, int64_t n) {
    const kv_model_spec *spec = &model->spec;
    double seconds = 0;
    kv_tape *tape = kv_tape_create();
    if (!tape) bench_out_of_memory();
    kv_tape_set_recording(tape, false);
    for (int64_t l = 0; l + 1 < spec->n_layers; l++) {
        const kv_layer_spec *own = &spec->layers[l];
        const kv_sequence sequence = {.q_len = n, .k_len = n};
        kv_tape_reset(tape);
        kv_tensor *q = random_rows(tape, n, own->n_heads * spec->head_dim);
        kv_tensor *k = random_rows(tape, n, own->n_kv_heads * spec->head_dim);
        kv_tensor *v = random_rows(tape, n, own->n_kv_heads * spec->head_dim);
        bench_obey_signals();
        const double start = kv_now();
        const kv_attention_args args = {.n_heads = own->n_heads,
                                        .n_kv_heads = own->n_kv_heads,
                                        .head_dim = spec->head_dim,
                                        .rope = model->rope,
                                        .sequences = &sequence,
                                        .n_sequences = 1};
        if (!kv_attention(tape, q, k, v, &args)) bench_out_of_memory();
        seconds += kv_now() - start;
    }
    kv_tape_free(tape);
    return seconds;
}

static void note_attention(kv_model *model, bench_phase *p, int64_t n) {
    const double flops = attention_flops(&model->spec, n) / p->flops;
    const double seconds = attention_seconds(model, n) / p->seconds;
    bench_add_note(p, "attention_flops", flops);
    bench_add_note(p, "attention_seconds", seconds);
    printf("%-40s %.0f %% of its operations, %.0f %% of its time\n", "  of which attention", 100 * flops,
           100 * seconds);
}

// ---- Rounds --------------------------------------------------------------------------------------------

static void round_of(bench *b, kv_model *model, const char *short_name, const cell *cells, int n) {
    bench_phase phases[MAX_CELLS];
    for (int i = 0; i < n; i++) add(&phases[i], model, short_name, &cells[i]);
    bench_round(b, phases, n);
    for (int i = 0; i < n; i++) {
        if (phases[i].entry && cells[i].n_seq == 1 && cells[i].n_tokens >= LONG)
            note_attention(model, &phases[i], cells[i].n_tokens);
        bench_reader_free(phases[i].context);
    }
}

#define ROUND(cells) round_of(b, model, short_name, cells, (int)(sizeof(cells) / sizeof *(cells)))

static void time_model(bench *b, const char *name, const char *short_name, kv_dtype type, bool whole) {
    kv_model *model = bench_model(name, b->options->quick, type);
    if (b->options->quick) {
        ROUND(quick);
    } else if (whole) {
        ROUND(lengths);
        ROUND(batches);
        if (type == KV_F32) ROUND(longest);
    } else {
        ROUND(large);
    }
    kv_model_free(model);
}

void bench_prefill(bench *b) {
    static const kv_dtype types[] = {KV_F32, KV_BF16};
    for (int t = 0; t < 2; t++) time_model(b, "openelm-270m", "270M", types[t], true);
    if (b->options->quick) return;
    for (int t = 0; t < 2; t++) time_model(b, "openelm-1.1b", "1.1B", types[t], false);
}
