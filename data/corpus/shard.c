#include "data/corpus/shard.h"

#include "data/file/h5.h"
#include "data/file/hash.h"
#include "data/file/mistaken.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_status read_attributes(hid_t file, const char *path, kv_shard_info *info, kv_error *err) {
    char format[32] = "";
    int64_t version = 0, bos = 0, eos = 0;
    kv_status status = kv_h5_attr_string(file, "/", "format", format, sizeof format, err);
    if (status || strcmp(format, "kv-tokens") != 0)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: not a token shard (attribute \"format\" is \"%s\", expected \"kv-tokens\"; "
                       "make one with kvdata tokenize)",
                       path, format);
    status = kv_h5_attr_i64(file, "/", "version", &version, err);
    if (!status)
        status = kv_check_version(path, KV_FILE_SHARD, version, 1, 1, "kvdata tokenize makes it again", err);
    if (!status)
        status = kv_h5_attr_string(file, "/", "tokenizer", info->tokenizer, sizeof info->tokenizer, err);
    if (!status) status = kv_h5_attr_i64(file, "/", "vocab_size", &info->vocab_size, err);
    if (!status) status = kv_h5_attr_i64(file, "/", "bos_id", &bos, err);
    if (!status) status = kv_h5_attr_i64(file, "/", "eos_id", &eos, err);
    if (!status) status = kv_h5_attr_string(file, "/", "source", info->source, sizeof info->source, err);
    info->cuts[0] = 0;
    if (!status && H5Aexists(file, "cuts") > 0)
        status = kv_h5_attr_string(file, "/", "cuts", info->cuts, sizeof info->cuts, err);
    if (status) return status;
    if (info->vocab_size < 1 || info->vocab_size > INT32_MAX)
        return kv_fail(err, KV_ERR_FORMAT, "%s: vocab_size is %" PRIi64 ", expected 1 to %" PRIi32, path,
                       info->vocab_size, INT32_MAX);
    if (bos < -1 || bos >= info->vocab_size || eos < -1 || eos >= info->vocab_size)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: bos_id %" PRIi64 " or eos_id %" PRIi64 " is outside the vocabulary of %" PRIi64,
                       path, bos, eos, info->vocab_size);
    info->bos_id = (int32_t)bos;
    info->eos_id = (int32_t)eos;
    return KV_OK;
}

static kv_status check_documents(const kv_shard *shard, const char *path, kv_error *err) {
    const int64_t *start = shard->documents;
    int64_t n = shard->n_documents;
    if (start[0] != 0 || start[n] != shard->n_tokens)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: documents run from token %" PRIi64 " to %" PRIi64 ", expected 0 to %" PRIi64,
                       path, start[0], start[n], shard->n_tokens);
    for (int64_t i = 0; i < n; i++)
        if (start[i + 1] < start[i])
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s: document %" PRIi64 " ends at token %" PRIi64 ", before its start %" PRIi64,
                           path, i, start[i + 1], start[i]);
    return KV_OK;
}

static kv_status check_tokens(const kv_shard *shard, const char *path, kv_error *err) {
    for (int64_t i = 0; i < shard->n_tokens; i++)
        if (shard->tokens[i] < 0 || shard->tokens[i] >= shard->info.vocab_size)
            return kv_fail(err, KV_ERR_RANGE,
                           "%s: token %" PRIi64 " has id %" PRIi32 ", outside the vocabulary of %" PRIi64,
                           path, i, shard->tokens[i], shard->info.vocab_size);
    return KV_OK;
}

void kv_shard_hash(uint64_t tokens, uint64_t documents, char out[17]) {
    kv_hash_text(kv_hash64(documents, &tokens, sizeof tokens), out);
}

static void hash_content(const kv_shard *shard, char out[17]) {
    uint64_t tokens = 0, documents = 0;
    for (int64_t i = 0; i < shard->n_tokens; i += KV_SHARD_TOKEN_PIECE) {
        const int64_t left = shard->n_tokens - i,
                      n = left < KV_SHARD_TOKEN_PIECE ? left : KV_SHARD_TOKEN_PIECE;
        tokens = kv_hash64(tokens, shard->tokens + i, (size_t)n * sizeof *shard->tokens);
    }
    for (int64_t i = 0; i <= shard->n_documents; i += KV_SHARD_DOCUMENT_PIECE) {
        const int64_t left = shard->n_documents + 1 - i,
                      n = left < KV_SHARD_DOCUMENT_PIECE ? left : KV_SHARD_DOCUMENT_PIECE;
        documents = kv_hash64(documents, shard->documents + i, (size_t)n * sizeof *shard->documents);
    }
    kv_shard_hash(tokens, documents, out);
}

// The hash the shard says it has; empty for an old one.
static kv_status read_hash(hid_t file, char hash[17], kv_error *err) {
    hash[0] = 0;
    return H5Aexists(file, "hash") > 0 ? kv_h5_attr_string(file, "/", "hash", hash, 17, err) : KV_OK;
}

static kv_status check_hash(hid_t file, kv_shard *shard, const char *path, kv_error *err) {
    char said[17];
    hash_content(shard, shard->hash);
    kv_status status = read_hash(file, said, err);
    if (!status && said[0] && strcmp(said, shard->hash) != 0)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: damaged, the content has hash %s, expected %s", path,
                         shard->hash, said);
    return status;
}

