// Texts that were met before, in lists of any length.
#pragma once

#include "core/status.h"

#include <stdint.h>

typedef struct kv_seen kv_seen; // NULL: none yet

// Remembers a text, which stays the caller's and must stay, under a number. *before: the number of an equal one that is
// known, which is kept; or -1.
kv_status kv_seen_add(kv_seen **seen, const char *text, int64_t number, int64_t *before, kv_error *err);
void kv_seen_free(kv_seen *seen);
