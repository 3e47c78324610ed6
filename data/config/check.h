// Checks a YAML document against a libcyaml schema, with messages that name file, line and key.
//
// libcyaml checks while it loads, but takes `1.5` for the integer 1 and any word for a truth value, and its
// log names the line of the mapping around a mistake. This walk comes first; what passes it, cyaml loads.
#pragma once

#include "core/status.h"

#include <cyaml/cyaml.h>
#include <stdbool.h>
#include <yaml.h>

// `label` opens the message: "label:LINE: key `a.b`: found X, expected Y", or "label: key …" for an override,
// whose value stands at key `prefix` ("" for a whole file). takes_back: a key of a group may be null (kv_tree_take_back).
kv_status kv_config_check(yaml_document_t *doc, const cyaml_schema_value_t *schema, const char *label,
                          const char *prefix, bool takes_back, kv_error *err);

// Writes truth values and numbers of a checked document, in which no node stands twice, as libcyaml, and whoever reads
// the text of the document, know them: true or false, decimal digits.
kv_status kv_config_plain(yaml_document_t *doc, const cyaml_schema_value_t *schema, kv_error *err);
