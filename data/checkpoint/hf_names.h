// Tensors of a checkpoint that are not called as in data/checkpoint/hf_layout.h: the model's own under other
// names, and those that are none of the model's.
#pragma once

#include "core/model.h"
#include "data/checkpoint/weights_file.h"

// Renames the tensors to what the set calls them: without "model." where the layers were saved alone, behind
// what torch.compile ("_orig_mod."), DataParallel ("module.") and PEFT ("base_model.model.") put in front.
void kv_hf_rename(const kv_weights_set *set, const kv_model_spec *spec, kv_weights_tensor *tensors,
                  int64_t n);

// The judge of a kv_weights_request, with the kv_model_spec as its context. What lies in a part that is
// computed - a layer below n_layers, the embedding, the last norm, the head - is refused: a bias, a norm, an
// adapter or a scale that config.json does not speak of. Masks, positions and angles that old programs saved
// are skipped; all others (more layers, a value head, a vision tower) are left out.
kv_weights_verdict kv_hf_judge(const void *spec, const char *name);
