#include "tests/support/prune_reference.h"

#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

ref_reader ref_reader_make(kv_model *model, int64_t capacity) {
    ref_reader r = {.m = ref_model_copy(model), .capacity = capacity};
    const kv_model_spec *spec = &model->spec;
    r.positions = test_alloc(capacity, sizeof *r.positions);
    r.depth = test_alloc(capacity, sizeof *r.depth);
    r.x = test_alloc(capacity * spec->model_dim, sizeof *r.x);
    r.mean_importance = test_alloc(capacity, sizeof *r.mean_importance);
    r.max_importance = test_alloc(capacity, sizeof *r.max_importance);
    for (int64_t i = 0; i < spec->n_layers; i++) {
        r.k[i] = test_alloc(capacity * kv_spec_kv_dim(spec, i), sizeof(double));
        r.v[i] = test_alloc(capacity * kv_spec_kv_dim(spec, i), sizeof(double));
        r.active[i] = test_alloc(capacity, sizeof(bool));
        r.seen[i] = test_alloc(capacity, sizeof(int32_t));
    }
    return r;
}

void ref_reader_free(ref_reader *r) {
    for (int i = 0; i < REF_LAYERS; i++) free(r->k[i]), free(r->v[i]), free(r->active[i]), free(r->seen[i]);
    free(r->positions), free(r->depth), free(r->x), free(r->mean_importance), free(r->max_importance);
    ref_model_free(&r->m);
}

static const double *weight(const ref_reader *r, const kv_param *p) {
    return ref_value(&r->m.params, p);
}

// y = norm_heads(h · wᵀ)
static void project(const ref_reader *r, const kv_param *w, const kv_param *head_norm, const double *h,
                    double *y) {
    const int64_t dim = r->m.model->spec.head_dim;
    ref_linear(1, w->rows, w->cols, h, weight(r, w), NULL, y);
    if (head_norm)
        ref_rmsnorm(1, w->rows / dim, dim, y, weight(r, head_norm), (double)r->m.model->spec.norm_eps, y);
}

// Keys and values of token t at its next layer, and its queries.
static double *enter(ref_reader *r, int64_t layer, int64_t t) {
    const kv_model_spec *spec = &r->m.model->spec;
    const kv_layer *p = &r->m.model->layers[layer];
    const int64_t dim = spec->model_dim, kv_dim = kv_spec_kv_dim(spec, layer);
    double *h = test_alloc(dim, sizeof *h), *q = test_alloc(p->q.rows, sizeof *q);
    ref_rmsnorm(1, 1, dim, r->x + t * dim, weight(r, &p->attn_norm), (double)spec->norm_eps, h);
    project(r, &p->q, &p->q_norm, h, q);
    project(r, &p->k, &p->k_norm, h, r->k[layer] + t * kv_dim);
    project(r, &p->v, NULL, h, r->v[layer] + t * kv_dim);
    free(h);
    return q;
}

// The active tokens up to t, as keys for t alone: the arguments of one query.
struct query {
    kv_attention_args args;
    kv_sequence sequence;
    int64_t *token; // of each key
    int32_t *k_positions;
    double *k, *v;
};

static struct query make_query(const ref_reader *r, int64_t layer, int64_t t) {
    const kv_layer_spec *l = &r->m.model->spec.layers[layer];
    const int64_t kv_dim = kv_spec_kv_dim(&r->m.model->spec, layer);
    struct query u = {.token = test_alloc(t + 1, sizeof *u.token),
                      .k_positions = test_alloc(t + 1, sizeof *u.k_positions),
                      .k = test_alloc((t + 1) * kv_dim, sizeof *u.k),
                      .v = test_alloc((t + 1) * kv_dim, sizeof *u.v)};
    int64_t n = 0;
    for (int64_t j = 0; j <= t; j++) {
        if (!r->active[layer][j]) continue;
        u.token[n] = j, u.k_positions[n] = r->positions[j];
        memcpy(u.k + n * kv_dim, r->k[layer] + j * kv_dim, (size_t)kv_dim * sizeof *u.k);
        memcpy(u.v + n * kv_dim, r->v[layer] + j * kv_dim, (size_t)kv_dim * sizeof *u.v);
        n++;
    }
    u.sequence = (kv_sequence){.q_len = 1, .k_len = n};
    u.args = (kv_attention_args){.n_heads = l->n_heads,
                                 .n_kv_heads = l->n_kv_heads,
                                 .head_dim = r->m.model->spec.head_dim,
                                 .n_sequences = 1,
                                 .q_positions = &r->positions[t],
                                 .k_positions = u.k_positions};
    return u;
}

