// A file in memory that has no name: /dev/shm may be too small for weights, and what has a name outlives a run that was killed.
#include "data/ranks/pages.h"

#include "data/ranks/ranks.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 // younger than Debian 12's headers
#endif

struct kv_pages {
    char *data;
    size_t size;    // as mapped: whole huge pages, where there are any
    size_t reached; // bytes from the beginning that have their memory
    char *room;     // what was mapped, of which data is the part that begins at a huge page
    size_t room_size;
};

static const size_t huge = (size_t)1 << 21;

static int64_t all_bytes;

int64_t kv_pages_bytes(void) {
    return all_bytes;
}

char *kv_pages_text(char text[KV_PAGES_TEXT]) {
    text[0] = '\0';
    if (all_bytes > 0) snprintf(text, KV_PAGES_TEXT, ", %.3g GB of it once a node", (double)all_bytes / 1e9);
    return text;
}

static size_t round_up(size_t size, size_t to) {
    return (size + to - 1) / to * to;
}

// ---- The file ------------------------------------------------------------------------------------------

// Where the first rank's file is, and what tells it from any other that lies there for whoever does not see that process.
struct offer {
    int64_t size; // 0: there is none
    int64_t process, descriptor;
    uint64_t device, inode;
};

// To grow a file beyond `ulimit -f` ends the process.
static bool may_grow(size_t size) {
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || size <= limit.rlim_cur;
}

static int make_file(size_t size, struct offer *offer) {
    struct stat found;
    const int file = may_grow(size) ? memfd_create("kv_pages", MFD_CLOEXEC) : -1;
    if (file < 0) return -1;
    if (ftruncate(file, (off_t)size) != 0 || fstat(file, &found) != 0) {
        close(file);
        return -1;
    }
    *offer = (struct offer){(int64_t)size, getpid(), file, found.st_dev, found.st_ino};
    return file;
}

static int open_file(const struct offer *offer) {
    char path[64];
    struct stat found;
    snprintf(path, sizeof path, "/proc/%lld/fd/%lld", (long long)offer->process,
             (long long)offer->descriptor);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    if (fstat(file, &found) == 0 && found.st_dev == offer->device && found.st_ino == offer->inode &&
        found.st_size == offer->size)
        return file;
    close(file);
    return -1;
}

// Huge pages can only be mapped at multiples of their size.
static bool map_file(kv_pages *pages, int file, bool writes) {
    pages->room_size = pages->size + huge;
    pages->room = mmap(NULL, pages->room_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages->room == MAP_FAILED) return false;
    char *at = pages->room + (huge - (uintptr_t)pages->room % huge) % huge;
    pages->data =
        mmap(at, pages->size, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    if (pages->data != MAP_FAILED) return true;
    munmap(pages->room, pages->room_size);
    return false;
}

// ---- Making and giving back ----------------------------------------------------------------------------

// Whether all ranks of the node say so.
static bool all_of_node(bool mine) {
    bool all = true;
    for (int r = 0; r < kv_node_ranks(); r++) {
        bool said = mine;
        kv_node_broadcast(&said, sizeof said, r);
        all = all && said;
    }
    return all;
}

kv_pages *kv_pages_create(size_t size) {
    const bool first = kv_node_rank() == 0;
    struct offer offer = {0};
    if (kv_node_ranks() == 1) return NULL;
    kv_pages *pages = calloc(1, sizeof *pages);
    int file = first && pages ? make_file(round_up(size, size < huge ? 1 : huge), &offer) : -1;
    kv_node_broadcast(&offer, sizeof offer, 0);
    if (!first && pages && offer.size > 0) file = open_file(&offer);
    if (pages) pages->size = (size_t)offer.size;
    const bool mapped = file >= 0 && map_file(pages, file, first), all = all_of_node(mapped);
    if (file >= 0) close(file); // all that will have opened it
    if (all) {
        all_bytes += offer.size;
        return pages;
    }
    if (mapped) munmap(pages->room, pages->room_size);
    free(pages);
    return NULL;
}

void kv_pages_free(void *given) {
    kv_pages *pages = given;
    if (!pages) return;
    munmap(pages->room, pages->room_size);
    all_bytes -= (int64_t)pages->size;
    free(pages);
}

// ---- Writing -------------------------------------------------------------------------------------------

char *kv_pages_data(const kv_pages *pages) {
    return pages->data;
}

// One small page is there in each huge one: of nothing at all none is made.
void kv_pages_reach(kv_pages *pages, size_t end) {
    const size_t from = pages->reached, to = round_up(end, huge);
    if (to <= from || to > pages->size) return;
    for (size_t at = from; at < to; at += huge) *(volatile char *)(pages->data + at) = 0;
    madvise(pages->data + from, to - from, MADV_COLLAPSE);
    pages->reached = to;
}

void kv_pages_seal(kv_pages *pages) {
    if (kv_node_rank() == 0) mprotect(pages->data, pages->size, PROT_READ);
    kv_node_barrier();
}
