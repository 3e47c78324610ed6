// The library decides what pieces a text has; around it stands what it would lose: invalid bytes, texts that
// go on from others, and texts too long for its appetite for memory.
#include "data/tokenizer/spm.h"

#include "data/file/content.h"
#include "data/file/mistaken.h"
#include "data/system/console.h"
#include "data/text/unicode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Real models are below 10 MiB; anything far beyond that is another file.
static const size_t max_model_bytes = (size_t)256 << 20;

static const char space_mark[] = "\xE2\x96\x81"; // U+2581, what it writes for a space

// The library takes a text for a whole one: it puts a space in front, as most models ask for, and takes it
// away again. Where a text goes on, it is given behind a character that no model has a piece for: it is spelt
// in bytes, which nothing merges with, so its ids can be cut off again.
static const char anchor[] = "\xF4\x8F\xBF\xBD"; // U+10FFFD

// Longer texts are given to the library in parts, where that is the same: it needs 100 bytes and more for
// each byte of a text.
enum { PART_BYTES = 1 << 16 };

// ---- The library ---------------------------------------------------------------------------------------

static kv_status code_of(int failure) {
    return failure == KV_SPM_NO_MEMORY ? KV_ERR_MEMORY : KV_ERR_FORMAT;
}

static kv_status library_encode(const kv_spm_tokenizer *tokenizer, const char *text, size_t length,
                                size_t n_cut, kv_ids *ids, kv_error *err) {
    char message[256] = "";
    int32_t *found = NULL;
    size_t n = 0;
    const int failure = kv_spm_encode(tokenizer->spm, text, length, &found, &n, message, sizeof message);
    if (failure)
        return kv_fail(err, code_of(failure), "cannot tokenize a text of %zu bytes: %s", length, message);
    const kv_ids *front = &tokenizer->anchor;
    kv_status status = KV_OK;
    if (n < n_cut || (n_cut > 0 && memcmp(found, front->data, n_cut * sizeof *found) != 0))
        status = kv_fail(err, KV_ERR_FORMAT, "the tokenizer changes a text that others follow");
    if (!status) status = kv_ids_reserve(ids, n - n_cut, err);
    if (!status && n > n_cut) memcpy(ids->data + ids->length, found + n_cut, (n - n_cut) * sizeof *found);
    if (!status) ids->length += n - n_cut;
    free(found);
    return status;
}

static kv_status library_decode(const kv_spm_tokenizer *tokenizer, const int32_t *ids, size_t n, size_t n_cut,
                                kv_bytes *text, kv_error *err) {
    char message[256] = "", *found = NULL;
    size_t length = 0;
    const int failure = kv_spm_decode(tokenizer->spm, ids, n, &found, &length, message, sizeof message);
    if (failure) return kv_fail(err, code_of(failure), "cannot turn %zu tokens into text: %s", n, message);
    kv_status status = length < n_cut || memcmp(found, anchor, n_cut) != 0
                           ? kv_fail(err, KV_ERR_FORMAT, "the tokenizer changes a text that others follow")
                           : kv_bytes_add(text, found + n_cut, length - n_cut, err);
    free(found);
    return status;
}

// ---- A model -------------------------------------------------------------------------------------------

static kv_status find_bytes(kv_spm_tokenizer *tokenizer, kv_error *err) {
    for (int b = 0; b < 256; b++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", b);
        tokenizer->bytes[b] = kv_spm_find(tokenizer->spm, piece);
        if (tokenizer->bytes[b] < 0 || !kv_spm_is_byte(tokenizer->spm, tokenizer->bytes[b])) return KV_OK;
    }
    kv_status status = library_encode(tokenizer, anchor, strlen(anchor), 0, &tokenizer->anchor, err);
    const kv_ids *ids = &tokenizer->anchor;
    tokenizer->byte_fallback = !status && ids->length >= 4;
    for (size_t i = 0; i < 4 && tokenizer->byte_fallback; i++)
        tokenizer->byte_fallback =
            ids->data[ids->length - 4 + i] == tokenizer->bytes[(unsigned char)anchor[i]];
    return status;
}

static bool ends_words(const kv_spm *spm) {
    if (kv_spm_find(spm, space_mark) < 0) return false;
    for (int id = 0; id < kv_spm_vocab_size(spm); id++) {
        const char *at = kv_spm_piece(spm, id);
        while (strncmp(at, space_mark, strlen(space_mark)) == 0) at += strlen(space_mark);
        if (strstr(at, space_mark)) return false;
    }
    return true;
}

