#include "data/checkpoint/size.h"

#include "core/dtype.h"
#include "core/text.h"
#include "data/checkpoint/random.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool file_size(const char *dir, const char *name, int64_t *bytes) {
    char path[PATH_MAX];
    struct stat info;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path || stat(path, &info))
        return false;
    *bytes = info.st_size;
    return true;
}

static kv_status measure_files(const char *dir, int64_t *bytes, kv_error *err) {
    if (file_size(dir, "model.safetensors", bytes)) return KV_OK;
    DIR *entries = opendir(dir);
    if (!entries) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", dir, strerror(errno));
    *bytes = 0;
    for (const struct dirent *entry; (entry = readdir(entries));) {
        int64_t part;
        if (kv_ends_with(entry->d_name, ".safetensors") && file_size(dir, entry->d_name, &part))
            *bytes += part;
    }
    closedir(entries);
    if (*bytes > 0) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: found no weights, expected model.safetensors or its parts", dir);
}

kv_status kv_checkpoint_measure(const char *dir, int64_t n_weights, kv_checkpoint_size *size, kv_error *err) {
    *size = (kv_checkpoint_size){0};
    kv_status status;
    if (kv_is_random_model(dir)) {
        kv_random_name name;
        status = kv_random_parse(dir, &name, err);
        if (status == KV_OK) size->bytes = n_weights * (int64_t)kv_dtype_size(name.dtype);
    } else {
        status = measure_files(dir, &size->bytes, err);
    }
    size->wide = size->bytes / 3 >= n_weights;
    return status;
}
