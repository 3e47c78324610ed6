// Writing a saved prompt: all of it under a temporary name, which then becomes the file's.
#include "core/vecmath.h"
#include "data/file/h5.h"
#include "data/file/whole_file.h"
#include "data/prompt/layout.h"

#include <string.h>

static kv_status write_attributes(hid_t file, const kv_saved_prompt *p, kv_error *err) {
    kv_saved_maker maker = p->maker;
    kv_saved_text texts[KV_SAVED_TEXTS];
    char checksum[17];
    kv_saved_texts(&maker, texts);
    kv_saved_checksum(p, checksum);
    kv_status status = kv_h5_set_string(file, "/", "format", "kv-prompt", err);
    if (status == KV_OK) status = kv_h5_set_i64(file, "/", "version", 1, err);
    if (status == KV_OK) status = kv_h5_set_i64(file, "/", "base_layers", p->base.n_layers, err);
    if (status == KV_OK) status = kv_h5_set_i64(file, "/", "aux_layers", p->aux.n_layers, err);
    for (int i = 0; i < KV_SAVED_TEXTS && status == KV_OK; i++)
        status = kv_h5_set_string(file, "/", texts[i].name, texts[i].value, err);
    return status == KV_OK ? kv_h5_set_string(file, "/", "checksum", checksum, err) : status;
}

static kv_status write_cache(hid_t file, int model, const kv_saved_cache *cache, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; i < cache->n_layers; i++)
        for (int side = 0; side < 2 && status == KV_OK; side++) {
            const float *rows = (side ? cache->v : cache->k)[i];
            char name[KV_SAVED_NAME];
            kv_saved_name(model, side, i, name);
            if (!kv_all_finite(rows, cache->n_rows * cache->dims[i]))
                return kv_fail(err, KV_ERR_NOT_FINITE, "%s has values that are not finite: nothing is saved",
                               name);
            status = kv_h5_write_plain(file, name, H5T_NATIVE_FLOAT, rows, 2,
                                       (int64_t[]){cache->n_rows, cache->dims[i]}, err);
        }
    return status;
}

static kv_status write_all(hid_t file, const kv_saved_prompt *p, kv_error *err) {
    kv_status status = write_attributes(file, p, err);
    if (status == KV_OK)
        status = kv_h5_write_plain(file, "/ids", H5T_NATIVE_INT32, p->ids, 1, &p->n_ids, err);
    if (status == KV_OK)
        status = kv_h5_write_plain(file, "/predicted", H5T_NATIVE_UINT8, p->predicted, 1, &p->n_rows, err);
    if (status == KV_OK && p->text)
        status = kv_h5_write_plain(file, "/text", H5T_NATIVE_UINT8, p->text, 1, &p->n_text, err);
    if (status == KV_OK) status = write_cache(file, 0, &p->base, err);
    return status == KV_OK ? write_cache(file, 1, &p->aux, err) : status;
}

kv_status kv_saved_prompt_write(const char *path, const kv_saved_prompt *prompt, kv_error *err) {
    kv_whole_file target;
    hid_t file;
    kv_status status = kv_whole_file_begin(&target, path, err);
    if (status != KV_OK) return status;
    status = kv_h5_create_checked(target.path, &file, err);
    if (status == KV_OK) status = write_all(file, prompt, err);
    kv_error closing;
    const kv_status closed = kv_h5_close(&file, &closing);
    if (status == KV_OK && closed != KV_OK) {
        status = closed;
        if (err) *err = closing;
    }
    return kv_whole_file_end(&target, status, err);
}
