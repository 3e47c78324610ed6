#include "data/checkpoint/random.h"

#include "core/text.h"
#include "data/system/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char model_prefix[] = "random:", predictor_name[] = "random", pruned_mark[] = "-lp-";
enum { DEFAULT_SEED = 1, LONGEST = 64 };

static const struct {
    const char *text;
    double fraction;
} fractions[] = {{"0.75", 0.75}, {"0.50", 0.5}, {"0.5", 0.5}, {"0.25", 0.25}};

static const struct {
    const char *text;
    kv_dtype dtype;
} types[] = {{"f32", KV_F32}, {"bf16", KV_BF16}, {"f16", KV_F16}};

bool kv_is_random_model(const char *dir) {
    return strncmp(dir, model_prefix, strlen(model_prefix)) == 0;
}

bool kv_is_random_predictor(const char *dir) {
    const size_t n = strlen(predictor_name);
    return strncmp(dir, predictor_name, n) == 0 && (dir[n] == '\0' || dir[n] == '@' || dir[n] == ':');
}

// ---- Names ---------------------------------------------------------------------------------------------

// Digits only.
static bool parse_seed(const char *text, uint64_t *seed) {
    return *text != '+' && kv_read_unsigned(text, seed);
}

static bool parse_type(const char *text, kv_dtype *dtype) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        *dtype = types[i].dtype;
        if (!strcmp(text, types[i].text)) return true;
    }
    return false;
}

static bool prune(const char *fraction, kv_random_name *name) {
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++) {
        if (strcmp(fraction, fractions[i].text) != 0) continue;
        const int64_t n = kv_pruned_layers(name->n_origin, fractions[i].fraction, name->origin);
        kv_spec_prune(&name->spec, name->origin, n);
        return true;
    }
    return false;
}

// "openelm-1.1b" or "openelm-1.1b-lp-0.50".
static bool parse_shape(char *text, kv_random_name *name) {
    char *mark = strstr(text, pruned_mark);
    if (mark) *mark = '\0';
    if (!kv_published_spec(text, &name->spec)) return false;
    name->n_origin = name->spec.n_layers;
    for (int64_t i = 0; i < name->n_origin; i++) name->origin[i] = (int32_t)i;
    return !mark || prune(mark + strlen(pruned_mark), name);
}

static kv_status unknown(const char *dir, const char *what, kv_error *err) {
    char names[512] = "";
    size_t used = 0;
    for (int64_t i = 0; kv_published_name(i); i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s%s", i ? ", " : "",
                                 i ? "" : model_prefix, kv_published_name(i));
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "%.*s: unknown %s, expected %s, perhaps with -lp-0.75, -lp-0.50 or -lp-0.25, then perhaps "
                   ":f32, :bf16 or :f16, then perhaps @SEED",
                   KV_HEAD(dir, 100), what, names);
}

kv_status kv_random_parse(const char *dir, kv_random_name *name, kv_error *err) {
    *name = (kv_random_name){.dtype = KV_F32, .seed = DEFAULT_SEED};
    char text[LONGEST];
    const int length = snprintf(text, sizeof text, "%s", dir + strlen(model_prefix));
    if (length >= LONGEST) return unknown(dir, "shape", err);
    char *seed = strchr(text, '@');
    if (seed) *seed++ = '\0';
    char *type = strchr(text, ':');
    if (type) *type++ = '\0';
    if (seed && !parse_seed(seed, &name->seed)) return unknown(dir, "seed", err);
    if (type && !parse_type(type, &name->dtype)) return unknown(dir, "type", err);
    return parse_shape(text, name) ? KV_OK : unknown(dir, "shape", err);
}

// ---- Models --------------------------------------------------------------------------------------------

// float32 values become what they would be after a stay in 16 bits.
static void round_values(kv_param *param, kv_dtype dtype) {
    enum { PIECE = 4096 };
    float *data = param->data;
    const int64_t size = kv_param_size(param);
#pragma omp parallel for schedule(static) if (size > 1 << 14)
    for (int64_t i = 0; i < size; i += PIECE) {
        uint16_t narrow[PIECE];
        const int64_t n = size - i < PIECE ? size - i : PIECE;
        kv_narrow(narrow, data + i, dtype, n);
        kv_widen(data + i, narrow, dtype, n);
    }
}

