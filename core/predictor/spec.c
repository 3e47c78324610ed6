// Descriptions of predictors: what they read, what they are checked for, and how they are told in words.
#include "core/predictor/spec.h"

#include "core/predictor/map.h"
#include "core/predictor/mapping.h"

#include <stdarg.h>
#include <stdio.h>

const char *const kv_side_names[KV_SIDES] = {"keys", "values"};

// ---- Making --------------------------------------------------------------------------------------------

static void start_spec(const kv_model_spec *base, const kv_model_spec *aux, kv_predictor_spec *spec) {
    memset(spec, 0, sizeof *spec);
    spec->n_base_layers = base->n_layers, spec->n_aux_layers = aux->n_layers;
}

void kv_predictor_spec_paper(const kv_model_spec *base, const kv_model_spec *aux, const int32_t *mapping,
                             kv_predictor_spec *spec) {
    start_spec(base, aux, spec);
    for (int64_t i = 0; i < base->n_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            kv_output_spec *output = &spec->outputs[side][i];
            output->kind = &kv_map_linear;
            kv_sources_add(&output->sources, side == KV_KEYS ? KV_SOURCE_KEYS : KV_SOURCE_VALUES, mapping[i]);
        }
}

static void make_exact(kv_output_spec *output, kv_source_kind kind, int64_t layer) {
    *output = (kv_output_spec){.kind = &kv_map_exact};
    kv_sources_add(&output->sources, kind, layer);
}

void kv_predictor_spec_prefix(const kv_model_spec *base, int64_t n_layers, kv_predictor_spec *spec) {
    start_spec(base, base, spec);
    spec->prefix_layers = n_layers;
    for (int64_t i = 0; i < base->n_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            kv_output_spec *output = &spec->outputs[side][i];
            if (i < n_layers) {
                make_exact(output, side == KV_KEYS ? KV_SOURCE_KEYS : KV_SOURCE_VALUES, i);
            } else {
                output->kind = &kv_map_linear;
                kv_sources_add(&output->sources, KV_SOURCE_HIDDEN, n_layers);
            }
        }
}

void kv_predictor_spec_exact_first(kv_predictor_spec *spec) {
    if (spec->prefix_layers > 0) return; // it is already
    make_exact(&spec->outputs[KV_KEYS][0], KV_SOURCE_OWN_KEYS, 0);
    make_exact(&spec->outputs[KV_VALUES][0], KV_SOURCE_OWN_VALUES, 0);
}

void kv_predictor_spec_set_map(kv_predictor_spec *spec, const kv_map_kind *kind, int64_t width) {
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++) {
            kv_output_spec *output = &spec->outputs[side][i];
            if (!kv_output_exact(output)) output->kind = kind, output->width = width;
        }
}

void kv_predictor_spec_set_table(kv_predictor_spec *spec, int64_t table) {
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++)
            if (!kv_output_exact(&spec->outputs[side][i])) spec->outputs[side][i].table = table;
}

void kv_predictor_spec_neighbours(kv_predictor_spec *spec, int64_t n) {
    int32_t near[KV_MAX_LAYERS];
    if (n > spec->n_aux_layers) n = spec->n_aux_layers;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++) {
            kv_output_spec *output = &spec->outputs[side][i];
            if (kv_output_exact(output) || output->sources.n != 1 ||
                kv_source_of_token(output->sources.at[0]))
                continue;
            const kv_source_kind kind = (kv_source_kind)output->sources.at[0].kind;
            kv_layers_near(output->sources.at[0].layer, n, spec->n_aux_layers, near);
            for (int64_t k = 1; k < n; k++) kv_sources_add(&output->sources, kind, near[k]);
        }
}

void kv_predictor_spec_all_layers(kv_predictor_spec *spec, int64_t n_layers) {
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++) {
            kv_output_spec *output = &spec->outputs[side][i];
            const kv_sources before = output->sources;
            if (kv_output_exact(output)) continue;
            output->sources.n = 0;
            for (int64_t j = 0; j < n_layers; j++)
                for (int32_t k = 0; k < before.n; k++)
                    if (!kv_source_of_token(before.at[k]) && before.at[k].layer == before.at[0].layer)
                        kv_sources_add(&output->sources, (kv_source_kind)before.at[k].kind, j);
            for (int32_t k = 0; k < before.n; k++)
                if (kv_source_of_token(before.at[k]))
                    kv_sources_add(&output->sources, (kv_source_kind)before.at[k].kind, 0);
        }
}

// ---- Asking --------------------------------------------------------------------------------------------

bool kv_output_exact(const kv_output_spec *output) {
    return output->kind->exact;
}

