// What an evaluation says that cannot come true although nothing about it is an error: a warning each, at the place where
// the key was set.
#pragma once

#include "eval/config/config.h"

// "FILE:LINE: key `a.b`: ..." as a warning.
void kv_eval_doubt(const kv_config *source, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Those that show in the configuration alone.
void kv_eval_config_doubts(const kv_config *source, const kv_eval_config *config);
