// How saved prompts are laid out, for those who write and those who read them (data/prompt/saved_prompt.h).
#pragma once

#include "data/prompt/saved_prompt.h"

// The attributes that are text, in the order in which they are written.
enum { KV_SAVED_TEXTS = 8 };
typedef struct kv_saved_text {
    const char *name;
    char *value;
    size_t size;
} kv_saved_text;
void kv_saved_texts(kv_saved_maker *maker, kv_saved_text texts[KV_SAVED_TEXTS]);

// "/base/key/3": model 0: the base, 1: the aux; side 0: keys, 1: values.
enum { KV_SAVED_NAME = 32 };
void kv_saved_name(int model, int side, int64_t layer, char name[KV_SAVED_NAME]);

// What the file's checksum is of.
void kv_saved_checksum(const kv_saved_prompt *prompt, char out[17]);
