// kvdata inspect: tokenizers.
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/kvdata/inspect/inspect.h"
#include "data/system/warning.h"
#include "data/tokenizer/directory.h"
#include "data/tokenizer/files.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { N_SAMPLES = 8, MAX_SPECIAL = 16 };

static bool is_tokenizer_json(const inspect_subject *s) {
    const json_t *model = json_object_get(s->json, "model");
    return json_is_object(model) &&
           (json_object_get(model, "vocab") || json_object_get(s->json, "added_tokens"));
}

// A SentencePiece model is a protobuf whose first field holds the pieces, whose first field is their text.
static bool is_sentencepiece(const inspect_subject *s) {
    if (s->is_dir || s->random) return false;
    if (kv_path_is_named(s->path, ".model")) return true;
    const unsigned char *b = s->head;
    return s->n_head > 8 && !s->text && b[0] == 0x0A && b[1] < 0x80 && b[2] == 0x0A && b[3] + 2 <= b[1];
}

// "2 <|im_end|>", or "none".
static void report_token(inspect_report *report, const char *key, const kv_tokenizer *t, int32_t id) {
    const char *piece = kv_tokenizer_piece(t, id);
    char shown[INSPECT_SHORT];
    if (id < 0)
        inspect_fact(report, key, json_null(), "none");
    else
        inspect_fact(report, key, json_integer(id), "%" PRIi32 " %s", id,
                     inspect_short(piece ? piece : "", 60, shown));
}

// The first pieces, and some from all over.
static void report_samples(inspect_report *report, const kv_tokenizer *t) {
    const int64_t n = kv_tokenizer_vocab_size(t);
    char text[N_SAMPLES * 40] = "", shown[INSPECT_SHORT];
    json_t *samples = json_object();
    size_t used = 0;
    for (int i = 0; i < N_SAMPLES && i < n; i++) {
        const int32_t id = (int32_t)(i < 3 ? i : (n - 1) * (i - 2) / (N_SAMPLES - 3));
        const char *piece = kv_tokenizer_piece(t, id);
        char key[16];
        if (!piece) continue;
        snprintf(key, sizeof key, "%" PRIi32, id);
        json_object_set_new(samples, key, json_string(piece));
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRIi32 " %s", used ? ", " : "", id,
                                 inspect_short(piece, 18, shown));
        if (used >= sizeof text) break;
    }
    inspect_fact(report, "pieces", samples, "%s", text);
}

// What only tokenizer.json says: how it splits, and which tokens are special.
static void report_json(inspect_report *report, const json_t *root) {
    const char *type = json_string_value(json_object_get(json_object_get(root, "model"), "type"));
    const json_t *pre = json_object_get(root, "pre_tokenizer"),
                 *added = json_object_get(root, "added_tokens");
    const char *split = json_string_value(json_object_get(pre, "type"));
    char text[INSPECT_SHORT + 64] = "", shown[INSPECT_SHORT];
    inspect_fact(report, "type", json_string(type ? type : "BPE"), "tokenizer.json, %s%s%s",
                 inspect_short(type ? type : "BPE", 40, shown), split ? ", pre-tokenizer " : "",
                 split ? split : "");
    json_t *names = json_array();
    size_t used = 0, n = 0;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *entry = json_array_get(added, i);
        const char *content = json_string_value(json_object_get(entry, "content"));
        if (!content || !json_is_true(json_object_get(entry, "special"))) continue;
        json_array_append_new(names, json_string(content));
        if (n++ < MAX_SPECIAL && used + 80 < sizeof text)
            used +=
                (size_t)snprintf(text + used, sizeof text - used, " %s", inspect_short(content, 60, shown));
    }
    inspect_fact(report, "special", names, "%zu:%s%s", n, text, n > MAX_SPECIAL ? " ..." : "");
}

