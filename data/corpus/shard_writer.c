// Writes a token shard document by document: memory does not grow with the shard, and the hash is made of the
// same pieces in which the reader goes over it.
#include "data/corpus/shard.h"

#include "data/file/h5.h"
#include "data/file/hash.h"
#include "data/file/whole_file.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { deflate_level = 4 };

// A one-dimensional dataset that grows by whole buffers.
struct column {
    hid_t dataset, type;
    hsize_t written;
    size_t used, capacity, width;
    char *buffer;
    uint64_t hash; // of what was written
};

struct kv_shard_writer {
    kv_whole_file target;
    hid_t file;
    kv_shard_info info;
    struct column tokens, documents;
    int64_t n_tokens;
    char hash[17]; // after finish
};

static kv_status cannot_write(const kv_shard_writer *writer, kv_error *err) {
    const kv_status status = kv_h5_room(writer->target.final, err);
    if (status != KV_OK) return status;
    return kv_fail(err, KV_ERR_IO, "%s: cannot write the token shard (is the disk full?)",
                   writer->target.final);
}

static kv_status column_create(kv_shard_writer *writer, struct column *column, const char *name, hid_t type,
                               size_t capacity, kv_error *err) {
    *column = (struct column){.dataset = -1, .type = type, .capacity = capacity, .width = H5Tget_size(type)};
    column->buffer = malloc(capacity * column->width);
    if (!column->buffer) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", writer->target.final);
    hsize_t nothing = 0, unlimited = H5S_UNLIMITED, chunk = capacity;
    hid_t space = H5Screate_simple(1, &nothing, &unlimited);
    hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
    // Without times equal content makes equal files.
    if (space >= 0 && layout >= 0 && H5Pset_obj_track_times(layout, false) >= 0 &&
        H5Pset_chunk(layout, 1, &chunk) >= 0 && H5Pset_shuffle(layout) >= 0 &&
        H5Pset_deflate(layout, deflate_level) >= 0 && H5Pset_fletcher32(layout) >= 0)
        column->dataset = H5Dcreate2(writer->file, name, type, space, H5P_DEFAULT, layout, H5P_DEFAULT);
    if (space >= 0) H5Sclose(space);
    if (layout >= 0) H5Pclose(layout);
    return column->dataset >= 0 ? KV_OK : cannot_write(writer, err);
}

// Writes what the buffer holds behind what the dataset has.
static bool column_flush(struct column *column) {
    if (column->used == 0) return true;
    hsize_t count = column->used, size = column->written + count;
    if (H5Dset_extent(column->dataset, &size) < 0) return false;
    hid_t memory = H5Screate_simple(1, &count, NULL);
    hid_t space = H5Dget_space(column->dataset);
    bool ok = memory >= 0 && space >= 0 &&
              H5Sselect_hyperslab(space, H5S_SELECT_SET, &column->written, NULL, &count, NULL) >= 0 &&
              H5Dwrite(column->dataset, column->type, memory, space, H5P_DEFAULT, column->buffer) >= 0;
    if (memory >= 0) H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    column->hash = kv_hash64(column->hash, column->buffer, column->used * column->width);
    column->written = size;
    column->used = 0;
    return ok;
}

static bool column_append(struct column *column, const void *values, size_t n) {
    const char *from = values;
    while (n > 0) {
        size_t room = column->capacity - column->used;
        size_t taken = n < room ? n : room;
        memcpy(column->buffer + column->used * column->width, from, taken * column->width);
        column->used += taken;
        from += taken * column->width;
        n -= taken;
        if (column->used == column->capacity && !column_flush(column)) return false;
    }
    return true;
}

static bool column_close(struct column *column) {
    bool ok = column->dataset < 0 || H5Dclose(column->dataset) >= 0;
    free(column->buffer);
    *column = (struct column){.dataset = -1};
    return ok;
}

static kv_status write_attributes(hid_t file, const kv_shard_info *info, kv_error *err) {
    kv_status status = kv_h5_set_string(file, "/", "format", "kv-tokens", err);
    if (!status) status = kv_h5_set_i64(file, "/", "version", 1, err);
    if (!status) status = kv_h5_set_string(file, "/", "tokenizer", info->tokenizer, err);
    if (!status) status = kv_h5_set_i64(file, "/", "vocab_size", info->vocab_size, err);
    if (!status) status = kv_h5_set_i64(file, "/", "bos_id", info->bos_id, err);
    if (!status) status = kv_h5_set_i64(file, "/", "eos_id", info->eos_id, err);
    if (!status) status = kv_h5_set_string(file, "/", "source", info->source, err);
    if (!status && info->cuts[0]) status = kv_h5_set_string(file, "/", "cuts", info->cuts, err);
    return status;
}

