// config.json and the index of a sharded checkpoint, damaged in every way.
#include "data/file/content.h"
#include "tests/support/checkpoint.h"
#include "tests/support/published_configs.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char config[] = "config.json", shard_index[] = "model.safetensors.index.json";

// ---- config.json ----------------------------------------------------------------------------------------

// Whatever the file holds, the answer is a model that makes sense or one line that names the file.
static void check_answer(void) {
    kv_model_spec spec;
    err.message[0] = 0;
    if (kv_checkpoint_spec(test_dir, &spec, &err) == KV_OK) {
        must(kv_model_spec_check(&spec, &err), &err);
        assert_in_range(spec.n_stop_ids, 0, KV_MAX_STOP_IDS);
        return;
    }
    assert_non_null(strstr(err.message, config));
    assert_null(strchr(err.message, '\n'));
}

static void test_truncated(void **state) {
    (void)state;
    for (int i = 0; i < N_PUBLISHED_CONFIGS; i++)
        for (size_t n = 0; n < strlen(published_configs[i].text); n += 2) {
            kv_model_spec spec;
            write_bytes(config, published_configs[i].text, n);
            assert_int_not_equal(kv_checkpoint_spec(test_dir, &spec, &err), KV_OK);
            check_answer();
        }
}

static const char *const odd_values[] = {"null",
                                         "true",
                                         "false",
                                         "0",
                                         "-1",
                                         "1",
                                         "3",
                                         "0.5",
                                         "1e300",
                                         "1e-300",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "\"\"",
                                         "\"llama\"",
                                         "\"\\n\\u0001\"",
                                         "[]",
                                         "[1,2,3]",
                                         "[[],{}]",
                                         "[9223372036854775807]",
                                         "{}",
                                         "{\"rope_type\":\"llama3\",\"factor\":1e300}",
                                         "{\"a\":[[[[[[[[[[1]]]]]]]]]]}"};

// Every key of every file in turn: gone, and every value that could be there.
static void test_odd_values(void **state) {
    (void)state;
    for (int i = 0; i < N_PUBLISHED_CONFIGS; i++) {
        const char *key;
        json_t *value, *keys = json_loads(published_configs[i].text, 0, NULL);
        json_object_set_new(keys, "rope_parameters", json_null());
        json_object_set_new(keys, "layer_types", json_null());
        json_object_foreach(keys, key, value) {
            write_text(config, published_configs[i].text);
            if (strcmp(key, "rope_parameters") && strcmp(key, "layer_types")) set_key(config, key, NULL);
            check_answer();
            for (size_t v = 0; v < sizeof odd_values / sizeof *odd_values; v++) {
                set_key(config, key, odd_values[v]);
                check_answer();
            }
        }
        json_decref(keys);
    }
}

// The numbers inside rope_scaling likewise.
static void test_odd_scaling(void **state) {
    (void)state;
    const char *key, *const places[] = {"rope_scaling", "rope_parameters"};
    json_t *value, *root = json_loads(published_config("llama-3.2-3b"), 0, NULL);
    json_t *scaling = json_object_get(root, "rope_scaling");
    for (int p = 0; p < 2; p++) json_object_foreach(scaling, key, value) {
            for (size_t v = 0; v < sizeof odd_values / sizeof *odd_values; v++) {
                json_t *changed = json_deep_copy(scaling);
                json_object_set_new(changed, key, json_loads(odd_values[v], JSON_DECODE_ANY, NULL));
                char *text = json_dumps(changed, 0);
                write_text(config, published_config("llama-3.2-3b"));
                set_key(config, "rope_scaling", NULL);
                set_key(config, places[p], text);
                check_answer();
                free(text);
                json_decref(changed);
            }
        }
    json_decref(root);
}

