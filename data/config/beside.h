// Where the paths that configurations name lead: from the directory the program was started in, whichever file names them.
#pragma once

#include "core/status.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

// Where a path stands: at `line` of `file`, as what `key` says.
typedef struct kv_config_place {
    const char *file;
    size_t line;
    const char *key;
} kv_config_place;

// The path of a file that `name` is, of those keys (extends, a sweep's configurations) which earlier releases took from the
// directory of the file they stand in. What is there alone is taken from there, with a warning that says what to write now;
// where another file is there, a warning says so. *path is the caller's to free; KV_ERR_MEMORY.
kv_status kv_config_named(const kv_config_place *place, const char *name, char **path, kv_error *err);

// The same without a word, of those who only look; NULL when out of memory.
char *kv_config_named_quietly(const char *file, const char *name);

// What may be added to a message about a path that is not there: "", or "; it is there from DIR: ..." where `name`, as
// a path from the directory of `file` or from one above that, is something.
enum { KV_ELSEWHERE = 400 };
void kv_config_elsewhere(const char *file, const char *name, char hint[KV_ELSEWHERE]);
