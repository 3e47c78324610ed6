// Token ids to text as it comes: always whole characters, all of them together what decoding gives, and as
// soon as they are certain.
#include "tests/support/corpus.h"

#include "data/text/unicode.h"
#include "data/tokenizer/text_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// With raw_bytes an id is a byte, and decoding hands it out as it is, as byte-level tokenizers do; TWO_MARKS
// stands for U+FFFD, twice.
enum { TWO_MARKS = 256 };
static bool raw_bytes;
static int64_t n_decoded; // tokens that went through decoding

kv_status __real_kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                        char **text, size_t *length, kv_error *err);
kv_status __wrap_kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                        char **text, size_t *length, kv_error *err);

kv_status __wrap_kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                        char **text, size_t *length, kv_error *err) {
    n_decoded += n;
    if (!raw_bytes) return __real_kv_decode_continuation(tokenizer, ids, n, text, length, err);
    char *end = *text = test_alloc(6 * n + 1, 1);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] == TWO_MARKS)
            end = stpcpy(end, "\xEF\xBF\xBD\xEF\xBF\xBD");
        else
            *end++ = (char)ids[i];
    *length = (size_t)(end - *text);
    return KV_OK;
}

static kv_tokenizer *tokenizer;

static int set_up(void **state) {
    kv_error err = {0};
    test_dir_set_up(state);
    test_small_corpus(test_dir);
    return kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizer, &err) != KV_OK;
}

static int tear_down(void **state) {
    kv_tokenizer_free(tokenizer);
    return test_dir_tear_down(state);
}

static int32_t byte_id(int byte) {
    char piece[8];
    snprintf(piece, sizeof piece, "<0x%02X>", byte);
    const int32_t id = kv_tokenizer_find(tokenizer, piece);
    assert_true(id >= 0);
    return id;
}

// ---- What is a character -------------------------------------------------------------------------------

enum { MAX_POINT = 0x10FFFF };

static int encode(uint32_t point, unsigned char *out) {
    if (point < 0x80) return out[0] = (unsigned char)point, 1;
    if (point < 0x800)
        return out[0] = (unsigned char)(0xC0 | point >> 6), out[1] = (unsigned char)(0x80 | (point & 63)), 2;
    if (point < 0x10000) {
        out[0] = (unsigned char)(0xE0 | point >> 12);
        out[1] = (unsigned char)(0x80 | (point >> 6 & 63)), out[2] = (unsigned char)(0x80 | (point & 63));
        return 3;
    }
    out[0] = (unsigned char)(0xF0 | point >> 18), out[1] = (unsigned char)(0x80 | (point >> 12 & 63));
    out[2] = (unsigned char)(0x80 | (point >> 6 & 63)), out[3] = (unsigned char)(0x80 | (point & 63));
    return 4;
}

// For every string of up to three bytes: a character's length, 0 a beginning of one, else -1; from a list of
// all code points.
static signed char *all_beginnings(void) {
    signed char *known = malloc(3u << 24);
    assert_non_null(known);
    memset(known, -1, 3u << 24);
    for (uint32_t point = 0; point <= MAX_POINT; point++) {
        if (point >= 0xD800 && point < 0xE000) continue;
        unsigned char bytes[4];
        const int n = encode(point, bytes);
        size_t prefix = 0;
        for (int i = 0; i < n && i < 3; i++) {
            prefix = prefix << 8 | bytes[i];
            known[((size_t)i << 24) + prefix] = (signed char)(i + 1 == n ? n : 0);
        }
    }
    return known;
}

static void characters_and_their_beginnings(void **state) {
    (void)state;
    signed char *known = all_beginnings();
    for (int a = 0; a < 256; a++) {
        const char one[] = {(char)a};
        assert_int_equal(kv_utf8_character(one, 1), known[a]);
        for (int b = 0; b < 256; b++) {
            const char two[] = {(char)a, (char)b};
            const int whole = known[a] != 0 ? known[a] : known[(1 << 24) + (a << 8 | b)];
            assert_int_equal(kv_utf8_character(two, 2), whole);
            if (whole != 0) continue;
            for (int c = 0; c < 256; c++) {
                const char three[] = {(char)a, (char)b, (char)c};
                assert_int_equal(kv_utf8_character(three, 3), known[(2 << 24) + (a << 16 | b << 8 | c)]);
            }
        }
    }
    assert_int_equal(kv_utf8_character("", 0), 0);
    assert_int_equal(kv_utf8_character("\xF0\x9F\x98\x80!", 5), 4);
    assert_int_equal(kv_utf8_character("\xF4\x8F\xBF\xC0", 4), -1);
    free(known);
}

// ---- Streams -------------------------------------------------------------------------------------------

