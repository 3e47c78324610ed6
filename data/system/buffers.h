// Lists that grow at their end.
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

KV_API_BEGIN

// Room for one more element behind list[n] of `size` bytes each: the list, moved perhaps; NULL when out of
// memory, the list then is as it was. For lists that grow by one and only through this function: the room is
// always the power of two that holds n, so that nobody has to keep it. NULL is the list of none.
//
//     struct fact *more = kv_room_for_one(facts->items, facts->n, sizeof *more);
//     if (!more) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
//     facts->items = more;
//     more[facts->n++] = fact;
void *kv_room_for_one(void *list, size_t n, size_t size);

// Bytes and token ids. All zeros is an empty list; free with kv_bytes_free and kv_ids_free, which leave an
// empty one behind.
typedef struct kv_bytes {
    char *data; // NULL or [capacity]
    size_t length, capacity;
} kv_bytes;

typedef struct kv_ids {
    int32_t *data;
    size_t length, capacity;
} kv_ids;

// KV_ERR_MEMORY leaves the list as it was.
kv_status kv_bytes_reserve(kv_bytes *bytes, size_t more, kv_error *err);
kv_status kv_bytes_add(kv_bytes *bytes, const char *data, size_t length, kv_error *err);
// Adds data[length] with every `pattern`, which is not empty, replaced by `content`.
kv_status kv_bytes_add_replaced(kv_bytes *bytes, const char *data, size_t length, const char *pattern,
                                const char *content, kv_error *err);
kv_status kv_ids_reserve(kv_ids *ids, size_t more, kv_error *err);
kv_status kv_ids_add(kv_ids *ids, int32_t id, kv_error *err);

void kv_bytes_free(kv_bytes *bytes);
void kv_ids_free(kv_ids *ids);

KV_API_END
