// A bump allocator for everything that lives for one step: activations, saved values, gradients, scratch.
//
// Memory is taken from the system in chunks, which are kept over resets and used again in the same order:
// from the second step of the same shape on nothing is allocated. Each new chunk is at least as large as all
// before it together, so there are few. Not thread-safe: allocate outside parallel regions.
#pragma once

#include "core/api.h"

#include <stddef.h>
#include <stdint.h>

KV_API_BEGIN

typedef struct kv_arena kv_arena;

typedef struct kv_arena_mark {
    void *chunk;
    size_t used;
} kv_arena_mark;

// NULL when out of memory. The caller owns the arena and frees it with kv_arena_free (which accepts NULL).
kv_arena *kv_arena_create(void);
void kv_arena_free(kv_arena *arena);

// `size` bytes aligned to 64, not cleared; NULL when out of memory. Valid until the arena is reset, freed, or
// released to a mark taken before this call.
void *kv_arena_alloc(kv_arena *arena, size_t size);

// n float32 values, not cleared; NULL when out of memory or when n is negative or too large.
float *kv_arena_floats(kv_arena *arena, int64_t n);

// Everything allocated after kv_arena_get_mark is given back by kv_arena_release.
kv_arena_mark kv_arena_get_mark(const kv_arena *arena);
void kv_arena_release(kv_arena *arena, kv_arena_mark mark);

// Gives back everything.
void kv_arena_reset(kv_arena *arena);

// Bytes held from the system, and the most that was in use at one time since creation.
size_t kv_arena_capacity(const kv_arena *arena);
size_t kv_arena_peak(const kv_arena *arena);

// Asks the system to back memory with large pages: a large block then touches hundreds of times fewer, and
// finds them faster; memory touched for the first time is what the first steps of a large model's training
// wait for. A wish, which changes nothing but speed; blocks of less than a few MB are left as they are. To be
// called before the memory is written.
void kv_prefer_huge_pages(void *memory, size_t size);

KV_API_END