kv_status kv_random_model(const char *dir, bool f32, kv_model **model, kv_error *err) {
    *model = NULL;
    kv_random_name name;
    kv_status status = kv_random_parse(dir, &name, err);
    if (status) return status;
    kv_model *made;
    status = kv_model_create(&name.spec, f32 ? KV_F32 : name.dtype, true, &made, err);
    if (status) return kv_fail_within(err, status, "%s", dir);
    kv_model_fill_random(made, name.seed, name.origin, name.n_origin);
    kv_param *params[3 + KV_MAX_LAYERS * sizeof(kv_layer) / sizeof(kv_param)];
    const int64_t n = f32 && name.dtype != KV_F32 ? kv_model_params(made, params) : 0;
    for (int64_t i = 0; i < n; i++) round_values(params[i], name.dtype);
    *model = made;
    return KV_OK;
}

// ---- Predictors ----------------------------------------------------------------------------------------

// What a predictor's name says.
struct predictor_name {
    int64_t rank, aux_layers, prefix, exact_layers;
    bool matched;
    kv_sources sources; // of all outputs; those of the aux of layer 0, in whose place stand those of the rule
    uint64_t seed;
};

// "h+own_h".
static bool parse_sources(char *text, kv_sources *sources) {
    char *rest = NULL;
    sources->n = 0;
    for (char *part = strtok_r(text, "+", &rest); part; part = strtok_r(NULL, "+", &rest)) {
        kv_source source = {0};
        kv_source_kind kind;
        const bool of_aux = kv_source_kind_parse(part, &kind);
        if (!of_aux && !(kv_source_parse(part, &source) && kv_source_of_token(source))) return false;
        kv_sources_add(sources, of_aux ? kind : (kv_source_kind)source.kind, 0);
    }
    return sources->n > 0;
}

// "rank=16", "aux_layers=2", "prefix=3", "exact_layers=1", "heads=matched" or "sources=h+own_h".
static bool parse_part(char *text, struct predictor_name *name) {
    const struct {
        const char *key;
        int64_t *value, most;
    } parts[] = {{"rank=", &name->rank, INT32_MAX},
                 {"aux_layers=", &name->aux_layers, KV_MAX_LAYERS},
                 {"exact_layers=", &name->exact_layers, 1},
                 {"prefix=", &name->prefix, KV_MAX_LAYERS}};
    static const char sources[] = "sources=";
    uint64_t number;
    if (!strcmp(text, "heads=matched")) return name->matched = true;
    if (!strncmp(text, sources, strlen(sources)))
        return parse_sources(text + strlen(sources), &name->sources);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const size_t n = strlen(parts[i].key);
        if (strncmp(text, parts[i].key, n) != 0) continue;
        if (!parse_seed(text + n, &number) || number < 1 || number > (uint64_t)parts[i].most) return false;
        *parts[i].value = (int64_t)number;
        return true;
    }
    return false;
}

static kv_status parse_predictor(const char *dir, struct predictor_name *name, kv_error *err) {
    char text[LONGEST], *rest = NULL;
    *name = (struct predictor_name){.aux_layers = 1, .seed = DEFAULT_SEED};
    bool known = snprintf(text, sizeof text, "%s", dir + strlen(predictor_name)) < LONGEST;
    char *seed = strchr(text, '@');
    if (seed) *seed++ = '\0';
    if (seed) known = known && parse_seed(seed, &name->seed);
    for (char *part = strtok_r(text, ":", &rest); known && part; part = strtok_r(NULL, ":", &rest))
        known = parse_part(part, name);
    const bool alone = name->aux_layers == 1 && !name->matched && !name->exact_layers && !name->sources.n;
    if (known && (name->prefix == 0 || alone)) return KV_OK;
    return kv_fail(
        err, KV_ERR_ARGUMENT,
        "%.*s: unknown predictor, expected random, perhaps with :rank=N, :aux_layers=N, :heads=matched, "
        ":sources=h+own_h, :exact_layers=1 or (without an aux) :prefix=L, then perhaps @SEED",
        KV_HEAD(dir, 100));
}

kv_status kv_random_predictor_prefix(const char *dir, int64_t *n_layers, kv_error *err) {
    struct predictor_name name;
    kv_status status = parse_predictor(dir, &name, err);
    *n_layers = status ? 0 : name.prefix;
    return status;
}

