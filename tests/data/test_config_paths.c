// Paths are taken from the working directory, whichever file names them; files of earlier releases, whose `extends` was
// taken from their own directory, still work with a warning; and what is not there is looked for where it may have been meant.
#include "data/config/beside.h"
#include "data/config/config.h"
#include "data/file/content.h"
#include "tests/support/support.h"
#include "tests/support/warnings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct part {
    char *corpus;
};
struct root {
    char *output, *corpus, *name;
    struct part *parts;
    unsigned n_parts;
};

static const cyaml_schema_field_t part_fields[] = {
    CYAML_FIELD_STRING_PTR("corpus", CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER, struct part, corpus, 0, 200),
    CYAML_FIELD_END};
static const cyaml_schema_value_t part = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct part, part_fields)};
static const cyaml_schema_field_t fields[] = {
    CYAML_FIELD_STRING_PTR("output", CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER, struct root, output, 0, 200),
    CYAML_FIELD_STRING_PTR("corpus", CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER, struct root, corpus, 0, 200),
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER, struct root, name, 0, 200),
    CYAML_FIELD_SEQUENCE_COUNT("parts", CYAML_FLAG_OPTIONAL | CYAML_FLAG_POINTER, struct root, parts, n_parts,
                               &part, 0, 9),
    CYAML_FIELD_END};
static const cyaml_schema_value_t schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct root, fields)};
static const char *const paths[] = {"output", "corpus", "parts[].corpus", NULL};

static int set_up(void **state) {
    test_n_warnings = 0;
    return test_dir_set_up(state) || chdir(test_dir) || mkdir("conf", 0777) || mkdir("conf/sub", 0777) ||
           mkdir("work", 0777);
}

static int tear_down(void **state) {
    return chdir("/") || test_dir_tear_down(state);
}

static void put(const char *path, const char *text) {
    kv_error err;
    if (kv_write_file(path, text, strlen(text), &err) != KV_OK) fail_msg("%s", err.message);
}

static kv_config *load(const char *path, const char *override) {
    kv_config *config;
    kv_error err;
    const kv_status status =
        kv_config_load_with_defaults(NULL, paths, path, &override, override != NULL, &schema, &config, &err);
    if (status != KV_OK) fail_msg("%s", err.message);
    return config;
}

static void expect_output(const char *path, const char *output) {
    kv_config *config = load(path, NULL);
    assert_string_equal(((const struct root *)kv_config_data(config))->output, output);
    kv_config_free(config);
}

static void expect_in(const char *text, const char *words) {
    if (!strstr(text, words)) fail_msg("'%s' not in '%s'", words, text);
}

// A chain of files in two directories, all of it as seen from the working directory.
static void test_from_here(void **state) {
    (void)state;
    put("conf/sub/low.yaml", "output: low\n");
    put("conf/mid.yaml", "extends: conf/sub/low.yaml\n");
    put("top.yaml", "extends: ./conf/mid.yaml\n");
    expect_output("top.yaml", "low");
    assert_int_equal(test_n_warnings, 0);
    assert_int_equal(chdir("work"), 0);
    put("low.yaml", "extends: ../conf/other.yaml\n");
    put("../conf/other.yaml", "output: other\n");
    expect_output("low.yaml", "other");
    expect_output("../work/low.yaml", "other");
    assert_int_equal(test_n_warnings, 0);
}

// As files of before said it.
static void test_old_files(void **state) {
    (void)state;
    put("conf/low.yaml", "output: low\n");
    put("conf/sub/top.yaml", "# first\nextends: ../low.yaml\n");
    expect_output("conf/sub/top.yaml", "low");
    assert_int_equal(test_n_warnings, 1);
    expect_in(test_warned, "conf/sub/top.yaml:2: key `extends`: found `../low.yaml`");
    expect_in(test_warned, "it should say `conf/low.yaml`");
    char whole[200];
    snprintf(whole, sizeof whole, "%s/conf/sub/top.yaml", test_dir);
    expect_output(whole, "low");
    expect_in(test_warned, "it should say `conf/low.yaml`");
}

