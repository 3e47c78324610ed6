// The processes that share one piece of work: ranks 0 .. n - 1, as an MPI launcher (mpirun, mpiexec, srun) has started
// them, on one machine or many. A program that was started by hand is alone, which is rank 0 of 1: then nothing here costs
// anything, and no MPI library is loaded.
//
//   int main(int argc, char **argv) {
//       kv_console_start(argv);
//       kv_error err = {0};
//       kv_status status = kv_ranks_start(&err);              // joins the others
//       if (status == KV_OK) status = read_files(&err);       // each on its own: may fail on one of them alone
//       status = kv_ranks_agree(status, &err);                // now all have failed, with that one's message, or none
//       if (status == KV_OK) status = work(&err);             // kv_ranks_sum, kv_ranks_gather, ...
//       return kv_ranks_end(report(status, &err));            // what is printed, rank 0 prints
//   }
//
// Calls marked "collective" are made by all ranks in the same order; before each, whatever could have failed on one rank
// alone has been agreed on, so that none waits for one that has gone. They return when all is well: where the network or MPI
// fails, and where a rank has died (data/ranks/watch.h), the process ends there with a line that says who and where.
//
// Standard output and error of all ranks but 0 lead to /dev/null (KV_RANKS_LOUD=1 keeps them): what every rank would say is
// said once.
#pragma once

#include "core/api.h"
#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

KV_API_BEGIN

// Joins the others. To be called once, from main's thread, before there are others. KV_ERR_MISMATCH, on all, where they are not all
// the same program. KV_ERR_ARGUMENT where a launcher
// has started several processes but this build, or this machine, has no MPI of its kind: they would all do the same work and
// write the same files. KV_MPI=alone|openmpi|mpich says which to use instead of looking for signs of a launcher.
kv_status kv_ranks_start(kv_error *err);
// To be called last, with the exit code, which is returned. Collective where all ranks end in the same way (with 0, or after
// a failure that was agreed on). Where this one alone has failed it ends the others, too, and shows what
// kv_ranks_last_words was told.
int kv_ranks_end(int code);
// What has gone wrong on this rank alone, for kv_ranks_end to say; it names rank and host by itself.
void kv_ranks_last_words(const char *message);

int kv_rank(void);        // 0 .. kv_n_ranks() - 1
int kv_n_ranks(void);     // 1: alone
bool kv_rank_leads(void); // rank 0: it shows progress and writes files
const char *kv_rank_host(int rank);

// Ranks of one machine ("node"), which can share memory: numbered 0 .. kv_node_ranks() - 1 in the order of their ranks.
int kv_node_rank(void);
int kv_node_ranks(void);
int kv_n_nodes(void);

// "alone", "Open MPI v4.1.4, ..."
const char *kv_ranks_library(void);

// The part of n things that is rank r's: [kv_share_begin(n, r), kv_share_begin(n, r + 1)). Shares differ by one at most.
static inline int64_t kv_share_begin_of(int64_t n, int n_ranks, int rank) {
    return n / n_ranks * rank + (n % n_ranks < rank ? n % n_ranks : rank);
}
static inline int64_t kv_share_begin(int64_t n, int rank) {
    return kv_share_begin_of(n, kv_n_ranks(), rank);
}

// ---- Agreement -----------------------------------------------------------------------------------------

// Collective. KV_OK where all ranks say so. Otherwise, on all of them, the status and message of the lowest rank that does
// not, which "rank 2 (host): " precedes if it is not alone. An interruption (KV_ERR_INTERRUPTED) yields to any other failure.
kv_status kv_ranks_agree(kv_status status, kv_error *err);

// Whether the last failure was agreed on, so that rank 0 has its message; true for a process that is alone.
bool kv_ranks_failed_together(void);

// Collective: whether any rank was asked to stop (data/system/console.h). A signal that reached one of them counts for all
// from then on: kv_console_signal() is the same everywhere.
bool kv_ranks_interrupted(void);

// Collective. KV_OK where `hash` is the same on all ranks; else KV_ERR_MISMATCH, on all of them, naming the first rank whose
// hash differs from rank 0's, and `what` differs.
kv_status kv_ranks_same(const char *what, const char *hash, kv_error *err);

// ---- Collectives ---------------------------------------------------------------------------------------

void kv_ranks_barrier(void);
// data of `from`, on all.
void kv_ranks_broadcast(void *data, size_t size, int from);
// all[n_ranks · size]: what each rank calls `mine`, by rank.
void kv_ranks_gather(const void *mine, size_t size, void *all);
// values[n] become the sums over ranks, added in the order of the ranks: the same bits on all.
void kv_ranks_sum(double *values, int64_t n);
// Texts (or any bytes) of different sizes, on rank 0 alone: *all is what the ranks called `mine`, end to end, sizes[n_ranks]
// how long each is; the caller frees *all. Elsewhere *all is NULL. Agreed on: out of memory on rank 0 is everybody's.
kv_status kv_ranks_collect(const void *mine, size_t size, char **all, size_t *sizes, kv_error *err);
// From one rank to another; both call. The receiver knows the size.
void kv_ranks_send(const void *data, size_t size, int to);
void kv_ranks_receive(void *data, size_t size, int from);
// Of one node: collective among its ranks.
void kv_node_barrier(void);
void kv_node_broadcast(void *data, size_t size, int from);

// ---- While something else is computed ------------------------------------------------------------------

// Begun by all ranks in the same order, each waited for in the end. They get on only while somebody asks
// (kv_ranks_done, kv_ranks_wait), from main's thread. What they read and write belongs to them until then.
typedef struct kv_ranks_request kv_ranks_request;

// values[begins[n_ranks]] are cut at begins[n_ranks + 1]: piece r goes to rank r. received[n_ranks][piece size of this rank]: what
// all sent, by rank.
kv_ranks_request *kv_ranks_begin_scatter(const float *values, const int64_t *begins, float *received);
// Piece r of values is rank r's: all get all pieces.
kv_ranks_request *kv_ranks_begin_spread(float *values, const int64_t *begins);
bool kv_ranks_done(kv_ranks_request *request);
// Frees it; NULL is nothing to wait for.
void kv_ranks_wait(kv_ranks_request *request);
// What to do between two looks at several of them of which none is done: *looks, 0 at first, counts them, and lets the rests
// grow.
void kv_ranks_rest(int64_t *looks);

KV_API_END
