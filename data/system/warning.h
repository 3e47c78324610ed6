// What a user should know although the program goes on.
#pragma once

// One line on stderr: "PROGRAM: warning: TEXT". Each text once per process, however often it is said. TEXT says what
// was found, what comes of it, and what to do about it. What a name holds neither moves the cursor nor begins a line.
void kv_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
