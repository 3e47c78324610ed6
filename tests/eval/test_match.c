// Answers against accepted ones, by hand: exact, contains, regex, numeric.
#include "tests/support/support.h"

#include "eval/benchmark/match.h"

#include <stdlib.h>
#include <string.h>

static void last_numbers(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"72", "72e0"},
        {"#### 72", "72e0"},
        {"so 3 + 4 = 7.", "7e0"},
        {"7.0", "7e0"},
        {"0072", "72e0"},
        {"1,234", "1234e0"},
        {"$1,234.50", "12345e-1"},
        {"1234.5", "12345e-1"},
        {"12,345,678 people", "12345678e0"},
        {"1200", "12e2"},
        {"1,2", "2e0"},       // a list
        {"1,2345", "2345e0"}, // four digits are no group
        {"1234,567", "567e0"},
        {"-5", "-5e0"},
        {"(-5)", "-5e0"},
        {"= -5.", "-5e0"},
        {"−5", "-5e0"}, // U+2212
        {"-$5", "-5e0"},
        {"€-5", "-5e0"},
        {"≈-5", "-5e0"},
        {"é-5", "5e0"}, // a hyphen
        {"2e3é", "3e0"},
        {"-€5", "-5e0"},
        {"10-3", "3e0"}, // from 10 to 3
        {"x-3", "3e0"},
        {"+3", "3e0"},
        {".5", "5e-1"},
        {"-.5", "-5e-1"},
        {"0.50", "5e-1"},
        {"0.1", "1e-1"},
        {"3.", "3e0"},
        {"2e3", "2e3"},
        {"2.5e-3", "25e-4"},
        {"2000", "2e3"},
        {"2em", "2e0"},
        {"2e", "2e0"},
        {"0", "0e0"},
        {"-0.00", "0e0"},
        {"50%", "5e1"},
        {"123456789012345678901234567890", "12345678901234567890123456789e1"},
        {"eight", ""},
        {"", ""},
        {"-", ""},
        {".", ""},
        {"٣", ""}, // of ASCII alone
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_bytes out = {0};
        assert_int_equal(kv_last_number(cases[i][0], &out, NULL), KV_OK);
        if (strcmp(out.data, cases[i][1]) != 0)
            fail_msg("%s: %s, not %s", cases[i][0], out.data, cases[i][1]);
        assert_int_equal(out.length, strlen(cases[i][1]));
        kv_bytes_free(&out);
    }
}

struct verdict {
    kv_matching how;
    const char *answer, *targets[3];
    bool right;
};

static const struct verdict verdicts[] = {
    {{.kind = KV_MATCH_EXACT}, " Rome\n", {"Rome"}, true},
    {{.kind = KV_MATCH_EXACT}, "Rome", {" Rome "}, true},
    {{.kind = KV_MATCH_EXACT}, "rome", {"Rome"}, false},
    {{.kind = KV_MATCH_EXACT}, "Rome.", {"Rome"}, false},
    {{.kind = KV_MATCH_EXACT}, "Paris", {"Rome", "Paris"}, true},
    {{.kind = KV_MATCH_EXACT}, "Rom", {"Rome"}, false},
    {{.kind = KV_MATCH_EXACT}, "", {""}, false},
    {{.kind = KV_MATCH_EXACT, .ignore_case = true}, "ÉCOLE", {"école"}, true},
    {{.kind = KV_MATCH_EXACT, .ignore_case = true}, "Rome!", {"rome"}, false},
    {{.kind = KV_MATCH_EXACT, .ignore_punctuation = true}, "U.S.A.", {"USA"}, true},
    {{.kind = KV_MATCH_EXACT, .ignore_punctuation = true}, "Rome !", {"Rome"}, true},
    {{.kind = KV_MATCH_EXACT, .ignore_punctuation = true}, "usa", {"USA"}, false},
    {{.kind = KV_MATCH_EXACT, .ignore_punctuation = true}, "...", {"!"}, false},
    {{.kind = KV_MATCH_CONTAINS}, "It is Rome, I think", {"Rome"}, true},
    {{.kind = KV_MATCH_CONTAINS}, "It is rome", {"Rome"}, false},
    {{.kind = KV_MATCH_CONTAINS, .ignore_case = true}, "it is ROME", {"Rome"}, true},
    {{.kind = KV_MATCH_CONTAINS}, "It is Rome", {"Paris", "is R"}, true},
    {{.kind = KV_MATCH_CONTAINS}, "Rome", {"Rome is"}, false},
    {{.kind = KV_MATCH_CONTAINS}, "Rome", {" "}, false}, // nothing is in everything
    {{.kind = KV_MATCH_CONTAINS}, "東京です", {"東京"}, true},
    {{.kind = KV_MATCH_REGEX, .pattern = "answer is (\\w+)"}, "the answer is Rome.", {"Rome"}, true},
    {{.kind = KV_MATCH_REGEX, .pattern = "answer is (\\w+)"}, "the answer is Orte.", {"Rome"}, false},
    {{.kind = KV_MATCH_REGEX, .pattern = "answer is (\\w+)"}, "Rome", {"Rome"}, false},
    {{.kind = KV_MATCH_REGEX, .pattern = "answer is (\\w+)"},
     "answer is école",
     {"école"},
     true},                                                                          // letters are Unicode's
    {{.kind = KV_MATCH_REGEX, .pattern = "[A-D]"}, "B, or C", {"B"}, true},          // the first
    {{.kind = KV_MATCH_REGEX, .pattern = "(?s).*([A-D])"}, "B, or\nC", {"C"}, true}, // the last
    {{.kind = KV_MATCH_REGEX, .pattern = "(a)|(b)"}, "b", {"b"}, true}, // the group that took part
    {{.kind = KV_MATCH_REGEX, .pattern = "\\(([a-d])\\)"}, "(C)", {"c"}, false},
    {{.kind = KV_MATCH_REGEX, .pattern = "\\(([a-d])\\)", .ignore_case = true}, "(C)", {"c"}, true},
    {{.kind = KV_MATCH_REGEX, .pattern = "^\\d+$"}, "123", {NULL}, true}, // no target: a match is enough
    {{.kind = KV_MATCH_REGEX, .pattern = "^\\d+$"}, "12x", {NULL}, false},
    {{.kind = KV_MATCH_REGEX, .pattern = "(.+)"},
     "\xFF\xFE ok",
     {"ok"},
     true}, // not UTF-8 is matched by nothing
    {{.kind = KV_MATCH_NUMERIC}, "so it is $1,234.50.", {"#### 1234.5"}, true},
    {{.kind = KV_MATCH_NUMERIC}, "7 apples", {"7.00"}, true},
    {{.kind = KV_MATCH_NUMERIC}, "7, no, 8", {"7"}, false},
    {{.kind = KV_MATCH_NUMERIC}, "-7", {"7"}, false},
    {{.kind = KV_MATCH_NUMERIC}, "none", {"0"}, false},
    {{.kind = KV_MATCH_NUMERIC}, "0.3333333333333333333", {"0.33333333333333333331"}, false},
};

