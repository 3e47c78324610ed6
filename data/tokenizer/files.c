// Only files by these names travel: what a shard holds is written into directories of models, where a file by any
// other name could pass for weights.
#include "data/tokenizer/files.h"

#include "data/file/content.h"
#include "data/file/hash.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/file/whole_set.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const size_t max_file_bytes = (size_t)256 << 20;

static const char json_name[] = "tokenizer.json", model_name[] = "tokenizer.model",
                  id_name[] = "tokenizer_hash.json", id_format[] = "kv-tokenizer-hash";
// Whatever else a directory may have that says what an id means and how a conversation is written.
static const char *const beside[] = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                                     "chat_template.jinja", id_name};
enum { N_BESIDE = sizeof beside / sizeof *beside };

static bool belongs(const char *name) {
    for (int i = 0; i < N_BESIDE; i++)
        if (strcmp(name, beside[i]) == 0) return true;
    return strcmp(name, json_name) == 0 || strcmp(name, model_name) == 0;
}

// ---- Gathering -----------------------------------------------------------------------------------------

static kv_status gather_file(const char *path, const char *name, kv_bundle *bundle, kv_error *err) {
    char *bytes;
    size_t size;
    kv_status status = kv_read_file(path, max_file_bytes, &bytes, &size, err);
    return status ? status : kv_bundle_add(bundle, name, bytes, size, err);
}

static kv_status gather_from(const char *dir, const char *name, kv_bundle *bundle, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, name, path, err);
    return status || !kv_path_exists(path) ? status : gather_file(path, name, bundle, err);
}

kv_status kv_tokenizer_gather(const char *path, kv_bundle *bundle, kv_error *err) {
    struct stat info;
    char dir[PATH_MAX];
    kv_status status = KV_OK;
    *bundle = (kv_bundle){0};
    if (strlen(path) >= sizeof dir) return kv_path_too_long(path, err);
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        strcpy(dir, path);
        status = gather_from(dir, json_name, bundle, err);
        if (!status) status = gather_from(dir, model_name, bundle, err);
    } else {
        kv_path_parent(path, dir);
        status = gather_file(path, kv_tokenizer_is_json(path) ? json_name : model_name, bundle, err);
    }
    for (int i = 0; i < N_BESIDE && !status; i++) status = gather_from(dir, beside[i], bundle, err);
    if (status) kv_bundle_free(bundle);
    return status;
}

// ---- Scattering ----------------------------------------------------------------------------------------

static kv_status write_files(const kv_bundle *bundle, const char *dir, kv_error *err) {
    kv_status status = KV_OK;
    for (int i = 0; i < bundle->n && !status; i++) {
        const kv_bundled *file = &bundle->files[i];
        char path[PATH_MAX];
        if (!belongs(file->name)) continue;
        status = kv_path_join(dir, file->name, path, err);
        if (!status) status = kv_write_file(path, file->bytes, file->size, err);
    }
    return status;
}

kv_status kv_tokenizer_scatter(const kv_bundle *bundle, const char *dir, kv_error *err) {
    kv_whole_set set;
    if (bundle->n == 0) return KV_OK;
    kv_status status = kv_whole_set_begin(&set, dir, err);
    if (status) return status;
    status = write_files(bundle, set.staged.path, err);
    return kv_whole_set_end(&set, NULL, 0, status, err);
}

kv_status kv_tokenizer_copy(const char *from, const char *to, kv_error *err) {
    kv_bundle bundle;
    kv_status status = kv_path_exists(from) ? kv_tokenizer_gather(from, &bundle, err) : KV_OK;
    if (status || !kv_path_exists(from)) return status;
    status = kv_tokenizer_scatter(&bundle, to, err);
    kv_bundle_free(&bundle);
    return status;
}

// ---- Identity ------------------------------------------------------------------------------------------

// What tokenizers disagree about: case, white space, digits, accents in one part and in two, width, scripts, what ends a
// word. Hashes of its ids lie in files: it may never change.
static const char probe[] =
    "The quick brown fox's 1234567 jumps, isn't it?\n\n\tif (x >= 10)  {return y[i]*2.5;}\r\n"
    "ALL CAPS CamelCase snake_case re-enter \xC3\xA9t\xC3\xA9 e\xCC\x81te\xCC\x81 na\xC3\xAFve stra\xC3\x9F"
    "e \xEF\xAC\x81n \xEF\xBC\xA1\xEF\xBC\x91 \xE4\xB8\xAD\xE6\x96\x87\xE5\x88\x86\xE8\xAF\x8D "
    "\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xF0\x9F\x98\x80...!!  end ";