static kv_status read_shard(hid_t file, const char *path, kv_shard *shard, kv_error *err) {
    int dims = 0;
    int64_t shape[8] = {0};
    kv_status status = read_attributes(file, path, &shard->info, err);
    if (status) return status;
    status = kv_h5_read_i32(file, "tokens", INT64_MAX / 8, &shard->tokens, &dims, shape, err);
    if (status) return status;
    if (dims != 1) return kv_fail(err, KV_ERR_FORMAT, "%s: tokens has %d dimensions, expected 1", path, dims);
    shard->n_tokens = shape[0];
    status = kv_h5_read_i64(file, "documents", INT64_MAX / 16, &shard->documents, &dims, shape, err);
    if (status) return status;
    if (dims != 1 || shape[0] < 1)
        return kv_fail(err, KV_ERR_FORMAT, "%s: documents is not a list of starts with the end last", path);
    shard->n_documents = shape[0] - 1;
    status = check_documents(shard, path, err);
    if (!status) status = check_tokens(shard, path, err);
    return status ? status : check_hash(file, shard, path, err);
}

// Length of a list, without reading it.
static kv_status read_length(hid_t file, const char *path, const char *name, int64_t *n, kv_error *err) {
    hid_t dataset = kv_h5_exists(file, name) ? H5Dopen2(file, name, H5P_DEFAULT) : -1;
    hid_t space = dataset >= 0 ? H5Dget_space(dataset) : -1;
    hsize_t length = 0;
    const bool list = space >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                      H5Sget_simple_extent_dims(space, &length, NULL) == 1;
    if (space >= 0) H5Sclose(space);
    if (dataset >= 0) H5Dclose(dataset);
    *n = (int64_t)length;
    return list && length <= INT64_MAX / 16 ? KV_OK
                                            : kv_fail(err, KV_ERR_FORMAT, "%s: %s is not a list", path, name);
}

static kv_status read_summary(hid_t file, const char *path, kv_shard_summary *summary, kv_error *err) {
    int64_t n_starts = 0;
    kv_status status = read_attributes(file, path, &summary->info, err);
    if (!status) status = read_length(file, path, "tokens", &summary->n_tokens, err);
    if (!status) status = read_length(file, path, "documents", &n_starts, err);
    if (!status && n_starts < 1)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: documents is not a list of starts with the end last", path);
    summary->n_documents = n_starts - 1;
    return status ? status : read_hash(file, summary->hash, err);
}

kv_status kv_shard_read_summary(const char *path, kv_shard_summary *summary, kv_error *err) {
    *summary = (kv_shard_summary){0};
    hid_t file = -1;
    kv_status status = kv_h5_open(path, &file, err);
    if (!status) status = read_summary(file, path, summary, err);
    if (file >= 0) H5Fclose(file);
    if (status || summary->hash[0]) return kv_mistaken(path, KV_FILE_SHARD, status, err);
    kv_shard *shard;
    status = kv_shard_open(path, &shard, err);
    if (status) return status;
    memcpy(summary->hash, shard->hash, sizeof summary->hash);
    kv_shard_free(shard);
    return KV_OK;
}

// ---- The tokenizer -------------------------------------------------------------------------------------

enum { MAX_TOKENIZER_FILE = 256 << 20 };

// File number i of the group.
static kv_status read_tokenizer_file(hid_t file, hid_t group, hsize_t i, kv_bundle *files, kv_error *err) {
    char name[KV_BUNDLE_NAME], full[sizeof KV_SHARD_TOKENIZER + KV_BUNDLE_NAME];
    uint8_t *bytes = NULL;
    int64_t n = 0;
    const ssize_t length =
        H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
    if (length < 1 || length >= (ssize_t)sizeof name)
        return kv_fail(err, KV_ERR_FORMAT, "a file whose name has %lld letters, expected 1 to %d",
                       (long long)length, KV_BUNDLE_NAME - 1);
    snprintf(full, sizeof full, KV_SHARD_TOKENIZER "/%s", name);
    kv_status status = kv_h5_read_u8(file, full, MAX_TOKENIZER_FILE, &bytes, &n, err);
    return status ? status : kv_bundle_add(files, name, (char *)bytes, (size_t)n, err);
}

static kv_status read_tokenizer(hid_t file, kv_bundle *files, kv_error *err) {
    H5G_info_t about;
    hid_t group = H5Gopen2(file, KV_SHARD_TOKENIZER, H5P_DEFAULT);
    kv_status status = group >= 0 && H5Gget_info(group, &about) >= 0
                           ? KV_OK
                           : kv_fail(err, KV_ERR_FORMAT, "no group of files, as it should be");
    for (hsize_t i = 0; !status && i < about.nlinks; i++)
        status = read_tokenizer_file(file, group, i, files, err);
    if (group >= 0) H5Gclose(group);
    return status;
}

kv_status kv_shard_read_tokenizer(const char *path, kv_bundle *files, kv_error *err) {
    hid_t file = -1;
    *files = (kv_bundle){0};
    kv_status status = kv_h5_open(path, &file, err);
    if (status) return status;
    if (kv_h5_exists(file, KV_SHARD_TOKENIZER)) status = read_tokenizer(file, files, err);
    H5Fclose(file);
    if (!status) return KV_OK;
    kv_bundle_free(files);
    return kv_fail_within(err, status, "%s: its " KV_SHARD_TOKENIZER, path);
}

// ---- The whole -----------------------------------------------------------------------------------------

kv_status kv_shard_open(const char *path, kv_shard **shard, kv_error *err) {
    *shard = NULL;
    hid_t file = -1;
    kv_status status = kv_h5_open(path, &file, err);
    if (status) return kv_mistaken(path, KV_FILE_SHARD, status, err);
    kv_shard *made = calloc(1, sizeof *made);
    status =
        made ? read_shard(file, path, made, err) : kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    H5Fclose(file);
    if (status)
        kv_shard_free(made);
    else
        *shard = made;
    return kv_mistaken(path, KV_FILE_SHARD, status, err);
}

void kv_shard_free(kv_shard *shard) {
    if (!shard) return;
    free(shard->documents);
    free(shard->tokens);
    free(shard);
}
