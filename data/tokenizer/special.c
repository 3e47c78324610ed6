// BOS and EOS are told by three files that may disagree; the order in which they are believed is that of
// Hugging Face's tokenizer classes.
#include "data/tokenizer/special.h"

#include "data/file/json.h"
#include "data/file/path.h"
#include "data/system/warning.h"

#include <inttypes.h>
#include <string.h>

struct ends {
    const kv_vocabulary *vocabulary;
    int32_t first, last; // -1: none
    int n_first;
};

// ---- The post-processor --------------------------------------------------------------------------------

// ids of a special token of a template, which as a rule is one.
static kv_status template_id(const kv_json_part *part, const char *name, const kv_vocabulary *vocabulary,
                             int32_t *id, kv_error *err) {
    kv_json_part tokens = kv_json_member(part, "special_tokens");
    kv_json_part token = kv_json_member(&tokens, name);
    kv_json_part ids = kv_json_member(&token, "ids");
    kv_json_part only = kv_json_entry(&ids, 0);
    if (json_array_size(ids.value) != 1 || !json_is_integer(only.value))
        return kv_json_part_wrong(&ids, "a list of one id", err);
    json_int_t value = json_integer_value(only.value);
    if (value < 0 || value >= kv_vocabulary_size(vocabulary) ||
        !kv_vocabulary_piece(vocabulary, (int32_t)value))
        return kv_json_part_wrong(&only, "an id of the vocabulary", err);
    *id = (int32_t)value;
    return KV_OK;
}

static kv_status read_template(struct ends *ends, const kv_json_part *part, kv_error *err) {
    kv_json_part single = kv_json_member(part, "single");
    if (!json_is_array(single.value)) return kv_json_part_wrong(&single, "a list", err);
    bool behind = false;
    for (size_t i = 0; i < json_array_size(single.value); i++) {
        kv_json_part entry = kv_json_entry(&single, i), special = kv_json_member(&entry, "SpecialToken");
        if (json_object_get(entry.value, "Sequence")) {
            behind = true;
            continue;
        }
        const char *name = NULL;
        kv_status status = kv_json_string(&special, "id", &name, err);
        if (!status)
            status = template_id(part, name, ends->vocabulary, behind ? &ends->last : &ends->first, err);
        if (status) return status;
        if (!behind && ++ends->n_first > 1)
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s puts several tokens in front of a text, expected one at most", single.where);
    }
    return KV_OK;
}

static kv_status read_processor(void *context, const kv_json_part *part, kv_error *err) {
    static const char *const names[] = {"ByteLevel", "TemplateProcessing"};
    int type = 0;
    kv_status status = kv_json_choice(part, "type", names, 2, &type, err);
    return status || type == 0 ? status : read_template(context, part, err);
}

// ---- The files beside it -------------------------------------------------------------------------------

// The token under `key` of dir/name: text, or an object with its "content". -1: no such file or no such key.
static kv_status named_token(const kv_json_file *file, const char *key, const kv_vocabulary *vocabulary,
                             int32_t *id, kv_error *err) {
    const json_t *value = json_object_get(file->root, key);
    const char *piece = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    *id = -1;
    if (!value || json_is_null(value)) return KV_OK;
    if (!piece) return kv_json_wrong(file, key, -1, "a token's text", err);
    *id = kv_vocabulary_find(vocabulary, piece, strlen(piece));
    return *id >= 0 ? KV_OK : kv_json_wrong(file, key, -1, "a piece of the tokenizer.json beside it", err);
}

static kv_status open_beside(const char *path, const char *name, kv_json_file *file, kv_error *err) {
    char dir[PATH_MAX];
    *file = (kv_json_file){.root = NULL};
    kv_path_parent(path, dir);
    return kv_path_exists_in(dir, name) ? kv_json_open(dir, name, file, err) : KV_OK;
}

static bool is_llama(const kv_json_file *config) {
    const char *class = json_string_value(json_object_get(config->root, "tokenizer_class"));
    return class && (strcmp(class, "LlamaTokenizer") == 0 || strcmp(class, "LlamaTokenizerFast") == 0);
}

// What ends a text is no part of its ids: a file that names no token of the vocabulary says nothing.
static int32_t find_eos(const kv_json_file *file, const kv_vocabulary *vocabulary) {
    int32_t eos = -1;
    kv_error why;
    if (named_token(file, "eos_token", vocabulary, &eos, &why))
        kv_warn("%s: left out, so it is not known to end a text", why.message);
    return eos;
}

static int32_t find_eos_in_map(const char *path, const kv_vocabulary *vocabulary) {
    kv_json_file map;
    kv_error why;
    int32_t eos = -1;
    if (open_beside(path, "special_tokens_map.json", &map, &why))
        kv_warn("%s: left out, so it tells of no token that ends a text", why.message);
    else
        eos = find_eos(&map, vocabulary);
    kv_json_close(&map);
    return eos;
}

static kv_status read_config(const char *path, const kv_json_file *config, struct ends *ends, kv_error *err) {
    int32_t eos = find_eos(config, ends->vocabulary);
    if (eos < 0) eos = find_eos_in_map(path, ends->vocabulary);
    if (eos >= 0) ends->last = eos;
    const json_t *add_bos = json_object_get(config->root, "add_bos_token");
    if (!is_llama(config) || !json_is_boolean(add_bos)) return KV_OK;
    if (json_is_false(add_bos)) {
        ends->first = -1;
        return KV_OK;
    }
    kv_status status = named_token(config, "bos_token", ends->vocabulary, &ends->first, err);
    if (status || ends->first >= 0) return status;
    return kv_json_wrong(config, "bos_token", -1, "a token, since add_bos_token is true", err);
}

kv_status kv_special_tokens_read(const char *path, const kv_json_part *root, const kv_vocabulary *vocabulary,
                                 int32_t *bos, int32_t *eos, kv_error *err) {
    struct ends ends = {vocabulary, -1, -1, 0};
    kv_json_part processor = kv_json_member(root, "post_processor");
    kv_json_file config = {.root = NULL};
    kv_status status = kv_json_sequence(&processor, "processors", read_processor, &ends, err);
    if (!status) status = open_beside(path, "tokenizer_config.json", &config, err);
    if (!status) status = read_config(path, &config, &ends, err);
    kv_json_close(&config);
    *bos = ends.first;
    *eos = ends.last;
    return status;
}
