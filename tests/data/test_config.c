// YAML configuration: what is accepted, how sources win over one another, and that every mistake is reported
// as one line with the file, the line and the key it stands at.
#include "data/config/config.h"
#include "data/config/tree.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct optim {
    double lr;
    int64_t steps;
    int32_t small;
    uint64_t seed;
    bool nesterov;
    int kind;
};
struct entry {
    char *name;
    int64_t size;
};
struct root {
    char *output;
    struct optim train;
    int32_t *layers;
    unsigned n_layers;
    struct entry *systems;
    unsigned n_systems;
};

static const cyaml_strval_t kinds[] = {{"plain", 0}, {"fancy", 1}};
static const cyaml_schema_field_t optim_fields[] = {
    CYAML_FIELD_FLOAT("lr", CYAML_FLAG_OPTIONAL, struct optim, lr),
    CYAML_FIELD_INT("steps", CYAML_FLAG_OPTIONAL, struct optim, steps),
    CYAML_FIELD_INT("small", CYAML_FLAG_OPTIONAL, struct optim, small),
    CYAML_FIELD_UINT("seed", CYAML_FLAG_OPTIONAL, struct optim, seed),
    CYAML_FIELD_BOOL("nesterov", CYAML_FLAG_OPTIONAL, struct optim, nesterov),
    CYAML_FIELD_ENUM("kind", CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT, struct optim, kind, kinds, 2),
    CYAML_FIELD_END,
};
static const cyaml_schema_field_t entry_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_OPTIONAL, struct entry, name, 1, 20),
    CYAML_FIELD_INT("size", CYAML_FLAG_OPTIONAL, struct entry, size),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t layer_value = {CYAML_VALUE_INT(CYAML_FLAG_DEFAULT, int32_t)};
