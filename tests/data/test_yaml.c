// YAML as others write it: merge keys, the truth values of YAML 1.1 and 1.2, every form of a number, other ends of
// lines; and what stays a mistake keeps its file and line.
#include "data/config/config.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct steps {
    double lr;
    int64_t steps;
    int32_t small;
    uint64_t seed;
    bool keep;
    char *name;
};
struct root {
    char *output;
    struct steps train, other;
    struct steps *systems;
    unsigned n_systems;
};

static const cyaml_schema_field_t steps_fields[] = {
    CYAML_FIELD_FLOAT("lr", CYAML_FLAG_OPTIONAL, struct steps, lr),
    CYAML_FIELD_INT("steps", CYAML_FLAG_OPTIONAL, struct steps, steps),
    CYAML_FIELD_INT("small", CYAML_FLAG_OPTIONAL, struct steps, small),
    CYAML_FIELD_UINT("seed", CYAML_FLAG_OPTIONAL, struct steps, seed),
    CYAML_FIELD_BOOL("keep", CYAML_FLAG_OPTIONAL, struct steps, keep),
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_OPTIONAL, struct steps, name, 1, 20),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t system_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct steps, steps_fields)};
static const cyaml_schema_field_t root_fields[] = {
    CYAML_FIELD_STRING_PTR("output", CYAML_FLAG_OPTIONAL, struct root, output, 0, CYAML_UNLIMITED),
    CYAML_FIELD_MAPPING("train", CYAML_FLAG_OPTIONAL, struct root, train, steps_fields),
    CYAML_FIELD_MAPPING("other", CYAML_FLAG_OPTIONAL, struct root, other, steps_fields),
    CYAML_FIELD_SEQUENCE_COUNT("systems", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct root, systems,
                               n_systems, &system_value, 0, CYAML_UNLIMITED),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct root, root_fields)};

static char dir[64];

static int make_dir(void **state) {
    (void)state;
    test_dir_make(dir);
    return chdir(dir);
}

static int remove_dir(void **state) {
    (void)state;
    if (chdir("/")) return -1;
    test_dir_remove(dir);
    return 0;
}

