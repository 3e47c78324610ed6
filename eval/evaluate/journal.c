// Answers reach the file batch by batch, and a file that was cut short is repaired by writing what is whole to a
// new one: whatever kills the program, what was answered before stays. So do the parts of ranks, until the whole holds them.
#include "eval/evaluate/journal.h"

#include "data/file/content.h"
#include "data/file/hash.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/file/plain.h"
#include "data/file/whole_file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct kv_journal {
    char path[PATH_MAX];
    FILE *file;
    char *task, *split, *system;
    kv_journal_run run;
    uint64_t *asked; // [n_units] a copy of the run's, or NULL
    int64_t n_done;
    json_t **records;
    json_t *beyond; // a list of records of units from n_units on
    int64_t last;   // the greatest unit that the file has; -1: it has none
    bool stale; // the file is not what the records are: it lacks some, has units twice, or not in their order
};

// ---- Names ---------------------------------------------------------------------------------------------

// What a file's name may hold stays; where anything had to go, a hash of the whole name keeps two that become
// alike apart.
static void file_name(char *out, size_t size, const char *name) {
    enum { MOST = 80 };
    size_t n = 0;
    bool changed = false;
    for (const char *c = name; *c && n + 1 < size && n < MOST; c++) {
        const bool fit = isalnum((unsigned char)*c) || (*c == '.' && n > 0) || strchr("-+=@", *c);
        changed = changed || (!fit && *c != ' ') || (*c == '_');
        out[n++] = fit ? *c : '_';
    }
    out[n] = '\0';
    if (!changed && strlen(name) == n) return;
    char hash[17];
    kv_hash_text(kv_hash64(0, name, strlen(name)), hash);
    snprintf(out + n, size - n, "~%.8s", hash);
}

static kv_status make_folder(const char *dir, const char *task_name, const char *split_name,
                             char folder[PATH_MAX], kv_error *err) {
    char task[112], split[112];
    file_name(task, sizeof task, task_name);
    file_name(split, sizeof split, split_name);
    if (snprintf(folder, PATH_MAX, "%s/samples/%s-%s", dir, task, split) >= PATH_MAX)
        return kv_path_too_long(dir, err);
    return kv_make_dirs(folder, err);
}

// What a part's name has behind the whole's: no journal's own, which ends with .jsonl.
#define PART ".rank-"

// Of the whole (rank 0), or of a part.
static kv_status make_path(const char *dir, const kv_journal_name *name, int rank, char path[PATH_MAX],
                           kv_error *err) {
    char system[112], folder[PATH_MAX], part[32] = "";
    kv_status status = make_folder(dir, name->task, name->split, folder, err);
    if (status != KV_OK) return status;
    file_name(system, sizeof system, name->system);
    if (rank > 0) snprintf(part, sizeof part, PART "%d", rank);
    if (snprintf(path, PATH_MAX, "%s/%s.jsonl%s", folder, system, part) >= PATH_MAX)
        return kv_path_too_long(dir, err);
    return KV_OK;
}

// ---- Reading what is there -----------------------------------------------------------------------------

// Whether a unit is asked what the record is an answer to.
static bool is_asked(const kv_journal *j, const json_t *record, int64_t unit) {
    char hash[17];
    if (!j->asked) return true;
    kv_hash_text(j->asked[unit], hash);
    const char *asked = json_string_value(json_object_get(record, "asked"));
    return asked && strcmp(asked, hash) == 0;
}

static void note_order(kv_journal *j, int64_t unit) {
    if (unit < j->last) j->stale = true;
    if (unit > j->last) j->last = unit;
}