// The named sources, of the layers next to that of the rule.
static void set_sources(const kv_model_spec *aux, const struct predictor_name *name,
                        kv_predictor_spec *spec) {
    int32_t near[KV_MAX_LAYERS];
    const int64_t n = name->aux_layers < aux->n_layers ? name->aux_layers : aux->n_layers;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++) {
            kv_output_spec *output = &spec->outputs[side][i];
            if (kv_output_exact(output)) continue;
            output->matched = name->matched;
            if (name->sources.n == 0) continue;
            kv_layers_near(output->sources.at[0].layer, n, aux->n_layers, near);
            output->sources.n = 0;
            for (int32_t k = 0; k < name->sources.n; k++) {
                const kv_source source = name->sources.at[k];
                for (int64_t j = 0; j < (kv_source_of_token(source) ? 1 : n); j++)
                    kv_sources_add(&output->sources, (kv_source_kind)source.kind,
                                   kv_source_of_token(source) ? 0 : near[j]);
            }
        }
}

// What the name says, for this pair.
static kv_status name_spec(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                           const int32_t *mapping, const struct predictor_name *name, kv_predictor_spec *spec,
                           kv_error *err) {
    int32_t rule[KV_MAX_LAYERS];
    if ((name->prefix > 0) == (aux != NULL))
        return kv_fail(err, KV_ERR_MISMATCH,
                       aux ? "%.*s: of the base's own first layers, expected no auxiliary model beside it"
                           : "%.*s: needs an auxiliary model, or :prefix=L",
                       KV_HEAD(dir, 100));
    if (name->prefix >= base->n_layers)
        return kv_fail(err, KV_ERR_ARGUMENT, "%.*s: the base has %lld layers, expected a prefix of 1 to %lld",
                       KV_HEAD(dir, 100), (long long)base->n_layers, (long long)base->n_layers - 1);
    if (aux && !mapping) kv_mapping_default(base, aux, rule);
    if (aux)
        kv_predictor_spec_paper(base, aux, mapping ? mapping : rule, spec);
    else
        kv_predictor_spec_prefix(base, name->prefix, spec);
    if (name->exact_layers > 0) kv_predictor_spec_exact_first(spec);
    kv_predictor_spec_neighbours(spec, name->aux_layers);
    if (aux) set_sources(aux, name, spec);
    if (name->rank > 0) kv_predictor_spec_set_map(spec, &kv_map_low_rank, name->rank);
    kv_status status = kv_predictor_spec_check(base, aux ? aux : base, spec, err);
    if (status) return kv_fail_within(err, status, "%.*s", KV_HEAD(dir, 100));
    return KV_OK;
}

typedef kv_status make_fn(const kv_model_spec *base, const kv_model_spec *aux, const kv_predictor_spec *spec,
                          kv_predictor **predictor, kv_error *err);

static kv_status make_predictor(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                                const int32_t *mapping, make_fn *make, uint64_t *seed,
                                kv_predictor **predictor, kv_error *err) {
    struct predictor_name name;
    *predictor = NULL;
    kv_predictor_spec *spec = malloc(sizeof *spec);
    *seed = DEFAULT_SEED;
    if (!spec) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kv_status status = parse_predictor(dir, &name, err);
    if (!status) *seed = name.seed;
    if (!status) status = name_spec(dir, base, aux, mapping, &name, spec, err);
    if (!status) status = make(base, aux ? aux : base, spec, predictor, err);
    free(spec);
    return status;
}

kv_status kv_random_predictor_check(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                                    const int32_t *mapping, kv_error *err) {
    kv_predictor *predictor;
    uint64_t seed;
    kv_status status = make_predictor(dir, base, aux, mapping, kv_predictor_plan, &seed, &predictor, err);
    kv_predictor_free(predictor);
    return status;
}

kv_status kv_random_predictor_shape(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                                    kv_predictor **predictor, kv_error *err) {
    uint64_t seed;
    return make_predictor(dir, base, aux, NULL, kv_predictor_plan, &seed, predictor, err);
}

kv_status kv_random_predictor(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                              const int32_t *mapping, kv_predictor **predictor, kv_error *err) {
    uint64_t seed;
    kv_status status = make_predictor(dir, base, aux, mapping, kv_predictor_create, &seed, predictor, err);
    return status ? status : kv_predictor_init(*predictor, NULL, seed, err);
}
