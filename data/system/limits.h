// Limits that others set (ulimit, control groups, batch systems), looked at before they are hit: beyond some of them the
// system kills without a word, or a library does not come back.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

// Part of kv_console_start: room for the deepest calls of the libraries. A soft limit (ulimit -S -s) is raised; under a hard
// one that is too low the program ends with a line on stderr and status 1.
void kv_limits_raise_stack(void);
// The same for memory (ulimit -v, -d), once libraries have taken theirs: with next to none left they crash.
void kv_limits_need_memory(void);

// Whether n threads can run at the same time: KV_ERR_MEMORY with the limit that is in the way. OpenMP would end the program,
// naming none.
kv_status kv_limits_try_threads(int n, kv_error *err);

// What to add to an error's message: "" unless memory ran out (KV_ERR_MEMORY) under a limit on addresses that the message
// does not name. Returns text.
enum { KV_LIMITS_TEXT = 160 };
char *kv_limits_reason(const kv_error *err, char text[KV_LIMITS_TEXT]);
