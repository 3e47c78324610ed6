// The base runs layer by layer, as kv_model_forward does, and each layer attends twice.
#include "eval/evaluate/attended.h"

#include <math.h>
#include <string.h>

struct walk {
    kv_model *base;
    kv_pass pass;
    const kv_attended *attended;
};

static double cosine(const float *a, const float *b, int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    if (aa == 0 || bb == 0) return aa == bb ? 1 : isnan(ab) ? NAN : 0;
    return ab / sqrt(aa * bb);
}

static void compare(const kv_tensor *predicted, const kv_tensor *truth, int64_t n_heads, double *mean) {
    const int64_t head_dim = truth->cols / n_heads;
#pragma omp parallel for
    for (int64_t t = 0; t < truth->rows; t++) {
        const float *a = predicted->data + t * truth->cols, *b = truth->data + t * truth->cols;
        double sum = 0;
        for (int64_t h = 0; h < n_heads; h++) sum += cosine(a + h * head_dim, b + h * head_dim, head_dim);
        mean[t] = sum / (double)n_heads;
    }
}

static void keep(kv_tensor *to, const kv_tensor *from) {
    if (from) memcpy(to->data, from->data, (size_t)(from->rows * from->cols) * sizeof *from->data);
}

// A layer of kv_walk_layers. What follows attention in the last one nobody reads.
static kv_tensor *attend_twice(kv_tape *tape, int64_t layer, kv_tensor *x, void *what) {
    const struct walk *w = what;
    const kv_attended *a = w->attended;
    const int64_t n_heads = w->base->spec.layers[layer].n_heads;
    const kv_attention_args args = kv_layer_attention(w->base, layer, &w->pass);
    kv_tensor *h = kv_layer_norm_in(tape, w->base, layer, x);
    const kv_layer_kv own = kv_layer_keys_values(tape, w->base, layer, h);
    kv_tensor *q = kv_layer_queries(tape, w->base, layer, h, &w->pass);
    kv_tensor *truth = kv_attention(tape, q, own.k, own.v, &args);
    const kv_tensor *predicted = kv_attention(tape, q, a->predicted_k[layer], a->predicted_v[layer], &args);
    if (!truth || !predicted) return NULL;
    keep(a->k[layer], own.k), keep(a->v[layer], own.v);
    compare(predicted, truth, n_heads, a->cosine + layer * truth->rows);
    return layer == w->base->spec.n_layers - 1 ? x : kv_layer_mixed(tape, w->base, layer, x, truth);
}

bool kv_attend_both(kv_tape *tape, kv_model *base, const int32_t *ids, int64_t n,
                    const kv_sequence *sequences, int64_t n_sequences, const kv_attended *attended) {
    struct walk walk = {
        .base = base, .pass = {.sequences = sequences, .n_sequences = n_sequences}, .attended = attended};
    kv_tensor *x = kv_embedding(tape, &base->embed, ids, n);
    for (int64_t i = 0; i < base->spec.n_layers; i++) {
        attended->k[i] = kv_tape_tensor(tape, n, kv_spec_kv_dim(&base->spec, i));
        attended->v[i] = kv_tape_tensor(tape, n, kv_spec_kv_dim(&base->spec, i));
        if (!attended->k[i] || !attended->v[i]) return false;
    }
    return kv_walk_layers(tape, base->spec.n_layers, x, attend_twice, &walk);
}

uint64_t kv_attended_flops(const kv_model_spec *base, int64_t n) {
    const int64_t last = base->n_layers - 1;
    uint64_t sum = 2 * (uint64_t)(n * base->model_dim * base->layers[last].n_heads * base->head_dim);
    for (int64_t i = 0; i <= last; i++)
        sum += (i == last ? 2 : 1) *
               kv_attention_flops(base->layers[i].n_heads, base->layers[i].n_kv_heads, base->head_dim, n, n);
    return sum;
}

double kv_attended_bytes(const kv_model_spec *base, int64_t n) {
    int64_t widest = 0;
    for (int64_t i = 0; i < base->n_layers; i++)
        if (base->layers[i].n_heads > widest) widest = base->layers[i].n_heads;
    return (double)n *
           ((double)(2 * widest * base->head_dim) * sizeof(float) + (double)base->n_layers * sizeof(double));
}
