#include "tests/support/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK "\xE2\x96\x81"

size_t test_put_utf8(int32_t point, char *text) {
    if (point < 0x80) {
        text[0] = (char)point;
        return 1;
    }
    size_t n = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const int marks[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = n; i-- > 1; point >>= 6) text[i] = (char)(0x80 | (point & 0x3F));
    text[0] = (char)(marks[n] | point);
    return n;
}

// ---- Files ---------------------------------------------------------------------------------------------

// The alphabet as GPT-2's code builds it: visible bytes first, the rest counted from U+0100 on.
static void stand_in(int byte, char text[8]) {
    int32_t next = 0x100, point = byte;
    for (int b = 0; b <= byte; b++) {
        bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        point = visible ? b : next++;
    }
    text[test_put_utf8(point, text)] = '\0';
}

json_t *test_byte_level(const char *const *merges, size_t n) {
    json_t *vocab = json_object(), *list = json_array();
    for (int b = 0; b < 256; b++) {
        char piece[8];
        stand_in(b, piece);
        json_object_set_new(vocab, piece, json_integer(b));
    }
    for (size_t i = 0; i < n; i++) {
        char piece[64];
        size_t left = strcspn(merges[i], " ");
        snprintf(piece, sizeof piece, "%.*s%s", (int)left, merges[i], merges[i] + left + 1);
        json_object_set_new(vocab, piece, json_integer(256 + (json_int_t)i));
        json_array_append_new(list, json_string(merges[i]));
    }
    json_t *root = json_pack("{s:{s:s,s:o,s:o},s:[],s:{s:s,s:b},s:{s:s}}", "model", "type", "BPE", "vocab",
                             vocab, "merges", list, "added_tokens", "pre_tokenizer", "type", "ByteLevel",
                             "add_prefix_space", 0, "decoder", "type", "ByteLevel");
    assert_non_null(root);
    return root;
}

json_t *test_spm_kind(bool bytes) {
    json_t *vocab = json_pack("{s:i}", "<unk>", 0);
    for (int b = 0; b < 256 && bytes; b++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", b);
        json_object_set_new(vocab, piece, json_integer(1 + b));
    }
    static const char *const pieces[] = {MARK, "a", "b", MARK "a", "ab"};
    for (int i = 0; i < 5; i++) json_object_set_new(vocab, pieces[i], json_integer(257 + i));
    json_t *root =
        json_pack("{s:{s:s,s:o,s:[[s,s],[s,s]],s:s,s:b,s:b}}", "model", "type", "BPE", "vocab", vocab,
                  "merges", MARK, "a", "a", "b", "unk_token", "<unk>", "byte_fallback", 1, "fuse_unk", 1);
    test_set(
        root, "decoder",
        "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"" MARK
        "\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"
        " {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}");
    test_set(root, "normalizer",
             "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"" MARK "\"},"
             " {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" MARK "\"}]}");
    test_set(root, "added_tokens", "[{\"id\": 300, \"content\": \"<s>\", \"special\": true}]");
    return root;
}

void test_set(json_t *object, const char *key, const char *json) {
    json_error_t why;
    json_t *value = json_loads(json, JSON_DECODE_ANY, &why);
    if (!value) fail_msg("%s: %s", json, why.text);
    assert_int_equal(json_object_set_new(object, key, value), 0);
}

void test_write_bytes(const char *path, const char *bytes, size_t length) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void write_root(const json_t *root, const char *path) {
    char *text = json_dumps(root, JSON_COMPACT);
    assert_non_null(text);
    test_write_bytes(path, text, strlen(text));
    free(text);
}

kv_tokenizer *test_open(const json_t *root, const char *path) {
    kv_tokenizer *tokenizer = NULL;
    kv_error err = {0};
    write_root(root, path);
    if (kv_tokenizer_open(path, &tokenizer, &err)) fail_msg("%s", err.message);
    return tokenizer;
}

void test_refused(const json_t *root, const char *path, const char *words) {
    kv_tokenizer *tokenizer = NULL;
    kv_error err = {0};
    write_root(root, path);
    assert_int_equal(kv_tokenizer_open(path, &tokenizer, &err), KV_ERR_FORMAT);
    assert_null(tokenizer);
    assert_null(strchr(err.message, '\n'));
    if (!strstr(err.message, words) || !strstr(err.message, strrchr(path, '/')))
        fail_msg("'%s' does not say '%s'", err.message, words);
}

// ---- Ids -----------------------------------------------------------------------------------------------

int32_t *test_encode(const kv_tokenizer *tokenizer, const char *text, size_t length, int64_t *n) {
    int32_t *ids = NULL;
    kv_error err = {0};
    if (kv_tokenizer_encode(tokenizer, text, length, &ids, n, &err)) fail_msg("%s", err.message);
    assert_non_null(ids);
    return ids;
}

