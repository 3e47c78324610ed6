// A small family on disk for tests of the eval floor: corpus, tokenizer, random base, aux and predictor.
#pragma once

#include "tests/support/corpus.h"

// dir/{train.jsonl, questions_*.jsonl, tokenizer.model, base, aux, predictor, prefix, stranger, eval.yaml}; prefix:
// predictors of the base's own first two layers, with adapted queries. The
// models have the tokenizer's vocabulary, but for the stranger, and a context of `context` tokens.
void test_make_family(const char *dir, int64_t context);

// dir/eval.yaml: base, aux and KVP on 12 trained and 9 held-out questions, output dir/eval.
void test_write_eval_config(const char *dir);

// Set-up of a test group: a family in test_dir (support.h), which test_dir_tear_down removes.
int test_family_set_up(void **state);
