// config.json of models as they were published, for the shapes that kv_published_spec knows by the same
// names.
#pragma once

enum { N_PUBLISHED_CONFIGS = 7 };
extern const struct published_config { const char *name, *text; } published_configs[N_PUBLISHED_CONFIGS];

// The text of that name, which must be one of them.
const char *published_config(const char *name);
