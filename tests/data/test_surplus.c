// What nobody needs must not refuse a model: tensors of any type and shape beside the model's own, entries of an
// index and shards that hold nothing of it, a tied head once more. What shows that weights and config.json are
// about two different models is refused all the same.
#include "data/checkpoint/weights_set.h"
#include "data/file/content.h"
#include "tests/support/checkpoint.h"
#include "tests/support/warnings.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char single[] = "model.safetensors", shard_index[] = "model.safetensors.index.json";
static const char sharded[] = "hf/llama-sharded-f16", plain[] = "hf/llama-tied";

// ---- Warnings --------------------------------------------------------------------------------------------

static void assert_warned(const char *const *parts) {
    assert_int_equal(test_n_warnings, 1);
    for (; *parts; parts++)
        if (!strstr(test_warned, *parts)) fail_msg("'%s' not in '%s'", *parts, test_warned);
}

// ---- Files -----------------------------------------------------------------------------------------------

// Appends a tensor of any type and shape to a file of test_dir; its data are 0xFF.
static void add_tensor(const char *file, const char *name, const char *type, const char *shape, size_t size) {
    char *bytes;
    size_t n;
    must(kv_read_file(test_path(test_dir, file), 1 << 24, &bytes, &n, &err), &err);
    uint64_t length;
    memcpy(&length, bytes, 8);
    const size_t data = n - 8 - length;
    json_t *header = json_loadb(bytes + 8, length, 0, NULL);
    json_object_set_new(header, name,
                        json_pack("{s:s, s:o, s:[I, I]}", "dtype", type, "shape",
                                  json_loads(shape, JSON_DECODE_ANY, NULL), "data_offsets", (json_int_t)data,
                                  (json_int_t)(data + size)));
    char *text = json_dumps(header, JSON_COMPACT);
    char *made = test_alloc((int64_t)(8 + strlen(text) + data + size), 1);
    const uint64_t longer = strlen(text);
    memcpy(made, &longer, 8);
    memcpy(made + 8, text, longer);
    memcpy(made + 8 + longer, bytes + 8 + length, data);
    memset(made + 8 + longer + data, 0xFF, size);
    write_bytes(file, made, 8 + longer + data + size);
    free(made);
    free(text);
    free(bytes);
    json_decref(header);
}

// Calls every tensor of a file otherwise: `from` at the beginning of a name becomes `to`.
static void rename_tensors(const char *file, const char *from, const char *to) {
    char *bytes;
    size_t n;
    must(kv_read_file(test_path(test_dir, file), 1 << 24, &bytes, &n, &err), &err);
    uint64_t length;
    memcpy(&length, bytes, 8);
    json_t *header = json_loadb(bytes + 8, length, 0, NULL), *renamed = json_object(), *value;
    const char *name;
    json_object_foreach(header, name, value) {
        char other[200];
        const bool begins = strncmp(name, from, strlen(from)) == 0 && strcmp(name, "__metadata__") != 0;
        snprintf(other, sizeof other, "%s%s", begins ? to : "", begins ? name + strlen(from) : name);
        json_object_set(renamed, other, value);
    }
    char *text = json_dumps(renamed, JSON_COMPACT);
    char *made = test_alloc((int64_t)(strlen(text) + n), 1);
    const uint64_t longer = strlen(text);
    memcpy(made, &longer, 8);
    memcpy(made + 8, text, longer);
    memcpy(made + 8 + longer, bytes + 8 + length, n - 8 - length);
    write_bytes(file, made, longer + n - length);
    free(made);
    free(text);
    free(bytes);
    json_decref(header);
    json_decref(renamed);
}

// The directory holds the golden model, frozen and trainable alike, down to the last bit.
static void assert_is(const char *name) {
    kv_model *whole, *views, *copy;
    must(kv_checkpoint_load(golden(name), &whole, &err), &err);
    test_n_warnings = 0;
    must(kv_checkpoint_load(test_dir, &views, &err), &err);
    const int said = test_n_warnings;
    must(kv_checkpoint_load_trainable(test_dir, &copy, &err), &err);
    assert_same_weights(whole, views);
    assert_same_weights(whole, copy);
    assert_int_equal(test_n_warnings, 2 * said); // kv_warn itself says a text once
    test_n_warnings = said;
    kv_model_free(whole);
    kv_model_free(views);
    kv_model_free(copy);
}

