// Checks of a training's configuration that no schema can state: ranges, what belongs together, what has no
// effect. Each names the key, so that a mistake of the user's costs a look at one line.
#include "train/config/config.h"

#include "data/cache/cache.h"
#include "data/checkpoint/hf_config.h"
#include "data/config/scalar.h"
#include "data/file/mistaken.h"

#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- Ranges --------------------------------------------------------------------------------------------

struct int_range {
    const char *key;
    int64_t value, low, high;
};
struct real_range {
    const char *key;
    double value, low, high;
};

static kv_status check_ints(const kv_config *config, const struct int_range *ranges, size_t n,
                            kv_error *err) {
    for (size_t i = 0; i < n; i++) {
        const struct int_range *r = &ranges[i];
        if (r->value < r->low || r->value > r->high)
            return kv_config_fail(config, err, r->key, "found %" PRIi64 ", expected %" PRIi64 " to %" PRIi64,
                                  r->value, r->low, r->high);
    }
    return KV_OK;
}

static kv_status check_reals(const kv_config *config, const struct real_range *ranges, size_t n,
                             kv_error *err) {
    for (size_t i = 0; i < n; i++) {
        const struct real_range *r = &ranges[i];
        if (!(r->value >= r->low && r->value <= r->high))
            return kv_config_fail(config, err, r->key, "found %g, expected %g to %g", r->value, r->low,
                                  r->high);
    }
    return KV_OK;
}

#define LENGTH(array) (sizeof(array) / sizeof *(array))

// Sizes whose products are still far from overflowing 64 bits.
static const int64_t max_steps = INT64_C(1) << 40, max_dim = INT64_C(1) << 20;

// "auto", whose value is negative, or a number from 0 to 1e6.
static kv_status check_auto(const kv_config *config, const char *key, const char *text, double *value,
                            kv_error *err) {
    *value = -1;
    if (strcmp(text, "auto") == 0) return KV_OK;
    if (kv_yaml_real(text, value) && *value >= 0 && *value <= 1e6) return KV_OK;
    return kv_config_fail(config, err, key, "found `%s`, expected auto or a number from 0 to 1e6", text);
}

// "auto", a number from 0 to 1e6, or such a number over n, the layers of the base: auto is 1/n.
static kv_status check_consistency(const kv_config *config, kv_loss_config *l, kv_error *err) {
    static const char over[] = "/n";
    const char *text = strcmp(l->consistency_text, "auto") == 0 ? "1/n" : l->consistency_text;
    const size_t length = strlen(text), tail = sizeof over - 1;
    char number[64];
    l->consistency_shared = length > tail && strcmp(text + length - tail, over) == 0;
    snprintf(number, sizeof number, "%.*s", (int)(length - (l->consistency_shared ? tail : 0)), text);
    if (length < sizeof number && kv_yaml_real(number, &l->consistency) && l->consistency >= 0 &&
        l->consistency <= 1e6)
        return KV_OK;
    return kv_config_fail(
        config, err, "loss.consistency",
        "found `%s`, expected auto, a number from 0 to 1e6, or one such as 2/n: 2 over the number of "
        "the base's layers",
        l->consistency_text);
}

static kv_status check_steps(const kv_config *config, kv_steps_config *s, kv_error *err) {
    const struct int_range ints[] = {{"train.steps", s->steps, 0, max_steps},
                                     {"train.warmup_steps", s->warmup_steps, 0, max_steps},
                                     {"train.checkpoint_every", s->checkpoint_every, 1, max_steps},
                                     {"train.keep_last", s->keep_last, 1, max_steps},
                                     {"train.log_every", s->log_every, 1, max_steps},
                                     {"train.validate_every", s->validate_every, 1, max_steps},
                                     {"train.validation_tokens", s->validation_tokens, 1, max_steps}};
    const struct real_range reals[] = {{"train.lr", s->lr, 0, 1e3},
                                       {"train.lr_aux", s->lr_aux, 0, 1e3},
                                       {"train.lr_table", s->lr_table, 0, 1e3},
                                       {"train.lr_queries", s->lr_queries, 0, 1e3},
                                       {"train.lr_end", s->lr_end, 0, 1e3},
                                       {"train.warmup_init", s->warmup_init, 0, 1e3},
                                       {"train.weight_decay", s->weight_decay, 0, 1e3},
                                       {"train.beta1", s->beta1, 0, 0.99999},
                                       {"train.beta2", s->beta2, 0, 0.9999999},
                                       {"train.eps", s->eps, FLT_MIN, 1},
                                       {"train.grad_clip", s->grad_clip, 0, FLT_MAX}};
    kv_status status = check_ints(config, ints, LENGTH(ints), err);
    if (status == KV_OK) status = check_reals(config, reals, LENGTH(reals), err);
    if (status != KV_OK) return status;
    return check_auto(config, "train.memory_gb", s->memory_text, &s->memory_gb, err);
}

