// YAML configuration → C struct, checked against a libcyaml schema.
//
// A file may start from another with `extends: other.yaml` (a path from the working directory, as all are: data/config/beside.h;
// its keys win over the other's, mappings merge, lists replace). Overrides come last, as "a.b.c=value" (value in YAML syntax).
// Every source is checked on its own first, so an unknown key, a wrong type or a bad value is reported with
// the file, line and key it stands at (or the override it came from).
#pragma once

#include "core/status.h"

#include <cyaml/cyaml.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct kv_config kv_config; // the merged document

// All mappings in `schema` must be optional fields (CYAML_FLAG_OPTIONAL) so that parts can be checked alone;
// fill defaults in afterwards with kv_config_has. On failure *config is NULL. Without a schema (NULL) nothing
// is checked and there is no struct: the merged document of a file that another program will check.
kv_status kv_config_load(const char *path, const char *const *overrides, size_t n_overrides,
                         const cyaml_schema_value_t *schema, kv_config **config, kv_error *err);
// The same on top of `defaults`, YAML text of the program's own that every other source wins over (may be
// NULL). In the texts at paths[], keys that NULL ends (may be NULL), `{seed}` then is the value of the key `seed`: see
// data/config/seed.h. All that is asked of the configuration later has the paths put together. `paths` is kept: a complaint about
// one of those keys whose path leads nowhere says where it would (kv_config_elsewhere).
kv_status kv_config_load_with_defaults(const char *defaults, const char *const *paths, const char *path,
                                       const char *const *overrides, size_t n_overrides,
                                       const cyaml_schema_value_t *schema, kv_config **config, kv_error *err);
// A merged document again, from what kv_config_text made of it: to be compared with another, as it has no schema and no struct.
kv_status kv_config_read_text(const char *text, kv_config **config, kv_error *err);
void kv_config_free(kv_config *config);

// The struct (owned by the config, freed with it).
void *kv_config_data(const kv_config *config);

// Whether "a.b.c" was set anywhere (defaults do not count).
bool kv_config_has(const kv_config *config, const char *key);

// Whether `key` only stands in a file that the setting `by` was put over from nearer: by a file that extends that
// one, or by an override where `key` is none. Whoever sets `by` there need not clear up behind it. Of a group: all
// that is in it.
bool kv_config_overtaken(const kv_config *config, const char *key, const char *by);

// kv_config_has of many keys at once, right after loading: *given of each, so that defaults and checks ask a
// struct's field and a key's name stands in one place.
typedef struct kv_config_given {
    const char *key;
    bool *given;
} kv_config_given;
void kv_config_record(const kv_config *config, const kv_config_given *keys, size_t n);

// KV_ERR_FORMAT at the first of keys[n] that was not set ("found nothing, expected a value: WHY"), or that
// was ("found a key without effect, expected it WHY").
kv_status kv_config_require(const kv_config *config, const char *const *keys, size_t n, const char *why,
                            kv_error *err);
kv_status kv_config_forbid(const kv_config *config, const char *const *keys, size_t n, const char *why,
                           kv_error *err);

// KV_ERR_FORMAT with "FILE:LINE: key `a.b.c`: message" of the place where `key` was last set ("-s
// a.b.c=value: key ..." for an override). If it was not, the line of the group it would stand in, or the
// file's first. For range and consistency checks after loading; list entries are "systems[2].name".
kv_status kv_config_fail(const kv_config *config, kv_error *err, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// The same as a warning (data/system/warning.h): what is set there cannot do what it says, but nothing about it is wrong.
void kv_config_warn(const kv_config *config, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// What is set at "a.b[2].c", defaults included: a single value as it is, a list or group of keys as YAML on
// one line. NULL when nothing is, or out of memory. Caller frees.
char *kv_config_value(const kv_config *config, const char *key);

// The merged document as YAML text (what a run directory keeps). Caller frees; NULL when out of memory.
char *kv_config_text(const kv_config *config);

// The first key, apart from ignored[n_ignored], that two merged documents disagree on, with what each says
// ("nothing" when absent). Numbers are compared by value. False when they agree.
typedef struct kv_config_difference {
    char key[160], a[96], b[96];
} kv_config_difference;
bool kv_config_compare(const kv_config *a, const kv_config *b, const char *const *ignored, size_t n_ignored,
                       kv_config_difference *difference);
