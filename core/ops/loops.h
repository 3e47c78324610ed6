// Loops that all threads share where that is worth it. Where it is not, no region is opened: even `if (0)` of one costs
// a quarter of a microsecond, and three times that within another one (GCC's runtime), which is as much as a loop of a
// small model's operator itself takes.
#pragma once

#include <omp.h>

static inline bool kv_shared(bool worth) {
    return worth && omp_get_max_threads() > 1 && !omp_in_parallel();
}

// A loop over rows; and one over elements, which are vectors besides.
#define KV_ROW_LOOP(worth, ...)                                                                              \
    do {                                                                                                     \
        if (kv_shared(worth)) {                                                                              \
            _Pragma("omp parallel for schedule(static)") __VA_ARGS__                                         \
        } else {                                                                                             \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    } while (0)
#define KV_ELEMENT_LOOP(worth, ...)                                                                          \
    do {                                                                                                     \
        if (kv_shared(worth)) {                                                                              \
            _Pragma("omp parallel for simd schedule(static)") __VA_ARGS__                                    \
        } else {                                                                                             \
            _Pragma("omp simd") __VA_ARGS__                                                                  \
        }                                                                                                    \
    } while (0)