static kv_status check_validation(const kv_config *config, const kv_train_config *t, kv_error *err) {
    static const char *const keys[] = {"train.validate_every", "train.validation_tokens"};
    if (t->data.validation) return KV_OK;
    return kv_config_forbid(config, keys, LENGTH(keys), "only with data.validation", err);
}

static kv_status check_mixture(const kv_config *config, const kv_train_config *t, kv_error *err) {
    static const char *const train_key[] = {"data.train"};
    const kv_data_config *d = &t->data;
    if (!t->given.mixture)
        return kv_config_require(config, train_key, 1, "a corpus to train on (or data.mixture: several)",
                                 err);
    kv_status status = kv_config_forbid(config, train_key, 1, "only without data.mixture", err);
    for (unsigned i = 0; status == KV_OK && i < d->n_mixture; i++) {
        char corpus[64], weight[64];
        snprintf(corpus, sizeof corpus, "data.mixture[%u].corpus", i);
        snprintf(weight, sizeof weight, "data.mixture[%u].weight", i);
        const char *const keys[] = {corpus, weight};
        const struct real_range range[] = {{weight, d->mixture[i].weight, 1e-9, 1e9}};
        status = kv_config_require(config, keys, LENGTH(keys), "every part of a mixture needs it", err);
        if (status == KV_OK) status = check_reals(config, range, 1, err);
    }
    return status;
}

static kv_status check_data(const kv_config *config, const kv_data_config *d, kv_error *err) {
    const struct int_range ints[] = {{"data.seq_len", d->seq_len, 1, max_dim},
                                     {"data.batch_size", d->batch_size, 1, max_dim},
                                     {"data.micro_batch_size", d->micro_batch_size, 1, max_dim}};
    kv_status status = check_ints(config, ints, LENGTH(ints), err);
    if (status == KV_OK && d->batch_size % d->micro_batch_size != 0)
        status = kv_config_fail(config, err, "data.micro_batch_size",
                                "found %" PRIi64 ", expected a divisor of data.batch_size, %" PRIi64,
                                d->micro_batch_size, d->batch_size);
    return status;
}

// ---- Both tasks ----------------------------------------------------------------------------------------

static kv_status check_teacher(const kv_config *config, const kv_train_config *t, kv_error *err) {
    static const char *const cache_key[] = {"cache"};
    if (t->teacher == KV_TEACHER_ONLINE)
        return kv_config_forbid(config, cache_key, 1, "only with teacher: cached", err);
    kv_status status = kv_config_require(config, cache_key, 1, "the directory that kvdata cache made", err);
    if (status != KV_OK || t->data.packing == KV_PACKING_FIXED) return status;
    return kv_config_fail(config, err, "data.packing",
                          "found stream, expected fixed with teacher: cached, whose rows are cut once");
}

static kv_status check_losses(const kv_config *config, const kv_loss_config *l, kv_error *err) {
    const struct real_range reals[] = {
        {"loss.base", l->base, 0, 1e6},
        {"loss.kl", l->kl, 0, 1e6},
        {"loss.kl_temperature", l->kl_temperature, KV_CACHE_MIN_TEMPERATURE, KV_CACHE_MAX_TEMPERATURE},
        {"loss.z_loss", l->z_loss, 0, 1e6}};
    return check_reals(config, reals, LENGTH(reals), err);
}

// ---- Task lm -------------------------------------------------------------------------------------------

static const char *const scratch_keys[] = {"model.n_layers", "model.model_dim",  "model.head_dim",
                                           "model.n_heads",  "model.n_kv_heads", "model.ffn_dim"};
static const char *const scratch_options[] = {"model.context_length", "model.qk_norm"};
static const char *const lm_only[] = {"model"};
static const char *const kvp_only[] = {
    "aux",          "prefix_layers",    "freeze_aux",      "predictor",
    "loss.aux",     "loss.consistency", "loss.hidden",     "loss.hidden_layer",
    "train.lr_aux", "train.lr_table",   "train.lr_queries"};

