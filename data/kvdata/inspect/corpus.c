// kvdata inspect: corpora, finished and not.
#include "data/corpus/corpus.h"
#include "data/file/json.h"
#include "data/kvdata/inspect/inspect.h"
#include "data/kvdata/sample/sample.h"
#include "data/kvdata/tokenize/tokenize.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// Of the shards of a large corpus so many are listed.
enum { LISTED_SHARDS = 20 };

static bool has_format(const json_t *json, const char *format) {
    const char *found = json_string_value(json_object_get(json, "format"));
    return found && strcmp(found, format) == 0;
}

// Whether the subject is the file `name` of a corpus, or a directory with such a file of that format.
static bool is_corpus_file(const inspect_subject *s, const char *name, const char *format) {
    if (!s->is_dir) return has_format(s->json, format);
    char path[PATH_MAX];
    kv_json_file file = {0};
    if (!inspect_entry(s->path, name, path, sizeof path)) return false;
    const bool found = kv_json_open(s->path, name, &file, NULL) == KV_OK && has_format(file.root, format);
    kv_json_close(&file);
    return found;
}

static const char *directory(const inspect_subject *s, char dir[PATH_MAX]) {
    return s->is_dir ? s->path : inspect_directory_of(s->path, dir);
}

static int64_t number(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

// ---- Finished ------------------------------------------------------------------------------------------

static bool is_corpus(const inspect_subject *s) {
    return is_corpus_file(s, KV_CORPUS_INDEX, "kv-corpus");
}

// What the index says of how the corpus was made.
static void report_making(const json_t *index, inspect_report *report) {
    const json_t *filters = json_object_get(index, "filters"), *left_out = json_object_get(index, "left_out");
    const json_t *sources = json_object_get(index, "sources");
    char shown[INSPECT_SHORT], bytes[32];
    if (filters) {
        const char *key = json_string_value(json_object_get(filters, "text_key"));
        inspect_fact(report, "filters", json_deep_copy(filters),
                     "at least %" PRIi64 " characters and %" PRIi64 " tokens%s; JSON lines by \"%s\"",
                     number(filters, "min_chars"), number(filters, "min_tokens"),
                     json_is_true(json_object_get(filters, "nfc")) ? "; NFC" : "",
                     inspect_short(key ? key : "", 100, shown));
    }
    if (left_out)
        inspect_fact(report, "left_out", json_deep_copy(left_out),
                     "%" PRIi64 " too short, %" PRIi64 " of too few tokens, %" PRIi64 " bad",
                     number(left_out, "too_few_chars"), number(left_out, "too_few_tokens"),
                     number(left_out, "bad"));
    inspect_fact(report, "source", json_integer(number(index, "source_files")), "%" PRIi64 " file%s, %s",
                 number(index, "source_files"), number(index, "source_files") == 1 ? "" : "s",
                 inspect_bytes((double)number(index, "source_bytes"), bytes));
    for (size_t i = 0; i < json_array_size(sources); i++) {
        const char *source = json_string_value(json_array_get(sources, i));
        inspect_row(report, "sources", json_string(source ? source : "?"), "%s",
                    inspect_short(source ? source : "?", 200, shown));
    }
}

static void report_shards(const kv_corpus *corpus, inspect_report *report) {
    for (int64_t i = 0; i < corpus->n_shards; i++) {
        const kv_corpus_shard *shard = &corpus->shards[i];
        const char *slash = strrchr(shard->path, '/'), *name = slash ? slash + 1 : shard->path;
        json_t *value =
            json_pack("{s:s, s:I, s:I, s:s}", "file", name, "documents", (json_int_t)shard->n_documents,
                      "tokens", (json_int_t)shard->n_tokens, "hash", shard->hash);
        if (i < LISTED_SHARDS || inspect_is_json(report))
            inspect_row(report, "shards", value, "%s  %" PRIi64 " documents, %" PRIi64 " tokens, hash %s",
                        name, shard->n_documents, shard->n_tokens, shard->hash);
        else
            json_decref(value);
    }
    if (corpus->n_shards > LISTED_SHARDS && !inspect_is_json(report))
        inspect_row(report, "shards", json_null(), "and %" PRIi64 " more", corpus->n_shards - LISTED_SHARDS);
}

static kv_status show_first(const inspect_subject *s, const kv_corpus *corpus, kv_error *err) {
    if (s->options->n_documents == 0 || s->options->json) return KV_OK;
    kv_shard *shard;
    kv_status status = kv_shard_open(corpus->shards[0].path, &shard, err);
    if (status) return status;
    status = inspect_documents(s->options, shard, err);
    kv_shard_free(shard);
    return status;
}

static kv_status describe_corpus(const inspect_subject *s, inspect_report *report, kv_error *err) {
    char parent[PATH_MAX], hash[17];
    const char *dir = directory(s, parent);
    kv_corpus *corpus;
    kv_json_file index = {0};
    kv_status status = kv_corpus_open(dir, &corpus, err);
    if (status) return status;
    status = kv_json_open(dir, KV_CORPUS_INDEX, &index, err);
    if (!status) {
        const kv_shard_info *info = &corpus->info;
        inspect_title(report, "corpus", s->path);
        inspect_fact(report, "documents", json_integer(corpus->n_documents), "%" PRIi64, corpus->n_documents);
        inspect_fact(report, "tokens", json_integer(corpus->n_tokens), "%" PRIi64 " in %" PRIi64 " shards",
                     corpus->n_tokens, corpus->n_shards);
        inspect_fact(report, "vocabulary", json_integer(info->vocab_size),
                     "%" PRIi64 ", BOS %" PRIi32 ", EOS %" PRIi32, info->vocab_size, info->bos_id,
                     info->eos_id);
        inspect_value(report, "bos", json_integer(info->bos_id));
        inspect_value(report, "eos", json_integer(info->eos_id));
        status = inspect_tokenizer_of(info->tokenizer, corpus->shards[0].path, report, err);
        kv_corpus_hash(corpus, hash);
        inspect_fact(report, "hash", json_string(hash), "%s", hash);
        report_making(index.root, report);
        report_shards(corpus, report);
        if (!status) status = show_first(s, corpus, err);
    }
    kv_json_close(&index);
    kv_corpus_free(corpus);
    return status;
}

// ---- Unfinished ----------------------------------------------------------------------------------------

static bool is_unfinished(const inspect_subject *s) {
    return is_corpus_file(s, TOKENIZE_JOURNAL, "kv-tokenize");
}

static kv_status describe_unfinished(const inspect_subject *s, inspect_report *report, kv_error *err) {
    char parent[PATH_MAX];
    kv_json_file journal = {0};
    kv_status status = kv_json_open(directory(s, parent), TOKENIZE_JOURNAL, &journal, err);
    if (!status) {
        const json_t *counts = json_object_get(journal.root, "counts"),
                     *inputs = json_object_get(journal.root, "inputs");
        const int64_t n_shards = (int64_t)json_array_size(json_object_get(journal.root, "shards"));
        inspect_title(report, "unfinished corpus", s->path);
        inspect_fact(report, "shards", json_integer(n_shards), "%" PRIi64 " finished", n_shards);
        inspect_fact(report, "documents", json_integer(number(counts, "documents")), "%" PRIi64,
                     number(counts, "documents"));
        inspect_fact(report, "tokens", json_integer(number(counts, "tokens")), "%" PRIi64,
                     number(counts, "tokens"));
        inspect_fact(report, "read", json_integer(number(json_object_get(journal.root, "place"), "file")),
                     "%" PRIi64 " of %" PRIi64 " files to their end",
                     number(json_object_get(journal.root, "place"), "file"), number(inputs, "files"));
        inspect_fact(report, "note", json_string("unfinished"),
                     "kvdata tokenize goes on with it when it is started again with the same arguments");
    }
    kv_json_close(&journal);
    return status;
}

static bool is_unfinished_sample(const inspect_subject *s) {
    return is_corpus_file(s, SAMPLE_SETTINGS, SAMPLE_FORMAT);
}

static kv_status describe_unfinished_sample(const inspect_subject *s, inspect_report *report, kv_error *err) {
    char parent[PATH_MAX];
    kv_json_file file = {0};
    sample_store store = {.lock = -1};
    snprintf(store.dir, sizeof store.dir, "%s", directory(s, parent));
    kv_status status = kv_json_open(store.dir, SAMPLE_SETTINGS, &file, err);
    if (!status) status = sample_store_count(&store, err);
    if (!status) {
        json_t *settings = json_object_get(file.root, "settings");
        const char *model = json_string_value(json_object_get(settings, "model"));
        inspect_title(report, "unfinished sample", s->path);
        inspect_fact(report, "documents", json_integer(store.n_documents), "%" PRIi64, store.n_documents);
        inspect_fact(report, "tokens", json_integer(store.n_tokens), "%" PRIi64 " in %" PRIi64 " pieces",
                     store.n_tokens, store.n_pieces);
        inspect_value(report, "settings", json_deep_copy(settings));
        inspect_fact(report, "model", json_string(model ? model : "?"), "%s, temperature %g, seed %" PRIi64,
                     model ? model : "?", json_number_value(json_object_get(settings, "temperature")),
                     number(settings, "seed"));
        inspect_fact(report, "note", json_string("unfinished"),
                     "kvdata sample goes on with it when it is started again with the same arguments");
    }
    kv_json_close(&file);
    return status;
}

const inspect_kind inspect_corpus_kinds[] = {{is_corpus, describe_corpus},
                                             {is_unfinished, describe_unfinished},
                                             {is_unfinished_sample, describe_unfinished_sample},
                                             {NULL, NULL}};
