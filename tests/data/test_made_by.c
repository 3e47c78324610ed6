// What results say of the program and the machine that made them: everything that a figure depends on, and nothing that tells
// whose machine it is.
#include "data/file/json.h"
#include "data/file/made_by.h"
#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void all_that_matters(void **state) {
    (void)state;
    static const char *const texts[] = {"program", "version", "commit", "date",     "compiler", "cpu",
                                        "model",   "isa",     "os",     "openblas", "hdf5"},
                             *const numbers[] = {"cores", "threads", "memory"};
    kv_made_by_program("someprogram", "abc1234-dirty");
    json_t *made_by = kv_made_by(false);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!json_is_string(json_object_get(made_by, texts[i]))) fail_msg("no %s", texts[i]);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_true(json_integer_value(json_object_get(made_by, numbers[i])) > 0);
    assert_true(json_is_array(json_object_get(made_by, "flags")));
    assert_null(json_object_get(made_by, "gnuplot"));
    assert_string_equal(json_string_value(json_object_get(made_by, "program")), "someprogram");
    assert_string_equal(json_string_value(json_object_get(made_by, "commit")), "abc1234-dirty");
    assert_string_equal(json_string_value(json_object_get(made_by, "version")), KV_VERSION);
    const char *date = json_string_value(json_object_get(made_by, "date"));
    assert_true(strlen(date) == strlen("2026-11-30T19:00:00Z") && date[10] == 'T' && date[19] == 'Z');
    json_decref(made_by);
    made_by = kv_made_by(true);
    assert_non_null(json_object_get(made_by, "gnuplot"));
    json_decref(made_by);
}

static void nobody_is_named(void **state) {
    (void)state;
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    char *text = kv_made_by_text(true);
    if (strlen(host) > 3) assert_null(strstr(text, host));
    const char *home = getenv("HOME"), *user = getenv("USER");
    if (home && strlen(home) > 3) assert_null(strstr(text, home));
    if (user && strlen(user) > 4) assert_null(strstr(text, user));
    free(text);
}

static void lines_and_files(void **state) {
    (void)state;
    char line[KV_MADE_BY_LINE];
    char one[] =
        "{\"program\": \"kveval\", \"version\": \"0.1.0\", \"commit\": \"abc\", \"date\": \"2026-11-30T19:00:00Z\", "
        "\"model\": \"Some CPU\", \"threads\": 2, \"cores\": 4, \"isa\": \"avx2\", \"openblas\": \"0.3 Zen\", \"os\": \"Linux 6\"}",
         none[] = "no JSON";
    assert_string_equal(
        kv_made_by_line(one, line),
        "made by kveval 0.1.0 (commit abc) on 2026-11-30T19:00:00Z: Some CPU, 2 threads on 4 cores, avx2, "
        "OpenBLAS 0.3 Zen; Linux 6");
    assert_string_equal(kv_made_by_line(none, line), "");
    char *const texts[] = {one, none};
    kv_error err = {0};
    json_t *root;
    assert_int_equal(kv_made_by_write(test_dir, texts, 2, &err), KV_OK);
    assert_int_equal(kv_json_read(test_path(test_dir, "made_by.json"), 1 << 16, &root, &err), KV_OK);
    const json_t *list = json_object_get(root, "made_by");
    assert_int_equal(json_array_size(list), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "isa")), "avx2");
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_that_matters),
        cmocka_unit_test(nobody_is_named),
        cmocka_unit_test(lines_and_files),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
