// Numbers as people write them are read to their last digit, and nothing else is taken for one.
#include "data/system/number.h"
#include "tests/support/support.h"

static void whole_numbers(void **state) {
    (void)state;
    static const char *const refused[] = {
        "",     " 5", "5 ", "\t5", "0x10", "1e2", "5.0", "--5", "+", "-", "5,", "five", "9223372036854775808",
        "1_000"};
    int64_t value;
    assert_true(kv_read_whole("-7", &value) && value == -7);
    assert_true(kv_read_whole("+7", &value) && value == 7);
    assert_true(kv_read_whole("9223372036854775807", &value) && value == INT64_MAX);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (kv_read_whole(refused[i], &value)) fail_msg("'%s' is read as %lld", refused[i], (long long)value);
}

static void numbers_without_a_sign(void **state) {
    (void)state;
    static const char *const refused[] = {"", "-1", " 1", " -1", "1 ", "0x1", "18446744073709551616", "-0"};
    uint64_t value;
    assert_true(kv_read_unsigned("18446744073709551615", &value) && value == UINT64_MAX);
    assert_true(kv_read_unsigned("+3", &value) && value == 3);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (kv_read_unsigned(refused[i], &value)) fail_msg("'%s' is read", refused[i]);
}

static void real_numbers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double value;
    } taken[] = {{"0.5", 0.5},   {".5", 0.5}, {"+0.5", 0.5}, {"5e-1", 0.5},
                 {"-5E+1", -50}, {"1.", 1},   {"007", 7}};
    static const char *const refused[] = {"",    " 0.5", "0.5 ", "0x1p-1", "0X1",  "inf", "-infinity",
                                          "nan", "NaN",  "1e",   "1e999",  "half", "0,5", "."};
    double value;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (!kv_read_real(taken[i].text, &value) || value != taken[i].value)
            fail_msg("'%s' is not read as %g", taken[i].text, taken[i].value);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (kv_read_real(refused[i], &value)) fail_msg("'%s' is read as %g", refused[i], value);
}

static void numbers_with_more_behind(void **state) {
    (void)state;
    const char *text = "7.5e-1-.5 x";
    double start, end;
    int64_t id;
    assert_true(kv_take_real(&text, &start) && *text++ == '-' && kv_take_real(&text, &end));
    assert_true(start == 0.75 && end == 0.5);
    assert_string_equal(text, " x");
    assert_false(kv_take_real(&text, &end) || kv_take_whole(&text, &id));
    assert_string_equal(text, " x");
    text = "17,4";
    assert_true(kv_take_whole(&text, &id) && id == 17);
    assert_string_equal(text, ",4");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(numbers_without_a_sign),
        cmocka_unit_test(real_numbers),
        cmocka_unit_test(numbers_with_more_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