// A model is one protocol buffer: fields with their lengths, one behind the other, which end where the file does. The
// library does not say so when one is cut off.
static bool is_cut(const char *bytes, size_t size) {
    for (size_t at = 0; at < size;) {
        if ((bytes[at++] & 7) != 2) return false; // not of the kind that has a length: nothing is known
        uint64_t length = 0;
        for (int shift = 0;; shift += 7) {
            if (at == size) return true;
            if (shift > 28) return false;
            length |= (uint64_t)(bytes[at] & 0x7F) << shift;
            if (!(bytes[at++] & 0x80)) break;
        }
        if (length > size - at) return true;
        at += length;
    }
    return false;
}

static kv_status not_a_model(const char *path, const char *bytes, size_t size, const char *message,
                             kv_error *err) {
    if (is_cut(bytes, size))
        return kv_fail(err, KV_ERR_FORMAT, "%s: truncated: its last part goes on behind the file's %zu bytes",
                       path, size);
    return kv_fail(err, KV_ERR_FORMAT, "%s: not a SentencePiece model of %zu bytes (%s)", path, size,
                   message);
}

static kv_status open_model(const char *path, kv_spm_tokenizer **tokenizer, kv_error *err) {
    char *bytes = NULL, message[256] = "";
    size_t size = 0;
    *tokenizer = NULL;
    kv_status status = kv_read_file(path, max_model_bytes, &bytes, &size, err);
    if (status) return status;
    kv_spm_tokenizer *made = calloc(1, sizeof *made);
    const int failure =
        made ? kv_spm_load(bytes, size, &made->spm, message, sizeof message) : KV_SPM_NO_MEMORY;
    if (failure == KV_SPM_NO_MEMORY)
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    else if (failure || kv_spm_vocab_size(made->spm) < 1)
        status = not_a_model(path, bytes, size, message, err);
    else if ((status = find_bytes(made, err)))
        status = kv_fail_within(err, status, "%s", path);
    free(bytes);
    if (status) {
        kv_spm_tokenizer_free(made);
        return status;
    }
    made->cuts_at_spaces = made->byte_fallback && ends_words(made->spm);
    *tokenizer = made;
    return KV_OK;
}

kv_status kv_spm_tokenizer_open(const char *path, kv_spm_tokenizer **tokenizer, kv_error *err) {
    return kv_mistaken(path, KV_FILE_TOKENIZER_MODEL, open_model(path, tokenizer, err), err);
}

void kv_spm_tokenizer_free(kv_spm_tokenizer *tokenizer) {
    if (!tokenizer) return;
    kv_spm_free(tokenizer->spm);
    kv_ids_free(&tokenizer->anchor);
    free(tokenizer);
}

// ---- Text to ids ---------------------------------------------------------------------------------------

// Length of the first part of a text: up to the end of a word.
static size_t part_length(const kv_spm_tokenizer *tokenizer, const char *text, size_t length) {
    if (!tokenizer->cuts_at_spaces) return length;
    for (size_t i = PART_BYTES; i < length; i++)
        if (text[i] == ' ' && text[i - 1] != ' ' && memcmp(text + i - 3, space_mark, 3) != 0) return i;
    return length;
}

static kv_status encode_behind(const kv_spm_tokenizer *tokenizer, const char *text, size_t length,
                               kv_ids *ids, kv_error *err) {
    kv_bytes joined = {0};
    kv_status status = kv_bytes_add(&joined, anchor, strlen(anchor), err);
    if (!status) status = kv_bytes_add(&joined, text, length, err);
    if (!status)
        status = library_encode(tokenizer, joined.data, joined.length, tokenizer->anchor.length, ids, err);
    kv_bytes_free(&joined);
    return status;
}

// A run of invalid bytes. In front of the first go the pieces that the library puts in front of any text.
static kv_status encode_bytes(const kv_spm_tokenizer *tokenizer, const char *bytes, size_t n, bool first,
                              kv_ids *ids, kv_error *err) {
    const kv_ids *front = &tokenizer->anchor;
    size_t n_front = first ? front->length - strlen(anchor) : 0;
    kv_status status = KV_OK;
    for (size_t i = 0; i < n_front && !status; i++) status = kv_ids_add(ids, front->data[i], err);
    for (size_t i = 0; i < n && !status; i++)
        status = kv_ids_add(ids, tokenizer->bytes[(unsigned char)bytes[i]], err);
    return status;
}

