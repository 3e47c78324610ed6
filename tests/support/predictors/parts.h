// Every part a predictor can be made of, in one table that tests of training, inference and costs run over: a new
// part is a row here.
#pragma once

#include "tests/support/tiny.h"

typedef struct test_part {
    const char *name, *keys, *values; // sources of all layers, by name; NULL: as the paper's, or the prefix's
    const char *map;                  // a kind; NULL: linear
    int64_t width, table;             // of the map; of token tables, as kv_output_spec has it
    bool matched, exact_first;
    int64_t prefix; // the base's own first layers
    kv_adapt adapt;
} test_part;

enum { TEST_PARTS = 23 };
extern const test_part test_parts[TEST_PARTS];

// Models and predictors of a part; of a prefix the aux is the base. Weights that start at zero have values, too.
typedef struct test_made {
    kv_model *base, *aux, *own_aux;
    kv_predictor *predictor;
} test_made;

test_made test_part_make(const test_part *part); // tiny_base and, unless it is a prefix, tiny_aux
test_made test_part_make_of(const test_part *part, const kv_model_spec *base, const kv_model_spec *aux);
void test_made_free(test_made *made);

// What is left of its predictor once all that depends on the token is looked up, tables of this type in memory.
kv_predictor *test_tabulated(const test_made *made, kv_dtype dtype);
