// Paths that name the seed: `{seed}` in them stands for the configuration's own, so that one file describes the runs of
// all seeds. Nothing else in braces is special.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <yaml.h>

bool kv_seed_in(const char *path);

// The path with the number in all such places. Caller frees; NULL when out of memory.
char *kv_seed_path(const char *path, const char *seed);

// Does so with the texts at keys[], NULL ends them, by the value that stands at key `seed`; "a[].b": of every entry of
// the list. What is not there, or no single value, stays as it is; without a seed all does.
kv_status kv_seed_put(yaml_document_t *doc, const char *const *keys, kv_error *err);