// Takes a line's record when it belongs to this run. Whether it is the only one of its unit that does.
static bool take_line(kv_journal *j, const char *line, size_t length) {
    json_t *record = kv_json_parse(line, length, 0, NULL);
    const json_t *unit = json_object_get(record, "unit");
    const char *run = json_string_value(json_object_get(record, "run"));
    const json_int_t i = json_is_integer(unit) ? json_integer_value(unit) : -1;
    if (run && strcmp(run, j->run.hash) == 0 && i >= j->run.n_units && j->run.part)
        return json_array_append_new(j->beyond, record) == 0;
    if (!run || strcmp(run, j->run.hash) != 0 || i < 0 || i >= j->run.n_units || !is_asked(j, record, i)) {
        json_decref(record);
        return false;
    }
    const bool first = !j->records[i];
    note_order(j, i);
    json_decref(j->records[i]);
    j->records[i] = record;
    j->n_done += first;
    return first;
}

// Whether every line counts.
static bool take_lines(kv_journal *j, const char *lines, size_t size) {
    bool all = true;
    for (const char *line = lines, *end = lines + size; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline || !take_line(j, line, (size_t)(newline - line))) all = false;
        line = newline ? newline + 1 : end;
    }
    return all;
}

static kv_status read_lines(kv_journal *j, const char *path, kv_error *err) {
    char *text;
    size_t size;
    if (!kv_path_exists(path)) return KV_OK;
    kv_status status = kv_read_file(path, SIZE_MAX / 2, &text, &size, err);
    if (status != KV_OK) return status;
    // A byte order mark or a CR is an editor's: the file is written anew without.
    const size_t mended = kv_mend_text(text, size);
    if (!take_lines(j, text, mended) || mended != size) j->stale = true;
    free(text);
    return KV_OK;
}

void kv_journal_take(kv_journal *j, const char *lines, size_t size) {
    if (size == 0) return;
    take_lines(j, lines, size);
    j->stale = true;
}

// ---- Parts ---------------------------------------------------------------------------------------------

// Whether it is the name of a part of `whole`.
static bool is_part(const char *name, const char *whole) {
    const size_t n = strlen(whole);
    if (strncmp(name, whole, n) != 0 || strncmp(name + n, PART, strlen(PART)) != 0) return false;
    const char *rank = name + n + strlen(PART);
    return *rank && strspn(rank, "0123456789") == strlen(rank);
}

