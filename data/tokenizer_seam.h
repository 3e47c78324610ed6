// Until data/tokenizer.h says so itself: whether a directory holds a tokenizer.
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static inline bool kv_tokenizer_present(const char *dir) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/tokenizer.model", dir) < PATH_MAX && access(path, F_OK) == 0;
}
