// A heap holds the merges that apply, and words that were seen are remembered: n log n for any word, and most
// words cost a look-up.
#include "data/tokenizer/bpe.h"

#include "data/file/hash.h"
#include "data/text/unicode.h"
#include "data/tokenizer/pretokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Without this uthash ends the program when out of memory.
#define HASH_NONFATAL_OOM             1
#define uthash_nonfatal_oom(new_rule) (new_rule)->unlisted = true
#include <uthash.h>

static const uint32_t no_rank = UINT32_MAX;

struct rule {
    uint64_t pair; // left << 32 | right
    uint32_t rank;
    int32_t result;
    bool unlisted;
    UT_hash_handle hh;
};

struct kv_bpe {
    const kv_vocabulary *vocabulary;
    kv_bpe_options options;
    struct rule *rules, *by_pair;
    int32_t bytes[256]; // of the byte fallback; -1: no such piece
};

// ---- The merges ----------------------------------------------------------------------------------------

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static int32_t find_piece(const kv_bpe *bpe, const char *text, size_t length) {
    int32_t id = kv_vocabulary_find(bpe->vocabulary, text, length);
    return id >= 0 && bpe->options.hidden && bpe->options.hidden[id] ? -1 : id;
}

static const struct rule *find_rule(const kv_bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = pair_of(left, right);
    struct rule *found = NULL;
    HASH_FIND(hh, bpe->by_pair, &pair, sizeof pair, found);
    return found;
}

static bool add_rule(kv_bpe *bpe, const kv_merge *merge, uint32_t rank, struct rule *rule) {
    struct rule *old = NULL;
    *rule = (struct rule){.pair = pair_of(merge->left, merge->right), .rank = rank, .result = merge->result};
    HASH_FIND(hh, bpe->by_pair, &rule->pair, sizeof rule->pair, old);
    if (old) HASH_DEL(bpe->by_pair, old);
    HASH_ADD(hh, bpe->by_pair, pair, sizeof rule->pair, rule);
    return !rule->unlisted;
}

kv_status kv_bpe_create(const kv_vocabulary *vocabulary, const kv_merge *merges, size_t n,
                        const kv_bpe_options *options, kv_bpe **bpe, kv_error *err) {
    *bpe = NULL;
    kv_bpe *made = calloc(1, sizeof *made);
    if (made) made->rules = calloc(n + 1, sizeof *made->rules);
    bool complete = made && made->rules && n < no_rank;
    for (size_t i = 0; complete && i < n; i++)
        complete = add_rule(made, &merges[i], (uint32_t)i, &made->rules[i]);
    if (!complete) {
        kv_bpe_free(made);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu merges", n);
    }
    made->vocabulary = vocabulary;
    made->options = *options;
    for (int b = 0; b < 256; b++) {
        char spelt[8];
        snprintf(spelt, sizeof spelt, "<0x%02X>", b);
        made->bytes[b] = find_piece(made, spelt, 6);
    }
    *bpe = made;
    return KV_OK;
}

void kv_bpe_free(kv_bpe *bpe) {
    if (!bpe) return;
    HASH_CLEAR(hh, bpe->by_pair);
    free(bpe->rules);
    free(bpe);
}

// ---- Work space ----------------------------------------------------------------------------------------

// Part of a word that is one piece; merged with its left neighbour it is gone.
struct symbol {
    int32_t id;
    uint32_t rank; // of the merge with the next symbol
    int32_t result;
    uint32_t previous, next; // indices; `none` at the ends
};
static const uint32_t none = UINT32_MAX;

// Words up to this size, of up to so many ids, are remembered, each in the one slot its hash leads to.
enum { SLOT_BYTES = 40, SLOT_IDS = 8, N_SLOTS = 1 << 14 };
struct slot {
    uint8_t length, n;
    char word[SLOT_BYTES];
    int32_t ids[SLOT_IDS];
};

