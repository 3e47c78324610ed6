// Only what is sure to be of no use is doubted: whoever gets a warning for what he meant reads no other.
#include "train/config/doubts.h"

#include "train/config/rates.h"

#include <inttypes.h>

// The key somebody has set: nobody looks for the line of a default.
static const char *set_one(const kv_config *source, const char *key, const char *otherwise) {
    return kv_config_has(source, key) ? key : otherwise;
}

// A key without effect beside the setting `why`. One that was inherited and is overtaken by it, as in the arms of a
// sweep, was not meant to have any.
static bool set_in_vain(const kv_config *source, const char *key, const char *why) {
    return kv_config_has(source, key) && !kv_config_overtaken(source, key, why);
}

// Of all groups together: their schedules differ by a factor.
static void doubt_schedule(const kv_config *source, const kv_train_config *t) {
    const kv_steps_config *s = &t->train;
    const kv_schedule schedule = kv_train_schedule(t, kv_main_group(t->task));
    if (s->lr == 0) return;
    const bool warms_up = s->warmup_steps > 0 && s->warmup_init != s->lr;
    if (warms_up && s->warmup_init < s->lr && s->warmup_steps >= s->steps)
        kv_config_warn(
            source, set_one(source, "train.warmup_steps", "train.steps"),
            "the run of %" PRIi64 " steps ends within its warm-up of %" PRIi64
            ": the learning rate gets to %.3g at most, never to train.lr, %g; fewer train.warmup_steps or "
            "more train.steps would",
            s->steps, s->warmup_steps, kv_schedule_at(&schedule, s->steps - 1), s->lr);
    if (warms_up && s->warmup_init > s->lr)
        kv_config_warn(
            source, set_one(source, "train.warmup_init", "train.lr"),
            "the warm-up starts from a higher rate, train.warmup_init %g, than it leads to, train.lr %g; a "
            "smaller train.warmup_init, or train.warmup_steps: 0, is meant",
            s->warmup_init, s->lr);
    if (t->given.lr_end && s->lr_end < s->lr && s->warmup_steps + 1 == s->steps)
        kv_config_warn(source, "train.lr_end",
                       "the one step behind the warm-up of %" PRIi64
                       " has the rate train.lr, %g: no step comes nearer to %g; "
                       "fewer train.warmup_steps or more train.steps would",
                       s->warmup_steps, s->lr, s->lr_end);
    if (s->lr_end > s->lr)
        kv_config_warn(source, "train.lr_end",
                       "the rate rises to %g after it was train.lr, %g, expected a smaller one to end at",
                       s->lr_end, s->lr);
}

// A rate of what is not trained.
static void doubt_idle_rate(const kv_config *source, const kv_train_config *t, kv_group group) {
    const char *const reasons[KV_N_GROUPS] = {
        [KV_GROUP_MODEL] = kv_train_prefix(t) ? "aux: prefix is the base, which stays as it is"
                                              : "freeze_aux: true leaves the aux as it is",
        [KV_GROUP_TABLES] = "predictor.token_table: none",
        [KV_GROUP_QUERIES] = "predictor.adapt: none"};
    const char *key = kv_rate_key(t->task, group);
    if (group == KV_GROUP_MODEL ? set_in_vain(source, key, "freeze_aux") : kv_config_has(source, key))
        kv_config_warn(source, key, "without effect: %s", reasons[group]);
}

static void doubt_rates(const kv_config *source, const kv_train_config *t) {
    int n_trained = 0, n_still = 0;
    for (kv_group g = 0; g < KV_N_GROUPS; g++) {
        n_trained += kv_train_has_group(t, g);
        n_still += kv_train_has_group(t, g) && kv_train_peak(t, g) == 0;
        if (t->task == KV_TASK_KVP && !kv_train_has_group(t, g)) doubt_idle_rate(source, t, g);
    }
    if (n_still == n_trained)
        kv_config_warn(source, "train.lr",
                       "at a rate of 0 the weights stay as they are; train.steps: 0 spares the work");
    else if (t->task == KV_TASK_KVP && !t->freeze_aux && t->train.lr_aux == 0)
        kv_config_warn(source, "train.lr_aux",
                       "at a rate of 0 the aux stays as it is; freeze_aux: true spares the work");
}

static void doubt_validation(const kv_config *source, const kv_train_config *t) {
    const kv_steps_config *s = &t->train;
    if (s->keep_best && !t->data.validation)
        kv_config_warn(
            source, "train.keep_best",
            "found true without data.validation: no best is kept, since the best is what has the lowest "
            "loss on held-out text");
    else if (s->keep_best && s->validate_every >= s->steps)
        kv_config_warn(source, "train.keep_best",
                       "with train.validate_every %" PRIi64 " and train.steps %" PRIi64
                       " only the model before the first step and the last one are looked at; a smaller "
                       "train.validate_every makes a choice of it",
                       s->validate_every, s->steps);
}

