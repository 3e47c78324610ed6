// Time to the first token of bases, of their auxiliary models, and by way of KV prediction, in turns: what prediction
// saves by the clock beside what it saves by the count, and how far it lies above its auxiliary model alone.
#include "tests/bench/bench.h"
#include "tests/bench/shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct family {
    const char *base, *aux, *name, *aux_name, *kvp_name;
} family;

static const family published[] = {
    {"openelm-1.1b", "openelm-450m", "1.1B", "450M", "KVP-C-450M"},
    {"openelm-1.1b", "openelm-270m", "1.1B", "270M", "KVP-C-270M"},
    {"openelm-1.1b", "openelm-1.1b-lp-0.50", "1.1B", "LP-0.50", "KVP-LP-0.50"},
};
static const family small[] = {
    {"quickstart-base", "quickstart-aux", "quickstart base", "quickstart aux", "quickstart KVP"},
    {"atlas-base", "atlas-a1", "atlas base", "atlas A1", "atlas KVP A1"},
    {"atlas-near", "atlas-a1", "atlas near base", "atlas A1", "atlas near KVP A1"},
};
static const int64_t prompts[][2] = {{1, 59}, {8, 59}}, small_prompts[][2] = {{8, 16}, {8, 512}};
enum { BASE, AUX, KVP, N_SYSTEMS };

static void add(bench_phase *p, const kv_system *system, const char *name, const int64_t *cell) {
    *p = (bench_phase){.group = "first",
                       .bound = BENCH_PRODUCTS,
                       .type = system->base->embed.dtype,
                       .rows = cell[0] * cell[1],
                       .tokens = (double)(cell[0] * cell[1]),
                       .bytes = bench_weight_bytes(system->aux ? system->aux : system->base),
                       .run = bench_reader_prefill};
    snprintf(p->name, sizeof p->name, "first token %s, %lld x %lld", name, (long long)cell[0],
             (long long)cell[1]);
    p->context = bench_reader_create(system, cell[0], cell[1], 0);
    p->peer = json_pack("{s:s,s:o,s:s,s:I,s:I}", "do", system->aux ? "kvp" : "prefill", "model",
                        bench_shape_json(&system->base->spec), "type", "f32", "n_seq", (json_int_t)cell[0],
                        "n_tokens", (json_int_t)cell[1]);
    if (system->aux) json_object_set_new(p->peer, "aux", bench_shape_json(&system->aux->spec));
}

static void compare(bench_phase *phases) {
    bench_phase *base = &phases[BASE], *aux = &phases[AUX], *kvp = &phases[KVP];
    if (isnan(base->seconds + aux->seconds + kvp->seconds)) return;
    const double reduction = base->seconds / kvp->seconds, count = base->flops / kvp->flops;
    bench_add_ratio(kvp, "reduction", reduction);
    bench_add_ratio(kvp, "of_count", reduction / count);
    bench_add_ratio(kvp, "of_aux", aux->seconds / kvp->seconds);
    bench_add_note(kvp, "count", count);
    printf("%-40s %.2f x sooner than the base, %.2f x by the count (%.0f %%); %.2f x its aux\n", "  which is",
           reduction, count, 100 * reduction / count, kvp->seconds / aux->seconds);
}

static void time_cell(bench *b, const kv_system *systems, const family *f, const int64_t *cell) {
    const char *const names[] = {f->name, f->aux_name, f->kvp_name};
    bench_phase phases[N_SYSTEMS];
    for (int i = 0; i < N_SYSTEMS; i++) add(&phases[i], &systems[i], names[i], cell);
    bench_round(b, phases, N_SYSTEMS);
    compare(phases);
    for (int i = 0; i < N_SYSTEMS; i++) bench_reader_free(phases[i].context);
}

static void time_family(bench *b, const family *f, kv_model *base, const int64_t cells[][2]) {
    kv_model *aux = bench_model(f->aux, b->options->quick, KV_F32);
    kv_predictor *predictor = bench_predictor(&base->spec, &aux->spec, false);
    if (!kv_predictor_pack(predictor)) bench_out_of_memory();
    const kv_system systems[] = {
        {.base = base}, {.base = aux}, {.base = base, .aux = aux, .predictor = predictor}};
    for (int c = 0; c < 2; c++) time_cell(b, systems, f, cells[c]);
    kv_predictor_free(predictor);
    kv_model_free(aux);
}

void bench_first_tokens(bench *b) {
    const bool quick = b->options->quick;
    for (int f = 0; f < (quick ? 1 : 3); f++) {
        kv_model *base = bench_model(small[f].base, quick, KV_F32);
        time_family(b, &small[f], base, quick ? prompts : small_prompts);
        kv_model_free(base);
    }
    if (quick) return;
    kv_model *base = bench_model(published[0].base, false, KV_F32);
    for (int f = 0; f < 3; f++) time_family(b, &published[f], base, prompts);
    kv_model_free(base);
}
