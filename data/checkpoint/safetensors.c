#include "data/checkpoint/safetensors.h"

#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/whole_file.h"
#include "data/system/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// Without this uthash ends the program when out of memory.
#define HASH_NONFATAL_OOM         1
#define uthash_nonfatal_oom(item) (item)->unlisted = true
#include <uthash.h>

// The reference implementation has the same limit.
enum { MAX_HEADER = 100000000 };

typedef struct st_item {
    kv_st_entry entry;
    int64_t *shape;
    size_t begin;  // of the data, within the data section
    void *copy;    // the data again where the file has them at an address no float may have
    bool unlisted; // out of memory
    UT_hash_handle hh;
} st_item;

struct kv_safetensors {
    char *path;
    void *map;
    size_t map_size;
    json_t *header;
    st_item *items; // in the order of their data
    int64_t n_items;
    st_item *by_name; // uthash over items
};

void kv_safetensors_close(kv_safetensors *file) {
    if (!file) return;
    HASH_CLEAR(hh, file->by_name);
    for (int64_t i = 0; i < file->n_items; i++) {
        free(file->items[i].copy);
        free(file->items[i].shape);
    }
    free(file->items);
    json_decref(file->header);
    kv_mapped_forget(file->map);
    if (file->map) munmap(file->map, file->map_size);
    free(file->path);
    free(file);
}

const char *kv_safetensors_path(const kv_safetensors *file) {
    return file->path;
}

int64_t kv_safetensors_count(const kv_safetensors *file) {
    return file->n_items;
}

const kv_st_entry *kv_safetensors_at(const kv_safetensors *file, int64_t i) {
    return i >= 0 && i < file->n_items ? &file->items[i].entry : NULL;
}

const kv_st_entry *kv_safetensors_find(const kv_safetensors *file, const char *name) {
    st_item *item;
    HASH_FIND_STR(file->by_name, name, item);
    return item ? &item->entry : NULL;
}

const char *kv_st_shape_text(int n_dims, const int64_t *shape, char text[96]) {
    enum { ROOM = 96 - 32 }; // for one more length and the end
    int used = snprintf(text, 96, "["), i = 0;
    for (; i < n_dims && used < ROOM; i++)
        used += snprintf(text + used, 96 - (size_t)used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + used, 96 - (size_t)used, i < n_dims ? ", ...]" : "]");
    return text;
}

void kv_safetensors_forget(const kv_safetensors *file, const kv_st_entry *entry) {
    const uintptr_t begin = (uintptr_t)entry->data, map = (uintptr_t)file->map;
    if (begin < map || begin >= map + file->map_size) return; // a copy, or empty at the end
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = begin / page * page;
    madvise((void *)first, begin + entry->size - first, MADV_DONTNEED);
}

