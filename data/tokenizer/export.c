// tokenizer_config.json says which tokenizer.json was made of the tokenizer.model, by the hash of its bytes: transformers
// keeps keys that it does not know, and a tokenizer.json that it has saved anew is another file.
#include "data/tokenizer/export.h"

#include "data/file/content.h"
#include "data/file/hash.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/system/warning.h"
#include "data/tokenizer/files.h"
#include "data/tokenizer/spm_json.h"
#include "data/tokenizer/spm_proto.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t max_file_bytes = (size_t)256 << 20;

static const char json_name[] = "tokenizer.json", model_name[] = "tokenizer.model",
                  config_name[] = "tokenizer_config.json", map_name[] = "special_tokens_map.json",
                  made_key[] = "kv_made_of_tokenizer_model";

static kv_status read_in(const char *dir, const char *name, char **bytes, size_t *size, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, name, path, err);
    return status ? status : kv_read_file(path, max_file_bytes, bytes, size, err);
}

static kv_status write_in(const char *dir, const char *name, json_t *value, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, name, path, err);
    if (!status) return kv_json_write(path, value, JSON_INDENT(1), err);
    json_decref(value);
    return status;
}

static kv_status hash_in(const char *dir, const char *name, char hash[17], kv_error *err) {
    char *bytes = NULL;
    size_t size;
    kv_status status = read_in(dir, name, &bytes, &size, err);
    if (!status) kv_hash_text(kv_hash64(0, bytes, size), hash);
    free(bytes);
    return status;
}

// What is none, as a pointer that git-lfs leaves, does no harm beside a tokenizer.json.
static bool holds_pieces(const char *dir, const char *name) {
    char *bytes = NULL;
    size_t size;
    kv_spm_piece_info piece;
    if (read_in(dir, name, &bytes, &size, NULL)) return false;
    const char *at = bytes;
    const bool found = kv_spm_next_piece(&at, bytes + size, &piece);
    free(bytes);
    return found;
}

bool kv_tokenizer_is_export(const char *dir) {
    kv_json_file config;
    char hash[17];
    if (!kv_path_exists_in(dir, json_name) || !kv_path_exists_in(dir, model_name) ||
        !kv_path_exists_in(dir, config_name) || kv_json_open(dir, config_name, &config, NULL))
        return false;
    const char *said = json_string_value(json_object_get(config.root, made_key));
    const bool found = said && hash_in(dir, json_name, hash, NULL) == KV_OK && strcmp(said, hash) == 0 &&
                       holds_pieces(dir, model_name);
    kv_json_close(&config);
    return found;
}

// ---- The small files -------------------------------------------------------------------------------------

static void say_token(json_t *object, const char *key, const kv_tokenizer *tokenizer, int32_t id) {
    const char *piece = id < 0 ? NULL : kv_tokenizer_piece(tokenizer, id);
    if (piece) json_object_set_new(object, key, json_string(piece));
}

static json_t *special_tokens(const kv_tokenizer *tokenizer) {
    json_t *tokens = json_object();
    say_token(tokens, "bos_token", tokenizer, kv_tokenizer_bos(tokenizer));
    say_token(tokens, "eos_token", tokenizer, kv_tokenizer_eos(tokenizer));
    return tokens;
}

// PreTrainedTokenizerFast takes the tokenizer.json as it is; other classes make something of their own of it. Of a prompt's
// special tokens the post-processor in there has the last word, as with us.
static json_t *config_json(const kv_tokenizer *tokenizer, int64_t context_length) {
    json_t *config =
        json_pack("{s:s, s:b, s:b, s:b, s:I}", "tokenizer_class", "PreTrainedTokenizerFast", "add_bos_token",
                  kv_tokenizer_bos(tokenizer) >= 0, "add_eos_token", 0, "clean_up_tokenization_spaces", 0,
                  "model_max_length", (json_int_t)context_length);
    json_t *tokens = special_tokens(tokenizer);
    json_object_update(config, tokens);
    json_decref(tokens);
    return config;
}

