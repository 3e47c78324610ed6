#include "data/config/options.h"

#include <string.h>

static void add_override(struct argp_state *state, kv_config_options *o, const char *text) {
    if (*text == '=') text++; // -s=KEY=VALUE, as the long form has it
    if (!strchr(text, '=')) argp_error(state, "-s %s: expected key=value, for example seed=2", text);
    if (o->n_overrides == KV_MAX_OVERRIDES) argp_error(state, "more than %d overrides", KV_MAX_OVERRIDES);
    o->overrides[o->n_overrides++] = text;
}

// In YAML's single quotes, in which only the quote itself is special.
static void override_output(struct argp_state *state, kv_config_options *o) {
    if (strlen(o->output) >= PATH_MAX)
        argp_error(state, "--output: the name is longer than %d bytes", PATH_MAX - 1);
    char *end = stpcpy(o->output_override, "output='");
    for (const char *c = o->output; *c; c++) {
        if (*c == '\'') *end++ = '\'';
        *end++ = *c;
    }
    strcpy(end, "'");
    add_override(state, o, o->output_override);
}

static error_t parse(int key, char *text, struct argp_state *state) {
    kv_config_options *o = state->input;
    switch (key) {
    case 's': add_override(state, o, text); return 0;
    case 'o': o->output = text; return 0;
    case ARGP_KEY_ARG:
        if (o->config) argp_error(state, "found a second CONFIG, %s, expected one", text);
        o->config = text;
        return 0;
    case ARGP_KEY_END:
        if (!o->config && !o->optional) argp_error(state, "expected the name of a CONFIG.yaml");
        if (o->output) override_output(state, o);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"set", 's', "KEY=VALUE", 0, "Override one key of CONFIG, as in -s seed=2; may be repeated", 0},
    {"output", 'o', "DIR", 0, "Where results go, instead of `output` in CONFIG", 0},
    {0}};

const struct argp kv_config_argp = {.options = options, .parser = parse};
