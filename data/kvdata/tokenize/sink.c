// Writes shards, whole ones, and the journal after each: whatever stops a run, the directory holds finished
// shards and a journal that knows how many. The directory is locked against a second run.
#include "data/kvdata/tokenize/tokenize.h"

#include "data/corpus/corpus.h"
#include "data/file/path.h"
#include "data/kvdata/tokenize/journal.h"

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

struct tokenize_sink {
    const tokenize_options *options; // borrowed
    const char *dir;                 // of a corpus; NULL: one shard
    bool made;                       // the directory, by this run
    bool finished;
    int lock; // descriptor of the locked directory, -1: none
    kv_shard_info info;
    const kv_bundle *tokenizer_files; // borrowed
    kv_shard_writer *writer;          // of the shard that is being written; NULL: none
    tokenize_shard shard;             // what is in it
    tokenize_journal journal;
    tokenize_place behind; // the last document
};

// ---- The directory -------------------------------------------------------------------------------------

static kv_status remove_file(const char *dir, const char *name, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, name, path, err);
    if (!status && unlink(path) != 0 && errno != ENOENT)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot remove: %s", path, strerror(errno));
    return status;
}

// Shards from number `first` on, and what a killed run left half written.
static kv_status remove_shards(const char *dir, int64_t first, kv_error *err) {
    DIR *open = opendir(dir);
    if (!open) return kv_fail(err, KV_ERR_IO, "%s: %s", dir, strerror(errno));
    kv_status status = KV_OK;
    for (const struct dirent *entry; !status && (entry = readdir(open));) {
        const char *name = entry->d_name;
        const bool ours = strncmp(name, "shard-", 6) == 0 ||
                          strncmp(name, TOKENIZE_JOURNAL, strlen(TOKENIZE_JOURNAL)) == 0 ||
                          strncmp(name, KV_CORPUS_INDEX, strlen(KV_CORPUS_INDEX)) == 0;
        if (tokenize_shard_number(name) >= first || (ours && strstr(name, ".tmp.")))
            status = remove_file(dir, name, err);
    }
    closedir(open);
    return status;
}

static bool holds_shards(const char *dir) {
    DIR *open = opendir(dir);
    bool found = false;
    for (const struct dirent *entry; open && !found && (entry = readdir(open));)
        found = tokenize_shard_number(entry->d_name) >= 0;
    if (open) closedir(open);
    return found;
}

// The lock goes when the descriptor is closed, in the worst case by the end of the process.
static kv_status lock_directory(tokenize_sink *sink, kv_error *err) {
    struct stat info;
    sink->made = stat(sink->dir, &info) != 0;
    kv_status status = kv_make_dirs(sink->dir, err);
    if (status) return status;
    sink->lock = open(sink->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (sink->lock < 0) return kv_fail(err, KV_ERR_IO, "%s: %s", sink->dir, strerror(errno));
    if (flock(sink->lock, LOCK_EX | LOCK_NB) != 0)
        return kv_fail(err, KV_ERR_IO, "%s: another kvdata tokenize is at work in it", sink->dir);
    return KV_OK;
}

// The index goes first: without it what is left is no corpus, whenever this is stopped.
static kv_status clear(const char *dir, kv_error *err) {
    kv_status status = remove_file(dir, KV_CORPUS_INDEX, err);
    if (!status) status = remove_shards(dir, 0, err);
    return status ? status : remove_file(dir, TOKENIZE_JOURNAL, err);
}

// Shards of the run that is gone on with, as its journal lists them.
static kv_status check_shards(const tokenize_sink *sink, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; !status && i < sink->journal.n_shards; i++) {
        const tokenize_shard *listed = &sink->journal.shards[i];
        char name[TOKENIZE_SHARD_NAME], path[PATH_MAX];
        kv_shard_summary found;
        tokenize_shard_name(i, name);
        status = kv_path_join(sink->dir, name, path, err);
        if (!status) status = kv_shard_read_summary(path, &found, err);
        if (status) return kv_fail_within(err, status, "cannot go on, --force begins anew");
        if (strcmp(found.hash, listed->hash) != 0)
            status = kv_fail(err, KV_ERR_MISMATCH, "%s: not the shard that was written; --force begins anew",
                             path);
    }
    return status;
}

