// One program on its way: how it is started inside the sandbox (eval/sandbox/sandbox.h) and what is held of
// it outside.
#pragma once

#include "eval/sandbox/filter.h"
#include "eval/sandbox/sandbox.h"

#include <limits.h>
#include <sys/types.h>

// The word that proves that a program ran to its end, in hex digits.
enum { KV_SANDBOX_WORD = 32 };

enum { KV_SANDBOX_LINKS = 6 };

// What every program of a sandbox is started with.
typedef struct kv_sandbox_setup {
    kv_sandbox_options options;
    char bwrap[PATH_MAX], setpriv[PATH_MAX], python[PATH_MAX];
    // /bin, /lib and the like: links into /usr, or directories ("" as target) on systems that keep them
    // apart.
    struct {
        char path[16], target[64];
    } links[KV_SANDBOX_LINKS];
    int n_links;
    // Root starts programs as users of its own, first_user + worker: the limit on processes does not hold for
    // root. 0: they are the caller's.
    uid_t first_user;
    unsigned char filter[KV_FILTER_BYTES];
    size_t filter_size;
} kv_sandbox_setup;

// Finds the programs and the users. KV_ERR_IO says what to install.
kv_status kv_sandbox_setup_find(const kv_sandbox_options *options, kv_sandbox_setup *setup, kv_error *err);

// Descriptors are -1 where there is none; those that are read do not block.
typedef struct kv_sandbox_process {
    pid_t pid;      // our child: bwrap, or Python where there is no sandbox
    int self;       // descriptor of that process
    int inner;      // and of the first process inside, whose end is the end of all others there
    int info;       // bwrap says here who that is
    int go;         // closed to let it run
    int out, error; // standard output and error
    int result;     // "R" when the program begins, the word when it has ended
    char word[KV_SANDBOX_WORD + 1];
    char dir[PATH_MAX]; // temporary directory where there is no sandbox
} kv_sandbox_process;

// Starts a program for a worker in [0, workers). On failure nothing is left.
kv_status kv_sandbox_process_start(const kv_sandbox_setup *setup, int64_t worker, const kv_program *program,
                                   kv_sandbox_process *process, kv_error *err);

// Takes in text that bwrap wrote to `info` and, once the process inside is known, lets it run.
void kv_sandbox_process_told(kv_sandbox_process *process, const char *info);

// Ends it with all its processes, without waiting. Whoever is inside is preferred to bwrap, which then
// follows and reports: without its parent a process inside might get away while the sandbox is still being
// built.
void kv_sandbox_process_kill(const kv_sandbox_process *process);

// Waits for a process that has ended, and for the first one inside, closes what is open and removes its
// directory. Returns what waitpid told. The caller has to be a subreaper (prctl) from start to finish.
int kv_sandbox_process_finish(kv_sandbox_process *process);