// ---- Tensors ---------------------------------------------------------------------------------------------

static void test_buffers_are_skipped(void **state) {
    (void)state;
    static const struct {
        const char *name, *type, *shape;
        size_t size;
    } buffers[] = {
        {"model.position_ids", "I64", "[1,4]", 32},
        {"model.layers.0.self_attn.causal_mask", "BOOL", "[1,1,3,3]", 9},
        {"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", "[8]", 32},
        {"model.layers.9.self_attn.rotary_emb.inv_freq", "F16", "[8]", 16},
        {"model.rotary_emb.inv_freq", "F64", "[8]", 64},
        {"model.rotary_emb.cos_cached", "BF16", "[1,1,1,2,1,3]", 12},
        {"model.layers.3.self_attn.rotary_emb.sin_cached", "F8_E4M3", "[3]", 3},
        {"model.layers.1.self_attn.masked_bias", "I32", "[]", 4},
        {"model.layers.1.self_attn.bias", "U8", "[1,1,2,2]", 4},
        {"model.rope.freqs", "NEWTYPE", "[7]", 3},
        {"model.causal_mask", "F32", "[0,5]", 0},
        {"model.layers.2.mlp.total_ops", "F64", "[1]", 8},
    };
    copy_golden(plain);
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        add_tensor(single, buffers[i].name, buffers[i].type, buffers[i].shape, buffers[i].size);
        assert_is(plain);
        assert_int_equal(test_n_warnings, 0);
    }
}

static void test_others_are_left_out(void **state) {
    (void)state;
    static const char *const names[] = {"extra",
                                        "model.layers.4.self_attn.q_proj.weight", // has layers 0 to 3
                                        "layers.61.mlp.up_proj.weight",
                                        "mtp.layers.0.enorm.weight",
                                        "model.mtp.0.weight",
                                        "score.weight",
                                        "v_head.summary.bias",
                                        "vision_tower.layers.0.self_attn.q_proj.bias",
                                        "optimizer.state.0",
                                        "ema.model.layers.0.self_attn.q_proj.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        copy_golden(plain);
        add_tensor(single, names[i], i % 2 ? "I8" : "F32", "[1,4]", i % 2 ? 4 : 16);
        assert_is(plain);
        assert_warned((const char *const[]){single, "left out 1 tensor that config.json", names[i], NULL});
    }
    for (size_t i = 0; i < 4; i++) add_tensor(single, names[i], "U8", "[2]", 2);
    assert_is(plain);
    assert_warned((const char *const[]){"left out 5 tensors", "...", NULL});
}

static void test_another_model_is_refused(void **state) {
    (void)state;
    static const char *const names[] = {
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.3.self_attn.o_proj.bias",
        "model.layers.1.self_attn.q_norm.weight",
        "model.layers.1.mlp.experts.0.up_proj.weight",
        "model.layers.2.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.2.self_attn.q_proj.lora_A.default.weight",
        "model.layers.0.mlp.down_proj.weight_scale",
        "model.layers.0.mlp.down_proj.qweight",
        "model.layers.0.pre_feedforward_layernorm.weight",
        "layers.0.self_attn.q_proj.weight",
        "lm_head.bias",
        "model.norm.bias",
        "model.embed_positions.weight",
        "somewhere.lora_B.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        kv_model *model;
        copy_golden(plain);
        add_tensor(single, names[i], i % 2 ? "F32" : "U8", "[4]", i % 2 ? 16 : 4);
        assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH, single, "surplus tensor",
                       names[i], "config.json", "adapters have to be merged");
        assert_null(model);
    }
}