const char *kv_safetensors_metadata(const kv_safetensors *file, const char *key) {
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

// ---- Reading -------------------------------------------------------------------------------------------

static kv_status map_file(kv_safetensors *file, kv_error *err) {
    struct stat info;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // does not wait for a pipe
    if (fd < 0 || fstat(fd, &info) != 0) {
        kv_status status = kv_fail(err, KV_ERR_IO, "%s: cannot open: %s", file->path, strerror(errno));
        if (fd >= 0) close(fd);
        return status;
    }
    kv_status status = KV_OK;
    if (!S_ISREG(info.st_mode))
        status = kv_fail(err, KV_ERR_IO, "%s: not a regular file", file->path);
    else if (info.st_size < 8)
        status = kv_fail(err, KV_ERR_FORMAT, "%s: %lld bytes, too short for a safetensors file", file->path,
                         (long long)info.st_size);
    else {
        file->map_size = (size_t)info.st_size;
        file->map = mmap(NULL, file->map_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file->map == MAP_FAILED) {
            file->map = NULL;
            status = kv_fail(err, KV_ERR_IO, "%s: cannot map: %s", file->path, strerror(errno));
        } else {
            kv_mapped_note(file->map, file->map_size, file->path);
        }
    }
    close(fd);
    return status;
}

static kv_status parse_header(kv_safetensors *file, size_t *data_begin, kv_error *err) {
    const unsigned char *bytes = file->map;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = (length << 8) | bytes[i];
    const bool header = length <= MAX_HEADER && file->map_size > 8 && bytes[8] == '{';
    if (length > MAX_HEADER || length > file->map_size - 8)
        return kv_fail(err, KV_ERR_FORMAT, "%s: %s: a header of %llu bytes in a file of %zu", file->path,
                       header ? "truncated" : "not a safetensors file", (unsigned long long)length,
                       file->map_size);
    json_error_t why;
    file->header = kv_json_parse((const char *)bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, &why);
    if (!file->header)
        return kv_fail(err, KV_ERR_FORMAT, "%s: bad JSON in the header at byte %d: %s", file->path,
                       8 + why.position, why.text);
    if (!json_is_object(file->header))
        return kv_fail(err, KV_ERR_FORMAT, "%s: the header must be a JSON object", file->path);
    *data_begin = 8 + (size_t)length;
    return KV_OK;
}

static kv_status check_metadata(const kv_safetensors *file, const json_t *metadata, kv_error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return kv_fail(err, KV_ERR_FORMAT, "%s: __metadata__ must be an object", file->path);
    json_object_foreach((json_t *)metadata, key, value) {
        if (!json_is_string(value))
            return kv_fail(err, KV_ERR_FORMAT, "%s: __metadata__ must hold nothing but strings", file->path);
    }
    return KV_OK;
}

// Names are shown to people, in lines.
static bool has_control_character(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 127) return true;
    return false;
}

// Bits of an element of each type there is; a type that is not known here may have elements of any size.
static const struct {
    const char *name;
    unsigned bits;
} types[] = {{"F32", 32}, {"BF16", 16},   {"F16", 16},    {"F64", 64},    {"C64", 64},
             {"BOOL", 8}, {"U8", 8},      {"I8", 8},      {"I16", 16},    {"U16", 16},
             {"I32", 32}, {"U32", 32},    {"I64", 64},    {"U64", 64},    {"F8_E4M3", 8},
             {"F4", 4},   {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E5M2", 8}};

static void parse_type(const char *text, kv_st_entry *entry) {
    static const kv_dtype floats[] = {KV_F32, KV_BF16, KV_F16};
    entry->type = text;
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++)
        if (strcmp(text, kv_dtype_name(floats[i])) == 0) {
            entry->is_float = true;
            entry->dtype = floats[i];
        }
}

static bool non_negative(const json_t *value, uint64_t *number) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

// Fills the shape and its number of elements; false where it makes no sense or would overflow.
static bool parse_shape(const json_t *shape, st_item *item, uint64_t *n) {
    kv_st_entry *entry = &item->entry;
    uint64_t dim;
    *n = 1;
    if (!json_is_array(shape)) return false;
    entry->n_dims = (int)json_array_size(shape); // a header of at most MAX_HEADER bytes
    item->shape = calloc((size_t)entry->n_dims + 1, sizeof *item->shape);
    entry->shape = item->shape;
    if (!item->shape) return false;
    for (int i = 0; i < entry->n_dims; i++) {
        if (!non_negative(json_array_get(shape, (size_t)i), &dim)) return false;
        item->shape[i] = (int64_t)dim;
        if (__builtin_mul_overflow(*n, dim, n) || *n > INT64_MAX / 64) return false;
    }
    return true;
}

static kv_status check_size(const kv_safetensors *file, const kv_st_entry *entry, uint64_t n, kv_error *err) {
    size_t i = 0;
    while (i < sizeof types / sizeof types[0] && strcmp(types[i].name, entry->type)) i++;
    if (i == sizeof types / sizeof types[0] || entry->size == (n * types[i].bits + 7) / 8) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: tensor '%s' has %zu bytes, its shape and type need %llu",
                   file->path, entry->name, entry->size, (unsigned long long)(n * types[i].bits + 7) / 8);
}

