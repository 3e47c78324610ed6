// How text is split into words: against splitters written from what the published patterns mean, character by
// character, with no regular expressions.
#include "tests/support/tokenizer.h"

#include "data/text/unicode.h"
#include "data/tokenizer/pretokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

// ---- What the product does -----------------------------------------------------------------------------

struct words {
    kv_bytes text;
    size_t ends[20000];
    size_t n;
    bool spelt; // in the byte alphabet
};

static kv_status add_word(void *context, const char *word, size_t length, kv_error *err) {
    struct words *words = context;
    kv_status status = words->spelt ? kv_byte_alphabet_decode(word, length, &words->text, err)
                                    : kv_bytes_add(&words->text, word, length, err);
    assert_true(words->n < sizeof words->ends / sizeof *words->ends);
    words->ends[words->n++] = words->text.length;
    return status;
}

static kv_pretokenizer *made(const char *json) {
    kv_pretokenizer *pretokenizer = NULL;
    kv_error err = {0};
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    kv_json_part part = {.value = value, .where = "test"};
    assert_true(value || !*json);
    if (kv_pretokenizer_create(&part, &pretokenizer, &err)) fail_msg("%s: %s", json, err.message);
    json_decref(value);
    return pretokenizer;
}

static void split_at(const kv_pretokenizer *pretokenizer, kv_pretokenizer_work *work, const char *text,
                     size_t length, bool at_start, struct words *words) {
    kv_error err = {0};
    words->text.length = words->n = 0;
    words->spelt = kv_pretokenizer_spells_bytes(pretokenizer);
    if (kv_pretokenize(pretokenizer, work, text, length, at_start, add_word, words, &err))
        fail_msg("%s", err.message);
}

// ---- What the patterns mean ----------------------------------------------------------------------------

struct text {
    int32_t points[5000];
    size_t offsets[5001];
    size_t n;
};

static void read_text(const char *bytes, size_t length, struct text *text) {
    text->n = 0;
    for (size_t i = 0; i < length;) {
        text->offsets[text->n] = i;
        i += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)bytes + i, (utf8proc_ssize_t)(length - i),
                                      &text->points[text->n++]);
    }
    text->offsets[text->n] = length;
}

static bool letter(int32_t point) {
    utf8proc_category_t c = utf8proc_category(point);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}
static bool number(int32_t point) {
    utf8proc_category_t c = utf8proc_category(point);
    return c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
}
static bool space(int32_t point) {
    utf8proc_category_t c = utf8proc_category(point);
    return (c >= UTF8PROC_CATEGORY_ZS && c <= UTF8PROC_CATEGORY_ZP) || (point >= 9 && point <= 13) ||
           point == 0x85;
}
static bool other(int32_t point) {
    return !letter(point) && !number(point) && !space(point);
}
static bool line_end(int32_t point) {
    return point == '\r' || point == '\n';
}

// End of the run of such characters from i on, before `end`.
static size_t run(const struct text *text, size_t i, size_t end, bool (*is)(int32_t)) {
    while (i < end && is(text->points[i])) i++;
    return i;
}

static int32_t lower(int32_t point) {
    return point == 0x17F ? 's' : point >= 'A' && point <= 'Z' ? point + 32 : point; // the long s is an s
}

// 's 't 're 've 'm 'll 'd
static size_t contraction(const struct text *text, size_t i, size_t end, bool any_case) {
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (text->points[i] != '\'') return i;
    for (size_t k = 0; k < 7; k++) {
        size_t n = strlen(endings[k]), same = 0;
        while (same < n && i + 1 + same < end) {
            int32_t point = text->points[i + 1 + same];
            if ((any_case ? lower(point) : point) != endings[k][same]) break;
            same++;
        }
        if (same == n) return i + 1 + n;
    }
    return i;
}

// White space before other text leaves its last character to it.
static size_t spaces(const struct text *text, size_t i, size_t end) {
    size_t stop = run(text, i, end, space);
    return stop < end && stop > i + 1 ? stop - 1 : stop;
}

static size_t gpt2_word(const struct text *text, size_t i, size_t end) {
    size_t stop = contraction(text, i, end, false);
    if (stop > i) return stop;
    size_t inner = i + (text->points[i] == ' ' && i + 1 < end);
    bool (*const kinds[])(int32_t) = {letter, number, other};
    for (int k = 0; k < 3; k++)
        if ((stop = run(text, inner, end, kinds[k])) > inner) return stop;
    return spaces(text, i, end);
}

static size_t max_digits; // 3 for Llama-3, 1 for Qwen