bool kv_layer_predicted(const kv_predictor_spec *spec, int64_t layer) {
    return !kv_output_exact(&spec->outputs[KV_KEYS][layer]) ||
           !kv_output_exact(&spec->outputs[KV_VALUES][layer]);
}

static bool outputs_equal(const kv_output_spec *a, const kv_output_spec *b) {
    return a->kind == b->kind && a->width == b->width && a->matched == b->matched && a->table == b->table &&
           kv_sources_equal(&a->sources, &b->sources);
}

bool kv_predictor_spec_equal(const kv_predictor_spec *a, const kv_predictor_spec *b) {
    if (a->n_base_layers != b->n_base_layers || a->n_aux_layers != b->n_aux_layers ||
        a->prefix_layers != b->prefix_layers || a->adapt != b->adapt || a->adapt_rank != b->adapt_rank)
        return false;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < a->n_base_layers; i++)
            if (!outputs_equal(&a->outputs[side][i], &b->outputs[side][i])) return false;
    return true;
}

// Columns of what an output reads.
static int64_t input_dim(const kv_model_spec *base, const kv_model_spec *aux, const kv_output_spec *output) {
    int64_t dim = 0;
    for (int32_t k = 0; k < output->sources.n; k++) dim += kv_source_dim(base, aux, output->sources.at[k]);
    return dim;
}

static int64_t common_divisor(int64_t a, int64_t b) {
    return b == 0 ? a : common_divisor(b, a % b);
}

int64_t kv_output_blocks(const kv_model_spec *base, const kv_model_spec *aux, int64_t layer,
                         const kv_output_spec *output) {
    if (!output->matched) return 1;
    int64_t n = base->layers[layer].n_kv_heads;
    for (int32_t k = 0; k < output->sources.n; k++)
        n = common_divisor(n, kv_source_heads(aux, output->sources.at[k]));
    return n;
}

int64_t kv_predictor_spec_reads(const kv_predictor_spec *spec, uint8_t reads[KV_MAX_LAYERS]) {
    static const uint8_t bits[KV_SOURCE_KINDS] = {
        [KV_SOURCE_KEYS] = KV_READ_K, [KV_SOURCE_VALUES] = KV_READ_V, [KV_SOURCE_HIDDEN] = KV_READ_H};
    int64_t depth = 0;
    memset(reads, 0, KV_MAX_LAYERS);
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++) {
            const kv_sources *sources = &spec->outputs[side][i].sources;
            for (int32_t k = 0; k < sources->n; k++) {
                const kv_source source = sources->at[k];
                if (bits[source.kind] == 0) continue;
                reads[source.layer] |= bits[source.kind];
                if (source.layer >= depth) depth = source.layer + 1;
            }
        }
    return depth;
}

bool kv_predictor_spec_reads_base(const kv_predictor_spec *spec) {
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++) {
            const kv_sources *sources = &spec->outputs[side][i].sources;
            if (sources->n > 0 && kv_source_of_token(sources->at[sources->n - 1])) return true;
        }
    return false;
}

// ---- Checking ------------------------------------------------------------------------------------------

static kv_status check_source(const kv_predictor_spec *spec, kv_source source, const char *where,
                              kv_error *err) {
    const int64_t n = spec->n_aux_layers, prefix = spec->prefix_layers;
    char name[16];
    kv_source_name(source, name);
    if (kv_source_of_token(source)) return KV_OK;
    if (source.layer >= n)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s read %s, expected an aux layer from 0 to %lld", where, name,
                       (long long)n - 1);
    const int64_t last = kv_source_layers((kv_source_kind)source.kind, n, prefix) - 1;
    if (prefix > 0 && source.layer > last)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%s read %s, expected at most layer %lld: a prefix of %lld layers computes no more",
                       where, name, (long long)last, (long long)prefix);
    return KV_OK;
}

static kv_status check_heads(const kv_model_spec *aux, const kv_output_spec *output, const char *where,
                             kv_error *err) {
    for (int32_t k = 0; output->matched && k < output->sources.n; k++) {
        char name[16];
        kv_source_name(output->sources.at[k], name);
        if (kv_source_heads(aux, output->sources.at[k]) == 0)
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "%s match heads with %s, which has none: expected keys and values only", where,
                           name);
    }
    return KV_OK;
}

int64_t kv_predictor_spec_table_width(const kv_predictor_spec *spec) {
    for (int64_t i = 0; i < spec->n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++)
            if (spec->outputs[side][i].table > 0) return spec->outputs[side][i].table;
    return 0;
}