void test_expect_ids(const kv_tokenizer *tokenizer, const char *text, const int32_t *ids, int64_t n) {
    int64_t n_found = 0;
    int32_t *found = test_encode(tokenizer, text, strlen(text), &n_found);
    bool same = n_found == n && (n == 0 || memcmp(found, ids, (size_t)n * sizeof *ids) == 0);
    for (int64_t i = 0; !same && i < n_found; i++)
        fprintf(stderr, "%d '%s'\n", found[i], kv_tokenizer_piece(tokenizer, found[i]));
    if (!same) fail_msg("'%s' has other ids", text);
    free(found);
}

void test_round_trip(const kv_tokenizer *tokenizer, const char *text, size_t length) {
    char *back = NULL;
    size_t n_back = 0;
    kv_error err = {0};
    int64_t n = 0;
    int32_t *ids = test_encode(tokenizer, text, length, &n);
    if (kv_tokenizer_decode(tokenizer, ids, n, &back, &n_back, &err)) fail_msg("%s", err.message);
    if (n_back != length || memcmp(back, text, length) != 0) fail_msg("'%s' came back as '%s'", text, back);
    assert_int_equal(back[length], '\0');
    free(back);
    free(ids);
}

// ---- Texts ---------------------------------------------------------------------------------------------

static const struct {
    int32_t first, last, weight;
} kinds[] = {
    {'a', 'z', 10},        {'A', 'Z', 5},           {'0', '9', 8},         {' ', ' ', 12},
    {'\'', '\'', 6},       {'!', '/', 4},           {':', '@', 2},         {'\n', '\n', 5},
    {'\r', '\r', 3},       {'\t', '\t', 2},         {0x01, 0x1F, 1},       {0x85, 0x85, 1},
    {0xA0, 0xA0, 1},       {0xA1, 0x24F, 3},        {0x17F, 0x17F, 1},     {0x300, 0x34E, 3},
    {0x391, 0x3A1, 1},     {0x410, 0x44F, 3},       {0x5D0, 0x5EA, 1},     {0x660, 0x669, 2},
    {0x905, 0x939, 1},     {0x93E, 0x94D, 1},       {0x1680, 0x1680, 1},   {0x180E, 0x180E, 1},
    {0x1E00, 0x1EFF, 1},   {0x2000, 0x200F, 2},     {0x2028, 0x202F, 1},   {0x205F, 0x2060, 1},
    {0x2070, 0x2079, 1},   {0x2150, 0x2188, 2},     {0x2190, 0x21FF, 1},   {0x2460, 0x24E9, 1},
    {0x3000, 0x3007, 1},   {0x3041, 0x3096, 1},     {0x4E00, 0x9FA5, 2},   {0xAC00, 0xD7A3, 1},
    {0xE000, 0xF8FF, 1},   {0xFB1D, 0xFB1D, 1},     {0xFE00, 0xFE0F, 1},   {0xFF10, 0xFF5A, 1},
    {0xFFFC, 0xFFFD, 1},   {0x1D400, 0x1D454, 1},   {0x1D7CE, 0x1D7FF, 1}, {0x1F300, 0x1F64F, 2},
    {0x20000, 0x2A6D6, 1}, {0x10FFFC, 0x10FFFF, 1},
};

size_t test_unicode(uint64_t seed, int64_t n, bool nul, char *text) {
    int64_t total = 0;
    size_t length = 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) total += kinds[k].weight;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = test_below(seed, 2 * i, total + nul);
        size_t k = 0;
        for (; k < sizeof kinds / sizeof *kinds && at >= kinds[k].weight; k++) at -= kinds[k].weight;
        int32_t point = 0;
        if (k < sizeof kinds / sizeof *kinds)
            point = kinds[k].first + (int32_t)test_below(seed, 2 * i + 1, kinds[k].last - kinds[k].first + 1);
        length += test_put_utf8(point, text + length);
    }
    text[length] = '\0';
    return length;
}

void test_bytes(uint64_t seed, int64_t n, char *text) {
    for (int64_t i = 0; i < n;) {
        char character[5];
        size_t length = 1;
        if (test_below(seed, 3 * i, 3) == 0)
            character[0] = (char)test_below(seed, 3 * i + 1, 256);
        else
            length = test_unicode(seed + (uint64_t)i, 1, true, character);
        // Now and then a character is cut off in the middle.
        if (length > 1 && test_below(seed, 3 * i + 2, 4) == 0) length--;
        for (size_t b = 0; b < length && i < n; b++) text[i++] = character[b];
    }
}