static kv_status parse_item(const kv_safetensors *file, const char *name, const json_t *value,
                            size_t data_begin, st_item *item, kv_error *err) {
    kv_st_entry *entry = &item->entry;
    entry->name = name;
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const json_t *offsets = json_object_get(value, "data_offsets");
    uint64_t begin, end, n, available = file->map_size - data_begin;
    if (has_control_character(name))
        return kv_fail(err, KV_ERR_FORMAT, "%s: a tensor's name holds control characters", file->path);
    if (!dtype || has_control_character(dtype))
        return kv_fail(err, KV_ERR_FORMAT, "%s: tensor '%s' has no dtype", file->path, name);
    parse_type(dtype, entry);
    if (!parse_shape(json_object_get(value, "shape"), item, &n))
        return kv_fail(err, KV_ERR_FORMAT, "%s: tensor '%s': expected a shape of lengths that fit in memory",
                       file->path, name);
    if (json_array_size(offsets) != 2 || !non_negative(json_array_get(offsets, 0), &begin) ||
        !non_negative(json_array_get(offsets, 1), &end) || begin > end)
        return kv_fail(err, KV_ERR_FORMAT, "%s: tensor '%s': data_offsets must be [begin, end]", file->path,
                       name);
    if (end > available)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: truncated: tensor '%s' ends at byte %llu of the data, the file has %llu",
                       file->path, name, (unsigned long long)end, (unsigned long long)available);
    item->begin = (size_t)begin;
    entry->size = (size_t)(end - begin);
    entry->data = (const char *)file->map + data_begin + begin;
    return check_size(file, entry, n, err);
}

static int compare_begin(const void *a, const void *b) {
    const st_item *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->entry.size > y->entry.size) - (x->entry.size < y->entry.size);
}

// The data section is covered exactly once: no overlap, no hole, nothing behind.
static kv_status check_cover(const kv_safetensors *file, size_t data_begin, kv_error *err) {
    size_t covered = 0, available = file->map_size - data_begin;
    for (int64_t i = 0; i < file->n_items; i++) {
        const st_item *item = &file->items[i];
        if (item->begin != covered)
            return kv_fail(err, KV_ERR_FORMAT, "%s: tensor '%s' begins at byte %zu of the data, expected %zu",
                           file->path, item->entry.name, item->begin, covered);
        covered += item->entry.size;
    }
    if (covered != available)
        return kv_fail(err, KV_ERR_FORMAT, "%s: %zu bytes of data, the header accounts for %zu", file->path,
                       available, covered);
    return KV_OK;
}

// The format puts no padding between tensors, so an odd number of 2-byte values may shift what follows.
static kv_status align_items(kv_safetensors *file, kv_error *err) {
    for (int64_t i = 0; i < file->n_items; i++) {
        st_item *item = &file->items[i];
        if (!item->entry.is_float) continue; // nobody reads it
        if ((uintptr_t)item->entry.data % kv_dtype_size(item->entry.dtype) == 0) continue;
        item->copy = malloc(item->entry.size ? item->entry.size : 1);
        if (!item->copy) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", file->path);
        memcpy(item->copy, item->entry.data, item->entry.size);
        item->entry.data = item->copy;
    }
    return KV_OK;
}

static kv_status parse_items(kv_safetensors *file, size_t data_begin, kv_error *err) {
    const char *name;
    json_t *value;
    kv_status status = KV_OK;
    file->items = calloc(json_object_size(file->header) + 1, sizeof *file->items);
    if (!file->items) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", file->path);
    json_object_foreach(file->header, name, value) {
        if (strcmp(name, "__metadata__") == 0)
            status = check_metadata(file, value, err);
        else
            status = parse_item(file, name, value, data_begin, &file->items[file->n_items++], err);
        if (status) return status;
    }
    qsort(file->items, (size_t)file->n_items, sizeof *file->items, compare_begin);
    status = check_cover(file, data_begin, err);
    if (!status) status = align_items(file, err);
    if (status) return status;
    for (int64_t i = 0; i < file->n_items; i++) {
        st_item *item = &file->items[i];
        HASH_ADD_KEYPTR(hh, file->by_name, item->entry.name, strlen(item->entry.name), item);
        if (item->unlisted) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", file->path);
    }
    return KV_OK;
}