static void verdicts_by_hand(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        const struct verdict *v = &verdicts[i];
        kv_matcher *matcher;
        kv_error err = {0};
        bool right;
        int64_t n = 0;
        while (n < 3 && v->targets[n]) n++;
        if (kv_matcher_create(&v->how, &matcher, &err)) fail_msg("%s", err.message);
        if (kv_matcher_judge(matcher, v->answer, (char *const *)v->targets, n, &right, &err))
            fail_msg("%s", err.message);
        if (right != v->right) fail_msg("%zu: %s against %s", i, v->answer, n ? v->targets[0] : "nothing");
        kv_matcher_free(matcher);
    }
}

static void hopeless_targets(void **state) {
    (void)state;
    static const char *const stops[] = {"\n", ";"};
    const struct {
        kv_matching how;
        const char *target;
        bool can;
    } cases[] = {{{.kind = KV_MATCH_EXACT}, "a", true},
                 {{.kind = KV_MATCH_EXACT}, " \n", false},
                 {{.kind = KV_MATCH_EXACT}, "!?", true},
                 {{.kind = KV_MATCH_EXACT, .ignore_punctuation = true}, "!?", false},
                 {{.kind = KV_MATCH_EXACT}, "a\nb", false}, // an answer would have ended
                 {{.kind = KV_MATCH_EXACT}, "a\n", true},
                 {{.kind = KV_MATCH_CONTAINS}, "a; b", false},
                 {{.kind = KV_MATCH_REGEX, .pattern = "."}, "a; b", false},
                 {{.kind = KV_MATCH_EXACT, .ignore_punctuation = true}, "a; b", true},
                 {{.kind = KV_MATCH_NUMERIC}, "about 7", true},
                 {{.kind = KV_MATCH_NUMERIC}, "6;\n#### 7", true},
                 {{.kind = KV_MATCH_NUMERIC}, "seven", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_matcher *matcher;
        bool can;
        assert_int_equal(kv_matcher_create(&cases[i].how, &matcher, NULL), KV_OK);
        assert_int_equal(kv_matcher_can(matcher, cases[i].target, stops, 2, &can, NULL), KV_OK);
        assert_int_equal(can, cases[i].can);
        kv_matcher_free(matcher);
    }
}

static void wrong_patterns(void **state) {
    (void)state;
    kv_matcher *matcher;
    kv_error err = {0};
    const kv_matching open = {.kind = KV_MATCH_REGEX, .pattern = "é("};
    assert_int_equal(kv_matcher_create(&open, &matcher, &err), KV_ERR_FORMAT);
    assert_null(matcher);
    assert_string_equal(err.message, "character 3: missing closing parenthesis");
    kv_matcher_free(NULL);
    // Ways without end are given up, and soon.
    const kv_matching endless = {.kind = KV_MATCH_REGEX, .pattern = "^(a+)+$"};
    char answer[64] = "";
    bool right = true;
    memset(answer, 'a', 40);
    answer[40] = 'b';
    assert_int_equal(kv_matcher_create(&endless, &matcher, &err), KV_OK);
    assert_int_equal(kv_matcher_judge(matcher, answer, NULL, 0, &right, &err), KV_OK);
    assert_false(right);
    kv_matcher_free(matcher);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_numbers),
        cmocka_unit_test(verdicts_by_hand),
        cmocka_unit_test(hopeless_targets),
        cmocka_unit_test(wrong_patterns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
