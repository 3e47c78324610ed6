// Pieces are shards like any other: whole or not there, with a hash of their content. Whatever ends a run, the next one
// finds the settings and so many whole pieces, and draws the document behind the last of them. The directory is locked
// against a second run.
#include "data/kvdata/sample/sample.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/system/console.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const double piece_seconds = 30;
enum { PIECE_TOKENS = 1 << 22, MAX_PIECES = 1000000 };

void sample_piece_name(int64_t number, char name[SAMPLE_PIECE_NAME]) {
    snprintf(name, SAMPLE_PIECE_NAME, "piece-%05" PRIi64 ".h5", number);
}

int64_t sample_piece_number(const char *name) {
    int64_t number = -1;
    char again[SAMPLE_PIECE_NAME];
    if (sscanf(name, "piece-%" SCNd64, &number) != 1 || number < 0 || number > MAX_PIECES) return -1;
    sample_piece_name(number, again);
    return strcmp(name, again) == 0 ? number : -1;
}

static kv_status piece_path(const sample_store *store, int64_t number, char path[PATH_MAX], kv_error *err) {
    char name[SAMPLE_PIECE_NAME];
    sample_piece_name(number, name);
    return kv_path_join(store->dir, name, path, err);
}

// ---- Settings ------------------------------------------------------------------------------------------

static kv_status save_settings(const sample_store *store, const json_t *settings, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(store->dir, SAMPLE_SETTINGS, path, err);
    if (status) return status;
    json_t *root = json_pack("{s:s, s:i, s:O}", "format", SAMPLE_FORMAT, "version", 1, "settings", settings);
    return kv_json_write(path, root, JSON_INDENT(1), err);
}

// The first setting that differs.
static kv_status compare_settings(const sample_store *store, const json_t *old, const json_t *settings,
                                  kv_error *err) {
    const char *key;
    json_t *now;
    json_object_foreach((json_t *)settings, key, now) {
        const json_t *then = json_object_get(old, key);
        if (json_equal(then, now)) continue;
        char *a = json_dumps(then, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9)),
             *b = json_dumps(now, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        kv_fail(err, KV_ERR_MISMATCH,
                "%s: was begun with %s %.*s, found %.*s now; use the same to go on, or --force to begin anew",
                store->dir, key, KV_HEAD(a ? a : "unknown", 80), KV_HEAD(b ? b : "unknown", 80));
        free(a);
        free(b);
        return KV_ERR_MISMATCH;
    }
    return KV_OK;
}

static kv_status check_settings(const sample_store *store, const json_t *settings, kv_error *err) {
    kv_json_file file = {0};
    int64_t version;
    kv_status status = kv_json_open(store->dir, SAMPLE_SETTINGS, &file, err);
    if (!status) status = kv_json_int(&file, "version", INT32_MIN, INT32_MAX, &version, err);
    if (!status)
        status = kv_check_version(file.path, KV_FILE_SAMPLE_SETTINGS, version, 1, 1,
                                  "kvdata sample --force begins anew", err);
    if (!status) status = compare_settings(store, json_object_get(file.root, "settings"), settings, err);
    kv_json_close(&file);
    return status;
}

// ---- Opening -------------------------------------------------------------------------------------------

// The lock goes when the descriptor is closed, in the worst case by the end of the process.
static kv_status lock_directory(sample_store *store, kv_error *err) {
    kv_status status = kv_make_dirs(store->dir, err);
    if (status) return status;
    store->lock = open(store->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->lock < 0) return kv_fail(err, KV_ERR_IO, "%s: %s", store->dir, strerror(errno));
    if (flock(store->lock, LOCK_EX | LOCK_NB) == 0) return KV_OK;
    close(store->lock);
    store->lock = -1;
    return kv_fail(err, KV_ERR_IO, "%s: another kvdata sample is at work in it", store->dir);
}

// Of the files in the directory those that are ours, or what a killed run left half written of them.
static bool is_ours(const char *name) {
    return sample_piece_number(name) >= 0 || (strncmp(name, "piece-", 6) == 0 && strstr(name, ".tmp.")) ||
           strncmp(name, SAMPLE_SETTINGS, strlen(SAMPLE_SETTINGS)) == 0;
}

// all: every file of ours; else only what is half written. *last: the largest number of a piece, -1 without any.
static kv_status clean(const sample_store *store, bool all, int64_t *last, kv_error *err) {
    DIR *open = opendir(store->dir);
    if (!open) return kv_fail(err, KV_ERR_IO, "%s: %s", store->dir, strerror(errno));
    kv_status status = KV_OK;
    *last = -1;
    for (const struct dirent *entry; !status && (entry = readdir(open));) {
        const char *name = entry->d_name;
        char path[PATH_MAX];
        if (sample_piece_number(name) > *last) *last = sample_piece_number(name);
        if (!is_ours(name) || !(all || strstr(name, ".tmp."))) continue;
        status = kv_path_join(store->dir, name, path, err);
        if (!status && unlink(path) != 0)
            status = kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
    }
    closedir(open);
    return status;
}

