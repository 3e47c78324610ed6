// Results are many arrays of the same sizes: made once here, so that a test says only what it is about.
#include "tests/support/results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_fill_outcome(kv_results *r, int64_t system, int64_t task, const double *values, double flops) {
    kv_outcome *o = kv_results_outcome(r, system, task);
    const kv_result_task *t = &r->tasks[task];
    const int64_t n = t->n_metrics * t->n_items;
    o->flops = flops;
    o->values = test_alloc(n, sizeof *o->values);
    memcpy(o->values, values, (size_t)n * sizeof *values);
    o->records = test_alloc(t->n_units, sizeof *o->records);
    for (int64_t u = 0; u < t->n_units; u++)
        if (asprintf(&o->records[u], "{\"unit\":%d,\"text\":\"ü %d\"}", (int)u, (int)system) < 0) fail();
}

void test_name_system(kv_results *r, int64_t i, const char *name, const char *family, const char *hash,
                      double paper) {
    r->systems[i].name = strdup(name), r->systems[i].family = strdup(family);
    snprintf(r->systems[i].hash, sizeof r->systems[i].hash, "%s", hash);
    r->systems[i].paper_reduction = paper;
}
