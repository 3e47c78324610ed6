// What dpkg, Debian's package manager, has installed: read from its own records, without running it.
#pragma once

#include "core/status.h"

#include <limits.h>
#include <stdint.h>

typedef struct kv_dpkg_package {
    char *version; // NULL: not installed
    char *depends; // as it stands in the records, or NULL
    char **
        files; // [n_files] absolute paths as seen within the root, sorted byte by byte: directories, links and all
    int64_t n_files;
    char record[PATH_MAX]; // the file that lists them
} kv_dpkg_package;

// The package `name` of the system whose root directory is `root` ("" is this one). A package that is not there, or not
// wholly installed, has no version; a system without records of dpkg is KV_ERR_IO. Free with kv_dpkg_free, also after a
// failure.
kv_status kv_dpkg_find(const char *root, const char *name, kv_dpkg_package *package, kv_error *err);
void kv_dpkg_free(kv_dpkg_package *package);
