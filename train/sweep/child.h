// Programs that kvtrain starts: each in a process of its own, whose memory goes back to the system when it
// ends and whose failure is not ours.
#pragma once

#include "core/status.h"

#include <stddef.h>
#include <sys/types.h>

// This program's own file.
kv_status kv_own_program(char *path, size_t size, kv_error *err);

// Starts argv[0] (a path) with standard output closed to it and, when `log` is not NULL, standard error going
// to that file. n_threads > 0: with so many threads. The child is asked to stop (SIGTERM) when we die. A
// terminal's Ctrl-C reaches us alone: kv_child_wait passes it on, once.
// To be called by a program of one thread (no OpenMP loop before): when a program of several is killed, Linux
// asks its children once for each thread that dies, and asked again later means at once, without a checkpoint.
kv_status kv_child_start(const char *const *argv, const char *log, int n_threads, pid_t *child,
                         kv_error *err);

// Waits until one of pids[n] (0: none) has ended; its index, and its exit status or -signal in *code. A
// signal to stop that we have got is passed on to all of them; *told remembers that between calls.
size_t kv_child_wait(const pid_t *pids, size_t n, int *told, int *code);
