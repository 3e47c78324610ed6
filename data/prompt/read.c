// Reading a saved prompt: sizes before memory, and nothing handed out that is not what was written.
#include "core/vecmath.h"
#include "data/file/h5.h"
#include "data/file/mistaken.h"
#include "data/prompt/layout.h"
#include "data/system/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct reading {
    hid_t file;
    const char *path;
    int64_t left; // bytes that may still be asked for: no more than the file has
    kv_saved_prompt *prompt;
};

static kv_status damaged(const struct reading *r, const char *what, kv_error *err) {
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged saved prompt: %s", r->path, what);
}

// ---- Attributes ----------------------------------------------------------------------------------------

static kv_status read_layers(const struct reading *r, const char *name, int64_t least, int64_t *n,
                             kv_error *err) {
    kv_status status = kv_h5_attr_i64(r->file, "/", name, n, err);
    if (status != KV_OK || (*n >= least && *n <= KV_MAX_LAYERS)) return status;
    *n = 0;
    return damaged(r, "an impossible number of layers", err);
}

static kv_status read_attributes(const struct reading *r, char checksum[17], kv_error *err) {
    kv_saved_prompt *p = r->prompt;
    kv_saved_text texts[KV_SAVED_TEXTS];
    char format[32] = "";
    int64_t version = 0;
    if (H5Aexists(r->file, "format") <= 0 ||
        kv_h5_attr_string(r->file, "/", "format", format, sizeof format, NULL) != KV_OK ||
        strcmp(format, "kv-prompt") != 0)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: not a saved prompt (attribute \"format\" is \"%s\", expected \"kv-prompt\"; "
                       "kvrun --save-prompt makes one)",
                       r->path, format);
    kv_status status = kv_h5_attr_i64(r->file, "/", "version", &version, err);
    if (status == KV_OK)
        status = kv_check_version(r->path, KV_FILE_PROMPT, version, 1, 1,
                                  "kvrun --save-prompt makes it again", err);
    if (status == KV_OK) status = read_layers(r, "base_layers", 1, &p->base.n_layers, err);
    if (status == KV_OK) status = read_layers(r, "aux_layers", 0, &p->aux.n_layers, err);
    kv_saved_texts(&p->maker, texts);
    for (int i = 0; i < KV_SAVED_TEXTS && status == KV_OK; i++)
        status = kv_h5_attr_string(r->file, "/", texts[i].name, texts[i].value, texts[i].size, err);
    return status == KV_OK ? kv_h5_attr_string(r->file, "/", "checksum", checksum, 17, err) : status;
}

// ---- Arrays --------------------------------------------------------------------------------------------

static kv_status read_ids(struct reading *r, kv_error *err) {
    kv_saved_prompt *p = r->prompt;
    int n_dims = 0;
    int64_t shape[8];
    kv_status status =
        kv_h5_read_i32(r->file, "/ids", r->left / (int64_t)sizeof *p->ids, &p->ids, &n_dims, shape, err);
    if (status != KV_OK) return status;
    if (n_dims != 1 || shape[0] < 1) return damaged(r, "no list of ids", err);
    p->n_ids = shape[0];
    r->left -= p->n_ids * (int64_t)sizeof *p->ids;
    for (int64_t t = 0; t < p->n_ids; t++)
        if (p->ids[t] < 0) return damaged(r, "an id is negative", err);
    return KV_OK;
}

static kv_status read_flags(struct reading *r, kv_error *err) {
    kv_saved_prompt *p = r->prompt;
    kv_status status = kv_h5_read_u8(r->file, "/predicted", p->n_ids, &p->predicted, &p->n_rows, err);
    if (status != KV_OK) return status;
    if (p->n_rows < p->n_ids - 1 || p->n_rows > p->n_ids || p->n_rows < 1)
        return damaged(r, "entries of another number of tokens than it has", err);
    for (int64_t t = 0; t < p->n_rows; t++)
        if (p->predicted[t] > 1) return damaged(r, "a mark that is neither 0 nor 1", err);
    return KV_OK;
}

