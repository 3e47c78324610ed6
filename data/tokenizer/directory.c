// Tokenizers by the directory they lie in, which is where files of two models get mixed up: whoever opens one is told.
#include "data/tokenizer/directory.h"

#include "data/file/content.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/system/warning.h"
#include "data/tokenizer/files.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// ---- tokenizer_hash.json -------------------------------------------------------------------------------

static kv_status check_said(const char *dir, const kv_tokenizer *tokenizer, kv_error *err) {
    kv_tokenizer_id said, own;
    bool says;
    kv_status status = kv_tokenizer_id_read(dir, &said, &says, err);
    if (status || !says) return status;
    kv_tokenizer_identify(tokenizer, &own);
    if (!kv_tokenizer_serves(tokenizer, &said))
        return kv_fail(
            err, KV_ERR_MISMATCH,
            "%s was trained with another tokenizer than the one in there: found %s of %lld tokens, "
            "expected %s of %lld, as its tokenizer_hash.json says (delete that if it is meant so)",
            dir, own.hash, (long long)own.vocab_size, said.hash, (long long)said.vocab_size);
    if (kv_tokenizer_cuts_differ(&said, &own))
        kv_warn(
            "%s was trained with a tokenizer of the same tokens that cut text into others (other merges, "
            "normalisation or splitting), as its tokenizer_hash.json says; a model that reads other tokens than "
            "it was trained on answers worse: put the former tokenizer back",
            dir);
    return KV_OK;
}

// ---- A tokenizer.model beside a tokenizer.json -----------------------------------------------------------

// Of a SentencePiece model only the pieces, since loading it with its library would take a fifth of the time that the
// tokenizer.json does. It is a protocol buffer: fields, each with a number and a type, of which `pieces` (1) are fields
// again: `piece` (1) and `type` (3).
//                                                    [sentencepiece, src/sentencepiece_model.proto]
struct field {
    uint64_t number, value; // of a number, or the length of
    const char *bytes;      // this
};

enum { NORMAL = 1 };

static bool read_number(const char **at, const char *end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        const unsigned char byte = (unsigned char)*(*at)++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

// False: the end, or no protocol buffer.
static bool next_field(const char **at, const char *end, struct field *f) {
    uint64_t key;
    *f = (struct field){0};
    if (!read_number(at, end, &key)) return false;
    f->number = key >> 3;
    switch (key & 7) {
    case 0: return read_number(at, end, &f->value);
    case 1: f->value = 8; break;
    case 2:
        if (!read_number(at, end, &f->value)) return false;
        break;
    case 5: f->value = 4; break;
    default: return false;
    }
    if (f->value > (uint64_t)(end - *at)) return false;
    f->bytes = *at;
    *at += f->value;
    return true;
}

// The spelling of an ordinary piece; NULL of control pieces, bytes and the like, which the two files may call otherwise.
static const char *normal_piece(const struct field *piece, size_t *length) {
    const char *at = piece->bytes, *end = at + piece->value, *spelling = NULL;
    struct field f;
    uint64_t type = NORMAL;
    while (next_field(&at, end, &f)) {
        if (f.number == 1 && f.bytes) spelling = f.bytes, *length = f.value;
        if (f.number == 3) type = f.value;
    }
    return type == NORMAL ? spelling : NULL;
}

// The first ordinary piece that the tokenizer has another one for; -1: none. A file of another kind by that name
// (tiktoken's lines of base64) does not begin with a piece.
static int64_t find_other(const kv_tokenizer *tokenizer, const char *bytes, size_t size) {
    const char *at = bytes, *end = at + size;
    struct field f;
    int64_t id = 0;
    while (id < kv_tokenizer_vocab_size(tokenizer) && next_field(&at, end, &f)) {
        size_t length = 0;
        if (f.number != 1 || !f.bytes) return -1; // pieces come first
        const char *found = normal_piece(&f, &length), *used = kv_tokenizer_piece(tokenizer, (int32_t)id);
        if (found && used && (strlen(used) != length || memcmp(found, used, length) != 0)) return id;
        id++;
    }
    return -1;
}

static void doubt_second(const char *dir, const kv_tokenizer *tokenizer) {
    static const size_t max_bytes = (size_t)64 << 20;
    char path[PATH_MAX], *bytes;
    size_t size;
    if (!kv_path_exists_in(dir, "tokenizer.json") || !kv_path_exists_in(dir, "tokenizer.model")) return;
    if (kv_path_join(dir, "tokenizer.model", path, NULL) ||
        kv_read_file(path, max_bytes, &bytes, &size, NULL))
        return; // which nobody needs
    const int64_t id = find_other(tokenizer, bytes, size);
    free(bytes);
    if (id >= 0)
        kv_warn(
            "%s holds two tokenizers: token %lld of its tokenizer.json, which is used, is another one in its "
            "tokenizer.model; answers are worse where that is the model's: remove the one that is not",
            dir, (long long)id);
}

kv_status kv_tokenizer_check_directory(const char *dir, const kv_tokenizer *tokenizer, kv_error *err) {
    kv_status status = check_said(dir, tokenizer, err);
    if (!status) doubt_second(dir, tokenizer);
    return status;
}

// ---- Opening -------------------------------------------------------------------------------------------

// Whether dir/name exists; its path in out.
static bool lies_in(const char *dir, const char *name, char out[PATH_MAX]) {
    return kv_path_join(dir, name, out, NULL) == KV_OK && kv_path_exists(out);
}

bool kv_tokenizer_present(const char *dir) {
    return kv_path_exists_in(dir, "tokenizer.json") || kv_path_exists_in(dir, "tokenizer.model");
}

static kv_status find_file(const char *path, char out[PATH_MAX], kv_error *err) {
    struct stat info;
    if (strlen(path) + strlen("/tokenizer.model") >= PATH_MAX) return kv_path_too_long(path, err);
    snprintf(out, PATH_MAX, "%s", path);
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode)) return KV_OK;
    // It is looked at before it is read, which a pipe does not allow.
    if (!S_ISDIR(info.st_mode))
        return kv_mistaken(path, KV_FILE_TOKENIZER_MODEL, kv_fail(err, KV_ERR_IO, "%s: not a file", path),
                           err);
    if (lies_in(path, "tokenizer.json", out) || lies_in(path, "tokenizer.model", out)) return KV_OK;
    return kv_mistaken_dir(
        path, "tokenizer.json", "a tokenizer (tokenizer.json or tokenizer.model)",
        kv_fail(err, KV_ERR_IO, "%s: neither a tokenizer.json nor a tokenizer.model in there", path), err);
}

kv_status kv_tokenizer_open(const char *path, kv_tokenizer **tokenizer, kv_error *err) {
    char file[PATH_MAX];
    *tokenizer = NULL;
    kv_status status = find_file(path, file, err);
    if (!status) status = kv_tokenizer_open_file(file, tokenizer, err);
    if (status || strcmp(file, path) == 0) return status;
    status = kv_tokenizer_check_directory(path, *tokenizer, err);
    if (!status) return KV_OK;
    kv_tokenizer_free(*tokenizer);
    *tokenizer = NULL;
    return status;
}
