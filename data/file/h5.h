// A thin layer over HDF5 that turns its error stack into one-line kv_errors and checks shapes before reading.
#pragma once

#include "core/status.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Silences HDF5's own printing and its clean-up at exit, which crashes after a full disk: so every file must
// be closed by whoever opened it. Called by the functions below; harmless to call again, but for the second
// part to work it must come before any other call of HDF5.
void kv_h5_init(void);

// Both name the file in their errors; a file that is not HDF5 or is truncated is KV_ERR_FORMAT, one that another program
// holds for writing KV_ERR_IO. Whoever opens knows which kind of HDF5 file it should be: kv_mistaken wants to know that.
kv_status kv_h5_open(const char *path, hid_t *file, kv_error *err);
kv_status kv_h5_create(const char *path, hid_t *file, kv_error *err); // overwrites: use under kv_whole_file
// As HDF5 1.8 and later lay it out, with checksums of all that says where things are: HDF5 believes a damaged size in a
// file without them, and reads past what it has read.
kv_status kv_h5_create_checked(const char *path, hid_t *file, kv_error *err);
// Part of both: KV_ERR_MEMORY where little memory is left to ask for (ulimit -v). HDF5 does not look at all that it asks
// for; it crashes then, or takes the file for damaged or the disk for full.
kv_status kv_h5_room(const char *path, kv_error *err);

// Flushes and closes *file, so that a disk that filled up is noticed; the id becomes invalid either way. Does
// nothing to an invalid id.
kv_status kv_h5_close(hid_t *file, kv_error *err);

// For callers that use HDF5 themselves: "FILE: WHAT 'NAME': why", the why being HDF5's own of the call that
// failed last.
kv_status kv_h5_error(kv_error *err, kv_status code, hid_t file, const char *what, const char *name);

// Reading whole datasets, converted to the memory type. *n_dims/shape may be NULL. Caller frees *data.
// Refuses (KV_ERR_FORMAT) missing datasets and more than max_elements.
kv_status kv_h5_read_f32(hid_t file, const char *name, int64_t max_elements, float **data, int *n_dims,
                         int64_t shape[8], kv_error *err);
kv_status kv_h5_read_i32(hid_t file, const char *name, int64_t max_elements, int32_t **data, int *n_dims,
                         int64_t shape[8], kv_error *err);
kv_status kv_h5_read_i64(hid_t file, const char *name, int64_t max_elements, int64_t **data, int *n_dims,
                         int64_t shape[8], kv_error *err);
kv_status kv_h5_read_f64(hid_t file, const char *name, int64_t max_elements, double **data, int *n_dims,
                         int64_t shape[8], kv_error *err);
kv_status kv_h5_read_u8(hid_t file, const char *name, int64_t max_elements, uint8_t **data, int64_t *n,
                        kv_error *err);
// Strings as kv_h5_write_strings leaves them. Free with kv_h5_free_strings (accepts NULL).
kv_status kv_h5_read_strings(hid_t file, const char *name, int64_t max_elements, char ***strings, int64_t *n,
                             kv_error *err);
void kv_h5_free_strings(char **strings, int64_t n);
bool kv_h5_exists(hid_t file, const char *name); // whole path

// Writing datasets; intermediate groups are created. Datasets of more than 4096 elements are chunked with
// shuffle + deflate and a Fletcher-32 checksum. mem_type e.g. H5T_NATIVE_FLOAT, stored as such.
kv_status kv_h5_write(hid_t file, const char *name, hid_t mem_type, const void *data, int n_dims,
                      const int64_t *shape, kv_error *err);
// The same without deflate: for what is large and hardly gets smaller.
kv_status kv_h5_write_checked(hid_t file, const char *name, hid_t mem_type, const void *data, int n_dims,
                              const int64_t *shape, kv_error *err);
// As it is, in one piece: for what does not get smaller, and is checked by other means.
kv_status kv_h5_write_plain(hid_t file, const char *name, hid_t mem_type, const void *data, int n_dims,
                            const int64_t *shape, kv_error *err);
// An array of n C strings as variable-length UTF-8.
kv_status kv_h5_write_strings(hid_t file, const char *name, const char *const *strings, int64_t n,
                              kv_error *err);

// Attributes of `object` (a path; "/" is the root). Scalars.
kv_status kv_h5_attr_f64(hid_t file, const char *object, const char *name, double *value, kv_error *err);
kv_status kv_h5_attr_i64(hid_t file, const char *object, const char *name, int64_t *value, kv_error *err);
kv_status kv_h5_attr_string(hid_t file, const char *object, const char *name, char *value, size_t size,
                            kv_error *err);
kv_status kv_h5_attr_array(hid_t file, const char *object, const char *name, int64_t max_n, double *values,
                           int64_t *n, kv_error *err);
kv_status kv_h5_set_f64(hid_t file, const char *object, const char *name, double value, kv_error *err);
kv_status kv_h5_set_i64(hid_t file, const char *object, const char *name, int64_t value, kv_error *err);
kv_status kv_h5_set_string(hid_t file, const char *object, const char *name, const char *value,
                           kv_error *err);
