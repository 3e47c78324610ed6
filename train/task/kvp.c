// task: kvp. Predictors from an auxiliary model's cache to the base's; the aux is trained along or frozen.
//                                                                                       [core/README.md §4]
#include "train/task/kvp.h"

#include "core/predictor/start_from_base.h"
#include "data/checkpoint/tabulated.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "train/task/least_squares_start.h"
#include "train/task/predictor_plan.h"
#include "train/task/source_choice.h"
#include "train/task/start_rates.h"
#include "train/task/tape_bytes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const all_terms[KVP_TERMS] = {"base",   "aux",    "consistency", "kl",
                                                 "hidden", "z_base", "z_aux"};

// A layer-pruned aux may come from no checkpoint but from the base itself.
//                                  [Horton et al. 2024, section 3.4: KVP-LP]
static const char *aux_name(const kv_train_config *config) {
    return kv_train_aux(config) ? kv_train_aux(config) : "layers of the base";
}

static kv_start_args start_args(const kvp_task *kvp) {
    return (kv_start_args){.source = kvp->task.source,
                           .config = kvp->task.config,
                           .text = kvp->task.text,
                           .base_spec = &kvp->base_spec,
                           .aux_spec = &kvp->aux_spec,
                           .base = kvp->base,
                           .aux = kvp->aux,
                           .cached = kvp->cached,
                           .aux_cached = kvp->start_cached};
}

