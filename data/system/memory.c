#include "data/system/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    const char *mount, *limit, *usage;
    const char *files[2]; // lines of memory.stat: pages of files, which go when memory is needed
};
static const struct layout layouts[] = {
    {"/sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file ", "active_file "}},
    {"/sys/fs/cgroup/memory",
     "memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"total_inactive_file ", "total_active_file "}},
};

// What one group leaves. Groups of version 1 without a limit have an absurdly high one.
static int64_t group_left(const struct layout *l, const char *dir) {
    int64_t limit, usage, cached;
    if (!read_in(dir, l->limit, "", &limit) || !read_in(dir, l->usage, "", &usage)) return INT64_MAX;
    for (int i = 0; i < 2; i++)
        if (read_in(dir, "memory.stat", l->files[i], &cached)) usage -= cached < usage ? cached : usage;
    return limit > usage ? limit - usage : 0;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
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

int64_t kv_memory_available(const char *root) {
    int64_t kilobytes, system = INT64_MAX;
    if (read_in(root, "proc/meminfo", "MemAvailable:", &kilobytes)) system = kilobytes * 1024;
    return least(system, all_groups_left(root));
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
