// Chunks in a list, and a pointer that moves through them. What is given back stays in the list for the next
// step, so that a step of a shape seen before asks the system for nothing.
#include "core/arena.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64 };
static const size_t MIN_CHUNK = (size_t)1 << 20;

// Chunks form a list, oldest first; those behind `current` are empty.
struct chunk {
    struct chunk *next;
    size_t size, used;
    size_t before; // bytes in use in all older chunks while this one is current
    char *data;
};

struct kv_arena {
    struct chunk *first, *current;
    size_t capacity, peak;
};

kv_arena *kv_arena_create(void) {
    return calloc(1, sizeof(kv_arena));
}

void kv_arena_free(kv_arena *arena) {
    if (!arena) return;
    for (struct chunk *c = arena->first, *next; c; c = next) {
        next = c->next;
        free(c->data);
        free(c);
    }
    free(arena);
}

static struct chunk *add_chunk(kv_arena *arena, size_t size) {
    struct chunk *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->data = aligned_alloc(ALIGNMENT, size);
    if (!c->data) {
        free(c);
        return NULL;
    }
    kv_prefer_huge_pages(c->data, size);
    c->size = size;
    struct chunk *last = arena->current;
    if (last) {
        c->next = last->next;
        last->next = c;
    } else {
        c->next = arena->first;
        arena->first = c;
    }
    arena->capacity += size;
    return c;
}

// The next chunk that has room, a new one if none has. Each new chunk is at least as large as all before
// together, so that a step of any size needs few.
static struct chunk *advance(kv_arena *arena, size_t size) {
    struct chunk *c = arena->current;
    size_t before = c ? c->before + c->used : 0;
    struct chunk *next = c ? c->next : arena->first;
    if (!next || next->size < size) {
        size_t wanted = arena->capacity > MIN_CHUNK ? arena->capacity : MIN_CHUNK;
        next = add_chunk(arena, size > wanted ? size : wanted);
        if (!next) return NULL;
    }
    next->used = 0;
    next->before = before;
    return arena->current = next;
}

void *kv_arena_alloc(kv_arena *arena, size_t size) {
    if (size > SIZE_MAX / 2) return NULL;
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size == 0) size = ALIGNMENT;
    struct chunk *c = arena->current;
    if (!c || c->size - c->used < size) c = advance(arena, size);
    if (!c) return NULL;
    void *memory = c->data + c->used;
    c->used += size;
    if (c->before + c->used > arena->peak) arena->peak = c->before + c->used;
    return memory;
}

float *kv_arena_floats(kv_arena *arena, int64_t n) {
    if (n < 0 || (uint64_t)n > SIZE_MAX / 8) return NULL;
    return kv_arena_alloc(arena, (size_t)n * sizeof(float));
}

kv_arena_mark kv_arena_get_mark(const kv_arena *arena) {
    return (kv_arena_mark){.chunk = arena->current, .used = arena->current ? arena->current->used : 0};
}

void kv_arena_release(kv_arena *arena, kv_arena_mark mark) {
    arena->current = mark.chunk;
    if (arena->current) arena->current->used = mark.used;
}

// Chunks stay as they are: one large chunk in their place would be fresh memory, and a large model's step
// spends longer on touching that for the first time than on its products.
void kv_arena_reset(kv_arena *arena) {
    arena->current = NULL;
}

size_t kv_arena_capacity(const kv_arena *arena) {
    return arena->capacity;
}
size_t kv_arena_peak(const kv_arena *arena) {
    return arena->peak;
}

void kv_prefer_huge_pages(void *memory, size_t size) {
    const size_t page = (size_t)1 << 21;
    const size_t before = (page - (uintptr_t)memory % page) % page; // to the first whole page
    if (!memory || size < before + page) return;
    madvise((char *)memory + before, (size - before) / page * page, MADV_HUGEPAGE);
}
