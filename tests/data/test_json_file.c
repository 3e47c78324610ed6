// JSON as other programs write it.
#include "tests/support/support.h"

#include "data/file/json.h"

#include <string.h>

// What `text` is to kv_json_parse, as jansson writes it; NULL: an error.
static char *parsed(const char *text) {
    char copy[256], *out = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    json_t *value = kv_json_parse(copy, strlen(copy), JSON_DECODE_ANY, NULL);
    if (value) out = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12));
    json_decref(value);
    assert_int_equal(strlen(copy), strlen(text));
    return out;
}

static void large_whole_numbers(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        // What 64 bits hold stays whole.
        {"[0,-7,9223372036854775807]", "[0,-7,9223372036854775807]"},
        {"[9223372036854775808,-99999999999999999999]", "[9.22337203685e18,-1e20]"},
        {"{\"model_max_length\":1000000000000000019884624838656}", "{\"model_max_length\":1e30}"},
        // Fractions, exponents and texts are left alone.
        {"[0.12345678901234567890123,12345678901234567890.5,1e0000000000000000000002]",
         "[0.123456789012,1.23456789012e19,100.0]"},
        {"[\"99999999999999999999\",\"\\\"99999999999999999999\",\"\\\\\",99999999999999999999]",
         "[\"99999999999999999999\",\"\\\"99999999999999999999\",\"\\\\\",1e20]"},
        {"99999999999999999999", "1e20"},
        {"[99999999999999999999", NULL},
        {"[\"99999999999999999999", NULL},
        {"[00000000000000000000001]", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *found = parsed(cases[i][0]);
        if (!cases[i][1])
            assert_null(found);
        else if (!found || strcmp(found, cases[i][1]) != 0)
            fail_msg("%s: %s", cases[i][0], found ? found : "refused");
        free(found);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(large_whole_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
