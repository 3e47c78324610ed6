// Models and predictors on disk: the goldens load, what is saved comes back bit by bit, and what does not fit
// its description is refused with the tensor or key, what was found and what was expected.
#include "data/checkpoint/random.h"
#include "data/file/content.h"
#include "tests/support/checkpoint.h"
#include "tests/support/predictors/paper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Loading -------------------------------------------------------------------------------------------

// The rows of a fused tensor are its parts from top to bottom, and nothing is copied.
static void test_golden_weights_are_views(void **state) {
    (void)state;
    kv_model *model;
    kv_safetensors *file;
    must(kv_checkpoint_load(golden("kvp_c/base"), &model, &err), &err);
    must(kv_safetensors_open(golden("kvp_c/base/model.safetensors"), &file, &err), &err);
    const kv_layer *layer = &model->layers[3];
    const char *q = layer->q.data, *gate = layer->gate.data;
    assert_ptr_equal(layer->k.data, q + 64 * 64 * 4);
    assert_ptr_equal(layer->v.data, q + (64 + 32) * 64 * 4);
    assert_ptr_equal(layer->up.data, gate + 192 * 64 * 4);
    const kv_st_entry *qkv = kv_safetensors_find(file, "transformer.layers.3.attn.qkv_proj.weight");
    const kv_st_entry *proj_1 = kv_safetensors_find(file, "transformer.layers.3.ffn.proj_1.weight");
    const kv_st_entry *down = kv_safetensors_find(file, "transformer.layers.3.ffn.proj_2.weight");
    assert_memory_equal(q, qkv->data, qkv->size);
    assert_memory_equal(gate, proj_1->data, proj_1->size);
    assert_memory_equal(layer->down.data, down->data, down->size);
    assert_null(model->head.data);
    kv_safetensors_close(file);
    kv_model_free(model);
}

static void test_all_goldens_load(void **state) {
    (void)state;
    const char *const names[] = {
        "kvp_c/base", "kvp_c/aux",     "kvp_c_zloss_sum/base", "kvp_c_zloss_sum/aux",  "kvp_lp/base",
        "kvp_lp/aux", "hf/llama-tied", "hf/llama-untied-bf16", "hf/llama-sharded-f16", "hf/llama3-rope",
        "hf/qwen2",   "hf/qwen3"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        kv_model *views, *copies;
        must(kv_checkpoint_load(golden(names[i]), &views, &err), &err);
        must(kv_checkpoint_load_trainable(golden(names[i]), &copies, &err), &err);
        assert_same_weights(views, copies);
        must(kv_model_set_trainable(copies, true, &err), &err);
        kv_model_free(views);
        kv_model_free(copies);
    }
}

static void test_missing_files(void **state) {
    (void)state;
    kv_model *model;
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_IO, "config.json",
                   "an empty directory");
    assert_null(model);
    copy_golden("kvp_c/base");
    assert_int_equal(unlink(test_path(test_dir, "model.safetensors")), 0);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_IO, "model.safetensors",
                   "No such file");
    copy_golden("kvp_c/base");
    assert_int_equal(truncate(test_path(test_dir, "model.safetensors"), 100000), 0);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, "model.safetensors",
                   "truncated");
}

static void test_wrong_tensors(void **state) {
    (void)state;
    kv_model *model;
    const char *out = "transformer.layers.2.attn.out_proj.weight";
    const struct {
        enum change change;
        const char *parts[3];
    } cases[] = {
        {LEAVE_OUT, {out, "missing", "[64, 64]"}},
        {ADD_COPY, {"transformer.layers.2.one.too.many", "surplus", "config.json"}},
        {ADD_ROW, {out, "has shape [65, 64]", "expected [64, 64]"}},
        {FLATTEN, {out, "has shape [4096]", "expected [64, 64]"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        copy_golden("kvp_c/base");
        change_tensor("model.safetensors", out, cases[i].change, "transformer.layers.2.one.too.many");
        assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH, cases[i].parts[0],
                       cases[i].parts[1], cases[i].parts[2]);
        assert_refused(kv_checkpoint_load_trainable(test_dir, &model, &err), KV_ERR_MISMATCH,
                       cases[i].parts[0]);
        assert_null(model);
    }
}

static void test_wrong_tensor_type(void **state) {
    (void)state;
    kv_model *model;
    char *bytes;
    size_t size;
    copy_golden("kvp_c/base");
    must(kv_read_file(test_path(test_dir, "model.safetensors"), 1 << 24, &bytes, &size, &err), &err);
    char *type = memmem(bytes, size, "\"F32\"", 5);
    assert_non_null(type);
    memcpy(type, "\"I32\"", 5);
    must(kv_write_file(test_path(test_dir, "model.safetensors"), bytes, size, &err), &err);
    free(bytes);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT,
                   "'transformer.token_embeddings.weight' has type I32", "expected F32, BF16 or F16");
}

