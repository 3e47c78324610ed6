// Parameters of a model: their names, shapes and order, and where they lie in memory.
#include "core/model.h"

#include "core/arena.h"
#include "core/gemm/packed.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void describe(kv_param *p, const char *prefix, const char *name, int64_t rows, int64_t cols,
                     bool decay, kv_dtype dtype) {
    *p = (kv_param){.rows = rows, .cols = cols, .dtype = dtype, .decay = decay, .group = KV_GROUP_MODEL};
    snprintf(p->name, sizeof p->name, "%s%s", prefix, name);
}

static void describe_layer(kv_model *model, int64_t i, kv_dtype t) {
    const kv_model_spec *s = &model->spec;
    const kv_layer_spec *l = &s->layers[i];
    kv_layer *p = &model->layers[i];
    int64_t dim = s->model_dim, q_dim = l->n_heads * s->head_dim, kv_dim = l->n_kv_heads * s->head_dim;
    char prefix[32];
    snprintf(prefix, sizeof prefix, "layers.%lld.", (long long)i);
    describe(&p->attn_norm, prefix, "attn_norm", 1, dim, false, t);
    describe(&p->q, prefix, "q", q_dim, dim, true, t);
    describe(&p->k, prefix, "k", kv_dim, dim, true, t);
    describe(&p->v, prefix, "v", kv_dim, dim, true, t);
    if (s->qkv_bias) {
        describe(&p->q_bias, prefix, "q_bias", 1, q_dim, false, t);
        describe(&p->k_bias, prefix, "k_bias", 1, kv_dim, false, t);
        describe(&p->v_bias, prefix, "v_bias", 1, kv_dim, false, t);
    }
    if (s->qk_norm) {
        describe(&p->q_norm, prefix, "q_norm", 1, s->head_dim, false, t);
        describe(&p->k_norm, prefix, "k_norm", 1, s->head_dim, false, t);
    }
    describe(&p->out, prefix, "out", dim, q_dim, true, t);
    describe(&p->ffn_norm, prefix, "ffn_norm", 1, dim, false, t);
    describe(&p->gate, prefix, "gate", l->ffn_dim, dim, true, t);
    describe(&p->up, prefix, "up", l->ffn_dim, dim, true, t);
    describe(&p->down, prefix, "down", dim, l->ffn_dim, true, t);
}

static void describe_model(kv_model *model, kv_dtype t) {
    const kv_model_spec *s = &model->spec;
    describe(&model->embed, "", "embed", s->vocab_size, s->model_dim, true, t);
    for (int64_t i = 0; i < s->n_layers; i++) describe_layer(model, i, t);
    describe(&model->norm, "", "norm", 1, s->model_dim, false, t);
    if (!s->tied_head) describe(&model->head, "", "head", s->vocab_size, s->model_dim, true, t);
}

// A layer is nothing but its parameters, in the order of kv_model_params.
enum { LAYER_PARAMS = sizeof(kv_layer) / sizeof(kv_param) };
static_assert(sizeof(kv_layer) == 14 * sizeof(kv_param), "kv_layer holds parameters only");

static kv_param *layer_param(kv_layer *layer, size_t j) {
    return (kv_param *)layer + j;
}

typedef void param_visitor(kv_param *param, void *context);

// Every parameter that exists, in the order kv_model_params promises.
static void visit_params(kv_model *model, param_visitor *visit, void *context) {
    visit(&model->embed, context);
    for (int64_t i = 0; i < model->spec.n_layers; i++) {
        for (size_t j = 0; j < LAYER_PARAMS; j++) {
            kv_param *p = layer_param(&model->layers[i], j);
            if (p->rows > 0) visit(p, context);
        }
    }
    visit(&model->norm, context);
    if (model->head.rows > 0) visit(&model->head, context);
}

struct param_list {
    kv_param **params; // NULL: only count
    int64_t n;
};

static void list_param(kv_param *param, void *context) {
    struct param_list *list = context;
    if (list->params) list->params[list->n] = param;
    list->n++;
}

int64_t kv_model_params(kv_model *model, kv_param **params) {
    struct param_list list = {.params = params};
    visit_params(model, list_param, &list);
    return list.n;
}

