// Datasets and attributes, checked before they are read.
#include "data/file/h5.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static kv_status h5_wrong(kv_error *err, hid_t file, const char *name, const char *found_expected) {
    char path[512] = "HDF5 file";
    H5Fget_name(file, path, sizeof path);
    return kv_fail(err, KV_ERR_FORMAT, "%s: '%s': %s", path, name, found_expected);
}

// ---- Reading datasets ----------------------------------------------------------------------------------

static bool is_numeric(hid_t type) {
    H5T_class_t class = H5Tget_class(type);
    return class == H5T_INTEGER || class == H5T_FLOAT || class == H5T_ENUM;
}

static bool is_integer(hid_t type) {
    return is_numeric(type) && H5Tget_class(type) != H5T_FLOAT;
}

// Without this HDF5 silently replaces a value that does not fit by the nearest one that does.
static H5T_conv_ret_t refuse_overflow(H5T_conv_except_t exception, hid_t from, hid_t to, void *from_value,
                                      void *to_value, void *data) {
    (void)from;
    (void)to;
    (void)from_value;
    (void)to_value;
    (void)data;
    bool overflow = exception == H5T_CONV_EXCEPT_RANGE_HI || exception == H5T_CONV_EXCEPT_RANGE_LOW;
    return overflow ? H5T_CONV_ABORT : H5T_CONV_UNHANDLED;
}

// Shape and number of elements of a dataspace, refused where they exceed max_elements.
static kv_status space_shape(hid_t file, const char *name, hid_t space, int64_t max_elements, int *n_dims,
                             int64_t shape[8], int64_t *n, kv_error *err) {
    hsize_t dims[H5S_MAX_RANK];
    int rank = H5Sget_simple_extent_ndims(space);
    if (rank < 0 || rank > 8 || H5Sget_simple_extent_type(space) == H5S_NULL)
        return h5_wrong(err, file, name, "expected an array of at most 8 dimensions");
    H5Sget_simple_extent_dims(space, dims, NULL);
    uint64_t total = 1, limit = max_elements < 0 ? 0 : (uint64_t)max_elements;
    bool empty = false;
    for (int i = 0; i < rank; i++) empty |= dims[i] == 0;
    for (int i = 0; i < rank && !empty; i++) {
        if (dims[i] > limit / total) {
            char text[128];
            snprintf(text, sizeof text, "more than the %llu elements that are accepted here",
                     (unsigned long long)limit);
            return h5_wrong(err, file, name, text);
        }
        total *= dims[i];
    }
    *n = empty ? 0 : (int64_t)total;
    if (n_dims) *n_dims = rank;
    for (int i = 0; shape && i < 8; i++) shape[i] = i < rank ? (int64_t)dims[i] : 1;
    return KV_OK;
}

static kv_status read_elements(hid_t file, const char *name, hid_t dataset, hid_t mem_type, int64_t n,
                               void **data, kv_error *err) {
    size_t element = H5Tget_size(mem_type);
    if ((uint64_t)n > SIZE_MAX / element) return h5_wrong(err, file, name, "too large for this machine");
    void *buffer = malloc(n ? (size_t)n * element : 1);
    hid_t transfer = H5Pcreate(H5P_DATASET_XFER);
    kv_status status = KV_OK;
    if (!buffer || transfer < 0 || H5Pset_type_conv_cb(transfer, refuse_overflow, NULL) < 0)
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for '%s'", name);
    else if (n && H5Dread(dataset, mem_type, H5S_ALL, H5S_ALL, transfer, buffer) < 0)
        status = kv_h5_error(err, KV_ERR_FORMAT, file, "cannot read dataset", name);
    if (transfer >= 0) H5Pclose(transfer);
    if (status)
        free(buffer);
    else
        *data = buffer;
    return status;
}

// A dataset that is read, with its type and shape.
struct dataset {
    hid_t id, type, space;
};

static void close_dataset(struct dataset *dataset) {
    if (dataset->space >= 0) H5Sclose(dataset->space);
    if (dataset->type >= 0) H5Tclose(dataset->type);
    if (dataset->id >= 0) H5Dclose(dataset->id);
}

