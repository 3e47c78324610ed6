// The primitive operations that code snippets are composed of: what each is called in words, its Python
// expression, and what Python computes for it.
//
// Values are Python's int (as far as 64 bits go), str (ASCII) and list of int. // and % round and sign as
// Python's do: towards minus infinity, and like the divisor.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kv_snippet_type {
    KV_SNIPPET_INT,
    KV_SNIPPET_STR,
    KV_SNIPPET_LIST,
    KV_SNIPPET_TYPES
} kv_snippet_type;

// The longest str or list that is worked with.
enum { KV_SNIPPET_LENGTH = 256 };

typedef struct kv_snippet_value {
    kv_snippet_type type;
    int64_t n;                     // int
    int64_t length;                // str, list
    char s[KV_SNIPPET_LENGTH + 1]; // str, NUL-terminated
    int64_t xs[KV_SNIPPET_LENGTH]; // list
} kv_snippet_value;

enum { KV_SNIPPET_PHRASES = 2 };

typedef struct kv_snippet_op {
    const char *name;
    kv_snippet_type in, out;
    int64_t low,
        high; // range of its constant, '@' below: a number, or a letter from 'a' on; 0, 0: it has none
    const char *phrases[KV_SNIPPET_PHRASES]; // in words, of "it"
    const char *code;                        // a Python expression of the variable of type `in`
    bool (*apply)(kv_snippet_value *value, int64_t constant);
} kv_snippet_op;

extern const kv_snippet_op kv_snippet_ops[];
extern const int kv_snippet_n_ops;

const char *kv_snippet_type_name(kv_snippet_type type); // "int", "str", "list"
const char *kv_snippet_variable(kv_snippet_type type);  // "n", "s", "xs"

// Replaces *value, of type op->in, by what the operation makes of it. false: the result does not fit a
// kv_snippet_value; *value is then of no use.
bool kv_snippet_apply(const kv_snippet_op *op, int64_t constant, kv_snippet_value *value);

// A phrase or an expression with its constant put in, NUL-terminated, cut at `size` bytes.
void kv_snippet_fill(const kv_snippet_op *op, const char *text, int64_t constant, char *out, size_t size);

// Python's repr. false: longer than size - 1 bytes.
bool kv_snippet_repr(const kv_snippet_value *value, char *out, size_t size);
