// A program at a terminal, which is the test. One at a time.
#pragma once

#include "tests/support/support.h"

#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>

enum { TERMINAL_WIDTH = 72, TERMINAL_HEIGHT = 24 };

typedef struct test_terminal {
    int control;
    pid_t child;
    char text[1 << 20]; // what was shown since `length` was set to 0, NUL-terminated
    size_t length;
} test_terminal;
extern test_terminal terminal;

// Some containers have no pseudo-terminals.
bool terminal_exists(void);
// Starts arguments[0] at a terminal that calls itself `term`; settings NULL: the system's own.
void terminal_start(const char *const *arguments, const char *term, const struct termios *settings);
void terminal_type(const char *text);
// Reads more; false at the end of what will come. Fails when nothing comes.
bool terminal_more(void);
// Everything up to the program's end; its exit status or -signal in *status.
char *terminal_until_end(int *status);
void terminal_expect_end(int status);
