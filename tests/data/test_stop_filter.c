// Stop strings in text that comes in pieces, against looking at the whole text.
#include "tests/support/support.h"

#include "data/tokenizer/stop_filter.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TEXT = 40, MAX_STOPS = 3 };

// Where text ends by the definition: byte by byte, the first end of a stop string there is, the longest one.
static size_t reference_end(const char *text, size_t length, const char *const *stops, size_t n,
                            bool *stopped) {
    *stopped = false;
    for (size_t end = 1; end <= length; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n; i++) {
            const size_t size = strlen(stops[i]);
            if (size <= end && !memcmp(text + end - size, stops[i], size) && size > longest) longest = size;
        }
        *stopped = longest > 0;
        if (longest) return end - longest;
    }
    return length;
}

// How much of text may be shown: whatever comes behind, it stays. A suffix stays behind exactly if it begins
// a stop string.
static size_t reference_certain(const char *text, size_t length, const char *const *stops, size_t n) {
    for (size_t from = 0; from < length; from++)
        for (size_t i = 0; i < n; i++)
            if (strlen(stops[i]) >= length - from && !memcmp(stops[i], text + from, length - from))
                return from;
    return length;
}

static void random_texts(void **state) {
    (void)state;
    for (uint64_t trial = 0; trial < 4000; trial++) {
        char text[MAX_TEXT], stop_texts[MAX_STOPS][6];
        const char *stops[MAX_STOPS];
        const size_t length = (size_t)test_below(trial, 1, MAX_TEXT + 1);
        const size_t n = (size_t)test_below(trial, 2, MAX_STOPS + 1);
        for (size_t i = 0; i < length; i++) text[i] = "abc"[test_below(trial, 10 + (int64_t)i, 3)];
        for (size_t k = 0; k < n; k++) {
            const int64_t size = 1 + test_below(trial, 3 + (int64_t)k, 5);
            for (int64_t i = 0; i < size; i++)
                stop_texts[k][i] = "abc"[test_below(trial + 9, 100 + 10 * (int64_t)k + i, 3)];
            stop_texts[k][size] = '\0';
            stops[k] = stop_texts[k];
        }
        kv_stop_filter *filter = kv_stop_filter_create(stops, n);
        for (int again = 0; again < 2; again++) {
            char shown[MAX_TEXT + 1];
            const char *out;
            size_t used = 0, n_out;
            bool stopped = false, expected_stop;
            for (size_t at = 0; at < length;) {
                size_t piece = 1 + (size_t)test_below(trial + (uint64_t)again, 200 + (int64_t)at, 5);
                if (piece > length - at) piece = length - at;
                assert_int_equal(kv_stop_filter_push(filter, text + at, piece, &out, &n_out, &stopped, NULL),
                                 KV_OK);
                assert_int_equal(out[n_out], '\0');
                memcpy(shown + used, out, n_out);
                used += n_out, at += piece;
                const size_t end = reference_end(text, at, stops, n, &expected_stop);
                assert_int_equal(stopped, expected_stop);
                assert_int_equal(used, expected_stop ? end : reference_certain(text, at, stops, n));
            }
            kv_stop_filter_finish(filter, "", 0, &out, &n_out, &stopped, NULL);
            memcpy(shown + used, out, n_out);
            used += n_out;
            assert_int_equal(used, reference_end(text, length, stops, n, &expected_stop));
            assert_int_equal(stopped, expected_stop);
            assert_memory_equal(shown, text, used);
        }
        kv_stop_filter_free(filter);
    }
}

static void examples(void **state) {
    (void)state;
    static const char *const stops[] = {"\nclass", "\ndef", "###"};
    kv_stop_filter *filter = kv_stop_filter_create(stops, 3);
    const char *out;
    size_t n;
    bool stopped;
    kv_stop_filter_push(filter, "x = 1\nde", 8, &out, &n, &stopped, NULL);
    assert_string_equal(out, "x = 1"); // "\nde" may become "\ndef"
    kv_stop_filter_push(filter, "l x\n#", 5, &out, &n, &stopped, NULL);
    assert_string_equal(out, "\ndel x\n");
    kv_stop_filter_push(filter, "##", 2, &out, &n, &stopped, NULL);
    assert_string_equal(out, "");
    assert_true(stopped);
    kv_stop_filter_push(filter, "more", 4, &out, &n, &stopped, NULL); // nothing comes behind
    assert_true(stopped && n == 0);
    kv_stop_filter_finish(filter, "", 0, &out, &n, &stopped, NULL);
    assert_string_equal(out, "");
    kv_stop_filter_push(filter, "a\0\nd", 4, &out, &n, &stopped, NULL); // NULs are bytes like others
    assert_true(!stopped && n == 2 && !memcmp(out, "a", 2));
    kv_stop_filter_push(filter, "\0", 1, &out, &n, &stopped, NULL);
    assert_true(n == 3 && !memcmp(out, "\nd", 3));
    kv_stop_filter_free(filter);
    kv_stop_filter_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_texts), cmocka_unit_test(examples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
