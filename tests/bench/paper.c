// Ours beside the paper's released code, whose times are scaled to this machine.
#include "tests/bench/bench.h"

#include "data/checkpoint/checkpoint.h"
#include "infer/ttft.h"

#include <math.h>
#include <stdio.h>

// The paper's released PyTorch code on 2 cores, float32, random weights, measured in one hour in which the
// machine's matrix-product peak was this; its times scale with the peak of the machine they are compared on.
static const double their_peak = 171;

static const struct {
    const char *name;
    double their_seconds; // 8 prompts of 59 tokens
} rows[] = {
    {"OpenELM-1.1B, first token of 59 x 8", 7.0}, {"OpenELM-450M", 2.75}, {"KVP-C-450M for the 1.1B", 3.15}};
enum { N_ROWS = sizeof rows / sizeof *rows };
static const double their_tokens_per_second = 27.6; // one training step of 450M + 270M, 4 x 128 tokens

static void load(const char *name, kv_model **model) {
    kv_error err;
    if (kv_checkpoint_load(name, model, &err) != KV_OK) bench_fail(&err);
}

static void time_first_tokens(kv_ttft ttft[N_ROWS]) {
    kv_model *base, *aux;
    kv_predictor *predictor;
    kv_error err;
    load("random:openelm-1.1b", &base);
    load("random:openelm-450m", &aux);
    if (kv_predictor_load("random", &base->spec, &aux->spec, NULL, NULL, &predictor, &err) != KV_OK)
        bench_fail(&err);
    const kv_system systems[N_ROWS] = {
        {.base = base}, {.base = aux}, {.base = base, .aux = aux, .predictor = predictor}};
    const kv_ttft_cell cell = {.prompt_tokens = 59, .batch_size = 8};
    if (kv_ttft_grid(systems, N_ROWS,
                     &(kv_ttft_grid_args){.cells = &cell, .n_cells = 1, .repeats = 3, .seed = 1}, NULL, ttft,
                     NULL, &err) != KV_OK)
        bench_fail(&err);
    kv_predictor_free(predictor);
    kv_model_free(aux);
    kv_model_free(base);
}

static double train(double peak) {
    kv_model_spec base, aux;
    if (!kv_published_spec("openelm-450m", &base) || !kv_published_spec("openelm-270m", &aux)) return 0;
    return bench_training("train 450M + 270M, 4 x 128 tokens",
                          &(bench_training_args){.base = &base,
                                                 .aux = &aux,
                                                 .weights = {.base = 1, .aux = 1, .consistency = 1},
                                                 .n_seq = 4,
                                                 .seq_len = 128,
                                                 .micro = 4,
                                                 .repeats = 3},
                          peak);
}

void bench_paper(double peak) {
    kv_ttft ttft[N_ROWS];
    time_first_tokens(ttft);
    const double trained = train(peak);
    peak = fmax(peak, bench_peak());
    printf("\nThe paper's PyTorch code, scaled from its machine's peak of %.0f GFLOP/s to this one's %.0f:\n",
           their_peak, peak);
    for (int i = 0; i < N_ROWS; i++) {
        const double theirs = rows[i].their_seconds * their_peak / peak;
        printf("%-42s %8.2f s, theirs %5.2f s         %5.2f times as fast\n", rows[i].name, ttft[i].seconds,
               theirs, theirs / ttft[i].seconds);
    }
    const double theirs = their_tokens_per_second * peak / their_peak;
    printf("%-42s %8.1f tokens/s, theirs %5.1f   %5.2f times as fast\n", "train 450M + 270M, 4 x 128 tokens",
           trained, theirs, trained / theirs);
}
