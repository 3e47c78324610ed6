// Which files are in is decided by their paths, so that the same version of the package gives the same text on every
// machine.
#include "data/text/stdlib.h"

#include "core/text.h"
#include "data/file/hash.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/file/plain.h"
#include "data/file/whole_set.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/text/dpkg.h"
#include "data/text/unicode.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char wanted[] = "libpython3-stdlib";
static const char advice[] = "apt-get install libpython3-stdlib";

void kv_stdlib_free(kv_stdlib *stdlib) {
    for (int64_t i = 0; i < stdlib->n; i++) {
        free(stdlib->files[i].path);
        free(stdlib->files[i].text);
    }
    free(stdlib->files);
    *stdlib = (kv_stdlib){0};
}

// ---- Which files ---------------------------------------------------------------------------------------

static bool is_in(const char *path) {
    static const char *const out[] = {"test/", "encodings/", "pydoc_data/", "_sysconfigdata"};
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        if (strncmp(path, out[i], strlen(out[i])) == 0) return false;
    return true;
}

static bool is_held_out(const char *path) {
    return kv_hash64(0, path, strlen(path)) % 10 == 0;
}

static kv_status add(kv_stdlib *stdlib, const char *path, char *text, size_t size, kv_error *err) {
    kv_stdlib_file *more = kv_room_for_one(stdlib->files, (size_t)stdlib->n, sizeof *more);
    if (more) stdlib->files = more;
    char *copy = more ? strdup(path) : NULL;
    if (!copy) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the standard library");
    stdlib->files[stdlib->n++] =
        (kv_stdlib_file){.path = copy, .text = text, .size = size, .held_out = is_held_out(path)};
    return KV_OK;
}

// `path` is within /usr/lib/python3.N, `whole` where it can be read.
static kv_status add_file(kv_stdlib *stdlib, const char *whole, const char *path, kv_error *err) {
    struct stat info;
    char *text = NULL;
    size_t size = 0;
    const bool link = lstat(whole, &info) == 0 && S_ISLNK(info.st_mode);
    if (!is_in(path) || link) {
        stdlib->left_out++;
        return KV_OK;
    }
    kv_status status = kv_read_text(whole, (size_t)1 << 28, &text, &size, err);
    if (status == KV_ERR_IO)
        return kv_fail_within(err, status, "package %s is not whole (%s --reinstall)", stdlib->package,
                              advice);
    if (status && status != KV_ERR_FORMAT) return status;
    if (!status && size && !memchr(text, 0, size) && kv_utf8_valid(text, size) == size) {
        status = add(stdlib, path, text, size, err);
        if (!status) return KV_OK;
        free(text);
        return status;
    }
    free(text);
    stdlib->left_out++;
    return KV_OK;
}

// ---- Which packages ------------------------------------------------------------------------------------

static kv_status find_installed(const char *root, const char *name, kv_dpkg_package *package, kv_error *err) {
    kv_status status = kv_dpkg_find(root, name, package, err);
    if (status) return kv_fail_within(err, status, "package %s (%s)", name, advice);
    if (!package->version) return kv_fail(err, KV_ERR_IO, "package %s is not installed (%s)", name, advice);
    return KV_OK;
}

// The N of the libpython3.N-stdlib that libpython3-stdlib stands for.
static kv_status default_python(const char *root, int *minor, kv_error *err) {
    kv_dpkg_package package;
    kv_status status = find_installed(root, wanted, &package, err);
    const char *at = !status && package.depends ? strstr(package.depends, "libpython3.") : NULL;
    if (!status && (!at || sscanf(at, "libpython3.%d-stdlib", minor) != 1))
        status = kv_fail(err, KV_ERR_FORMAT, "package %s depends on '%.*s', expected libpython3.N-stdlib",
                         wanted, KV_HEAD(package.depends ? package.depends : "", 80));
    kv_dpkg_free(&package);
    return status;
}

static kv_status add_package(kv_stdlib *stdlib, const char *root, const char *name, const char *library,
                             kv_error *err) {
    kv_dpkg_package package;
    char path[PATH_MAX];
    const size_t n = strlen(library);
    snprintf(stdlib->package, sizeof stdlib->package, "%s", name);
    kv_status status = find_installed(root, name, &package, err);
    if (!status) snprintf(stdlib->version, sizeof stdlib->version, "%s", package.version);
    for (int64_t i = 0; !status && i < package.n_files; i++) {
        const char *file = package.files[i];
        if (strncmp(file, library, n) != 0 || !kv_ends_with(file, ".py")) continue;
        if (snprintf(path, sizeof path, "%s%s", root, file) >= (int)sizeof path)
            status = kv_path_too_long(file, err);
        if (!status) status = add_file(stdlib, path, file + n, err);
    }
    kv_dpkg_free(&package);
    return status;
}

