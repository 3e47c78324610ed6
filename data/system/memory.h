// How much memory there is to be had, and how much this process took.
#pragma once

#include <stdint.h>

// Bytes that could still be taken without swapping: MemAvailable of /proc/meminfo, or what is left to the
// control groups the process is in (v1 or v2, those above them included), whichever is least. Cached files
// count as free. `root` goes in front of every path that is read: "" but in tests. INT64_MAX where the system
// does not say.
int64_t kv_memory_available(const char *root);

// Bytes this process holds now, and the most it ever held (mapped files it read included). 0 where the system
// does not say.
int64_t kv_memory_held(void);
int64_t kv_memory_peak(void);