static size_t llama_word(const struct text *text, size_t i, size_t end) {
    size_t stop = contraction(text, i, end, true);
    if (stop > i) return stop;
    int32_t first = text->points[i];
    bool lead = !line_end(first) && !letter(first) && !number(first);
    size_t inner = i + lead;
    if ((stop = run(text, inner, end, letter)) > inner) return stop;
    if ((stop = run(text, i, end, number)) > i) return stop < i + max_digits ? stop : i + max_digits;
    inner = i + (first == ' ');
    if ((stop = run(text, inner, end, other)) > inner) return run(text, stop, end, line_end);
    stop = run(text, i, end, space);
    for (size_t j = stop; j-- > i;)
        if (line_end(text->points[j])) return j + 1;
    return spaces(text, i, end);
}

// Every number stands alone, the text between is split as GPT-2's.
static size_t starcoder_word(const struct text *text, size_t i, size_t end) {
    if (number(text->points[i])) return i + 1;
    size_t stop = i;
    while (stop < end && !number(text->points[stop])) stop++;
    return gpt2_word(text, i, stop);
}

typedef size_t word_fn(const struct text *, size_t, size_t);

static void check(const kv_pretokenizer *pretokenizer, kv_pretokenizer_work *work, const char *bytes,
                  size_t length, word_fn *word) {
    static struct text text;
    static struct words words;
    read_text(bytes, length, &text);
    split_at(pretokenizer, work, bytes, length, true, &words);
    size_t n = 0;
    for (size_t i = 0; i < text.n; n++) {
        size_t stop = word(&text, i, text.n);
        if (n >= words.n || words.ends[n] != text.offsets[stop])
            fail_msg("'%s': word %zu ends at %zu, expected %zu", bytes, n, n < words.n ? words.ends[n] : 0,
                     text.offsets[stop]);
        i = stop;
    }
    assert_int_equal(n, words.n);
    assert_int_equal(words.text.length, length);
    if (length) assert_memory_equal(words.text.data, bytes, length);
    kv_bytes_free(&words.text);
}

static void check_random(const char *json, word_fn *word) {
    static char text[4 * 4000 + 1];
    kv_pretokenizer *pretokenizer = made(json);
    kv_pretokenizer_work *work = kv_pretokenizer_work_create();
    static const char *const fixed[] = {"I'll we'Re they'VE it'\xC5\xBF don't'd",
                                        "a  b   ",
                                        "\n \n\n  x\r\n\r\n",
                                        "1234567 12 3",
                                        "  12",
                                        "!!\n\n\nx",
                                        " \n",
                                        "x \xE1\xA0\x8E y",
                                        "\xC2\xA0\xC2\xA0z",
                                        "'",
                                        "'sS",
                                        ""};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        check(pretokenizer, work, fixed[i], strlen(fixed[i]), word);
    for (uint64_t seed = 0; seed < 3000; seed++)
        check(pretokenizer, work, text, test_unicode(seed, 1 + test_below(seed, -1, 60), true, text), word);
    check(pretokenizer, work, text, test_unicode(1, 4000, true, text), word);
    kv_pretokenizer_work_free(work);
    kv_pretokenizer_free(pretokenizer);
}

#define BYTE_LEVEL(regex)                                                                                    \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": " regex "}"
#define SPLIT_THEN_BYTES(digits)                                                                             \
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "           \
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits                         \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, "              \
    "\"behavior\": \"Isolated\", \"invert\": false}, " BYTE_LEVEL("false") "]}"

static const char gpt2[] = BYTE_LEVEL("true");
static const char llama3[] = SPLIT_THEN_BYTES("\\\\p{N}{1,3}");
static const char qwen2[] = SPLIT_THEN_BYTES("\\\\p{N}");
static const char starcoder[] =
    "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": true}, " BYTE_LEVEL(
        "true") "]}";

static void gpt2_words(void **state) {
    (void)state;
    check_random(gpt2, gpt2_word);
}
static void llama3_words(void **state) {
    (void)state;
    max_digits = 3;
    check_random(llama3, llama_word);
}
static void qwen2_words(void **state) {
    (void)state;
    max_digits = 1;
    check_random(qwen2, llama_word);
}
static void starcoder_words(void **state) {
    (void)state;
    check_random(starcoder, starcoder_word);
}

// ---- With a real vocabulary ----------------------------------------------------------------------------

static kv_tokenizer *gpt2_with(const char *pretokenizer, const char *normalizer) {
    json_t *root = json_load_file(test_fixture("fixtures/tokenizers/gpt-2/tokenizer.json"), 0, NULL);
    assert_non_null(root);
    test_set(root, "pre_tokenizer", pretokenizer);
    test_set(root, "normalizer", normalizer);
    kv_tokenizer *tokenizer = test_open(root, test_path(test_dir, "tokenizer.json"));
    json_decref(root);
    return tokenizer;
}

