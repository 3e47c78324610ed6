// starts.json and machines.jsonl in a run's directory: from which steps it was started, and how long it had trained on steps that were lost
// since, with what was logged of them: a run that is killed goes on from its last checkpoint.
#pragma once

#include "core/status.h"

#include <stddef.h>
#include <stdint.h>

extern const char kv_run_machines_name[];

typedef struct kv_run_starts {
    int64_t n;    // 0: not known, of a run of before there was such a file
    int64_t step; // that the last one went on from, -1: not known
    double lost;  // seconds of all before it
} kv_run_starts;

// Never fails: what cannot be read is not known.
void kv_run_starts_read(const char *run, kv_run_starts *starts);

// By what the last start trains; 0: not known, of a run of before machines.jsonl said so. Never fails.
typedef struct kv_run_place {
    int64_t ranks, nodes, threads; // threads: of all ranks
} kv_run_place;
void kv_run_place_read(const char *run, kv_run_place *place);

// One more, which goes on from `step`; `lost` seconds were trained behind it until now.
kv_status kv_run_starts_add(const char *run, int64_t step, double lost, kv_error *err);

// Seconds that a log's lines in text[size], which are about to be dropped, and stopped.json of that run know to be spent
// beyond `seconds`; those on held-out text too.
double kv_run_seconds_lost(const char *run, const char *text, size_t size, double seconds);
