// Who is still there: what MPI does not tell those who wait. A rank that dies, or fails alone, ends all the others within
// seconds, with one line that says which one, where and why. What is being computed then is lost; files that are being written
// appear whole or not at all (data/file/whole_file.h).
//
// Every rank has a link, a TCP connection, to a small process beside rank 0 (witness.h), which the kernel closes when the rank
// dies, and which breaks within 10 seconds when its machine or the network vanishes. There are no heartbeats: a rank that is
// stopped or swapped out is not dead.
//
// Where the ranks cannot connect (ports that are closed), a warning says so, and only MPI's launcher notices deaths.
#pragma once

#include "data/ranks/transport.h"

// To be called before MPI starts, as long as this process has one thread.
void kv_watch_prepare(void);
// Connects the ranks; to be called before standard error is sent elsewhere. Collective. With one rank there is nobody to watch.
void kv_watch_start(const kv_transport *transport, const kv_ranks_place *place);
// This rank ends as agreed, with this exit status: waits, without taking a CPU's time, until all ranks have called it, or
// kv_watch_exits. Where the status is a failure and others go on all the same they end after a minute, with a line. To be called
// before MPI is left.
void kv_watch_end(int code);
// This rank alone has failed: all end with this exit status, this one too. Does not return. Allowed in a signal handler.
_Noreturn void kv_watch_failed(const char *message, int code);
// The same, with 1, for what nothing can be agreed on any more, as MPI fails itself. Does not return.
_Noreturn void kv_watch_fatal(const char *line);
// exit() was called on this rank. Where the others call it, too, it returns, and MPI can be left; else all end after a few seconds,
// with a line. false: nobody is watched, the launcher is left to notice.
bool kv_watch_exits(void);