static void test_both_there(void **state) {
    (void)state;
    put("low.yaml", "output: here\n");
    put("conf/low.yaml", "output: beside\n");
    put("conf/top.yaml", "extends: low.yaml\n");
    expect_output("conf/top.yaml", "here");
    assert_int_equal(test_n_warnings, 1);
    expect_in(test_warned, "conf/top.yaml:1: key `extends`: `low.yaml` is taken from where ");
    expect_in(test_warned, "`conf/low.yaml`, which earlier releases took");
    // The same file by two ways is none to warn of.
    assert_int_equal(unlink("low.yaml") || symlink("conf/low.yaml", "low.yaml"), 0);
    expect_output("conf/top.yaml", "beside");
    assert_int_equal(test_n_warnings, 1);
}

// The warning names what is opened, also through a directory that is a link.
static void test_links(void **state) {
    (void)state;
    assert_int_equal(mkdir("far", 0777) || mkdir("far/conf", 0777) || symlink("../far/conf", "conf/link"), 0);
    put("far/low.yaml", "output: far\n");
    put("far/conf/top.yaml", "extends: ../low.yaml\n");
    expect_output("conf/link/top.yaml", "far");
    expect_in(test_warned, "it should say `conf/link/../low.yaml`");
}

static void test_nowhere(void **state) {
    (void)state;
    kv_config *config;
    kv_error err;
    put("conf/top.yaml", "output: x\nextends: conf/none.yaml\n");
    assert_int_equal(kv_config_load("conf/top.yaml", NULL, 0, &schema, &config, &err), KV_ERR_IO);
    expect_in(err.message, "conf/top.yaml:2: key `extends`: conf/none.yaml: cannot open: No such file");
    expect_in(err.message, "looked for from ");
    expect_in(err.message, test_dir);
    assert_null(strstr(err.message, "it is there"));
    // Started in a directory below the one that is meant.
    put("conf/low.yaml", "output: low\n");
    put("conf/top.yaml", "extends: conf/low.yaml\n");
    assert_int_equal(chdir("conf"), 0);
    assert_int_equal(kv_config_load("top.yaml", NULL, 0, &schema, &config, &err), KV_ERR_IO);
    expect_in(err.message, "it is there from /tmp/");
    expect_in(err.message, "(cd /tmp/");
}

static void complain(const kv_config *config, const char *key, kv_error *err) {
    kv_config_fail(config, err, key, "cannot be opened");
}

// Other paths were never taken from a file's directory: the message helps.
static void test_hints(void **state) {
    (void)state;
    kv_error err;
    put("conf/top.yaml",
        "output: conf.yaml\ncorpus: some.h5\nname: some.h5\nparts: [{corpus: a.h5}, {corpus: sub/b.h5}]\n");
    put("conf/some.h5", "");
    put("conf/conf.yaml", "");
    put("conf/sub/b.h5", "");
    kv_config *config = load("conf/top.yaml", NULL);
    complain(config, "corpus", &err);
    expect_in(err.message, "conf/top.yaml:2: key `corpus`: cannot be opened; it is there from conf: start ");
    expect_in(err.message, " there (cd conf), or write `conf/some.h5`");
    complain(config, "parts[1].corpus", &err);
    expect_in(err.message, "or write `conf/sub/b.h5`");
    const char *const no_hint[] = {"output", "name", "parts[0].corpus"};
    for (int i = 0; i < 3; i++) {
        complain(config, no_hint[i], &err);
        assert_null(strstr(err.message, "it is there"));
    }
    put("some.h5", ""); // what is there has another fault
    complain(config, "corpus", &err);
    assert_null(strstr(err.message, "it is there"));
    kv_config_free(config);
    config = load("conf/top.yaml", "corpus=sub/b.h5");
    complain(config, "corpus", &err);
    expect_in(err.message, "-s corpus=sub/b.h5: key `corpus`: cannot be opened; it is there from conf");
    kv_config_free(config);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_from_here, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_old_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_both_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nowhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hints, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
