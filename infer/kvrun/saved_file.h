// Files of saved prompts, by way of a module of their own. See infer/kvrun/saved_file.c.
#pragma once

#include "data/prompt/saved_prompt.h"

typedef struct kvrun_saved_file {
    kv_status (*write)(const char *path, const kv_saved_prompt *prompt, kv_error *err);
    kv_status (*read)(const char *path, kv_saved_prompt **prompt, kv_error *err);
} kvrun_saved_file;

// The module exports this one.
extern __attribute__((visibility("default"))) const kvrun_saved_file kvrun_saved_file_functions;
