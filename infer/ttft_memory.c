#include "infer/ttft.h"

// The engine reads prompts in packs of about so many tokens.
static const double pack_rows = 4096;

static double larger(double a, double b) {
    return a > b ? a : b;
}

static double all_kv(const kv_model_spec *spec) {
    double sum = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) sum += (double)kv_spec_kv_dim(spec, i);
    return sum;
}

// Floats per token that a layer has in hand at one time: seven of the model's width (input, its norm, output
// projection, sums, the second norm, down projection), three each of queries and FFN, four of keys and values
// (with turned keys).
static double layer_floats(const kv_model_spec *spec) {
    double most = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const kv_layer_spec *l = &spec->layers[i];
        most = larger(most, 3 * (double)(l->n_heads * spec->head_dim) + 3 * (double)l->ffn_dim +
                                4 * (double)kv_spec_kv_dim(spec, i));
    }
    return most + 7 * (double)spec->model_dim;
}

static double widest_kv(const kv_model_spec *spec) {
    double most = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) most = larger(most, (double)kv_spec_kv_dim(spec, i));
    return most;
}

// Floats per token that predictors make on their way: joined inputs, and what low-rank maps have in the
// middle.
static double between_floats(const kv_predictor *p, const kv_model_spec *aux) {
    if (!p) return 0;
    return 2 * (double)(p->kind.rank * p->n_base_layers) + (p->kind.aux_layers > 1 ? 4 * all_kv(aux) : 0);
}

// Keys and values of the whole batch; activations of a pack, with an aux those of its cache and of what is
// predicted from it too; logits.
static double session_floats(const kv_system *system, const kv_ttft_cell *cell) {
    const kv_model_spec *base = &system->base->spec;
    const double prompt = (double)cell->prompt_tokens, batch = (double)cell->batch_size,
                 tokens = prompt * batch;
    const double rows = tokens < pack_rows ? tokens : larger(pack_rows, prompt);
    const double cache = 2 * tokens * all_kv(base), logits = 2 * batch * (double)base->vocab_size;
    if (!system->aux) return cache + logits + rows * layer_floats(base);
    const kv_model_spec *aux = &system->aux->spec;
    const double predicted = rows * (layer_floats(aux) + 2 * all_kv(aux) + 3 * all_kv(base) +
                                     between_floats(system->predictor, aux));
    const double newest = batch * layer_floats(base) + tokens * widest_kv(base);
    return cache + logits + larger(predicted, newest);
}

int64_t kv_ttft_bytes(const kv_system *systems, int64_t n, const kv_ttft_cell *cell) {
    double floats = 0;
    for (int64_t i = 0; i < n; i++) floats += session_floats(&systems[i], cell);
    const double bytes = floats * sizeof(float);
    return bytes < 0x1p62 ? (int64_t)bytes : INT64_MAX;
}