// The type and the shape of what is needed are looked at.
static void test_needed_ones_are_checked(void **state) {
    (void)state;
    static const char norm[] = "model.norm.weight";
    static const struct {
        const char *type, *shape;
        size_t size;
        kv_status status;
        const char *part;
    } cases[] = {
        {"F64", "[64]", 512, KV_ERR_FORMAT, "has type F64; expected F32, BF16 or F16"},
        {"I8", "[64]", 64, KV_ERR_FORMAT, "has type I8; expected F32"},
        {"NEWTYPE", "[64]", 1, KV_ERR_FORMAT, "has type NEWTYPE; expected F32"},
        {"F32", "[1,1,1,1,1,64]", 256, KV_ERR_MISMATCH, "has shape [1, 1, 1, 1, 1, 64], expected [64]"},
        {"F16", "[]", 2, KV_ERR_MISMATCH, "has shape [], expected [64]"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_model *model;
        copy_golden(plain);
        change_tensor(single, norm, LEAVE_OUT, NULL);
        add_tensor(single, norm, cases[i].type, cases[i].shape, cases[i].size);
        assert_refused(kv_checkpoint_load(test_dir, &model, &err), cases[i].status, single, norm,
                       cases[i].part);
    }
}

static void test_other_names(void **state) {
    (void)state;
    static const char *const wrappers[] = {"_orig_mod.", "module.", "module._orig_mod.", "base_model.model."};
    const char *const models[] = {plain, "hf/llama-untied-bf16", "kvp_c/base"};
    for (int m = 0; m < 3; m++) {
        for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++) {
            copy_golden(models[m]);
            rename_tensors(single, "", wrappers[i]);
            assert_is(models[m]);
            assert_int_equal(test_n_warnings, 0);
        }
        copy_golden(models[m]);
        rename_tensors(single, m == 2 ? "transformer." : "model.", ""); // the layers saved alone
        assert_is(models[m]);
        assert_int_equal(test_n_warnings, 0);
    }
    // Others are not guessed, but shown.
    kv_model *model;
    copy_golden(plain);
    rename_tensors(single, "", "language_model.");
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH,
                   "'model.embed_tokens.weight' is missing",
                   "found 'language_model.model.embed_tokens.weight'");
    copy_golden(plain);
    rename_tensors(single, "model.", "gpt_neox.");
    rename_tensors(single, "gpt_neox.embed_tokens", "gpt_neox.embed_in");
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH,
                   "'model.embed_tokens.weight' is missing", "the first one there is 'gpt_neox.");
    copy_golden("hf/llama-untied-bf16");
    change_tensor(single, "lm_head.weight", LEAVE_OUT, NULL);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH, "'lm_head.weight' is missing",
                   "no language-model head");
}

// ---- A tied head -----------------------------------------------------------------------------------------

// Adds lm_head.weight to the file: the embedding of the model in `dir` in another type, its last value changed by
// `by`.
static void repeat_head(const char *dir, kv_dtype dtype, float by) {
    kv_model *model;
    must(kv_checkpoint_load_trainable(dir, &model, &err), &err);
    const int64_t size = kv_param_size(&model->embed);
    float *values = model->embed.data;
    values[size - 1] += by;
    char *narrow = test_alloc(size, 4);
    if (dtype == KV_F32)
        memcpy(narrow, values, (size_t)size * 4);
    else
        kv_narrow(narrow, values, dtype, size);
    add_tensor(single, "lm_head.weight", kv_dtype_name(dtype), "[101,64]",
               (size_t)size * kv_dtype_size(dtype));
    FILE *file = fopen(test_path(test_dir, single), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -size * (long)kv_dtype_size(dtype), SEEK_END), 0);
    assert_int_equal(fwrite(narrow, kv_dtype_size(dtype), (size_t)size, file), size);
    assert_int_equal(fclose(file), 0);
    free(narrow);
    kv_model_free(model);
}

static void test_repeated_head(void **state) {
    (void)state;
    kv_model *model;
    for (int embed = 0; embed < 3; embed++)
        for (kv_dtype head = KV_F32; head <= KV_F16; head++) {
            kv_model *before, *after;
            copy_golden("hf/qwen3");
            if (embed > 0) narrow_weights(embed == 1 ? KV_BF16 : KV_F16);
            must(kv_checkpoint_load_trainable(test_dir, &before, &err), &err);
            // The embedding as it is, or the one that it was rounded from.
            repeat_head(head == KV_F32 ? golden("hf/qwen3") : test_dir, head, 0);
            must(kv_checkpoint_load(test_dir, &after, &err), &err);
            assert_same_weights(before, after);
            assert_null(after->head.data);
            kv_model_free(before);
            kv_model_free(after);
            // Another head than config.json says.
            change_tensor(single, "lm_head.weight", LEAVE_OUT, NULL);
            repeat_head(test_dir, head, 0.25f);
            for (int trainable = 0; trainable < 2; trainable++)
                assert_refused(
                    (trainable ? kv_checkpoint_load_trainable : kv_checkpoint_load)(test_dir, &model, &err),
                    KV_ERR_MISMATCH, single, "'lm_head.weight' differs from 'model.embed_tokens.weight'");
        }
    copy_golden("hf/qwen3");
    change_tensor(single, "model.norm.weight", ADD_COPY, "lm_head.weight");
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH,
                   "'lm_head.weight' has shape [64], expected [101, 64]");
    copy_golden("hf/qwen3");
    add_tensor(single, "lm_head.weight", "I8", "[101,64]", 6464);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, "'lm_head.weight' has type I8");
}

