// What the parts of `./kv bench` share: phases of work, each timed in turns with others and set beside what this
// machine reaches at most, measured in the same run. SPEED.md says what bounds which.
//
//   bench_phase two[] = {{.name = "decode, f32", ...}, {.name = "decode, bf16", ...}};
//   bench_round(bench, two, 2);      // timed, printed, and put into the record
#pragma once

#include "core/dtype.h"
#include "core/status.h"
#include "tests/bench/limits.h"
#include "tests/bench/options.h"
#include "tests/bench/peers.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct bench {
    const bench_options *options;
    bench_limits limits;
    bench_peers *peers; // NULL: nobody is asked
    json_t *phases;     // the record's
} bench;

// Which of its limits a phase is bound by: products of `rows` rows with weights of `type`, or reading `bytes`.
typedef enum bench_bound { BENCH_PRODUCTS, BENCH_READING } bench_bound;

typedef struct bench_phase {
    char name[64];
    const char *group;
    bench_bound bound;
    kv_dtype type;
    int64_t rows;
    double tokens;                  // of one run, questions of "eval"
    double bytes;                   // that one run cannot but read
    void (*prepare)(void *context); // before each run, not timed; may be NULL
    void (*run)(void *context);
    void *context;
    json_t *peer; // what peers.py is asked for, given away; NULL: it has no such thing
    // Filled in.
    double seconds, spread; // median, half the distance between the quartiles
    double flops;           // counted
    double limit;           // beside it, in GFLOP/s or GB/s
    json_t *entry;          // the record's, borrowed
} bench_phase;

// Times phases[n] in turns (and with each number of threads that was asked for), prints a line for each and adds it to the
// record. Those that --match leaves out have no seconds (NAN) and no entry. On a signal to stop the program ends.
void bench_round(bench *b, bench_phase *phases, int n);

// A ratio that belongs to a phase, the larger the better: what --check looks at beside the fractions. Nothing happens to a
// phase without an entry, or with NAN.
void bench_add_ratio(bench_phase *phase, const char *name, double value);
// What else is known of it.
void bench_add_note(bench_phase *phase, const char *name, double value);

void bench_fail(const kv_error *err) __attribute__((noreturn)); // says why and ends the program
void bench_out_of_memory(void) __attribute__((noreturn));
void bench_obey_signals(void); // ends the program when one asks for it

// ---- The phases ----------------------------------------------------------------------------------------

// One group each; a group's phases are made, timed and freed there.
void bench_prefill(bench *b);      // tests/bench/prefill.c
void bench_first_tokens(bench *b); // tests/bench/first.c
void bench_decode(bench *b);       // tests/bench/decode.c
void bench_predictors(bench *b);   // tests/bench/predict.c
void bench_training(bench *b);     // tests/bench/train.c
void bench_questions(bench *b);    // tests/bench/questions.c
// Ours beside the paper's released code, whose times are scaled to this machine: --paper.
void bench_paper(bench *b); // tests/bench/paper.c