kv_status kv_safetensors_open(const char *path, kv_safetensors **file, kv_error *err) {
    *file = NULL;
    kv_safetensors *opened = calloc(1, sizeof *opened);
    if (opened) opened->path = strdup(path);
    if (!opened || !opened->path) {
        free(opened);
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    }
    size_t data_begin = 0;
    kv_status status = map_file(opened, err);
    if (!status) status = parse_header(opened, &data_begin, err);
    if (!status) status = parse_items(opened, data_begin, err);
    if (status)
        kv_safetensors_close(opened);
    else
        *file = opened;
    return kv_mistaken(path, KV_FILE_SAFETENSORS, status, err);
}

// ---- Writing -------------------------------------------------------------------------------------------

// Bytes of one tensor; its parts must be what its shape needs, unless they come later.
static kv_status tensor_size(const kv_st_tensor *tensor, bool later, size_t *size, kv_error *err) {
    size_t parts = 0, n = kv_dtype_size(tensor->dtype);
    for (int i = 0; i < KV_ST_PARTS; i++) parts += tensor->part_size[i];
    bool ok = tensor->n_dims >= 0 && tensor->n_dims <= KV_ST_WRITTEN_DIMS;
    for (int i = 0; ok && i < tensor->n_dims; i++)
        ok = tensor->shape[i] >= 0 && !__builtin_mul_overflow(n, (size_t)tensor->shape[i], &n);
    if (!ok || (!later && parts != n))
        return kv_fail(err, KV_ERR_ARGUMENT, "tensor '%s': %zu bytes do not fill its shape", tensor->name,
                       parts);
    *size = n;
    return KV_OK;
}

// Wider types first, so that every tensor is aligned. Calls with pass 0, 1 visit each tensor once.
static bool in_pass(const kv_st_tensor *tensor, int pass) {
    return (kv_dtype_size(tensor->dtype) == 4) == (pass == 0);
}

static json_t *describe(const kv_st_tensor *tensor, size_t begin, size_t size) {
    json_t *shape = json_array();
    for (int i = 0; i < tensor->n_dims; i++) json_array_append_new(shape, json_integer(tensor->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", kv_dtype_name(tensor->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + size));
}

static kv_status make_header(const kv_st_tensor *tensors, int64_t n, bool later, const char *const *metadata,
                             int64_t n_metadata, char **text, kv_error *err) {
    json_t *header = json_object(), *pairs = json_object();
    size_t begin = 0, size = 0;
    bool failed = false;
    kv_status status = KV_OK;
    for (int64_t i = 0; i < n_metadata; i++)
        failed |= json_object_set_new(pairs, metadata[2 * i], json_string(metadata[2 * i + 1])) != 0;
    if (n_metadata > 0) failed |= json_object_set(header, "__metadata__", pairs) != 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < n && !status; i++) {
            if (!in_pass(&tensors[i], pass)) continue;
            status = tensor_size(&tensors[i], later, &size, err);
            if (!status && json_object_get(header, tensors[i].name))
                status = kv_fail(err, KV_ERR_ARGUMENT, "tensor '%s' is given twice", tensors[i].name);
            if (!status)
                failed |=
                    json_object_set_new(header, tensors[i].name, describe(&tensors[i], begin, size)) != 0;
            begin += size;
        }
    *text = status || failed ? NULL : json_dumps(header, JSON_COMPACT);
    if (!status && !*text)
        status = kv_fail(err, KV_ERR_ARGUMENT, "cannot write names or metadata that are not UTF-8");
    json_decref(header);
    json_decref(pairs);
    return status;
}

static bool write_header(FILE *stream, const char *text) {
    size_t length = strlen(text), padding = (8 - length % 8) % 8; // data begin at a multiple of 8
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)((uint64_t)(length + padding) >> (8 * i));
    return fwrite(prefix, 1, 8, stream) == 8 && fwrite(text, 1, length, stream) == length &&
           fwrite("        ", 1, padding, stream) == padding;
}