// ---- The index -------------------------------------------------------------------------------------------

// A key of the index's weight_map set to a JSON value, or removed.
static void set_place(const char *tensor, const char *value) {
    json_t *root = json_load_file(test_path(test_dir, shard_index), 0, NULL);
    json_t *map = json_object_get(root, "weight_map");
    if (value)
        json_object_set_new(map, tensor, json_loads(value, JSON_DECODE_ANY, NULL));
    else
        assert_int_equal(json_object_del(map, tensor), 0);
    assert_int_equal(json_dump_file(root, test_path(test_dir, shard_index), 0), 0);
    json_decref(root);
}

static const char *place_of(const char *tensor, char name[64]) {
    json_t *root = json_load_file(test_path(test_dir, shard_index), 0, NULL);
    snprintf(name, 64, "%s", json_string_value(json_object_get(json_object_get(root, "weight_map"), tensor)));
    json_decref(root);
    return name;
}

static void test_index_entries_nobody_needs(void **state) {
    (void)state;
    static const char norm[] = "model.norm.weight", down[] = "model.layers.1.mlp.down_proj.weight";
    static const char *const entries[] = {
        "\"model-00009-of-00004.safetensors\"", // is not there
        "\"model-00001-of-00004.safetensors\"", // is there, without it
        "\"broken.safetensors\"",
        "\"../../etc/passwd\"",
        "\"model.bin\"",
        "3",
        "null",
        "[\"model-00001-of-00004.safetensors\"]",
    };
    char place[64], other[64];
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        copy_golden(sharded);
        write_text("broken.safetensors", "version https://git-lfs.github.com/spec/v1\n");
        set_place("vision_tower.weight", entries[i]);
        set_place("odd\nname", entries[i]);
        assert_is(sharded);
        assert_int_equal(test_n_warnings, 0);
    }
    for (int odd = 0; odd < 3; odd++) {
        copy_golden(sharded);
        set_key(shard_index, "metadata", odd == 0 ? NULL : odd == 1 ? "{\"total_size\":\"many\"}" : "[1]");
        assert_is(sharded);
    }
    copy_golden(sharded); // the index is silent, or tells of another file: one file has it all the same
    set_place(down, NULL);
    assert_is(sharded);
    copy_golden(sharded);
    assert_string_not_equal(place_of(norm, other), place_of(down, place));
    char quoted[80];
    snprintf(quoted, sizeof quoted, "\"%s\"", other);
    set_place(down, quoted);
    assert_is(sharded);
    copy_golden(sharded); // one that the index does not tell of lies in a second file too
    change_tensor(other, norm, ADD_COPY, down);
    assert_is(sharded);
    // Files that lie about.
    copy_golden(sharded);
    write_text("consolidated.safetensors", "nonsense");
    write_text("adapter_model.safetensors", "nonsense");
    assert_is(sharded);
    copy_golden(plain);
    write_text(shard_index, "nonsense");
    write_text("model-00001-of-00002.safetensors", "nonsense");
    assert_is(plain);
}

// What is needed from a file that cannot be read is missed with the reason; more files than anyone has, too.
static void test_index_entries_that_are_needed(void **state) {
    (void)state;
    static const char down[] = "model.layers.1.mlp.down_proj.weight";
    kv_model *model;
    char place[64];
    copy_golden(sharded);
    write_text(place_of(down, place), "version https://git-lfs.github.com/spec/v1\n");
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, shard_index, "tensor 'model.",
                   place);
    json_t *map = json_object();
    for (int i = 0; i < 5000; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.safetensors", i);
        json_object_set_new(map, name, json_string(name));
    }
    char *text = json_dumps(map, 0);
    set_key(shard_index, "weight_map", text);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, shard_index,
                   "more than 4096 files");
    free(text);
    json_decref(map);
}

