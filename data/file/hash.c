#include "data/file/hash.h"

#include <stdio.h>
#include <string.h>

static const uint64_t prime1 = 0x9E3779B185EBCA87u, prime2 = 0xC2B2AE3D27D4EB4Fu,
                      prime3 = 0x165667B19E3779F9u, prime4 = 0x85EBCA77C2B2AE63u,
                      prime5 = 0x27D4EB2F165667C5u;

static uint64_t rotate_left(uint64_t x, int bits) {
    return (x << bits) | (x >> (64 - bits));
}

// Little-endian whatever the machine, so that hashes kept in files travel.
static uint64_t read_le(const unsigned char *p, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = (value << 8) | p[i];
    return value;
}

static uint64_t mix_lane(uint64_t lane, uint64_t input) {
    return rotate_left(lane + input * prime2, 31) * prime1;
}

static uint64_t merge_lane(uint64_t hash, uint64_t lane) {
    return (hash ^ mix_lane(0, lane)) * prime1 + prime4;
}

// Four independent lanes over blocks of 32 bytes; *p is left behind the last whole block.
static uint64_t hash_blocks(uint64_t seed, const unsigned char **p, const unsigned char *end) {
    uint64_t lane[4] = {seed + prime1 + prime2, seed + prime2, seed, seed - prime1};
    for (; end - *p >= 32; *p += 32)
        for (int i = 0; i < 4; i++) lane[i] = mix_lane(lane[i], read_le(*p + 8 * i, 8));
    uint64_t hash = rotate_left(lane[0], 1) + rotate_left(lane[1], 7) + rotate_left(lane[2], 12) +
                    rotate_left(lane[3], 18);
    for (int i = 0; i < 4; i++) hash = merge_lane(hash, lane[i]);
    return hash;
}

uint64_t kv_hash64(uint64_t seed, const void *data, size_t size) {
    if (size == 0) data = "";
    const unsigned char *p = data, *end = p + size;
    uint64_t hash = size >= 32 ? hash_blocks(seed, &p, end) : seed + prime5;
    hash += size;
    for (; end - p >= 8; p += 8) hash = rotate_left(hash ^ mix_lane(0, read_le(p, 8)), 27) * prime1 + prime4;
    for (; end - p >= 4; p += 4) hash = rotate_left(hash ^ (read_le(p, 4) * prime1), 23) * prime2 + prime3;
    for (; p < end; p++) hash = rotate_left(hash ^ (*p * prime5), 11) * prime1;
    hash = (hash ^ (hash >> 33)) * prime2;
    hash = (hash ^ (hash >> 29)) * prime3;
    return hash ^ (hash >> 32);
}

void kv_hash_text(uint64_t hash, char out[17]) {
    snprintf(out, 17, "%016llx", (unsigned long long)hash);
}