static kv_status check_keep(const kv_config *config, const char *key, double keep, kv_error *err) {
    int32_t kept[KV_MAX_LAYERS];
    if (kv_pruned_layers(1, keep, kept) >= 0) return KV_OK;
    return kv_config_fail(config, err, key, "found %g, expected 0.25, 0.5 or 0.75", keep);
}

static kv_status check_scratch(const kv_config *config, const kv_model_config *m, kv_error *err) {
    static const char *const loaded_keys[] = {"model.path", "model.keep"};
    kv_status status =
        kv_config_require(config, scratch_keys, LENGTH(scratch_keys), "with model.from: scratch", err);
    if (status == KV_OK)
        status = kv_config_forbid(config, loaded_keys, LENGTH(loaded_keys),
                                  "only with model.from: checkpoint or pruned", err);
    const struct int_range ints[] = {{"model.n_layers", m->n_layers, 1, KV_MAX_LAYERS},
                                     {"model.model_dim", m->model_dim, 1, max_dim},
                                     {"model.head_dim", m->head_dim, 2, max_dim},
                                     {"model.n_heads", m->n_heads, 1, max_dim},
                                     {"model.n_kv_heads", m->n_kv_heads, 1, m->n_heads},
                                     {"model.ffn_dim", m->ffn_dim, 1, max_dim},
                                     {"model.context_length", m->context_length, 1, max_dim}};
    if (status == KV_OK) status = check_ints(config, ints, LENGTH(ints), err);
    if (status == KV_OK && m->head_dim % 2 != 0)
        status = kv_config_fail(config, err, "model.head_dim", "found %" PRIi64 ", expected an even number",
                                m->head_dim);
    if (status == KV_OK && m->n_heads % m->n_kv_heads != 0)
        status = kv_config_fail(config, err, "model.n_kv_heads",
                                "found %" PRIi64 ", expected a divisor of model.n_heads, %" PRIi64,
                                m->n_kv_heads, m->n_heads);
    return status;
}

static kv_status check_lm(const kv_config *config, const kv_train_config *t, kv_error *err) {
    static const char *const base_key[] = {"base"};
    kv_status status = kv_config_forbid(config, kvp_only, LENGTH(kvp_only), "only with task: kvp", err);
    if (status == KV_OK && t->loss.kl != 0)
        status = kv_config_require(config, base_key, 1, "with loss.kl: the model whose logits teach", err);
    if (status == KV_OK) status = check_teacher(config, t, err);
    if (status == KV_OK && t->train.steps > 0 && t->loss.base == 0 && t->loss.kl == 0)
        status = kv_config_fail(config, err, "loss",
                                "found base and kl both 0, expected one above 0: the model would not learn");
    if (status != KV_OK) return status;
    if (t->model.from == KV_FROM_SCRATCH) return check_scratch(config, &t->model, err);
    static const char *const path_key[] = {"model.path"}, *const keep_key[] = {"model.keep"};
    bool pruned = t->model.from == KV_FROM_PRUNED;
    status = kv_config_require(config, path_key, 1, "the model's directory", err);
    if (status == KV_OK)
        status = kv_config_forbid(config, scratch_keys, LENGTH(scratch_keys), "only with model.from: scratch",
                                  err);
    if (status == KV_OK)
        status = kv_config_forbid(config, scratch_options, LENGTH(scratch_options),
                                  "only with model.from: scratch", err);
    if (status != KV_OK) return status;
    if (!pruned) return kv_config_forbid(config, keep_key, 1, "only with model.from: pruned", err);
    status = kv_config_require(config, keep_key, 1, "0.25, 0.5 or 0.75", err);
    return status == KV_OK ? check_keep(config, "model.keep", t->model.keep, err) : status;
}

// ---- Task kvp ------------------------------------------------------------------------------------------

// A width or a number that nobody has set is 0.
static kv_status check_sizes(const kv_config *config, const kv_train_config *t, kv_error *err) {
    const kv_predictor_config *p = &t->predictor;
    const struct int_range ints[] = {{"prefix_layers", t->prefix_layers, 1, KV_MAX_LAYERS - 1},
                                     {"predictor.width", p->width, 1, max_dim},
                                     {"predictor.adapt_rank", p->adapt_rank, 1, max_dim}};
    const bool given[LENGTH(ints)] = {t->given.prefix_layers, t->given.width, t->given.adapt_rank};
    kv_status status = KV_OK;
    for (size_t i = 0; i < LENGTH(ints) && status == KV_OK; i++)
        if (given[i]) status = check_ints(config, &ints[i], 1, err);
    return status;
}