static void place_param(kv_param *param, void *context) {
    char **next = context;
    param->data = *next;
    *next += (size_t)kv_param_size(param) * kv_dtype_size(param->dtype);
}

enum { ALIGNMENT = 64 };

// All weights in one block: the projections that files store fused lie next to each other.
static kv_status allocate_weights(kv_model *model, kv_dtype dtype, kv_error *err) {
    const size_t size = (size_t)kv_model_size(model, true) * kv_dtype_size(dtype);
    model->storage = calloc(size + ALIGNMENT, 1);
    if (!model->storage)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory: the model needs %.1f MB", (double)size / 1e6);
    model->release = free;
    kv_prefer_huge_pages(model->storage, size + ALIGNMENT);
    char *next = (char *)model->storage + (ALIGNMENT - (uintptr_t)model->storage % ALIGNMENT) % ALIGNMENT;
    visit_params(model, place_param, &next);
    return KV_OK;
}

// Inverse frequencies theta^(-2i/d). Linear scaling divides all of them by `factor`; llama3's rule divides the
// low ones and blends in between.
static kv_rope *make_rope(const kv_model_spec *spec) {
    const kv_rope_spec *r = &spec->rope;
    double inv_freq[2048];
    for (int64_t i = 0; i < spec->head_dim / 2; i++) {
        double f = pow(r->theta, -2.0 * (double)i / (double)spec->head_dim);
        if (r->factor > 0 && r->original_context == 0) {
            f /= r->factor;
        } else if (r->factor > 0) {
            double wavelength = 2 * 3.14159265358979323846 / f;
            double low = r->original_context / r->low_freq_factor,
                   high = r->original_context / r->high_freq_factor;
            double smooth = (r->original_context / wavelength - r->low_freq_factor) /
                            (r->high_freq_factor - r->low_freq_factor);
            if (wavelength > low)
                f /= r->factor;
            else if (wavelength >= high)
                f = (1 - smooth) * f / r->factor + smooth * f;
        }
        inv_freq[i] = f;
    }
    return kv_rope_create(spec->head_dim, spec->context_length, inv_freq);
}

kv_status kv_model_create(const kv_model_spec *spec, kv_dtype dtype, bool allocate, kv_model **model,
                          kv_error *err) {
    *model = NULL;
    kv_status status = kv_model_spec_check(spec, err);
    if (status != KV_OK) return status;
    kv_model *m = calloc(1, sizeof *m);
    if (!m) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    m->spec = *spec;
    m->layers = calloc((size_t)spec->n_layers, sizeof *m->layers);
    m->rope = make_rope(spec);
    if (!m->layers || !m->rope) {
        kv_model_free(m);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a model of %lld layers",
                       (long long)spec->n_layers);
    }
    describe_model(m, dtype);
    status = allocate ? allocate_weights(m, dtype, err) : KV_OK;
    if (status == KV_OK)
        *model = m;
    else
        kv_model_free(m);
    return status;
}

void kv_model_free(kv_model *model) {
    if (!model) return;
    if (model->storage) model->release(model->storage);
    free(model->grads);
    free(model->packed);
    kv_rope_free(model->rope);
    free(model->layers);
    free(model);
}

static void copy_param(kv_param *to, const kv_param *from) {
    if (to->rows > 0) kv_param_values(from, 0, kv_param_size(from), to->data);
}

kv_status kv_model_prune(const kv_model *base, const int32_t *kept, int64_t n_kept, kv_model **model,
                         kv_error *err) {
    *model = NULL;
    for (int64_t i = 0; i < n_kept; i++)
        if (kept[i] < 0 || kept[i] >= base->spec.n_layers || (i > 0 && kept[i] <= kept[i - 1]))
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "kept layer %lld is %d, expected ascending layers below %lld", (long long)i,
                           (int)kept[i], (long long)base->spec.n_layers);
    kv_model_spec spec = base->spec;
    kv_spec_prune(&spec, kept, n_kept > 0 ? n_kept : 0);
    kv_status status = kv_model_create(&spec, KV_F32, true, model, err);
    if (status != KV_OK) return status;
    copy_param(&(*model)->embed, &base->embed);
    copy_param(&(*model)->norm, &base->norm);
    copy_param(&(*model)->head, &base->head);
    for (int64_t i = 0; i < n_kept; i++) {
        kv_layer *from = &base->layers[kept[i]], *to = &(*model)->layers[i];
        for (size_t j = 0; j < LAYER_PARAMS; j++) copy_param(layer_param(to, j), layer_param(from, j));
    }
    return KV_OK;
}

