// How much memory there is, for errors that come before the work does.
#pragma once

#include <stdint.h>

// Bytes that new allocations can have without swapping (Linux's MemAvailable); INT64_MAX where nobody says.
int64_t kv_memory_available(void);
