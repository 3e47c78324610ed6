// Reads the ISO code lists into all facts they give; only atlas.c needs it.
#pragma once

#include "data/synthetic/atlas.h"

// Adds facts to atlas->facts in the order of the files, fills atlas->sources. On failure the facts so far
// stay in the atlas, for kv_atlas_free.
kv_status kv_atlas_read_facts(const char *directory, kv_atlas *atlas, kv_error *err);
