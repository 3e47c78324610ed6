#include "core/huge_pages.h"

#include <stdint.h>
#include <sys/mman.h>

void kv_prefer_huge_pages(void *memory, size_t size) {
    const size_t page = (size_t)1 << 21;
    const size_t before = (page - (uintptr_t)memory % page) % page; // to the first whole page
    if (!memory || size < before + page) return;
    madvise((char *)memory + before, (size - before) / page * page, MADV_HUGEPAGE);
}