// Config and weights that are each fine alone.
static void test_config_disagrees(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *parts[2];
    } cases[] = {
        {"vocab_size", "98", {"'transformer.token_embeddings.weight' has shape [97, 64]", "[98, 64]"}},
        {"num_kv_heads", "[1,4,2,2,2]", {"'transformer.layers.1.attn.qkv_proj.weight'", "[192, 64]"}},
        {"ffn_dim_divisor", "64", {"'transformer.layers.0.ffn.proj_1.weight'", "[128, 64]"}},
        {"normalize_qk_projections",
         "false",
         {"surplus tensor 'transformer.layers.0.attn.", "_norm.weight'"}},
        {"share_input_output_layers", "false", {"'lm_head.weight' is missing", "[97, 64]"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kv_model *model;
        copy_golden("kvp_c/base");
        set_key("config.json", cases[i].key, cases[i].value);
        assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH, cases[i].parts[0],
                       cases[i].parts[1]);
    }
}

// ---- Saving --------------------------------------------------------------------------------------------

// A spec that no rule of OpenELM's would give.
static kv_model_spec odd_spec(void) {
    kv_model_spec spec = {.model_type = "openelm",
                          .vocab_size = 31,
                          .model_dim = 42,
                          .head_dim = 6,
                          .n_layers = 3,
                          .context_length = 77,
                          .layers = {{4, 2, 101}, {7, 7, 1}, {2, 1, 997}},
                          .norm_eps = 1e-5f,
                          .rope = {.theta = 500000.125},
                          .bos_id = -1,
                          .eos_id = 30};
    return spec;
}

static void test_save_and_load(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        kv_model *model, *views, *copies;
        kv_model_spec spec = odd_spec();
        spec.tied_head = spec.qk_norm = tied;
        must(kv_model_create(&spec, KV_F32, true, &model, &err), &err);
        kv_model_init(model, 3);
        must(kv_checkpoint_save(test_dir, model, &err), &err);
        assert_int_equal(test_dir_count(test_dir), 3);
        must(kv_checkpoint_load(test_dir, &views, &err), &err);
        must(kv_checkpoint_load_trainable(test_dir, &copies, &err), &err);
        assert_same_weights(model, views);
        assert_same_weights(model, copies);
        const kv_model_spec *again = &views->spec;
        assert_memory_equal(again->layers, spec.layers, 3 * sizeof spec.layers[0]);
        assert_true(again->norm_eps == 1e-5f && again->rope.theta == 500000.125 && again->bos_id == -1 &&
                    again->eos_id == 30 && again->context_length == 77);
        kv_model_free(model);
        kv_model_free(views);
        kv_model_free(copies);
    }
}

// Every type, every stored type, whole and layer-pruned: what is saved comes back bit by bit.
static void test_save_all_types(void **state) {
    (void)state;
    const char *const names[] = {
        "kvp_c/base", "hf/llama-tied", "hf/llama-untied-bf16", "hf/llama-sharded-f16", "hf/llama3-rope",
        "hf/qwen2",   "hf/qwen3"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int part = 0; part < 3; part++) {
            kv_model *model, *pruned = NULL, *again;
            int32_t kept[KV_MAX_LAYERS];
            must(kv_checkpoint_load(golden(names[i]), &model, &err), &err);
            if (part) {
                const int64_t n = kv_pruned_layers(model->spec.n_layers, part == 1 ? 0.5 : 0.25, kept);
                must(kv_model_prune(model, kept, n, &pruned, &err), &err);
                assert_int_equal(pruned->spec.n_layers, n);
            }
            kv_model *saved = part ? pruned : model;
            must(kv_checkpoint_save(test_dir, saved, &err), &err);
            assert_int_equal(test_dir_count(test_dir), 3);
            must(kv_checkpoint_load(test_dir, &again, &err), &err);
            assert_same_spec(&saved->spec, &again->spec);
            assert_same_weights(saved, again);
            kv_model_free(model);
            kv_model_free(pruned);
            kv_model_free(again);
        }
}

