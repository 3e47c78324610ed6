// The keys of a config.json that are plain values of the spec: one table of a family, walked to read and to write.
#include "data/checkpoint/hf_config_family.h"

static void *place(kv_model_spec *spec, const kv_hf_field *field) {
    return (char *)spec + field->offset;
}

static const void *value_at(const kv_model_spec *spec, const kv_hf_field *field) {
    return (const char *)spec + field->offset;
}

static kv_status read_float(const kv_json_file *file, const kv_hf_field *field, float *value, kv_error *err) {
    double read = *value;
    kv_status status = kv_json_real(file, field->key, field->least, field->most, &read, err);
    *value = (float)read;
    return status;
}

static kv_status read_field(const kv_json_file *file, const kv_hf_field *field, kv_model_spec *spec,
                            kv_error *err) {
    const json_t *found = json_object_get(file->root, field->key);
    if (!field->needed && (!found || (field->null_absent && json_is_null(found)))) return KV_OK;
    switch (field->kind) {
    case KV_HF_INT:
        return kv_json_int(file, field->key, (int64_t)field->least, (int64_t)field->most, place(spec, field),
                           err);
    case KV_HF_REAL:
        return kv_json_real(file, field->key, field->least, field->most, place(spec, field), err);
    case KV_HF_FLOAT: return read_float(file, field, place(spec, field), err);
    case KV_HF_BOOL: return kv_json_bool(file, field->key, place(spec, field), err);
    }
    return KV_OK;
}

kv_status kv_hf_fields_read(const kv_json_file *file, const kv_hf_field *fields, kv_model_spec *spec,
                            kv_error *err) {
    kv_status status = KV_OK;
    for (const kv_hf_field *field = fields; field->key && !status; field++)
        status = read_field(file, field, spec, err);
    return status;
}

static json_t *field_json(const kv_model_spec *spec, const kv_hf_field *field) {
    const void *value = value_at(spec, field);
    switch (field->kind) {
    case KV_HF_INT: return json_integer((json_int_t) * (const int64_t *)value);
    case KV_HF_REAL: return json_real(*(const double *)value);
    case KV_HF_FLOAT: return kv_hf_float_json(*(const float *)value);
    case KV_HF_BOOL: return json_boolean(*(const bool *)value);
    }
    return NULL;
}

bool kv_hf_fields_write(const kv_model_spec *spec, const kv_hf_field *fields, json_t *root) {
    bool ok = root != NULL;
    for (const kv_hf_field *field = fields; field->key && ok; field++)
        ok = json_object_set_new(root, field->key, field_json(spec, field)) == 0;
    return ok;
}
