// What a user should know although the program goes on.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// One line on stderr: "PROGRAM: warning: TEXT". Each text once per process, however often it is said. TEXT says what
// was found, what comes of it, and what to do about it. What a name holds neither moves the cursor nor begins a line.
void kv_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Whether so much of what was given is left out that one has to say so aloud: more than a tenth.
bool kv_much_is_lost(int64_t lost, int64_t all);
