// By what programs and modules hold, not by their versions: two builds of one commit may compute other bits.
#include "data/ranks/binary.h"

#include "core/api.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static kv_status hash_file(const char *path, uint64_t *hash, kv_error *err) {
    enum { PIECE = 1 << 16 };
    FILE *file = fopen(path, "rbe");
    XXH64_state_t *state = XXH64_createState();
    char *piece = malloc(PIECE);
    kv_status status = KV_OK;
    if (!file)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    else if (!state || !piece)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    if (status == KV_OK) {
        XXH64_reset(state, 0);
        for (size_t n; (n = fread(piece, 1, PIECE, file)) > 0;) XXH64_update(state, piece, n);
        *hash = XXH64_digest(state);
        if (ferror(file)) status = kv_fail(err, KV_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    }
    free(piece);
    XXH64_freeState(state);
    if (file) fclose(file);
    return status;
}

kv_status kv_binary_hashes(const void *module, char text[KV_BINARY_TEXT], kv_error *err) {
    uint64_t program = 0, other = 0;
    Dl_info info;
    kv_status status = hash_file("/proc/self/exe", &program, err);
    if (status == KV_OK && dladdr(module, &info) != 0 && info.dli_fname)
        status = hash_file(info.dli_fname, &other, err);
    snprintf(text, KV_BINARY_TEXT, "%016" PRIx64 "-%016" PRIx64, program, other);
    return status;
}