static bool is_utf8(const char *text, size_t length) {
    for (int n; length > 0; text += n, length -= (size_t)n)
        if ((n = kv_utf8_character(text, length)) <= 0) return false;
    return true;
}

// Streams ids[n] (twice with one stream) and compares with decoding them at once. Returns the bytes that were
// given out before the end.
static size_t check_stream(const int32_t *ids, int64_t n) {
    kv_error err = {0};
    char *whole;
    size_t n_whole, n_wanted, early = 0;
    kv_text_stream *stream = kv_text_stream_create(tokenizer, NULL, 0);
    assert_int_equal(kv_decode_continuation(tokenizer, ids, n, &whole, &n_whole, &err), KV_OK);
    char *wanted = test_repaired(whole, n_whole, &n_wanted);
    for (int again = 0; again < 2; again++) {
        size_t used = 0;
        for (int64_t i = 0; i <= n; i++) {
            const char *text;
            size_t length;
            bool stopped;
            kv_status status = i < n ? kv_text_stream_push(stream, ids[i], &text, &length, &stopped, &err)
                                     : kv_text_stream_finish(stream, &text, &length, &stopped, &err);
            if (status != KV_OK) fail_msg("%s", err.message);
            assert_false(stopped);
            if (i == n) early = used;
            assert_int_equal(text[length], '\0');
            assert_true(is_utf8(text, length));
            assert_true(used + length <= n_wanted);
            assert_memory_equal(text, wanted + used, length);
            used += length;
        }
        assert_int_equal(used, n_wanted);
    }
    free(wanted);
    free(whole);
    kv_text_stream_free(stream);
    return early;
}

// Streams ids[n] up to a stop string taken from their own text, beside one that is not in it, and compares with looking for
// it in the whole text.
static void check_stop(const int32_t *ids, int64_t n, uint64_t trial) {
    kv_error err = {0};
    char *whole, *wanted, stop[40];
    size_t n_whole, n_wanted, used = 0, length;
    bool stopped = false;
    assert_int_equal(kv_decode_continuation(tokenizer, ids, n, &whole, &n_whole, &err), KV_OK);
    wanted = test_repaired(whole, n_whole, &n_wanted);
    for (size_t i = 0; i < n_wanted; i++)
        if (!wanted[i]) n_wanted = i; // a stop string is NUL-terminated: none is looked for behind
    size_t from = n_wanted ? (size_t)test_below(trial, 5000, (int64_t)n_wanted) : 0, upto = from;
    while (from > 0 && (wanted[from] & 0xC0) == 0x80) from--;
    for (int64_t more = 1 + test_below(trial, 5001, 6); more > 0 && upto < n_wanted; more--)
        for (upto++; upto < n_wanted && (wanted[upto] & 0xC0) == 0x80; upto++) {
        }
    memcpy(stop, wanted + from, upto - from);
    stop[upto - from] = '\0';
    const char *const stops[] = {stop, "not in any of these texts"};
    const char *const at = upto > from ? strstr(wanted, stop) : NULL;
    kv_text_stream *stream = kv_text_stream_create(tokenizer, stops + !at, 1 + (at != NULL));
    for (int64_t i = 0; at && i <= n && !stopped; i++) {
        const char *text;
        assert_int_equal(i < n ? kv_text_stream_push(stream, ids[i], &text, &length, &stopped, &err)
                               : kv_text_stream_finish(stream, &text, &length, &stopped, &err),
                         KV_OK);
        assert_true(used + length <= (size_t)(at - wanted));
        assert_memory_equal(text, wanted + used, length);
        used += length;
    }
    assert_int_equal(stopped, at != NULL);
    if (at) assert_int_equal(used, at - wanted);
    kv_text_stream_free(stream);
    free(wanted);
    free(whole);
}

// Any ids at all, and mixtures of few that are often bytes of characters.
static void random_ids(void **state) {
    (void)state;
    enum { N = 60, TRIALS = 300 };
    static const int bytes[] = {0xE4, 0xB8, 0xAD, 0xF0, 0x9F, 0x98, 0x80, 0xC3, 0xFF, 0x41};
    int32_t ids[N];
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        const int64_t n = test_below(trial, 1000, N + 1);
        for (int64_t i = 0; i < n; i++) {
            const int64_t kind = trial % 3 == 0 ? 9 : test_below(trial, 2000 + i, 10);
            ids[i] = kind < 7   ? byte_id(bytes[test_below(trial, 3000 + i, 10)])
                     : kind < 8 ? (int32_t)test_below(trial, i, 3) // unknown, BOS, EOS
                                : (int32_t)test_below(trial, i, kv_tokenizer_vocab_size(tokenizer));
        }
        check_stream(ids, n);
        check_stop(ids, n, trial);
    }
}

