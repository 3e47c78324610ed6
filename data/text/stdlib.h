// Real text that every Debian has: the source of Python's standard library, as the packages below libpython3-stdlib
// ship it. One document a file.
//
// In: what libpython3.N-minimal and libpython3.N-stdlib have in /usr/lib/python3.N, N being the default Python's, and
// called .py. Out of these: `test/` (what runs Python's own tests), `encodings/` and `pydoc_data/` (tables and
// documentation that programs generated), `_sysconfigdata*` (how Python was built, different on every architecture),
// links, empty files, and what is not UTF-8.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_stdlib_file {
    char *path; // within /usr/lib/python3.N
    char *text; // [size], then a NUL
    size_t size;
    bool held_out; // by its path alone: a tenth of all paths, whatever else there is
} kv_stdlib_file;

typedef struct kv_stdlib {
    char package[64];      // "libpython3.11-stdlib"
    char version[128];     // "3.11.2-6"
    char hash[17];         // of all paths and texts
    kv_stdlib_file *files; // [n], sorted by path
    int64_t n, left_out;
} kv_stdlib;

// Of the system whose root directory is `root` ("" is this one). Free with kv_stdlib_free, also after a failure.
kv_status kv_stdlib_collect(const char *root, kv_stdlib *stdlib, kv_error *err);
void kv_stdlib_free(kv_stdlib *stdlib);

// Files and bytes of one split.
void kv_stdlib_count(const kv_stdlib *stdlib, bool held_out, int64_t *files, int64_t *bytes);

// Into `directory`, all files or none; KV_ERR_INTERRUPTED when the user stops it:
//   train.jsonl, held_out.jsonl    {"path": ..., "text": ...} a line
//   stdlib.json                    package, version, hash, and how much of what
kv_status kv_stdlib_write(const kv_stdlib *stdlib, const char *directory, kv_error *err);
