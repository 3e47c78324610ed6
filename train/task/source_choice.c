// The choice itself, and what a predictor must have in common with what was planned to have come of it. To choose from
// all layers, a predictor that reads all of them is planned, and never made.
#include "train/task/source_choice.h"

#include "core/predictor/best.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "train/task/tape_bytes.h"

#include <inttypes.h>
#include <stdlib.h>

// ---- What is compared ----------------------------------------------------------------------------------

// Kinds of which a side reads layers that are chosen, as bits: all that it reads of the aux but those that name their
// layer (no kind is both: train/config/parts.c).
static unsigned open_kinds(const kv_predictor_config *config, const kv_sources *planned, kv_side side) {
    const kv_source_names names = kv_train_sources(config, side);
    unsigned kinds = 0;
    for (int32_t k = 0; k < planned->n; k++)
        if (!kv_source_of_token(planned->at[k])) kinds |= 1u << planned->at[k].kind;
    for (unsigned i = 0; i < names.n_names; i++) {
        kv_source source;
        if (kv_source_parse(names.names[i], &source)) kinds &= ~(1u << source.kind);
    }
    return kinds;
}

static bool is_open(unsigned kinds, kv_source source) {
    return !kv_source_of_token(source) && (kinds >> source.kind & 1);
}

static void open_all(const kv_predictor_spec *spec, unsigned kinds, kv_sources *sources) {
    sources->n = 0;
    for (int kind = 0; kind < KV_SOURCE_KINDS; kind++) {
        if (!(kinds >> kind & 1)) continue;
        const int64_t n = kv_source_layers((kv_source_kind)kind, spec->n_aux_layers, spec->prefix_layers);
        for (int64_t j = 0; j < n; j++) kv_sources_add(sources, (kv_source_kind)kind, j);
    }
}

// Every output reads all layers of what it reads open ones of. NULL when there is no memory for it.
static kv_predictor *plan_all(const kv_start_args *args, const kv_predictor_spec *plan, kv_error *err) {
    kv_predictor *all = NULL;
    kv_predictor_spec *spec = malloc(sizeof *spec);
    if (!spec) {
        kv_fail(err, KV_ERR_MEMORY, "out of memory");
        return NULL;
    }
    *spec = *plan;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++) {
            kv_output_spec *output = &spec->outputs[side][i];
            if (kv_output_exact(output)) continue;
            const unsigned kinds =
                open_kinds(&args->config->predictor, &plan->outputs[side][i].sources, (kv_side)side);
            open_all(spec, kinds, &output->sources);
            output->matched = false;
        }
    kv_predictor_spec_set_map(spec, &kv_map_linear, 0);
    kv_predictor_spec_set_table(spec, KV_TABLE_NONE);
    spec->adapt = KV_ADAPT_NONE, spec->adapt_rank = 0;
    if (kv_predictor_plan(args->base_spec, args->aux_spec, spec, &all, err) != KV_OK) all = NULL;
    free(spec);
    return all;
}

// ---- The result ----------------------------------------------------------------------------------------

struct result {
    const kv_start_args *args;
    const kv_predictor_spec *plan, *spec; // before and after the choice
    int64_t n_tokens;
    double *r2[KV_SIDES]; // [n_base_layers][n_aux_layers]
};

// The layers that an output was given, the best one first; returns how many.
static int64_t chosen_layers(const struct result *r, int side, int64_t layer, int32_t chosen[KV_MAX_LAYERS]) {
    const kv_sources *sources = &r->spec->outputs[side][layer].sources;
    const unsigned kinds =
        open_kinds(&r->args->config->predictor, &r->plan->outputs[side][layer].sources, (kv_side)side);
    bool taken[KV_MAX_LAYERS] = {false};
    int64_t n = 0;
    if (kv_output_exact(&r->spec->outputs[side][layer])) return 0;
    for (int32_t k = 0; k < sources->n; k++) {
        const uint8_t j = sources->at[k].layer;
        if (!is_open(kinds, sources->at[k]) || taken[j]) continue;
        taken[j] = true, chosen[n++] = j;
    }
    return n;
}

static void print_side(const struct result *r, int side, int64_t layer) {
    int32_t chosen[KV_MAX_LAYERS];
    const int64_t n = chosen_layers(r, side, layer, chosen);
    const double *r2 = r->r2[side] + layer * r->spec->n_aux_layers;
    for (int64_t k = 0; k < n; k++)
        fprintf(stderr, "%s%d (%.1f %%)", k ? ", " : "", chosen[k], 100 * r2[chosen[k]]);
    if (n == 0) fputs("exact", stderr);
}