static void report_tokenizer(inspect_report *report, const kv_tokenizer *t, const json_t *root,
                             int64_t table_rows) {
    const int64_t n = kv_tokenizer_vocab_size(t);
    const int32_t bos = kv_tokenizer_bos(t), eos = kv_tokenizer_eos(t);
    if (root)
        report_json(report, root);
    else
        inspect_fact(report, "type", json_string("SentencePiece"), "tokenizer.model, SentencePiece");
    inspect_fact(report, "vocabulary", json_integer(n), "%" PRIi64 ", BOS %" PRIi32 ", EOS %" PRIi32, n, bos,
                 eos);
    report_token(report, "bos", t, bos);
    report_token(report, "eos", t, eos);
    inspect_fact(report, "hash", json_string(kv_tokenizer_hash(t)), "%s", kv_tokenizer_hash(t));
    if (table_rows >= n && table_rows > 0)
        inspect_fact(report, "padding_rows", json_integer(table_rows - n),
                     "%" PRIi64 " rows of the model's table", table_rows - n);
    else if (table_rows > 0)
        inspect_fact(report, "too_large", json_integer(n - table_rows),
                     "%" PRIi64 " tokens more than the model's table has rows: %s", n - table_rows,
                     kv_tokenizer_words(t) > table_rows ? "they do not go together"
                                                        : "added ones, which no text may spell");
    report_samples(report, t);
}

static kv_status describe_tokenizer(const inspect_subject *s, inspect_report *report, kv_error *err) {
    kv_tokenizer *tokenizer = NULL;
    kv_status status = kv_tokenizer_open(s->path, &tokenizer, err);
    if (status) return status;
    inspect_title(report, "tokenizer", s->path);
    report_tokenizer(report, tokenizer, s->json, 0);
    kv_tokenizer_free(tokenizer);
    return KV_OK;
}

kv_status inspect_tokenizer_in(const char *dir, int64_t table_rows, inspect_report *report, kv_error *err) {
    char path[PATH_MAX];
    if (!kv_tokenizer_file(dir, path)) return KV_OK;
    const bool json = kv_tokenizer_is_json(path);
    kv_tokenizer *tokenizer = NULL;
    kv_error why;
    kv_status status = kv_tokenizer_open(path, &tokenizer, &why);
    if (status == KV_ERR_FORMAT && table_rows > 0) { // the model is described all the same
        kv_warn("%s: no text can be read or written with it", why.message);
        return KV_OK;
    }
    if (status) return kv_fail(err, status, "%s", why.message);
    if (kv_tokenizer_check_directory(dir, tokenizer, &why)) kv_warn("%s", why.message);
    json_t *root = NULL;
    if (json) kv_json_read(path, INSPECT_MAX_JSON, &root, NULL); // it was read before
    inspect_open(report, "tokenizer");
    inspect_title(report, "tokenizer", path);
    report_tokenizer(report, tokenizer, root, table_rows);
    inspect_close(report);
    json_decref(root);
    kv_tokenizer_free(tokenizer);
    return KV_OK;
}

kv_status inspect_tokenizer_of(const char *hash, const char *shard, inspect_report *report, kv_error *err) {
    kv_bundle files;
    char text[1024] = "none of its files in it", bytes[32];
    kv_status status = kv_shard_read_tokenizer(shard, &files, err);
    if (status) return status;
    json_t *names = json_array();
    size_t used = 0;
    for (int i = 0; i < files.n; i++) {
        json_array_append_new(names, json_string(files.files[i].name));
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s (%s)", i ? ", " : "",
                                 files.files[i].name, inspect_bytes((double)files.files[i].size, bytes));
    }
    inspect_fact(report, "tokenizer", json_string(hash), "%s; %s", hash, text);
    inspect_value(report, "tokenizer_files", names);
    kv_bundle_free(&files);
    return KV_OK;
}

kv_status inspect_tokenizer_said(const char *dir, inspect_report *report, kv_error *err) {
    kv_tokenizer_id id;
    bool found;
    kv_status status = kv_tokenizer_id_read(dir, &id, &found, err);
    if (!status && found)
        inspect_fact(report, "trained_with",
                     json_pack("{s:s, s:I}", "tokenizer", id.hash, "vocab_size", (json_int_t)id.vocab_size),
                     "tokenizer %s, %" PRIi64 " tokens", id.hash, id.vocab_size);
    return status;
}

const inspect_kind inspect_tokenizer_kinds[] = {
    {is_tokenizer_json, describe_tokenizer},
    {is_sentencepiece, describe_tokenizer},
    {0},
};