static void put(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static kv_config *load(const char *text, const char *override) {
    kv_config *config;
    kv_error err = {0};
    put("a.yaml", text);
    if (kv_config_load("a.yaml", &override, override != NULL, &schema, &config, &err) != KV_OK)
        fail_msg("%s\n%s", text, err.message);
    return config;
}

static void refuse(const char *text, const char *override, const char *message) {
    kv_config *config = (kv_config *)1;
    kv_error err = {0};
    put("a.yaml", text);
    if (kv_config_load("a.yaml", &override, override != NULL, &schema, &config, &err) == KV_OK)
        fail_msg("taken: %s", text);
    assert_null(config);
    if (!strstr(err.message, message)) fail_msg("found    %s\nexpected %s", err.message, message);
    assert_null(strchr(err.message, '\n'));
}

// The same of a file and of an override.
static void expect_text(const char *key, const char *written, const char *value) {
    char file[256], override[256];
    snprintf(file, sizeof file, "train:\n  %s: %s\n", key, written);
    snprintf(override, sizeof override, "train.%s=%s", key, written);
    for (int i = 0; i < 2; i++) {
        kv_config *config = load(i ? "output: x\n" : file, i ? override : NULL);
        char path[64];
        snprintf(path, sizeof path, "train.%s", key);
        char *found = kv_config_value(config, path);
        assert_string_equal(found, value);
        free(found);
        kv_config_free(config);
    }
}

static void test_truth(void **state) {
    (void)state;
    static const char *const words[][2] = {{"true", "false"},
                                           {"True", "False"},
                                           {"TRUE", "FALSE"},
                                           {"yes", "no"},
                                           {"Yes", "No"},
                                           {"YES", "NO"},
                                           {"on", "off"},
                                           {"On", "Off"},
                                           {"ON", "OFF"},
                                           {"y", "n"},
                                           {"Y", "N"},
                                           {"'True'", "'off'"},
                                           {"!!bool on", "!!bool off"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        for (int wrong = 0; wrong < 2; wrong++) {
            char file[64];
            snprintf(file, sizeof file, "train: {keep: %s}\n", words[i][wrong]);
            kv_config *config = load(file, NULL);
            assert_int_equal(((struct root *)kv_config_data(config))->train.keep, !wrong);
            kv_config_free(config);
            expect_text("keep", words[i][wrong], wrong ? "false" : "true");
        }
    static const char *const others[] = {"tRUE", "1", "0", "enable", "disable", "yess", "2"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char file[64], message[128];
        snprintf(file, sizeof file, "train:\n  keep: %s\n", others[i]);
        snprintf(message, sizeof message, "a.yaml:2: key `train.keep`: found `%s`, expected true or false",
                 others[i]);
        refuse(file, NULL, message);
    }
    // An alias of a word is a text where a text is meant.
    kv_config *config = load("train: {name: &word yes, keep: *word}\n", NULL);
    const struct root *root = kv_config_data(config);
    assert_string_equal(root->train.name, "yes");
    assert_true(root->train.keep);
    kv_config_free(config);
}

static void test_numbers(void **state) {
    (void)state;
    static const char *const wholes[][2] = {
        {"20", "20"},     {"+5", "5"},      {"-7", "-7"},       {"1_000", "1000"}, {"1_000_000", "1000000"},
        {"1e4", "10000"}, {"1E4", "10000"}, {"20.0", "20"},     {"2.5e3", "2500"}, {"0x10", "16"},
        {"0o17", "15"},   {"'12'", "12"},   {"!!int 12", "12"}, {"0", "0"}};
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++)
        expect_text("steps", wholes[i][0], wholes[i][1]);
    expect_text("seed", "0xFFFFFFFFFFFFFFFF", "18446744073709551615");
    expect_text("seed", "18_446_744_073_709_551_615", "18446744073709551615");
    expect_text("seed", "1e3", "1000");
    static const char *const not_wholes[] = {"1.5",
                                             "010",
                                             "-010",
                                             "1e-3",
                                             "1_",
                                             "_1",
                                             "1__0",
                                             "0x",
                                             "0o8",
                                             "1e30",
                                             ".inf",
                                             ".nan",
                                             "9007199254740993.0",
                                             "1:30",
                                             "99999999999999999999",
                                             "0x1FFFFFFFFFFFFFFFF",
                                             "1,000"};
    for (size_t i = 0; i < sizeof not_wholes / sizeof *not_wholes; i++) {
        char file[64], message[128];
        snprintf(file, sizeof file, "train:\n  steps: %s\n", not_wholes[i]);
        snprintf(message, sizeof message, "a.yaml:2: key `train.steps`: found `%s`, expected a whole number",
                 not_wholes[i]);
        refuse(file, NULL, message);
    }
    refuse("train: {seed: -1e3}\n", NULL, "expected a whole number that is not negative");
    refuse("train: {small: 3e9}\n", NULL, "found `3e9`, expected a whole number");
    static const struct {
        const char *written;
        double value;
    } reals[] = {{"1e-3", 1e-3}, {"1.0e-3", 1e-3},    {".5", 0.5},  {"1.", 1},    {"+.5", 0.5},
                 {"5", 5},       {"1_000.5", 1000.5}, {"0x10", 16}, {"1E3", 1e3}, {"'0.25'", 0.25}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        char file[64];
        snprintf(file, sizeof file, "train: {lr: %s}\n", reals[i].written);
        kv_config *config = load(file, NULL);
        assert_true(((struct root *)kv_config_data(config))->train.lr == reals[i].value);
        kv_config_free(config);
    }
    static const char *const not_reals[] = {".inf", "-.Inf", ".nan",  ".NaN", "inf",
                                            "nan",  "1e400", "0x1p3", "1_.5"};
    for (size_t i = 0; i < sizeof not_reals / sizeof *not_reals; i++) {
        char file[64];
        snprintf(file, sizeof file, "train:\n  lr: %s\n", not_reals[i]);
        refuse(file, NULL, "a.yaml:2: key `train.lr`: found `");
    }
}

// An empty value was forgotten; a null that is written takes the key back.
static void test_nothing(void **state) {
    (void)state;
    refuse("train: {lr: 1}\noutput:\n", NULL, "a.yaml:2: key `output`: found nothing, expected a text");
    refuse("train:\n", NULL, "a.yaml:1: key `train`: found nothing, expected a group of");
    refuse("train: {lr: 1}\n", "train.lr=", "-s train.lr=: key `train.lr`: found nothing, expected a number");
    static const char *const forms[] = {"~", "null", "Null", "NULL"};
    static const char defaults[] = "output: default\ntrain: {lr: 3, steps: 4, keep: true}\n";
    put("below.yaml", "output: below\ntrain: {lr: 1, steps: 2, name: n}\nsystems: [{name: a, lr: 5}]\n");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char file[160], group[32], lr[32];
        snprintf(file, sizeof file, "extends: below.yaml\noutput: %.8s\ntrain: {name: %.8s}\nsystems: %.8s\n",
                 forms[i], forms[i], forms[i]);
        put("a.yaml", file);
        snprintf(lr, sizeof lr, "train.lr=%s", forms[i]);
        snprintf(group, sizeof group, "train=%s", forms[i]);
        for (int whole = 0; whole < 2; whole++) {
            const char *const overrides[] = {whole ? group : lr, "train.seed=6"};
            kv_config *config;
            kv_error err = {0};
            if (kv_config_load_with_defaults(defaults, NULL, "a.yaml", overrides, 2, &schema, &config, &err))
                fail_msg("%s", err.message);
            const struct root *root = kv_config_data(config);
            assert_string_equal(root->output, "default");
            assert_null(root->train.name);
            assert_true(root->train.lr == 3 && root->train.keep && root->train.seed == 6);
            assert_int_equal(root->train.steps, whole ? 4 : 2);
            assert_int_equal(root->n_systems, 0);
            assert_false(kv_config_has(config, "train.lr") || kv_config_has(config, "output"));
            assert_true(kv_config_has(config, "train.seed"));
            kv_config_free(config);
        }
    }
    kv_config *config = load("output: 'null'\n", NULL);
    assert_string_equal(((struct root *)kv_config_data(config))->output, "null");
    kv_config_free(config);
    // A list has no place for nothing, and an unknown key is one with any value.
    refuse("systems: [~]\n", NULL, "a.yaml:1: key `systems[0]`: found `~`");
    refuse("systems: [{name: a}]\n", "systems[0]=null", "key `systems[0]`: found `null`");
    refuse("train: {foo: ~}\n", NULL, "a.yaml:1: key `train.foo`: found an unknown key");
}

// ---- Merge keys ----------------------------------------------------------------------------------------

static void test_merge_keys(void **state) {
    (void)state;
    kv_config *config = load("x-slow: &slow {lr: 1, steps: 2}\n"
                             "x-named: &named\n  name: from-named\n  lr: 9\n  seed: 4\n"
                             "train:\n  <<: {steps: 5, small: 1}\n  lr: 3\n"
                             "other:\n  steps: 7\n  <<: [*slow, *named]\n"
                             "systems:\n  - &first {<<: *slow, name: one}\n"
                             "  - {<<: *first, lr: 8}\n"
                             "  - *first\n",
                             NULL);
    const struct root *root = kv_config_data(config);
    assert_true(root->train.lr == 3 && root->train.steps == 5 && root->train.small == 1);
    // Its own keys win, then those of the first group.
    assert_true(root->other.steps == 7 && root->other.lr == 1 && root->other.seed == 4);
    assert_string_equal(root->other.name, "from-named");
    assert_int_equal(root->n_systems, 3);
    assert_true(root->systems[1].lr == 8 && root->systems[1].steps == 2 && root->systems[2].lr == 1);
    assert_string_equal(root->systems[1].name, "one");
    // A message names the line where a key was set, not the one that merged it.
    kv_error err;
    kv_config_fail(config, &err, "other.seed", "no");
    assert_string_equal(err.message, "a.yaml:5: key `other.seed`: no");
    kv_config_fail(config, &err, "other.steps", "no");
    assert_string_equal(err.message, "a.yaml:10: key `other.steps`: no");
    kv_config_fail(config, &err, "train.small", "no");
    assert_string_equal(err.message, "a.yaml:7: key `train.small`: no");
    assert_true(kv_config_has(config, "train.small"));
    assert_false(kv_config_has(config, "x-slow"));
    // What is written down has no merge keys left, and says the same.
    char *text = kv_config_text(config);
    assert_null(strstr(text, "<<"));
    kv_config *again = load(text, NULL);
    kv_config_difference difference;
    assert_false(kv_config_compare(config, again, NULL, 0, &difference));
    free(text);
    kv_config_free(again);
    kv_config_free(config);
}

static void test_merge_keys_elsewhere(void **state) {
    (void)state;
    // At the top, through `extends`, and in an override.
    put("base.yaml", "<<: {output: merged}\ntrain: {lr: 1, steps: 2}\n");
    kv_config *config =
        load("<<: {extends: base.yaml}\ntrain: {<<: {lr: 5}}\n", "train={<<: {small: 6}, seed: 7}");
    const struct root *root = kv_config_data(config);
    assert_string_equal(root->output, "merged");
    assert_true(root->train.lr == 5 && root->train.steps == 2 && root->train.small == 6 &&
                root->train.seed == 7);
    kv_config_free(config);
    // In quotes it is a word like others.
    refuse("train: {'<<': {lr: 1}}\n", NULL, "a.yaml:1: key `train.<<`: found an unknown key");
}

static void test_merge_mistakes(void **state) {
    (void)state;
    refuse("train:\n  lr: 1\n  <<: 3\n", NULL,
           "a.yaml:3: key `<<`: found a single value, expected a group of keys");
    refuse("train:\n  <<:\n", NULL, "a.yaml:2: key `<<`: found a single value");
    refuse("train:\n  <<: [{lr: 1}, [{lr: 2}]]\n", NULL, "a.yaml:2: key `<<`: found a list in a list");
    refuse("train: &t\n  lr: 1\n  <<: *t\n", NULL, "a.yaml:3: key `<<`: found a group that merges itself");
    refuse("train: &t {<<: {<<: *t}}\n", NULL, "found a group that merges itself");
    refuse("train:\n  <<: {lr: 1}\n  <<: {lr: 2}\n", NULL,
           "a.yaml:3: key `<<`: found twice, first on line 2");
    refuse("train:\n  <<: *nobody\n", NULL, "a.yaml:2: not valid YAML: found undefined alias");
    refuse("train:\n  <<:\n    lr: 1\n    foo: 2\n", NULL, "a.yaml:4: key `train.foo`: found an unknown key");
    refuse("x-a: &a\n  lr: fast\ntrain: {<<: *a}\n", NULL,
           "a.yaml:2: key `train.lr`: found `fast`, expected a number");
    refuse("x-a: &a\n  lr: 1\n  lr: 2\ntrain: {<<: *a}\n", NULL,
           "a.yaml:3: key `lr`: found twice, first on line 2, expected once");
    refuse("train: {<<: [{steps: 1}, {lr: 1, lr: 1}], lr: 2}\n", NULL, "key `lr`: found twice");
    refuse("y-a: &a {lr: 1}\ntrain: {<<: *a}\n", NULL, "a.yaml:1: key `y-a`: found an unknown key");
    // A chain that would double with every link stays small; one of many groups ends.
    char *text = malloc(64 << 10);
    size_t used = (size_t)sprintf(text, "x-a: [&a0 {k: 1}");
    for (int i = 1; i < 1800; i++)
        used += (size_t)sprintf(text + used, ", &a%d {k%d: 1, <<: *a%d}", i, i, i - 1);
    sprintf(text + used, "]\n");
    refuse(text, NULL, "found more merged keys than a configuration can have");
    free(text);
}

// ---- Files ---------------------------------------------------------------------------------------------

static void test_other_files(void **state) {
    (void)state;
    static const char *const same[] = {"train:\r\n  lr: 2\r\n  name: a b\r\n",
                                       "\xEF\xBB\xBFtrain:\n  lr: 2\n  name: a b\n",
                                       "\xEF\xBB\xBF# words\r\ntrain: {lr: 2, name: 'a b'} # more\r\n",
                                       "%YAML 1.1\n---\ntrain: {lr: 2, name: a b}\n...\n",
                                       "%YAML 1.2\n---\ntrain: {lr: 2, name: a b}\n",
                                       "---\ntrain: {lr: 2, name: &unused \"a b\"}\n"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        kv_config *config = load(same[i], NULL);
        const struct root *root = kv_config_data(config);
        assert_true(root->train.lr == 2);
        assert_string_equal(root->train.name, "a b");
        kv_config_free(config);
    }
    // Lines are counted the same with every end of line.
    refuse("output: a\r\ntrain:\r\n  lr: fast\r\n", NULL, "a.yaml:3: key `train.lr`: found `fast`");
    refuse("\xEF\xBB\xBFoutput: a\ntrain:\n\tlr: 1\n", NULL, "a.yaml:3: not valid YAML");
    refuse("train: {lr: [1]}\n", NULL, "a.yaml:1: key `train.lr`: found a list, expected a number");
    refuse("systems: {name: a}\n", NULL, "a.yaml:1: key `systems`: found a group of keys, expected a list");
    refuse("output: a\noutput: b\n", NULL, "a.yaml:2: key `output`: found twice, first on line 1");
    kv_config *config = load("", NULL);
    assert_null(((struct root *)kv_config_data(config))->output);
    kv_config_free(config);
}

static void test_overrides_with_blanks(void **state) {
    (void)state;
    static const char *const ways[] = {"train.lr=2", "train.lr = 2", " train.lr =2", "train.lr\t=\t2 "};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        kv_config *config = load("train: {lr: 1}\n", ways[i]);
        assert_true(((struct root *)kv_config_data(config))->train.lr == 2);
        kv_config_free(config);
    }
    refuse("", " = 2", "expected key=value");
    refuse("", "train lr=2", "key `train lr`: found an unknown key");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_truth, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_numbers, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_nothing, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_merge_keys, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_merge_keys_elsewhere, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_merge_mistakes, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_other_files, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_overrides_with_blanks, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
