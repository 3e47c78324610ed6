// The journal knows all that decides what comes of a text (options, inputs with sizes and times, the
// tokenizer's hash), so that a run goes on only where its corpus would come out the same.
#include "data/kvdata/tokenize/journal.h"

#include "core/text.h"
#include "data/corpus/corpus.h"
#include "data/file/content.h"
#include "data/file/hash.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/system/buffers.h"
#include "data/text/unicode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Names of more files than this would make the journal a burden; their hash still tells whether they are the
// same.
enum { MOST_NAMES = 10000 };

void tokenize_shard_name(int64_t number, char name[TOKENIZE_SHARD_NAME]) {
    snprintf(name, TOKENIZE_SHARD_NAME, "shard-%05" PRIi64 ".h5", number);
}

int64_t tokenize_shard_number(const char *name) {
    int64_t number = -1;
    char again[TOKENIZE_SHARD_NAME];
    if (sscanf(name, "shard-%" SCNd64, &number) != 1 || number < 0) return -1;
    tokenize_shard_name(number, again);
    return strcmp(name, again) == 0 ? number : -1;
}

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory");
}

// ---- What the run is -----------------------------------------------------------------------------------

// A path as JSON text: bytes that are no UTF-8 are shown as '?'.
static json_t *path_text(const char *path) {
    json_t *text = json_string(path);
    if (text) return text;
    char *shown = strdup(path);
    for (size_t at = 0, left = shown ? strlen(shown) : 0; left > 0;) {
        const size_t valid = kv_utf8_valid(shown + at, left),
                     invalid = kv_utf8_invalid(shown + at + valid, left - valid);
        memset(shown + at + valid, '?', invalid);
        at += valid + invalid;
        left -= valid + invalid;
    }
    text = shown ? json_string(shown) : NULL;
    free(shown);
    return text;
}

static json_t *describe_options(const tokenize_options *options, const kv_tokenizer *tokenizer) {
    static const char *const formats[] = {"by content", "text", "jsonl"};
    return json_pack("{s:s, s:I, s:I, s:b, s:s, s:s, s:I}", "tokenizer", kv_tokenizer_hash(tokenizer),
                     "min_chars", (json_int_t)options->min_chars, "min_tokens",
                     (json_int_t)options->min_tokens, "nfc", (int)options->nfc, "format",
                     formats[options->text.format], "text_key",
                     options->text.text_key ? options->text.text_key : "text", "shard_tokens",
                     (json_int_t)options->shard_tokens);
}

static json_t *describe_inputs(const tokenize_options *options, const kv_text_files *files) {
    json_t *given = json_array(), *names = files->n <= MOST_NAMES ? json_array() : NULL;
    int64_t bytes = 0;
    uint64_t hash = 0;
    char text[17];
    for (int i = 0; i < options->n_inputs; i++) json_array_append_new(given, path_text(options->inputs[i]));
    for (int64_t i = 0; i < files->n; i++) {
        const kv_text_file *file = &files->items[i];
        bytes += file->size;
        hash = kv_hash64(hash, file->path, strlen(file->path));
        hash = kv_hash64(hash, &file->size, sizeof file->size);
        hash = kv_hash64(hash, &file->modified, sizeof file->modified);
        if (names)
            json_array_append_new(names, json_pack("[o, I, I]", path_text(file->path), (json_int_t)file->size,
                                                   (json_int_t)file->modified));
    }
    kv_hash_text(hash, text);
    return json_pack("{s:o, s:I, s:I, s:s, s:o*}", "given", given, "files", (json_int_t)files->n, "bytes",
                     (json_int_t)bytes, "hash", text, "list", names);
}

kv_status tokenize_journal_begin(tokenize_journal *journal, const tokenize_options *options,
                                 const kv_text_files *files, const kv_tokenizer *tokenizer, kv_error *err) {
    *journal = (tokenize_journal){.options = describe_options(options, tokenizer),
                                  .inputs = describe_inputs(options, files)};
    return journal->options && journal->inputs ? KV_OK : out_of_memory(err);
}

void tokenize_journal_free(tokenize_journal *journal) {
    json_decref(journal->options);
    json_decref(journal->inputs);
    free(journal->shards);
    *journal = (tokenize_journal){0};
}

kv_status tokenize_journal_add(tokenize_journal *journal, const tokenize_shard *shard, kv_error *err) {
    tokenize_shard *larger = kv_room_for_one(journal->shards, (size_t)journal->n_shards, sizeof *larger);
    if (!larger) return out_of_memory(err);
    journal->shards = larger;
    journal->shards[journal->n_shards++] = *shard;
    return KV_OK;
}

// ---- Writing -------------------------------------------------------------------------------------------

