// What a record says about the machine, and nothing that tells whose it is.
#pragma once

#include <jansson.h>

// "cpu" ("AuthenticAMD 26/2": who made it, family and model; --check goes by it), "model", "flags" (those products can
// use), "cores", "threads", "openblas", "compiler", "commit" of the sources in `folder`, "date", "load".
json_t *bench_machine(const char *folder);
