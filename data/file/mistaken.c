// Only a reader that has failed comes here, so nothing of this costs anything where files are what they should be.
#include "data/file/mistaken.h"

#include "core/text.h"
#include "data/file/path.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- What is not there ---------------------------------------------------------------------------------

// How many characters have to be put in, left out or changed to make one name of the other; more than a few: some
// number above.
static int distance(const char *a, const char *b) {
    enum { LONGEST = 64, MANY = 100 };
    const int n = (int)strlen(a), m = (int)strlen(b);
    int row[LONGEST + 1];
    if (n > LONGEST || m > LONGEST || abs(n - m) > 2) return MANY;
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            const int changed = diagonal + (a[i - 1] != b[j - 1]),
                      shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = changed < shorter + 1 ? changed : shorter + 1;
        }
    }
    return row[m];
}

// How near an entry of the directory is to the name that was asked for: 0 is not at all.
static int nearness(const char *name, const char *entry) {
    const size_t n = strlen(name);
    const char *dot = strrchr(name, '.');
    const size_t stem = dot && dot != name ? (size_t)(dot - name) : n;
    if (strstr(entry, ".tmp.")) return 0; // of a program at work, or killed
    if (strcasecmp(name, entry) == 0) return 4;
    if (strncmp(name, entry, n) == 0 && entry[n] == '.') return 3;
    if (n >= 3 && distance(name, entry) <= (n >= 8 ? 2 : 1)) return 2;
    return stem >= 3 && strncmp(name, entry, stem) == 0 && entry[stem] == '.';
}

// What may have been meant; empty where nothing is near.
static void find_near(const char *path, char near[NAME_MAX + 1]) {
    char parent[PATH_MAX];
    near[0] = '\0';
    if (strlen(path) >= PATH_MAX) return;
    kv_path_parent(path, parent);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    int best = 0;
    DIR *dir = *name ? opendir(parent) : NULL;
    for (const struct dirent *entry; dir && (entry = readdir(dir));) {
        const int n = nearness(name, entry->d_name);
        if (n > best || (n == best && n > 0 && strcmp(entry->d_name, near) < 0))
            snprintf(near, NAME_MAX + 1, "%s", entry->d_name), best = n;
    }
    if (dir) closedir(dir);
}

// The first part of a path that is not there (or is a file where a directory has to be), in place; false: it is the
// last part.
static bool first_missing(char path[PATH_MAX], bool *is_file) {
    struct stat info;
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        const bool there = stat(path, &info) == 0;
        *is_file = there && !S_ISDIR(info.st_mode);
        if (!there || *is_file) return true;
        *slash = '/';
    }
    return false;
}

enum { MISSING = PATH_MAX + 400 }; // bytes of what is said of it

// Adds to "", or to " (WHY)", from where the path was looked for.
static void add_here(const char *path, char why[MISSING]) {
    char here[PATH_MAX];
    if (*path == '/' || !getcwd(here, sizeof here)) return;
    const size_t n = strlen(why);
    snprintf(n ? why + n - 1 : why, MISSING - n, "%slooked for from %.*s)", n ? "; " : " (",
             KV_HEAD(here, 240));
}

// Adds what helps to a message about a path that could not be found, unless it has it already.
static void explain_missing(const char *path, kv_error *err) {
    char part[PATH_MAX], near[NAME_MAX + 1], why[MISSING] = "", before[sizeof err->message];
    bool is_file = false;
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part) return;
    if (first_missing(part, &is_file)) {
        snprintf(why, sizeof why, " (%s is %s)", part, is_file ? "a file, not a directory" : "not there");
    } else {
        find_near(path, near);
        if (*near) snprintf(why, sizeof why, " (there is %s)", near);
    }
    add_here(path, why);
    if (!*why || strstr(err->message, why)) return;
    memcpy(before, err->message, sizeof before);
    kv_fail(err, err->code, "%.*s%.*s", KV_HEAD(before, 500), KV_HEAD(why, 500));
}

// ---- Files ---------------------------------------------------------------------------------------------

// Whether the reader's own message is about a file of the right kind.
static bool as_expected(kv_file_kind found, kv_file_kind expected) {
    if (found == KV_FILE_OTHER) return false;
    if (found == KV_FILE_JSON && kv_file_kind_is(expected, KV_FILE_YAML)) return true; // which JSON is
    return kv_file_kind_is(found, expected) || kv_file_kind_is(expected, found);
}

static kv_status say(const char *path, const kv_identity *found, const char *expected, bool advice,
                     kv_status status, kv_error *err) {
    return kv_fail(err, status, "%.*s: %s, expected %s%s%s%s", KV_HEAD(path, 400), found->what, expected,
                   advice ? " (" : "", advice ? found->advice : "", advice ? ")" : "");
}