static kv_status read_text(struct reading *r, kv_error *err) {
    kv_saved_prompt *p = r->prompt;
    uint8_t *text = NULL;
    if (!kv_h5_exists(r->file, "/text")) return KV_OK;
    kv_status status = kv_h5_read_u8(r->file, "/text", r->left, &text, &p->n_text, err);
    if (status != KV_OK) return status;
    r->left -= p->n_text;
    p->text = realloc(text, (size_t)p->n_text + 1);
    if (!p->text) {
        free(text);
        return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", r->path);
    }
    p->text[p->n_text] = '\0';
    return KV_OK;
}

static kv_status read_side(struct reading *r, const char *name, bool first, kv_saved_cache *cache,
                           int64_t layer, float **rows, kv_error *err) {
    int n_dims = 0;
    int64_t shape[8];
    kv_status status =
        kv_h5_read_f32(r->file, name, r->left / (int64_t)sizeof **rows, rows, &n_dims, shape, err);
    if (status != KV_OK) return status;
    if (first) cache->dims[layer] = n_dims == 2 ? shape[1] : 0;
    if (first && layer == 0) cache->n_rows = shape[0];
    if (n_dims != 2 || shape[0] != cache->n_rows || shape[1] != cache->dims[layer] || shape[1] < 1)
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: damaged saved prompt: %s is not of [%" PRIi64 ", %" PRIi64 "]", r->path, name,
                       cache->n_rows, cache->dims[layer]);
    r->left -= shape[0] * shape[1] * (int64_t)sizeof **rows;
    if (kv_all_finite(*rows, shape[0] * shape[1])) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged saved prompt: %s has values that are not finite", r->path,
                   name);
}

static kv_status read_cache(struct reading *r, int model, kv_saved_cache *cache, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; i < cache->n_layers; i++)
        for (int side = 0; side < 2 && status == KV_OK; side++) {
            char name[KV_SAVED_NAME];
            kv_saved_name(model, side, i, name);
            status = read_side(r, name, side == 0, cache, i, &(side ? cache->v : cache->k)[i], err);
        }
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

static kv_status read_all(struct reading *r, kv_error *err) {
    kv_saved_prompt *p = r->prompt;
    char said[17] = "", found[17];
    kv_status status = read_attributes(r, said, err);
    if (status == KV_OK) status = read_ids(r, err);
    if (status == KV_OK) status = read_flags(r, err);
    if (status == KV_OK) status = read_text(r, err);
    if (status == KV_OK) status = read_cache(r, 0, &p->base, err);
    if (status == KV_OK) status = read_cache(r, 1, &p->aux, err);
    if (status != KV_OK) return status;
    if (p->base.n_rows != p->n_rows || p->aux.n_rows > p->n_rows)
        return damaged(r, "entries of another number of tokens than it has", err);
    kv_saved_checksum(p, found);
    if (!strcmp(found, said)) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged saved prompt: its checksum is %s, expected %s", r->path,
                   found, said);
}

kv_status kv_saved_prompt_read(const char *path, kv_saved_prompt **prompt, kv_error *err) {
    struct reading r = {.path = path, .prompt = calloc(1, sizeof *r.prompt)};
    struct stat info;
    *prompt = NULL;
    if (!r.prompt) return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", path);
    kv_status status = kv_h5_open(path, &r.file, err);
    if (status == KV_OK) r.left = stat(path, &info) == 0 ? (int64_t)info.st_size : 0;
    if (status == KV_OK) status = kv_memory_check((double)r.left, path, err);
    if (status == KV_OK) status = read_all(&r, err);
    if (r.file >= 0) H5Fclose(r.file);
    if (status == KV_OK) {
        *prompt = r.prompt;
        return KV_OK;
    }
    kv_saved_prompt_free(r.prompt);
    return kv_mistaken(path, KV_FILE_PROMPT, status, err);
}
