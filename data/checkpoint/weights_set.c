#include "data/checkpoint/weights_set.h"

#include "core/text.h"
#include "data/file/json.h"
#include "data/file/path.h"

#include <stdlib.h>
#include <string.h>

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

struct kv_weights_set {
    char path[PATH_MAX]; // of the file or the index
    kv_safetensors **files;
    int64_t n_files;
};

void kv_weights_set_close(kv_weights_set *set) {
    if (!set) return;
    for (int64_t i = 0; i < set->n_files; i++) kv_safetensors_close(set->files[i]);
    free(set->files);
    free(set);
}

const char *kv_weights_set_path(const kv_weights_set *set) {
    return set->path;
}

bool kv_weights_set_find(const kv_weights_set *set, const char *name, kv_weights_entry *found) {
    for (int64_t i = 0; i < set->n_files; i++) {
        *found = (kv_weights_entry){set->files[i], kv_safetensors_find(set->files[i], name)};
        if (found->entry) return true;
    }
    return false;
}

int64_t kv_weights_set_count(const kv_weights_set *set) {
    int64_t n = 0;
    for (int64_t i = 0; i < set->n_files; i++) n += kv_safetensors_count(set->files[i]);
    return n;
}

kv_weights_entry kv_weights_set_at(const kv_weights_set *set, int64_t i) {
    int64_t f = 0;
    while (i >= kv_safetensors_count(set->files[f])) i -= kv_safetensors_count(set->files[f++]);
    return (kv_weights_entry){set->files[f], kv_safetensors_at(set->files[f], i)};
}

static kv_status create(const char *dir, const char *name, int64_t most_files, kv_weights_set **set,
                        kv_error *err) {
    *set = calloc(1, sizeof **set);
    if (*set) (*set)->files = calloc((size_t)most_files + 1, sizeof *(*set)->files);
    if (!*set || !(*set)->files)
        return kv_fail(err, KV_ERR_MEMORY, "%.*s/%s: out of memory", KV_HEAD(dir, 200), name);
    return kv_path_join(dir, name, (*set)->path, err);
}

// Opens dir/name as the set's next file.
static kv_status add_file(kv_weights_set *set, const char *dir, const char *name, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, name, path, err);
    if (!status) status = kv_safetensors_open(path, &set->files[set->n_files], err);
    if (!status) set->n_files++;
    return status;
}

// Hands the set over, or closes it after a failure.
static kv_status finish(kv_weights_set *made, kv_status status, kv_weights_set **set) {
    if (status) kv_weights_set_close(made);
    *set = status ? NULL : made;
    return status;
}

bool kv_weights_named(const char *file) {
    static const char ending[] = ".safetensors";
    return kv_ends_with(file, ending) && strcmp(file, ending) != 0;
}

kv_status kv_weights_set_open(const char *dir, const char *name, kv_weights_set **set, kv_error *err) {
    kv_weights_set *made;
    kv_status status = create(dir, name, 1, &made, err);
    if (!status) status = add_file(made, dir, name, err);
    return finish(made, status, set);
}

// ---- Sharded checkpoints -------------------------------------------------------------------------------

// Names of the index are shown to people and opened: nothing that leads out of the directory, no control
// characters.
static bool is_plain(const char *name) {
    const size_t n = strlen(name);
    if (n == 0 || n > NAME_MAX) return false;
    for (size_t i = 0; i < n; i++)
        if (name[i] == '/' || (unsigned char)name[i] < ' ' || name[i] == 127) return false;
    return true;
}

// The file name the index gives for a tensor, or an error that says what it gives instead.
static kv_status check_place(const kv_json_file *map, const char *tensor, const json_t *value,
                             kv_error *err) {
    for (const char *c = tensor; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127)
            return kv_fail(err, KV_ERR_FORMAT, "%s: a tensor's name holds control characters", map->path);
    const char *file = json_string_value(value);
    if (file && is_plain(file) && kv_weights_named(file)) return KV_OK;
    return kv_json_wrong(map, tensor, -1, "the name of a .safetensors file in the same directory", err);
}

