// Text that ends before the first stop string in it, when the text comes in pieces.
//
// Of several stop strings it is the one that is complete first; of those complete with the same byte the
// longest. How the text is cut into pieces makes no difference.
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

KV_API_BEGIN

typedef struct kv_stop_filter kv_stop_filter;

// stops[n], none of them empty, are borrowed. NULL when out of memory. Free with kv_stop_filter_free (accepts
// NULL).
kv_stop_filter *kv_stop_filter_create(const char *const *stops, size_t n);
void kv_stop_filter_free(kv_stop_filter *filter);

// The text that cannot be part of a stop string, whatever comes behind text[length]; NUL-terminated, *n
// bytes, valid until the next call. *stopped: a stop string is complete, and nothing comes any more.
kv_status kv_stop_filter_push(kv_stop_filter *filter, const char *text, size_t length, const char **out,
                              size_t *n, bool *stopped, kv_error *err);
// The same for the last piece, text[length] (none: 0), and what was held back because it could have been the
// beginning of a stop string. The filter may be used again from the start.
kv_status kv_stop_filter_finish(kv_stop_filter *filter, const char *text, size_t length, const char **out,
                                size_t *n, bool *stopped, kv_error *err);

// The same of a whole text, in place. Whether it was cut.
bool kv_cut_at_stop(char *text, const char *const *stops, size_t n);

KV_API_END
