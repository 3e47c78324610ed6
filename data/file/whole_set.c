#include "data/file/whole_set.h"

#include "data/file/whole_file.h"
#include "data/system/console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static kv_status write_one(const kv_whole_file *pending, int index, kv_whole_set_fn *write, void *context,
                           kv_error *err) {
    FILE *file = fopen(pending->path, "wb");
    if (!file) return kv_fail(err, KV_ERR_IO, "%s: %s", pending->path, strerror(errno));
    errno = 0;
    bool ok = write(context, index, file) && !ferror(file);
    int reason = errno;
    if (fclose(file) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    if (!ok)
        return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", pending->final,
                       strerror(reason ? reason : ENOMEM));
    return kv_console_interrupted() ? kv_fail(err, KV_ERR_INTERRUPTED, "interrupted") : KV_OK;
}

kv_status kv_whole_set_write(const char *directory, const char *const *names, int n, kv_whole_set_fn *write,
                             void *context, kv_error *err) {
    kv_whole_file *pending = calloc((size_t)n, sizeof *pending);
    if (!pending) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", directory);
    kv_status status = KV_OK;
    for (int i = 0; !status && i < n; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", directory, names[i]) >= (int)sizeof path)
            status = kv_fail(err, KV_ERR_ARGUMENT, "%.200s...: the path is too long", directory);
        if (!status) status = kv_whole_file_begin(&pending[i], path, err);
        if (!status) status = write_one(&pending[i], i, write, context, err);
    }
    for (int i = 0; i < n; i++) {
        if (!status)
            status = kv_whole_file_commit(&pending[i], err);
        else
            kv_whole_file_abandon(&pending[i]);
    }
    free(pending);
    return status;
}