struct kv_bpe_work {
    struct symbol *symbols;
    uint64_t *heap; // rank << 32 | symbol: smallest first is lowest rank first, then leftmost
    size_t n_symbols, capacity, n_heap;
    struct slot slots[N_SLOTS];
};

kv_bpe_work *kv_bpe_work_create(void) {
    return calloc(1, sizeof(kv_bpe_work));
}

void kv_bpe_work_free(kv_bpe_work *work) {
    if (!work) return;
    free(work->symbols);
    free(work->heap);
    free(work);
}

// Every symbol enters the heap once, and every merge, of which there are fewer than symbols, adds up to two.
static kv_status reserve(kv_bpe_work *work, size_t n_symbols, kv_error *err) {
    if (n_symbols <= work->capacity) return KV_OK;
    struct symbol *symbols =
        n_symbols >= UINT32_MAX / 4 ? NULL : realloc(work->symbols, n_symbols * sizeof *symbols);
    if (symbols) work->symbols = symbols;
    uint64_t *heap = symbols ? realloc(work->heap, 3 * n_symbols * sizeof *heap) : NULL;
    if (heap) work->heap = heap;
    if (!heap) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a word of %zu bytes", n_symbols);
    work->capacity = n_symbols;
    return KV_OK;
}

static void heap_push(kv_bpe_work *work, uint64_t key) {
    size_t i = work->n_heap++;
    for (; i > 0 && work->heap[(i - 1) / 2] > key; i = (i - 1) / 2) work->heap[i] = work->heap[(i - 1) / 2];
    work->heap[i] = key;
}

static uint64_t heap_pop(kv_bpe_work *work) {
    uint64_t smallest = work->heap[0], last = work->heap[--work->n_heap];
    size_t i = 0;
    for (size_t child = 1; child < work->n_heap; child = 2 * i + 1) {
        if (child + 1 < work->n_heap && work->heap[child + 1] < work->heap[child]) child++;
        if (work->heap[child] >= last) break;
        work->heap[i] = work->heap[child];
        i = child;
    }
    work->heap[i] = last;
    return smallest;
}

// ---- One word ------------------------------------------------------------------------------------------

static void add_symbol(kv_bpe_work *work, int32_t id) {
    uint32_t i = (uint32_t)work->n_symbols++;
    work->symbols[i] =
        (struct symbol){.id = id, .rank = no_rank, .previous = i ? i - 1 : none, .next = i + 1};
}

static kv_status no_piece(const kv_bpe *bpe, const char *character, size_t n, kv_error *err) {
    kv_bytes byte = {0};
    kv_status status = KV_OK;
    if (bpe->options.byte_alphabet) status = kv_byte_alphabet_decode(character, n, &byte, err);
    const bool is_control = n == 1 && (unsigned char)*character < ' ';
    if (!status && byte.length != 1 && n > 0 && !is_control)
        status = kv_fail(err, KV_ERR_FORMAT, "the vocabulary has no piece for the character '%.*s'", (int)n,
                         character);
    else if (!status)
        status = kv_fail(err, KV_ERR_FORMAT, "the vocabulary has no piece for the byte 0x%02X",
                         (unsigned char)(byte.length == 1 ? *byte.data : *character));
    kv_bytes_free(&byte);
    return status;
}

// The symbols of one character of n bytes that has no piece of its own; n is 0 for an invalid byte.
static kv_status add_without_piece(const kv_bpe *bpe, kv_bpe_work *work, const char *character, size_t n,
                                   bool *unknown, kv_error *err) {
    bool spelt = bpe->options.byte_fallback;
    size_t bytes = n ? n : 1;
    for (size_t b = 0; spelt && b < bytes; b++) spelt = bpe->bytes[(unsigned char)character[b]] >= 0;
    if (spelt) {
        for (size_t b = 0; b < bytes; b++) add_symbol(work, bpe->bytes[(unsigned char)character[b]]);
        *unknown = false;
        return KV_OK;
    }
    if (bpe->options.unknown < 0) return no_piece(bpe, character, n, err);
    if (!*unknown || !bpe->options.fuse_unknown) add_symbol(work, bpe->options.unknown);
    *unknown = true;
    return KV_OK;
}