// A model's fingerprint does not depend on the type that its files have it as: predictors know their base and aux by it,
// also those of before new models were named so (data/checkpoint/hf_config.h).
static void test_same_model_of_two_types(void **state) {
    (void)state;
    static const char *const types[] = {"qwen3", "openelm"};
    char prints[2][17];
    kv_model *model;
    must(kv_checkpoint_load(golden("hf/scratch-qwen3"), &model, &err), &err);
    for (int i = 0; i < 2; i++) {
        kv_model *again;
        snprintf(model->spec.model_type, sizeof model->spec.model_type, "%s", types[i]);
        must(kv_checkpoint_save(test_dir, model, &err), &err);
        must(kv_checkpoint_load(test_dir, &again, &err), &err);
        assert_string_equal(again->spec.model_type, types[i]);
        assert_same_weights(model, again);
        kv_checkpoint_fingerprint(again, prints[i]);
        kv_model_free(again);
    }
    assert_string_equal(prints[0], prints[1]);
    kv_model_free(model);
}

// Frozen weights keep their 16-bit type, trainable and saved ones are widened; the fingerprint is that of the
// values.
static void test_half_precision(void **state) {
    (void)state;
    const kv_dtype types[] = {KV_BF16, KV_F16};
    for (int i = 0; i < 2; i++) {
        kv_model *model, *saved, *views, *copies;
        kv_model_spec spec = odd_spec();
        must(kv_model_create(&spec, types[i], true, &model, &err), &err);
        kv_model_init(model, 4);
        must(kv_checkpoint_save(test_dir, model, &err), &err);
        must(kv_checkpoint_load(test_dir, &saved, &err), &err);
        assert_int_equal(saved->layers[1].up.dtype, KV_F32);
        assert_same_weights(model, saved);
        narrow_weights(types[i]);
        must(kv_checkpoint_load(test_dir, &views, &err), &err);
        must(kv_checkpoint_load_trainable(test_dir, &copies, &err), &err);
        assert_int_equal(views->layers[1].up.dtype, types[i]);
        assert_int_equal(copies->layers[1].up.dtype, KV_F32);
        assert_same_weights(model, views);
        assert_same_weights(model, copies);
        kv_model_free(model);
        kv_model_free(saved);
        kv_model_free(views);
        kv_model_free(copies);
    }
}

static void test_fingerprint(void **state) {
    (void)state;
    kv_model *model;
    char before[17], after[17];
    must(kv_checkpoint_load_trainable(golden("kvp_c/aux"), &model, &err), &err);
    kv_checkpoint_fingerprint(model, before);
    assert_int_equal(strspn(before, "0123456789abcdef"), 16);
    float *last = (float *)model->norm.data + model->norm.cols - 1;
    *last += 1e-6f;
    kv_checkpoint_fingerprint(model, after);
    assert_string_not_equal(before, after);
    *last -= 1e-6f;
    model->spec.rope.theta *= 2;
    kv_checkpoint_fingerprint(model, after);
    assert_string_not_equal(before, after);
    kv_model_free(model);
}

static void test_saving_refuses(void **state) {
    (void)state;
    kv_model *model;
    kv_model_spec spec = odd_spec();
    spec.rope.factor = 8;
    spec.rope.low_freq_factor = 1;
    spec.rope.high_freq_factor = 4;
    spec.rope.original_context = 64;
    must(kv_model_create(&spec, KV_F32, true, &model, &err), &err);
    assert_refused(kv_checkpoint_save(test_dir, model, &err), KV_ERR_ARGUMENT, "cannot describe this model");
    strcpy(model->spec.model_type, "other");
    assert_refused(kv_checkpoint_save(test_dir, model, &err), KV_ERR_ARGUMENT, "model type 'other'");
    kv_model_free(model);
    assert_int_equal(test_dir_count(test_dir), 0);
}

static void test_full_disk(void **state) {
    (void)state;
    kv_model *model;
    must(kv_checkpoint_load(golden("kvp_c/base"), &model, &err), &err);
    const int64_t limits[] = {0, 100, 20000};
    for (int i = 0; i < 3; i++) {
        test_limit_file_size(limits[i]);
        kv_status status = kv_checkpoint_save(test_dir, model, &err);
        test_limit_file_size(-1);
        assert_refused(status, KV_ERR_IO, "File too large", i < 2 ? "config.json" : "model.safetensors");
        assert_int_equal(test_dir_count(test_dir), 0);
    }
    kv_model_free(model);
}

