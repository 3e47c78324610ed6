// Reads and checks a tokenizer.json as a whole before anything is encoded: an option that would change ids
// and is not implemented has to be refused here, or ids would be silently wrong.
#include "core/text.h"
#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/tokenizer/json.h"
#include "data/tokenizer/special.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// Real files are below 20 MB, real vocabularies below 300,000 pieces.
static const size_t max_file_bytes = (size_t)256 << 20;
static const json_int_t max_id = ((json_int_t)1 << 22) - 1;

static const char space_mark[] = "\xE2\x96\x81"; // U+2581

// ---- Pieces --------------------------------------------------------------------------------------------

static kv_status check_id(const kv_json_part *part, const char *piece, const json_t *id, json_int_t *largest,
                          kv_error *err) {
    json_int_t value = json_integer_value(id);
    if (!json_is_integer(id) || value < 0 || value > max_id)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: the id of '%.*s' is not a whole number from 0 to %" JSON_INTEGER_FORMAT,
                       part->where, KV_HEAD(piece, 100), max_id);
    if (kv_json_is_odd_key(piece))
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: the piece of id %" JSON_INTEGER_FORMAT " holds a NUL or half a character",
                       part->where, value);
    if (value > *largest) *largest = value;
    return KV_OK;
}

static kv_status check_pieces(const kv_json_part *vocab, const kv_json_part *added, json_int_t *largest,
                              kv_error *err) {
    const char *piece;
    json_t *id;
    kv_status status = KV_OK;
    if (!json_is_object(vocab->value))
        return kv_json_part_wrong(vocab, "an object of pieces and their ids", err);
    if (!kv_json_absent(added) && !json_is_array(added->value))
        return kv_json_part_wrong(added, "a list", err);
    json_object_foreach((json_t *)(uintptr_t)vocab->value, piece, id) {
        status = check_id(vocab, piece, id, largest, err);
        if (status) return status;
    }
    for (size_t i = 0; i < json_array_size(added->value) && !status; i++) {
        kv_json_part token = kv_json_entry(added, i);
        status = kv_json_string(&token, "content", &piece, err);
        if (!status) status = check_id(&token, piece, json_object_get(token.value, "id"), largest, err);
    }
    return status;
}

static kv_status read_pieces(const kv_json_part *vocab, const kv_json_part *added,
                             kv_json_tokenizer *tokenizer, kv_error *err) {
    json_int_t largest = -1;
    kv_status status = check_pieces(vocab, added, &largest, err);
    if (!status) status = kv_vocabulary_create(largest + 1, &tokenizer->vocabulary, err);
    if (status) return status;
    tokenizer->is_added = calloc((size_t)largest + 2, sizeof *tokenizer->is_added);
    tokenizer->only_added = calloc((size_t)largest + 2, sizeof *tokenizer->only_added);
    if (!tokenizer->is_added || !tokenizer->only_added)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a vocabulary");
    const char *piece;
    json_t *id;
    // An empty piece is a hole: no text has it.
    json_object_foreach((json_t *)(uintptr_t)vocab->value, piece, id) {
        if (!*piece) continue;
        status = kv_vocabulary_add(tokenizer->vocabulary, (int32_t)json_integer_value(id), piece,
                                   strlen(piece), err);
        if (status) return kv_fail_within(err, status, "%s", vocab->where);
    }
    for (size_t i = 0; i < json_array_size(added->value) && !status; i++) {
        kv_json_part token = kv_json_entry(added, i);
        int32_t of_token = (int32_t)json_integer_value(json_object_get(token.value, "id"));
        piece = json_string_value(json_object_get(token.value, "content"));
        if (!*piece) continue;
        tokenizer->only_added[of_token] = !json_object_get(vocab->value, piece);
        status = kv_vocabulary_add(tokenizer->vocabulary, of_token, piece, strlen(piece), err);
        if (!status && tokenizer->is_added[of_token])
            status = kv_fail(err, KV_ERR_FORMAT, "id %" PRIi32 " is added twice", of_token);
        if (status) return kv_fail_within(err, status, "%s", token.where);
        tokenizer->is_added[of_token] = true;
    }
    return KV_OK;
}

// ---- Merges --------------------------------------------------------------------------------------------

struct merge_reader {
    const kv_vocabulary *vocabulary;
    kv_json_part list;
    kv_bytes joined;
};

