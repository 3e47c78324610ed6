// The files of a checkpoint: one or several, mapped where frozen, given back where copied.
#include "data/checkpoint/weights_set.h"
#include "data/file/content.h"
#include "tests/support/checkpoint.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char single[] = "model.safetensors", shard_index[] = "model.safetensors.index.json";
static const char sharded[] = "hf/llama-sharded-f16";

static kv_model *load(const char *dir) {
    kv_model *model;
    must(kv_checkpoint_load(dir, &model, &err), &err);
    return model;
}

// ---- Splitting and joining -----------------------------------------------------------------------------

static kv_st_tensor as_is(const kv_st_entry *entry) {
    kv_st_tensor tensor = {.name = entry->name, .dtype = entry->dtype, .n_dims = entry->n_dims};
    memcpy(tensor.shape, entry->shape, (size_t)entry->n_dims * sizeof *entry->shape);
    tensor.part[0] = entry->data;
    tensor.part_size[0] = entry->size;
    return tensor;
}

// model.safetensors of test_dir becomes n files, tensor by tensor in turn, and their index.
static void split(int n) {
    kv_safetensors *file;
    must(kv_safetensors_open(test_path(test_dir, single), &file, &err), &err);
    const int64_t count = kv_safetensors_count(file);
    json_t *map = json_object();
    for (int s = 0; s < n; s++) {
        char name[64];
        kv_st_tensor *tensors = test_alloc(count, sizeof *tensors);
        int64_t taken = 0;
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, n);
        for (int64_t i = s; i < count; i += n) {
            tensors[taken++] = as_is(kv_safetensors_at(file, i));
            json_object_set_new(map, kv_safetensors_at(file, i)->name, json_string(name));
        }
        must(kv_safetensors_write(test_path(test_dir, name), tensors, taken, NULL, 0, &err), &err);
        free(tensors);
    }
    json_t *root = json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 5, "weight_map", map);
    assert_int_equal(json_dump_file(root, test_path(test_dir, shard_index), 0), 0);
    json_decref(root);
    kv_safetensors_close(file);
    assert_int_equal(unlink(test_path(test_dir, single)), 0);
}

static void test_shards_change_nothing(void **state) {
    (void)state;
    const char *const models[] = {
        "hf/llama-tied", "hf/llama-untied-bf16", "hf/llama3-rope", "hf/qwen2", "hf/qwen3", "kvp_c/base"};
    const int shards[] = {1, 2, 7};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (int s = 0; s < 3; s++) {
            kv_model *whole = load(golden(models[m])), *copy;
            copy_golden(models[m]);
            split(shards[s]);
            kv_model *views = load(test_dir);
            must(kv_checkpoint_load_trainable(test_dir, &copy, &err), &err);
            assert_same_weights(whole, views);
            assert_same_weights(whole, copy);
            kv_model_free(whole);
            kv_model_free(views);
            kv_model_free(copy);
        }
}

// With both there the single file counts, whatever the index says.
static void test_single_file_first(void **state) {
    (void)state;
    copy_golden("hf/qwen2");
    write_text(shard_index, "nonsense");
    kv_model_free(load(test_dir));
}

static void test_no_safetensors(void **state) {
    (void)state;
    kv_model *model;
    copy_golden("hf/qwen2");
    assert_int_equal(unlink(test_path(test_dir, single)), 0);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_IO, single, "No such file");
    write_text("pytorch_model.bin", "PK");
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, test_dir,
                   "only .bin weights here, expected model.safetensors");
    assert_int_equal(unlink(test_path(test_dir, "pytorch_model.bin")), 0);
    write_text("pytorch_model.bin.index.json", "{}");
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, "only .bin weights");
}

// ---- An index that lies --------------------------------------------------------------------------------

static const char norm[] = "model.norm.weight", down[] = "model.layers.1.mlp.down_proj.weight";