kv_status kv_mistaken(const char *path, kv_file_kind expected, kv_status status, kv_error *err) {
    if (!err || (status != KV_ERR_FORMAT && status != KV_ERR_IO)) return status;
    struct stat info;
    kv_identity found;
    kv_identify(path, kv_file_kind_is(expected, KV_FILE_TEXT), &found);
    const char *usual = kv_file_kind_usual(expected);
    if (usual && kv_path_exists_in(path, usual)) // a directory
        snprintf(found.advice, sizeof found.advice, "there is a %s in it", usual);
    if (*found.what && !as_expected(found.kind, expected)) {
        const bool advice = *found.advice && kv_file_kind_is(expected, found.helps);
        return say(path, &found, kv_file_kind_expected(expected), advice, status, err);
    }
    if (stat(path, &info) != 0 && (errno == ENOENT || errno == ENOTDIR)) explain_missing(path, err);
    return status;
}

kv_status kv_missing(const char *path, kv_error *err) {
    const bool nothing = errno == ENOENT || errno == ENOTDIR;
    kv_fail(err, KV_ERR_IO, "%.*s: %s", KV_HEAD(path, 400), strerror(errno));
    if (nothing && err) explain_missing(path, err);
    return KV_ERR_IO;
}

// ---- Directories ---------------------------------------------------------------------------------------

enum { DEEPEST = 3, MOST_PLACES = 3, MOST_ENTRIES = 2000 };

// The directories below one that hold a file of that name.
struct search {
    const char *name;
    char places[400];
    int n_places, n_entries;
};

static int compare_entries(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static void add_place(struct search *search, const char *dir) {
    const size_t used = strlen(search->places);
    if (search->n_places == MOST_PLACES || used + strlen(dir) + 8 > sizeof search->places) return;
    snprintf(search->places + used, sizeof search->places - used, "%s%s", used ? ", " : "", dir);
    search->n_places++;
}

static void look_below(struct search *search, const char *dir, int depth) {
    struct dirent **entries;
    const int n = scandir(dir, &entries, is_visible, compare_entries);
    for (int i = 0; i < n; i++) {
        char below[PATH_MAX];
        struct stat info;
        if (search->n_places < MOST_PLACES && search->n_entries++ < MOST_ENTRIES &&
            kv_path_join(dir, entries[i]->d_name, below, NULL) == KV_OK && stat(below, &info) == 0 &&
            S_ISDIR(info.st_mode)) {
            if (kv_path_exists_in(below, search->name))
                add_place(search, below);
            else if (depth < DEEPEST)
                look_below(search, below, depth + 1);
        }
        free(entries[i]);
    }
    if (n >= 0) free(entries);
}

// A file was given instead of the directory it lies in.
static kv_status not_a_directory(const char *path, const char *name, const char *expected, kv_status status,
                                 kv_error *err) {
    kv_identity found;
    char parent[PATH_MAX];
    kv_identify(path, false, &found);
    if (!*found.what) strcpy(found.what, "a file");
    kv_path_parent(path, parent);
    if (!kv_path_exists_in(parent, name)) return say(path, &found, expected, *found.advice, status, err);
    return kv_fail(err, status, "%.*s: %s, expected %s: it lies in one, %.*s", KV_HEAD(path, 300), found.what,
                   expected, KV_HEAD(parent, 300));
}

// Also where it is a link that leads nowhere: then the message about that file is the better one.
static bool is_in(const char *dir, const char *name) {
    char path[PATH_MAX];
    struct stat info;
    return kv_path_join(dir, name, path, NULL) == KV_OK && lstat(path, &info) == 0;
}

kv_status kv_mistaken_dir(const char *dir, const char *name, const char *expected, kv_status status,
                          kv_error *err) {
    struct stat info;
    if (!err || (status != KV_ERR_FORMAT && status != KV_ERR_IO)) return status;
    if (stat(dir, &info) != 0) {
        status = kv_fail(err, status, "%.*s: %s, expected %s", KV_HEAD(dir, 400), strerror(errno), expected);
        return kv_mistaken(dir, KV_FILE_OTHER, status, err);
    }
    if (!S_ISDIR(info.st_mode)) return not_a_directory(dir, name, expected, status, err);
    if (is_in(dir, name)) return status;
    kv_identity found;
    struct search search = {.name = name};
    kv_identify_directory(dir, &found);
    if (strncmp(expected, found.what, strlen(found.what)) == 0) return status; // it is one, and not whole
    look_below(&search, dir, 1);
    if (*search.places)
        return kv_fail(err, status, "%.*s: %s, expected %s: there is one in %s", KV_HEAD(dir, 300),
                       found.what, expected, search.places);
    return say(dir, &found, expected, *found.advice, status, err);
}

// ---- Versions ------------------------------------------------------------------------------------------

kv_status kv_check_version(const char *path, kv_file_kind kind, int64_t found, int64_t oldest, int64_t newest,
                           const char *remake, kv_error *err) {
    char versions[64];
    if (found >= oldest && found <= newest) return KV_OK;
    if (oldest == newest)
        snprintf(versions, sizeof versions, "version %" PRIi64, newest);
    else
        snprintf(versions, sizeof versions, "versions %" PRIi64 " to %" PRIi64, oldest, newest);
    return kv_fail(
        err, KV_ERR_FORMAT, "%s: %s of version %" PRIi64 ", expected %s: written by %s release; %s", path,
        kv_file_kind_found(kind), found, versions, found > newest ? "a later" : "an earlier", remake);
}