static json_t *shard_list(const tokenize_journal *journal) {
    json_t *list = json_array();
    for (int64_t i = 0; i < journal->n_shards; i++) {
        const tokenize_shard *shard = &journal->shards[i];
        char name[TOKENIZE_SHARD_NAME];
        tokenize_shard_name(i, name);
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:s}", "file", name, "documents",
                                              (json_int_t)shard->n_documents, "tokens",
                                              (json_int_t)shard->n_tokens, "hash", shard->hash));
    }
    return list;
}

// Takes `root` over.
static kv_status save(const char *dir, const char *name, json_t *root, kv_error *err) {
    char path[PATH_MAX];
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (!text) return out_of_memory(err);
    kv_status status = kv_path_join(dir, name, path, err);
    if (!status) status = kv_write_file(path, text, strlen(text), err);
    free(text);
    return status;
}

kv_status tokenize_journal_save(const tokenize_journal *journal, const char *dir, kv_error *err) {
    const tokenize_counts *c = &journal->counts;
    const tokenize_place *p = &journal->place;
    json_t *counts = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "documents", (json_int_t)c->documents, "tokens",
        (json_int_t)c->tokens, "bytes", (json_int_t)c->bytes, "too_few_chars", (json_int_t)c->too_few_chars,
        "too_few_tokens", (json_int_t)c->too_few_tokens, "bad", (json_int_t)c->bad, "short_bytes",
        (json_int_t)c->short_bytes, "bad_bytes", (json_int_t)c->bad_bytes);
    json_t *place = json_pack("{s:I, s:I, s:I}", "file", (json_int_t)p->file, "byte",
                              (json_int_t)p->within.byte, "line", (json_int_t)p->within.line);
    return save(dir, TOKENIZE_JOURNAL,
                json_pack("{s:s, s:i, s:O, s:O, s:o, s:o, s:o}", "format", "kv-tokenize", "version", 1,
                          "options", journal->options, "inputs", journal->inputs, "counts", counts, "place",
                          place, "shards", shard_list(journal)),
                err);
}

kv_status tokenize_index_save(const tokenize_journal *journal, const char *dir, const kv_shard_info *info,
                              const tokenize_counts *counts, kv_error *err) {
    const json_t *o = journal->options, *i = journal->inputs;
    json_t *filters = json_pack("{s:O, s:O, s:O, s:O}", "min_chars", json_object_get(o, "min_chars"),
                                "min_tokens", json_object_get(o, "min_tokens"), "nfc",
                                json_object_get(o, "nfc"), "text_key", json_object_get(o, "text_key"));
    json_t *left_out =
        json_pack("{s:I, s:I, s:I}", "too_few_chars", (json_int_t)counts->too_few_chars, "too_few_tokens",
                  (json_int_t)counts->too_few_tokens, "bad", (json_int_t)counts->bad);
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:I, s:i, s:i, s:I, s:I, s:I}", "format", "kv-corpus", "version", 1,
                  "tokenizer", info->tokenizer, "vocab_size", (json_int_t)info->vocab_size, "bos_id",
                  (int)info->bos_id, "eos_id", (int)info->eos_id, "documents", (json_int_t)counts->documents,
                  "tokens", (json_int_t)counts->tokens, "text_bytes", (json_int_t)counts->bytes);
    json_t *more =
        json_pack("{s:O, s:O, s:O, s:o, s:o, s:O, s:o}", "sources", json_object_get(i, "given"),
                  "source_files", json_object_get(i, "files"), "source_bytes", json_object_get(i, "bytes"),
                  "filters", filters, "left_out", left_out, "shard_tokens",
                  json_object_get(o, "shard_tokens"), "shards", shard_list(journal));
    if (!root || !more || json_object_update(root, more) != 0) {
        json_decref(root);
        root = NULL;
    }
    json_decref(more);
    return save(dir, KV_CORPUS_INDEX, root, err);
}

// ---- Reading -------------------------------------------------------------------------------------------

static const char another_run[] = "use the same to go on, or --force to begin anew";

static kv_status compare_options(const tokenize_journal *journal, const json_t *old, const char *dir,
                                 kv_error *err) {
    const char *key;
    json_t *now;
    json_object_foreach(journal->options, key, now) {
        const json_t *then = json_object_get(old, key);
        if (then && json_equal(now, then)) continue;
        char *a = then ? json_dumps(then, JSON_ENCODE_ANY) : NULL, *b = json_dumps(now, JSON_ENCODE_ANY);
        kv_fail(err, KV_ERR_MISMATCH, "%s: was begun with %s %.*s, found %.*s now; %s", dir, key,
                KV_HEAD(a ? a : "unknown", 80), KV_HEAD(b ? b : "unknown", 80), another_run);
        free(a);
        free(b);
        return KV_ERR_MISMATCH;
    }
    return KV_OK;
}