static const char *base_name(const kv_safetensors *file) {
    return strrchr(kv_safetensors_path(file), '/') + 1;
}

static int64_t find_file(const kv_weights_set *set, const char *name) {
    for (int64_t i = 0; i < set->n_files; i++)
        if (strcmp(base_name(set->files[i]), name) == 0) return i;
    return -1;
}

// Every tensor of the index lies in the file it names.
static kv_status open_places(kv_weights_set *set, const char *dir, const kv_json_file *map, kv_error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach(map->root, tensor, value) {
        kv_status status = check_place(map, tensor, value, err);
        if (status) return status;
        const char *name = json_string_value(value);
        int64_t i = find_file(set, name);
        if (i < 0) {
            status = add_file(set, dir, name, err);
            if (status) return kv_fail_within(err, status, "%s", set->path);
            i = set->n_files - 1;
        }
        if (!kv_safetensors_find(set->files[i], tensor))
            return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' is missing, expected in this file by %s",
                           kv_safetensors_path(set->files[i]), tensor, index_name);
    }
    return KV_OK;
}

// Every tensor of the files is listed, and listed there.
static kv_status check_listed(const kv_weights_set *set, const kv_json_file *map, kv_error *err) {
    for (int64_t i = 0; i < set->n_files; i++)
        for (int64_t t = 0; t < kv_safetensors_count(set->files[i]); t++) {
            const char *tensor = kv_safetensors_at(set->files[i], t)->name;
            const char *name = json_string_value(json_object_get(map->root, tensor));
            if (!name)
                return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' is not listed in %s",
                               kv_safetensors_path(set->files[i]), tensor, index_name);
            if (strcmp(name, base_name(set->files[i])) != 0)
                return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' should be in %s only, says %s",
                               kv_safetensors_path(set->files[i]), tensor, name, index_name);
        }
    return KV_OK;
}

// weight_map of an index as a file of its own, for errors; its root is borrowed.
static kv_status get_map(const kv_json_file *index, kv_json_file *map, kv_error *err) {
    map->root = json_object_get(index->root, "weight_map");
    if (!json_is_object(map->root) || json_object_size(map->root) == 0)
        return kv_json_wrong(index, "weight_map", -1, "an object of tensor and file names", err);
    if (snprintf(map->path, sizeof map->path, "%s: weight_map", index->path) >= (int)sizeof map->path)
        return kv_path_too_long(index->path, err);
    return KV_OK;
}

static kv_status open_sharded(const char *dir, kv_weights_set **set, kv_error *err) {
    kv_json_file index, map;
    kv_weights_set *made = NULL;
    kv_status status = kv_json_open(dir, index_name, &index, err);
    if (!status) status = get_map(&index, &map, err);
    if (!status) status = create(dir, index_name, (int64_t)json_object_size(map.root), &made, err);
    if (!status) status = open_places(made, dir, &map, err);
    if (!status) status = check_listed(made, &map, err);
    kv_json_close(&index);
    return finish(made, status, set);
}

// ---- Which of them ---------------------------------------------------------------------------------------

kv_status kv_weights_set_open_model(const char *dir, kv_weights_set **set, kv_error *err) {
    const bool single = kv_path_exists_in(dir, single_name), sharded = kv_path_exists_in(dir, index_name);
    if (!single && sharded) return open_sharded(dir, set, err);
    if (!single && (kv_path_exists_in(dir, "pytorch_model.bin") ||
                    kv_path_exists_in(dir, "pytorch_model.bin.index.json"))) {
        *set = NULL;
        return kv_fail(err, KV_ERR_FORMAT, "%s: only .bin weights here, expected %s or %s", dir, single_name,
                       index_name);
    }
    return kv_weights_set_open(dir, single_name, set, err);
}
