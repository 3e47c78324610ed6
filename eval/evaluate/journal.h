// The records of one system on one task, written as they come, one JSON object a line: what an interrupted
// evaluation goes on from. To its own keys each line adds "task", "split", "system", "unit" (its number) and
// "run" (a hash of everything the answer depends on). Lines of another run, lines that were cut short and
// repeated units do not count, and are gone once the journal has been opened.
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

// DIR/samples/TASK-SPLIT/SYSTEM.jsonl, with "_" for what is not fit for a file's name (and then a hash of the
// name, so that no two are the same).
// On failure *journal is NULL. Close with kv_journal_close (accepts NULL).
kv_status kv_journal_open(const char *dir, const kv_journal_name *name, const char run[17], int64_t n_units,
                          kv_journal **journal, kv_error *err);
void kv_journal_close(kv_journal *journal);

// DIR/samples/TASK-SPLIT/skipped.json, anew: the items that no system is asked, which nothing else in there shows. NULL:
// there are none, and the file goes.
kv_status kv_journal_skipped(const char *dir, const kv_journal_name *name, const json_t *skipped,
                             kv_error *err);

// records[n_units]: NULL where there is none yet. Owned by the journal.
json_t *const *kv_journal_records(const kv_journal *journal);
int64_t kv_journal_done(const kv_journal *journal);
bool kv_journal_has(const kv_journal *journal, int64_t first, int64_t n); // all of them

// Takes over records[n] of units [first, first + n), also on failure, and writes those that are new behind
// what the file holds.
kv_status kv_journal_add(kv_journal *journal, int64_t first, int64_t n, json_t **records, kv_error *err);