static void free_query(struct query *u) {
    free(u->token), free(u->k_positions), free(u->k), free(u->v);
}

// x_t becomes the layer's output.
static void mix(ref_reader *r, int64_t layer, int64_t t, const struct query *u, const double *q) {
    const kv_model_spec *spec = &r->m.model->spec;
    const kv_layer *p = &r->m.model->layers[layer];
    const int64_t dim = spec->model_dim, width = p->gate.rows;
    double *x = r->x + t * dim, *y = test_alloc(p->q.rows, sizeof *y), *h = test_alloc(dim, sizeof *h);
    double *gate = test_alloc(width, sizeof *gate), *up = test_alloc(width, sizeof *up);
    ref_attention(&u->args, r->m.inv_freq, 1, q, u->k, u->v, y);
    project(r, &p->out, NULL, y, h);
    for (int64_t i = 0; i < dim; i++) x[i] += h[i];
    ref_rmsnorm(1, 1, dim, x, weight(r, &p->ffn_norm), (double)spec->norm_eps, h);
    project(r, &p->gate, NULL, h, gate);
    project(r, &p->up, NULL, h, up);
    ref_swiglu(width, gate, up, gate);
    project(r, &p->down, NULL, gate, h);
    for (int64_t i = 0; i < dim; i++) x[i] += h[i];
    free(y), free(h), free(gate), free(up);
}

// One token through one layer. rank[capacity] gets the attention it pays, mean over heads.
static void pass_token(ref_reader *r, int64_t layer, int64_t t, double *rank) {
    double *q = enter(r, layer, t);
    struct query u = make_query(r, layer, t);
    u.args.sequences = &u.sequence;
    double *importance = test_alloc(u.sequence.k_len, sizeof *importance);
    memset(rank, 0, (size_t)r->capacity * sizeof *rank);
    ref_attention_importance(&u.args, r->m.inv_freq, 0, KV_POOL_MEAN, q, u.k, importance);
    for (int64_t j = 0; j < u.sequence.k_len; j++) {
        rank[u.token[j]] = importance[j];
        if (layer < kv_static_layers(r->m.model->spec.n_layers))
            r->mean_importance[u.token[j]] += importance[j];
    }
    ref_attention_importance(&u.args, r->m.inv_freq, 0, KV_POOL_MAX, q, u.k, importance);
    for (int64_t j = 0; j < u.sequence.k_len && t == r->n - 1; j++)
        r->max_importance[u.token[j]] = fmax(r->max_importance[u.token[j]], importance[j]);
    mix(r, layer, t, &u, q);
    r->depth[t] = layer + 1;
    free_query(&u);
    free(importance);
    free(q);
}

static void append(ref_reader *r, const int32_t *ids, const int32_t *positions, int64_t n) {
    const int64_t dim = r->m.model->spec.model_dim;
    for (int64_t i = 0; i < n; i++, r->n++) {
        r->positions[r->n] = positions ? positions[i] : r->n ? r->positions[r->n - 1] + 1 : 0;
        r->depth[r->n] = 0;
        memcpy(r->x + r->n * dim, weight(r, &r->m.model->embed) + ids[i] * dim, (size_t)dim * sizeof *r->x);
    }
}

