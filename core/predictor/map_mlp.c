// y = x · Wᵀ + b + silu(x · Mᵀ + c) · Uᵀ, with M [hidden, inputs] and U [outputs, hidden]: a linear map, and what
// one hidden layer adds to it.
//
// U starts at zero, so that it adds nothing yet and the linear part may be a regression's.
#include "core/predictor/map.h"

#include <string.h>

enum { WEIGHT, BIAS, HIDDEN, HIDDEN_BIAS, OUT };

static kv_status check(const kv_map_shape *shape, kv_error *err) {
    if (shape->width >= 1 && shape->width <= 1 << 20) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "%lld hidden features, expected 1 or more", (long long)shape->width);
}

// Of matched heads every block has `width` hidden features of its own.
static int64_t params(const kv_map_shape *shape, kv_map_param *params) {
    const int64_t in = shape->input_dim / shape->n_blocks, hidden = shape->width * shape->n_blocks;
    params[WEIGHT] = (kv_map_param){"weight",       shape->output_dim,   in,
                                    .matrix = true, .reads_input = true, .to_output = true};
    params[BIAS] = (kv_map_param){.name = "bias", .rows = 1, .cols = shape->output_dim};
    params[HIDDEN] = (kv_map_param){"hidden.weight", hidden, in, .matrix = true, .reads_input = true};
    params[HIDDEN_BIAS] = (kv_map_param){.name = "hidden.bias", .rows = 1, .cols = hidden};
    params[OUT] = (kv_map_param){"out.weight", shape->output_dim, shape->width, .matrix = true, .zero = true};
    return 5;
}

static kv_tensor *forward(kv_tape *tape, kv_map *map, const kv_map_input *input) {
    kv_tensor *linear = kv_map_read(tape, map, input, WEIGHT, BIAS);
    kv_tensor *z = kv_map_read(tape, map, input, HIDDEN, HIDDEN_BIAS);
    kv_tensor *added = kv_linear_blocks(tape, kv_silu(tape, z), &map->params[OUT], NULL, map->shape.n_blocks);
    return kv_add(tape, linear, added);
}

// The hidden layer before and behind silu, and the two that are added.
static int64_t inner(const kv_map_shape *shape) {
    return 2 * shape->width * shape->n_blocks + 2 * shape->output_dim;
}

static kv_status take(kv_map *map, int64_t block, const kv_ridge_solution *solution, kv_error *err) {
    (void)err;
    const int64_t part = solution->output_dim * map->shape.width; // of U
    kv_ridge_store(solution, block, &map->params[WEIGHT], &map->params[BIAS]);
    memset((float *)map->params[OUT].data + block * part, 0, (size_t)part * sizeof(float));
    return KV_OK;
}

const kv_map_kind kv_map_mlp = {.name = "mlp",
                                .width_name = "hidden features",
                                .check = check,
                                .params = params,
                                .forward = forward,
                                .inner = inner,
                                .take = take};
