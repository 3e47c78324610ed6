// The paper's own figures, and what others have published of other pairs (eval/published/*.csv, described in the
// README there), compiled into the program.
#pragma once

#include "data/file/csv.h"
#include "data/file/embedded.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct kv_published_point {
    const char *model;
    const char *family;
    double flops_reduction; // the paper's convention (core/README.md §7), or as the README there says
    const double *values;   // [n_columns], NAN where none was printed; scores are percent
} kv_published_point;

typedef struct kv_published {
    int64_t n_points, n_columns;
    kv_published_point *points;
    const char *source; // where it was printed, as pictures say it: "arXiv 2410.08391"
    bool shares;        // scores are percent of the base's: they go with picture.y: retention alone
    char **columns;     // names of the values, e.g. "exact_match", "pass@10", "arc_easy"
    double *values;     // [n_points, n_columns]
    kv_csv_table csv;   // what all names point into
} kv_published;

// The table called `name` ("triviaqa-openelm-1.1b"); free with kv_published_free. KV_ERR_ARGUMENT for a name
// that is not known, with those that are; KV_ERR_MEMORY.
kv_status kv_published_load(const char *name, kv_published **table, kv_error *err);
void kv_published_free(kv_published *table);

// KV_ERR_ARGUMENT when such a table is asked for beside scores that are no shares.
kv_status kv_published_fits(const char *name, const kv_published *table, bool retention, kv_error *err);

// The table called `name` as a file at `path`, as it stands in eval/published/: the caller sees to it that it
// appears whole.
kv_status kv_published_write(const char *name, const char *path, kv_error *err);

// The column called `name`, -1 when there is none.
int64_t kv_published_column(const kv_published *table, const char *name);

// The same from text: a CSV table whose columns start with "model,family,flops_reduction", a row per point;
// numbers may be fractions ("1/28") or missing. KV_ERR_FORMAT names `name`, line and column.
kv_status kv_published_parse(const char *name, const char *text, kv_published **table, kv_error *err);

// The tables, one without a name at the end.
extern const kv_embedded kv_published_files[];
