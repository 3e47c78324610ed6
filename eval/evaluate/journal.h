// The records of one system on one task, written as they come, one JSON object a line: what an interrupted
// evaluation goes on from. To its own keys each line adds "task", "split", "system", "unit" (its number), "run" (a
// hash of what all answers depend on) and "asked" (one of what only this unit's does). Lines of another run, of
// units that are asked something else now, lines that were cut short and repeated units (the newest counts) are
// gone once the journal has been opened.
//
// Where several ranks answer, rank 0 writes to that journal, and every other one to its part of it: a file of its own
// beside the journal (SYSTEM.jsonl.rank-3), of the same kind of lines. Whoever opens a journal takes over what is in the parts of
// it that an evaluation left which did not come to its end, however many ranks it had, and removes them.
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct kv_journal kv_journal;

// Takes DIR/samples for this process, until *lock is closed (in the worst case by the end of the process).
// KV_ERR_IO when another one has it: two would write over each other.
kv_status kv_journal_lock(const char *dir, int *lock, kv_error *err);

typedef struct kv_journal_name {
    const char *task, *split, *system;
} kv_journal_name;

// Whose records they are.
typedef struct kv_journal_run {
    char hash[17]; // of everything that all of them depend on
    int64_t n_units;
    const uint64_t *asked; // [n_units] of what else each depends on; NULL: nothing. Not needed after opening.
    // There may be more units than these, as with a `limit`: their records stay in the file for those who ask them.
    bool part;
} kv_journal_run;

// Whole journals are for one process at a time: rank 0.
// DIR/samples/TASK-SPLIT/SYSTEM.jsonl, with "_" for what is not fit for a file's name (and then a hash of the
// name, so that no two are the same).
// On failure *journal is NULL. Close with kv_journal_close (accepts NULL).
kv_status kv_journal_open(const char *dir, const kv_journal_name *name, const kv_journal_run *run,
                          kv_journal **journal, kv_error *err);
void kv_journal_close(kv_journal *journal);

// Once it was opened: what rank `rank` writes to while others write to theirs. Of rank 0 that is the whole, which leaves all
// parts alone; of any other its part, anew and empty.
kv_status kv_journal_open_part(const char *dir, const kv_journal_name *name, const kv_journal_run *run,
                               int rank, kv_journal **journal, kv_error *err);
// The lines of such a part, once it is closed; the caller frees *lines.
kv_status kv_journal_read_part(const char *dir, const kv_journal_name *name, int rank, char **lines,
                               size_t *size, kv_error *err);
// Takes over such lines into the whole; those that do not belong there are left out. To be settled.
void kv_journal_take(kv_journal *journal, const char *lines, size_t size);
// Removes the parts of ranks 1 to n_ranks - 1, those that are there: the whole, settled, has all of them.
void kv_journal_drop_parts(const kv_journal *journal, int n_ranks);

// DIR/samples/TASK-SPLIT/skipped.json, anew: the items that no system is asked, which nothing else in there shows. NULL:
// there are none, and the file goes.
kv_status kv_journal_skipped(const char *dir, const kv_journal_name *name, const json_t *skipped,
                             kv_error *err);

// records[n_units]: NULL where there is none yet. Owned by the journal.
json_t *const *kv_journal_records(const kv_journal *journal);
int64_t kv_journal_done(const kv_journal *journal);
bool kv_journal_has(const kv_journal *journal, int64_t first, int64_t n); // all of them
// Those of them that are there are to be written anew.
void kv_journal_forget(kv_journal *journal, int64_t first, int64_t n);

// Leaves one line of each unit, in their order, where some were written anew or taken over: other programs count lines.
kv_status kv_journal_settle(kv_journal *journal, kv_error *err);

// Takes over records[n] of units [first, first + n), also on failure, and writes those that are new behind
// what the file holds.
kv_status kv_journal_add(kv_journal *journal, int64_t first, int64_t n, json_t **records, kv_error *err);