static kv_status check_table(const kv_predictor_spec *spec, const kv_output_spec *output, const char *where,
                             kv_error *err) {
    const int64_t width = kv_predictor_spec_table_width(spec);
    if (output->table == KV_TABLE_NONE || output->table == KV_TABLE_FULL) return KV_OK;
    if (output->table < 1 || output->table > 1 << 20)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s have a token table of width %lld, expected 1 or more", where,
                       (long long)output->table);
    if (output->table == width) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "%s have a token table of width %lld, expected %lld as the others have: they share one "
                   "embedding",
                   where, (long long)output->table, (long long)width);
}

static kv_status check_output(const kv_model_spec *base, const kv_model_spec *aux,
                              const kv_predictor_spec *spec, int side, int64_t layer, kv_error *err) {
    const kv_output_spec *output = &spec->outputs[side][layer];
    char where[64];
    snprintf(where, sizeof where, "the %s of base layer %lld", kv_side_names[side], (long long)layer);
    if (!output->kind || output->sources.n < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s read nothing, expected at least one source", where);
    kv_status status = KV_OK;
    for (int32_t k = 0; k < output->sources.n && status == KV_OK; k++)
        status = check_source(spec, output->sources.at[k], where, err);
    if (status == KV_OK) status = check_heads(aux, output, where, err);
    if (status == KV_OK) status = check_table(spec, output, where, err);
    if (status != KV_OK) return status;
    const kv_map_shape shape = {output->width, kv_output_blocks(base, aux, layer, output),
                                input_dim(base, aux, output), kv_spec_kv_dim(base, layer)};
    if (kv_output_exact(output) && (output->sources.n != 1 || shape.input_dim != shape.output_dim))
        return kv_fail(err, KV_ERR_ARGUMENT, "%s are exact of %lld features, expected the base's own %lld",
                       where, (long long)shape.input_dim, (long long)shape.output_dim);
    status = output->kind->check ? output->kind->check(&shape, err) : KV_OK;
    return status == KV_OK ? KV_OK : kv_fail_within(err, status, "%s", where);
}

static kv_status check_adapt(const kv_model_spec *base, const kv_predictor_spec *spec, kv_error *err) {
    if (spec->adapt != KV_ADAPT_LORA) return KV_OK;
    if (spec->adapt_rank >= 1 && spec->adapt_rank <= base->model_dim) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT, "adapted queries of rank %lld, expected 1 to %lld",
                   (long long)spec->adapt_rank, (long long)base->model_dim);
}

kv_status kv_predictor_spec_check(const kv_model_spec *base, const kv_model_spec *aux,
                                  const kv_predictor_spec *spec, kv_error *err) {
    if (spec->n_base_layers != base->n_layers || spec->n_aux_layers != aux->n_layers)
        return kv_fail(
            err, KV_ERR_MISMATCH,
            "the predictor maps %lld aux layers to %lld base layers, the models have %lld and %lld",
            (long long)spec->n_aux_layers, (long long)spec->n_base_layers, (long long)aux->n_layers,
            (long long)base->n_layers);
    if (spec->prefix_layers < 0 || spec->prefix_layers >= base->n_layers)
        return kv_fail(err, KV_ERR_ARGUMENT, "a prefix of %lld layers, expected 1 to %lld of the base's %lld",
                       (long long)spec->prefix_layers, (long long)base->n_layers - 1,
                       (long long)base->n_layers);
    kv_status status = check_adapt(base, spec, err);
    for (int64_t i = 0; i < spec->n_base_layers; i++)
        for (int side = 0; side < KV_SIDES && status == KV_OK; side++)
            status = check_output(base, aux, spec, side, i, err);
    return status;
}

// ---- In words ------------------------------------------------------------------------------------------

struct text {
    char *at;
    size_t size, length;
};

static void put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const size_t room = t->length < t->size ? t->size - t->length : 0;
    const int n = vsnprintf(room ? t->at + t->length : NULL, room, format, args);
    va_end(args);
    if (n > 0) t->length += (size_t)n;
}

// "k0", "k0+k1", "h0..h5": runs of one kind are told by their ends.
static void put_sources(struct text *t, const kv_sources *sources) {
    for (int32_t k = 0; k < sources->n; k++) {
        int32_t end = k;
        while (end + 1 < sources->n && sources->at[end + 1].kind == sources->at[k].kind &&
               sources->at[end + 1].layer == sources->at[end].layer + 1)
            end++;
        char first[16], last[16];
        kv_source_name(sources->at[k], first);
        kv_source_name(sources->at[end], last);
        put(t, "%s%s", k > 0 ? "+" : "", first);
        if (end > k + 1) put(t, "..%s", last), k = end;
    }
}

static void put_kind(struct text *t, const kv_output_spec *output) {
    put(t, "%s", output->kind->name);
    if (output->width > 0) put(t, " (%s %lld)", output->kind->width_name, (long long)output->width);
}