// GPT-2's pieces and merges behind another splitter: the ids of a text are those of its words, one by one.
static void check_ids(const char *pretokenizer, word_fn *word) {
    static struct text text;
    static char bytes[4 * 60 + 1];
    kv_tokenizer *whole = gpt2_with(pretokenizer, "null"), *by_word = gpt2_with(BYTE_LEVEL("false"), "null");
    for (uint64_t seed = 0; seed < 200; seed++) {
        size_t length = test_unicode(seed, 60, true, bytes);
        int64_t n = 0, at = 0;
        int32_t *ids = test_encode(whole, bytes, length, &n);
        read_text(bytes, length, &text);
        for (size_t i = 0, stop; i < text.n; i = stop) {
            int64_t n_word = 0;
            stop = word(&text, i, text.n);
            int32_t *of_word =
                test_encode(by_word, bytes + text.offsets[i], text.offsets[stop] - text.offsets[i], &n_word);
            assert_true(at + n_word <= n);
            assert_memory_equal(ids + at, of_word, (size_t)n_word * sizeof *ids);
            at += n_word;
            free(of_word);
        }
        assert_int_equal(at, n);
        free(ids);
        test_round_trip(whole, bytes, length);
    }
    kv_tokenizer_free(whole);
    kv_tokenizer_free(by_word);
}

static void ids_of_words(void **state) {
    (void)state;
    max_digits = 3;
    check_ids(llama3, llama_word);
    max_digits = 1;
    check_ids(qwen2, llama_word);
}

// Qwen's: what comes back is the text's form C.
static void form_c_comes_back(void **state) {
    (void)state;
    static char text[4 * 100 + 1];
    kv_tokenizer *tokenizer = gpt2_with(qwen2, "{\"type\": \"NFC\"}"), *plain = gpt2_with(qwen2, "null");
    for (uint64_t seed = 0; seed < 200; seed++) {
        kv_bytes normal = {0};
        int64_t n = 0, n_normal = 0;
        size_t length = test_unicode(seed, 100, true, text);
        assert_int_equal(kv_nfc(text, length, &normal, NULL), KV_OK);
        int32_t *ids = test_encode(tokenizer, text, length, &n),
                *of_normal = test_encode(plain, normal.data, normal.length, &n_normal);
        assert_int_equal(n, n_normal);
        assert_memory_equal(ids, of_normal, (size_t)n * sizeof *ids);
        test_round_trip(tokenizer, normal.data, normal.length);
        free(ids);
        free(of_normal);
        kv_bytes_free(&normal);
    }
    kv_tokenizer_free(tokenizer);
    kv_tokenizer_free(plain);
}

// ---- Long runs -----------------------------------------------------------------------------------------

// A million characters that a pattern could go back over again and again: each must end soon, in one word or
// in many.
static void long_runs(void **state) {
    (void)state;
    enum { N = 1000000 };
    static const char *const patterns[] = {gpt2, llama3, starcoder};
    static const char *const runs[] = {" ", "a", "\n", "1", "!", " \n", "\xCC\x81", "\xE4\xB8\x80"};
    char *text = test_alloc(N + 8, 1);
    for (size_t p = 0; p < 3; p++) {
        kv_pretokenizer *pretokenizer = made(patterns[p]);
        kv_pretokenizer_work *work = kv_pretokenizer_work_create();
        for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
            size_t n = strlen(runs[r]), length = 0;
            // Runs of one kind that Digits or \p{N}{1,3} cut into pieces are too many for this test's list.
            size_t wanted = runs[r][0] == '1' ? 10000 : N;
            for (; length + n <= wanted; length += n) memcpy(text + length, runs[r], n);
            text[length++] = 'x';
            static struct words words;
            split_at(pretokenizer, work, text, length, true, &words);
            assert_int_equal(words.text.length, length);
            assert_memory_equal(words.text.data, text, length);
            if (runs[r][0] != '1') assert_true(words.n <= 3);
            kv_bytes_free(&words.text);
        }
        kv_pretokenizer_work_free(work);
        kv_pretokenizer_free(pretokenizer);
    }
    free(text);
}

// ---- Behaviours ----------------------------------------------------------------------------------------