struct grad_context {
    float *next;
    const char *not_f32, *packed; // parameters that cannot be trained as they are
};

static void place_grad(kv_param *p, void *context) {
    struct grad_context *c = context;
    p->grad = c->next;
    if (c->next) c->next += kv_param_size(p);
    if (p->dtype != KV_F32) c->not_f32 = p->name;
    if (p->layout != KV_IN_ROWS) c->packed = p->name;
}

kv_status kv_model_set_trainable(kv_model *model, bool trainable, kv_error *err) {
    free(model->grads);
    model->grads = NULL;
    struct grad_context context = {0};
    visit_params(model, place_grad, &context);
    if (!trainable) return KV_OK;
    if (context.packed)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s lies in panels; only weights in rows can be trained",
                       context.packed);
    if (context.not_f32)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s is stored in 16 bits; only float32 weights can be trained",
                       context.not_f32);
    model->grads = calloc((size_t)kv_model_size(model, true), sizeof *model->grads);
    if (!model->grads) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the model's gradients");
    kv_prefer_huge_pages(model->grads, (size_t)kv_model_size(model, true) * sizeof *model->grads);
    context.next = model->grads;
    visit_params(model, place_grad, &context);
    return KV_OK;
}

static void add_size(kv_param *p, void *context) {
    *(int64_t *)context += kv_param_size(p);
}

int64_t kv_model_size(const kv_model *model, bool with_embedding) {
    int64_t size = 0;
    visit_params((kv_model *)(uintptr_t)model, add_size, &size); // the visitor only reads
    if (!with_embedding) size -= kv_param_size(&model->embed) + kv_param_size(&model->head);
    return size;
}

// ---- Panels --------------------------------------------------------------------------------------------

struct packing {
    char *next;  // place for the next weight that is a view; NULL: nowhere
    size_t size; // of all places
    void (*let_go)(const kv_param *);
    bool ok;
};

static size_t place_size(const kv_param *p) {
    return ((size_t)kv_param_size(p) * kv_dtype_size(p->dtype) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void add_place(kv_param *p, void *context) {
    if (kv_can_pack(p) && p->layout == KV_IN_ROWS) ((struct packing *)context)->size += place_size(p);
}

static void pack_param(kv_param *p, void *context) {
    struct packing *packing = context;
    if (!packing->ok || !kv_can_pack(p) || p->layout != KV_IN_ROWS) return;
    if (!packing->next) {
        packing->ok = kv_pack(p);
        return;
    }
    const kv_param view = *p;
    kv_pack_into(p, packing->next);
    packing->next += place_size(p);
    packing->let_go(&view);
}

int64_t kv_model_pack_bytes(const kv_model *model) {
    struct packing packing = {0};
    if (model->storage && model->release != free)
        visit_params((kv_model *)(uintptr_t)model, add_place, &packing);
    return (int64_t)packing.size;
}

bool kv_model_pack(kv_model *model, void (*let_go)(const kv_param *view)) {
    struct packing packing = {.let_go = let_go, .ok = true};
    const size_t size = (size_t)kv_model_pack_bytes(model);
    if (size > 0) {
        model->packed = aligned_alloc(ALIGNMENT, size);
        if (!model->packed) return false;
        kv_prefer_huge_pages(model->packed, size);
        packing.next = model->packed;
    }
    visit_params(model, pack_param, &packing);
    return packing.ok;
}

void kv_model_key_norms(kv_model *model, kv_key_norms *norms) {
    *norms = (kv_key_norms){.eps = model->spec.norm_eps};
    for (int64_t i = 0; model->spec.qk_norm && i < model->spec.n_layers; i++)
        norms->weight[i] = &model->layers[i].k_norm;
}

kv_param *kv_model_head(kv_model *model) {
    return model->spec.tied_head ? &model->embed : &model->head;
}
