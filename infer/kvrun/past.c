// Lines that were typed before, kept between runs: a file of one line each, in which \n stands for a new line and \\ for a backslash.
// Several sessions may write it at once. It is read and written under a lock, each line is added as it is typed, and a file
// that has become twice as long as what is kept is cut at the next start.
#include "infer/kvrun/edit.h"

#include "data/file/path.h"
#include "data/file/whole_file.h"
#include "data/system/warning.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t most_lines = 1000,
                    longest = 1 << 16;      // longer lines are kept until the end of the session
static const off_t largest_file = 64 << 20; // more was not written here

// ---- In memory -----------------------------------------------------------------------------------------

static void keep(kvrun_past *past, char *line) {
    char **more = line ? kv_room_for_one(past->lines, past->n, sizeof *more) : NULL;
    if (!more) {
        free(line);
        return;
    }
    past->lines = more;
    past->lines[past->n++] = line;
}

static void drop_oldest(kvrun_past *past, size_t n) {
    for (size_t i = 0; i < n; i++) free(past->lines[i]);
    past->n -= n;
    memmove(past->lines, past->lines + n, past->n * sizeof *past->lines);
}

// ---- In the file ---------------------------------------------------------------------------------------

// With a new line behind it.
static char *escaped(const char *line) {
    char *text = malloc(2 * strlen(line) + 2), *end = text;
    if (!text) return NULL;
    for (; *line; line++) {
        if (*line == '\n' || *line == '\\') *end++ = '\\';
        *end++ = *line == '\n' ? 'n' : *line;
    }
    strcpy(end, "\n");
    return text;
}

static char *plain(const char *text, size_t length) {
    char *line = malloc(length + 1), *end = line;
    if (!line) return NULL;
    for (size_t i = 0; i < length; i++) {
        const bool escape = text[i] == '\\' && i + 1 < length;
        if (escape) i++;
        *end++ = escape && text[i] == 'n' ? '\n' : text[i];
    }
    *end = '\0';
    return line;
}

static void give_up(kvrun_past *past, const char *what) {
    kv_warn(
        "%s: cannot %s the lines typed (%s): they are kept until the end of this session; KVRUN_HISTORY=FILE "
        "names another place, --no-history none",
        past->path, what, strerror(errno));
    free(past->path);
    past->path = NULL;
}

// Opens the file and locks it. Whoever cuts the file puts another in its place: then that one is meant. -1 (errno): it cannot be.
static int open_locked(const char *path, int flags, int lock) {
    for (;;) {
        struct stat here, there;
        const int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0600);
        if (fd < 0) return -1;
        while (flock(fd, lock) != 0 && errno == EINTR) {
        }
        if (fstat(fd, &here) != 0 || stat(path, &there) != 0 || here.st_ino == there.st_ino) return fd;
        close(fd);
    }
}

static bool read_lines(kvrun_past *past, int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0) return false;
    errno = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
    if (!S_ISREG(info.st_mode)) return S_ISCHR(info.st_mode); // /dev/null has none
    errno = EFBIG;
    if (info.st_size > largest_file) return false;
    char *text = malloc((size_t)info.st_size + 1);
    if (!text) return false;
    size_t n = 0;
    for (ssize_t got; n < (size_t)info.st_size; n += (size_t)got) {
        got = read(fd, text + n, (size_t)info.st_size - n);
        if (got <= 0) break;
    }
    for (char *at = text, *end = text + n; at < end;) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        const size_t length = (size_t)((stop ? stop : end) - at);
        if (length > 0 && !memchr(at, '\0', length)) keep(past, plain(at, length));
        at += length + 1;
    }
    free(text);
    return true;
}

static bool write_lines(const kvrun_past *past, const char *path) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file) return false;
    for (size_t i = 0; i < past->n; i++) {
        char *line = escaped(past->lines[i]);
        if (line) fputs(line, file);
        free(line);
    }
    const bool written = !ferror(file);
    return fclose(file) == 0 && written;
}

// Under the lock. When it fails the file is as long as it was.
static void cut_file(const kvrun_past *past) {
    kv_whole_file file;
    if (kv_whole_file_begin(&file, past->path, NULL) != KV_OK) return;
    kv_whole_file_end(&file, write_lines(past, file.path) ? KV_OK : KV_ERR_IO, NULL);
}

static void load(kvrun_past *past) {
    const int fd = open_locked(past->path, O_RDONLY, LOCK_EX);
    if (fd < 0 && errno == ENOENT) return;
    if (fd < 0 || !read_lines(past, fd))
        give_up(past, "read");
    else if (past->n > most_lines) {
        const bool cut = past->n > 2 * most_lines;
        drop_oldest(past, past->n - most_lines);
        if (cut) cut_file(past);
    }
    if (fd >= 0) close(fd);
}

// A line that was cut off by the end of a disk does not take the next one with it.
static bool write_line(int fd, const char *line) {
    struct stat info;
    char last = '\n';
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 &&
        pread(fd, &last, 1, info.st_size - 1) == 1 && last != '\n' && write(fd, "\n", 1) != 1)
        return false;
    const size_t length = strlen(line);
    errno = ENOSPC;
    return write(fd, line, length) == (ssize_t)length;
}

static bool make_parent(const char *path) {
    char parent[PATH_MAX];
    kv_path_parent(path, parent);
    if (kv_path_exists(parent)) return true;
    const mode_t before = umask(077);
    const bool made = kv_make_dirs(parent, NULL) == KV_OK;
    umask(before);
    return made;
}

static void append(kvrun_past *past, const char *line) {
    if (!make_parent(past->path)) {
        give_up(past, "keep");
        return;
    }
    char *text = escaped(line);
    const int fd = open_locked(past->path, O_RDWR | O_APPEND | O_CREAT, LOCK_EX);
    if (text && (fd < 0 || !write_line(fd, text))) give_up(past, "keep");
    if (fd >= 0) close(fd);
    free(text);
}

// ---- Outside -------------------------------------------------------------------------------------------

static char *usual_place(void) {
    const char *named = getenv("KVRUN_HISTORY"), *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    if (named) return *named ? strdup(named) : NULL;
    if (state && *state == '/') return asprintf(&path, "%s/kvrun/history", state) < 0 ? NULL : path;
    if (!home || *home != '/') return NULL;
    return asprintf(&path, "%s/.local/state/kvrun/history", home) < 0 ? NULL : path;
}

void kvrun_past_open(kvrun_past *past, bool kept) {
    *past = (kvrun_past){.path = kept ? usual_place() : NULL};
    if (past->path) load(past);
}

void kvrun_past_add(kvrun_past *past, const char *line) {
    if (!*line || *line == ' ' || (past->n > 0 && !strcmp(past->lines[past->n - 1], line))) return;
    keep(past, strdup(line));
    if (past->n > 2 * most_lines) drop_oldest(past, most_lines);
    if (past->path && strlen(line) <= longest) append(past, line);
}

void kvrun_past_close(kvrun_past *past) {
    for (size_t i = 0; i < past->n; i++) free(past->lines[i]);
    free(past->lines);
    free(past->path);
    *past = (kvrun_past){0};
}
