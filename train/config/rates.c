// One table says which key belongs to which group.
#include "train/config/rates.h"

static const char *const keys[KV_N_GROUPS] = {[KV_GROUP_MAPS] = "train.lr",
                                              [KV_GROUP_MODEL] = "train.lr_aux",
                                              [KV_GROUP_TABLES] = "train.lr_table",
                                              [KV_GROUP_QUERIES] = "train.lr_queries"};

kv_group kv_main_group(kv_task_kind task) {
    return task == KV_TASK_LM ? KV_GROUP_MODEL : KV_GROUP_MAPS;
}

const char *kv_rate_key(kv_task_kind task, kv_group group) {
    return task == KV_TASK_LM ? "train.lr" : keys[group];
}

const char *kv_rate_name(kv_task_kind task, kv_group group) {
    return kv_rate_key(task, group) + sizeof "train." - 1;
}

bool kv_train_has_group(const kv_train_config *train, kv_group group) {
    const bool lm = train->task == KV_TASK_LM;
    switch (group) {
    case KV_GROUP_MAPS: return !lm;
    case KV_GROUP_MODEL: return lm || !train->freeze_aux;
    case KV_GROUP_TABLES: return !lm && train->predictor.token_table != KV_TABLE_NONE;
    case KV_GROUP_QUERIES: return !lm && train->predictor.adapt != KV_ADAPT_NONE;
    case KV_N_GROUPS: break;
    }
    return false;
}

bool kv_train_scales_rates(const kv_train_config *train) {
    return train->task == KV_TASK_KVP && train->predictor.init == KV_START_LEAST_SQUARES &&
           train->predictor.rates == KV_RATES_RESIDUAL;
}

double kv_train_peak(const kv_train_config *train, kv_group group) {
    const kv_steps_config *s = &train->train;
    const double peaks[KV_N_GROUPS] = {[KV_GROUP_MAPS] = s->lr,
                                       [KV_GROUP_MODEL] = s->lr_aux,
                                       [KV_GROUP_TABLES] = s->lr_table,
                                       [KV_GROUP_QUERIES] = s->lr_queries};
    return train->task == KV_TASK_LM ? s->lr : peaks[group];
}

kv_schedule kv_train_schedule(const kv_train_config *train, kv_group group) {
    const kv_steps_config *s = &train->train;
    const double peak = kv_train_peak(train, group), share = s->lr > 0 ? peak / s->lr : 1;
    if (peak == 0) return (kv_schedule){.total_steps = s->steps};
    return (kv_schedule){.peak = peak,
                         .warmup_init = share * s->warmup_init,
                         .end = s->lr > 0 ? share * s->lr_end : peak / 10,
                         .warmup_steps = s->warmup_steps,
                         .total_steps = s->steps};
}
