// The text files that a user means by files, directories and standard input.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_text_file {
    char *path;
    int64_t size;     // bytes; 0 where that is not known
    int64_t modified; // nanoseconds since 1970
    bool stream;      // standard input or a pipe: can be read once
    bool found;       // in a directory, not named by the user
} kv_text_file;

typedef struct kv_text_files {
    kv_text_file *items;
    int64_t n;
} kv_text_files;

// inputs[n] in their order: "-" is standard input; of a directory all text files in it and below, sorted by
// path, byte by byte: regular files (or links to some) called .txt, .text, .md, .jsonl, .json or .ndjson,
// or part-00000, also with .gz, but none that begin with a dot; directories behind links are left out; a warning tells
// where more than a tenth of a directory's files, or of their bytes, have other names. A directory without
// any is an error, as is an input that is not there. Free with kv_text_files_free, also after a failure;
// *files must be zeroed.
kv_status kv_text_files_list(char *const *inputs, int n, kv_text_files *files, kv_error *err);
void kv_text_files_free(kv_text_files *files);
