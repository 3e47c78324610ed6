// For HDF5 files that are none of ours, or too damaged to be: every name and number is read with bounds,
// since anything may be in there.
#include "data/kvdata/inspect/list_hdf5.h"

#include "data/system/width.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Long attributes are shown by their beginning.
enum { MAX_VALUES = 8, MAX_TEXT = 120, LINE = 512, MAX_STRING = 1 << 20 };

struct listing {
    inspect_report *report;
    json_t *attributes; // of the object that is shown
};

static const char *class_name(H5T_class_t class) {
    switch (class) {
    case H5T_INTEGER: return "int";
    case H5T_FLOAT: return "float";
    case H5T_STRING: return "string";
    case H5T_COMPOUND: return "compound";
    case H5T_VLEN: return "lists";
    case H5T_ENUM: return "enum";
    default: return "other";
    }
}

static void type_text(hid_t type, char text[32]) {
    const H5T_class_t class = H5Tget_class(type);
    const bool number = class == H5T_INTEGER || class == H5T_FLOAT;
    const bool is_unsigned = class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE;
    snprintf(text, 32, "%s%s", is_unsigned ? "u" : "", class_name(class));
    if (number) snprintf(text + strlen(text), 32 - strlen(text), "%zu", 8 * H5Tget_size(type));
}

// "[3, 12]" into text and a list; nothing for a scalar.
static json_t *shape_text(hid_t space, char text[LINE]) {
    hsize_t dims[H5S_MAX_RANK];
    const int n_dims = H5Sget_simple_extent_dims(space, dims, NULL);
    json_t *shape = json_array();
    size_t used = 0;
    text[0] = '\0';
    for (int d = 0; d < n_dims && used + 32 < LINE; d++) {
        used += (size_t)snprintf(text + used, LINE - used, "%s%llu%s", d ? ", " : " [",
                                 (unsigned long long)dims[d], d == n_dims - 1 ? "]" : "");
        json_array_append_new(shape, json_integer((json_int_t)dims[d]));
    }
    return shape;
}

// ---- Attributes ----------------------------------------------------------------------------------------

static json_t *string_value(hid_t attribute, hid_t type, char text[LINE]) {
    char *read = NULL, shown[INSPECT_SHORT];
    const bool variable = H5Tis_variable_str(type) > 0;
    if (!variable && H5Tget_size(type) <= MAX_STRING) read = calloc(1, H5Tget_size(type) + 1);
    const bool ok =
        variable ? H5Aread(attribute, type, &read) >= 0 && read : read && H5Aread(attribute, type, read) >= 0;
    json_t *value = ok ? json_string(read) : NULL;
    snprintf(text, LINE, "\"%s\"", ok ? inspect_short(read, MAX_TEXT, shown) : "");
    if (variable)
        H5free_memory(read);
    else
        free(read);
    return value;
}

// Up to MAX_VALUES numbers.
static json_t *number_values(hid_t attribute, bool whole, hssize_t n, char text[LINE]) {
    enum { MOST = 1 << 16 };
    size_t used = 0;
    if (n < 1 || n > MOST) return NULL;
    int64_t *ints = calloc((size_t)n, sizeof *ints);
    double *reals = calloc((size_t)n, sizeof *reals);
    bool ok = ints && reals &&
              H5Aread(attribute, whole ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE,
                      whole ? (void *)ints : (void *)reals) >= 0;
    json_t *list = ok ? json_array() : NULL;
    for (hssize_t i = 0; ok && i < n; i++) {
        if (i < MAX_VALUES)
            used += (size_t)(whole ? snprintf(text + used, LINE - used, "%s%" PRIi64, i ? ", " : "", ints[i])
                                   : snprintf(text + used, LINE - used, "%s%g", i ? ", " : "", reals[i]));
        json_array_append_new(list, whole                ? json_integer(ints[i])
                                    : isfinite(reals[i]) ? json_real(reals[i])
                                                         : json_null());
    }
    if (ok && n > MAX_VALUES) snprintf(text + used, LINE - used, ", ... %lld in all", (long long)n);
    free(ints);
    free(reals);
    return list;
}