// Sets a tensor's place in the index, or removes it.
static void set_place(const char *tensor, json_t *place) {
    json_t *root = json_load_file(test_path(test_dir, shard_index), 0, NULL);
    json_t *map = json_object_get(root, "weight_map");
    if (place)
        json_object_set_new(map, tensor, place);
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

static void test_bad_places(void **state) {
    (void)state;
    const char *const places[] = {"../model.safetensors",
                                  "/etc/passwd.safetensors",
                                  "a/b.safetensors",
                                  "",
                                  ".",
                                  "..",
                                  ".safetensors",
                                  "model.bin",
                                  "a\nb.safetensors"};
    kv_model *model;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char place[64];
        copy_golden(sharded);
        change_tensor(place_of(down, place), down, LEAVE_OUT, NULL);
        set_place(down, json_string(places[i]));
        assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, shard_index, down,
                       "expected the name of a .safetensors file in the same directory");
    }
    set_place(down, json_integer(3));
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, down,
                   "is 3, expected the name");
    const char *const maps[] = {"[]", "{}", "3", NULL};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        copy_golden(sharded);
        set_key(shard_index, "weight_map", maps[i]);
        assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, shard_index,
                       "'weight_map'");
    }
    write_text(shard_index, "{\n{");
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, "index.json:2: bad JSON");
}

static void test_index_and_files_disagree(void **state) {
    (void)state;
    kv_model *model;
    char place[64], other[64];
    copy_golden(sharded);
    assert_int_equal(unlink(test_path(test_dir, place_of(down, place))), 0);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_IO, shard_index, place, "No such file");
    copy_golden(sharded);
    assert_string_not_equal(place_of(norm, other), place);
    change_tensor(place, down, LEAVE_OUT, NULL);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH, shard_index, place, down,
                   "is missing, expected in this file");
    // In two files, and the index tells of neither.
    copy_golden(sharded);
    change_tensor(other, norm, ADD_COPY, down);
    set_place(down, NULL);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH, shard_index, down, other,
                   place, "expected it in one file");
    copy_golden(sharded);
    change_tensor(place, down, LEAVE_OUT, NULL);
    set_place(down, NULL);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH, shard_index, down,
                   "is missing, expected with shape [64, 160] by config.json");
    copy_golden(sharded);
    change_tensor(place, down, FLATTEN, NULL);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_MISMATCH, place, down,
                   "has shape [10240]");
    assert_int_equal(truncate(test_path(test_dir, place), 9000), 0);
    assert_refused(kv_checkpoint_load(test_dir, &model, &err), KV_ERR_FORMAT, shard_index, place, "truncated",
                   "tensor 'model.");
    assert_null(model);
}

// ---- Memory --------------------------------------------------------------------------------------------

// Whether an address lies in a mapping of a file.
static bool is_mapped_from(const void *address, const char *path) {
    char line[4096], real[4096];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    assert_non_null(realpath(path, real));
    while (!found && fgets(line, sizeof line, maps)) {
        unsigned long begin, end;
        if (sscanf(line, "%lx-%lx", &begin, &end) != 2) continue;
        found = (uintptr_t)address >= begin && (uintptr_t)address < end && strstr(line, real);
    }
    fclose(maps);
    return found;
}

// Nothing of a frozen model is copied, whatever its files and types.
static void test_frozen_weights_are_views(void **state) {
    (void)state;
    const struct {
        const char *dir, *embed, *last;
    } models[] = {
        {"kvp_c/base", single, single},
        {"hf/llama-untied-bf16", single, single},
        {"hf/qwen2", single, single},
        {"hf/llama-sharded-f16", "model-00001-of-00004.safetensors", "model-00004-of-00004.safetensors"}};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        kv_model *model = load(golden(models[m].dir));
        kv_param *params[1024];
        const int64_t n = kv_model_params(model, params);
        assert_true(is_mapped_from(model->embed.data, test_path(golden(models[m].dir), models[m].embed)));
        assert_true(is_mapped_from(model->norm.data, test_path(golden(models[m].dir), models[m].last)));
        char dir[4096];
        snprintf(dir, sizeof dir, "%s", golden(models[m].dir));
        for (int64_t i = 0; i < n; i++) assert_true(is_mapped_from(params[i]->data, dir));
        kv_model_free(model);
    }
}

