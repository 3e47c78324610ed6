// Reading goes through zlib, which hands plain files on as they are: whoever reads a whole file takes a gzipped
// one too.
#include "data/file/content.h"

#include "data/file/whole_file.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/system/warning.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
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
    if (code == Z_BUF_ERROR)
        return kv_fail(err, KV_ERR_FORMAT, "%s: truncated: the gzip data ends too early", path);
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged gzip data (%s)", path, message);
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

// Opening a pipe in the plain way would wait for its writer without a word, and in a thread that no signal reaches
// without an end.
static kv_status wait_for_writer(int fd, const char *path, kv_error *err) {
    struct pollfd pipe = {.fd = fd, .events = POLLIN};
    static const double patience = 3; // seconds
    for (double seconds = patience;; seconds = -1) {
        const int ready = kv_console_poll(&pipe, 1, seconds);
        if (ready > 0) return KV_OK;
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        if (ready < 0) return io_error(err, path, "wait");
        kv_warn("%s: a pipe that nothing has come from yet; waiting for what is written to it", path);
    }
}

static kv_status open_what_there_is(const char *path, bool regular, int *fd, kv_error *err) {
    struct stat info;
    kv_status status = KV_OK;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0 || fstat(*fd, &info) != 0)
        status = io_error(err, path, "open");
    else if (S_ISDIR(info.st_mode))
        status = kv_fail(err, KV_ERR_IO, "%s: is a directory, expected a file", path);
    else if (regular && !S_ISREG(info.st_mode))
        status = kv_fail(err, KV_ERR_IO, "%s: a pipe or a device, expected a file", path);
    else if (S_ISFIFO(info.st_mode))
        status = wait_for_writer(*fd, path, err);
    if (status == KV_OK && fcntl(*fd, F_SETFL, 0) != 0) status = io_error(err, path, "open");
    if (status != KV_OK && *fd >= 0) close(*fd);
    if (status != KV_OK) *fd = -1;
    return status;
}

kv_status kv_open_input(const char *path, int *fd, kv_error *err) {
    return open_what_there_is(path, false, fd, err);
}

static kv_status read_all(const char *path, bool regular, size_t max_size, char **content, size_t *size,
                          kv_error *err) {
    *content = NULL;
    *size = 0;
    int fd;
    kv_status status = open_what_there_is(path, regular, &fd, err);
    if (status) return status;
    gzFile stream = gzdopen(fd, "rb");
    if (!stream) {
        close(fd);
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    kv_bytes bytes = {0};
    status = read_stream(stream, path, max_size, &bytes, err);
    gzclose(stream);
    if (status) {
        kv_bytes_free(&bytes);
        return status;
    }
    *content = bytes.data;
    *size = bytes.length;
    return KV_OK;
}

kv_status kv_read_file(const char *path, size_t max_size, char **content, size_t *size, kv_error *err) {
    return read_all(path, true, max_size, content, size, err);
}

kv_status kv_read_input(const char *path, size_t max_size, char **content, size_t *size, kv_error *err) {
    return read_all(path, false, max_size, content, size, err);
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
