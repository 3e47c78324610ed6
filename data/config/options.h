// The command line that all programs with a configuration share: CONFIG.yaml, -s key=value and --output DIR.
#pragma once

#include <argp.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum { KV_MAX_OVERRIDES = 256 };

typedef struct kv_config_options {
    const char *config;
    bool optional;                           // set by the program while it parses: there may be no CONFIG
    const char *overrides[KV_MAX_OVERRIDES]; // as given, in order; --output comes last as "output='DIR'"
    size_t n_overrides;
    const char *output; // as given, NULL without
    char output_override[2 * PATH_MAX + 16];
} kv_config_options;

// An argp child: the program's parser sets state->child_inputs[0] to its kv_config_options at ARGP_KEY_INIT.
extern const struct argp kv_config_argp;