// words: separated by '|'.
static void expect_words(const char *json, bool at_start, const char *text, size_t length,
                         const char *expected) {
    static struct words words;
    char found[500] = "";
    kv_pretokenizer *pretokenizer = made(json);
    kv_pretokenizer_work *work = kv_pretokenizer_work_create();
    split_at(pretokenizer, work, text, length, at_start, &words);
    for (size_t i = 0, start = 0; i < words.n; start = words.ends[i++]) {
        strcat(found, i ? "|" : "");
        strncat(found, words.text.data + start, words.ends[i] - start);
    }
    if (strcmp(found, expected) != 0)
        fail_msg("%s on '%s': '%s', expected '%s'", json, text, found, expected);
    kv_bytes_free(&words.text);
    kv_pretokenizer_work_free(work);
    kv_pretokenizer_free(pretokenizer);
}

static void expect(const char *json, const char *text, const char *expected) {
    expect_words(json, true, text, strlen(text), expected);
}

#define SPLIT(kind, pattern, behavior, invert)                                                               \
    "{\"type\": \"Split\", \"pattern\": {\"" kind "\": \"" pattern "\"}, \"behavior\": \"" behavior          \
    "\", \"invert\": " invert "}"

static void split_behaviors(void **state) {
    (void)state;
    expect(SPLIT("String", "-", "Isolated", "false"), "a--b-", "a|-|-|b|-");
    expect(SPLIT("String", "-", "Removed", "false"), "-a--b-", "a|b");
    expect(SPLIT("String", "-", "MergedWithPrevious", "false"), "a--b-", "a-|-|b-");
    expect(SPLIT("String", "-", "MergedWithPrevious", "false"), "--b", "-|-|b");
    expect(SPLIT("String", "-", "MergedWithNext", "false"), "a--b-", "a|-|-b|-");
    expect(SPLIT("String", "-", "Contiguous", "false"), "a--b-", "a|--|b|-");
    expect(SPLIT("Regex", "\\\\p{L}+", "Removed", "true"), "a--bc-", "a|bc");
    expect(SPLIT("Regex", "\\\\p{L}+", "MergedWithPrevious", "true"), "a--bc-", "a--|bc-");
    expect(SPLIT("Regex", "\\\\p{L}+", "MergedWithNext", "true"), "a--bc-", "a|--bc|-");
    expect(SPLIT("Regex", "x*", "Isolated", "false"), "axxb\xC3\xA9", "a|xx|b|\xC3\xA9");
    expect(SPLIT("Regex", "(?=b)", "Isolated", "false"), "abab", "a|ba|b");
    expect(SPLIT("Regex", "(?<=a)b", "Isolated", "false"), "abbab", "a|b|ba|b");
    expect(SPLIT("Regex", "[\\\\s\\\\w]+", "Removed", "false"), "a_ \xCC\x81\xC2\xA0+1\xE1\xA0\x8E",
           "+|\xE1\xA0\x8E");
    expect(SPLIT("Regex", "[^\\\\S\\\\n]+", "Removed", "false"), "a \t\nb", "a|\nb");
    expect(SPLIT("Regex", "[[:alpha:]]", "Isolated", "false"), "a1", "a|1");
    // Oniguruma's classes: a Roman numeral and a letter in a circle are Alphabetic; a raised 2 is in \\w
    // alone.
    expect(SPLIT("Regex", "[[:alpha:]-]", "Removed", "false"), "1-\xE2\x85\xA7\xE2\x92\xB6\xC2\xB2",
           "1|\xC2\xB2");
    expect(SPLIT("Regex", "[[:space:][:digit:]]", "Removed", "false"), "a 1\xE1\xA0\x8E", "a|\xE1\xA0\x8E");
    expect(SPLIT("Regex", "\\\\w+", "Isolated", "false"),
           "a\xE2\x85\xA7+\xE2\x92\xB6\xC2\xB2\xCC\x81+\xE2\x81\xB4",
           "a\xE2\x85\xA7|+|\xE2\x92\xB6\xC2\xB2\xCC\x81|+\xE2\x81\xB4");
    expect(SPLIT("Regex", "[^\\\\w]+", "Removed", "false"), "a\xE2\x85\xA7+\xC2\xB2\xE2\x92\xB6",
           "a\xE2\x85\xA7|\xE2\x92\xB6");
    expect(SPLIT("Regex", "[]a]", "Isolated", "false"), "a]1", "a|]|1");
    expect(SPLIT("Regex", "^b", "Isolated", "false"), "b\nbb", "b|\n|b|b");
    expect(SPLIT("Regex", "\\\\d", "Isolated", "false"), "1\xD9\xA3\xC2\xBD", "1|\xD9\xA3|\xC2\xBD");
    expect("{\"type\": \"Digits\"}", "a12b3", "a|12|b|3");
    expect("{\"type\": \"Digits\", \"individual_digits\": true}", "a12\xC2\xBD", "a|1|2|\xC2\xBD");
    expect("null", "a b", "a b");
}