// ---- A tokenizer.json of a tokenizer.model ---------------------------------------------------------------

static void say_unknown(json_t *object, const json_t *root) {
    json_t *unknown = json_object_get(json_object_get(root, "model"), "unk_token");
    if (json_is_string(unknown)) json_object_set(object, "unk_token", unknown);
}

static kv_status write_converted(const char *dir, const kv_tokenizer *tokenizer, json_t *root,
                                 int64_t context_length, kv_error *err) {
    char made[17];
    json_t *config = config_json(tokenizer, context_length), *map = special_tokens(tokenizer);
    say_unknown(config, root);
    say_unknown(map, root);
    kv_status status = write_in(dir, json_name, json_incref(root), err);
    if (!status) status = hash_in(dir, json_name, made, err);
    if (!status) json_object_set_new(config, made_key, json_string(made));
    if (!status) status = write_in(dir, config_name, json_incref(config), err);
    if (!status) status = write_in(dir, map_name, json_incref(map), err);
    json_decref(config);
    json_decref(map);
    return status;
}

// Whether the file just written means the same, as far as pieces and a text with a bit of everything tell.
static kv_status compare(const char *dir, const kv_tokenizer *tokenizer, kv_error *err) {
    char path[PATH_MAX];
    kv_tokenizer *made = NULL;
    kv_tokenizer_id a, b;
    kv_status status = kv_path_join(dir, json_name, path, err);
    if (!status) status = kv_tokenizer_open_file(path, &made, err);
    if (status) return status;
    kv_tokenizer_identify(tokenizer, &a);
    kv_tokenizer_identify(made, &b);
    if (strcmp(a.hash, b.hash) != 0 || kv_tokenizer_cuts_differ(&a, &b))
        status = kv_fail(err, KV_ERR_ARGUMENT, "it cuts text in a way of its own");
    kv_tokenizer_free(made);
    return status;
}

static void take_back(const char *dir) {
    static const char *const names[] = {json_name, config_name, map_name};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (kv_path_join(dir, names[i], path, NULL) == KV_OK) unlink(path);
}

static kv_status convert(const char *dir, int64_t context_length, kv_error *err) {
    kv_tokenizer *tokenizer = NULL;
    char path[PATH_MAX], *bytes = NULL;
    size_t size = 0;
    json_t *root = NULL;
    kv_error why = {0};
    kv_status status = kv_path_join(dir, model_name, path, err);
    if (!status) status = read_in(dir, model_name, &bytes, &size, err);
    if (!status) status = kv_tokenizer_open_file(path, &tokenizer, err);
    kv_status said = status ? status : kv_spm_to_json(bytes, size, kv_tokenizer_bos(tokenizer), &root, &why);
    if (!said) status = write_converted(dir, tokenizer, root, context_length, err);
    if (!said && !status) said = compare(dir, tokenizer, &why);
    if (!status && said) {
        take_back(dir);
        kv_warn("%s: no tokenizer.json is made of it, which transformers would read: %s", model_name,
                why.message);
    }
    json_decref(root);
    kv_tokenizer_free(tokenizer);
    free(bytes);
    return status;
}

static kv_status add_config(const char *dir, int64_t context_length, kv_error *err) {
    kv_tokenizer *tokenizer = NULL;
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, json_name, path, err);
    // One that cannot be read here may be read there.
    if (status || kv_tokenizer_open_file(path, &tokenizer, NULL) != KV_OK) return status;
    status = write_in(dir, config_name, config_json(tokenizer, context_length), err);
    kv_tokenizer_free(tokenizer);
    return status;
}

kv_status kv_tokenizer_export(const char *dir, int64_t context_length, kv_error *err) {
    if (kv_path_exists_in(dir, config_name)) return KV_OK;
    if (kv_path_exists_in(dir, json_name)) return add_config(dir, context_length, err);
    return kv_path_exists_in(dir, model_name) ? convert(dir, context_length, err) : KV_OK;
}
