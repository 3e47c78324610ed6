#include "data/kvdata.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The datasets and attributes of any HDF5 file, one a line.

static const char *class_name(H5T_class_t class) {
    switch (class) {
    case H5T_INTEGER: return "int";
    case H5T_FLOAT: return "float";
    case H5T_STRING: return "string";
    case H5T_COMPOUND: return "compound";
    default: return "other";
    }
}

// "float32 [3, 12]"; scalars have no brackets.
static void print_type_and_shape(hid_t type, hid_t space) {
    H5T_class_t class = H5Tget_class(type);
    printf("%s", class_name(class));
    if (class == H5T_INTEGER || class == H5T_FLOAT) printf("%zu", 8 * H5Tget_size(type));
    hsize_t dims[H5S_MAX_RANK];
    int n_dims = H5Sget_simple_extent_dims(space, dims, NULL);
    for (int d = 0; d < n_dims; d++)
        printf("%s%llu%s", d ? ", " : " [", (unsigned long long)dims[d], d == n_dims - 1 ? "]" : "");
}

static void print_string(hid_t attribute, hid_t type) {
    char *text = NULL;
    if (H5Tis_variable_str(type) > 0) {
        if (H5Aread(attribute, type, &text) >= 0 && text) printf("\"%s\"", text);
        H5free_memory(text);
        return;
    }
    text = calloc(1, H5Tget_size(type) + 1);
    if (text && H5Aread(attribute, type, text) >= 0) printf("\"%s\"", text);
    free(text);
}

static void print_attribute_value(hid_t attribute, hid_t type, hid_t space) {
    H5T_class_t class = H5Tget_class(type);
    bool scalar = H5Sget_simple_extent_npoints(space) == 1;
    int64_t whole = 0;
    double real = 0;
    if (scalar && class == H5T_INTEGER && H5Aread(attribute, H5T_NATIVE_INT64, &whole) >= 0)
        printf("%" PRIi64, whole);
    else if (scalar && class == H5T_FLOAT && H5Aread(attribute, H5T_NATIVE_DOUBLE, &real) >= 0)
        printf("%g", real);
    else if (scalar && class == H5T_STRING)
        print_string(attribute, type);
    else
        print_type_and_shape(type, space);
}

static herr_t show_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data) {
    (void)info;
    (void)data;
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return -1;
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    printf("    @%s = ", name);
    if (type >= 0 && space >= 0) print_attribute_value(attribute, type, space);
    putchar('\n');
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    H5Aclose(attribute);
    return 0;
}

static herr_t show_object(hid_t file, const char *name, const H5O_info_t *info, void *data) {
    (void)data;
    hid_t object = H5Oopen(file, name, H5P_DEFAULT);
    if (object < 0) return -1;
    if (info->type == H5O_TYPE_DATASET) {
        hid_t type = H5Dget_type(object), space = H5Dget_space(object);
        printf("  %-40s ", name);
        if (type >= 0 && space >= 0) print_type_and_shape(type, space);
        putchar('\n');
        if (type >= 0) H5Tclose(type);
        if (space >= 0) H5Sclose(space);
    } else if (H5Aget_num_attrs(object) > 0) {
        printf("  %s\n", strcmp(name, ".") == 0 ? "/" : name);
    }
    herr_t result = H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, NULL, show_attribute, NULL);
    H5Oclose(object);
    return result;
}

kv_status kvdata_list_hdf5(hid_t file, const char *path, kv_error *err) {
    if (H5Ovisit2(file, H5_INDEX_NAME, H5_ITER_INC, show_object, NULL, H5O_INFO_BASIC) >= 0) return KV_OK;
    return kv_fail(err, KV_ERR_FORMAT, "%s: damaged HDF5 file: its objects cannot all be read", path);
}
