// How a row of each multiple-choice file becomes an item; what choices.c is made of.
#pragma once

#include "data/benchmark/choices.h"
#include "data/file/json.h"

// Fills an empty item (id left NULL where the format has none) from row->root; row->path says where the row
// is. On failure the item may be half full: free it with kv_choice_item_free.
kv_status kv_choice_row(const kv_choice_kind *kind, const kv_json_file *row, kv_choice_item *item,
                        kv_error *err);
void kv_choice_item_free(kv_choice_item *item);
