#include "data/system/buffers.h"

#include <stdlib.h>
#include <string.h>

// Room for `more` elements behind `length`, at least doubling, so that n additions cost n copies.
static kv_status grow(void **data, size_t *capacity, size_t length, size_t more, size_t size, kv_error *err) {
    if (more <= *capacity - length) return KV_OK;
    if (more > SIZE_MAX / size / 4 - length || length > SIZE_MAX / size / 8)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu more elements", more);
    size_t wanted = length + more < 2 * length ? 2 * length : length + more;
    if (wanted < 64) wanted = 64;
    void *larger = realloc(*data, wanted * size);
    if (!larger) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu bytes", wanted * size);
    *data = larger;
    *capacity = wanted;
    return KV_OK;
}

void *kv_room_for_one(void *list, size_t n, size_t size) {
    if (list && (n & (n - 1)) != 0) return list;
    size_t bytes;
    return __builtin_mul_overflow(n ? 2 * n : 1, size, &bytes) ? NULL : realloc(list, bytes);
}

kv_status kv_bytes_reserve(kv_bytes *bytes, size_t more, kv_error *err) {
    void *data = bytes->data;
    kv_status status = grow(&data, &bytes->capacity, bytes->length, more, 1, err);
    bytes->data = data;
    return status;
}

kv_status kv_bytes_add(kv_bytes *bytes, const char *data, size_t length, kv_error *err) {
    kv_status status = kv_bytes_reserve(bytes, length, err);
    if (status) return status;
    if (length) memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
    return KV_OK;
}

kv_status kv_bytes_add_replaced(kv_bytes *bytes, const char *data, size_t length, const char *pattern,
                                const char *content, kv_error *err) {
    const size_t pattern_length = strlen(pattern), content_length = strlen(content);
    const char *end = data + length;
    kv_status status = KV_OK;
    while (data < end && !status) {
        const char *match = memmem(data, (size_t)(end - data), pattern, pattern_length);
        status = kv_bytes_add(bytes, data, (size_t)((match ? match : end) - data), err);
        if (match && !status) status = kv_bytes_add(bytes, content, content_length, err);
        data = match ? match + pattern_length : end;
    }
    return status;
}

kv_status kv_ids_reserve(kv_ids *ids, size_t more, kv_error *err) {
    void *data = ids->data;
    kv_status status = grow(&data, &ids->capacity, ids->length, more, sizeof *ids->data, err);
    ids->data = data;
    return status;
}

kv_status kv_ids_add(kv_ids *ids, int32_t id, kv_error *err) {
    if (ids->length == ids->capacity) {
        kv_status status = kv_ids_reserve(ids, 1, err);
        if (status) return status;
    }
    ids->data[ids->length++] = id;
    return KV_OK;
}

void kv_bytes_free(kv_bytes *bytes) {
    free(bytes->data);
    *bytes = (kv_bytes){0};
}

void kv_ids_free(kv_ids *ids) {
    free(ids->data);
    *ids = (kv_ids){0};
}