static bool reads_streams(const kv_text_files *files) {
    for (int64_t i = 0; i < files->n; i++)
        if (files->items[i].stream) return true;
    return false;
}

static kv_status resume(tokenize_sink *sink, const kv_text_files *files, kv_error *err) {
    if (reads_streams(files))
        return kv_fail(
            err, KV_ERR_ARGUMENT,
            "%s: holds an unfinished corpus, and what came from standard input cannot be read again; "
            "--force begins anew",
            sink->dir);
    kv_status status = tokenize_journal_load(&sink->journal, sink->dir, err);
    if (!status) status = check_shards(sink, err);
    return status ? status : remove_shards(sink->dir, sink->journal.n_shards, err);
}

static kv_status open_directory(tokenize_sink *sink, const kv_text_files *files,
                                const kv_tokenizer *tokenizer, kv_error *err) {
    const char *dir = sink->dir;
    kv_status status = lock_directory(sink, err);
    if (!status) status = tokenize_journal_begin(&sink->journal, sink->options, files, tokenizer, err);
    if (status) return status;
    if (sink->options->force) {
        status = clear(dir, err);
    } else if (kv_path_exists_in(dir, KV_CORPUS_INDEX)) {
        sink->finished = true; // not ours to forget
        return kv_fail(err, KV_ERR_ARGUMENT, "%s: holds a finished corpus; --force replaces it", dir);
    } else if (kv_path_exists_in(dir, TOKENIZE_JOURNAL)) {
        status = resume(sink, files, err);
        if (status) sink->finished = true;
        return status;
    } else if (holds_shards(dir)) {
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%s: holds shards of no corpus that is known; --force replaces them", dir);
    }
    // What was killed before it had a journal.
    if (!status) status = remove_shards(dir, 0, err);
    return status ? status : tokenize_journal_save(&sink->journal, dir, err);
}

// ---- Shards ----------------------------------------------------------------------------------------------

// One tokenizer is enough for all shards of a corpus: some are larger than a shard.
static kv_status open_writer(tokenize_sink *sink, const char *path, kv_error *err) {
    kv_status status = kv_shard_writer_open(path, &sink->info, &sink->writer, err);
    if (status || sink->journal.n_shards > 0) return status;
    return kv_shard_writer_add_tokenizer(sink->writer, sink->tokenizer_files, err);
}

// ---- Opening and closing -------------------------------------------------------------------------------

static void describe(tokenize_sink *sink, const kv_tokenizer *tokenizer) {
    kv_shard_info *info = &sink->info;
    kv_tokenizer_id id;
    kv_tokenizer_identify(tokenizer, &id);
    *info = (kv_shard_info){.vocab_size = id.vocab_size,
                            .bos_id = kv_tokenizer_bos(tokenizer),
                            .eos_id = kv_tokenizer_eos(tokenizer)};
    memcpy(info->tokenizer, id.hash, sizeof info->tokenizer);
    memcpy(info->cuts, id.cuts, sizeof info->cuts);
    size_t used = 0;
    if (sink->options->source) snprintf(info->source, sizeof info->source, "%s", sink->options->source);
    for (int i = 0; !sink->options->source && i < sink->options->n_inputs && used < sizeof info->source; i++)
        used += (size_t)snprintf(info->source + used, sizeof info->source - used, "%s%s", i ? " " : "",
                                 sink->options->inputs[i]);
}

