// Ranges and consistency of an evaluation config, after its defaults are filled in. Only eval/config/config.c needs it.
#pragma once

#include "eval/config/config.h"

// KV_OK, or an error that names file, line and key.
kv_status kv_eval_config_check(const kv_config *config, const kv_eval_config *eval, kv_error *err);
