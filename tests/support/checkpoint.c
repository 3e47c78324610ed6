#include "tests/support/checkpoint.h"

#include "data/file/content.h"

#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *golden(const char *name) {
    return test_path(test_path(getenv("KV_TEST_DIR"), "golden"), name);
}

void must(kv_status status, const kv_error *why) {
    if (status) fail_msg("%s", why->message);
}

kv_error err;

void check_refusal(kv_status got, kv_status expected, const char *const *parts) {
    if (got == KV_OK) fail_msg("accepted, expected a message with '%s'", parts[0]);
    for (; *parts; parts++)
        if (!strstr(err.message, *parts)) fail_msg("'%s' not in '%s'", *parts, err.message);
    assert_int_equal(got, expected);
    assert_null(strchr(err.message, '\n'));
}

// ---- Changing checkpoints ------------------------------------------------------------------------------

void copy_file(const char *from, const char *to) {
    char *content;
    size_t size;
    must(kv_read_file(from, 1 << 24, &content, &size, &err), &err);
    must(kv_write_file(to, content, size, &err), &err);
    free(content);
}

void copy_golden(const char *name) {
    char dir[PATH_MAX]; // golden's buffer does not last for all files
    snprintf(dir, sizeof dir, "%s", golden(name));
    DIR *list = opendir(dir);
    assert_non_null(list);
    for (struct dirent *entry; (entry = readdir(list));)
        if (entry->d_name[0] != '.')
            copy_file(test_path(dir, entry->d_name), test_path(test_dir, entry->d_name));
    closedir(list);
}

void write_bytes(const char *name, const void *bytes, size_t size) {
    // Anew: some file systems wait for the disk when a file is cut and written again.
    remove(test_path(test_dir, name));
    FILE *file = fopen(test_path(test_dir, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void write_text(const char *name, const char *text) {
    write_bytes(name, text, strlen(text));
}

void set_key(const char *name, const char *key, const char *value) {
    json_t *root = json_load_file(test_path(test_dir, name), 0, NULL);
    assert_non_null(root);
    if (value)
        assert_int_equal(json_object_set_new(root, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    else
        assert_int_equal(json_object_del(root, key), 0);
    char *text = json_dumps(root, 0);
    assert_non_null(text);
    write_text(name, text);
    free(text);
    json_decref(root);
}

void change_tensor(const char *file_name, const char *name, enum change change, const char *copy) {
    kv_safetensors *file;
    static const float zeros[1024];
    must(kv_safetensors_open(test_path(test_dir, file_name), &file, &err), &err);
    int64_t count = kv_safetensors_count(file), n = 0;
    kv_st_tensor *tensors = test_alloc(count + 1, sizeof *tensors);
    for (int64_t i = 0; i < count; i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        kv_st_tensor *tensor = &tensors[n++];
        *tensor = (kv_st_tensor){.name = entry->name, .dtype = entry->dtype, .n_dims = entry->n_dims};
        memcpy(tensor->shape, entry->shape, (size_t)entry->n_dims * sizeof *entry->shape);
        tensor->part[0] = entry->data;
        tensor->part_size[0] = entry->size;
        if (strcmp(entry->name, name) != 0) continue;
        if (change == LEAVE_OUT) n--;
        if (change == ADD_COPY) {
            tensors[n] = *tensor;
            tensors[n++].name = copy;
        }
        if (change == ADD_ROW) {
            tensor->shape[0]++;
            tensor->part[1] = zeros;
            tensor->part_size[1] = entry->size / (size_t)entry->shape[0];
        }
        if (change == FLATTEN) {
            tensor->shape[0] *= tensor->shape[1];
            tensor->n_dims = 1;
        }
    }
    must(kv_safetensors_write(test_path(test_dir, file_name), tensors, n, NULL, 0, &err), &err);
    free(tensors);
    kv_safetensors_close(file);
}

void narrow_weights(kv_dtype dtype) {
    kv_safetensors *file;
    must(kv_safetensors_open(test_path(test_dir, "model.safetensors"), &file, &err), &err);
    int64_t n = kv_safetensors_count(file);
    kv_st_tensor *tensors = test_alloc(n, sizeof *tensors);
    void **narrow = test_alloc(n, sizeof *narrow);
    for (int64_t i = 0; i < n; i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        int64_t size = (int64_t)entry->size / 4;
        narrow[i] = test_alloc(size, 2);
        kv_narrow(narrow[i], entry->data, dtype, size);
        tensors[i] = (kv_st_tensor){.name = entry->name, .dtype = dtype, .n_dims = entry->n_dims};
        memcpy(tensors[i].shape, entry->shape, (size_t)entry->n_dims * sizeof *entry->shape);
        tensors[i].part[0] = narrow[i];
        tensors[i].part_size[0] = entry->size / 2;
    }
    must(kv_safetensors_write(test_path(test_dir, "model.safetensors"), tensors, n, NULL, 0, &err), &err);
    for (int64_t i = 0; i < n; i++) free(narrow[i]);
    free(narrow);
    free(tensors);
    kv_safetensors_close(file);
}

// ---- Comparing models ----------------------------------------------------------------------------------

void assert_same_weights(kv_model *a, kv_model *b) {
    kv_param *in_a[1024], *in_b[1024];
    int64_t n = kv_model_params(a, in_a);
    assert_int_equal(kv_model_params(b, in_b), n);
    for (int64_t i = 0; i < n; i++) {
        int64_t size = kv_param_size(in_a[i]);
        float *wide_a = test_alloc(size, sizeof(float)), *wide_b = test_alloc(size, sizeof(float));
        assert_string_equal(in_a[i]->name, in_b[i]->name);
        assert_int_equal(kv_param_size(in_b[i]), size);
        kv_widen(wide_a, in_a[i]->data, in_a[i]->dtype, size);
        kv_widen(wide_b, in_b[i]->data, in_b[i]->dtype, size);
        assert_memory_equal(wide_a, wide_b, (size_t)size * sizeof(float));
        free(wide_a);
        free(wide_b);
    }
    char print_a[17], print_b[17];
    kv_checkpoint_fingerprint(a, print_a);
    kv_checkpoint_fingerprint(b, print_b);
    assert_string_equal(print_a, print_b);
}

void assert_same_spec(const kv_model_spec *a, const kv_model_spec *b) {
    assert_string_equal(a->model_type, b->model_type);
    assert_int_equal(a->vocab_size, b->vocab_size);
    assert_int_equal(a->model_dim, b->model_dim);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->context_length, b->context_length);
    assert_memory_equal(a->layers, b->layers, sizeof a->layers);
    assert_int_equal(a->qk_norm, b->qk_norm);
    assert_int_equal(a->qkv_bias, b->qkv_bias);
    assert_int_equal(a->tied_head, b->tied_head);
    assert_true(a->norm_eps == b->norm_eps);
    assert_memory_equal(&a->rope, &b->rope, sizeof a->rope);
    assert_int_equal(a->bos_id, b->bos_id);
    assert_int_equal(a->eos_id, b->eos_id);
    assert_int_equal(a->n_stop_ids, b->n_stop_ids);
    assert_memory_equal(a->stop_ids, b->stop_ids, sizeof a->stop_ids);
}
