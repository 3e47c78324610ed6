// Memory that the ranks of a node have together: the first of them writes it, once, then all read it. What would otherwise
// lie in memory once a rank, as frozen weights do, lies there once a node.
//
// The pages are those of a file without a name (memfd_create), not of /dev/shm, which is small in containers; they are gone
// with the last process that has mapped them, however it ends. The other ranks find it through /proc, and may only read: a
// stray write ends the program instead of changing everybody's weights. So it does for the writer after kv_pages_seal.
//
// Huge pages: madvise(MADV_HUGEPAGE), which private memory asks for them by (kv_prefer_huge_pages), does nothing here unless
// an administrator allows it (/sys/kernel/mm/transparent_hugepage/shmem_enabled, by default "never"). From Linux 6.1 on
// MADV_COLLAPSE makes them all the same; where there is none, pages are small.
#pragma once

#include "core/api.h"

#include <stddef.h>
#include <stdint.h>

KV_API_BEGIN

typedef struct kv_pages kv_pages;

// Collective among the ranks of a node. size: bytes wanted, above 0, which is the first rank's to say; the others' is not looked
// at. NULL, then on all of the node, where they cannot share: one is alone, memory or file descriptors have run out, processes
// do not see each other (each in a container of its own), `ulimit -f` is too low.
kv_pages *kv_pages_create(size_t size);
// The first rank's to write until kv_pages_seal; then everybody's to read.
char *kv_pages_data(const kv_pages *pages);
// Of the first rank: to be called before bytes up to `end` are written. Memory is taken as it is written to, and this takes
// it in huge pages.
void kv_pages_reach(kv_pages *pages, size_t end);
// Collective among the ranks of a node: all has been written.
void kv_pages_seal(kv_pages *pages);
// Of this rank alone. pages: a kv_pages, or NULL.
void kv_pages_free(void *pages);

// How many bytes this rank has in pages that others of its node have, too.
int64_t kv_pages_bytes(void);
// ", 2.16 GB of it once a node" into text; "" where there is nothing.
enum { KV_PAGES_TEXT = 64 };
char *kv_pages_text(char text[KV_PAGES_TEXT]);

KV_API_END
