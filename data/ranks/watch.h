// Who is still there: what MPI does not tell those who wait.
#pragma once

#include "data/ranks/transport.h"

// Connects the ranks; to be called before standard error is sent elsewhere. Collective.
void kv_watch_start(const kv_transport *transport, const kv_ranks_place *place);
// All is well so far, this rank is about to leave MPI.
void kv_watch_end(void);
// This rank alone has failed: all end, this one too. Does not return.
_Noreturn void kv_watch_failed(const char *message, int code);
// The same for what nothing can be agreed on any more, as MPI fails itself. Does not return.
_Noreturn void kv_watch_fatal(const char *line);
// exit() was called somewhere, on this rank or on all.
void kv_watch_exits(void);
