// How fast this machine is now: what --dry-run works out times from.
#pragma once

#include <stdint.h>

// FLOP/s that it reaches in products of `rows` tokens (of 4096, where there are more) with weights of dim x dim; measured in a
// fraction of a second, which a signal to stop cuts short. 0: out of memory.
double kv_speed_measure(int64_t rows, int64_t dim);
