// What this machine reaches at most, now: what phases are measured against.
#pragma once

#include "core/dtype.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { BENCH_LIMIT_ROWS = 10 };
// Weights in rows, as training has them, or in panels, as frozen ones lie.
typedef enum bench_weights { BENCH_F32_ROWS, BENCH_F32, BENCH_BF16, BENCH_WEIGHTS } bench_weights;

typedef struct bench_limits {
    double reading;     // GB/s, all threads
    double reading_one; // one thread
    int64_t n_rows, rows[BENCH_LIMIT_ROWS];
    double products[BENCH_WEIGHTS][BENCH_LIMIT_ROWS]; // GFLOP/s, with weights that no cache holds
    double openblas[BENCH_LIMIT_ROWS];                // its sgemm, called directly
    double square, openblas_square;                   // 1536 x 1536 x 1536
    double region, region_asleep; // seconds of an empty parallel region: one after the other, after a pause
    // Since the begin of a round; in which turn each was measured last.
    double round_products[BENCH_WEIGHTS][BENCH_LIMIT_ROWS], round_reading;
    int64_t turn, products_turn[BENCH_WEIGHTS][BENCH_LIMIT_ROWS], reading_turn;
    bool quick;
    struct bench_products *weights;
    struct bench_buffer *buffer;
} bench_limits;

// The best of a few, of each. Ends the program when memory runs out.
void bench_limits_measure(bench_limits *limits, bool quick);
void bench_limits_free(bench_limits *limits);

// Limits beside a phase: the best of what was measured since `begin`, once more in each turn that asks. A machine's bandwidth and
// clock may differ from one minute to the next, whoever else is on its host.
void bench_limits_begin(bench_limits *limits);
void bench_limits_turn(bench_limits *limits);
// Of products of so many rows (the nearest number that there is, and no more), in GFLOP/s; of reading, in GB/s.
double bench_limit_products(bench_limits *limits, kv_dtype type, int64_t rows);
double bench_limit_reading(bench_limits *limits);

// GFLOP/s of a product of 1536 x 1536 x 1536 through core/gemm.h, or of OpenBLAS alone.
double bench_square(bool openblas, bool quick);

json_t *bench_limits_json(const bench_limits *limits);
void bench_limits_print(const bench_limits *limits);

// Reading, first touched by one thread or by all, in huge pages or in small ones: printed, and put into the record.
void bench_pages(bench_limits *limits, json_t *record);