static void test_damaged_bytes(void **state) {
    (void)state;
    int64_t draw = 0;
    for (int64_t round = 0; round < 1200; round++) {
        char *text = strdup(published_configs[round % N_PUBLISHED_CONFIGS].text);
        const int64_t size = (int64_t)strlen(text);
        for (int64_t flips = 1 + test_below(1, draw++, 4); flips > 0; flips--) {
            const int64_t at = test_below(2, draw, size);
            text[at] = (char)test_below(3, draw++, 256);
        }
        write_bytes(config, text, (size_t)size);
        check_answer();
        free(text);
    }
}

// ---- The index -------------------------------------------------------------------------------------------

// Without the white space at its end.
static char *index_text(size_t *used) {
    char *text;
    size_t size;
    must(kv_read_file(golden("hf/llama-sharded-f16/model.safetensors.index.json"), 1 << 20, &text, &size,
                      &err),
         &err);
    while (size > 0 && text[size - 1] != '}') size--;
    *used = size;
    return text;
}

// A model, or one line that names a file of the directory.
static void check_load(bool must_fail) {
    kv_model *model;
    err.message[0] = 0;
    const kv_status status = kv_checkpoint_load(test_dir, &model, &err);
    kv_model_free(model);
    if (must_fail) assert_int_not_equal(status, KV_OK);
    if (status == KV_OK) return;
    assert_null(model);
    assert_non_null(strstr(err.message, test_dir));
    assert_null(strchr(err.message, '\n'));
}

static void test_truncated_index(void **state) {
    (void)state;
    copy_golden("hf/llama-sharded-f16");
    size_t size;
    char *text = index_text(&size);
    for (size_t n = 0; n < size; n += 3) {
        write_bytes(shard_index, text, n);
        check_load(true);
    }
    free(text);
}

static void test_odd_places(void **state) {
    (void)state;
    copy_golden("hf/llama-sharded-f16");
    size_t size;
    char *text = index_text(&size);
    text[size] = 0;
    const char *key;
    json_t *value, *root = json_loads(text, 0, NULL), *map = json_object_get(root, "weight_map");
    int64_t turn = 0;
    json_object_foreach(map, key, value) {
        if (turn++ % 4) continue;
        for (size_t v = 0; v < sizeof odd_values / sizeof *odd_values; v++) {
            json_t *changed = json_deep_copy(root);
            json_object_set_new(json_object_get(changed, "weight_map"), key,
                                json_loads(odd_values[v], JSON_DECODE_ANY, NULL));
            assert_int_equal(json_dump_file(changed, test_path(test_dir, shard_index), 0), 0);
            check_load(false); // its file is opened for other tensors too
            json_decref(changed);
        }
    }
    for (size_t v = 0; v < sizeof odd_values / sizeof *odd_values; v++) {
        write_text(shard_index, text);
        set_key(shard_index, "weight_map", odd_values[v]);
        check_load(true);
        write_text(shard_index, text);
        set_key(shard_index, "metadata", odd_values[v]); // says nothing we need
        check_load(false);
    }
    json_decref(root);
    free(text);
}

static void test_damaged_index(void **state) {
    (void)state;
    int64_t draw = 0;
    copy_golden("hf/llama-sharded-f16");
    size_t size;
    char *text = index_text(&size);
    for (int64_t round = 0; round < 500; round++) {
        char *damaged = test_alloc((int64_t)size, 1);
        memcpy(damaged, text, size);
        for (int64_t flips = 1 + test_below(4, draw++, 3); flips > 0; flips--) {
            const int64_t at = test_below(5, draw, (int64_t)size);
            damaged[at] = (char)test_below(6, draw++, 256);
        }
        write_bytes(shard_index, damaged, size);
        check_load(false);
        free(damaged);
    }
    free(text);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_truncated),       TEST(test_odd_values), TEST(test_odd_scaling),   TEST(test_damaged_bytes),
        TEST(test_truncated_index), TEST(test_odd_places), TEST(test_damaged_index),
    };
    return cmocka_run_group_tests_name("hf_damage", tests, NULL, NULL);
}
