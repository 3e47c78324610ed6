#include "data/system/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { LINE = 4096 };

// The number behind `key` at the beginning of a line ("" : the file's first number). False when there is
// none, or "max", which is no limit.
static bool read_number(const char *path, const char *key, int64_t *value) {
    char line[LINE];
    bool found = false;
    const size_t n = strlen(key);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, n) != 0) continue;
        char *end;
        errno = 0;
        *value = strtoll(line + n, &end, 10);
        found = end != line + n && errno == 0 && *value >= 0;
        if (n == 0) break;
    }
    fclose(file);
    return found;
}

static bool read_in(const char *dir, const char *name, const char *key, int64_t *value) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path &&
           read_number(path, key, value);
}

// Where a version of control groups keeps its figures.
struct layout {
    const char *mount, *limits[2], *usage; // above the lower limit processes are held up, at the other killed
    const char *files[2]; // lines of memory.stat: pages of files, which go when memory is needed
};
static const struct layout layouts[] = {
    {"/sys/fs/cgroup", {"memory.max", "memory.high"}, "memory.current", {"inactive_file ", "active_file "}},
    {"/sys/fs/cgroup/memory",
     {"memory.limit_in_bytes"},
     "memory.usage_in_bytes",
     {"total_inactive_file ", "total_active_file "}},
};

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// What one group leaves. Groups of version 1 without a limit have an absurdly high one.
static int64_t group_left(const struct layout *l, const char *dir) {
    int64_t limit = INT64_MAX, one, usage, cached;
    for (int i = 0; i < 2; i++)
        if (l->limits[i] && read_in(dir, l->limits[i], "", &one)) limit = least(limit, one);
    if (limit == INT64_MAX || !read_in(dir, l->usage, "", &usage)) return INT64_MAX;
    for (int i = 0; i < 2; i++)
        if (read_in(dir, "memory.stat", l->files[i], &cached)) usage -= cached < usage ? cached : usage;
    return limit > usage ? limit - usage : 0;
}

// The group at `path` and all above it. In a container the path may be the host's and not be there, but its
// top is.
static int64_t groups_left(const struct layout *l, const char *root, const char *path) {
    char dir[PATH_MAX];
    const int top = snprintf(dir, sizeof dir, "%s%s", root, l->mount);
    if (top >= (int)sizeof dir ||
        snprintf(dir + top, sizeof dir - (size_t)top, "%s", path) >= (int)sizeof dir - top)
        return INT64_MAX;
    int64_t left = INT64_MAX;
    for (;;) {
        left = least(left, group_left(l, dir));
        char *slash = strrchr(dir + top, '/');
        if (!slash) return left;
        *slash = '\0';
    }
}

// Lines of /proc/self/cgroup are NUMBER:CONTROLLERS:PATH; version 2 has number 0 and no controllers.
static int64_t all_groups_left(const char *root) {
    char path[PATH_MAX], line[LINE];
    int64_t left = INT64_MAX;
    FILE *file =
        snprintf(path, sizeof path, "%s/proc/self/cgroup", root) < (int)sizeof path ? fopen(path, "r") : NULL;
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        const bool unified = strcmp(line, "0:") == 0;
        if (unified || strcmp(controllers + 1, "memory") == 0)
            left = least(left, groups_left(&layouts[!unified], root, group));
    }
    if (file) fclose(file);
    return left;
}

static kv_memory_limit tighter(kv_memory_limit a, int64_t left, const char *by) {
    return left < a.left ? (kv_memory_limit){left, by} : a;
}

kv_memory_limit kv_address_space_left(const char *root) {
    static const struct {
        int resource;
        const char *used, *name;
    } limits[] = {{RLIMIT_AS, "VmSize:", "the limit on address space (ulimit -v)"},
                  {RLIMIT_DATA, "VmData:", "the limit on data (ulimit -d)"}};
    kv_memory_limit all = {INT64_MAX, "the system (vm.overcommit_memory)"};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit;
        int64_t kilobytes = 0;
        if (getrlimit(limits[i].resource, &limit) != 0 || limit.rlim_cur > INT64_MAX)
            continue; // or RLIM_INFINITY
        errno = 0;
        if (!read_in(root, "proc/self/status", limits[i].used, &kilobytes) && errno == ENOMEM)
            kilobytes = (int64_t)(limit.rlim_cur / 1024) + 1; // not even for the file's buffer
        const int64_t allowed = (int64_t)limit.rlim_cur, used = kilobytes * 1024;
        all = tighter(all, allowed > used ? allowed - used : 0, limits[i].name);
    }
    return all;
}

static const char the_machine[] = "the machine";

kv_memory_limit kv_memory_left(const char *root) {
    int64_t kilobytes;
    kv_memory_limit all = {INT64_MAX, the_machine};
    if (read_in(root, "proc/meminfo", "MemAvailable:", &kilobytes)) all.left = kilobytes * 1024;
    all = tighter(all, all_groups_left(root), "the control group (cgroup)");
    const kv_memory_limit addresses = kv_address_space_left(root);
    return tighter(all, addresses.left, addresses.by);
}

int64_t kv_memory_available(const char *root) {
    return kv_memory_left(root).left;
}

kv_status kv_memory_check(double bytes, const char *what, kv_error *err) {
    const double small = 16e6;
    if (bytes < small) return KV_OK;
    int64_t kilobytes;
    const kv_memory_limit limit = kv_memory_left("");
    double left = (double)limit.left;
    if (limit.by == the_machine && read_number("/proc/meminfo", "SwapFree:", &kilobytes))
        left += 1024.0 * (double)kilobytes;
    if (bytes <= left) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY, "%s: needs %.3g GB of memory, found %.3g GB left by %s", what,
                   bytes / 1e9, left / 1e9, limit.by);
}

static int64_t own_status(const char *key) {
    int64_t kilobytes;
    return read_number("/proc/self/status", key, &kilobytes) ? kilobytes * 1024 : 0;
}

int64_t kv_memory_held(void) {
    return own_status("VmRSS:");
}

int64_t kv_memory_peak(void) {
    return own_status("VmHWM:");
}

int64_t kv_memory_shared(void) {
    return own_status("RssFile:") + own_status("RssShmem:");
}
