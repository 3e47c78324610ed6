#include "data/checkpoint/random.h"

#include "core/text.h"
#include "data/system/number.h"

#include <stdio.h>
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
    kv_predictor_kind kind;
    uint64_t seed;
};

static bool starts_with(const char *text, const char *beginning) {
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

// "rank=16" or "aux_layers=2".
static bool parse_kind(const char *text, kv_predictor_kind *kind) {
    static const char rank[] = "rank=", layers[] = "aux_layers=";
    uint64_t number;
    if (starts_with(text, rank)) {
        if (!parse_seed(text + strlen(rank), &number) || number > INT32_MAX) return false;
        kind->rank = (int64_t)number;
        return true;
    }
    if (!starts_with(text, layers) || !parse_seed(text + strlen(layers), &number)) return false;
    kind->aux_layers = (int64_t)number;
    return number == 1 || number == 2;
}

static kv_status parse_predictor(const char *dir, struct predictor_name *name, kv_error *err) {
    char text[LONGEST], *rest = NULL;
    *name = (struct predictor_name){.kind.aux_layers = 1, .seed = DEFAULT_SEED};
    bool known = snprintf(text, sizeof text, "%s", dir + strlen(predictor_name)) < LONGEST;
    char *seed = strchr(text, '@');
    if (seed) *seed++ = '\0';
    if (seed) known = known && parse_seed(seed, &name->seed);
    for (char *part = strtok_r(text, ":", &rest); known && part; part = strtok_r(NULL, ":", &rest))
        known = parse_kind(part, &name->kind);
    if (known) return KV_OK;
    return kv_fail(err, KV_ERR_ARGUMENT,
                   "%.*s: unknown predictor, expected random, perhaps with :rank=N or :aux_layers=2, then "
                   "perhaps @SEED",
                   KV_HEAD(dir, 100));
}

kv_status kv_random_predictor_check(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                                    const int32_t *mapping, kv_error *err) {
    struct predictor_name name;
    int32_t rule[KV_MAX_LAYERS];
    kv_status status = parse_predictor(dir, &name, err);
    if (status) return status;
    if (!mapping) kv_mapping_default(base, aux, rule);
    status = kv_predictor_kind_check(base, aux, mapping ? mapping : rule, &name.kind, err);
    return status ? kv_fail_within(err, status, "%.*s", KV_HEAD(dir, 100)) : KV_OK;
}

static kv_status make_predictor(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                                const int32_t *mapping, struct predictor_name *name, kv_predictor **predictor,
                                kv_error *err) {
    *predictor = NULL;
    int32_t rule[KV_MAX_LAYERS];
    kv_status status = kv_random_predictor_check(dir, base, aux, mapping, err);
    if (!status) status = parse_predictor(dir, name, err);
    if (status) return status;
    if (!mapping) kv_mapping_default(base, aux, rule);
    return kv_predictor_create_kind(base, aux, mapping ? mapping : rule, &name->kind, predictor, err);
}

kv_status kv_random_predictor_shape(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                                    kv_predictor **predictor, kv_error *err) {
    struct predictor_name name;
    return make_predictor(dir, base, aux, NULL, &name, predictor, err);
}

kv_status kv_random_predictor(const char *dir, const kv_model_spec *base, const kv_model_spec *aux,
                              const int32_t *mapping, kv_predictor **predictor, kv_error *err) {
    struct predictor_name name;
    kv_status status = make_predictor(dir, base, aux, mapping, &name, predictor, err);
    if (status == KV_OK) kv_predictor_init(*predictor, name.seed);
    return status;
}