// "a b", or ["a", "b"].
static bool merge_sides(const json_t *merge, const char **left, size_t *left_length, const char **right) {
    if (json_is_string(merge)) {
        *left = json_string_value(merge);
        const char *space = strchr(*left, ' ');
        *left_length = space ? (size_t)(space - *left) : 0;
        *right = space ? space + 1 : NULL;
        return space && !strchr(*right, ' ');
    }
    *left = json_string_value(json_array_get(merge, 0));
    *right = json_string_value(json_array_get(merge, 1));
    *left_length = *left ? strlen(*left) : 0;
    return json_array_size(merge) == 2 && *left && *right;
}

static kv_status read_merge(struct merge_reader *reader, size_t i, kv_merge *merge, kv_error *err) {
    const char *left = NULL, *right = NULL;
    size_t n = 0;
    const json_t *value = json_array_get(reader->list.value, i);
    if (!merge_sides(value, &left, &n, &right) || n == 0 || !*right) {
        kv_json_part entry = kv_json_entry(&reader->list, i);
        return kv_json_part_wrong(&entry, "two pieces, \"a b\" or [\"a\", \"b\"]", err);
    }
    reader->joined.length = 0;
    kv_status status = kv_bytes_add(&reader->joined, left, n, err);
    if (!status) status = kv_bytes_add(&reader->joined, right, strlen(right), err);
    if (status) return status;
    merge->left = kv_vocabulary_find(reader->vocabulary, left, n);
    merge->right = kv_vocabulary_find(reader->vocabulary, right, strlen(right));
    merge->result = kv_vocabulary_find(reader->vocabulary, reader->joined.data, reader->joined.length);
    if (merge->left >= 0 && merge->right >= 0 && merge->result >= 0) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s[%zu] joins '%.*s' and '%.*s', but the vocabulary lacks %s",
                   reader->list.where, i, (int)(n < 60 ? n : 60), left, KV_HEAD(right, 60),
                   merge->left < 0    ? "the first"
                   : merge->right < 0 ? "the second"
                                      : "the result");
}

// Whether U+2581 behind another character is in no piece that a merge makes.
static bool ends_words(const kv_vocabulary *vocabulary, const kv_merge *merges, size_t n) {
    if (kv_vocabulary_find(vocabulary, space_mark, strlen(space_mark)) < 0) return false;
    for (size_t i = 0; i < n; i++) {
        const char *piece = kv_vocabulary_piece(vocabulary, merges[i].result), *at = piece;
        while (strncmp(at, space_mark, strlen(space_mark)) == 0) at += strlen(space_mark);
        if (strstr(at, space_mark)) return false;
    }
    return true;
}

static kv_status read_merges(const kv_json_part *model, const kv_bpe_options *options,
                             kv_json_tokenizer *tokenizer, kv_error *err) {
    struct merge_reader reader = {tokenizer->vocabulary, kv_json_member(model, "merges"), {0}};
    if (!json_is_array(reader.list.value)) return kv_json_part_wrong(&reader.list, "a list of merges", err);
    size_t n = json_array_size(reader.list.value);
    kv_merge *merges = malloc((n + 1) * sizeof *merges);
    kv_status status = merges ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu merges", n);
    for (size_t i = 0; i < n && !status; i++) status = read_merge(&reader, i, &merges[i], err);
    if (!status) status = kv_bpe_create(tokenizer->vocabulary, merges, n, options, &tokenizer->bpe, err);
    // A whole word may only be looked up whole.
    if (!status)
        tokenizer->cuts_at_spaces = !options->ignore_merges && ends_words(tokenizer->vocabulary, merges, n);
    free(merges);
    kv_bytes_free(&reader.joined);
    return status;
}

// ---- The model -----------------------------------------------------------------------------------------

// What would change the result, and is not done here, must be off.
static kv_status check_off(const kv_json_part *model, const char *key, kv_error *err) {
    kv_json_part member = kv_json_member(model, key);
    bool off = kv_json_absent(&member) ||
               (json_is_string(member.value) && json_string_length(member.value) == 0) ||
               (json_is_number(member.value) && json_number_value(member.value) == 0);
    return off ? KV_OK : kv_json_part_wrong(&member, "null", err);
}

