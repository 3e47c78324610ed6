// The learning rates of a training: each group of weights (core/tensor.h) has a peak of its own, and by it the schedule
// that train.lr, lr_end and the warm-up describe is stretched.
//                                                                                       [core/README.md §4, eq. 23]
#pragma once

#include "train/config/config.h"

// The group that train.lr is of: the model of task lm, the maps of task kvp.
kv_group kv_main_group(kv_task_kind task);
// The key that says a group's peak, such as "train.lr_aux". Task lm has one group, the model, and one rate, train.lr.
const char *kv_rate_key(kv_task_kind task, kv_group group);
// The same without "train.": the group's rate in metrics.jsonl.
const char *kv_rate_name(kv_task_kind task, kv_group group);

// Whether any weights of that group are trained.
bool kv_train_has_group(const kv_train_config *train, kv_group group);
// Whether a least-squares start says how fast each map, and the aux, is trained (train/task/start_rates.h).
bool kv_train_scales_rates(const kv_train_config *train);
double kv_train_peak(const kv_train_config *train, kv_group group);
// 0 throughout where the peak is: such a group stays as it is.
kv_schedule kv_train_schedule(const kv_train_config *train, kv_group group);