static const cyaml_schema_value_t entry_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct entry, entry_fields)};
static const cyaml_schema_field_t root_fields[] = {
    CYAML_FIELD_STRING_PTR("output", CYAML_FLAG_OPTIONAL, struct root, output, 0, CYAML_UNLIMITED),
    CYAML_FIELD_MAPPING("train", CYAML_FLAG_OPTIONAL, struct root, train, optim_fields),
    CYAML_FIELD_SEQUENCE_COUNT("layers", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct root, layers,
                               n_layers, &layer_value, 0, 4),
    CYAML_FIELD_SEQUENCE_COUNT("systems", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct root, systems,
                               n_systems, &entry_value, 0, CYAML_UNLIMITED),
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

static kv_config *load(const char *name, const char *const *overrides, size_t n) {
    kv_config *config;
    kv_error err = {0};
    if (kv_config_load(name, overrides, n, &schema, &config, &err) != KV_OK) fail_msg("%s", err.message);
    return config;
}

// Loading fails with this message, and the message is one line.
static void refuse(const char *text, const char *override, const char *message) {
    put("bad.yaml", text);
    kv_config *config = (kv_config *)1;
    kv_error err = {0};
    kv_status status = kv_config_load("bad.yaml", &override, override != NULL, &schema, &config, &err);
    assert_int_not_equal(status, KV_OK);
    assert_null(config);
    if (!strstr(err.message, message)) fail_msg("found    %s\nexpected %s", err.message, message);
    assert_null(strchr(err.message, '\n'));
}

static void test_values(void **state) {
    (void)state;
    put("a.yaml", "output: runs/x\ntrain:\n  lr: 5e-3\n  steps: -7\n  seed: 18446744073709551615\n"
                  "  nesterov: yes\n  kind: fancy\nlayers: [0, 0, 1]\nsystems:\n  - {name: one, size: 1}\n"
                  "  - name: 'two: 2'\n");
    kv_config *config = load("a.yaml", NULL, 0);
    const struct root *root = kv_config_data(config);
    assert_string_equal(root->output, "runs/x");
    assert_true(root->train.lr == 5e-3);
    assert_int_equal(root->train.steps, -7);
    assert_true(root->train.seed == UINT64_MAX);
    assert_true(root->train.nesterov);
    assert_int_equal(root->train.kind, 1);
    assert_int_equal(root->n_layers, 3);
    assert_int_equal(root->layers[2], 1);
    assert_string_equal(root->systems[1].name, "two: 2");
    assert_true(kv_config_has(config, "train.lr"));
    assert_true(kv_config_has(config, "systems[1].name"));
    assert_false(kv_config_has(config, "systems[1].size"));
    assert_false(kv_config_has(config, "systems[2].name"));
    assert_false(kv_config_has(config, "train.small"));
    bool lr = false, size = true, kind = false;
    const kv_config_given given[] = {{"train.lr", &lr}, {"systems[1].size", &size}, {"train.kind", &kind}};
    kv_config_record(config, given, 3);
    assert_true(lr && !size && kind);
    kv_error err = {0};
    static const char *const keys[] = {"train.lr", "train.small"};
    assert_int_equal(kv_config_require(config, keys, 1, "every run needs it", &err), KV_OK);
    assert_int_equal(kv_config_require(config, keys, 2, "every run needs it", &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "key `train.small`: found nothing, expected a value: every run"));
    assert_int_equal(kv_config_forbid(config, keys + 1, 1, "never", &err), KV_OK);
    assert_int_equal(kv_config_forbid(config, keys, 2, "only alone", &err), KV_ERR_FORMAT);
    assert_non_null(
        strstr(err.message, "a.yaml:3: key `train.lr`: found a key without effect, expected it only"));
    kv_config_free(config);
    put("empty.yaml", "# nothing\n");
    config = load("empty.yaml", NULL, 0);
    assert_null(((struct root *)kv_config_data(config))->output);
    kv_config_free(config);
}

static void test_mistakes(void **state) {
    (void)state;
    refuse("train:\n  lr: 1\n  foo: 1\n", NULL,
           "bad.yaml:3: key `train.foo`: found an unknown key, expected one of: lr, steps, small");
    refuse("train:\n  lr: fast\n", NULL, "bad.yaml:2: key `train.lr`: found `fast`, expected a number");
    refuse("train: {lr: .nan}\n", NULL, "bad.yaml:1: key `train.lr`: found `.nan`, expected a number");
    refuse("train:\n  lr:\n", NULL, "bad.yaml:2: key `train.lr`: found nothing, expected a number");
    refuse("train:\n\n  steps: 1.5\n", NULL,
           "bad.yaml:3: key `train.steps`: found `1.5`, expected a whole number");
    refuse("train: {steps: 010}\n", NULL, "found `010`, expected a whole number");
    refuse("train: {steps: 99999999999999999999}\n", NULL, "expected a whole number");
    refuse("train: {small: 2147483648}\n", NULL,
           "key `train.small`: found `2147483648`, expected a whole number");
    refuse("train: {seed: -1}\n", NULL, "expected a whole number that is not negative");
    refuse("train: {nesterov: maybe}\n", NULL, "found `maybe`, expected true or false");
    refuse("train:\n  nesterov: |\n    true\n    \tfalse\n", NULL,
           "bad.yaml:2: key `train.nesterov`: found `true??false?`, expected true or false");
    refuse("train: {\"l\\nr\": 1}\n", NULL, "bad.yaml:1: key `train.l?r`: found an unknown key");
    refuse("train: {kind: odd}\n", NULL, "key `train.kind`: found `odd`, expected one of: plain, fancy");
    refuse("output: x\ntrain: 3\n", NULL, "bad.yaml:2: key `train`: found `3`, expected a group of");
    refuse("output:\n  - x\n", NULL, "bad.yaml:1: key `output`: found a list, expected a text");
    refuse("output:\n", NULL, "key `output`: found nothing, expected a text");
    refuse("layers: 3\n", NULL, "key `layers`: found `3`, expected a list");
    refuse("layers:\n  - 1\n  - x\n", NULL,
           "bad.yaml:3: key `layers[1]`: found `x`, expected a whole number");
    refuse("layers: [1, 2, 3, 4, 5]\n", NULL, "key `layers`: found a list of 5, expected 0 to 4");
    refuse("systems:\n  - name: a\n  - nam: b\n", NULL,
           "bad.yaml:3: key `systems[1].nam`: found an unknown key");
    refuse("train:\n  lr: 1\n  lr: 2\n", NULL, "bad.yaml:3: key `train.lr`: found twice, first on line 2");
    refuse("train: [\n", NULL, "bad.yaml:2: not valid YAML");
    refuse("output: a\n\001\n", NULL, "bad.yaml:2: not valid YAML");
    refuse("- 1\n", NULL, "bad.yaml:1: found a list, expected `key: value` lines");
    refuse("output: a\n---\noutput: b\n", NULL, "bad.yaml:3: found a second YAML document");
    refuse("? [a]\n: b\n", NULL, "bad.yaml:1: found a list, expected a plain word as key");
    refuse("train: &t {lr: *t}\n", NULL, "key `train.lr`: found a group of keys, expected a number");
}

static void test_overrides(void **state) {
    (void)state;
    put("a.yaml", "train: {lr: 1, steps: 5}\nlayers: [4, 5]\nsystems: [{name: a}, {name: b}]\n");
    const char *const overrides[] = {"train.lr=3e-4", "layers=[7, 8, 9]",      "layers[1]=6",
                                     "output=x=y",    "systems[1]={size: 12}", "train.kind=fancy"};
    kv_config *config = load("a.yaml", overrides, sizeof overrides / sizeof *overrides);
    const struct root *root = kv_config_data(config);
    assert_true(root->train.lr == 3e-4);
    assert_int_equal(root->train.steps, 5);
    assert_int_equal(root->train.kind, 1);
    assert_int_equal(root->n_layers, 3);
    assert_int_equal(root->layers[0], 7);
    assert_int_equal(root->layers[1], 6);
    assert_string_equal(root->output, "x=y");
    assert_string_equal(root->systems[1].name, "b");
    assert_int_equal(root->systems[1].size, 12);
    kv_config_free(config);
    put("a.yaml", "output: x\n");
    const char *const create = "train.lr=2";
    config = load("a.yaml", &create, 1);
    assert_true(((struct root *)kv_config_data(config))->train.lr == 2);
    kv_config_free(config);
    refuse("", "train.lr=fast", "-s train.lr=fast: key `train.lr`: found `fast`, expected a number");
    refuse("", "train.foo=1", "-s train.foo=1: key `train.foo`: found an unknown key, expected one of: lr");
    refuse("", "train.lr.x=1", "found a part below a single value");
    refuse("", "train.lr", "-s train.lr: expected key=value");
    refuse("", "train..lr=1", "expected key=value");
    refuse("", "=1", "expected key=value");
    refuse("layers: [1]\n", "layers[1]=2", "key `layers[1]`: found no such entry to change");
    refuse("layers: [1]\n", "layers[x]=2", "expected key=value");
    refuse("", "train={lr: [}", "-s train={lr: [}");
}

static void test_extends(void **state) {
    (void)state;
    assert_int_equal(mkdir("sub", 0777), 0);
    put("sub/base.yaml", "output: base\ntrain:\n  lr: 1\n  steps: 10\nlayers: [1, 2, 3]\n");
    put("sub/mid.yaml", "extends: sub/base.yaml\ntrain:\n  lr: 2\nlayers: [9]\n");
    put("top.yaml", "train:\n  kind: fancy\nextends: sub/mid.yaml\n");
    kv_config *config = load("top.yaml", NULL, 0);
    const struct root *root = kv_config_data(config);
    assert_string_equal(root->output, "base");
    assert_true(root->train.lr == 2);
    assert_int_equal(root->train.steps, 10);
    assert_int_equal(root->train.kind, 1);
    assert_int_equal(root->n_layers, 1);
    kv_error err;
    assert_int_equal(kv_config_fail(config, &err, "train.lr", "too fast"), KV_ERR_FORMAT);
    assert_string_equal(err.message, "sub/mid.yaml:3: key `train.lr`: too fast");
    kv_config_fail(config, &err, "train.steps", "found %d", 10);
    assert_string_equal(err.message, "sub/base.yaml:4: key `train.steps`: found 10");
    kv_config_free(config);
    // A mistake in an extended file is reported where it stands.
    put("sub/base.yaml", "train:\n  lr: x\n");
    put("loop.yaml", "extends: ./sub/../loop.yaml\n");
    const char *const names[] = {"top.yaml", "loop.yaml"};
    const char *const messages[] = {"sub/base.yaml:2: key `train.lr`: found `x`, expected a number",
                                    "loop.yaml:1: key `extends`: ./sub/../loop.yaml extends itself"};
    for (int i = 0; i < 2; i++) {
        assert_int_not_equal(kv_config_load(names[i], NULL, 0, &schema, &config, &err), KV_OK);
        assert_string_equal(err.message, messages[i]);
    }
    put("a.yaml", "extends: b.yaml\n");
    put("b.yaml", "output: x\nextends: a.yaml\n");
    assert_int_not_equal(kv_config_load("a.yaml", NULL, 0, &schema, &config, &err), KV_OK);
    assert_non_null(strstr(err.message, "extends itself"));
    refuse("output: x\nextends: missing.yaml\n", NULL, "bad.yaml:2: key `extends`: missing.yaml");
    refuse("extends: [a, b]\n", NULL, "bad.yaml:1: key `extends`");
    assert_int_equal(kv_config_load("none.yaml", NULL, 0, &schema, &config, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "none.yaml"));
}

static void test_fail_places(void **state) {
    (void)state;
    put("a.yaml", "output: x\ntrain:\n  steps: 1\nsystems:\n  - name: a\n  - size: 1\n    name: b\n");
    const char *const override = "train.lr=4";
    kv_config *config = load("a.yaml", &override, 1);
    static const char *const places[][2] = {{"train.lr", "-s train.lr=4: key `train.lr`: no"},
                                            {"train.steps", "a.yaml:3: key `train.steps`: no"},
                                            {"train.small", "a.yaml:2: key `train.small`: no"},
                                            {"systems[1].name", "a.yaml:7: key `systems[1].name`: no"},
                                            {"systems[0].size", "a.yaml:5: key `systems[0].size`: no"},
                                            {"layers", "a.yaml:1: key `layers`: no"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        kv_error err;
        assert_int_equal(kv_config_fail(config, &err, places[i][0], "no"), KV_ERR_FORMAT);
        assert_string_equal(err.message, places[i][1]);
    }
    kv_config_free(config);
}

// What a nearer setting leaves without effect was not meant to have any; what stands beside it was.
static void test_overtaken(void **state) {
    (void)state;
    static const struct {
        const char *below, *above, *overrides[2];
        bool overtaken;
    } cases[] = {{"train: {lr: 1}\n", "train: {kind: fancy}\n", {NULL}, true},
                 {"train: {lr: 1}\n", "", {"train.kind=fancy"}, true},
                 {"", "train: {lr: 1}\n", {"train={kind: fancy}"}, true},
                 {"train: {lr: 1, kind: fancy}\n", "", {NULL}, false},
                 {"train: {kind: fancy}\n", "train: {lr: 1}\n", {NULL}, false},
                 {"train: {kind: fancy}\n", "", {"train.lr=1"}, false},
                 {"", "", {"train.lr=1", "train.kind=fancy"}, false},
                 {"train: {lr: 1}\n", "", {NULL}, false},
                 {"", "train: {kind: fancy}\n", {NULL}, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char above[64];
        put("below.yaml", cases[i].below);
        snprintf(above, sizeof above, "extends: below.yaml\n%s", cases[i].above);
        put("a.yaml", above);
        size_t n = 0;
        while (n < 2 && cases[i].overrides[n]) n++;
        kv_config *config = load("a.yaml", cases[i].overrides, n);
        if (kv_config_overtaken(config, "train.lr", "train.kind") != cases[i].overtaken)
            fail_msg("case %zu: expected %d", i, cases[i].overtaken);
        kv_config_free(config);
    }
    // A group is where all that is in it is.
    put("below.yaml", "train: {lr: 1, steps: 2}\n");
    put("a.yaml", "extends: below.yaml\noutput: here\n");
    kv_config *config = load("a.yaml", NULL, 0);
    assert_true(kv_config_overtaken(config, "train", "output"));
    kv_config_free(config);
    put("a.yaml", "extends: below.yaml\noutput: here\ntrain: {steps: 3}\n");
    config = load("a.yaml", NULL, 0);
    assert_false(kv_config_overtaken(config, "train", "output"));
    kv_config_free(config);
}

static void test_defaults_and_text(void **state) {
    (void)state;
    put("a.yaml", "train: {lr: 2}\nsystems: [{name: '12'}, {name: \"a: b\"}]\n");
    kv_config *config, *again;
    kv_error err;
    assert_int_equal(kv_config_load_with_defaults("output: here\ntrain: {lr: 1, steps: 3}\n", NULL, "a.yaml",
                                                  NULL, 0, &schema, &config, &err),
                     KV_OK);
    const struct root *root = kv_config_data(config);
    assert_string_equal(root->output, "here");
    assert_true(root->train.lr == 2);
    assert_int_equal(root->train.steps, 3);
    assert_true(kv_config_has(config, "train.lr"));
    assert_false(kv_config_has(config, "train.steps"));
    assert_false(kv_config_has(config, "output"));
    kv_config_fail(config, &err, "output", "no");
    assert_string_equal(err.message, "a.yaml:1: key `output`: no");
    // The text says everything: loaded again it gives the same document.
    char *text = kv_config_text(config);
    assert_non_null(text);
    put("again.yaml", text);
    free(text);
    again = load("again.yaml", NULL, 0);
    kv_config_difference difference;
    assert_false(kv_config_compare(config, again, NULL, 0, &difference));
    assert_string_equal(((struct root *)kv_config_data(again))->systems[1].name, "a: b");
    kv_config_free(again);
    kv_config_free(config);
}

static void test_compare(void **state) {
    (void)state;
    put("a.yaml", "output: x\ntrain: {lr: 5e-3, steps: 1}\nlayers: [1, 2]\n");
    kv_config *a = load("a.yaml", NULL, 0);
    static const struct {
        const char *override, *key, *a, *b;
    } cases[] = {{"train.lr=0.005", "", "", ""},
                 {"train.lr=0.006", "train.lr", "`5e-3`", "`0.006`"},
                 {"train.kind=plain", "train.kind", "nothing", "`plain`"},
                 {"layers=[1, 3]", "layers[1]", "`2`", "`3`"},
                 {"layers=[1]", "layers[1]", "`2`", "nothing"},
                 {"layers=[1, 2, 3]", "layers[2]", "nothing", "`3`"},
                 {"output=y", "", "", ""}};
    const char *const ignored[] = {"output"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_config *b = load("a.yaml", &cases[i].override, 1);
        kv_config_difference difference;
        assert_int_equal(kv_config_compare(a, b, ignored, 1, &difference), *cases[i].key != 0);
        if (*cases[i].key) {
            assert_string_equal(difference.key, cases[i].key);
            assert_string_equal(difference.a, cases[i].a);
            assert_string_equal(difference.b, cases[i].b);
        }
        kv_config_free(b);
    }
    kv_config_free(a);
}

// Aliases that repeat one another would make a few lines into a billion entries.
static void test_repeating_aliases(void **state) {
    (void)state;
    static const cyaml_schema_field_t fields[] = {CYAML_FIELD_IGNORE("x23", CYAML_FLAG_OPTIONAL),
                                                  CYAML_FIELD_END};
    static const cyaml_schema_value_t any = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct root, fields)};
    kv_config *config;
    kv_error err;
    char nested[4096] = "x23: [&a [1, 2]";
    for (int i = 0; i < 24; i++) {
        char line[64];
        snprintf(line, sizeof line, ", &%c [*%c, *%c]", 'b' + i, 'a' + i, 'a' + i);
        strcat(nested, line);
    }
    strcat(nested, "]\n");
    put("bad.yaml", nested);
    assert_int_equal(kv_config_load("bad.yaml", NULL, 0, &any, &config, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "without end"));
}

// Without a schema anything goes, and every part can be had as text.
static void test_values_as_text(void **state) {
    (void)state;
    static const struct {
        const char *key, *text;
    } cases[] = {{"a.b", "1e-3"},
                 {"a.c", "two words"},
                 {"a", "{b: 1e-3, c: \"two words\", \"d,e\": \"\"}"},
                 {"list", "[1, {x: ~}, \"a\\\"b\\n\", [], \"1\"]"},
                 {"list[2]", "a\"b\n"},
                 {"none", ""},
                 {"added", "new"},
                 {"below", "base"}};
    put("base.yaml", "a: {b: 7}\nbelow: base\n");
    put("any.yaml", "extends: base.yaml\na: {b: 1e-3, c: two words, 'd,e': ''}\n"
                    "list: [1, {x: ~}, \"a\\\"b\\n\", [], '1']\nnone:\n");
    const char *const overrides[] = {"added=new"};
    kv_config *config;
    kv_error err = {0};
    if (kv_config_load("any.yaml", overrides, 1, NULL, &config, &err)) fail_msg("%s", err.message);
    assert_null(kv_config_data(config));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = kv_config_value(config, cases[i].key);
        assert_non_null(text);
        assert_string_equal(text, cases[i].text);
        free(text);
    }
    assert_null(kv_config_value(config, "a.x"));
    assert_null(kv_config_value(config, "list[5]"));
    // What is said on one line is read back as the same.
    char *line = kv_config_value(config, "list"), override[128];
    snprintf(override, sizeof override, "list=%s", line);
    const char *const again[] = {"added=new", override};
    kv_config *copy;
    kv_config_difference difference;
    assert_int_equal(kv_config_load("any.yaml", again, 2, NULL, &copy, &err), KV_OK);
    assert_false(kv_config_compare(config, copy, NULL, 0, &difference));
    free(line);
    kv_config_free(copy);
    kv_config_free(config);
    assert_int_equal(kv_config_load("none.yaml", NULL, 0, NULL, &config, &err), KV_ERR_IO);
}

// A value that aliases make endless is none.
static void test_endless_value(void **state) {
    (void)state;
    char nested[4096] = "x: [&a [1, 2]";
    for (int i = 0; i < 20; i++) {
        char line[64];
        snprintf(line, sizeof line, ", &%c [*%c, *%c]", 'b' + i, 'a' + i, 'a' + i);
        strcat(nested, line);
    }
    strcat(nested, "]\n");
    yaml_document_t doc;
    assert_int_equal(kv_yaml_parse(nested, strlen(nested), "x", false, &doc, NULL), KV_OK);
    assert_null(kv_yaml_line(&doc, 1));
    yaml_document_delete(&doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_mistakes, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_overrides, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_extends, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_fail_places, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_overtaken, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_defaults_and_text, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_compare, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_repeating_aliases, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_values_as_text, make_dir, remove_dir),
        cmocka_unit_test(test_endless_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
