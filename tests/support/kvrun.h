// The program kvrun, on the family of tests/support/eval.h. KVRUN names the program.
#pragma once

#include "tests/support/eval.h"

enum { CONTEXT = 96 }; // of the family's models

// What the last kvrun() said.
extern char kvrun_out[1 << 16], kvrun_err[1 << 16];

const char *in_dir(const char *name); // a path in test_dir

// Its exit status. Standard input is empty, not a terminal: no test asks anybody.
int kvrun_list(const char *const *arguments);
#define kvrun(...) kvrun_list((const char *const[]){__VA_ARGS__, NULL})
#define BASE       "--base", in_dir("base"), "--tokenizer", in_dir("tokenizer.model")
#define PREFIX     BASE, "--predictor", in_dir("prefix")
#define KVP        BASE, "--aux", in_dir("aux"), "--predictor", in_dir("predictor")

// Failed, with one line on standard error that holds `part`, and nothing else.
void expect_one_line(int status, const char *part);
