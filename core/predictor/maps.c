// The kinds of maps there are, and what several of them share.
#include "core/predictor/map.h"

#include <stdio.h>
#include <string.h>

// Those that this list alone knows.
extern const kv_map_kind kv_map_mlp;

const kv_map_kind *const kv_map_kinds[] = {&kv_map_linear, &kv_map_low_rank, &kv_map_mlp, &kv_map_exact,
                                           NULL};

const kv_map_kind *kv_map_kind_find(const char *name) {
    for (int i = 0; kv_map_kinds[i]; i++)
        if (strcmp(kv_map_kinds[i]->name, name) == 0) return kv_map_kinds[i];
    return NULL;
}

const char *kv_map_kind_names_text(char text[KV_MAP_KIND_NAMES], bool exact) {
    const kv_map_kind *last = NULL;
    size_t n = 0;
    for (int i = 0; kv_map_kinds[i]; i++)
        if (exact || !kv_map_kinds[i]->exact) last = kv_map_kinds[i];
    for (int i = 0; kv_map_kinds[i]; i++) {
        const kv_map_kind *kind = kv_map_kinds[i];
        const char *before = n == 0 ? "" : kind == last ? " or " : ", ";
        if (exact || !kind->exact)
            n += (size_t)snprintf(text + n, KV_MAP_KIND_NAMES - n, "%s%s", before, kind->name);
    }
    return text;
}

kv_tensor *kv_map_read(kv_tape *tape, kv_map *map, const kv_map_input *input, int weight, int bias) {
    kv_param *tokens = &map->tokens[weight];
    kv_tensor *y = kv_linear_blocks(tape, input->x, &map->params[weight],
                                    bias < 0 ? NULL : &map->params[bias], map->shape.n_blocks);
    if (!y || tokens->rows == 0) return y;
    return kv_add(tape, y, kv_embedding(tape, tokens, input->ids, y->rows));
}

void kv_ridge_store(const kv_ridge_solution *solution, int64_t block, kv_param *weight, kv_param *bias) {
    const int64_t in = solution->input_dim, out = solution->output_dim;
    float *w = weight ? (float *)weight->data + block * out * in : NULL,
          *b = (float *)bias->data + block * out;
    for (int64_t o = 0; o < out; o++) {
        const double *row = solution->weights + o * (in + 1);
        for (int64_t i = 0; w && i < in; i++) w[o * in + i] = (float)row[i];
        b[o] = (float)row[in];
    }
}