static kv_status read_options(const kv_json_part *model, const kv_vocabulary *vocabulary,
                              kv_bpe_options *options, kv_error *err) {
    kv_json_part unknown = kv_json_member(model, "unk_token");
    kv_status status = kv_json_flag(model, "byte_fallback", &options->byte_fallback, err);
    if (!status) status = kv_json_flag(model, "fuse_unk", &options->fuse_unknown, err);
    if (!status) status = kv_json_flag(model, "ignore_merges", &options->ignore_merges, err);
    if (!status) status = check_off(model, "dropout", err);
    if (!status) status = check_off(model, "continuing_subword_prefix", err);
    if (!status) status = check_off(model, "end_of_word_suffix", err);
    options->unknown = -1;
    if (status || kv_json_absent(&unknown)) return status;
    const char *piece = json_string_value(unknown.value);
    if (!piece) return kv_json_part_wrong(&unknown, "a piece of the vocabulary", err);
    // One that the vocabulary lacks is missed by the first character that needs it, which with bytes none does.
    options->unknown = kv_vocabulary_find(vocabulary, piece, strlen(piece));
    return KV_OK;
}

static kv_status read_model(const kv_json_part *root, kv_json_tokenizer *tokenizer, kv_error *err) {
    static const char *const kinds[] = {"BPE"};
    kv_json_part model = kv_json_member(root, "model"), type = kv_json_member(&model, "type");
    kv_json_part vocab = kv_json_member(&model, "vocab"), added = kv_json_member(root, "added_tokens");
    kv_bpe_options options = {.byte_alphabet = kv_pretokenizer_spells_bytes(tokenizer->pretokenizer)};
    int kind = 0;
    if (!json_is_object(model.value)) return kv_json_part_wrong(&model, "an object", err);
    kv_status status = type.value ? kv_json_choice(&model, "type", kinds, 1, &kind, err) : KV_OK;
    if (!status) status = read_pieces(&vocab, &added, tokenizer, err);
    options.hidden = tokenizer->only_added;
    if (!status) status = read_options(&model, tokenizer->vocabulary, &options, err);
    return status ? status : read_merges(&model, &options, tokenizer, err);
}

// ---- Added tokens --------------------------------------------------------------------------------------

static kv_status read_added(const kv_json_part *part, kv_added_token *token, bool *normalized,
                            kv_error *err) {
    *normalized = false;
    token->id = (int32_t)json_integer_value(json_object_get(part->value, "id"));
    token->content = json_string_value(json_object_get(part->value, "content"));
    token->length = strlen(token->content);
    kv_status status = kv_json_flag(part, "special", &token->special, err);
    if (!status) status = kv_json_flag(part, "lstrip", &token->left, err);
    if (!status) status = kv_json_flag(part, "rstrip", &token->right, err);
    if (!status) status = kv_json_flag(part, "single_word", &token->single_word, err);
    return status ? status : kv_json_flag(part, "normalized", normalized, err);
}

// Those that are found after normalising, or the others. Normal forms are appended to *forms: the tokens hold
// places in it until it is complete.
static kv_status collect_added(const kv_json_part *list, const kv_normalizer *normalizer, bool normalized,
                               kv_added_token *tokens, size_t *n, kv_bytes *forms, kv_error *err) {
    kv_bytes form = {0};
    kv_status status = KV_OK;
    *n = 0;
    for (size_t i = 0; i < json_array_size(list->value) && !status; i++) {
        kv_json_part part = kv_json_entry(list, i);
        kv_added_token *token = &tokens[*n];
        bool when = false;
        *token = (kv_added_token){0};
        status = read_added(&part, token, &when, err);
        if (status || when != normalized) continue;
        if (normalized) status = kv_normalize(normalizer, token->content, token->length, &form, err);
        if (!status && normalized) status = kv_bytes_add(forms, form.data, form.length, err);
        if (normalized) token->length = form.length;
        if (token->length > 0) ++*n;
    }
    kv_bytes_free(&form);
    for (size_t i = 0, at = 0; normalized && !status && i < *n; at += tokens[i++].length)
        tokens[i].content = forms->data + at;
    return status;
}