static kv_status check_predictor(const kv_config *config, kv_train_config *t, kv_error *err) {
    const kv_predictor_config *p = &t->predictor;
    const bool has_aux = t->aux != NULL;
    static const char *const layers_key[] = {"predictor.layers"}, *const keep_key[] = {"predictor.keep"};
    const struct int_range ints[] = {
        {"predictor.least_squares_tokens", p->least_squares_tokens, 0, max_steps},
        {"predictor.least_squares_passes", p->least_squares_passes, 1, KV_MAX_LAYERS},
        {"predictor.best_tokens", p->best_tokens, 0, max_steps},
        {"predictor.rank", p->rank, 0, max_dim},
        {"predictor.aux_layers", p->aux_layers, 0, KV_MAX_LAYERS},
        {"predictor.exact_layers", p->exact_layers, 0, 1}};
    const struct real_range reals[] = {{"predictor.ridge", p->ridge, 0, 1e6}};
    kv_status status = check_ints(config, ints, LENGTH(ints), err);
    if (status == KV_OK) status = check_reals(config, reals, LENGTH(reals), err);
    if (status == KV_OK) status = check_sizes(config, t, err);
    if (status == KV_OK) status = kv_train_check_parts(config, t, err);
    if (status == KV_OK)
        status = p->mapping == KV_MAPPING_EXPLICIT
                     ? kv_config_require(config, layers_key, 1, "the aux layer of every base layer", err)
                     : kv_config_forbid(config, layers_key, 1, "only with predictor.mapping: explicit", err);
    if (status != KV_OK) return status;
    // Without an aux of its own the base's layers are the aux. One that was made of them differs in the
    // paper's rule, not in a uniform or an explicit map.
    if (p->mapping == KV_MAPPING_SEPARATE)
        return kv_config_forbid(
            config, keep_key, 1,
            "only with predictor.mapping: pruned or reversed, or without aux uniform or explicit", err);
    if (has_aux && (p->mapping == KV_MAPPING_UNIFORM || p->mapping == KV_MAPPING_EXPLICIT))
        return kv_config_forbid(config, keep_key, 1,
                                "only without aux with predictor.mapping: uniform or explicit", err);
    if (has_aux && p->mapping == KV_MAPPING_REVERSED && !t->given.predictor_keep) return KV_OK;
    status = kv_config_require(config, keep_key, 1, "0.25, 0.5 or 0.75", err);
    return status == KV_OK ? check_keep(config, "predictor.keep", p->keep, err) : status;
}

static kv_status check_hidden(const kv_config *config, kv_train_config *t, kv_error *err) {
    kv_loss_config *l = &t->loss;
    l->hidden_layer = -1;
    if (strcmp(l->hidden_layer_text, "auto") != 0 &&
        (!kv_yaml_whole(l->hidden_layer_text, &l->hidden_layer) || l->hidden_layer < 0 ||
         l->hidden_layer >= KV_MAX_LAYERS))
        return kv_config_fail(config, err, "loss.hidden_layer",
                              "found `%s`, expected auto or a whole number from 0 to %d",
                              l->hidden_layer_text, KV_MAX_LAYERS - 1);
    return KV_OK;
}