static void print_result(const struct result *r) {
    fprintf(stderr, "best aux layers      base layer  reads, and explains alone\n");
    for (int64_t i = 0; i < r->spec->n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            if (side == 0)
                fprintf(stderr, "                     %10" PRIi64 "  keys    ", i);
            else
                fprintf(stderr, "                     %10s  values  ", "");
            print_side(r, side, i);
            fputc('\n', stderr);
        }
}

static json_t *side_json(const struct result *r, int side) {
    json_t *all_layers = json_array(), *all_explained = json_array();
    const int64_t n_aux = r->spec->n_aux_layers;
    const int64_t n_there = kv_source_layers(KV_SOURCE_HIDDEN, n_aux, r->spec->prefix_layers);
    for (int64_t i = 0; i < r->spec->n_base_layers; i++) {
        int32_t chosen[KV_MAX_LAYERS];
        const int64_t n = chosen_layers(r, side, i, chosen);
        json_t *layers = json_array(), *explained = json_array();
        for (int64_t k = 0; k < n; k++) json_array_append_new(layers, json_integer(chosen[k]));
        for (int64_t j = 0; j < n_there; j++)
            json_array_append_new(explained, json_real(r->r2[side][i * n_aux + j]));
        json_array_append_new(all_layers, layers);
        json_array_append_new(all_explained, explained);
    }
    return json_pack("{s:o, s:o}", "layers", all_layers, "explained", all_explained);
}

static kv_status write_json(const struct result *r, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(r->args->config->output, "best_layers.json", path, err);
    if (status != KV_OK) return status;
    json_t *root = json_pack("{s:I, s:f, s:o, s:o}", "tokens", (json_int_t)r->n_tokens, "ridge",
                             r->args->config->predictor.ridge, kv_side_names[KV_KEYS], side_json(r, KV_KEYS),
                             kv_side_names[KV_VALUES], side_json(r, KV_VALUES));
    return kv_json_write(path, root, JSON_INDENT(1) | JSON_REAL_PRECISION(9), err);
}

// Also what every layer explains; then the sources that name their layer are put back.
static kv_status choose(const kv_best *best, struct result *r, kv_predictor_spec *spec, kv_error *err) {
    const kv_predictor_config *p = &r->args->config->predictor;
    const size_t n = (size_t)(spec->n_base_layers * spec->n_aux_layers);
    kv_status status = KV_OK;
    for (int side = 0; side < KV_SIDES && status == KV_OK; side++) {
        r->r2[side] = malloc(n * sizeof(double));
        status = r->r2[side] ? kv_best_explained(best, p->ridge, (kv_side)side, r->r2[side], err)
                             : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    }
    if (status == KV_OK) status = kv_best_choose(best, p->ridge, p->aux_layers, spec, err);
    for (int side = 0; side < KV_SIDES && status == KV_OK; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++) {
            const kv_sources *planned = &r->plan->outputs[side][i].sources;
            const unsigned kinds = open_kinds(p, planned, (kv_side)side);
            for (int32_t k = 0; k < planned->n; k++)
                if (!is_open(kinds, planned->at[k]))
                    kv_sources_add(&spec->outputs[side][i].sources, (kv_source_kind)planned->at[k].kind,
                                   planned->at[k].layer);
        }
    return status;
}

// ---- The pass ------------------------------------------------------------------------------------------

static kv_status add(void *sums, kv_tape *tape, const kv_taps *taps, kv_tensor *const *base_raw_k,
                     kv_tensor *const *base_v, const uint8_t *keep, kv_error *err) {
    return kv_best_add(sums, tape, taps, base_raw_k, base_v, keep, err);
}

static bool visit(void *sums, kv_sums_fn *fn, void *what) {
    return kv_best_visit(sums, fn, what);
}

static void tell_tokens(void *sums, int64_t n_tokens) {
    kv_best_tell_tokens(sums, n_tokens);
}

static kv_start_pass pass_of(const kv_start_args *args, const kv_predictor *all) {
    return (kv_start_pass){.title = "comparing layers",
                           .reads = all,
                           .n_tokens = args->config->predictor.best_tokens,
                           .add = add,
                           .visit = visit,
                           .tell_tokens = tell_tokens,
                           .flops = kv_flops_best(all, kv_start_rows(args))};
}

static kv_status read_text(const kv_start_args *args, const kv_predictor *all, kv_best *best,
                           int64_t *n_tokens, kv_error *err) {
    kv_start_pass pass = pass_of(args, all);
    pass.sums = best;
    if (args->cached) kv_cached_read_for(args->cached, all);
    return kv_start_read(args, &pass, n_tokens, err);
}