static bool write_data(FILE *stream, const kv_st_tensor *tensors, int64_t n) {
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < n; i++)
            for (int p = 0; in_pass(&tensors[i], pass) && p < KV_ST_PARTS; p++) {
                size_t size = tensors[i].part_size[p];
                if (size > 0 && fwrite(tensors[i].part[p], 1, size, stream) != size) return false;
            }
    return true;
}

kv_status kv_safetensors_write(const char *path, const kv_st_tensor *tensors, int64_t n,
                               const char *const *metadata, int64_t n_metadata, kv_error *err) {
    char *header;
    kv_whole_file target;
    kv_status status = make_header(tensors, n, false, metadata, n_metadata, &header, err);
    if (status) return kv_fail_within(err, status, "%s", path);
    status = kv_whole_file_begin(&target, path, err);
    if (status) {
        free(header);
        return status;
    }
    FILE *stream = fopen(target.path, "wb");
    bool ok = stream && write_header(stream, header) && write_data(stream, tensors, n);
    int failure = errno;
    if (stream && fclose(stream) != 0 && ok) {
        ok = false;
        failure = errno;
    }
    free(header);
    if (!ok) status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(failure));
    return kv_whole_file_end(&target, status, err);
}

// ---- Piece by piece ------------------------------------------------------------------------------------

struct kv_st_writer {
    kv_whole_file target;
    int fd;
    size_t *begin; // [n + 1] of the tensors, in the file
};

static kv_status cannot_write(const kv_st_writer *writer, kv_error *err) {
    return kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", writer->target.path, strerror(errno));
}

// The header, and room for all that follows it.
static kv_status open_target(kv_st_writer *writer, const kv_st_tensor *tensors, int64_t n, const char *header,
                             kv_error *err) {
    FILE *stream = fopen(writer->target.path, "wb");
    const bool ok = stream && write_header(stream, header);
    const long data = ok ? ftell(stream) : 0;
    if (stream && fclose(stream) != 0) return cannot_write(writer, err);
    if (!ok || data < 0) return cannot_write(writer, err);
    writer->begin[0] = (size_t)data;
    for (int64_t i = 0; i < n; i++) {
        size_t size = 0;
        tensor_size(&tensors[i], true, &size, NULL);
        writer->begin[i + 1] = writer->begin[i] + size;
    }
    writer->fd = open(writer->target.path, O_WRONLY | O_CLOEXEC);
    if (writer->fd < 0 || ftruncate(writer->fd, (off_t)writer->begin[n]) != 0)
        return cannot_write(writer, err);
    return KV_OK;
}

kv_status kv_safetensors_begin(const char *path, const kv_st_tensor *tensors, int64_t n,
                               const char *const *metadata, int64_t n_metadata, kv_st_writer **writer,
                               kv_error *err) {
    char *header = NULL;
    *writer = NULL;
    kv_status status = make_header(tensors, n, true, metadata, n_metadata, &header, err);
    if (status) return kv_fail_within(err, status, "%s", path);
    kv_st_writer *w = calloc(1, sizeof *w);
    if (w) w->fd = -1, w->begin = calloc((size_t)n + 1, sizeof *w->begin);
    if (!w || !w->begin) {
        status = kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    } else {
        status = kv_whole_file_begin(&w->target, path, err);
        if (!status) status = open_target(w, tensors, n, header, err);
    }
    free(header);
    if (!status)
        *writer = w;
    else if (w)
        kv_safetensors_end(w, status, err);
    return status;
}

kv_status kv_safetensors_put(kv_st_writer *writer, int64_t i, size_t offset, const void *data, size_t size,
                             kv_error *err) {
    const char *from = data;
    for (off_t at = (off_t)(writer->begin[i] + offset); size > 0;) {
        const ssize_t n = pwrite(writer->fd, from, size, at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return cannot_write(writer, err);
        from += n, at += n, size -= (size_t)n;
    }
    return KV_OK;
}

kv_status kv_safetensors_end(kv_st_writer *writer, kv_status status, kv_error *err) {
    if (!writer) return status;
    if (writer->fd >= 0 && close(writer->fd) != 0 && !status) status = cannot_write(writer, err);
    status = kv_whole_file_end(&writer->target, status, err);
    free(writer->begin);
    free(writer);
    return status;
}