#define MARK            "\xE2\x96\x81"
#define METASPACE(rest) "{\"type\": \"Metaspace\", \"replacement\": \"" MARK "\"" rest "}"

static void spaces_in_front(void **state) {
    (void)state;
    expect(METASPACE(""), "a  b", MARK "a|" MARK "|" MARK "b");
    expect(METASPACE(""), " a", MARK "a");
    expect(METASPACE(", \"split\": false"), "a b", MARK "a" MARK "b");
    expect(METASPACE(", \"prepend_scheme\": \"never\""), "a b", "a|" MARK "b");
    expect(METASPACE(", \"add_prefix_space\": false"), "a b", "a|" MARK "b");
    expect(METASPACE(", \"prepend_scheme\": \"first\""), "a b", MARK "a|" MARK "b");
    expect_words(METASPACE(", \"prepend_scheme\": \"first\""), false, "a b", 3, "a|" MARK "b");
    expect_words(METASPACE(", \"prepend_scheme\": \"always\""), false, "a b", 3, MARK "a|" MARK "b");
    // One Split before it: every piece has a beginning of its own.
    expect("{\"type\": \"Sequence\", \"pretokenizers\": [" SPLIT("String", "-", "Isolated",
                                                                 "false") ", " METASPACE("") "]}",
           "a-b", MARK "a|" MARK "-|" MARK "b");
    expect("{\"type\": \"Sequence\", \"pretokenizers\": [" SPLIT(
               "String", "-", "Isolated", "false") ", " METASPACE(", \"prepend_scheme\": \"first\"") "]}",
           "a-b", MARK "a|-|b");
    expect("{\"type\": \"ByteLevel\"}", "a b", " a| b");
    expect("{\"type\": \"ByteLevel\"}", " a b", " a| b");
}

static void invalid_bytes_are_words(void **state) {
    (void)state;
    expect(gpt2, "ab\xFF\xFE\xC3 cd\x80", "ab|\xFF\xFE\xC3| cd|\x80");
    expect("{\"type\": \"ByteLevel\"}",
           "ab\xFF"
           "cd",
           " ab|\xFF|cd");
    expect(METASPACE(""),
           "ab\xFF"
           "cd e",
           MARK "ab|\xFF|cd|" MARK "e");
    expect("null", "ab\xFF", "ab|\xFF");
    // Only the piece right behind them goes on; the next one has a beginning of its own.
    expect("{\"type\": \"Sequence\", \"pretokenizers\": [" SPLIT("String", "-", "Isolated",
                                                                 "false") ", " METASPACE("") "]}",
           "a\xFF"
           "b-",
           MARK "a|\xFF|b|" MARK "-");
    // The end of valid text is an end to look ahead at.
    expect(gpt2, "a  \xFF", "a|  |\xFF");
}

static void byte_alphabet(void **state) {
    (void)state;
    kv_bytes spelt = {0}, back = {0};
    char all[256];
    for (int b = 0; b < 256; b++) all[b] = (char)b;
    assert_int_equal(kv_byte_alphabet_encode(all, 256, &spelt, NULL), KV_OK);
    json_t *root = test_byte_level(NULL, 0); // built another way
    size_t at = 0;
    const char *piece;
    json_t *id;
    json_object_foreach(json_object_get(json_object_get(root, "model"), "vocab"), piece, id) {
        assert_memory_equal(spelt.data + at, piece, strlen(piece));
        at += strlen(piece);
    }
    assert_int_equal(at, spelt.length);
    assert_int_equal(kv_byte_alphabet_decode(spelt.data, spelt.length, &back, NULL), KV_OK);
    assert_int_equal(back.length, 256);
    assert_memory_equal(back.data, all, 256);
    back.length = 0;
    assert_int_equal(kv_byte_alphabet_decode("\xC4\xA0\xC5\x84", 4, &back, NULL),
                     KV_OK); // U+0144 is in no alphabet
    assert_int_equal(back.length, 4);
    json_decref(root);
    kv_bytes_free(&spelt);
    kv_bytes_free(&back);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_words),      cmocka_unit_test(llama3_words),
        cmocka_unit_test(qwen2_words),     cmocka_unit_test(starcoder_words),
        cmocka_unit_test(ids_of_words),    cmocka_unit_test(form_c_comes_back),
        cmocka_unit_test(long_runs),       cmocka_unit_test(split_behaviors),
        cmocka_unit_test(spaces_in_front), cmocka_unit_test(invalid_bytes_are_words),
        cmocka_unit_test(byte_alphabet),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
