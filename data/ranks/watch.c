// The least there can be: a rank that fails says so and ends, and the launcher ends the others.
#include "data/ranks/watch.h"

#include "core/api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int own_stderr = STDERR_FILENO;
static kv_ranks_place here = {.n_ranks = 1};

void kv_watch_start(const kv_transport *transport, const kv_ranks_place *place) {
    (void)transport;
    here = *place;
    own_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
}

void kv_watch_end(void) {}

_Noreturn void kv_watch_failed(const char *message, int code) {
    char host[64] = "?";
    gethostname(host, sizeof host - 1);
    dprintf(own_stderr, "%s: rank %d (%s): %s\n", program_invocation_short_name, here.rank, host, message);
    _exit(code);
}

_Noreturn void kv_watch_fatal(const char *line) {
    kv_watch_failed(line, 1);
}

void kv_watch_exits(void) {}
