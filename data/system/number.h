// Numbers that people write: in options, in configurations, between the words of an option. Decimal and without blanks, so that a
// slip of the finger is no other number: no hexadecimal, no infinity.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// Whether all of `text` is one number of that kind that fits into *value; the latter is undefined where not. A sign may stand in
// front, of a kv_read_unsigned only +. kv_read_real: 0.5, .5, +0.5, 5e-1, as C, Python and JSON write it.
bool kv_read_whole(const char *text, int64_t *value);
bool kv_read_unsigned(const char *text, uint64_t *value);
bool kv_read_real(const char *text, double *value);

// The same where more may follow: *text then stands behind the number. Where there is none it stays.
bool kv_take_whole(const char **text, int64_t *value);
bool kv_take_real(const char **text, double *value);
