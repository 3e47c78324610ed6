// The base's projections go into the maps as the solution of a regression whose inputs are uncorrelated, so that each
// kind of map takes from them what it can.
#include "core/predictor/start_from_base.h"

#include "core/gemm/packed.h"

#include <stdio.h>
#include <stdlib.h>

static kv_status check_output(const kv_output_spec *output, int side, int64_t layer, kv_error *err) {
    char name[16];
    if (kv_output_exact(output)) return KV_OK;
    kv_source_name(output->sources.at[0], name);
    if (output->sources.n != 1 || output->sources.at[0].kind != KV_SOURCE_HIDDEN)
        return kv_fail(
            err, KV_ERR_ARGUMENT,
            "the %s of base layer %lld read %s%s, expected one hidden state to start from the base's own "
            "projections",
            kv_side_names[side], (long long)layer, name, output->sources.n > 1 ? " and others" : "");
    if (output->kind->take) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "the %s of base layer %lld are of kind %s, which takes no start",
                   kv_side_names[side], (long long)layer, output->kind->name);
}

kv_status kv_start_from_base_check(const kv_predictor_spec *spec, kv_error *err) {
    if (spec->prefix_layers == 0)
        return kv_fail(
            err, KV_ERR_ARGUMENT,
            "found an aux of its own, expected the base's own first layers: only their hidden states go "
            "with the base's projections");
    kv_status status = KV_OK;
    for (int64_t i = 0; i < spec->n_base_layers; i++)
        for (int side = 0; side < KV_SIDES && status == KV_OK; side++)
            status = check_output(&spec->outputs[side][i], side, i, err);
    return status;
}

// ---- One map -------------------------------------------------------------------------------------------

// What stands for the sums of a regression: one token of each direction, none of the constant.
struct sums {
    int64_t in, out;
    float *wide; // [out, in], or [in]: a parameter, widened
    double *weights, *gram, *xty, *norms;
};

static void free_sums(struct sums *s) {
    free(s->wide);
    free(s->weights);
    free(s->gram);
    free(s->xty);
    free(s->norms);
}

static bool make_sums(struct sums *s, int64_t in, int64_t out) {
    const size_t a = (size_t)in + 1, b = (size_t)out;
    *s = (struct sums){.in = in, .out = out};
    s->wide = malloc((a > b ? a : b) * a * sizeof *s->wide);
    s->weights = calloc(b * a, sizeof *s->weights);
    s->gram = calloc(a * a, sizeof *s->gram);
    s->xty = calloc(a * b, sizeof *s->xty);
    s->norms = calloc(a, sizeof *s->norms);
    return s->wide && s->weights && s->gram && s->xty && s->norms;
}

// A feature that the norm of layer j puts out of the way is not there to be read.
static void set_norms(struct sums *s, const kv_param *of, const kv_param *behind) {
    kv_widen(s->wide, of->data, of->dtype, s->in);
    for (int64_t c = 0; c < s->in; c++) s->norms[c] = (double)s->wide[c];
    kv_widen(s->wide, behind->data, behind->dtype, s->in);
    for (int64_t c = 0; c < s->in; c++) s->norms[c] = s->wide[c] == 0 ? 0 : s->norms[c] / (double)s->wide[c];
}

static void set_sums(struct sums *s, const kv_param *weight, const kv_param *bias) {
    const int64_t in = s->in, out = s->out;
    kv_param_values(weight, 0, out * in, s->wide);
    for (int64_t o = 0; o < out; o++)
        for (int64_t c = 0; c < in; c++) {
            const double w = (double)s->wide[o * in + c] * s->norms[c];
            s->weights[o * (in + 1) + c] = w;
            s->xty[c * out + o] = w;
        }
    for (int64_t c = 0; c <= in; c++) s->gram[c * (in + 1) + c] = c < in;
    if (!bias->data) return;
    kv_widen(s->wide, bias->data, bias->dtype, out);
    for (int64_t o = 0; o < out; o++) {
        s->weights[o * (in + 1) + in] = (double)s->wide[o];
        s->xty[in * out + o] = (double)s->wide[o];
    }
}

static kv_status start_output(kv_predictor *p, const kv_model *base, int side, int64_t layer, kv_error *err) {
    kv_predictor_output *output = &p->outputs[side][layer];
    const kv_output_spec *spec = &p->spec.outputs[side][layer];
    const kv_layer *own = &base->layers[layer], *read = &base->layers[spec->sources.at[0].layer];
    struct sums s;
    kv_status status = KV_OK;
    if (kv_output_exact(spec)) return KV_OK;
    if (make_sums(&s, output->map.shape.input_dim, output->map.shape.output_dim)) {
        set_norms(&s, &own->attn_norm, &read->attn_norm);
        set_sums(&s, side == KV_KEYS ? &own->k : &own->v, side == KV_KEYS ? &own->k_bias : &own->v_bias);
        const kv_ridge_solution solution = {1, s.in, s.out, s.gram, s.xty, s.weights};
        status = spec->kind->take(&output->map, 0, &solution, err);
    } else {
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the start of the maps");
    }
    free_sums(&s);
    return status;
}

kv_status kv_start_from_base(kv_predictor *predictor, const kv_model *base, kv_error *err) {
    kv_status status = kv_start_from_base_check(&predictor->spec, err);
    for (int64_t i = 0; i < predictor->spec.n_base_layers; i++)
        for (int side = 0; side < KV_SIDES && status == KV_OK; side++)
            status = start_output(predictor, base, side, i, err);
    return status;
}
