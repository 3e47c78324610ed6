// Opening, creating and closing HDF5 files, and one line out of HDF5's stack of errors.
#include "data/file/h5.h"

#include "data/system/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void kv_h5_init(void) {
    // A file whose last blocks could not be written stays half open inside HDF5, and HDF5's own clean-up at
    // exit crashes on it. Every file is closed explicitly, so that clean-up is not needed.
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

// ---- Errors --------------------------------------------------------------------------------------------

// HDF5 tells of a failed system call in several lines; what matters there is the system's own message.
static herr_t innermost(unsigned n, const H5E_error2_t *entry, void *text) {
    if (n != 0 || !entry->desc) return 0;
    static const char marker[] = "error message = '";
    const char *system = strstr(entry->desc, marker);
    const char *from = system ? system + strlen(marker) : entry->desc;
    snprintf(text, 256, "%.*s", (int)strcspn(from, system ? "'" : "\n"), from);
    return 0;
}

// "FILE: what 'name': why", the why taken from the innermost entry of HDF5's own error stack.
kv_status kv_h5_error(kv_error *err, kv_status code, hid_t file, const char *what, const char *name) {
    char path[512] = "HDF5 file", why[256] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, why);
    H5Fget_name(file, path, sizeof path);
    return kv_fail(err, code, "%s: %s '%s': %s", path, what, name, why);
}

// ---- Files ---------------------------------------------------------------------------------------------

// HDF5 locks what it opens. Its message for that is the same as for any failed system call: only an entry of its
// stack says which call it was.
static herr_t is_lock(unsigned n, const H5E_error2_t *entry, void *found) {
    (void)n;
    if (entry->desc && strstr(entry->desc, "unable to lock file")) *(bool *)found = true;
    return 0;
}

static kv_status open_failed(const char *path, kv_error *err) {
    char why[256] = "no reason given";
    bool lock = false;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, why);
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, is_lock, &lock);
    if (lock && strcmp(why, strerror(EWOULDBLOCK)) == 0)
        return kv_fail(err, KV_ERR_IO,
                       "%s: another program has it open for writing, expected nobody to write to it "
                       "(HDF5_USE_FILE_LOCKING=FALSE reads it all the same)",
                       path);
    if (lock)
        return kv_fail(err, KV_ERR_IO,
                       "%s: cannot be locked: %s (HDF5_USE_FILE_LOCKING=FALSE does without locks)", path,
                       why);
    if (strstr(why, "already open for write"))
        return kv_fail(err, KV_ERR_IO,
                       "%s: the program that wrote it has not closed it: it is still at work, or was killed "
                       "(then h5clear -s %s makes it readable)",
                       path, path);
    unsigned long long size, base, end;
    if (sscanf(why, "truncated file: eof = %llu, sblock->base_addr = %llu, stored_eof = %llu", &size, &base,
               &end) == 3)
        return kv_fail(err, KV_ERR_FORMAT, "%s: truncated: %llu bytes, expected the %llu that it says it has",
                       path, size, end);
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged HDF5 file: %s", path, why);
}

// HDF5 does not tell a missing file from a damaged one, and would wait for a pipe.
static kv_status check_readable(const char *path, kv_error *err) {
    struct stat info;
    char byte;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    kv_status status = KV_OK;
    if (fd < 0 || fstat(fd, &info) != 0)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = kv_fail(err, KV_ERR_IO, "%s: not a regular file", path);
    else if (read(fd, &byte, 1) < 0)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return status;
}

kv_status kv_h5_room(const char *path, kv_error *err) {
    const int64_t enough = 4 << 20;
    const kv_memory_limit limit = kv_address_space_left("");
    if (limit.left >= enough) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY,
                   "%s: HDF5 needs %.2g GB of memory to work in, found %.2g GB left by %s", path,
                   (double)enough / 1e9, (double)limit.left / 1e9, limit.by);
}

kv_status kv_h5_open(const char *path, hid_t *file, kv_error *err) {
    kv_h5_init();
    *file = H5I_INVALID_HID;
    kv_status status = check_readable(path, err);
    if (status == KV_OK) status = kv_h5_room(path, err);
    if (status) return status;
    if (H5Fis_hdf5(path) <= 0)
        return kv_fail(err, KV_ERR_FORMAT, "%s: not an HDF5 file, or its beginning is damaged", path);
    *file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    return *file >= 0 ? KV_OK : open_failed(path, err);
}

static kv_status create(const char *path, hid_t access, hid_t *file, kv_error *err) {
    kv_h5_init();
    *file = H5I_INVALID_HID;
    const kv_status status = kv_h5_room(path, err);
    if (status != KV_OK) return status;
    *file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (*file >= 0) return KV_OK;
    char why[256] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, why);
    return kv_fail(err, KV_ERR_IO, "%s: cannot create: %s", path, why);
}

kv_status kv_h5_create(const char *path, hid_t *file, kv_error *err) {
    return create(path, H5P_DEFAULT, file, err);
}

kv_status kv_h5_create_checked(const char *path, hid_t *file, kv_error *err) {
    kv_h5_init();
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    *file = H5I_INVALID_HID;
    const kv_status status =
        access >= 0 && H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_LATEST) >= 0
            ? create(path, access, file, err)
            : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    if (access >= 0) H5Pclose(access);
    return status;
}

kv_status kv_h5_close(hid_t *file, kv_error *err) {
    if (*file < 0) return KV_OK;
    kv_status status = KV_OK;
    if (H5Fflush(*file, H5F_SCOPE_LOCAL) < 0)
        status = kv_h5_error(err, KV_ERR_IO, *file, "cannot flush", "/");
    if (H5Fclose(*file) < 0 && !status) status = kv_fail(err, KV_ERR_IO, "cannot close an HDF5 file");
    *file = H5I_INVALID_HID;
    return status;
}