// To be closed also after a failure.
static kv_status open_dataset(hid_t file, const char *name, struct dataset *dataset, kv_error *err) {
    *dataset = (struct dataset){H5I_INVALID_HID, H5I_INVALID_HID, H5I_INVALID_HID};
    kv_h5_init();
    if (!kv_h5_exists(file, name)) return h5_wrong(err, file, name, "missing dataset");
    dataset->id = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset->id < 0) return kv_h5_error(err, KV_ERR_FORMAT, file, "cannot open dataset", name);
    dataset->type = H5Dget_type(dataset->id);
    dataset->space = H5Dget_space(dataset->id);
    if (dataset->type >= 0 && dataset->space >= 0) return KV_OK;
    return kv_h5_error(err, KV_ERR_FORMAT, file, "cannot read type and shape of", name);
}

// The elements as mem_type; NULL when *status says why there are none.
static void *read_dataset(hid_t file, const char *name, hid_t mem_type, int64_t max_elements, int *n_dims,
                          int64_t shape[8], kv_status *status, kv_error *err) {
    void *data = NULL;
    struct dataset dataset;
    const bool integers = H5Tget_class(mem_type) == H5T_INTEGER;
    int64_t n = 0;
    *status = open_dataset(file, name, &dataset, err);
    if (!*status && (integers ? !is_integer(dataset.type) : !is_numeric(dataset.type)))
        *status = h5_wrong(err, file, name,
                           integers ? "wrong type, expected integers" : "wrong type, expected numbers");
    if (!*status) *status = space_shape(file, name, dataset.space, max_elements, n_dims, shape, &n, err);
    if (!*status) *status = read_elements(file, name, dataset.id, mem_type, n, &data, err);
    close_dataset(&dataset);
    return data;
}

kv_status kv_h5_read_f32(hid_t file, const char *name, int64_t max_elements, float **data, int *n_dims,
                         int64_t shape[8], kv_error *err) {
    kv_status status;
    *data = read_dataset(file, name, H5T_NATIVE_FLOAT, max_elements, n_dims, shape, &status, err);
    return status;
}

kv_status kv_h5_read_i32(hid_t file, const char *name, int64_t max_elements, int32_t **data, int *n_dims,
                         int64_t shape[8], kv_error *err) {
    kv_status status;
    *data = read_dataset(file, name, H5T_NATIVE_INT32, max_elements, n_dims, shape, &status, err);
    return status;
}

kv_status kv_h5_read_i64(hid_t file, const char *name, int64_t max_elements, int64_t **data, int *n_dims,
                         int64_t shape[8], kv_error *err) {
    kv_status status;
    *data = read_dataset(file, name, H5T_NATIVE_INT64, max_elements, n_dims, shape, &status, err);
    return status;
}

kv_status kv_h5_read_f64(hid_t file, const char *name, int64_t max_elements, double **data, int *n_dims,
                         int64_t shape[8], kv_error *err) {
    kv_status status;
    *data = read_dataset(file, name, H5T_NATIVE_DOUBLE, max_elements, n_dims, shape, &status, err);
    return status;
}

kv_status kv_h5_read_u8(hid_t file, const char *name, int64_t max_elements, uint8_t **data, int64_t *n,
                        kv_error *err) {
    kv_status status;
    int n_dims;
    int64_t shape[8];
    *data = read_dataset(file, name, H5T_NATIVE_UINT8, max_elements, &n_dims, shape, &status, err);
    uint64_t all = 1; // wraps where something empty is endless otherwise
    for (int i = 0; status == KV_OK && i < n_dims; i++) all *= (uint64_t)shape[i];
    *n = (int64_t)all;
    return status;
}

void kv_h5_free_strings(char **strings, int64_t n) {
    for (int64_t i = 0; strings && i < n; i++) free(strings[i]);
    free(strings);
}

// The strings of an open dataset. HDF5's own copies are given back here; the caller's are plain ones.
static kv_status read_strings(hid_t file, const char *name, hid_t dataset, hid_t type, hid_t space, int64_t n,
                              char ***strings, kv_error *err) {
    char **theirs = calloc((size_t)n + 1, sizeof *theirs), **own = calloc((size_t)n + 1, sizeof *own);
    kv_status status = theirs && own ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for '%s'", name);
    if (status == KV_OK && n > 0 && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, theirs) < 0)
        status = kv_h5_error(err, KV_ERR_FORMAT, file, "cannot read dataset", name);
    for (int64_t i = 0; status == KV_OK && i < n; i++) {
        own[i] = strdup(theirs[i] ? theirs[i] : "");
        if (!own[i]) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for '%s'", name);
    }
    if (theirs && n > 0) H5Dvlen_reclaim(type, space, H5P_DEFAULT, theirs);
    free(theirs);
    if (status == KV_OK)
        *strings = own;
    else
        kv_h5_free_strings(own, n);
    return status;
}

