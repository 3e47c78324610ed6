// Text as Python's text mode reads it, for every reader of text: a UTF-8 byte order mark in front is dropped, and
// CR LF and CR end a line as LF does.
#pragma once

#include "core/status.h"

#include <stdbool.h>
#include <stddef.h>

// Bytes of the byte order mark that text[size] begins with, or 0.
size_t kv_byte_order_mark(const char *text, size_t size);

// Where the first line of text[size] ends: at a CR or LF, or at size.
size_t kv_line_length(const char *text, size_t size);

// The line at *at and its length, without byte order mark and line end; *at moves behind it. False at `end`.
bool kv_take_line(const char **at, const char *end, const char **line, size_t *length);

// The same of a whole text, in place: every line end becomes a LF. Returns the new size.
size_t kv_mend_text(char *text, size_t size);

// "UTF-16" or "UTF-32" where text[size] begins as such; NULL: it does not. What is said of it as found text:
// kv_wide_text.
const char *kv_wide_encoding(const char *text, size_t size);
#define KV_WIDE_ADVICE "%s text, expected UTF-8 (iconv -f %s -t UTF-8 makes it)"

// kv_read_file of a text: mended, and refused where it is UTF-16 or UTF-32. NUL-terminated, and may hold NULs.
kv_status kv_read_text(const char *path, size_t max_size, char **content, size_t *size, kv_error *err);
// The same of what kv_read_input takes: also pipes.
kv_status kv_read_input_text(const char *path, size_t max_size, char **content, size_t *size, kv_error *err);
