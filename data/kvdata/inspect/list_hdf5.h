// The tree of any HDF5 file: groups, datasets with type and shape, attributes with their values.
#pragma once

#include "data/kvdata/inspect/inspect.h"

#include <hdf5.h>

// One line an object or an attribute; in JSON the list "objects". Damaged files are KV_ERR_FORMAT.
kv_status inspect_list_hdf5(hid_t file, const char *path, inspect_report *report, kv_error *err);