// The predictor is made anew for the layers that were chosen, before anything has been learned.
static kv_status choose_sources(kvp_task *kvp, kv_error *err) {
    const kv_start_args args = start_args(kvp);
    kv_predictor_spec *spec = malloc(sizeof *spec);
    if (spec) *spec = kvp->shape->spec;
    kv_status status = kv_ranks_agree(spec ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory"), err);
    if (status == KV_OK) status = kv_choose_sources(&args, kvp->shape, spec, err);
    if (status == KV_OK) status = kvp_remake_predictor(kvp, spec, err);
    free(spec);
    return kv_ranks_agree(status, err);
}

static kv_status kvp_start(kv_task *task, kv_error *err) {
    kvp_task *kvp = (kvp_task *)task;
    kv_status status = KV_OK;
    if (kv_config_has(task->source, "recipe")) {
        fputs("kvtrain: recipe ", stderr);
        kv_recipe_describe(task->source, task->config, stderr);
        fputc('\n', stderr);
    }
    if (kv_train_chooses(task->config)) status = choose_sources(kvp, err);
    if (status == KV_OK && task->config->predictor.init == KV_START_BASE)
        return kv_ranks_agree(kv_start_from_base(kvp->predictor, kvp->base, err), err);
    if (status != KV_OK || task->config->predictor.init != KV_START_LEAST_SQUARES) return status;
    const kv_start_args args = start_args(kvp);
    status = kv_least_squares_start(&args, kvp->predictor, err);
    return status == KV_OK ? kv_start_rates(task, kvp->base_spec.n_layers, err) : status;
}

// Without weights it is taken for granted that the cache is that of an aux as it starts, if it can be.
static double kvp_start_flops(const kv_task *task) {
    const kvp_task *kvp = (const kvp_task *)task;
    kv_start_args args = start_args(kvp);
    args.aux_cached = kvp->cache_has_aux;
    double flops = 0;
    if (kv_train_chooses(task->config)) flops += kv_choice_flops(&args, kvp->shape);
    if (task->config->predictor.init == KV_START_LEAST_SQUARES)
        flops += kv_least_squares_flops(&args, kvp->shape);
    return flops;
}

// ---- One step ------------------------------------------------------------------------------------------

static void add_terms(const kvp_task *kvp, const kv_kvp_terms *found, double *terms) {
    const double values[KVP_TERMS] = {found->base.cross_entropy,
                                      found->aux.cross_entropy,
                                      found->consistency,
                                      found->base.kl,
                                      found->hidden,
                                      found->base.z,
                                      found->aux.z};
    for (int i = 0; i < kvp->task.n_terms; i++) terms[i] += values[kvp->term[i]];
}

static kv_tensor *kvp_objective(kv_task *task, kv_tape *tape, const kv_batch *given_batch,
                                const kv_row_ref *rows, double *terms) {
    kvp_task *kvp = (kvp_task *)task;
    kv_kvp_terms found = {0};
    kv_kvp_given given;
    kv_batch own = *given_batch, *batch = &own;
    if (kvp->cached) {
        kv_error err = {0};
        kv_status status = kv_cached_give(kvp->cached, tape, rows, batch, kvp->aux_cached, &given, &err);
        if (status != KV_OK) return kv_tape_fail(tape, status, "%s", err.message);
        own.given = &given;
    }
    kv_tensor *loss =
        kv_kvp_objective(tape, kvp->base, kvp->aux, kvp->predictor, batch, &kvp->weights, &found, NULL);
    add_terms(kvp, &found, terms);
    return loss;
}

static kv_tensor *kvp_validate(kv_task *task, kv_tape *tape, const kv_batch *batch, double *terms,
                               kv_layer_errors *errors) {
    kvp_task *kvp = (kvp_task *)task;
    kv_kvp_terms found = {0};
    kv_kvp_weights weights = kvp->weights;
    weights.errors = true;
    kv_tensor *loss =
        kv_kvp_objective(tape, kvp->base, kvp->aux, kvp->predictor, batch, &weights, &found, NULL);
    add_terms(kvp, &found, terms);
    errors->n_layers = kvp->base_spec.n_layers;
    for (int64_t i = 0; i < errors->n_layers; i++) {
        errors->key[i] += found.k_l1[i];
        errors->value[i] += found.v_l1[i];
    }
    return loss;
}

kv_kvp_known kvp_known_parts(const kvp_task *kvp) {
    if (!kvp->cached) return (kv_kvp_known){0};
    return (kv_kvp_known){true, kvp->aux_cached, kv_cached_info(kvp->cached)->top_k};
}

static uint64_t kvp_flops(const kv_task *task, int64_t n_seq, int64_t seq_len) {
    const kvp_task *kvp = (const kvp_task *)task;
    const kv_kvp_known known = kvp_known_parts(kvp);
    return kv_flops_kvp_step(&kvp->base_spec, &kvp->aux_spec, kvp->shape, n_seq, seq_len, &kvp->weights,
                             kvp_aux_trained(kvp), task->config->train.activation_checkpointing) -
           kv_flops_kvp_spared(&kvp->base_spec, &kvp->aux_spec, kvp->shape, n_seq, seq_len, &kvp->weights,
                               &known);
}

static uint64_t kvp_validation_flops(const kv_task *task, int64_t n_seq, int64_t seq_len) {
    const kvp_task *kvp = (const kvp_task *)task;
    return kv_flops_kvp_loss_only(&kvp->base_spec, &kvp->aux_spec, kvp->shape, n_seq, seq_len, &kvp->weights);
}

// ---- Plan ----------------------------------------------------------------------------------------------

static int64_t predictor_size(const kvp_task *kvp) {
    return kv_predictor_size(kvp->shape);
}

static void describe_cache(const kvp_task *kvp, FILE *out) {
    if (!kvp->cached) return;
    const kv_cache_info *info = kv_cached_info(kvp->cached);
    fprintf(out, "cache        %s: %s, ", kvp->task.config->cache, kv_cache_dtype_text(info->dtype));
    if (info->top_k > 0) fprintf(out, "%" PRIi64 " logits a token, ", info->top_k);
    fprintf(out, "%s; in memory: %s\n", kvp->aux_cached ? "caches of base and aux" : "the base's cache",
            kvp_prefix(kvp)                     ? "the base"
            : kvp->keeps_base && kvp->keeps_aux ? "both models"
            : kvp->keeps_base                   ? "the base"
            : kvp->keeps_aux                    ? "the aux"
                                                : "neither model");
}

// Tables of small vocabularies take less than the least of the published models.
static const double many_bytes = 1e9;

// Large vocabularies make large tables, of which all rows have gradients and moments.
static void describe_tables(const kvp_task *kvp, FILE *out) {
    const int64_t size = kv_predictor_table_size(kvp->shape);
    char number[32];
    if (size == 0) return;
    fprintf(out,
            "             of which %s in token tables (%.3g GB while they are trained), looked up: %" PRIi64
            " numbers a token\n",
            kv_count_text((double)size, number), 4e-9 * sizeof(float) * (double)size,
            kv_predictor_lookups(kvp->shape, &kvp->base_spec));
    if (4 * sizeof(float) * (double)size > many_bytes)
        fputs(
            "             less with own_h among predictor.sources, which kvdata tabulate turns into tables afterwards\n",
            out);
}

// What a prompt will cost with these predictors, beside what the base alone takes; and with all looked up that depends on
// the token alone (kvdata tabulate).
//                                                                             [core/README.md §7, §9, eq. 39]
static void describe_reduction(const kvp_task *kvp, FILE *out) {
    static const int64_t prompts[] = {128, 1024};
    const kv_model_spec *base = &kvp->base_spec, *aux = &kvp->aux_spec;
    double spared = 0;
    for (int i = 0; i < 2; i++) {
        const int64_t n = prompts[i] < base->context_length ? prompts[i] : base->context_length;
        const double alone = (double)kv_flops_prefill(base, n),
                     with = (double)kv_flops_kvp_prefill(base, aux, kvp->shape, n);
        if (i == 1 && n <= prompts[0]) break;
        spared = n > 1 ? (double)kv_flops_predictor_tokens(kvp->shape, base, n - 1) : 0;
        fprintf(out, "%s%.3g", i ? ", " : "reduction    of FLOPs to the first token: ", alone / with);
        if (spared > 0) fprintf(out, " (tabulated %.3g)", alone / (with - spared));
        fprintf(out, " times for %" PRIi64 " tokens", n);
    }
    fputc('\n', out);
    kv_tabulated_size size;
    if (spared > 0 && kv_tabulated_measure(kvp->shape, base, aux, KV_BF16, &size, NULL) == KV_OK)
        fprintf(out, "             tables of kvdata tabulate: %.3g GB in bf16, %" PRIi64 " numbers a token\n",
                1e-9 * size.bytes, size.width);
}

static void kvp_describe(const kv_task *task, FILE *out) {
    const kvp_task *kvp = (const kvp_task *)task;
    const kv_train_config *config = task->config;
    fputs("recipe       ", out);
    kv_recipe_describe(task->source, config, out);
    fprintf(out, "\nbase         %s: ", config->base);
    kv_task_describe_model(&kvp->base_spec, out);
    if (kvp_prefix(kvp)) {
        fprintf(out, "aux          prefix: the base's own first %" PRIi64 " layers, no second model\n",
                config->prefix_layers);
    } else {
        fprintf(out, "aux          %s (%s): ", aux_name(config),
                !kvp_aux_trained(kvp)   ? "frozen"
                : kvp->weights.aux == 0 ? "trained as far as it is read"
                                        : "trained");
        kv_task_describe_model(&kvp->aux_spec, out);
    }
    fprintf(out, "predictors   ");
    kv_describe_predictor(kvp->shape, out);
    if (kv_train_chooses(config))
        fprintf(out,
                "\n             these aux layers stand for the best %" PRIi64
                " of each map, which the start finds out",
                config->predictor.aux_layers);
    fputc('\n', out);
    describe_tables(kvp, out);
    describe_reduction(kvp, out);
    const kv_kvp_weights *w = &kvp->weights;
    fprintf(out, "loss         %g · base + %g · aux + %g · consistency + %g · kl", (double)w->base,
            (double)w->aux, (double)w->consistency, (double)w->kl);
    if (w->kl != 0 && w->kl_temperature != 1) fprintf(out, " (temperature %g)", (double)w->kl_temperature);
    if (w->hidden != 0)
        fprintf(out, " + %g · hidden (layer %" PRIi64 ")", (double)w->hidden, w->hidden_layer);
    fputc('\n', out);
    if (!kvp_aux_trained(kvp) && config->loss.aux != 0)
        fprintf(out, "             (loss.aux %g counts as 0: the aux is frozen)\n", config->loss.aux);
    describe_cache(kvp, out);
}

static void plan_aux(kvp_task *kvp) {
    int32_t kept[KV_MAX_LAYERS];
    kvp->aux_spec = kvp->base_spec;
    const int64_t n_kept = kv_pruned_layers(kvp->base_spec.n_layers, kvp->task.config->predictor.keep, kept);
    kv_spec_prune(&kvp->aux_spec, kept, n_kept);
}

static kv_status plan_models(kvp_task *kvp, const kv_train_specs *specs, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    kvp->base_spec = specs->base;
    kvp->aux_spec = kv_train_prefix(config) ? specs->base : specs->aux;
    if (!config->aux) plan_aux(kvp);
    return kv_plan_predictor(kvp->task.source, config, &kvp->base_spec, &kvp->aux_spec, &kvp->shape, err);
}

static kv_status measure_models(kvp_task *kvp, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    kv_status status =
        kv_task_measure(&kvp->task, "base", config->base, &kvp->base_spec, &kvp->base_size, err);
    if (status != KV_OK || !kv_train_aux(config)) return status;
    return kv_task_measure(&kvp->task, "aux", config->aux, &kvp->aux_spec, &kvp->aux_size, err);
}

// Layer auto: the last but one, so that what the last one makes of it is left to the other losses.
//                                                  [as in training SwiftKV, Qiao et al. 2024]
static kv_status plan_hidden(kvp_task *kvp, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    const kv_loss_config *l = &config->loss;
    const int64_t n = kvp->base_spec.n_layers;
    int64_t layer = l->hidden_layer;
    if (layer < 0) layer = n > 1 ? n - 2 : 0;
    kvp->weights.hidden = (float)l->hidden, kvp->weights.hidden_layer = layer;
    if (l->hidden == 0) return KV_OK;
    if (layer >= n)
        return kv_config_fail(kvp->task.source, err, "loss.hidden_layer",
                              "found %" PRIi64 ", expected auto or a layer of the base, 0 to %" PRIi64, layer,
                              n - 1);
    if (config->train.steps == 0) return KV_OK;
    if (config->teacher == KV_TEACHER_CACHED)
        return kv_config_fail(kvp->task.source, err, "loss.hidden",
                              "found %g, expected 0 with teacher: cached: caches hold no hidden states",
                              l->hidden);
    if (layer == n - 1 || l->base != 0 || l->kl != 0 || l->consistency != 0) return KV_OK;
    return kv_config_fail(
        kvp->task.source, err, "loss.hidden",
        "found %g and no other loss of the predicted cache, with which the maps of the layers "
        "above layer %" PRIi64 " would not learn; loss.hidden_layer: %" PRIi64 " reaches all of them",
        l->hidden, layer, n - 1);
}

static void plan_losses(kvp_task *kvp) {
    const kv_loss_config *l = &kvp->task.config->loss;
    const double n = l->consistency_shared ? (double)kvp->base_spec.n_layers : 1;
    kv_kvp_weights *w = &kvp->weights;
    // The loss of a frozen aux has no gradient: its pass would be work for nothing.
    *w = (kv_kvp_weights){.base = (float)l->base,
                          .hidden = w->hidden,
                          .hidden_layer = w->hidden_layer,
                          .aux = kvp_aux_trained(kvp) ? (float)l->aux : 0,
                          .consistency = (float)(l->consistency / n),
                          .kl = (float)l->kl,
                          .kl_temperature = (float)l->kl_temperature,
                          .z_loss = (float)l->z_loss};
    bool base = w->base != 0 || w->kl != 0, z = w->z_loss != 0;
    const bool active[KVP_TERMS] = {base,           w->aux != 0, w->consistency != 0, w->kl != 0,
                                    w->hidden != 0, base && z,   w->aux != 0 && z};
    for (int i = 0; i < KVP_TERMS; i++) {
        if (!active[i]) continue;
        kvp->term[kvp->task.n_terms] = i;
        kvp->task.term_names[kvp->task.n_terms++] = all_terms[i];
    }
}

// Caches on disk have keys and values only.
static bool reads_hidden(const kv_predictor_spec *spec) {
    uint8_t reads[KV_MAX_LAYERS];
    const int64_t depth = kv_predictor_spec_reads(spec, reads);
    for (int64_t i = 0; i < depth; i++)
        if (reads[i] & KV_READ_H) return true;
    return false;
}

// Which models are needed when true caches and logits are read. Held-out text is not in the cache.
static kv_status plan_cache(kvp_task *kvp, kv_error *err) {
    const kv_train_config *config = kvp->task.config;
    const kv_train_text *text = kvp->task.text;
    kvp->keeps_base = kvp->keeps_aux = true;
    if (config->teacher != KV_TEACHER_CACHED) return KV_OK;
    const kv_cached_args args = {.source = kvp->task.source,
                                 .config = config,
                                 .parts = text->parts,
                                 .n_parts = text->n_parts,
                                 .base = &kvp->base_spec,
                                 .aux = &kvp->aux_spec,
                                 .shape = kvp->shape,
                                 .weights = &kvp->weights};
    kv_status status = kv_cached_teacher_open(&args, &kvp->cached, err);
    if (status != KV_OK) return status;
    const bool held_out = config->data.validation != NULL;
    kvp->cache_has_aux =
        !kvp_prefix(kvp) && kv_cached_has_aux(kvp->cached) && !reads_hidden(&kvp->shape->spec);
    kvp->aux_cached = !kvp_aux_trained(kvp) && kvp->cache_has_aux;
    const bool student = config->train.steps > 0 && (kvp->weights.base != 0 || kvp->weights.kl != 0);
    const kv_predictor_spec *spec = &kvp->shape->spec;
    kvp->keeps_base = student || held_out || kvp_prefix(kvp) || kv_predictor_spec_reads_base(spec) ||
                      spec->adapt == KV_ADAPT_QUERIES; // which start from the base's
    kvp->keeps_aux = !kvp->aux_cached || held_out;
    return KV_OK;
}

static void kvp_free(kv_task *task) {
    kvp_task *kvp = (kvp_task *)task;
    kv_cached_teacher_free(kvp->cached);
    if (kvp->aux != kvp->base) kv_model_free(kvp->aux);
    kv_model_free(kvp->base);
    kv_predictor_free(kvp->predictor);
    kv_predictor_free(kvp->shape);
    free(kvp);
}

static const kv_task_ops kvp_ops = {.load = kvp_load,
                                    .start = kvp_start,
                                    .objective = kvp_objective,
                                    .validate = kvp_validate,
                                    .save = kvp_save,
                                    .describe = kvp_describe,
                                    .flops = kvp_flops,
                                    .start_flops = kvp_start_flops,
                                    .validation_flops = kvp_validation_flops,
                                    .memory = kvp_memory,
                                    .free = kvp_free};

kv_status kv_kvp_task_create(const kv_config *source, const kv_train_config *config,
                             const kv_train_text *text, const kv_train_specs *specs, kv_task **task,
                             kv_error *err) {
    *task = NULL;
    kvp_task *kvp = calloc(1, sizeof *kvp);
    if (!kvp) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    kvp->task = (kv_task){.ops = &kvp_ops, .source = source, .config = config, .text = text};
    kv_status status = plan_models(kvp, specs, err);
    if (status == KV_OK) status = measure_models(kvp, err);
    if (status != KV_OK) {
        kv_task_free(&kvp->task);
        return status;
    }
    status = plan_hidden(kvp, err);
    plan_losses(kvp);
    if (status == KV_OK) status = plan_cache(kvp, err);
    if (status != KV_OK) {
        kv_task_free(&kvp->task);
        return status;
    }
    kvp->task.n_trainable = predictor_size(kvp) + (kvp_aux_trained(kvp) ? kvp_aux_learns(kvp) : 0);
    *task = &kvp->task;
    return KV_OK;
}
