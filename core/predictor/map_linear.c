// y = x · Wᵀ + b
//                                                            [paper, section 3.2; core/README.md §3, eq. 11]
#include "core/predictor/map.h"

enum { WEIGHT, BIAS };

static int64_t params(const kv_map_shape *shape, kv_map_param *params) {
    const int64_t in = shape->input_dim / shape->n_blocks;
    params[WEIGHT] = (kv_map_param){"weight",       shape->output_dim,   in,
                                    .matrix = true, .reads_input = true, .to_output = true};
    params[BIAS] = (kv_map_param){.name = "bias", .rows = 1, .cols = shape->output_dim};
    return 2;
}

static kv_tensor *forward(kv_tape *tape, kv_map *map, const kv_map_input *input) {
    return kv_map_read(tape, map, input, WEIGHT, BIAS);
}

static kv_status take(kv_map *map, int64_t block, const kv_ridge_solution *solution, kv_error *err) {
    (void)err;
    kv_ridge_store(solution, block, &map->params[WEIGHT], &map->params[BIAS]);
    return KV_OK;
}

const kv_map_kind kv_map_linear = {.name = "linear", .params = params, .forward = forward, .take = take};