static int compare(const void *a, const void *b) {
    return strcmp(((const kv_stdlib_file *)a)->path, ((const kv_stdlib_file *)b)->path);
}

static kv_status check_and_hash(kv_stdlib *stdlib, const char *library, kv_error *err) {
    uint64_t hash = 0;
    int64_t files[2], bytes;
    for (int held_out = 0; held_out < 2; held_out++)
        kv_stdlib_count(stdlib, held_out, &files[held_out], &bytes);
    if (!files[0] || !files[1])
        return kv_fail(
            err, KV_ERR_FORMAT,
            "package %s: %lld files to train on and %lld held out in %s, expected some of both (%s --reinstall)",
            stdlib->package, (long long)files[0], (long long)files[1], library, advice);
    qsort(stdlib->files, (size_t)stdlib->n, sizeof *stdlib->files, compare);
    for (int64_t i = 0; i < stdlib->n; i++) {
        hash = kv_hash64(hash, stdlib->files[i].path, strlen(stdlib->files[i].path) + 1);
        hash = kv_hash64(hash, stdlib->files[i].text, stdlib->files[i].size);
    }
    kv_hash_text(hash, stdlib->hash);
    return KV_OK;
}

kv_status kv_stdlib_collect(const char *root, kv_stdlib *stdlib, kv_error *err) {
    *stdlib = (kv_stdlib){0};
    char library[64], minimal[64], rest[64];
    int minor = 0;
    kv_status status = default_python(root, &minor, err);
    if (status) return status;
    snprintf(library, sizeof library, "/usr/lib/python3.%d/", minor);
    snprintf(minimal, sizeof minimal, "libpython3.%d-minimal", minor);
    snprintf(rest, sizeof rest, "libpython3.%d-stdlib", minor);
    status = add_package(stdlib, root, minimal, library, err);
    if (!status) status = add_package(stdlib, root, rest, library, err);
    return status ? status : check_and_hash(stdlib, library, err);
}

void kv_stdlib_count(const kv_stdlib *stdlib, bool held_out, int64_t *files, int64_t *bytes) {
    *files = *bytes = 0;
    for (int64_t i = 0; i < stdlib->n; i++) {
        if (stdlib->files[i].held_out != held_out) continue;
        ++*files;
        *bytes += (int64_t)stdlib->files[i].size;
    }
}

// ---- Files ---------------------------------------------------------------------------------------------

enum { TRAIN, HELD_OUT, SUMMARY, N_OUTPUTS };
static const char *const names[N_OUTPUTS] = {"train.jsonl", "held_out.jsonl", "stdlib.json"};

static json_t *split_entry(const kv_stdlib *stdlib, bool held_out) {
    int64_t files, bytes;
    kv_stdlib_count(stdlib, held_out, &files, &bytes);
    return json_pack("{s:I, s:I}", "files", (json_int_t)files, "bytes", (json_int_t)bytes);
}

// Stops early, with true, when the user wants that.
static bool write_output(void *context, int index, FILE *file) {
    const kv_stdlib *stdlib = context;
    if (index == SUMMARY)
        return kv_json_put(file,
                           json_pack("{s:s, s:s, s:s, s:o, s:o, s:I}", "package", stdlib->package, "version",
                                     stdlib->version, "hash", stdlib->hash, "train",
                                     split_entry(stdlib, false), "held_out", split_entry(stdlib, true),
                                     "files_left_out", (json_int_t)stdlib->left_out),
                           JSON_INDENT(2));
    bool ok = true;
    for (int64_t i = 0; ok && i < stdlib->n && !kv_console_interrupted(); i++) {
        const kv_stdlib_file *source = &stdlib->files[i];
        if (source->held_out == (index == HELD_OUT))
            ok = kv_json_put(
                file,
                json_pack("{s:s, s:s#}", "path", source->path, "text", source->text, (size_t)source->size),
                0);
    }
    return ok;
}

kv_status kv_stdlib_write(const kv_stdlib *stdlib, const char *directory, kv_error *err) {
    return kv_whole_set_write(directory, names, N_OUTPUTS, write_output, (void *)stdlib, err);
}