void ref_read(ref_reader *r, const int32_t *ids, const int32_t *positions, int64_t n, const kv_pruning *lazy,
              double *logits) {
    const kv_model_spec *spec = &r->m.model->spec;
    double *rank = test_alloc(r->capacity, sizeof *rank), *y = test_alloc(spec->model_dim, sizeof *y);
    append(r, ids, positions, n);
    memset(r->mean_importance, 0, (size_t)r->capacity * sizeof *r->mean_importance);
    memset(r->max_importance, 0, (size_t)r->capacity * sizeof *r->max_importance);
    for (int64_t layer = 0; layer < spec->n_layers; layer++) {
        bool *active = r->active[layer];
        for (int64_t t = 0; t < r->n; t++) active[t] = true;
        if (layer > 0 && lazy) {
            for (int64_t t = 0; t < r->n; t++)
                if (!r->active[layer - 1][t]) rank[t] = -1;
            ref_keep_best(rank, r->n, kv_lazy_kept(lazy, spec->n_layers, layer, r->n), false, active);
        }
        r->n_active[layer] = r->n_processed[layer] = 0;
        for (int64_t t = 0; t < r->n; t++) {
            r->n_active[layer] += active[t];
            if (!active[t] || r->depth[t] > layer) continue;
            pass_token(r, layer, t, rank); // the newest comes last, and leaves its ranks
            r->seen[layer][r->n_processed[layer]++] = (int32_t)r->n_active[layer];
        }
    }
    ref_final_norm(&r->m, 1, r->x + (r->n - 1) * spec->model_dim, y);
    ref_linear(1, spec->vocab_size, spec->model_dim, y, weight(r, kv_model_head(r->m.model)), NULL, logits);
    free(rank), free(y);
}

// The unflagged one with the highest score in [from, to), -1 when there is none.
static int64_t best(const double *scores, int64_t from, int64_t to, const bool *flags) {
    int64_t found = -1;
    for (int64_t j = from; j < to; j++)
        if (!flags[j] && (found < 0 || scores[j] > scores[found])) found = j;
    return found;
}

static int64_t count(const bool *flags, int64_t n) {
    int64_t total = 0;
    for (int64_t j = 0; j < n; j++) total += flags[j];
    return total;
}

void ref_keep_best(const double *scores, int64_t n, int64_t kept, bool also_first, bool *flags) {
    memset(flags, false, (size_t)n * sizeof *flags);
    flags[n - 1] = true;
    if (also_first) flags[0] = true;
    while (count(flags, n) < kept) flags[best(scores, 0, n, flags)] = true;
}

void ref_keep_chunks(const double *scores, int64_t n, int64_t window, int64_t chunk, int64_t kept,
                     bool *flags) {
    double *smoothed = test_alloc(n, sizeof *smoothed), *means = test_alloc(n, sizeof *means);
    bool *taken = test_alloc(n, sizeof *taken);
    for (int64_t j = 0; j < n; j++) {
        double sum = 0, terms = 0;
        for (int64_t i = 0; i < n; i++)
            if (2 * llabs(i - j) < window) sum += scores[i], terms++;
        smoothed[j] = sum / terms;
    }
    for (int64_t j = 0; j < n; j++) {
        double sum = 0, terms = 0;
        for (int64_t i = 0; i < n; i++)
            if (i / chunk == j) sum += smoothed[i], terms++;
        means[j] = terms > 0 ? sum / terms : -1;
    }
    memset(flags, false, (size_t)n * sizeof *flags);
    flags[0] = flags[n - 1] = true;
    while (count(flags, n) < kept) {
        const int64_t c = best(means, 0, n, taken), to = (c + 1) * chunk < n ? (c + 1) * chunk : n;
        taken[c] = true;
        for (int64_t j; count(flags, n) < kept && (j = best(smoothed, c * chunk, to, flags)) >= 0;)
            flags[j] = true;
    }
    free(smoothed), free(means), free(taken);
}
