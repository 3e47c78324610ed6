// What a least-squares start costs: products, and bytes of its sums, worked out from the predictor alone.
#include "core/predictor/least_squares.h"

// Calls for every input that something is regressed on, and for every such output.
struct costs {
    uint64_t products; // of one token
    double sums;       // doubles
    double solving;    // doubles, of the largest
    int64_t widest;
};

static struct costs count(const kv_predictor *p, kv_layer_range layers) {
    struct costs c = {0};
    bool seen[KV_SIDES * KV_MAX_LAYERS] = {false};
    for (int64_t i = layers.first; i < layers.end; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            const kv_map *map = &p->outputs[side][i].map;
            const int64_t input = p->outputs[side][i].input, n_blocks = map->shape.n_blocks;
            const int64_t width = map->shape.input_dim / n_blocks + 1, dim = map->shape.output_dim / n_blocks;
            if (map->kind->exact) continue;
            const int64_t gram = seen[input] ? 0 : n_blocks * width * width;
            seen[input] = true;
            c.products += 2 * (uint64_t)(gram + n_blocks * width * dim);
            c.sums += (double)(gram + n_blocks * (width + 1) * dim);
            const int64_t work = map->kind->work ? map->kind->work(&map->shape) : 0;
            const double solving = (double)(width * (width + dim) + work);
            if (solving > c.solving) c.solving = solving;
            if (width > c.widest) c.widest = width;
            if (dim > c.widest) c.widest = dim;
        }
    return c;
}

static kv_layer_range all_layers(const kv_predictor *predictor) {
    return (kv_layer_range){0, predictor->spec.n_base_layers};
}

uint64_t kv_flops_least_squares_part(const kv_predictor *predictor, kv_layer_range layers, int64_t n) {
    return (uint64_t)n * count(predictor, layers).products;
}

uint64_t kv_flops_least_squares_sums(const kv_predictor *predictor, int64_t n) {
    return kv_flops_least_squares_part(predictor, all_layers(predictor), n);
}

double kv_least_squares_sum_bytes(const kv_predictor *predictor, int64_t n) {
    return kv_least_squares_part_bytes(predictor, all_layers(predictor), n);
}

double kv_least_squares_part_bytes(const kv_predictor *predictor, kv_layer_range layers, int64_t n) {
    const struct costs c = count(predictor, layers);
    return sizeof(double) * (c.sums + c.solving + 2 * (double)n * (double)c.widest);
}

double kv_least_squares_table_bytes(const kv_predictor *predictor, kv_layer_range layers) {
    double sum = 0;
    bool seen[KV_SIDES * KV_MAX_LAYERS] = {false};
    for (int64_t i = layers.first; i < layers.end; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            const kv_predictor_output *output = &predictor->outputs[side][i];
            if (predictor->spec.outputs[side][i].table != KV_TABLE_FULL || output->map.kind->exact) continue;
            const kv_map_shape *shape = &output->map.shape;
            const int64_t width = seen[output->input] ? 0 : shape->input_dim + shape->n_blocks;
            seen[output->input] = true;
            sum += (double)output->table.rows * (double)(width + shape->output_dim);
        }
    return sizeof(double) * sum;
}