static kv_status spell(const kv_bpe *bpe, kv_bpe_work *work, const char *word, size_t length, kv_error *err) {
    bool unknown = false; // the symbol before
    work->n_symbols = 0;
    kv_status status = reserve(work, length, err);
    for (size_t i = 0; i < length && !status;) {
        int32_t point;
        size_t n = kv_utf8_next(word + i, length - i, &point);
        int32_t id = n ? find_piece(bpe, word + i, n) : -1;
        if (id >= 0) {
            add_symbol(work, id);
            unknown = false;
        } else {
            status = add_without_piece(bpe, work, word + i, n, &unknown, err);
        }
        i += n ? n : 1;
    }
    if (!status) work->symbols[work->n_symbols - 1].next = none;
    return status;
}

// Looks up what becomes of symbol i and its next one.
static void queue_pair(const kv_bpe *bpe, kv_bpe_work *work, uint32_t i) {
    struct symbol *left = &work->symbols[i];
    const struct rule *rule =
        left->next == none ? NULL : find_rule(bpe, left->id, work->symbols[left->next].id);
    left->rank = rule ? rule->rank : no_rank;
    if (!rule) return;
    left->result = rule->result;
    heap_push(work, (uint64_t)rule->rank << 32 | i);
}

static void merge_all(const kv_bpe *bpe, kv_bpe_work *work) {
    struct symbol *symbols = work->symbols;
    work->n_heap = 0;
    for (uint32_t i = 0; i < work->n_symbols; i++) queue_pair(bpe, work, i);
    while (work->n_heap > 0) {
        uint64_t key = heap_pop(work);
        uint32_t i = (uint32_t)key, rank = (uint32_t)(key >> 32);
        struct symbol *left = &symbols[i];
        if (left->rank != rank) continue; // gone, or its pair is another one by now
        struct symbol *right = &symbols[left->next];
        right->rank = no_rank;
        left->id = left->result;
        left->next = right->next;
        if (left->next != none) symbols[left->next].previous = i;
        queue_pair(bpe, work, i);
        if (left->previous != none) queue_pair(bpe, work, left->previous);
    }
}

static kv_status encode_anew(const kv_bpe *bpe, kv_bpe_work *work, const char *word, size_t length,
                             kv_ids *ids, kv_error *err) {
    int32_t whole = bpe->options.ignore_merges ? find_piece(bpe, word, length) : -1;
    if (whole >= 0) return kv_ids_add(ids, whole, err);
    kv_status status = spell(bpe, work, word, length, err);
    if (status) return status;
    merge_all(bpe, work);
    for (uint32_t i = 0; i != none && !status; i = work->symbols[i].next)
        status = kv_ids_add(ids, work->symbols[i].id, err);
    return status;
}

kv_status kv_bpe_encode(const kv_bpe *bpe, kv_bpe_work *work, const char *word, size_t length, kv_ids *ids,
                        kv_error *err) {
    if (length == 0) return KV_OK;
    if (length > SLOT_BYTES) return encode_anew(bpe, work, word, length, ids, err);
    struct slot *slot = &work->slots[kv_hash64(0, word, length) % N_SLOTS];
    size_t before = ids->length;
    if (slot->length == length && memcmp(slot->word, word, length) == 0) {
        kv_status status = kv_ids_reserve(ids, slot->n, err);
        for (size_t i = 0; !status && i < slot->n; i++) ids->data[ids->length++] = slot->ids[i];
        return status;
    }
    kv_status status = encode_anew(bpe, work, word, length, ids, err);
    size_t n = ids->length - before;
    if (status || n > SLOT_IDS) return status;
    *slot = (struct slot){.length = (uint8_t)length, .n = (uint8_t)n};
    memcpy(slot->word, word, length);
    memcpy(slot->ids, ids->data + before, n * sizeof *ids->data);
    return KV_OK;
}
