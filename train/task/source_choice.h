// predictor.choose: best. Which layers of the aux each map reads is found out on a sample of the text, before
// anything is learned, and stands in the checkpoint from then on.
#pragma once

#include "train/task/least_squares_start.h"

// plan: as many sources of each output as are wanted, the near ones in place of the best. Writes those that explain
// most of each output, keys and values apart, into *spec, which comes as the plan's. Sources that name their layer stay.
kv_status kv_choose_sources(const kv_least_squares_args *args, const kv_predictor *plan,
                            kv_predictor_spec *spec, kv_error *err);

// Whether `made` is the plan, but for which layers of the aux its sources are of.
bool kv_choice_of(const kv_predictor_spec *plan, const kv_predictor_spec *made);
