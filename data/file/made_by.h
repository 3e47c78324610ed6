// What made a result: program, machine and libraries, and nothing that tells whose machine it is (no host, user or path).
#pragma once

#include "core/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

// To be called first in main: what the program is called and kv_commit (commit.h). Also what --version says:
// "kveval 0.1.0 (commit b5356ac)".
void kv_made_by_program(const char *name, const char *commit);

// An object; NULL when out of memory:
//   program, version, commit, date (UTC), compiler
//   cpu ("AuthenticAMD 26/2": who made it, family and model), model, flags (those products can use), cores, threads (that
//   loops may use), isa (the instruction set that multiplies), memory (bytes), os
//   openblas (version and kernels), hdf5; gnuplot where `draws` asks for it (null: there is none)
json_t *kv_made_by(bool draws);

// The same as text on one line; the caller frees it.
char *kv_made_by_text(bool draws);

// One line for a person of what kv_made_by_text made; "" of a text that is no such object.
enum { KV_MADE_BY_LINE = 512 };
char *kv_made_by_line(const char *made_by, char line[KV_MADE_BY_LINE]);

// made_by.json in `dir`: {"made_by": [...]}, of texts[n].
kv_status kv_made_by_write(const char *dir, char *const *texts, int64_t n, kv_error *err);
// The list in it; NULL when out of memory. As text it may have KV_MADE_BY_MOST bytes in a results.h5.
enum { KV_MADE_BY_MOST = 60000 };
json_t *kv_made_by_list(char *const *texts, int64_t n);