kv_status tokenize_sink_open(const tokenize_options *options, const kv_text_files *files,
                             const kv_tokenizer *tokenizer, const kv_bundle *tokenizer_files,
                             tokenize_sink **sink, tokenize_place *begin, tokenize_counts *counts,
                             kv_error *err) {
    tokenize_sink *made = *sink = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    made->options = options;
    made->tokenizer_files = tokenizer_files;
    made->lock = -1;
    made->dir = options->shard_tokens ? options->out : NULL;
    describe(made, tokenizer);
    kv_status status =
        made->dir ? open_directory(made, files, tokenizer, err) : open_writer(made, options->out, err);
    *begin = made->behind = made->journal.place;
    *counts = made->journal.counts;
    return status;
}

void tokenize_sink_forget(tokenize_sink *sink) {
    if (!sink->dir || sink->finished) return;
    kv_shard_writer_free(sink->writer);
    sink->writer = NULL;
    clear(sink->dir, NULL);
    if (sink->made) rmdir(sink->dir);
    sink->finished = true;
}

// A run that finished no shard leaves nothing to go on with.
void tokenize_sink_free(tokenize_sink *sink) {
    if (!sink) return;
    const bool locked = sink->lock >= 0 && sink->journal.options;
    if (locked && sink->journal.n_shards == 0) tokenize_sink_forget(sink);
    kv_shard_writer_free(sink->writer);
    tokenize_journal_free(&sink->journal);
    if (sink->lock >= 0) close(sink->lock);
    free(sink);
}

// ---- Writing -------------------------------------------------------------------------------------------

int64_t tokenize_sink_shards(const tokenize_sink *sink) {
    return sink->journal.n_shards;
}

static kv_status open_shard(tokenize_sink *sink, kv_error *err) {
    char name[TOKENIZE_SHARD_NAME], path[PATH_MAX];
    if (sink->journal.n_shards == KV_CORPUS_MAX_SHARDS)
        return kv_fail(err, KV_ERR_RANGE, "%s: more than %d shards; use a larger --shard-tokens", sink->dir,
                       KV_CORPUS_MAX_SHARDS);
    tokenize_shard_name(sink->journal.n_shards, name);
    kv_status status = kv_path_join(sink->dir, name, path, err);
    if (!status) status = open_writer(sink, path, err);
    sink->shard = (tokenize_shard){0};
    return status;
}

kv_status tokenize_sink_add(tokenize_sink *sink, const int32_t *ids, int64_t n, kv_error *err) {
    kv_status status = sink->writer ? KV_OK : open_shard(sink, err);
    if (!status) status = kv_shard_writer_add(sink->writer, ids, n, err);
    sink->shard.n_documents++;
    sink->shard.n_tokens += n;
    return status;
}

static kv_status close_shard(tokenize_sink *sink, const tokenize_counts *counts, kv_error *err) {
    kv_status status = kv_shard_writer_finish(sink->writer, err);
    if (!status) strcpy(sink->shard.hash, kv_shard_writer_hash(sink->writer));
    kv_shard_writer_free(sink->writer);
    sink->writer = NULL;
    if (!status) status = tokenize_journal_add(&sink->journal, &sink->shard, err);
    sink->journal.place = sink->behind;
    sink->journal.counts = *counts;
    return status ? status : tokenize_journal_save(&sink->journal, sink->dir, err);
}

kv_status tokenize_sink_end_document(tokenize_sink *sink, tokenize_place behind,
                                     const tokenize_counts *counts, kv_error *err) {
    sink->behind = behind;
    const bool full = sink->dir && sink->writer && sink->shard.n_tokens >= sink->options->shard_tokens;
    return full ? close_shard(sink, counts, err) : KV_OK;
}

kv_status tokenize_sink_finish(tokenize_sink *sink, const tokenize_counts *counts, kv_error *err) {
    if (!sink->dir) return kv_shard_writer_finish(sink->writer, err);
    kv_status status = sink->writer ? close_shard(sink, counts, err) : KV_OK;
    if (!status) status = tokenize_index_save(&sink->journal, sink->dir, &sink->info, counts, err);
    if (status) return status;
    sink->finished = true;
    return remove_file(sink->dir, TOKENIZE_JOURNAL, err);
}
