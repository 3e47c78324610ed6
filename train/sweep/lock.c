// Locks of open files (F_OFD_SETLK): unlike flock they reach other machines on every network file system that has locks at all, and
// unlike the older kind they do not end with whatever descriptor of the same file is closed first.
#include "train/sweep/lock.h"

#include "data/file/hash.h"
#include "data/file/path.h"
#include "data/system/console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

const char kv_sweep_lock_name[] = "sweep.lock";

// Two names that share a byte would wait for each other; of 250 runs no two do, but by a chance of 1 in 10^7.
static off_t byte_of(const char *name) {
    return 1 + (off_t)(kv_hash64(0, name, strlen(name)) >> 25);
}

// 0, or errno; EAGAIN: somebody else has it.
static int set_lock(int fd, short type, off_t byte) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    while (fcntl(fd, F_OFD_SETLK, &lock) != 0)
        if (errno != EINTR) return errno == EACCES ? EAGAIN : errno;
    return 0;
}

// A file system that knows no locks keeps those of a directory to this machine.
static int lock_directory(kv_sweep_lock *lock) {
    close(lock->fd);
    lock->fd = open(lock->output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return lock->fd >= 0 && flock(lock->fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
}

static bool unknown_there(int reason) {
    return reason == ENOLCK || reason == ENOSYS || reason == EOPNOTSUPP || reason == EINVAL;
}

kv_status kv_sweep_lock_open(const char *output, bool share, kv_sweep_lock *lock, kv_error *err) {
    char path[PATH_MAX];
    *lock = (kv_sweep_lock){.output = output, .fd = -1};
    const kv_status status = kv_path_join(output, kv_sweep_lock_name, path, err);
    if (status != KV_OK) return status;
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock->fd < 0) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    int reason = set_lock(lock->fd, share ? F_RDLCK : F_WRLCK, 0);
    if (unknown_there(reason) && !share) reason = lock_directory(lock);
    if (reason == 0) return KV_OK;
    kv_sweep_lock_close(lock);
    if (reason == EAGAIN) return kv_fail(err, KV_ERR_IO, "%s: another kvtrain is at work there", output);
    return kv_fail(err, KV_ERR_IO, "%s: cannot lock: %s; shares of a sweep need a file system with locks",
                   path, strerror(reason));
}

void kv_sweep_lock_close(kv_sweep_lock *lock) {
    if (lock->fd >= 0) close(lock->fd);
    lock->fd = -1;
}

static kv_status failed(const kv_sweep_lock *lock, const char *name, int reason, kv_error *err) {
    if (reason == EAGAIN)
        return kv_fail(err, KV_ERR_IO, "%s: another kvtrain is at work on %s", lock->output, name);
    return kv_fail(err, KV_ERR_IO, "%s/%s: cannot lock: %s", lock->output, kv_sweep_lock_name,
                   strerror(reason));
}

kv_status kv_sweep_lock_take(kv_sweep_lock *lock, const char *name, kv_error *err) {
    const int reason = set_lock(lock->fd, F_WRLCK, byte_of(name));
    return reason == 0 ? KV_OK : failed(lock, name, reason, err);
}

kv_status kv_sweep_lock_await(kv_sweep_lock *lock, const char *name, kv_error *err) {
    bool said = false;
    for (;;) {
        const int reason = set_lock(lock->fd, F_WRLCK, byte_of(name));
        if (reason == 0) return KV_OK;
        if (reason != EAGAIN) return failed(lock, name, reason, err);
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
        if (!said) fprintf(stderr, "kvtrain: waiting for another kvtrain, which is at work on %s\n", name);
        said = true;
        kv_console_poll(NULL, 0, 0.2);
    }
}

void kv_sweep_lock_drop(kv_sweep_lock *lock, const char *name) {
    set_lock(lock->fd, F_UNLCK, byte_of(name));
}
