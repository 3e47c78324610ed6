// Whether ranks (data/ranks/ranks.h) were told the same. Each reads its configuration from its own machine.
#pragma once

#include "data/config/config.h"

// Collective, and no question for a process that is alone. KV_ERR_MISMATCH, on all ranks, names the first key whose value a rank
// has otherwise than rank 0, with its file and line there; keys of ignored[n_ignored] may differ.
kv_status kv_config_same(const kv_config *config, const char *const *ignored, size_t n_ignored,
                         kv_error *err);