static void random_bytes(void **state) {
    (void)state;
    enum { N = 60, TRIALS = 300 };
    static const int bytes[] = {0xE4, 0xB8, 0xAD, 0xF0, 0x9F, 0x98, 0x80, 0xEF, 0xBF, 0xBD};
    int32_t ids[N];
    raw_bytes = true;
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        for (int64_t i = 0; i < N; i++)
            ids[i] = trial % 3 == 0             ? (int32_t)test_below(trial, i, 256)
                     : trial % 3 == 1           ? bytes[test_below(trial, i, 10)]
                     : test_below(trial, i, 20) ? TWO_MARKS
                                                : bytes[test_below(trial, 100 + i, 10)];
        check_stream(ids, N);
        check_stop(ids, N, trial);
    }
    raw_bytes = false;
}

// A character behind any number of bytes that are none.
static void characters_behind_rubbish(void **state) {
    (void)state;
    static const int bytes[] = {0xF0, 0x9F, 0x98, 0x80, 'A'};
    int32_t ids[60];
    for (int kind = 0; kind < 3; kind++) {
        raw_bytes = kind > 0;
        for (int64_t n = 0; n < 50; n++) {
            for (int64_t i = 0; i < n; i++) ids[i] = kind == 0 ? byte_id(0x9F) : kind == 1 ? 0x9F : TWO_MARKS;
            for (int64_t i = 0; i < 5; i++) ids[n + i] = raw_bytes ? bytes[i] : byte_id(bytes[i]);
            check_stream(ids, n + 5);
        }
    }
    raw_bytes = false;
}

// Every character comes with its last byte, and words with their tokens.
static void nothing_waits_needlessly(void **state) {
    (void)state;
    kv_error err = {0};
    const char *text;
    size_t length;
    bool stopped;
    kv_text_stream *stream = kv_text_stream_create(tokenizer, NULL, 0);
    static const unsigned char characters[] = "\xE4\xB8\xAD\xF0\x9F\x98\x80\xC3\xA9";
    static const size_t expected[] = {0, 0, 3, 0, 0, 0, 4, 0, 2};
    for (int raw = 0; raw < 2; raw++) {
        raw_bytes = raw;
        for (int i = 0; i < 9; i++) {
            const int32_t id = raw ? characters[i] : byte_id(characters[i]);
            assert_int_equal(kv_text_stream_push(stream, id, &text, &length, &stopped, &err), KV_OK);
            assert_int_equal(length, expected[i]);
        }
    }
    raw_bytes = false;
    int32_t *ids;
    int64_t n;
    assert_int_equal(kv_tokenizer_encode(tokenizer, "Which country", 13, &ids, &n, &err), KV_OK);
    assert_true(n > 2);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(kv_text_stream_push(stream, ids[i], &text, &length, &stopped, &err), KV_OK);
        assert_true(length > 0);
    }
    free(ids);
    kv_text_stream_free(stream);
}

// Tokens decoded must not grow with what came before: also where nothing is ever a character.
static void as_fast_at_the_end(void **state) {
    (void)state;
    enum { N = 20000 };
    int32_t *ids = test_alloc(N, sizeof *ids);
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < N; i++)
            ids[i] = kind == 0   ? byte_id(0xFF)
                     : kind == 1 ? byte_id(i % 3 ? 0x9F : 0xF0)
                                 : (int32_t)test_below(4, i, kv_tokenizer_vocab_size(tokenizer));
        n_decoded = 0;
        const size_t early = check_stream(ids, N);
        assert_true(n_decoded < 2 * 20 * N + N + 100);
        if (kind < 2) assert_in_range(early, 3 * (N - 3), 3 * N); // three may still become a character
    }
    free(ids);
}

static void a_bad_id_is_refused_and_forgotten(void **state) {
    (void)state;
    kv_error err = {0};
    const char *text;
    size_t length;
    bool stopped;
    kv_text_stream *stream = kv_text_stream_create(tokenizer, NULL, 0);
    for (int i = 0; i < 40; i++)
        assert_int_equal(kv_text_stream_push(stream, 400, &text, &length, &stopped, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "outside the vocabulary of 400"));
    assert_int_equal(kv_text_stream_push(stream, byte_id('A'), &text, &length, &stopped, &err), KV_OK);
    assert_string_equal(text, "A");
    kv_text_stream_free(stream);
    kv_text_stream_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_and_their_beginnings),
        cmocka_unit_test(random_ids),
        cmocka_unit_test(random_bytes),
        cmocka_unit_test(characters_behind_rubbish),
        cmocka_unit_test(nothing_waits_needlessly),
        cmocka_unit_test(as_fast_at_the_end),
        cmocka_unit_test(a_bad_id_is_refused_and_forgotten),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