// A stretch of valid UTF-8, part by part.
static kv_status encode_valid(const kv_spm_tokenizer *tokenizer, const char *text, size_t length, bool first,
                              kv_ids *ids, kv_error *err) {
    kv_status status = KV_OK;
    for (size_t done = 0; done < length && !status; first = false) {
        size_t part = part_length(tokenizer, text + done, length - done);
        status = first ? library_encode(tokenizer, text, part, 0, ids, err)
                       : encode_behind(tokenizer, text + done, part, ids, err);
        done += part;
        if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    }
    return status;
}

kv_status kv_spm_tokenizer_encode(const kv_spm_tokenizer *tokenizer, const char *text, size_t length,
                                  kv_ids *ids, kv_error *err) {
    if (!tokenizer->byte_fallback) return library_encode(tokenizer, text, length, 0, ids, err);
    kv_status status = KV_OK;
    for (size_t done = 0; done < length && !status;) {
        size_t valid = kv_utf8_valid(text + done, length - done);
        status = encode_valid(tokenizer, text + done, valid, done == 0, ids, err);
        size_t invalid = kv_utf8_invalid(text + done + valid, length - done - valid);
        if (invalid > 0 && !status)
            status = encode_bytes(tokenizer, text + done + valid, invalid, done + valid == 0, ids, err);
        done += valid + invalid;
    }
    return status;
}

// ---- Ids to text ---------------------------------------------------------------------------------------

// The run of byte pieces, or of others, that ids[n] begins with; what bytes they stand for is added to *text.
static int64_t byte_run(const kv_spm_tokenizer *tokenizer, const int32_t *ids, int64_t n, kv_bytes *text,
                        kv_status *status, kv_error *err) {
    int64_t i = 0;
    for (; i < n && kv_spm_is_byte(tokenizer->spm, ids[i]) && !*status; i++) {
        // Its name tells: <0x0A>.
        char byte = (char)strtol(kv_spm_piece(tokenizer->spm, ids[i]) + 1, NULL, 16);
        *status = kv_bytes_add(text, &byte, 1, err);
    }
    return i;
}

static int64_t text_run(const kv_spm_tokenizer *tokenizer, const int32_t *ids, int64_t n) {
    int64_t i = 0;
    while (i < n && !kv_spm_is_byte(tokenizer->spm, ids[i])) i++;
    return i;
}

// The library puts U+FFFD where bytes are no characters. Whether there are such ones.
static kv_status has_invalid_bytes(const kv_spm_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                   bool *found, kv_error *err) {
    kv_bytes run = {0};
    kv_status status = KV_OK;
    *found = false;
    for (int64_t i = 0; i < n && !*found && !status;) {
        i += text_run(tokenizer, ids + i, n - i);
        run.length = 0;
        i += byte_run(tokenizer, ids + i, n - i, &run, &status, err);
        *found = kv_utf8_valid(run.data, run.length) < run.length;
    }
    kv_bytes_free(&run);
    return status;
}

static kv_status decode_behind(const kv_spm_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                               kv_bytes *text, kv_error *err) {
    const kv_ids *front = &tokenizer->anchor;
    kv_ids joined = {0};
    kv_status status = kv_ids_reserve(&joined, front->length + (size_t)n, err);
    if (!status) {
        memcpy(joined.data, front->data, front->length * sizeof *ids);
        memcpy(joined.data + front->length, ids, (size_t)n * sizeof *ids);
        status = library_decode(tokenizer, joined.data, front->length + (size_t)n, strlen(anchor), text, err);
    }
    kv_ids_free(&joined);
    return status;
}

kv_status kv_spm_tokenizer_decode(const kv_spm_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                  kv_bytes *text, kv_error *err) {
    bool by_bytes = false;
    kv_status status =
        tokenizer->byte_fallback ? has_invalid_bytes(tokenizer, ids, n, &by_bytes, err) : KV_OK;
    if (!status && !by_bytes) return library_decode(tokenizer, ids, (size_t)n, 0, text, err);
    for (int64_t i = 0; i < n && !status;) {
        int64_t run = text_run(tokenizer, ids + i, n - i);
        if (run > 0)
            status = i == 0 ? library_decode(tokenizer, ids, (size_t)run, 0, text, err)
                            : decode_behind(tokenizer, ids + i, run, text, err);
        i += run;
        if (!status) i += byte_run(tokenizer, ids + i, n - i, text, &status, err);
    }
    return status;
}
