#include "data/checkpoint/weights_set.h"

#include "core/text.h"
#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"

#include <stdlib.h>
#include <string.h>

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

// A file that could not be opened.
struct missed {
    const char *name; // as the index has it
    kv_error why;
};

struct kv_weights_set {
    char path[PATH_MAX]; // of the file or the index
    kv_safetensors **files;
    int64_t n_files;
    kv_json_file map; // of tensors and names of files; without an index its root is NULL
    struct missed *missed;
    int64_t n_missed;
};

void kv_weights_set_close(kv_weights_set *set) {
    if (!set) return;
    for (int64_t i = 0; i < set->n_files; i++) kv_safetensors_close(set->files[i]);
    free(set->files);
    free(set->missed);
    json_decref(set->map.root);
    free(set);
}

const char *kv_weights_set_path(const kv_weights_set *set) {
    return set->path;
}

static const char *base_name(const kv_safetensors *file) {
    return strrchr(kv_safetensors_path(file), '/') + 1;
}

static const char *place_of(const kv_weights_set *set, const char *tensor) {
    return json_string_value(json_object_get(set->map.root, tensor));
}

// The files that have it, up to `most`: the one the index names alone, if that is among them.
static int find_in(const kv_weights_set *set, const char *name, int most, kv_weights_entry *found) {
    const char *place = place_of(set, name);
    int n = 0;
    for (int64_t i = 0; i < set->n_files; i++) {
        const kv_weights_entry entry = {set->files[i], kv_safetensors_find(set->files[i], name)};
        if (!entry.entry) continue;
        if (place && strcmp(base_name(set->files[i]), place) == 0) {
            found[0] = entry;
            return 1;
        }
        if (n < most) found[n++] = entry;
    }
    return n;
}

bool kv_weights_set_find(const kv_weights_set *set, const char *name, kv_weights_entry *found) {
    kv_weights_entry entries[2];
    const int n = find_in(set, name, 2, entries);
    if (n == 1) *found = entries[0];
    return n == 1;
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

// Many times what the largest checkpoints come in.
enum { MOST_FILES = 4096 };

static kv_status create(const char *dir, const char *name, int64_t most_files, kv_weights_set **set,
                        kv_error *err) {
    *set = calloc(1, sizeof **set);
    if (*set) (*set)->files = calloc((size_t)most_files + 1, sizeof *(*set)->files);
    if (*set) (*set)->missed = calloc((size_t)most_files + 1, sizeof *(*set)->missed);
    if (!*set || !(*set)->files || !(*set)->missed)
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

static bool is_place(const char *file) {
    return file && is_plain(file) && kv_weights_named(file);
}

static const kv_error *why_missed(const kv_weights_set *set, const char *name) {
    for (int64_t i = 0; i < set->n_missed; i++)
        if (strcmp(set->missed[i].name, name) == 0) return &set->missed[i].why;
    return NULL;
}

static bool is_open(const kv_weights_set *set, const char *name) {
    for (int64_t i = 0; i < set->n_files; i++)
        if (strcmp(base_name(set->files[i]), name) == 0) return true;
    return false;
}

// Opens each file that the index names, once.
static kv_status open_places(kv_weights_set *set, const char *dir, kv_error *err) {
    const char *tensor;
    json_t *value;
    json_object_foreach(set->map.root, tensor, value) {
        const char *name = json_string_value(value);
        if (!is_place(name) || is_open(set, name) || why_missed(set, name)) continue;
        if (set->n_files + set->n_missed == MOST_FILES)
            return kv_fail(err, KV_ERR_FORMAT, "%s: found more than %d files, expected fewer", set->path,
                           MOST_FILES);
        kv_error why;
        if (add_file(set, dir, name, &why) != KV_OK)
            set->missed[set->n_missed++] = (struct missed){.name = name, .why = why};
    }
    return KV_OK;
}

kv_status kv_weights_set_missed(const kv_weights_set *set, const char *name, kv_error *err) {
    const json_t *value = json_object_get(set->map.root, name);
    kv_weights_entry found[2];
    if (find_in(set, name, 2, found) == 2)
        return kv_fail(err, KV_ERR_MISMATCH, "%s: tensor '%s' is in %s and in %s, expected it in one file",
                       set->path, name, base_name(found[0].file), base_name(found[1].file));
    if (!value) return KV_OK;
    const char *place = json_string_value(value);
    if (!is_place(place))
        return kv_json_wrong(&set->map, name, -1, "the name of a .safetensors file in the same directory",
                             err);
    const kv_error *why = why_missed(set, place);
    if (why) return kv_fail(err, why->code, "%s: tensor '%s' is in %s", set->path, name, why->message);
    return kv_fail(err, KV_ERR_MISMATCH, "%s: %s: tensor '%s' is missing, expected in this file", set->path,
                   place, name);
}

// weight_map of an index as a file of its own, for errors.
static kv_status get_map(const kv_json_file *index, kv_json_file *map, kv_error *err) {
    json_t *root = json_object_get(index->root, "weight_map");
    if (!json_is_object(root) || json_object_size(root) == 0)
        return kv_json_wrong(index, "weight_map", -1, "an object of tensor and file names", err);
    if (snprintf(map->path, sizeof map->path, "%s: weight_map", index->path) >= (int)sizeof map->path)
        return kv_path_too_long(index->path, err);
    map->root = json_incref(root);
    return KV_OK;
}

static kv_status open_sharded(const char *dir, kv_weights_set **set, kv_error *err) {
    kv_json_file index, map = {.root = NULL};
    kv_weights_set *made = NULL;
    kv_status status = kv_json_open(dir, index_name, &index, err);
    if (!status) status = kv_mistaken(index.path, KV_FILE_WEIGHTS_INDEX, get_map(&index, &map, err), err);
    const int64_t n_tensors = status ? 0 : (int64_t)json_object_size(map.root);
    if (!status)
        status = create(dir, index_name, n_tensors < MOST_FILES ? n_tensors : MOST_FILES, &made, err);
    if (!status) {
        made->map = map; // owned from here on
        map.root = NULL;
        status = open_places(made, dir, err);
    }
    json_decref(map.root);
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
