// Results made by hand.
#pragma once

#include "tests/support/support.h"

#include "eval/results/results.h"

void test_name_system(kv_results *r, int64_t i, const char *name, const char *family, const char *hash,
                      double paper);

// values [n_metrics, n_items] of the task, which are copied; every unit has a record.
void test_fill_outcome(kv_results *r, int64_t system, int64_t task, const double *values, double flops);
