// Which program this is, by content: a node that still has last week's would compute something else.
#pragma once

#include "core/status.h"

enum { KV_BINARY_TEXT = 64 };

// Hashes of this process's executable file, and of the one that holds the object at `module`, as text. KV_ERR_IO where they cannot be
// read.
kv_status kv_binary_hashes(const void *module, char text[KV_BINARY_TEXT], kv_error *err);