// What belongs to a weight of 0. A teacher that a rival inherits of predictors which have none was not meant for it.
static void doubt_kl(const kv_config *source, const kv_train_config *t) {
    static const char *const teachers[] = {"base", "teacher", "cache", "frozen_dtype"};
    const kv_loss_config *l = &t->loss;
    if (l->kl != 0) return;
    if (l->kl_temperature != 1 && set_in_vain(source, "loss.kl_temperature", "loss.kl"))
        kv_config_warn(source, "loss.kl_temperature",
                       "%g without effect: it belongs to loss.kl, whose weight is 0", l->kl_temperature);
    for (size_t i = 0; t->task == KV_TASK_LM && i < sizeof teachers / sizeof *teachers; i++)
        if (set_in_vain(source, teachers[i], "loss.kl") && set_in_vain(source, teachers[i], "task"))
            kv_config_warn(
                source, teachers[i],
                "without effect: only loss.kl above 0 teaches a language model by another's logits");
}

static void doubt_z_loss(const kv_config *source, const kv_train_config *t) {
    const kv_loss_config *l = &t->loss;
    const bool aux = t->task == KV_TASK_KVP && l->aux != 0 && !t->freeze_aux;
    if (l->z_loss != 0 && l->base == 0 && !aux)
        kv_config_warn(source, "loss.z_loss", "%g without effect: it goes with the weights of %s, found 0",
                       l->z_loss, t->task == KV_TASK_KVP ? "loss.base and loss.aux" : "loss.base");
}

static void doubt_losses(const kv_config *source, const kv_train_config *t) {
    const kv_loss_config *l = &t->loss;
    if (t->freeze_aux && l->aux != 0 && set_in_vain(source, "loss.aux", "freeze_aux"))
        kv_config_warn(source, "loss.aux",
                       "%g counts as 0: freeze_aux: true leaves nothing that it could train", l->aux);
    if (l->hidden == 0 && l->hidden_layer >= 0 && set_in_vain(source, "loss.hidden_layer", "loss.hidden"))
        kv_config_warn(source, "loss.hidden_layer",
                       "%" PRIi64 " without effect: it belongs to loss.hidden, whose weight is 0",
                       l->hidden_layer);
    if (t->predictor.adapt != KV_ADAPT_NONE && l->base == 0 && l->kl == 0 && l->hidden == 0)
        kv_config_warn(
            source, "predictor.adapt",
            "without effect: loss.base, loss.kl and loss.hidden are 0, and no other loss knows of queries");
}

static void doubt_start(const kv_config *source, const kv_train_config *t) {
    static const char *const fit[] = {"predictor.ridge", "predictor.least_squares_tokens",
                                      "predictor.least_squares_rates", "predictor.least_squares_passes",
                                      "predictor.table_start"};
    const bool best = kv_train_chooses(t);
    if (!best && set_in_vain(source, "predictor.best_tokens", "predictor.choose"))
        kv_config_warn(source, "predictor.best_tokens",
                       "without effect: only predictor.choose: best compares layers by a sample");
    if (t->predictor.table_start == KV_TABLE_START_FITTED && t->predictor.token_table != KV_TABLE_FULL &&
        set_in_vain(source, "predictor.table_start", "predictor.token_table"))
        kv_config_warn(source, "predictor.table_start",
                       "without effect: only predictor.token_table: full has a row for each token to fit");
    if (t->predictor.init == KV_START_LEAST_SQUARES) return;
    for (size_t i = best; i < sizeof fit / sizeof *fit; i++) // the choice has the ridge, too
        if (set_in_vain(source, fit[i], "predictor.init"))
            kv_config_warn(source, fit[i],
                           "without effect: only predictor.init: least_squares makes such a fit");
    if (t->train.steps == 0 && t->predictor.init == KV_START_RANDOM)
        kv_config_warn(
            source, "train.steps",
            "0 with predictor.init: random leaves the predictors random; more steps, or predictor.init: "
            "least_squares, make them of use");
}

void kv_train_config_doubts(const kv_config *source, const kv_train_config *config) {
    if (config->train.steps > 0) {
        doubt_schedule(source, config);
        doubt_rates(source, config);
        doubt_validation(source, config);
    }
    if (config->train.steps > 0) {
        doubt_kl(source, config);
        doubt_z_loss(source, config);
    }
    if (config->task != KV_TASK_KVP) return;
    if (config->train.steps > 0) doubt_losses(source, config);
    doubt_start(source, config);
}