kv_status kv_h5_read_strings(hid_t file, const char *name, int64_t max_elements, char ***strings, int64_t *n,
                             kv_error *err) {
    struct dataset dataset;
    *strings = NULL, *n = 0;
    kv_status status = open_dataset(file, name, &dataset, err);
    if (!status && (H5Tget_class(dataset.type) != H5T_STRING || H5Tis_variable_str(dataset.type) <= 0))
        status = h5_wrong(err, file, name, "wrong type, expected strings of variable length");
    if (!status) status = space_shape(file, name, dataset.space, max_elements, NULL, NULL, n, err);
    if (!status) status = read_strings(file, name, dataset.id, dataset.type, dataset.space, *n, strings, err);
    close_dataset(&dataset);
    return status;
}

bool kv_h5_exists(hid_t file, const char *name) {
    kv_h5_init();
    // H5Lexists wants every group above to exist, so it is asked from the top down.
    char prefix[512];
    size_t length = strlen(name);
    if (length == 0 || length >= sizeof prefix) return false;
    if (strcmp(name, "/") == 0) return true;
    memcpy(prefix, name, length + 1);
    for (char *slash = strchr(prefix + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (H5Lexists(file, prefix, H5P_DEFAULT) <= 0) return false;
        *slash = '/';
    }
    return H5Lexists(file, prefix, H5P_DEFAULT) > 0 && H5Oexists_by_name(file, prefix, H5P_DEFAULT) > 0;
}

// ---- Writing datasets ----------------------------------------------------------------------------------

enum { CHUNKED_FROM = 4096, CHUNK_ELEMENTS = 1 << 16, DEFLATE_LEVEL = 4 };

typedef enum kv_packing { PLAIN, CHECKED, COMPRESSED } kv_packing;

// Small datasets lie contiguous, others in chunks of whole rows, or of a part of one long row.
static bool set_layout(hid_t plist, kv_packing packing, int n_dims, const hsize_t *dims) {
    hsize_t chunk[H5S_MAX_RANK], n = 1;
    for (int i = 0; i < n_dims; i++) {
        chunk[i] = dims[i];
        n *= dims[i];
    }
    if (packing == PLAIN || n <= CHUNKED_FROM) return true;
    for (int i = 0; n > CHUNK_ELEMENTS && i < n_dims; i++) {
        hsize_t rest = n / chunk[i];
        chunk[i] = rest >= CHUNK_ELEMENTS ? 1 : CHUNK_ELEMENTS / rest;
        n = rest * chunk[i];
    }
    bool ok = H5Pset_chunk(plist, n_dims, chunk) >= 0;
    if (packing == COMPRESSED)
        ok = ok && H5Pset_shuffle(plist) >= 0 && H5Pset_deflate(plist, DEFLATE_LEVEL) >= 0;
    return ok && H5Pset_fletcher32(plist) >= 0;
}

static kv_status write_dataset(hid_t file, const char *name, hid_t type, kv_packing packing, const void *data,
                               int n_dims, const hsize_t *dims, kv_error *err) {
    hid_t links = H5Pcreate(H5P_LINK_CREATE), layout = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = n_dims ? H5Screate_simple(n_dims, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t dataset = H5I_INVALID_HID;
    // Without times equal content makes equal files.
    bool ok = links >= 0 && layout >= 0 && space >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0 &&
              H5Pset_obj_track_times(layout, false) >= 0 && set_layout(layout, packing, n_dims, dims);
    if (ok) dataset = H5Dcreate2(file, name, type, space, links, layout, H5P_DEFAULT);
    bool empty = false;
    for (int i = 0; i < n_dims; i++) empty |= dims[i] == 0;
    ok = dataset >= 0 && (empty || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    kv_status status = ok ? KV_OK : kv_h5_error(err, KV_ERR_IO, file, "cannot write dataset", name);
    if (dataset >= 0 && H5Dclose(dataset) < 0 && !status)
        status = kv_h5_error(err, KV_ERR_IO, file, "cannot write dataset", name);
    if (space >= 0) H5Sclose(space);
    if (layout >= 0) H5Pclose(layout);
    if (links >= 0) H5Pclose(links);
    return status;
}

static kv_status write_shaped(hid_t file, const char *name, hid_t mem_type, kv_packing packing,
                              const void *data, int n_dims, const int64_t *shape, kv_error *err) {
    kv_h5_init();
    hsize_t dims[H5S_MAX_RANK], n = 1;
    if (n_dims < 0 || n_dims > 8)
        return kv_fail(err, KV_ERR_ARGUMENT, "dataset '%s': %d dimensions, expected 0 to 8", name, n_dims);
    for (int i = 0; i < n_dims; i++) {
        hsize_t rest = n ? (hsize_t)INT64_MAX / n : (hsize_t)INT64_MAX;
        if (shape[i] < 0 || (hsize_t)shape[i] > rest)
            return kv_fail(err, KV_ERR_ARGUMENT, "dataset '%s': impossible length %lld of dimension %d", name,
                           (long long)shape[i], i);
        dims[i] = (hsize_t)shape[i];
        n *= dims[i];
    }
    return write_dataset(file, name, mem_type, packing, data, n_dims, dims, err);
}

kv_status kv_h5_write(hid_t file, const char *name, hid_t mem_type, const void *data, int n_dims,
                      const int64_t *shape, kv_error *err) {
    return write_shaped(file, name, mem_type, COMPRESSED, data, n_dims, shape, err);
}

kv_status kv_h5_write_checked(hid_t file, const char *name, hid_t mem_type, const void *data, int n_dims,
                              const int64_t *shape, kv_error *err) {
    return write_shaped(file, name, mem_type, CHECKED, data, n_dims, shape, err);
}

kv_status kv_h5_write_plain(hid_t file, const char *name, hid_t mem_type, const void *data, int n_dims,
                            const int64_t *shape, kv_error *err) {
    return write_shaped(file, name, mem_type, PLAIN, data, n_dims, shape, err);
}

kv_status kv_h5_write_strings(hid_t file, const char *name, const char *const *strings, int64_t n,
                              kv_error *err) {
    kv_h5_init();
    hid_t type = H5Tcopy(H5T_C_S1);
    kv_status status;
    hsize_t dims[1] = {(hsize_t)n};
    if (n < 0)
        status = kv_fail(err, KV_ERR_ARGUMENT, "dataset '%s': negative number of strings", name);
    else if (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)
        status = kv_h5_error(err, KV_ERR_MEMORY, file, "cannot make the string type of", name);
    else
        status = write_dataset(file, name, type, PLAIN, strings, 1, dims, err);
    if (type >= 0) H5Tclose(type);
    return status;
}

// ---- Attributes ----------------------------------------------------------------------------------------

// Opens an attribute and checks its type; *n gets its number of elements.
static kv_status open_attr(hid_t file, const char *object, const char *name, bool integer, int64_t max_n,
                           hid_t *attr, int64_t *n, kv_error *err) {
    kv_h5_init();
    *attr = H5I_INVALID_HID;
    if (!kv_h5_exists(file, object) || H5Aexists_by_name(file, object, name, H5P_DEFAULT) <= 0)
        return h5_wrong(err, file, name, "missing attribute");
    *attr = H5Aopen_by_name(file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    if (*attr < 0) return kv_h5_error(err, KV_ERR_FORMAT, file, "cannot open attribute", name);
    hid_t type = H5Aget_type(*attr), space = H5Aget_space(*attr);
    kv_status status = KV_OK;
    if (type < 0 || space < 0)
        status = kv_h5_error(err, KV_ERR_FORMAT, file, "cannot read the type of attribute", name);
    else if (integer ? !is_integer(type) : !is_numeric(type))
        status = h5_wrong(err, file, name,
                          integer ? "wrong type, expected an integer" : "wrong type, expected a number");
    else
        status = space_shape(file, name, space, max_n, NULL, NULL, n, err);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (status) H5Aclose(*attr);
    return status;
}

static kv_status read_attr(hid_t file, const char *object, const char *name, hid_t mem_type, bool scalar,
                           int64_t max_n, void *values, int64_t *n, kv_error *err) {
    hid_t attr;
    bool integer = H5Tget_class(mem_type) == H5T_INTEGER;
    kv_status status = open_attr(file, object, name, integer, max_n, &attr, n, err);
    if (status) return status;
    if (scalar && *n != 1)
        status = h5_wrong(err, file, name, "expected one value");
    else if (*n > 0 && H5Aread(attr, mem_type, values) < 0)
        status = kv_h5_error(err, KV_ERR_FORMAT, file, "cannot read attribute", name);
    H5Aclose(attr);
    return status;
}

kv_status kv_h5_attr_f64(hid_t file, const char *object, const char *name, double *value, kv_error *err) {
    int64_t n;
    return read_attr(file, object, name, H5T_NATIVE_DOUBLE, true, 1, value, &n, err);
}

kv_status kv_h5_attr_i64(hid_t file, const char *object, const char *name, int64_t *value, kv_error *err) {
    int64_t n;
    return read_attr(file, object, name, H5T_NATIVE_INT64, true, 1, value, &n, err);
}

kv_status kv_h5_attr_array(hid_t file, const char *object, const char *name, int64_t max_n, double *values,
                           int64_t *n, kv_error *err) {
    return read_attr(file, object, name, H5T_NATIVE_DOUBLE, false, max_n, values, n, err);
}

// Reads either kind of string HDF5 has; *text is to be freed.
static bool read_string(hid_t attr, hid_t type, char **text) {
    *text = NULL;
    if (H5Tis_variable_str(type) > 0) {
        char *variable = NULL;
        hid_t mem_type = H5Tcopy(type);
        bool ok = mem_type >= 0 && H5Aread(attr, mem_type, &variable) >= 0;
        *text = ok ? strdup(variable ? variable : "") : NULL;
        H5free_memory(variable);
        if (mem_type >= 0) H5Tclose(mem_type);
        return *text != NULL;
    }
    size_t length = H5Tget_size(type);
    *text = calloc(1, length + 1);
    return *text && H5Aread(attr, type, *text) >= 0;
}

kv_status kv_h5_attr_string(hid_t file, const char *object, const char *name, char *value, size_t size,
                            kv_error *err) {
    kv_h5_init();
    if (!kv_h5_exists(file, object) || H5Aexists_by_name(file, object, name, H5P_DEFAULT) <= 0)
        return h5_wrong(err, file, name, "missing attribute");
    hid_t attr = H5Aopen_by_name(file, object, name, H5P_DEFAULT, H5P_DEFAULT);
    if (attr < 0) return kv_h5_error(err, KV_ERR_FORMAT, file, "cannot open attribute", name);
    hid_t type = H5Aget_type(attr), space = H5Aget_space(attr);
    char *text = NULL;
    kv_status status = KV_OK;
    if (type < 0 || space < 0 || H5Tget_class(type) != H5T_STRING || H5Sget_simple_extent_npoints(space) != 1)
        status = h5_wrong(err, file, name, "wrong type, expected one string");
    else if (!read_string(attr, type, &text))
        status = kv_h5_error(err, KV_ERR_FORMAT, file, "cannot read attribute", name);
    else if (strlen(text) >= size)
        status = h5_wrong(err, file, name, "text is longer than expected");
    else
        strcpy(value, text);
    free(text);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attr);
    return status;
}

static kv_status set_attr(hid_t file, const char *object, const char *name, hid_t type, const void *value,
                          kv_error *err) {
    kv_h5_init();
    if (H5Aexists_by_name(file, object, name, H5P_DEFAULT) > 0)
        H5Adelete_by_name(file, object, name, H5P_DEFAULT);
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t attr = H5Acreate_by_name(file, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    kv_status status = KV_OK;
    if (attr < 0 || H5Awrite(attr, type, value) < 0)
        status = kv_h5_error(err, KV_ERR_IO, file, "cannot write attribute", name);
    if (attr >= 0) H5Aclose(attr);
    if (space >= 0) H5Sclose(space);
    return status;
}

kv_status kv_h5_set_f64(hid_t file, const char *object, const char *name, double value, kv_error *err) {
    return set_attr(file, object, name, H5T_NATIVE_DOUBLE, &value, err);
}

kv_status kv_h5_set_i64(hid_t file, const char *object, const char *name, int64_t value, kv_error *err) {
    return set_attr(file, object, name, H5T_NATIVE_INT64, &value, err);
}

kv_status kv_h5_set_string(hid_t file, const char *object, const char *name, const char *value,
                           kv_error *err) {
    kv_h5_init();
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, strlen(value) + 1);
    H5Tset_cset(type, H5T_CSET_UTF8);
    kv_status status = set_attr(file, object, name, type, value, err);
    H5Tclose(type);
    return status;
}