kv_status sample_store_count(sample_store *store, kv_error *err) {
    for (;; store->n_pieces++) {
        char path[PATH_MAX];
        kv_shard_summary found;
        kv_status status = piece_path(store, store->n_pieces, path, err);
        if (!status && !kv_path_exists(path)) return KV_OK;
        if (!status) status = kv_shard_read_summary(path, &found, err);
        if (status) return status;
        store->n_documents += found.n_documents;
        store->n_tokens += found.n_tokens;
    }
}

static kv_status count_pieces(sample_store *store, int64_t last, kv_error *err) {
    kv_status status = sample_store_count(store, err);
    if (!status && store->n_pieces <= last) {
        char name[SAMPLE_PIECE_NAME];
        sample_piece_name(store->n_pieces, name);
        status = kv_fail(err, KV_ERR_FORMAT, "%s: %s is not there, but later ones are", store->dir, name);
    }
    return status ? kv_fail_within(err, status, "cannot go on, --force begins anew") : KV_OK;
}

kv_status sample_store_open(sample_store *store, const char *out, const kv_shard_info *info,
                            const json_t *settings, bool anew, kv_error *err) {
    int64_t last;
    *store = (sample_store){.info = *info, .lock = -1};
    if (snprintf(store->dir, sizeof store->dir, "%s" SAMPLE_UNFINISHED, out) >= (int)sizeof store->dir)
        return kv_path_too_long(out, err);
    kv_status status = lock_directory(store, err);
    if (!status) status = clean(store, anew, &last, err);
    if (status) return status;
    if (!kv_path_exists_in(store->dir, SAMPLE_SETTINGS)) {
        if (!anew && last >= 0)
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "%s: holds pieces of nobody knows what (without %s); --force replaces them",
                           store->dir, SAMPLE_SETTINGS);
        status = save_settings(store, settings, err);
    } else {
        status = check_settings(store, settings, err);
        if (!status) status = count_pieces(store, last, err);
    }
    store->opened = !status;
    return status;
}

// ---- Writing -------------------------------------------------------------------------------------------

kv_status sample_store_flush(sample_store *store, kv_error *err) {
    if (!store->writer) return KV_OK;
    kv_status status = kv_shard_writer_finish(store->writer, err);
    kv_shard_writer_free(store->writer);
    store->writer = NULL;
    if (!status) store->n_pieces++;
    return status;
}

kv_status sample_store_add(sample_store *store, const int32_t *ids, int64_t n, kv_error *err) {
    kv_status status = KV_OK;
    if (!store->writer) {
        char path[PATH_MAX];
        status = piece_path(store, store->n_pieces, path, err);
        if (!status) status = kv_shard_writer_open(path, &store->info, &store->writer, err);
        store->begun = kv_now();
    }
    if (!status) status = kv_shard_writer_add(store->writer, ids, n, err);
    if (status) return status;
    store->n_documents++;
    store->n_tokens += n;
    return kv_now() - store->begun > piece_seconds || store->n_tokens % PIECE_TOKENS < n
               ? sample_store_flush(store, err)
               : KV_OK;
}

kv_status sample_store_remove(sample_store *store, kv_error *err) {
    int64_t last;
    kv_shard_writer_free(store->writer);
    store->writer = NULL;
    kv_status status = clean(store, true, &last, err);
    if (!status && rmdir(store->dir) != 0 && errno != ENOTEMPTY)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", store->dir, strerror(errno));
    return status;
}

void sample_store_close(sample_store *store) {
    kv_shard_writer_free(store->writer);
    store->writer = NULL;
    if (store->lock >= 0) close(store->lock);
    store->lock = -1;
}

// ---- Reading -------------------------------------------------------------------------------------------

kv_status sample_store_read(const sample_store *store, sample_document_fn *each, void *context,
                            kv_error *err) {
    bool enough = false;
    kv_status status = KV_OK;
    for (int64_t p = 0; p < store->n_pieces && !enough && !status; p++) {
        char path[PATH_MAX];
        kv_shard *piece = NULL;
        status = piece_path(store, p, path, err);
        if (!status) status = kv_shard_open(path, &piece, err);
        for (int64_t d = 0; !status && !enough && d < piece->n_documents; d++) {
            const int64_t first = piece->documents[d];
            status = each(context, piece->tokens + first, piece->documents[d + 1] - first, &enough, err);
        }
        kv_shard_free(piece);
    }
    return status;
}
