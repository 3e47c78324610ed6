// The file of a sweep as it is written: what `kvtrain --sweep FILE.yaml` reads before it looks at any
// training.
#pragma once

#include "core/status.h"

#include <cyaml/cyaml.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One key of a training's configuration and the values it takes, as YAML on one line each. Under `set` it has
// one value, under `grid` as many as there are in the list. A value may be a group of keys, several of which
// then vary together: `leaves` are the keys of single values and lists in them, or the key itself.
typedef struct kv_sweep_axis {
    char *key;
    char **leaves;
    size_t n_leaves;
    char **values;
    size_t *lines; // of the values, in the sweep's file
    size_t n_values;
} kv_sweep_axis;

typedef struct kv_sweep_axes {
    kv_sweep_axis *items;
    size_t n;
} kv_sweep_axes;

typedef struct kv_sweep_arm {
    char *name;  // NULL: of a sweep without arms
    char *train; // NULL: the sweep's
    kv_sweep_axes set, grid;
    size_t line;
} kv_sweep_arm;

// What is left of a finished run.
typedef enum kv_sweep_keep { KV_SWEEP_KEEP_FINAL, KV_SWEEP_KEEP_CHECKPOINTS } kv_sweep_keep;

typedef struct kv_sweep_file {
    char *path;
    char *output; // NULL: not said
    char **prepare, *train, *eval;
    size_t n_prepare, *prepare_lines; // train, eval: NULL where there is none
    size_t eval_line;
    kv_sweep_keep keep;
    kv_sweep_axes set, grid;
    kv_sweep_arm *arms; // at least one
    size_t n_arms;
    uint64_t *seeds; // of every run, and of what is prepared; none: each configuration's own
    size_t n_seeds, seeds_line;
} kv_sweep_file;

// The keys, with their types; `set`, `grid` and `seeds`, a number or a list, are left open.
extern const cyaml_schema_value_t kv_sweep_schema;

// Errors name file, line and key. Free with kv_sweep_file_free, also after a failure.
kv_status kv_sweep_file_read(const char *path, kv_sweep_file *file, kv_error *err);
void kv_sweep_file_free(kv_sweep_file *file);

// Whether the key is one of the axes' or lies above or below one of them, as train and train.steps do.
const kv_sweep_axis *kv_sweep_axes_touch(const kv_sweep_axes *axes, const char *key);
