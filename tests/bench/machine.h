// What a record says about the machine, and nothing that tells whose it is.
#pragma once

#include <jansson.h>

// What kv_made_by says (--check goes by its "cpu"), with "commit" of the sources in `folder`, and "load".
json_t *bench_machine(const char *folder);