static kv_status read_all_added(const kv_json_part *root, kv_json_tokenizer *tokenizer, kv_error *err) {
    kv_json_part list = kv_json_member(root, "added_tokens");
    kv_added_token *tokens = calloc(json_array_size(list.value) + 1, sizeof *tokens);
    kv_bytes forms = {0};
    size_t n = 0;
    if (!tokens) return kv_fail(err, KV_ERR_MEMORY, "out of memory for added tokens");
    kv_status status = collect_added(&list, tokenizer->normalizer, false, tokens, &n, &forms, err);
    if (!status) status = kv_added_tokens_create(tokens, n, &tokenizer->added, err);
    if (!status) status = collect_added(&list, tokenizer->normalizer, true, tokens, &n, &forms, err);
    if (!status) status = kv_added_tokens_create(tokens, n, &tokenizer->added_normalized, err);
    kv_bytes_free(&forms);
    free(tokens);
    return status;
}

// ---- The whole -----------------------------------------------------------------------------------------

// Who only turns text into ids needs no decoder: what is wrong with it is said to those who ask for text.
static kv_status read_decoder(const kv_json_part *decoder, kv_json_tokenizer *tokenizer, kv_error *err) {
    kv_error why;
    kv_status status =
        kv_json_absent(decoder)
            ? kv_json_part_wrong(decoder, "how pieces become text (ByteLevel, Metaspace, ...)", &why)
            : kv_detokenizer_create(decoder, &tokenizer->detokenizer, &why);
    if (status == KV_ERR_MEMORY) return kv_fail(err, status, "%s", why.message);
    if (status && !(tokenizer->no_decoder = strdup(why.message)))
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", decoder->where);
    return KV_OK;
}

static kv_status read_root(const char *path, const kv_json_part *root, kv_json_tokenizer *tokenizer,
                           kv_error *err) {
    kv_json_part normalizer = kv_json_member(root, "normalizer"),
                 pretokenizer = kv_json_member(root, "pre_tokenizer");
    kv_json_part decoder = kv_json_member(root, "decoder");
    kv_status status = kv_normalizer_create(&normalizer, &tokenizer->normalizer, err);
    if (!status) status = kv_pretokenizer_create(&pretokenizer, &tokenizer->pretokenizer, err);
    if (!status) status = read_model(root, tokenizer, err);
    if (!status) status = read_decoder(&decoder, tokenizer, err);
    if (!status) status = read_all_added(root, tokenizer, err);
    return status ? status
                  : kv_special_tokens_read(path, root, tokenizer->vocabulary, &tokenizer->bos,
                                           &tokenizer->eos, err);
}

static kv_status open_tokenizer(const char *path, kv_json_tokenizer **tokenizer, kv_error *err) {
    char *bytes = NULL;
    size_t size = 0;
    json_error_t why;
    kv_json_part root = {0};
    *tokenizer = NULL;
    kv_status status = kv_read_file(path, max_file_bytes, &bytes, &size, err);
    if (status) return status;
    json_t *json = kv_json_parse(bytes, size, 0, &why);
    free(bytes);
    if (!json) return kv_fail(err, KV_ERR_FORMAT, "%s:%d: not valid JSON: %s", path, why.line, why.text);
    root.value = json;
    snprintf(root.where, sizeof root.where, "%.*s: ", KV_HEAD(path, 250));
    kv_json_tokenizer *made = calloc(1, sizeof *made);
    status = !made                  ? kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path)
             : json_is_object(json) ? read_root(path, &root, made, err)
                                    : kv_fail(err, KV_ERR_FORMAT, "%s: expected a JSON object", path);
    json_decref(json);
    if (status)
        kv_json_tokenizer_free(made);
    else
        *tokenizer = made;
    return status;
}

kv_status kv_json_tokenizer_open(const char *path, kv_json_tokenizer **tokenizer, kv_error *err) {
    return kv_mistaken(path, KV_FILE_TOKENIZER_JSON, open_tokenizer(path, tokenizer, err), err);
}

void kv_json_tokenizer_free(kv_json_tokenizer *tokenizer) {
    if (!tokenizer) return;
    kv_bpe_free(tokenizer->bpe);
    kv_added_tokens_free(tokenizer->added);
    kv_added_tokens_free(tokenizer->added_normalized);
    kv_normalizer_free(tokenizer->normalizer);
    kv_pretokenizer_free(tokenizer->pretokenizer);
    kv_detokenizer_free(tokenizer->detokenizer);
    kv_vocabulary_free(tokenizer->vocabulary);
    free(tokenizer->no_decoder);
    free(tokenizer->is_added);
    free(tokenizer->only_added);
    free(tokenizer);
}
