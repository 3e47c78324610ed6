// What of a task a system is asked together, and where the records of it are kept.
#pragma once

#include "eval/evaluate/evaluation.h"
#include "eval/evaluate/journal.h"

// Units are asked in blocks, as they are numbered: what is there of a block that is not whole is asked anew, so that an
// evaluation that was stopped ends with the bits of one that never was, and one of several ranks with those of one alone. How
// many units the block has that begins with unit `first`: a pure function of the configuration and of what the units before it
// and in it are. Systems are loaded.
int64_t kv_units_block(const kv_evaluation *evaluation, int64_t system, int64_t task, int64_t first);

// The first unit whose record says that the system gave no numbers for it: nothing behind its block is asked. n_units: there
// is none.
int64_t kv_units_end(const kv_benchmark *benchmark, const kv_journal *journal);

// What all records of a system on a task depend on, but for what each item is: a hash.
void kv_units_run(const kv_evaluation *evaluation, int64_t system, int64_t task, char out[17]);

// The records of a system on a task: all that are there (kv_journal_open), and, once these were opened, this rank's journal of
// them (kv_journal_open_part).
kv_status kv_units_open(const kv_evaluation *evaluation, int64_t system, int64_t task, kv_journal **journal,
                        kv_error *err);
kv_status kv_units_open_part(const kv_evaluation *evaluation, int64_t system, int64_t task,
                             kv_journal **journal, kv_error *err);
kv_journal_name kv_units_name(const kv_evaluation *evaluation, int64_t system, int64_t task);