static void put_rest(struct text *t, const kv_output_spec *output) {
    if (output->matched) put(t, ", heads matched");
    if (output->table == KV_TABLE_FULL) put(t, ", token table");
    if (output->table > 0) put(t, ", token table of width %lld", (long long)output->table);
}

static void put_output(struct text *t, const kv_output_spec *output) {
    put_kind(t, output);
    put(t, " from ");
    put_sources(t, &output->sources);
    put_rest(t, output);
}

// Whether an output differs from another at most in the aux layers, all of one kind of source, of which it
// reads as many.
static bool alike(const kv_output_spec *a, const kv_output_spec *b) {
    if (a->kind != b->kind || a->width != b->width || a->matched != b->matched || a->table != b->table ||
        a->sources.n != b->sources.n)
        return false;
    for (int32_t k = 0; k < a->sources.n; k++)
        if (a->sources.at[k].kind != a->sources.at[0].kind || b->sources.at[k].kind != a->sources.at[0].kind)
            return false;
    return !kv_source_of_token(a->sources.at[0]);
}

static bool same_layers(const kv_sources *a, const kv_sources *b) {
    for (int32_t k = 0; k < a->n; k++)
        if (a->at[k].layer != b->at[k].layer) return false;
    return a->n == b->n;
}

// As in the paper: one rule for all layers, of few aux layers each.
static bool is_rule(const kv_predictor_spec *spec) {
    const kv_output_spec *keys = spec->outputs[KV_KEYS], *values = spec->outputs[KV_VALUES];
    for (int64_t i = 0; i < spec->n_base_layers; i++)
        if (keys[i].sources.n > 3 || !alike(&keys[i], &keys[0]) || !alike(&values[i], &values[0]) ||
            !same_layers(&keys[i].sources, &values[i].sources))
            return false;
    return true;
}

static void put_rule_side(struct text *t, const kv_predictor_spec *spec, int side) {
    const kv_output_spec *output = &spec->outputs[side][0];
    static const char *const letters[KV_SOURCE_KINDS] = {
        [KV_SOURCE_KEYS] = "k", [KV_SOURCE_VALUES] = "v", [KV_SOURCE_HIDDEN] = "h"};
    put(t, "%s ", kv_side_names[side]);
    put_kind(t, output);
    put(t, " from %s", letters[output->sources.at[0].kind]);
    put_rest(t, output);
}

// "keys linear from k, values linear from v; base layer reads aux layers: 0+1 0+1 1+0"
static void put_rule(struct text *t, const kv_predictor_spec *spec) {
    const bool several = spec->outputs[KV_KEYS][0].sources.n > 1;
    put_rule_side(t, spec, KV_KEYS);
    put(t, ", ");
    put_rule_side(t, spec, KV_VALUES);
    put(t, "; base layer reads aux layer%s:", several ? "s" : "");
    for (int64_t i = 0; i < spec->n_base_layers; i++) {
        const kv_sources *sources = &spec->outputs[KV_KEYS][i].sources;
        for (int32_t k = 0; k < sources->n; k++) put(t, "%s%d", k ? "+" : " ", sources->at[k].layer);
    }
}

static bool layers_equal(const kv_predictor_spec *spec, int64_t a, int64_t b) {
    return outputs_equal(&spec->outputs[KV_KEYS][a], &spec->outputs[KV_KEYS][b]) &&
           outputs_equal(&spec->outputs[KV_VALUES][a], &spec->outputs[KV_VALUES][b]);
}

// Layer by layer, equal ones together.
static void put_layers(struct text *t, const kv_predictor_spec *spec) {
    for (int64_t i = 0, end; i < spec->n_base_layers; i = end) {
        for (end = i + 1; end < spec->n_base_layers && layers_equal(spec, i, end);) end++;
        put(t, "%sbase layer%s %lld", i > 0 ? "; " : "", end > i + 1 ? "s" : "", (long long)i);
        if (end > i + 1) put(t, " to %lld", (long long)end - 1);
        put(t, ": keys ");
        put_output(t, &spec->outputs[KV_KEYS][i]);
        put(t, ", values ");
        put_output(t, &spec->outputs[KV_VALUES][i]);
    }
}

size_t kv_predictor_spec_describe(const kv_predictor_spec *spec, char *text, size_t size) {
    struct text t = {text, size, 0};
    if (size > 0) text[0] = '\0';
    if (spec->prefix_layers > 0)
        put(&t, "the base's own first %lld layers as aux; ", (long long)spec->prefix_layers);
    (is_rule(spec) ? put_rule : put_layers)(&t, spec);
    if (spec->adapt == KV_ADAPT_QUERIES) put(&t, "; adapted queries");
    if (spec->adapt == KV_ADAPT_LORA) put(&t, "; adapted queries of rank %lld", (long long)spec->adapt_rank);
    return t.length;
}