static void test_random_names(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t n_layers;
        kv_dtype dtype;
        uint64_t seed;
    } names[] = {{"random:openelm-1.1b", 28, KV_F32, 1},
                 {"random:openelm-270m@0", 16, KV_F32, 0},
                 {"random:openelm-3b:bf16@18446744073709551615", 36, KV_BF16, UINT64_MAX},
                 {"random:openelm-450m-lp-0.75:f16", 15, KV_F16, 1},
                 {"random:openelm-1.1b-lp-0.50", 14, KV_F32, 1},
                 {"random:openelm-1.1b-lp-0.5", 14, KV_F32, 1},
                 {"random:openelm-1.1b-lp-0.25:f32@12", 7, KV_F32, 12},
                 {"random:smollm2-135m", 30, KV_F32, 1},
                 {"random:llama-3.2-1b:bf16", 16, KV_BF16, 1},
                 {"random:qwen2.5-1.5b-lp-0.50:f16@3", 14, KV_F16, 3},
                 {"random:qwen3-4b-lp-0.75", 27, KV_F32, 1}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        kv_random_name name;
        kv_model_spec spec;
        must(kv_random_parse(names[i].name, &name, &err), &err);
        must(kv_checkpoint_spec(names[i].name, &spec, &err), &err);
        assert_memory_equal(&spec, &name.spec, sizeof spec);
        assert_int_equal(spec.n_layers, names[i].n_layers);
        assert_int_equal(name.dtype, names[i].dtype);
        assert_true(name.seed == names[i].seed);
    }
    static const struct {
        const char *name, *part;
    } unknown[] = {{"random:openelm-9t", "unknown shape"},
                   {"random:", "unknown shape"},
                   {"random:openelm-1.1b-lp-0.3", "unknown shape"},
                   {"random:openelm-1.1b-lp-", "unknown shape"},
                   {"random:openelm-1.1b-lp-0.50-lp-0.50", "unknown shape"},
                   {"random:openelm-1.1b:", "unknown type"},
                   {"random:openelm-1.1b:q4", "unknown type"},
                   {"random:openelm-1.1b:bf16:f32", "unknown type"},
                   {"random:openelm-1.1b@", "unknown seed"},
                   {"random:openelm-1.1b@-1", "unknown seed"},
                   {"random:openelm-1.1b@ 1", "unknown seed"},
                   {"random:openelm-1.1b@1:bf16", "unknown seed"},
                   {"random:openelm-1.1b@18446744073709551616", "unknown seed"},
                   {"random:openelm-1.1b-with-a-name-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on-"
                    "and-on-and-on-and-on-and-on",
                    "unknown shape"}};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        kv_model *model;
        kv_model_spec spec;
        assert_refused(kv_checkpoint_load(unknown[i].name, &model, &err), KV_ERR_ARGUMENT, unknown[i].part,
                       "random:openelm-270m, openelm-450m, openelm-1.1b, openelm-3b", "-lp-0.75");
        assert_null(model);
        assert_int_equal(kv_checkpoint_spec(unknown[i].name, &spec, &err), KV_ERR_ARGUMENT);
    }
}

// The same values whether frozen in 16 bits or widened for training.
static void test_random_model(void **state) {
    (void)state;
    kv_model *frozen, *trainable;
    must(kv_checkpoint_load("random:openelm-270m-lp-0.25:bf16@3", &frozen, &err), &err);
    must(kv_checkpoint_load_trainable("random:openelm-270m-lp-0.25:bf16@3", &trainable, &err), &err);
    assert_int_equal(frozen->layers[3].up.dtype, KV_BF16);
    assert_same_weights(frozen, trainable);
    assert_true(((float *)trainable->layers[3].up.data)[99] != 0);
    must(kv_model_set_trainable(trainable, true, &err), &err);
    kv_model_free(frozen);
    kv_model_free(trainable);
}

static void assert_same_predictor(kv_predictor *a, kv_predictor *b) {
    kv_param *in_a[200], *in_b[200];
    int64_t n = kv_predictor_params(a, in_a);
    assert_int_equal(kv_predictor_params(b, in_b), n);
    for (int64_t i = 0; i < n; i++)
        assert_memory_equal(in_a[i]->data, in_b[i]->data, (size_t)kv_param_size(in_a[i]) * sizeof(float));
    assert_true(kv_predictor_spec_equal(&a->spec, &b->spec));
}