static kv_status check_kvp(const kv_config *config, kv_train_config *t, kv_error *err) {
    static const char *const models[] = {"base", "aux"};
    // Of a layer-pruned aux the base has the weights.
    const bool from_base = t->predictor.mapping == KV_MAPPING_PRUNED ||
                           (t->predictor.mapping != KV_MAPPING_SEPARATE && t->given.predictor_keep);
    const size_t n_needed = from_base ? 1 : 2;
    kv_status status = kv_config_forbid(config, lm_only, LENGTH(lm_only), "only with task: lm", err);
    if (status == KV_OK) status = kv_config_require(config, models, n_needed, "the model's directory", err);
    if (status == KV_OK) status = check_predictor(config, t, err);
    if (status == KV_OK) status = check_teacher(config, t, err);
    const struct real_range reals[] = {{"loss.aux", t->loss.aux, 0, 1e6},
                                       {"loss.hidden", t->loss.hidden, 0, 1e6}};
    if (status == KV_OK) status = check_reals(config, reals, LENGTH(reals), err);
    if (status == KV_OK) status = check_consistency(config, &t->loss, err);
    if (status == KV_OK) status = check_hidden(config, t, err);
    if (status == KV_OK && t->train.steps > 0 && t->loss.base == 0 && t->loss.kl == 0 &&
        t->loss.consistency == 0 && t->loss.hidden == 0)
        status = kv_config_fail(config, err, "loss",
                                "found base, consistency, kl and hidden all 0, expected one above 0: "
                                "the predictors would not learn");
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

// What follows from other keys, or applies only where these are there. It stands in no text of defaults:
// those go into a run's config.yaml, and there a key that has no effect would be refused.
static void fill_in(const kv_config *config, kv_train_config *t) {
    kv_train_given *given = &t->given;
    const kv_config_given keys[] = {{"data.mixture", &given->mixture},
                                    {"data.micro_batch_size", &given->micro_batch_size},
                                    {"model.context_length", &given->context_length},
                                    {"model.qk_norm", &given->qk_norm},
                                    {"frozen_dtype", &given->frozen_dtype},
                                    {"prefix_layers", &given->prefix_layers},
                                    {"predictor.keep", &given->predictor_keep},
                                    {"predictor.width", &given->width},
                                    {"predictor.adapt_rank", &given->adapt_rank},
                                    {"train.lr_aux", &given->lr_aux},
                                    {"train.lr_table", &given->lr_table},
                                    {"train.lr_queries", &given->lr_queries},
                                    {"train.lr_end", &given->lr_end},
                                    {"train.validate_every", &given->validate_every},
                                    {"train.validation_tokens", &given->validation_tokens}};
    kv_config_record(config, keys, LENGTH(keys));
    if (!given->micro_batch_size) t->data.micro_batch_size = t->data.batch_size;
    if (!given->context_length) t->model.context_length = 512;
    if (!given->qk_norm) t->model.qk_norm = true;
    const bool ours = t->recipe == KV_RECIPE_OURS;
    if (!given->lr_aux && !ours) t->train.lr_aux = t->train.lr;
    if (!given->lr_table && !ours) t->train.lr_table = t->train.lr;
    if (!given->lr_queries) t->train.lr_queries = t->train.lr;
    if (!given->frozen_dtype) t->frozen_dtype = KV_FROZEN_STORED;
    if (!given->lr_end) t->train.lr_end = t->train.lr / 10;
    if (!given->validate_every) t->train.validate_every = 100;
    if (!given->validation_tokens) t->train.validation_tokens = 20000;
}

static kv_status check_all(const kv_config *config, kv_train_config *t, kv_error *err) {
    static const char *const required[] = {"output", "data.seq_len", "data.batch_size", "train.steps"};
    static const char *const rate[] = {"train.lr"};
    kv_status status = check_mixture(config, t, err);
    if (status == KV_OK)
        status = kv_config_require(config, required, LENGTH(required), "every run needs it", err);
    if (status == KV_OK && t->train.steps > 0 && t->recipe != KV_RECIPE_OURS)
        status = kv_config_require(config, rate, 1, "every run needs it", err);
    if (status == KV_OK) status = check_data(config, &t->data, err);
    if (status == KV_OK) status = check_validation(config, t, err);
    if (status == KV_OK) status = check_steps(config, &t->train, err);
    if (status == KV_OK) status = check_losses(config, &t->loss, err);
    if (status == KV_OK)
        status = t->task == KV_TASK_LM ? check_lm(config, t, err) : check_kvp(config, t, err);
    return status;
}

// What an extended file says of the other task, where a nearer one says `task`: a rival's file may extend that of its
// predictors. It is taken back as null would, so that the run's config.yaml has nothing without effect either.
typedef struct left_behind {
    const char **overrides; // those there were, and "key=null" of each such key
    size_t n;
    char (*texts)[64];
} left_behind;

static bool leave_behind(const kv_config *config, kv_task_kind task, const char *const *overrides, size_t n,
                         left_behind *left) {
    const char *const *keys = task == KV_TASK_LM ? kvp_only : lm_only;
    const size_t n_keys = task == KV_TASK_LM ? LENGTH(kvp_only) : LENGTH(lm_only);
    left->overrides = calloc(n + n_keys, sizeof *left->overrides);
    left->texts = calloc(n_keys, sizeof *left->texts);
    if (!left->overrides || !left->texts) return false;
    for (; left->n < n; left->n++) left->overrides[left->n] = overrides[left->n];
    for (size_t i = 0; i < n_keys; i++) {
        if (!kv_config_overtaken(config, keys[i], "task")) continue;
        snprintf(left->texts[i], sizeof left->texts[i], "%s=null", keys[i]);
        left->overrides[left->n++] = left->texts[i];
    }
    return true;
}

static kv_status load(const char *path, const char *const *overrides, size_t n_overrides, kv_config **config,
                      const kv_train_config **train, kv_error *err) {
    static const char *const task_key[] = {"task"};
    *train = NULL;
    // Loaded once to learn task and recipe, whose defaults then come first.
    kv_status status = kv_config_load(path, overrides, n_overrides, &kv_train_schema, config, err);
    if (status != KV_OK) return status;
    status = kv_config_require(*config, task_key, 1, "lm or kvp", err);
    const kv_train_config *first = kv_config_data(*config);
    const kv_task_kind task = first->task;
    const bool prefix = first->aux && strcmp(first->aux, "prefix") == 0;
    const char *defaults =
        task == KV_TASK_LM ? kv_lm_defaults[first->recipe] : kv_kvp_defaults[first->recipe][prefix];
    left_behind left = {0};
    if (status == KV_OK && !leave_behind(*config, task, overrides, n_overrides, &left))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (status == KV_OK) {
        kv_config_free(*config);
        status = kv_config_load_with_defaults(defaults, kv_train_paths, path, left.overrides, left.n,
                                              &kv_train_schema, config, err);
    }
    free(left.overrides);
    free(left.texts);
    if (status == KV_OK) {
        fill_in(*config, kv_config_data(*config));
        status = check_all(*config, kv_config_data(*config), err);
    }
    if (status == KV_OK) {
        *train = kv_config_data(*config);
        return KV_OK;
    }
    kv_config_free(*config);
    *config = NULL;
    return status;
}

kv_status kv_train_config_load(const char *path, const char *const *overrides, size_t n_overrides,
                               kv_config **config, const kv_train_config **train, kv_error *err) {
    return kv_mistaken(path, KV_FILE_TRAIN_CONFIG, load(path, overrides, n_overrides, config, train, err),
                       err);
}

void kv_recipe_describe(const kv_config *config, const kv_train_config *train, FILE *out) {
    fputs(train->recipe == KV_RECIPE_OURS ? "ours" : "paper", out);
    const char *before = ": ";
    for (size_t i = 0; kv_recipe_keys[i]; i++) {
        char *value = kv_config_value(config, kv_recipe_keys[i]);
        if (!value) continue;
        fprintf(out, "%s%s %s%s", before, kv_recipe_keys[i], value,
                kv_config_has(config, kv_recipe_keys[i]) ? " (set)" : "");
        before = ", ";
        free(value);
    }
}

kv_adamw_args kv_train_adamw(const kv_train_config *train) {
    const kv_steps_config *s = &train->train;
    return (kv_adamw_args){.beta1 = (float)s->beta1,
                           .beta2 = (float)s->beta2,
                           .eps = (float)s->eps,
                           .weight_decay = (float)s->weight_decay};
}

kv_status kv_scratch_spec(const kv_config *config, const kv_train_config *train, const kv_shard_info *shard,
                          kv_model_spec *spec, kv_error *err) {
    const kv_model_config *m = &train->model;
    *spec = (kv_model_spec){.vocab_size = shard->vocab_size,
                            .model_dim = m->model_dim,
                            .head_dim = m->head_dim,
                            .n_layers = m->n_layers,
                            .context_length = m->context_length,
                            .qk_norm = m->qk_norm,
                            .tied_head = true,
                            .norm_eps = 1e-6f,
                            .rope = {.theta = 10000},
                            .bos_id = shard->bos_id,
                            .eos_id = shard->eos_id};
    for (int64_t i = 0; i < m->n_layers; i++)
        spec->layers[i] = (kv_layer_spec){m->n_heads, m->n_kv_heads, m->ffn_dim};
    kv_error inner = {0};
    kv_status status = kv_model_spec_check(spec, &inner);
    if (status != KV_OK) return kv_config_fail(config, err, "model", "%s", inner.message);
    kv_hf_config_name(spec);
    return KV_OK;
}