static kv_status create_layout(kv_shard_writer *writer, kv_error *err) {
    kv_status status = kv_h5_create(writer->target.path, &writer->file, err);
    if (!status) status = write_attributes(writer->file, &writer->info, err);
    if (!status)
        status =
            column_create(writer, &writer->tokens, "tokens", H5T_NATIVE_INT32, KV_SHARD_TOKEN_PIECE, err);
    if (!status)
        status = column_create(writer, &writer->documents, "documents", H5T_NATIVE_INT64,
                               KV_SHARD_DOCUMENT_PIECE, err);
    if (!status && !column_append(&writer->documents, &writer->n_tokens, 1))
        status = cannot_write(writer, err);
    return status;
}

kv_status kv_shard_writer_open(const char *path, const kv_shard_info *info, kv_shard_writer **writer,
                               kv_error *err) {
    *writer = NULL;
    kv_shard_writer *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    made->file = made->tokens.dataset = made->documents.dataset = -1;
    made->info = *info;
    kv_status status = kv_whole_file_begin(&made->target, path, err);
    if (!status) status = create_layout(made, err);
    if (status) {
        kv_whole_file_end(&made->target, status, err);
        kv_shard_writer_free(made);
    } else {
        *writer = made;
    }
    return status;
}

kv_status kv_shard_writer_add_tokenizer(kv_shard_writer *writer, const kv_bundle *files, kv_error *err) {
    kv_status status = KV_OK;
    for (int i = 0; i < files->n && !status; i++) {
        const kv_bundled *file = &files->files[i];
        char name[sizeof KV_SHARD_TOKENIZER + KV_BUNDLE_NAME];
        const int64_t size = (int64_t)file->size;
        snprintf(name, sizeof name, KV_SHARD_TOKENIZER "/%s", file->name);
        status = kv_h5_write(writer->file, name, H5T_NATIVE_UINT8, file->bytes, 1, &size, err);
    }
    return status ? cannot_write(writer, err) : KV_OK;
}

kv_status kv_shard_writer_add(kv_shard_writer *writer, const int32_t *ids, int64_t n, kv_error *err) {
    if (n < 0) return kv_fail(err, KV_ERR_ARGUMENT, "a document cannot have %" PRIi64 " tokens", n);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= writer->info.vocab_size)
            return kv_fail(err, KV_ERR_RANGE,
                           "%s: token id %" PRIi32 " is outside the vocabulary of %" PRIi64,
                           writer->target.final, ids[i], writer->info.vocab_size);
    writer->n_tokens += n;
    if (!column_append(&writer->tokens, ids, (size_t)n) ||
        !column_append(&writer->documents, &writer->n_tokens, 1))
        return cannot_write(writer, err);
    return KV_OK;
}

// False when any of it failed; everything is closed all the same.
static bool close_file(kv_shard_writer *writer) {
    bool ok = column_close(&writer->tokens);
    ok = column_close(&writer->documents) && ok;
    if (writer->file >= 0) ok = H5Fclose(writer->file) >= 0 && ok;
    writer->file = -1;
    return ok;
}

kv_status kv_shard_writer_finish(kv_shard_writer *writer, kv_error *err) {
    bool ok = column_flush(&writer->tokens) && column_flush(&writer->documents);
    kv_shard_hash(writer->tokens.hash, writer->documents.hash, writer->hash);
    ok = ok && kv_h5_set_string(writer->file, "/", "hash", writer->hash, NULL) == KV_OK;
    ok = ok && H5Fflush(writer->file, H5F_SCOPE_LOCAL) >= 0;
    ok = close_file(writer) && ok;
    return kv_whole_file_end(&writer->target, ok ? KV_OK : cannot_write(writer, err), err);
}

const char *kv_shard_writer_hash(const kv_shard_writer *writer) {
    return writer->hash;
}

void kv_shard_writer_free(kv_shard_writer *writer) {
    if (!writer) return;
    close_file(writer);
    kv_whole_file_abandon(&writer->target);
    free(writer);
}
