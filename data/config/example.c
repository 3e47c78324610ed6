// An option that prints is done when it is read, as --help is.
#include "data/config/example.h"

#include "data/file/embedded.h"
#include "data/system/console.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const kv_embedded kv_example_files[];

void kv_example_print(struct argp_state *state, const char *name) {
    const kv_embedded *file = kv_example_files;
    while (file->name && strcmp(file->name, name) != 0) file++;
    if (!file->name) argp_error(state, "--example: '%s', expected lm, kvp or eval", name);
    kv_console_printout();
    fputs(file->text, stdout);
    if (kv_console_flush()) exit(0);
    fprintf(stderr, "%s: cannot write the output: %s\n", state->name, strerror(errno));
    exit(1);
}
