#include "data/checkpoint/hf_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// One tensor of the file: its name (with the layer's number in place of the *), what it is for, and the
// parameters it holds, from the top row down. A row whose first parameter a model does not have is skipped.
typedef struct hf_row {
    const char *name;
    enum { MATRIX, VECTOR, HEAD, REPEAT } kind; // HEAD: a matrix; REPEAT: of one
    int n_parts;
    size_t part[KV_ST_PARTS]; // offset in kv_model or, for layer rows, in kv_layer
} hf_row;

typedef struct hf_family {
    const char *model_type, *base;
    const hf_row *model_rows, *layer_rows; // each up to a row without name
} hf_family;

#define MODEL(field) offsetof(kv_model, field)
#define LAYER(field) offsetof(kv_layer, field)

static const hf_row openelm_model[] = {
    {"transformer.token_embeddings.weight", MATRIX, 1, {MODEL(embed)}},
    {"transformer.norm.weight", VECTOR, 1, {MODEL(norm)}},
    {"lm_head.weight", HEAD, 1, {MODEL(head)}},
    {0},
};
static const hf_row openelm_layer[] = {
    {"transformer.layers.*.attn_norm.weight", VECTOR, 1, {LAYER(attn_norm)}},
    {"transformer.layers.*.attn.qkv_proj.weight", MATRIX, 3, {LAYER(q), LAYER(k), LAYER(v)}},
    {"transformer.layers.*.attn.q_norm.weight", VECTOR, 1, {LAYER(q_norm)}},
    {"transformer.layers.*.attn.k_norm.weight", VECTOR, 1, {LAYER(k_norm)}},
    {"transformer.layers.*.attn.out_proj.weight", MATRIX, 1, {LAYER(out)}},
    {"transformer.layers.*.ffn_norm.weight", VECTOR, 1, {LAYER(ffn_norm)}},
    {"transformer.layers.*.ffn.proj_1.weight", MATRIX, 2, {LAYER(gate), LAYER(up)}},
    {"transformer.layers.*.ffn.proj_2.weight", MATRIX, 1, {LAYER(down)}},
    {0},
};

// Llama, Mistral, Qwen2 (with QKV bias) and Qwen3 (with q/k norm).
static const hf_row llama_model[] = {
    {"model.embed_tokens.weight", MATRIX, 1, {MODEL(embed)}},
    {"model.norm.weight", VECTOR, 1, {MODEL(norm)}},
    {"lm_head.weight", HEAD, 1, {MODEL(head)}},
    {0},
};
static const hf_row llama_layer[] = {
    {"model.layers.*.input_layernorm.weight", VECTOR, 1, {LAYER(attn_norm)}},
    {"model.layers.*.self_attn.q_proj.weight", MATRIX, 1, {LAYER(q)}},
    {"model.layers.*.self_attn.q_proj.bias", VECTOR, 1, {LAYER(q_bias)}},
    {"model.layers.*.self_attn.k_proj.weight", MATRIX, 1, {LAYER(k)}},
    {"model.layers.*.self_attn.k_proj.bias", VECTOR, 1, {LAYER(k_bias)}},
    {"model.layers.*.self_attn.v_proj.weight", MATRIX, 1, {LAYER(v)}},
    {"model.layers.*.self_attn.v_proj.bias", VECTOR, 1, {LAYER(v_bias)}},
    {"model.layers.*.self_attn.q_norm.weight", VECTOR, 1, {LAYER(q_norm)}},
    {"model.layers.*.self_attn.k_norm.weight", VECTOR, 1, {LAYER(k_norm)}},
    {"model.layers.*.self_attn.o_proj.weight", MATRIX, 1, {LAYER(out)}},
    {"model.layers.*.post_attention_layernorm.weight", VECTOR, 1, {LAYER(ffn_norm)}},
    {"model.layers.*.mlp.gate_proj.weight", MATRIX, 1, {LAYER(gate)}},
    {"model.layers.*.mlp.up_proj.weight", MATRIX, 1, {LAYER(up)}},
    {"model.layers.*.mlp.down_proj.weight", MATRIX, 1, {LAYER(down)}},
    {0},
};

// Some tied checkpoints store their embedding a second time, as the head.
static const hf_row tied_head = {"lm_head.weight", REPEAT, 1, {MODEL(embed)}};

static const hf_family families[] = {
    {"openelm", "transformer.", openelm_model, openelm_layer},
    {"llama", "model.", llama_model, llama_layer},
    {"mistral", "model.", llama_model, llama_layer},
    {"qwen2", "model.", llama_model, llama_layer},
    {"qwen3", "model.", llama_model, llama_layer},
};

static const hf_family *find_family(const kv_model_spec *spec) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].model_type, spec->model_type) == 0) return &families[i];
    return NULL;
}

const char *kv_hf_base(const kv_model_spec *spec) {
    const hf_family *family = find_family(spec);
    return family ? family->base : "";
}

static int64_t count_rows(const hf_row *rows) {
    int64_t n = 0;
    while (rows[n].name) n++;
    return n;
}

static kv_param *param_at(void *owner, size_t offset) {
    return (kv_param *)((char *)owner + offset);
}

// A name of the table with the layer's number put in.
static void row_name(const hf_row *row, int64_t layer, char name[KV_NAME_MAX]) {
    const char *number = strchr(row->name, '*');
    if (!number)
        snprintf(name, KV_NAME_MAX, "%s", row->name);
    else
        snprintf(name, KV_NAME_MAX, "%.*s%lld%s", (int)(number - row->name), row->name, (long long)layer,
                 number + 1);
}

// Appends a row's tensor to tensors[*n] if the model has it.
static void add_row(const hf_row *row, void *owner, int64_t layer, kv_weights_tensor *tensors, int64_t *n) {
    if (kv_param_size(param_at(owner, row->part[0])) == 0) return;
    kv_weights_tensor *tensor = &tensors[(*n)++];
    *tensor = (kv_weights_tensor){.n_dims = row->kind == VECTOR ? 1 : 2};
    if (row->kind == REPEAT) tensor->role = KV_WEIGHTS_REPEATS;
    if (row->kind == HEAD)
        tensor->if_missing = "these weights have no language-model head: they are a base model's, a "
                             "classifier's or an embedder's";
    row_name(row, layer, tensor->name);
    for (int i = 0; i < row->n_parts; i++) kv_weights_add_part(tensor, param_at(owner, row->part[i]));
}

static void add_rows(const hf_row *rows, void *owner, int64_t layer, kv_weights_tensor *tensors, int64_t *n) {
    for (const hf_row *row = rows; row->name; row++) add_row(row, owner, layer, tensors, n);
}

kv_status kv_hf_tensors(kv_model *model, kv_weights_tensor **tensors, int64_t *n, kv_error *err) {
    const hf_family *family = find_family(&model->spec);
    *tensors = NULL;
    *n = 0;
    if (!family)
        return kv_fail(err, KV_ERR_FORMAT, "checkpoints of model type '%s' are not supported",
                       model->spec.model_type);
    int64_t most = 1 + count_rows(family->model_rows) + count_rows(family->layer_rows) * model->spec.n_layers;
    *tensors = calloc((size_t)most, sizeof **tensors);
    if (!*tensors) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    add_rows(family->model_rows, model, 0, *tensors, n);
    if (model->spec.tied_head) add_row(&tied_head, model, 0, *tensors, n);
    for (int64_t i = 0; i < model->spec.n_layers; i++)
        add_rows(family->layer_rows, &model->layers[i], i, *tensors, n);
    return KV_OK;
}
