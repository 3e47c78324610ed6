// The one check behind every failed open: says what a file is instead of what was expected.
//
//     kv_status status = read_weights(path, &weights, err);
//     return kv_mistaken(path, KV_FILE_SAFETENSORS, status, err);
//
// KV_OK passes, and so do failures that the content of the file did not cause (memory, Ctrl-C). The reader's own
// message stays where the file is of the kind that was expected, or where nothing better is known; whatever is known
// replaces it: "FILE: a git-lfs pointer, not ..., expected a safetensors file (git lfs pull fetches it)".
#pragma once

#include "core/status.h"
#include "data/file/identify.h"

#include <stdint.h>

kv_status kv_mistaken(const char *path, kv_file_kind expected, kv_status status, kv_error *err);

// Of a path that stat or open has just refused: KV_ERR_IO with the reason in errno and, where nothing is there, what may have
// been meant and from where it was looked for.
kv_status kv_missing(const char *path, kv_error *err);

// The same of a directory that is known by having `name` in it. expected: "a model's directory (config.json,
// model.safetensors)". Says where below it there is such a file. Does nothing where dir/name is there.
kv_status kv_mistaken_dir(const char *dir, const char *name, const char *expected, kv_status status,
                          kv_error *err);

// KV_ERR_FORMAT where `found` is not one of the versions oldest..newest of a format of ours; `remake` says how to come
// by a new one: "kvdata tokenize makes it again".
kv_status kv_check_version(const char *path, kv_file_kind kind, int64_t found, int64_t oldest, int64_t newest,
                           const char *remake, kv_error *err);