// Calls `what` with the path of each part that there is.
static kv_status each_part(kv_journal *j, kv_status (*what)(kv_journal *, const char *, kv_error *),
                           kv_error *err) {
    char folder[PATH_MAX], path[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", j->path);
    char *whole = strrchr(folder, '/');
    *whole++ = '\0';
    DIR *list = opendir(folder);
    if (!list) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", folder, strerror(errno));
    kv_status status = KV_OK;
    for (struct dirent *entry; status == KV_OK && (entry = readdir(list));) {
        if (!is_part(entry->d_name, whole)) continue;
        status = kv_path_join(folder, entry->d_name, path, err);
        if (status == KV_OK) status = what(j, path, err);
    }
    closedir(list);
    return status;
}

static kv_status take_part(kv_journal *j, const char *path, kv_error *err) {
    j->stale = true;
    return read_lines(j, path, err);
}

static kv_status remove_part(kv_journal *j, const char *path, kv_error *err) {
    (void)j;
    if (unlink(path) == 0 || errno == ENOENT) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
}

kv_status kv_journal_read_part(const char *dir, const kv_journal_name *name, int rank, char **lines,
                               size_t *size, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = make_path(dir, name, rank, path, err);
    *lines = NULL, *size = 0;
    return status == KV_OK ? kv_read_file(path, SIZE_MAX / 2, lines, size, err) : status;
}

// By their names alone, since a list of the folder may be one of before.
void kv_journal_drop_parts(const kv_journal *j, int n_ranks) {
    char path[PATH_MAX + 32];
    for (int rank = 1; rank < n_ranks; rank++) {
        snprintf(path, sizeof path, "%s" PART "%d", j->path, rank);
        unlink(path);
    }
}

// ---- Writing -------------------------------------------------------------------------------------------

static kv_status write_failed(const kv_journal *j, kv_error *err) {
    return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", j->path, strerror(errno ? errno : EIO));
}

static kv_status write_record(const kv_journal *j, FILE *file, const json_t *record, kv_error *err) {
    char *line = json_dumps(record, JSON_COMPACT);
    if (!line) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for a record", j->path);
    const bool ok = fputs(line, file) >= 0 && fputc('\n', file) != EOF;
    free(line);
    return ok ? KV_OK : write_failed(j, err);
}

// The file anew, with the records that count.
static kv_status rewrite(kv_journal *j, kv_error *err) {
    kv_whole_file whole;
    kv_status status = kv_whole_file_begin(&whole, j->path, err);
    if (status != KV_OK) return status;
    FILE *file = fopen(whole.path, "w");
    if (!file) status = write_failed(j, err);
    for (int64_t i = 0; i < j->run.n_units && status == KV_OK; i++)
        if (j->records[i]) status = write_record(j, file, j->records[i], err);
    for (size_t i = 0; i < json_array_size(j->beyond) && status == KV_OK; i++)
        status = write_record(j, file, json_array_get(j->beyond, i), err);
    errno = 0;
    if (file && fclose(file) != 0 && status == KV_OK) status = write_failed(j, err);
    return kv_whole_file_end(&whole, status, err);
}

// Own keys first, then what says where the record belongs.
static bool label(const kv_journal *j, json_t *record, int64_t unit) {
    char asked[17];
    if (j->asked) kv_hash_text(j->asked[unit], asked);
    return json_is_object(record) && !json_object_set_new(record, "task", json_string(j->task)) &&
           !json_object_set_new(record, "split", json_string(j->split)) &&
           !json_object_set_new(record, "system", json_string(j->system)) &&
           !json_object_set_new(record, "unit", json_integer(unit)) &&
           !json_object_set_new(record, "run", json_string(j->run.hash)) &&
           (!j->asked || !json_object_set_new(record, "asked", json_string(asked)));
}

kv_status kv_journal_add(kv_journal *j, int64_t first, int64_t n, json_t **records, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; i < n; i++) {
        json_t *record = records[i];
        records[i] = NULL;
        if (status != KV_OK || j->records[first + i]) {
            json_decref(record);
            continue;
        }
        if (label(j, record, first + i)) {
            note_order(j, first + i);
            status = write_record(j, j->file, record, err);
            j->records[first + i] = record;
            j->n_done++;
        } else {
            json_decref(record);
            status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory for a record", j->path);
        }
    }
    errno = 0;
    if (status == KV_OK && fflush(j->file) != 0) status = write_failed(j, err);
    return status;
}

// ---- Whose they are ------------------------------------------------------------------------------------

kv_status kv_journal_lock(const char *dir, int *lock, kv_error *err) {
    char path[PATH_MAX];
    *lock = -1;
    if (snprintf(path, sizeof path, "%s/samples", dir) >= (int)sizeof path) return kv_path_too_long(dir, err);
    kv_status status = kv_make_dirs(path, err);
    if (status != KV_OK) return status;
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return kv_fail(err, KV_ERR_IO, "another kveval is at work in %s", dir);
    }
    *lock = fd;
    return KV_OK;
}

// ---- What is not asked ---------------------------------------------------------------------------------

kv_status kv_journal_skipped(const char *dir, const kv_journal_name *name, const json_t *skipped,
                             kv_error *err) {
    char folder[PATH_MAX], path[PATH_MAX];
    kv_status status = make_folder(dir, name->task, name->split, folder, err);
    if (status == KV_OK) status = kv_path_join(folder, "skipped.json", path, err);
    if (status != KV_OK) return status;
    if (!skipped) {
        if (unlink(path) == 0 || errno == ENOENT) return KV_OK;
        return kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
    }
    char *text = json_dumps(skipped, JSON_INDENT(1));
    status = text ? kv_write_file(path, text, strlen(text), err)
                  : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    free(text);
    return status;
}

// ---- Opening and closing -------------------------------------------------------------------------------

