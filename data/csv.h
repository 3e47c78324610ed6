// Tables as comma-separated values.                                                                 [RFC
// 4180]
#pragma once

#include "core/status.h"

typedef struct kv_csv kv_csv;

// `header` is written as it is. On failure *csv is NULL.
kv_status kv_csv_create(const char *path, const char *header, kv_csv **csv, kv_error *err);

// Fields of the row under way: texts quoted where they have to be, numbers with 9 digits (whole ones as they
// are up to 2^53), empty when not finite.
void kv_csv_text(kv_csv *csv, const char *text);
void kv_csv_number(kv_csv *csv, double value);
void kv_csv_end_row(kv_csv *csv);

// Closes, also after a failure: `so_far` is passed on then. A write that failed on the way shows here.
kv_status kv_csv_close(kv_csv *csv, kv_status so_far, kv_error *err);
