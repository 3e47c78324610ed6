// A table, so that a file with many entries takes as long as it has entries, not as long as it has pairs of them.
#include "data/benchmark/seen.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// Without this uthash ends the program when out of memory.
#define HASH_NONFATAL_OOM              1
#define uthash_nonfatal_oom(new_entry) (new_entry)->unlisted = true
#include <uthash.h>

struct kv_seen {
    int64_t number;
    bool unlisted; // there was no memory to list it
    UT_hash_handle hh;
};

kv_status kv_seen_add(kv_seen **seen, const char *text, int64_t number, int64_t *before, kv_error *err) {
    const size_t length = strlen(text);
    kv_seen *entry;
    HASH_FIND(hh, *seen, text, length, entry);
    *before = entry ? entry->number : -1;
    if (entry) return KV_OK;
    entry = calloc(1, sizeof *entry);
    if (!entry) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a list of texts");
    entry->number = number;
    HASH_ADD_KEYPTR(hh, *seen, text, length, entry);
    if (!entry->unlisted) return KV_OK;
    free(entry);
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for a list of texts");
}

void kv_seen_free(kv_seen *seen) {
    kv_seen *entry, *next;
    HASH_ITER(hh, seen, entry, next) {
        HASH_DEL(seen, entry);
        free(entry);
    }
}
