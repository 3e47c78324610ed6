// Files of one directory that belong together: all of them take their places, or none.
//
//     kv_whole_set set;
//     kv_status status = kv_whole_set_begin(&set, "runs/atlas", err);
//     if (!status) status = write_files(set.staged.path, err);   // as if that were runs/atlas
//     return kv_whole_set_end(&set, NULL, 0, status, err);
//
// Nothing takes its place before everything has been written and flushed to disk. What a crash (a power cut,
// a kill) leaves depends on the directory:
//   - One that was new appears in one step: it is there with all files, or not at all.
//   - In one that was there the files change places one after the other, each in one step. Between the first
//     and the last, some are new and some are old or missing; each is whole. The others, new or old, lie in
//     DIRECTORY/.new.tmp.PID.NUMBER, which may be deleted. Writing the set again puts everything right.
#pragma once

#include "data/file/whole_file.h"

#include <stdio.h>

typedef struct kv_whole_set {
    kv_whole_file staged;     // its path is an empty directory: where to write the files now
    char directory[PATH_MAX]; // where they will be
} kv_whole_set;

// Missing parents are created. On failure the struct is empty.
kv_status kv_whole_set_begin(kv_whole_set *set, const char *directory, kv_error *err);

// Everything in staged.path takes its place; what else lies in the directory stays, but for those of
// stale[n_stale], file names, that the set does not hold: they are removed with the change. On failure, also
// of the last step, the directory is as it was. The struct is empty afterwards.
kv_status kv_whole_set_commit(kv_whole_set *set, const char *const *stale, int n_stale, kv_error *err);
void kv_whole_set_abandon(kv_whole_set *set);

// What `status`, that of writing, asks for: commit, or abandon and return it. The message in *err then speaks
// of the directory wherever it spoke of staged.path.
kv_status kv_whole_set_end(kv_whole_set *set, const char *const *stale, int n_stale, kv_status status,
                           kv_error *err);

// Writes file number `index`; false when that failed (with errno where a write did, else out of memory).
typedef bool kv_whole_set_fn(void *context, int index, FILE *file);

// A set of names[n] written by a function, one after the other. A signal to stop is KV_ERR_INTERRUPTED, after
// which, as after any failure, the directory is as it was.
kv_status kv_whole_set_write(const char *directory, const char *const *names, int n, kv_whole_set_fn *write,
                             void *context, kv_error *err);
