// Documents are gathered in blocks of some size, large enough to keep all threads busy and small enough for
// memory not to depend on the input.
#include "data/kvdata/tokenize/tokenize.h"

#include "data/system/buffers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// ---- Blocks --------------------------------------------------------------------------------------------

void tokenize_block_clear(tokenize_block *block) {
    for (int64_t i = 0; i < block->n; i++) {
        free(block->documents[i].why);
        free(block->documents[i].ids);
    }
    block->text.length = 0;
    block->n = 0;
    block->last = false;
    block->status = KV_OK;
}

void tokenize_block_free(tokenize_block *block) {
    tokenize_block_clear(block);
    kv_bytes_free(&block->text);
    free(block->documents);
    *block = (tokenize_block){0};
}

// bytes: what it takes in its file.
static kv_status add(tokenize_block *block, const kv_document *document, tokenize_place behind, int64_t bytes,
                     kv_error *err) {
    tokenize_document *larger = kv_room_for_one(block->documents, (size_t)block->n, sizeof *larger);
    if (!larger) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a block of documents");
    block->documents = larger;
    tokenize_document *made = &block->documents[block->n];
    *made = (tokenize_document){
        .start = block->text.length, .length = document->length, .behind = behind, .line = document->line};
    if (document->bad) {
        made->outcome = TOKENIZE_BAD;
        made->length = bytes > 0 ? (size_t)bytes : 0;
        made->why = strdup(document->bad);
        if (!made->why) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    } else {
        kv_status status = kv_bytes_add(&block->text, document->text, document->length, err);
        if (status) return status;
    }
    block->n++;
    return KV_OK;
}

// ---- Reader --------------------------------------------------------------------------------------------

static kv_status open_current(tokenize_reader *reader, kv_error *err) {
    if (reader->documents) return KV_OK;
    return kv_documents_open_as(reader->files->items[reader->file].path, &reader->options, &reader->documents,
                                err);
}

static void next_file(tokenize_reader *reader) {
    kv_documents_close(reader->documents);
    reader->documents = NULL;
    reader->done += reader->files->items[reader->file++].size;
    reader->read = 0;
}

kv_status tokenize_reader_seek(tokenize_reader *reader, tokenize_place place, bool *there, kv_error *err) {
    while (reader->file < place.file) next_file(reader);
    *there = place.within.byte == 0;
    if (*there) return KV_OK;
    kv_status status = open_current(reader, err);
    reader->read = place.within.byte;
    return status ? status : kv_documents_seek(reader->documents, place.within, there, err);
}

int64_t tokenize_reader_position(const tokenize_reader *reader) {
    return reader->done + (reader->documents ? kv_documents_position(reader->documents) : 0);
}

static const char *name_of(const kv_text_file *file) {
    return strcmp(file->path, "-") == 0 ? "standard input" : file->path;
}

kv_status tokenize_next(tokenize_reader *reader, kv_document *document, kv_error *err) {
    *document = (kv_document){0};
    while (reader->file < reader->files->n) {
        kv_status status = open_current(reader, err);
        if (!status) status = kv_documents_read(reader->documents, document, err);
        if (!status && document->whole && !reader->files->items[reader->file].found)
            status = kv_fail(err, KV_ERR_FORMAT, "%s: %s", name_of(&reader->files->items[reader->file]),
                             document->bad);
        if (status || document->text || document->bad) return status;
        next_file(reader);
    }
    return KV_OK;
}

void tokenize_read(tokenize_reader *reader, size_t bytes, tokenize_block *block) {
    // Documents that hold no text take room too.
    const int64_t most = (int64_t)(bytes / 64) + 1;
    while (!block->status && block->text.length < bytes && block->n < most) {
        kv_document document;
        block->status = tokenize_next(reader, &document, &block->err);
        block->last = !document.text && !document.bad;
        if (block->status || block->last) break;
        const tokenize_place behind = {reader->file, kv_documents_tell(reader->documents)};
        const int64_t taken =
            document.whole ? reader->files->items[reader->file].size : behind.within.byte - reader->read;
        reader->read = behind.within.byte;
        block->status = add(block, &document, behind, taken, &block->err);
    }
    block->position = tokenize_reader_position(reader);
}

void tokenize_reader_close(tokenize_reader *reader) {
    kv_documents_close(reader->documents);
    reader->documents = NULL;
}
