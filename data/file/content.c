// Reading goes through zlib, which hands plain files on as they are: whoever reads a whole file takes a gzipped
// one too.
#include "data/file/content.h"

#include "data/file/whole_file.h"
#include "data/system/buffers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static kv_status io_error(kv_error *err, const char *path, const char *doing) {
    return kv_fail(err, KV_ERR_IO, "%s: cannot %s: %s", path, doing, strerror(errno));
}

static kv_status read_failed(gzFile stream, const char *path, kv_error *err) {
    int code;
    const char *message = gzerror(stream, &code);
    if (code == Z_ERRNO) return io_error(err, path, "read");
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged or truncated gzip data (%s)", path, message);
}

// Grows as it reads: the size of gzip content is not known beforehand.
static kv_status read_stream(gzFile stream, const char *path, size_t max_size, kv_bytes *bytes,
                             kv_error *err) {
    for (;;) {
        if (kv_bytes_reserve(bytes, 1 << 16, NULL) != KV_OK)
            return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory after %zu bytes", path, bytes->length);
        size_t want = bytes->capacity - bytes->length - 1;
        if (want > 1 << 30) want = 1 << 30;
        const int got = gzread(stream, bytes->data + bytes->length, (unsigned)want);
        int code = Z_OK;
        gzerror(stream, &code);
        if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) return read_failed(stream, path, err);
        bytes->length += (size_t)got;
        if (bytes->length > max_size)
            return kv_fail(err, KV_ERR_FORMAT, "%s: more than the %zu bytes that are accepted here", path,
                           max_size);
        if (got == 0) break;
    }
    bytes->data[bytes->length] = '\0';
    return KV_OK;
}

kv_status kv_read_file(const char *path, size_t max_size, char **content, size_t *size, kv_error *err) {
    *content = NULL;
    *size = 0;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_error(err, path, "open");
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        return kv_fail(err, KV_ERR_IO, "%s: is a directory, expected a file", path);
    }
    gzFile stream = gzdopen(fd, "rb");
    if (!stream) {
        close(fd);
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    kv_bytes bytes = {0};
    kv_status status = read_stream(stream, path, max_size, &bytes, err);
    gzclose(stream);
    if (status) {
        kv_bytes_free(&bytes);
        return status;
    }
    *content = bytes.data;
    *size = bytes.length;
    return KV_OK;
}

static kv_status write_all(int fd, const char *path, const void *content, size_t size, kv_error *err) {
    const char *p = content;
    while (size > 0) {
        ssize_t written = write(fd, p, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return io_error(err, path, "write");
        p += written;
        size -= (size_t)written;
    }
    return KV_OK;
}

kv_status kv_write_file(const char *path, const void *content, size_t size, kv_error *err) {
    kv_whole_file whole;
    kv_status status = kv_whole_file_begin(&whole, path, err);
    if (status) return status;
    int fd = open(whole.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        status = io_error(err, whole.path, "create");
    else {
        status = write_all(fd, path, content, size, err);
        if (close(fd) != 0 && !status) status = io_error(err, path, "write");
    }
    return kv_whole_file_end(&whole, status, err);
}