static void test_random_predictor(void **state) {
    (void)state;
    kv_model_spec base, pruned, separate;
    kv_predictor *a, *b;
    must(kv_checkpoint_spec("random:openelm-1.1b", &base, &err), &err);
    must(kv_checkpoint_spec("random:openelm-1.1b-lp-0.25", &pruned, &err), &err);
    must(kv_checkpoint_spec("random:openelm-270m", &separate, &err), &err);
    // Whatever base: it was made for none.
    must(kv_predictor_load("random", &base, &separate, &(kv_fingerprints){"0123456789abcdef", NULL}, NULL, &a,
                           &err),
         &err);
    assert_int_equal(test_layer_read(a, 27), 15);
    assert_int_equal(test_layer_read(a, 3), 1); // the first 12 aux layers serve two base layers each
    must(kv_predictor_load("random@1", &base, &separate, NULL, NULL, &b, &err), &err);
    const size_t bytes = (size_t)kv_param_size(test_weight(a, KV_KEYS, 5)) * sizeof(float);
    assert_memory_equal(test_weight(a, KV_KEYS, 5)->data, test_weight(b, KV_KEYS, 5)->data, bytes);
    kv_predictor_free(b);
    must(kv_predictor_load("random@2", &base, &separate, NULL, NULL, &b, &err), &err);
    assert_memory_not_equal(test_weight(a, KV_KEYS, 5)->data, test_weight(b, KV_KEYS, 5)->data, bytes);
    kv_predictor_free(a);
    kv_predictor_free(b);
    must(kv_predictor_load("random", &base, &pruned, NULL, NULL, &a, &err), &err);
    for (int i = 0; i < 28; i++) assert_int_equal(test_layer_read(a, i), i / 4);
    kv_predictor_free(a);
    int32_t mapping[28] = {0};
    mapping[9] = 6;
    must(kv_predictor_load("random", &base, &pruned, NULL, mapping, &a, &err), &err);
    for (int i = 0; i < 28; i++) assert_int_equal(test_layer_read(a, i), mapping[i]);
    kv_predictor_free(a);
    must(kv_predictor_load("random:rank=7:aux_layers=2@5", &base, &separate, NULL, NULL, &a, &err), &err);
    assert_true(test_is_kind(a, (test_kind){7, 2}));
    must(kv_predictor_load("random:aux_layers=2:rank=7@5", &base, &separate, NULL, NULL, &b, &err), &err);
    assert_same_predictor(a, b);
    kv_predictor_free(a);
    kv_predictor_free(b);
    static const char *const wrong[] = {"random:",
                                        "random:rank",
                                        "random:rank=",
                                        "random:rank=-1",
                                        "random:rank=4x",
                                        "random:aux_layers=999",
                                        "random:openelm-270m",
                                        "random:rank=99999999999",
                                        "random@",
                                        "random:rank=4@",
                                        "random:heads=few",
                                        "random:sources=",
                                        "random:sources=q",
                                        "random:sources=h3",
                                        "random:exact_layers=2",
                                        "random:prefix=2:sources=h",
                                        "random:prefix=2:heads=matched"};
    must(kv_predictor_check("random:rank=4", &base, &pruned, NULL, &err), &err);
    for (size_t i = 1; i < sizeof wrong / sizeof *wrong; i++) {
        assert_refused(kv_predictor_load(wrong[i], &base, &pruned, NULL, NULL, &a, &err), KV_ERR_ARGUMENT,
                       wrong[i], "unknown predictor");
        assert_refused(kv_predictor_check(wrong[i], &base, &pruned, NULL, &err), KV_ERR_ARGUMENT, wrong[i]);
    }
    assert_refused(kv_predictor_check("random:rank=999", &base, &pruned, NULL, &err), KV_ERR_ARGUMENT,
                   "random:rank=999: the keys of base layer 0: rank 999, expected 1 to ");
    assert_refused(kv_predictor_load("random@x", &base, &pruned, NULL, NULL, &a, &err), KV_ERR_ARGUMENT,
                   "random@x: unknown predictor, expected random, perhaps with :rank=N");
    assert_null(a);
    assert_refused(kv_predictor_load("randomly", &base, &pruned, NULL, NULL, &a, &err), KV_ERR_IO,
                   "randomly: No such file");
}