// What is read stays in the parts until the whole has it.
static kv_status read_whole(kv_journal *j, bool with_parts, kv_error *err) {
    kv_status status = read_lines(j, j->path, err);
    if (status == KV_OK && with_parts) status = each_part(j, take_part, err);
    if (status != KV_OK || !j->stale) return status;
    status = rewrite(j, err);
    if (status == KV_OK && with_parts) status = each_part(j, remove_part, err);
    j->stale = false;
    return status;
}

static kv_status open_journal(kv_journal *j, const char *dir, const kv_journal_name *name, int rank,
                              bool with_parts, kv_error *err) {
    j->task = strdup(name->task);
    j->split = strdup(name->split);
    j->system = strdup(name->system);
    const size_t n_units = (size_t)j->run.n_units;
    j->records = calloc(n_units, sizeof(json_t *));
    j->beyond = json_array();
    if (j->run.asked) j->asked = malloc(n_units * sizeof *j->asked + 1);
    if (j->asked) memcpy(j->asked, j->run.asked, n_units * sizeof *j->asked);
    if (!j->task || !j->split || !j->system || !j->records || !j->beyond || (j->run.asked && !j->asked))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the samples of `%s`", name->system);
    kv_status status = make_path(dir, name, rank, j->path, err);
    if (status == KV_OK && rank == 0) status = read_whole(j, with_parts, err);
    if (status != KV_OK) return status;
    j->file = fopen(j->path, rank == 0 ? "a" : "w");
    return j->file ? KV_OK : write_failed(j, err);
}

static kv_status open_new(const char *dir, const kv_journal_name *name, const kv_journal_run *run, int rank,
                          bool with_parts, kv_journal **journal, kv_error *err) {
    *journal = NULL;
    kv_journal *j = calloc(1, sizeof *j);
    if (!j) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the samples of `%s`", name->system);
    j->run = *run;
    j->last = -1;
    kv_status status = open_journal(j, dir, name, rank, with_parts, err);
    if (status == KV_OK)
        *journal = j;
    else
        kv_journal_close(j);
    return status;
}

kv_status kv_journal_open(const char *dir, const kv_journal_name *name, const kv_journal_run *run,
                          kv_journal **journal, kv_error *err) {
    return open_new(dir, name, run, 0, true, journal, err);
}

kv_status kv_journal_open_part(const char *dir, const kv_journal_name *name, const kv_journal_run *run,
                               int rank, kv_journal **journal, kv_error *err) {
    return open_new(dir, name, run, rank, false, journal, err);
}

kv_status kv_journal_settle(kv_journal *j, kv_error *err) {
    if (!j->stale) return KV_OK;
    kv_status status = rewrite(j, err);
    if (status != KV_OK) return status;
    fclose(j->file);
    j->file = fopen(j->path, "a");
    j->stale = false;
    return j->file ? KV_OK : write_failed(j, err);
}

void kv_journal_close(kv_journal *j) {
    if (!j) return;
    if (j->file) fclose(j->file);
    for (int64_t i = 0; j->records && i < j->run.n_units; i++) json_decref(j->records[i]);
    free(j->records);
    json_decref(j->beyond);
    free(j->asked);
    free(j->task);
    free(j->split);
    free(j->system);
    free(j);
}

json_t *const *kv_journal_records(const kv_journal *j) {
    return j->records;
}

int64_t kv_journal_done(const kv_journal *j) {
    return j->n_done;
}

bool kv_journal_has(const kv_journal *j, int64_t first, int64_t n) {
    for (int64_t i = first; i < first + n; i++)
        if (!j->records[i]) return false;
    return true;
}

void kv_journal_forget(kv_journal *j, int64_t first, int64_t n) {
    for (int64_t i = first; i < first + n; i++) {
        j->n_done -= j->records[i] != NULL;
        j->stale = j->stale || j->records[i];
        json_decref(j->records[i]);
        j->records[i] = NULL;
    }
}
