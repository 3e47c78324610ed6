// Commented configurations to start from, which `kvtrain --example` and `kveval --example` print. They lie in
// data/config/examples/, one of each kind, and are a part of the program.
#pragma once

#include <argp.h>

// Of the option's argument: prints lm, kvp or eval to standard output and ends the program; any other name is a
// usage error.
void kv_example_print(struct argp_state *state, const char *name);
