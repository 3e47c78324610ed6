// Tokenizers by the directory they lie in, which is where files of two models get mixed up: whoever opens one is told.
#include "data/tokenizer/directory.h"

#include "data/file/content.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/system/warning.h"
#include "data/tokenizer/export.h"
#include "data/tokenizer/files.h"
#include "data/tokenizer/spm_proto.h"

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

// The first ordinary piece that the tokenizer has another one for; -1: none. Control pieces, bytes and the like may be
// called otherwise. A file of another kind by that name (tiktoken's lines of base64) does not begin with a piece. Loading
// it with SentencePiece's library would take a fifth of the time that the tokenizer.json does.
static int64_t find_other(const kv_tokenizer *tokenizer, const char *bytes, size_t size) {
    const char *at = bytes, *end = bytes + size;
    kv_spm_piece_info p;
    for (int64_t id = 0; id < kv_tokenizer_vocab_size(tokenizer) && kv_spm_next_piece(&at, end, &p); id++) {
        const char *used = kv_tokenizer_piece(tokenizer, (int32_t)id);
        if (p.type != KV_SPM_NORMAL || !used) continue;
        if (strlen(used) != p.length || memcmp(p.spelling, used, p.length) != 0) return id;
    }
    return -1;
}

static void doubt_second(const char *dir, const kv_tokenizer *tokenizer) {
    static const size_t max_bytes = (size_t)64 << 20;
    char path[PATH_MAX], *bytes;
    size_t size;
    if (!kv_path_exists_in(dir, "tokenizer.json") || !kv_path_exists_in(dir, "tokenizer.model")) return;
    if (kv_tokenizer_is_export(dir)) return;
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

bool kv_tokenizer_file(const char *dir, char out[PATH_MAX]) {
    if (!lies_in(dir, "tokenizer.json", out)) return lies_in(dir, "tokenizer.model", out);
    return kv_tokenizer_is_export(dir) ? lies_in(dir, "tokenizer.model", out) : true;
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
    if (kv_tokenizer_file(path, out)) return KV_OK;
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
