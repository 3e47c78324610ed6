// predictor.choose: best. Which layers of the aux each map reads is found out on a sample of the text, before
// anything is learned, and stands in the checkpoint from then on.
//                                                     [core/predictor/best.h, core/README.md §9: "best k"]
#pragma once

#include "train/task/start_pass.h"

// plan: as many sources of each output as are wanted, the near ones in place of the best. Writes those that explain
// most of each output, keys and values apart, into *spec, which comes as the plan's. Sources that name their layer stay.
// Prints what each chosen layer explains alone, and leaves it of all layers in best_layers.json in config->output:
// tokens, ridge, and of keys and values by base layer the layers chosen, the best one first, and what every layer
// explains (fractions of 1; 0 where it is not compared). KV_ERR_INTERRUPTED when the user stops it. Collective: ranks share
// the reading (start_pass.h), rank 0 chooses for all and writes the file. Errors are agreed on.
kv_status kv_choose_sources(const kv_start_args *args, const kv_predictor *plan, kv_predictor_spec *spec,
                            kv_error *err);

// Whether `made` is the plan, but for which layers of the aux its sources are of.
bool kv_choice_of(const kv_predictor_config *config, const kv_predictor_spec *plan,
                  const kv_predictor_spec *made);

// Products of all of it, and the bytes of its sums and of adding a micro-batch; 0 where nothing can be compared.
double kv_choice_flops(const kv_start_args *args, const kv_predictor *plan);
double kv_choice_bytes(const kv_start_args *args, const kv_predictor *plan, const kv_kvp_known *known);