// What the parts of a name make, beside what the rule for the pair makes: base layer 2 of 28 reads aux layer 1 of 16.
static void test_random_predictor_parts(void **state) {
    (void)state;
    static const struct {
        const char *name, *says;
    } cases[] = {{"random:aux_layers=4",
                  "base layers 2 to 3: keys linear from k1+k2+k0+k3, values linear from v1+v2+v0+v3;"},
                 {"random:sources=h+own_h",
                  "base layers 2 to 3: keys linear from h1+own_h, values linear from h1+own_h;"},
                 {"random:sources=own_h+h:aux_layers=2:rank=8",
                  "keys low_rank (rank 8) from h1+h2+own_h, values low_rank (rank 8) from h1+h2+own_h;"},
                 {"random:exact_layers=1", "base layer 0: keys exact from own_k, values exact from own_v;"},
                 {"random:exact_layers=1:sources=h@3", "values linear from h1;"},
                 {"random:heads=matched", "matched"}};
    kv_model_spec base, aux;
    must(kv_checkpoint_spec("random:qwen3-1.7b", &base, &err), &err);
    must(kv_checkpoint_spec("random:qwen3-0.6b", &aux, &err), &err);
    aux.n_layers = 16; // more than one base layer for some
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_predictor *shape;
        char text[8192];
        must(kv_predictor_shape(cases[i].name, &base, &aux, &shape, &err), &err);
        kv_predictor_spec_describe(&shape->spec, text, sizeof text);
        if (!strstr(text, cases[i].says))
            fail_msg("%s: expected %s\nfound    %s", cases[i].name, cases[i].says, text);
        kv_predictor_free(shape);
    }
}

// ---- Predictors ----------------------------------------------------------------------------------------

static const int32_t golden_mapping[5] = {0, 0, 1, 1, 2};

static void golden_specs(kv_model_spec *base, kv_model_spec *aux) {
    must(kv_checkpoint_spec(golden("kvp_c/base"), base, &err), &err);
    must(kv_checkpoint_spec(golden("kvp_c/aux"), aux, &err), &err);
}

static void test_predictor_round_trip(void **state) {
    (void)state;
    kv_model_spec base, aux;
    kv_predictor *first, *again;
    golden_specs(&base, &aux);
    must(kv_predictor_load(golden("kvp_c"), &base, &aux, NULL, golden_mapping, &first, &err), &err);
    assert_true(((float *)test_weight(first, KV_VALUES, 4)->data)[3] != 0);
    must(kv_predictor_save(test_dir, first, &(kv_fingerprints){"0123456789abcdef", NULL}, &err), &err);
    assert_int_equal(test_dir_count(test_dir), 2);
    must(kv_predictor_load(test_dir, &base, &aux, &(kv_fingerprints){"0123456789abcdef", NULL}, NULL, &again,
                           &err),
         &err);
    assert_same_predictor(first, again);
    kv_predictor_free(again);
    must(kv_predictor_load(test_dir, &base, &aux, NULL, golden_mapping, &again, &err), &err);
    kv_predictor_free(again);
    // Without a fingerprint there is nothing to check.
    must(kv_predictor_save(test_dir, first, NULL, &err), &err);
    must(kv_predictor_load(test_dir, &base, &aux, &(kv_fingerprints){"0123456789abcdef", NULL}, NULL, &again,
                           &err),
         &err);
    kv_predictor_free(again);
    kv_predictor_free(first);
}