void kv_tokenizer_identify(const kv_tokenizer *tokenizer, kv_tokenizer_id *id) {
    int32_t *ids = NULL;
    int64_t n = 0;
    *id = (kv_tokenizer_id){.vocab_size = kv_tokenizer_vocab_size(tokenizer)};
    strcpy(id->hash, kv_tokenizer_hash(tokenizer));
    if (kv_tokenizer_encode_plain(tokenizer, probe, sizeof probe - 1, &ids, &n, NULL) == KV_OK)
        kv_hash_text(kv_hash64(0, ids, (size_t)n * sizeof *ids), id->cuts);
    free(ids);
}

bool kv_tokenizer_is(const kv_tokenizer *tokenizer, const kv_tokenizer_id *id) {
    char hash[17];
    if (kv_tokenizer_vocab_size(tokenizer) < id->vocab_size) return false;
    if (kv_tokenizer_vocab_size(tokenizer) == id->vocab_size)
        return strcmp(kv_tokenizer_hash(tokenizer), id->hash) == 0;
    kv_tokenizer_hash_first(tokenizer, id->vocab_size, hash);
    return strcmp(hash, id->hash) == 0;
}

bool kv_tokenizer_serves(const kv_tokenizer *tokenizer, const kv_tokenizer_id *id) {
    kv_tokenizer_id own;
    if (!kv_tokenizer_is(tokenizer, id)) return false;
    kv_tokenizer_identify(tokenizer, &own);
    return own.vocab_size == id->vocab_size || !kv_tokenizer_cuts_differ(&own, id);
}

bool kv_tokenizer_cuts_differ(const kv_tokenizer_id *a, const kv_tokenizer_id *b) {
    return a->cuts[0] && b->cuts[0] && strcmp(a->cuts, b->cuts) != 0;
}

// ---- Identity in a file --------------------------------------------------------------------------------

kv_status kv_tokenizer_id_write(const char *dir, const kv_tokenizer_id *id, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(dir, id_name, path, err);
    if (status) return status;
    json_t *root =
        json_pack("{s:s, s:i, s:s, s:I, s:s*}", "format", id_format, "version", 1, "hash", id->hash,
                  "vocab_size", (json_int_t)id->vocab_size, "cuts", id->cuts[0] ? id->cuts : NULL);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    status =
        text ? kv_write_file(path, text, strlen(text), err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    free(text);
    json_decref(root);
    return status;
}

static kv_status read_hash(const kv_json_file *file, const char *key, char hash[17], kv_error *err) {
    const char *text = json_string_value(json_object_get(file->root, key));
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return kv_json_wrong(file, key, -1, "16 hex digits", err);
    strcpy(hash, text);
    return KV_OK;
}

static kv_status read_id(const kv_json_file *file, kv_tokenizer_id *id, kv_error *err) {
    const char *format = json_string_value(json_object_get(file->root, "format"));
    int64_t version;
    *id = (kv_tokenizer_id){0};
    if (!format || strcmp(format, id_format) != 0)
        return kv_json_wrong(file, "format", -1, "\"kv-tokenizer-hash\"", err);
    kv_status status = kv_json_int(file, "version", 1, 1, &version, err);
    if (!status) status = kv_json_int(file, "vocab_size", 1, INT32_MAX, &id->vocab_size, err);
    if (!status) status = read_hash(file, "hash", id->hash, err);
    if (!status && kv_json_has(file, "cuts")) status = read_hash(file, "cuts", id->cuts, err);
    return status;
}

kv_status kv_tokenizer_id_read(const char *dir, kv_tokenizer_id *id, bool *found, kv_error *err) {
    kv_json_file file;
    *found = kv_path_exists_in(dir, id_name);
    if (!*found) return KV_OK;
    kv_status status = kv_json_open(dir, id_name, &file, err);
    if (!status) status = read_id(&file, id, err);
    kv_json_close(&file);
    return status;
}
