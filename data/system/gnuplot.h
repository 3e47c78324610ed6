// Running gnuplot, without a shell.
#pragma once

#include "core/status.h"

#include <stddef.h>

// `script`, a file in `dir`, silently; *exit_status as waitpid gives it. 0, or the errno value that says why
// it did not run (ENOENT: it is not installed).
int kv_gnuplot_file(const char *dir, const char *script, int *exit_status);

// A script given as text; *output, NUL-terminated, is what it printed (the caller frees it). KV_ERR_IO
// says why there is none: gnuplot is not installed, or failed.
kv_status kv_gnuplot_text(const char *script, size_t size, char **output, kv_error *err);

// "gnuplot is not installed (package gnuplot-nox)" or what else such an errno value means, into text.
char *kv_gnuplot_why(int failure, char text[128]);
