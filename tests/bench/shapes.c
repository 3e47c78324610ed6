#include "tests/bench/shapes.h"

#include "data/checkpoint/random.h"
#include "tests/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 8320 };

// Shapes of configs/quickstart and configs/atlas.
static const struct {
    const char *name;
    int64_t vocab_size, n_layers, dim, head_dim, n_heads, n_kv_heads, ffn_dim;
} small_shapes[] = {
    {"quickstart-base", 512, 6, 96, 24, 4, 2, 192}, {"quickstart-aux", 512, 2, 32, 16, 2, 1, 96},
    {"atlas-base", 1024, 6, 128, 32, 4, 2, 320},    {"atlas-near", 1024, 4, 48, 16, 3, 1, 128},
    {"atlas-a1", 1024, 3, 32, 16, 2, 1, 96},
};
enum { N_SMALL = sizeof small_shapes / sizeof *small_shapes, TINY = 1 };

static void small_shape(int i, kv_model_spec *spec) {
    *spec = (kv_model_spec){.model_type = "openelm",
                            .vocab_size = small_shapes[i].vocab_size,
                            .model_dim = small_shapes[i].dim,
                            .head_dim = small_shapes[i].head_dim,
                            .n_layers = small_shapes[i].n_layers,
                            .qk_norm = true,
                            .tied_head = true,
                            .norm_eps = 1e-6f,
                            .rope = {.theta = 10000},
                            .bos_id = 1,
                            .eos_id = 2};
    for (int64_t l = 0; l < spec->n_layers; l++)
        spec->layers[l] =
            (kv_layer_spec){small_shapes[i].n_heads, small_shapes[i].n_kv_heads, small_shapes[i].ffn_dim};
}

// A shape, and which layers of which model are its own.
static void find(const char *name, bool quick, kv_random_name *found) {
    int i = 0;
    while (i < N_SMALL && strcmp(small_shapes[i].name, name) != 0) i++;
    if (i < N_SMALL || quick) {
        small_shape(i < N_SMALL ? i : TINY, &found->spec);
        found->n_origin = 0;
    } else {
        char random[96];
        kv_error err;
        snprintf(random, sizeof random, "random:%s", name);
        if (kv_random_parse(random, found, &err) != KV_OK) bench_fail(&err);
    }
    found->spec.context_length = CONTEXT;
}

void bench_shape(const char *name, bool quick, kv_model_spec *spec) {
    kv_random_name *found = malloc(sizeof *found);
    if (!found) bench_out_of_memory();
    find(name, quick, found);
    *spec = found->spec;
    free(found);
}

static kv_model *make_model(const char *name, bool quick, kv_dtype type, bool trained) {
    kv_random_name *found = malloc(sizeof *found);
    if (!found) bench_out_of_memory();
    find(name, quick, found);
    kv_model *model;
    kv_error err;
    if (kv_model_create(&found->spec, type, true, &model, &err) != KV_OK) bench_fail(&err);
    kv_model_fill_random(model, 1, found->n_origin ? found->origin : NULL, found->n_origin);
    if (!trained && !kv_model_pack(model, NULL)) bench_out_of_memory();
    free(found);
    return model;
}

kv_model *bench_model(const char *name, bool quick, kv_dtype type) {
    return make_model(name, quick, type, false);
}

kv_model *bench_trained_model(const char *name, bool quick) {
    return make_model(name, quick, KV_F32, true);
}

kv_predictor *bench_predictor(const kv_model_spec *base, const kv_model_spec *aux, bool recipe) {
    kv_predictor_spec *spec = malloc(sizeof *spec);
    int32_t mapping[KV_MAX_LAYERS];
    kv_predictor *predictor;
    kv_error err;
    if (!spec) bench_out_of_memory();
    kv_mapping_separate(base->n_layers, aux->n_layers, mapping);
    kv_predictor_spec_paper(base, aux, mapping, spec);
    if (recipe) kv_predictor_spec_set_table(spec, KV_TABLE_FULL);
    if (kv_predictor_create(base, aux, spec, &predictor, &err) != KV_OK ||
        kv_predictor_init(predictor, NULL, 3, &err) != KV_OK)
        bench_fail(&err);
    free(spec);
    return predictor;
}

double bench_weight_bytes(const kv_model *model) {
    int64_t weights = kv_model_size(model, false);
    weights += model->spec.vocab_size * model->spec.model_dim; // the head, tied or not
    return (double)weights * (double)kv_dtype_size(model->embed.dtype);
}

json_t *bench_shape_json(const kv_model_spec *spec) {
    json_t *layers = json_array();
    for (int64_t i = 0; i < spec->n_layers; i++)
        json_array_append_new(layers, json_pack("[I,I,I]", (json_int_t)spec->layers[i].n_heads,
                                                (json_int_t)spec->layers[i].n_kv_heads,
                                                (json_int_t)spec->layers[i].ffn_dim));
    return json_pack("{s:I,s:I,s:I,s:b,s:f,s:o}", "vocab_size", (json_int_t)spec->vocab_size, "model_dim",
                     (json_int_t)spec->model_dim, "head_dim", (json_int_t)spec->head_dim, "qk_norm",
                     spec->qk_norm, "theta", spec->rope.theta, "layers", layers);
}

void bench_fill_ids(int32_t *ids, int64_t n, int64_t vocab_size) {
    const kv_rng rng = {.seed = 2};
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)kv_rng_below(rng, (uint64_t)i, (uint64_t)vocab_size);
}

// ---- Prompts -------------------------------------------------------------------------------------------

bench_reader *bench_reader_create(const kv_system *system, int64_t n_seq, int64_t n_tokens, int64_t room) {
    bench_reader *r = malloc(sizeof *r);
    kv_error err;
    if (!r) bench_out_of_memory();
    *r = (bench_reader){.n_seq = n_seq, .n_tokens = n_tokens};
    if (kv_session_create(system, n_seq, n_tokens + room, &r->session, &err) != KV_OK) bench_fail(&err);
    const int64_t vocab_size = system->base->spec.vocab_size;
    r->ids = malloc((size_t)(n_seq * n_tokens) * sizeof *r->ids);
    r->lengths = malloc((size_t)n_seq * sizeof *r->lengths);
    r->logits = malloc((size_t)(n_seq * vocab_size) * sizeof *r->logits);
    if (!r->ids || !r->lengths || !r->logits) bench_out_of_memory();
    bench_fill_ids(r->ids, n_seq * n_tokens, vocab_size);
    for (int64_t s = 0; s < n_seq; s++) r->lengths[s] = n_tokens;
    return r;
}

void bench_reader_free(bench_reader *r) {
    kv_session_free(r->session);
    free(r->ids), free(r->lengths), free(r->logits);
    free(r);
}

void bench_reader_prefill(void *reader) {
    bench_reader *r = reader;
    kv_error err;
    kv_session_reset(r->session);
    if (kv_session_prefill(r->session, r->ids, r->lengths, r->logits, &err) != KV_OK) bench_fail(&err);
}