static void test_predictors_of_other_kinds(void **state) {
    (void)state;
    static const test_kind kinds[] = {{1, 1}, {3, 1}, {0, 2}, {2, 2}};
    kv_model_spec base, aux;
    kv_predictor *first, *again;
    golden_specs(&base, &aux);
    for (int i = 0; i < 4; i++) {
        must(test_create(&base, &aux, golden_mapping, kinds[i], &first, &err), &err);
        kv_predictor_init(first, NULL, 8, NULL);
        must(kv_predictor_save(test_dir, first, &(kv_fingerprints){"0123456789abcdef", NULL}, &err), &err);
        must(kv_predictor_check(test_dir, &base, &aux, golden_mapping, &err), &err);
        must(kv_predictor_load(test_dir, &base, &aux, &(kv_fingerprints){"0123456789abcdef", NULL}, NULL,
                               &again, &err),
             &err);
        assert_same_predictor(first, again);
        kv_predictor_free(again);
        kv_predictor_free(first);
    }
    // A description that says something else than the weights, or than the pair can have.
    static const struct {
        const char *key, *value;
        kv_status status;
        const char *part;
    } cases[] = {
        {"rank", "3", KV_ERR_MISMATCH, "'key.0.down.weight' has shape [2, "},
        {"rank", NULL, KV_ERR_MISMATCH, "'key.0.weight' is missing"},
        {"rank", "0", KV_ERR_MISMATCH, "'key.0.weight' is missing"},
        {"rank", "-2", KV_ERR_FORMAT, "'rank' is -2"},
        {"rank", "\"two\"", KV_ERR_FORMAT, "'rank' is \"two\""},
        {"rank", "1000000000", KV_ERR_ARGUMENT,
         "predictor.json: the keys of base layer 0: rank 1000000000, expected 1 to"},
        {"aux_layers", NULL, KV_ERR_MISMATCH, "'key.0.down.weight' has shape [2, "},
        {"aux_layers", "3", KV_ERR_FORMAT, "'aux_layers' is 3, expected a whole number from 1 to 2"},
        {"aux_layers", "1.5", KV_ERR_FORMAT, "'aux_layers' is 1.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must(test_create(&base, &aux, golden_mapping, kinds[3], &first, &err), &err);
        must(kv_predictor_save(test_dir, first, NULL, &err), &err);
        kv_predictor_free(first);
        set_key("predictor.json", cases[i].key, cases[i].value);
        assert_refused(kv_predictor_load(test_dir, &base, &aux, NULL, NULL, &again, &err), cases[i].status,
                       cases[i].part);
        assert_null(again);
        assert_refused(kv_predictor_check(test_dir, &base, &aux, NULL, &err), cases[i].status, cases[i].part);
    }
    must(test_create(&base, &aux, golden_mapping, kinds[0], &first, &err), &err);
    must(kv_predictor_save(test_dir, first, NULL, &err), &err);
    kv_predictor_free(first);
    change_tensor("predictor.safetensors", "value.1.down.weight", FLATTEN, NULL); // of one row
    assert_refused(kv_predictor_load(test_dir, &base, &aux, NULL, NULL, &again, &err), KV_ERR_MISMATCH,
                   "'value.1.down.weight' has shape [8], expected [1, 8]");
    assert_refused(kv_predictor_check(test_dir, &base, &aux, NULL, &err), KV_ERR_MISMATCH,
                   "'value.1.down.weight' has shape [8], expected [1, 8]");
}

static void test_predictor_of_another_pair(void **state) {
    (void)state;
    kv_model_spec base, aux;
    kv_predictor *predictor, *none;
    golden_specs(&base, &aux);
    must(kv_predictor_load(golden("kvp_c"), &base, &aux, NULL, golden_mapping, &predictor, &err), &err);
    // The aux is told apart as the base is, where it was known.
    const kv_fingerprints pair = {"0123456789abcdef", "00000000000000a0"},
                          other = {pair.base, "00000000000000a1"};
    must(kv_predictor_save(test_dir, predictor, &pair, &err), &err);
    assert_refused(
        kv_predictor_load(test_dir, &base, &aux, &other, NULL, &none, &err), KV_ERR_MISMATCH,
        "predictor.json: made for an auxiliary model with fingerprint 00000000000000a0, this one has "
        "00000000000000a1");
    must(kv_predictor_load(test_dir, &base, &aux, &pair, NULL, &none, &err), &err);
    kv_predictor_free(none);
    must(kv_predictor_save(test_dir, predictor, &(kv_fingerprints){pair.base, NULL}, &err), &err);
    must(kv_predictor_load(test_dir, &base, &aux, &other, NULL, &none, &err), &err);
    kv_predictor_free(none);
    must(kv_predictor_save(test_dir, predictor, &(kv_fingerprints){"0123456789abcdef", NULL}, &err), &err);
    kv_predictor_free(predictor);
    assert_refused(kv_predictor_load(test_dir, &base, &aux, &(kv_fingerprints){"fedcba9876543210", NULL},
                                     NULL, &none, &err),
                   KV_ERR_MISMATCH, "predictor.json", "0123456789abcdef", "fedcba9876543210");
    assert_null(none);
    assert_refused(kv_predictor_load(test_dir, &aux, &aux, NULL, NULL, &none, &err), KV_ERR_MISMATCH,
                   "a base model of 5 layers, this one has 3");
    assert_refused(kv_predictor_load(test_dir, &base, &base, NULL, NULL, &none, &err), KV_ERR_MISMATCH,
                   "an auxiliary model of 3 layers, this one has 5");
    assert_refused(
        kv_predictor_load(test_dir, &base, &aux, NULL, (const int32_t[5]){0, 1, 1, 1, 2}, &none, &err),
        KV_ERR_MISMATCH, "base layer 1 reads auxiliary layer 0", "has 1");
    aux.layers[2].n_kv_heads = 1;
    assert_refused(kv_predictor_load(test_dir, &base, &aux, NULL, NULL, &none, &err), KV_ERR_MISMATCH,
                   "'key.4.weight' has shape [32, 16], expected [32, 8]");
}

static void test_damaged_predictor(void **state) {
    (void)state;
    static const struct {
        const char *key, *value, *part;
    } cases[] = {
        {"format", "\"other\"", "'format' is \"other\""},
        {"version", "3", "of version 3, expected versions 1 to 2"},
        {"mapping", "[0,0,1]", "'mapping' has 3 entries, expected a list of 5"},
        {"mapping", "[0,0,1,1,3]", "'mapping'[4] is 3, expected a whole number from 0 to 2"},
        {"mapping", NULL, "'mapping' is missing"},
        {"base_fingerprint", "5", "'base_fingerprint' is 5"},
        {"base_fingerprint", "\"0123456789ab\\ndef\"", "expected 16 hex digits"},
    };
    kv_model_spec base, aux;
    kv_predictor *predictor, *none;
    golden_specs(&base, &aux);
    must(kv_predictor_load(golden("kvp_c"), &base, &aux, NULL, golden_mapping, &predictor, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        must(kv_predictor_save(test_dir, predictor, &(kv_fingerprints){"0123456789abcdef", NULL}, &err),
             &err);
        set_key("predictor.json", cases[i].key, cases[i].value);
        assert_refused(kv_predictor_load(test_dir, &base, &aux, &(kv_fingerprints){"0123456789abcdef", NULL},
                                         NULL, &none, &err),
                       KV_ERR_FORMAT, "predictor.json", cases[i].part);
    }
    must(kv_predictor_save(test_dir, predictor, NULL, &err), &err);
    change_tensor("predictor.safetensors", "value.2.bias", LEAVE_OUT, NULL);
    assert_refused(kv_predictor_load(test_dir, &base, &aux, NULL, NULL, &none, &err), KV_ERR_MISMATCH,
                   "'value.2.bias' is missing", "[32]");
    must(kv_predictor_save(test_dir, predictor, NULL, &err), &err);
    change_tensor("predictor.safetensors", "value.2.bias", ADD_COPY, "value.5.bias");
    assert_refused(kv_predictor_load(test_dir, &base, &aux, NULL, NULL, &none, &err), KV_ERR_MISMATCH,
                   "surplus tensor 'value.5.bias'");
    assert_refused(kv_predictor_check(test_dir, &base, &aux, NULL, &err), KV_ERR_MISMATCH,
                   "surplus tensor 'value.5.bias'");
    kv_predictor_free(predictor);
    assert_refused(kv_predictor_load(golden("kvp_c"), &base, &aux, NULL, NULL, &none, &err), KV_ERR_IO,
                   "predictor.json", "No such file");
    assert_refused(
        kv_predictor_load(test_path(test_dir, "no"), &base, &aux, NULL, golden_mapping, &none, &err),
        KV_ERR_IO, "predictor.safetensors", "No such file");
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_golden_weights_are_views),
        TEST(test_all_goldens_load),
        TEST(test_missing_files),
        TEST(test_wrong_tensors),
        TEST(test_wrong_tensor_type),
        TEST(test_config_disagrees),
        TEST(test_save_and_load),
        TEST(test_save_all_types),
        TEST(test_half_precision),
        TEST(test_fingerprint),
        TEST(test_same_model_of_two_types),
        TEST(test_saving_refuses),
        TEST(test_full_disk),
        TEST(test_random_names),
        TEST(test_random_model),
        TEST(test_random_predictor),
        TEST(test_random_predictor_parts),
        TEST(test_predictor_round_trip),
        TEST(test_predictors_of_other_kinds),
        TEST(test_predictor_of_another_pair),
        TEST(test_damaged_predictor),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
