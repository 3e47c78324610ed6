// Small files that travel inside another one, as a tokenizer's do in a token shard: held in memory here.
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

KV_API_BEGIN

enum { KV_BUNDLE_FILES = 8, KV_BUNDLE_NAME = 64 };

typedef struct kv_bundled {
    char name[KV_BUNDLE_NAME]; // of a file: no directories
    char *bytes;               // [size]
    size_t size;
} kv_bundled;

// Zeroed: empty. Free with kv_bundle_free.
typedef struct kv_bundle {
    int n;
    kv_bundled files[KV_BUNDLE_FILES];
} kv_bundle;

// Takes bytes[size], which malloc made, over; they are freed on failure too. A name that is not that of a file in the
// directory itself, or one file too many, is KV_ERR_FORMAT.
kv_status kv_bundle_add(kv_bundle *bundle, const char *name, char *bytes, size_t size, kv_error *err);
size_t kv_bundle_bytes(const kv_bundle *bundle);
void kv_bundle_free(kv_bundle *bundle);

KV_API_END