// ---- Size ------------------------------------------------------------------------------------------------

static void test_size(void **state) {
    (void)state;
    kv_model_spec spec;
    kv_checkpoint_size size, more;
    must(kv_checkpoint_spec("random:openelm-270m:bf16", &spec, &err), &err);
    must(kv_checkpoint_measure("random:openelm-270m:bf16", &spec, &size, &err), &err);
    must(kv_checkpoint_measure("random:openelm-270m", &spec, &more, &err), &err);
    assert_true(more.wide && !size.wide && more.bytes == 2 * size.bytes && size.bytes > 500000000);
    assert_refused(kv_checkpoint_measure("random:openelm-9b", &spec, &size, &err), KV_ERR_ARGUMENT,
                   "unknown");
    // Only what is needed counts, whatever else lies there.
    const char *const models[] = {plain, sharded};
    for (int m = 0; m < 2; m++) {
        must(kv_checkpoint_spec(golden(models[m]), &spec, &err), &err);
        must(kv_checkpoint_measure(golden(models[m]), &spec, &size, &err), &err);
        kv_model *model;
        must(kv_checkpoint_load(golden(models[m]), &model, &err), &err);
        assert_int_equal(size.bytes, kv_model_size(model, true) * (m ? 2 : 4));
        assert_int_equal(size.wide, !m);
        kv_model_free(model);
        if (m) assert_int_equal(unlink(test_path(test_dir, single)), 0);
        copy_golden(models[m]);
        write_text("consolidated.safetensors", "nonsense");
        char place[64];
        add_tensor(m ? place_of("model.norm.weight", place) : single, "vision.weight", "F32", "[500000]",
                   2000000);
        must(kv_checkpoint_measure(test_dir, &spec, &more, &err), &err);
        assert_true(more.bytes == size.bytes && more.wide == size.wide);
    }
    assert_int_equal(unlink(test_path(test_dir, shard_index)), 0);
    assert_refused(kv_checkpoint_measure(test_dir, &spec, &size, &err), KV_ERR_IO, single);
}

// ---- Predictors ------------------------------------------------------------------------------------------

static void test_predictor(void **state) {
    (void)state;
    static const int32_t mapping[5] = {0, 0, 1, 1, 2};
    static const char file[] = "predictor.safetensors";
    kv_model_spec base, aux;
    kv_predictor *predictor;
    must(kv_checkpoint_spec(golden("kvp_c/base"), &base, &err), &err);
    must(kv_checkpoint_spec(golden("kvp_c/aux"), &aux, &err), &err);
    must(kv_predictor_load(golden("kvp_c"), &base, &aux, NULL, mapping, &predictor, &err), &err);
    must(kv_predictor_save(test_dir, predictor, NULL, &err), &err);
    kv_predictor_free(predictor);
    add_tensor(file, "optimizer.step", "I64", "[]", 8);
    set_key("predictor.json", "comment", "{\"lr\":[1]}");
    test_n_warnings = 0;
    must(kv_predictor_check(test_dir, &base, &aux, NULL, &err), &err);
    assert_warned((const char *const[]){file, "left out 1 tensor", "optimizer.step", NULL});
    must(kv_predictor_load(test_dir, &base, &aux, NULL, NULL, &predictor, &err), &err);
    kv_predictor_free(predictor);
    add_tensor(file, "key.5.weight", "F32", "[]", 4);
    assert_refused(kv_predictor_check(test_dir, &base, &aux, NULL, &err), KV_ERR_MISMATCH,
                   "surplus tensor 'key.5.weight'", "a part that predictor.json does not have");
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_buffers_are_skipped),
        TEST(test_others_are_left_out),
        TEST(test_another_model_is_refused),
        TEST(test_needed_ones_are_checked),
        TEST(test_other_names),
        TEST(test_repeated_head),
        TEST(test_index_entries_nobody_needs),
        TEST(test_index_entries_that_are_needed),
        TEST(test_size),
        TEST(test_predictor),
    };
    return cmocka_run_group_tests_name("surplus", tests, NULL, NULL);
}