// One rank chooses for all: where machines differ in the last bits, the better of two layers could be another one.
static kv_status choose_and_tell(const kv_best *best, struct result *r, kv_predictor_spec *spec,
                                 kv_error *err) {
    kv_status status = choose(best, r, spec, err);
    if (status != KV_OK)
        return kv_fail_within(
            err, status, "predictor.choose: best (predictor.ridge: %g, predictor.best_tokens: %" PRIi64 ")",
            r->args->config->predictor.ridge, r->args->config->predictor.best_tokens);
    status = write_json(r, err);
    if (status == KV_OK) print_result(r);
    return status;
}

kv_status kv_choose_sources(const kv_start_args *args, const kv_predictor *plan, kv_predictor_spec *spec,
                            kv_error *err) {
    struct result result = {.args = args, .plan = &plan->spec, .spec = spec};
    kv_best *best = NULL;
    kv_predictor *all = plan_all(args, &plan->spec, err);
    kv_status status = all ? kv_best_create(all, &best, err) : KV_ERR_MEMORY;
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = read_text(args, all, best, &result.n_tokens, err);
    if (args->cached) kv_cached_read_for(args->cached, plan);
    if (status == KV_OK && kv_rank_leads()) status = choose_and_tell(best, &result, spec, err);
    status = kv_ranks_agree(status, err);
    for (int side = 0; side < KV_SIDES && status == KV_OK; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++)
            kv_ranks_broadcast(&spec->outputs[side][i].sources, sizeof spec->outputs[side][i].sources, 0);
    for (int side = 0; side < KV_SIDES; side++) free(result.r2[side]);
    kv_best_free(best);
    kv_predictor_free(all);
    return status;
}

double kv_choice_flops(const kv_start_args *args, const kv_predictor *plan) {
    kv_predictor *all = plan_all(args, &plan->spec, NULL);
    if (!all) return 0;
    const kv_start_pass pass = pass_of(args, all);
    const double flops = kv_start_flops(args, &pass);
    kv_predictor_free(all);
    return flops;
}

double kv_choice_bytes(const kv_start_args *args, const kv_predictor *plan, const kv_kvp_known *known) {
    const kv_data_config *d = &args->config->data;
    kv_predictor *all = plan_all(args, &plan->spec, NULL);
    if (!all) return 0;
    const double bytes =
        kv_best_start_bytes(args->base_spec, args->aux_spec, all, known, d->micro_batch_size, d->seq_len);
    kv_predictor_free(all);
    return bytes;
}

// ---- What came of it -----------------------------------------------------------------------------------

// How many layers of the kinds that were open are read; what else is, comes into *others.
static int64_t split(const kv_sources *sources, unsigned kinds, kv_sources *others) {
    bool taken[KV_MAX_LAYERS] = {false};
    int64_t n = 0;
    others->n = 0;
    for (int32_t k = 0; k < sources->n; k++) {
        const kv_source source = sources->at[k];
        if (!is_open(kinds, source))
            kv_sources_add(others, (kv_source_kind)source.kind, source.layer);
        else if (!taken[source.layer])
            taken[source.layer] = true, n++;
    }
    return n;
}

static bool same_but_layers(const kv_sources *plan, const kv_sources *made, unsigned kinds, int64_t n) {
    kv_sources planned, found;
    for (int32_t k = 0; k < made->n; k++) {
        bool known = false;
        for (int32_t j = 0; j < plan->n; j++) known = known || plan->at[j].kind == made->at[k].kind;
        if (!known) return false;
    }
    split(plan, kinds, &planned);
    return split(made, kinds, &found) == (kinds ? n : 0) && kv_sources_equal(&planned, &found);
}

bool kv_choice_of(const kv_predictor_config *config, const kv_predictor_spec *plan,
                  const kv_predictor_spec *made) {
    kv_predictor_spec *same = malloc(sizeof *same);
    bool is = same && plan->n_base_layers == made->n_base_layers;
    if (is) *same = *made;
    for (int64_t i = 0; is && i < plan->n_base_layers; i++)
        for (int side = 0; side < KV_SIDES; side++) {
            kv_sources *sources = &same->outputs[side][i].sources;
            const kv_sources *planned = &plan->outputs[side][i].sources;
            const unsigned kinds = open_kinds(config, planned, (kv_side)side);
            if (kv_output_exact(&plan->outputs[side][i])) continue;
            is = is && same_but_layers(planned, sources, kinds, config->aux_layers);
            *sources = *planned;
        }
    is = is && kv_predictor_spec_equal(plan, same);
    free(same);
    return is;
}
