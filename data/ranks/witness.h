// A small process beside rank 0 that sees who dies. It is none of the ranks, since those may all go at once: MPICH's mpiexec kills
// the others, rank 0 among them, within microseconds of a death, and what it prints names the wrong one.
#pragma once

#include <sys/types.h>

// Starts one, to be called before MPI is: a fork later could harm what MPI has registered with a network card. *link: the socket
// to it. It ends on its own: once told that nothing is to be watched or all have left, or when the other side of the link is
// closed before it was told anything. Where nobody tells it anything for two minutes, since other ranks do not start, it says
// so and kills the process it belongs to. Its id, -1 (errno): it cannot be started.
pid_t kv_witness_start(int *link);

// What such processes have in common. In the child, after a fork: it keeps this descriptor, which gets another number, and standard
// error, and no terminal or launcher stops it.
void kv_witness_part(int *link);
// One line on standard error, "PROGRAM: TEXT", in one write.
void kv_witness_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
