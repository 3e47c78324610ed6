// Shell commands in the test's directory, and what they print: tests of programs that read like a session at a terminal.
#pragma once

#include "tests/support/support.h"

enum { SHELL_OUTPUT = 1 << 16 };

// What the last command printed.
extern char shell_out[SHELL_OUTPUT], shell_err[SHELL_OUTPUT];

// Makes the test's directory, $D; and $K, $T, $R and $E the programs that the environment names (KVDATA, KVTRAIN, KVRUN,
// KVEVAL).
void shell_set_up(void);

// Runs a command there; its exit status.
int shell(const char *command);

// Fails the test unless the command exits with 0; with `status` and words on standard error.
void shell_succeed(const char *command);
void shell_expect(const char *command, int status, const char *words);

// Fails the test unless the last one printed these words.
void shell_printed(const char *words);
