// Asking the system for large pages.
#pragma once

#include <stddef.h>

// A large block touches hundreds of times fewer pages, and finds them faster, where the system backs it with
// huge ones: memory touched for the first time is what the first steps of a large model's training wait for.
// A wish, which changes nothing but speed; blocks of less than a few MB are left as they are. To be called
// before the memory is written.
void kv_prefer_huge_pages(void *memory, size_t size);