// The format allows data at any byte: such tensors are copied, all others are not, and nothing else changes.
static void test_odd_addresses(void **state) {
    (void)state;
    const char *const models[] = {"hf/qwen2", "hf/llama-untied-bf16"};
    for (int m = 0; m < 2; m++)
        for (size_t shift = 1; shift < 8; shift++) {
            kv_model *whole = load(golden(models[m]));
            char *bytes;
            size_t size;
            copy_golden(models[m]);
            must(kv_read_file(test_path(test_dir, single), 1 << 24, &bytes, &size, &err), &err);
            char *moved = test_alloc((int64_t)(size + shift), 1);
            uint64_t header;
            memcpy(&header, bytes, 8);
            memcpy(moved, bytes, 8 + header);
            memset(moved + 8 + header, ' ', shift);
            memcpy(moved + 8 + header + shift, bytes + 8 + header, size - 8 - header);
            header += shift;
            memcpy(moved, &header, 8);
            write_bytes(single, moved, size + shift);
            kv_model *views = load(test_dir);
            assert_same_weights(whole, views);
            kv_param *params[1024];
            for (int64_t i = 0, n = kv_model_params(views, params); i < n; i++)
                assert_int_equal((uintptr_t)params[i]->data % kv_dtype_size(params[i]->dtype), 0);
            assert_int_equal(is_mapped_from(views->embed.data, test_path(test_dir, single)),
                             shift % kv_dtype_size(views->embed.dtype) == 0);
            kv_model_free(views);
            kv_model_free(whole);
            free(bytes);
            free(moved);
        }
}

static double status_mb(const char *key) {
    char line[256];
    double kb = -1;
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    while (fgets(line, sizeof line, status))
        if (strncmp(line, key, strlen(key)) == 0) sscanf(line + strlen(key), ": %lf", &kb);
    fclose(status);
    return kb / 1024;
}

// A trainable model is a copy, but at no time are all of the file and all of the copy in memory. (Writing 5
// makes the kernel forget the largest use so far.)
static void test_copying_gives_back(void **state) {
    (void)state;
    kv_model_spec spec = {.model_type = "llama",
                          .vocab_size = 100,
                          .model_dim = 256,
                          .head_dim = 64,
                          .n_layers = 16,
                          .context_length = 64,
                          .norm_eps = 1e-5f,
                          .rope = {.theta = 10000},
                          .bos_id = -1,
                          .eos_id = -1};
    for (int64_t i = 0; i < spec.n_layers; i++) spec.layers[i] = (kv_layer_spec){4, 4, 1024};
    kv_model *model;
    must(kv_model_create(&spec, KV_F32, true, &model, &err), &err);
    must(kv_checkpoint_save(test_dir, model, &err), &err);
    kv_model_free(model);
    struct stat info;
    assert_int_equal(stat(test_path(test_dir, single), &info), 0);
    const double size = (double)info.st_size / 1048576, before = status_mb("VmRSS");
    FILE *forget = fopen("/proc/self/clear_refs", "w");
    if (!forget || fputs("5", forget) < 0 || fclose(forget) != 0) skip();
    must(kv_checkpoint_load_trainable(test_dir, &model, &err), &err);
    const double most = status_mb("VmHWM") - before;
    if (most > 1.3 * size) fail_msg("loading %.0f MB took %.0f MB", size, most);
    kv_model_free(model);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_shards_change_nothing),
        TEST(test_single_file_first),
        TEST(test_no_safetensors),
        TEST(test_bad_places),
        TEST(test_index_and_files_disagree),
        TEST(test_frozen_weights_are_views),
        TEST(test_odd_addresses),
        TEST(test_copying_gives_back),
    };
    return cmocka_run_group_tests_name("weights_set", tests, NULL, NULL);
}