// Names the first file that is another one, where the names were kept.
static kv_status compare_inputs(const tokenize_journal *journal, const json_t *old, const char *dir,
                                kv_error *err) {
    const json_t *now = journal->inputs;
    if (json_equal(json_object_get(now, "hash"), json_object_get(old, "hash")) &&
        json_equal(json_object_get(now, "files"), json_object_get(old, "files")))
        return KV_OK;
    const json_t *a = json_object_get(old, "list"), *b = json_object_get(now, "list");
    for (size_t i = 0; i < json_array_size(a) && i < json_array_size(b); i++) {
        const json_t *x = json_array_get(a, i), *y = json_array_get(b, i);
        if (json_equal(x, y)) continue;
        const char *then = json_string_value(json_array_get(x, 0)),
                   *path = json_string_value(json_array_get(y, 0));
        if (then && path && strcmp(then, path) == 0)
            return kv_fail(err, KV_ERR_MISMATCH,
                           "%s: %s was changed since this was begun; --force begins anew", dir, path);
        return kv_fail(err, KV_ERR_MISMATCH, "%s: was begun with file %.*s where %.*s is now; %s", dir,
                       KV_HEAD(then ? then : "?", 200), KV_HEAD(path ? path : "?", 200), another_run);
    }
    return kv_fail(err, KV_ERR_MISMATCH,
                   "%s: was begun with other inputs (%" JSON_INTEGER_FORMAT
                   " files, found %" JSON_INTEGER_FORMAT "); %s",
                   dir, json_integer_value(json_object_get(old, "files")),
                   json_integer_value(json_object_get(now, "files")), another_run);
}

// A part of the journal, for its numbers.
static kv_status read_numbers(const kv_json_file *file, const char *key, const char *const *names,
                              int64_t *const *values, int n, kv_error *err) {
    const json_t *part = json_object_get(file->root, key);
    for (int i = 0; i < n; i++) {
        const json_t *value = json_object_get(part, names[i]);
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return kv_json_wrong(file, key, -1, "an object of counts", err);
        *values[i] = json_integer_value(value);
    }
    return KV_OK;
}

static kv_status read_shards(tokenize_journal *journal, const kv_json_file *file, kv_error *err) {
    const json_t *list = json_object_get(file->root, "shards");
    kv_status status = json_is_array(list) ? KV_OK : kv_json_wrong(file, "shards", -1, "a list", err);
    for (size_t i = 0; !status && i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *hash = json_string_value(json_object_get(entry, "hash"));
        tokenize_shard shard = {.n_documents = json_integer_value(json_object_get(entry, "documents")),
                                .n_tokens = json_integer_value(json_object_get(entry, "tokens"))};
        if (!hash || strlen(hash) != 16 || shard.n_documents < 1 || shard.n_tokens < 1)
            return kv_json_wrong(file, "shards", (int64_t)i, "a shard", err);
        strcpy(shard.hash, hash);
        status = tokenize_journal_add(journal, &shard, err);
    }
    return status;
}

kv_status tokenize_journal_load(tokenize_journal *journal, const char *dir, kv_error *err) {
    tokenize_counts *c = &journal->counts;
    tokenize_place *p = &journal->place;
    static const char *const count_names[] = {"documents",     "tokens",         "bytes",
                                              "too_few_chars", "too_few_tokens", "bad"},
                             *const place_names[] = {"file", "byte", "line"};
    int64_t *const counts[] = {&c->documents,     &c->tokens,         &c->bytes,
                               &c->too_few_chars, &c->too_few_tokens, &c->bad},
                   *const place[] = {&p->file, &p->within.byte, &p->within.line};
    kv_json_file file = {0};
    int64_t version;
    kv_status status = kv_json_open(dir, TOKENIZE_JOURNAL, &file, err);
    if (!status) status = kv_json_int(&file, "version", INT32_MIN, INT32_MAX, &version, err);
    if (!status)
        status = kv_check_version(file.path, KV_FILE_TOKENIZE_JOURNAL, version, 1, 1,
                                  "kvdata tokenize --force begins anew", err);
    if (!status) status = compare_options(journal, json_object_get(file.root, "options"), dir, err);
    if (!status) status = compare_inputs(journal, json_object_get(file.root, "inputs"), dir, err);
    if (!status) status = read_numbers(&file, "counts", count_names, counts, 6, err);
    if (!status) status = read_numbers(&file, "place", place_names, place, 3, err);
    if (!status) status = read_shards(journal, &file, err);
    // Not in those from before; they only say whether to warn.
    c->short_bytes = json_integer_value(json_object_get(json_object_get(file.root, "counts"), "short_bytes"));
    c->bad_bytes = json_integer_value(json_object_get(json_object_get(file.root, "counts"), "bad_bytes"));
    kv_json_close(&file);
    return status;
}