static json_t *attribute_value(hid_t attribute, hid_t type, hid_t space, char text[LINE]) {
    const H5T_class_t class = H5Tget_class(type);
    const hssize_t n = H5Sget_simple_extent_npoints(space);
    json_t *value = NULL;
    text[0] = '\0';
    if (n == 1 && class == H5T_STRING) value = string_value(attribute, type, text);
    if (class == H5T_INTEGER || class == H5T_FLOAT)
        value = number_values(attribute, class == H5T_INTEGER, n, text);
    if (value && json_array_size(value) == 1) {
        json_t *only = json_incref(json_array_get(value, 0));
        json_decref(value);
        return only;
    }
    if (value) return value;
    char shape[LINE];
    json_decref(shape_text(space, shape));
    type_text(type, text);
    snprintf(text + strlen(text), LINE - strlen(text), "%.200s", shape);
    return json_string(text);
}

static herr_t show_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data) {
    (void)info;
    struct listing *l = data;
    char text[LINE], shown[INSPECT_SHORT];
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return -1;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    const bool ok = type >= 0 && space >= 0;
    json_t *value = ok ? attribute_value(attribute, type, space, text) : NULL;
    if (ok && !inspect_is_json(l->report)) printf("    @%s = %s\n", inspect_short(name, 80, shown), text);
    json_object_set_new(l->attributes, name, value ? value : json_null());
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    H5Aclose(attribute);
    return ok ? 0 : -1;
}

// ---- Objects -------------------------------------------------------------------------------------------

static bool describe_dataset(hid_t object, json_t *about, char text[LINE]) {
    hid_t type = H5Dget_type(object), space = H5Dget_space(object);
    const bool ok = type >= 0 && space >= 0;
    if (ok) {
        char shape[LINE], kind[32];
        type_text(type, kind);
        json_object_set_new(about, "shape", shape_text(space, shape));
        json_object_set_new(about, "type", json_string(kind));
        snprintf(text, LINE, "%s%.400s", kind, shape);
    }
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    return ok;
}

static herr_t show_object(hid_t file, const char *name, const H5O_info_t *info, void *data) {
    struct listing *l = data;
    char text[LINE] = "", shown[INSPECT_SHORT];
    hid_t object = H5Oopen(file, name, H5P_DEFAULT);
    if (object < 0) return -1;
    const bool root = strcmp(name, ".") == 0;
    const bool dataset = info->type == H5O_TYPE_DATASET, group = info->type == H5O_TYPE_GROUP;
    json_t *about = json_pack("{s:s, s:s}", "name", root ? "/" : name, "kind",
                              dataset ? "dataset"
                              : group ? "group"
                                      : "type");
    herr_t result = about && (!dataset || describe_dataset(object, about, text)) ? 0 : -1;
    // The root without attributes says nothing.
    if (result == 0 && !inspect_is_json(l->report) && (!root || H5Aget_num_attrs(object) > 0)) {
        const char *path = root ? "/" : inspect_short(name, 120, shown);
        if (dataset)
            printf("  %s%*s %s\n", path, kv_text_pad(path, 40), "", text);
        else
            printf("  %s%s\n", path, root ? "" : "/");
    }
    l->attributes = json_object();
    if (result == 0) result = H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, show_attribute, l);
    H5Oclose(object);
    if (json_object_size(l->attributes) > 0) json_object_set(about, "attributes", l->attributes);
    json_decref(l->attributes);
    if (inspect_is_json(l->report))
        inspect_row(l->report, "objects", about, "%s", "");
    else
        json_decref(about);
    return result;
}

kv_status inspect_list_hdf5(hid_t file, const char *path, inspect_report *report, kv_error *err) {
    struct listing listing = {.report = report};
    if (H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, show_object, &listing, H5O_INFO_BASIC) >= 0) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged HDF5 file: its objects cannot all be read", path);
}
