// predictor.json, written and read; what of an entry is wrong is named with its place.
#include "data/checkpoint/predictor_json.h"

#include <stdio.h>
#include <stdlib.h>

// ---- The first version ---------------------------------------------------------------------------------

// What the first version can say.
struct simple {
    int32_t mapping[KV_MAX_LAYERS];
    int64_t rank, aux_layers;
};

static void make_simple(const kv_model_spec *base, const kv_model_spec *aux, const struct simple *simple,
                        kv_predictor_spec *spec) {
    kv_predictor_spec_paper(base, aux, simple->mapping, spec);
    kv_predictor_spec_neighbours(spec, simple->aux_layers);
    if (simple->rank > 0) kv_predictor_spec_set_map(spec, &kv_map_low_rank, simple->rank);
}

// Whether the first version can say all of it.
static bool is_simple(const kv_predictor_spec *spec, struct simple *simple) {
    const kv_output_spec *first = &spec->outputs[KV_KEYS][0];
    if (spec->prefix_layers > 0 || spec->adapt != KV_ADAPT_NONE || first->sources.n > 2) return false;
    simple->rank = first->kind == &kv_map_low_rank ? first->width : 0;
    simple->aux_layers = first->sources.n;
    const kv_model_spec base = {.n_layers = spec->n_base_layers}, aux = {.n_layers = spec->n_aux_layers};
    for (int64_t i = 0; i < spec->n_base_layers; i++)
        simple->mapping[i] = spec->outputs[KV_KEYS][i].sources.at[0].layer;
    kv_predictor_spec *again = malloc(sizeof *again);
    if (again) make_simple(&base, &aux, simple, again);
    const bool same = again && kv_predictor_spec_equal(spec, again);
    free(again);
    return same;
}

static bool write_simple(const struct simple *simple, int64_t n_layers, json_t *root) {
    json_t *mapping = json_array();
    bool ok = json_object_set_new(root, "version", json_integer(1)) == 0;
    for (int64_t i = 0; i < n_layers; i++)
        ok = json_array_append_new(mapping, json_integer(simple->mapping[i])) == 0 && ok;
    ok = json_object_set_new(root, "mapping", mapping) == 0 && ok;
    // Said where it is not the usual one.
    if (simple->rank > 0) ok = json_object_set_new(root, "rank", json_integer(simple->rank)) == 0 && ok;
    if (simple->aux_layers > 1)
        ok = json_object_set_new(root, "aux_layers", json_integer(simple->aux_layers)) == 0 && ok;
    return ok;
}

static kv_status read_simple(const kv_json_file *file, const kv_model_spec *base, const kv_model_spec *aux,
                             kv_predictor_spec *spec, kv_error *err) {
    struct simple simple = {.aux_layers = 1};
    int64_t entries[KV_MAX_LAYERS];
    kv_status status = kv_json_ints(file, "mapping", base->n_layers, 0, aux->n_layers - 1, entries, err);
    for (int64_t i = 0; i < base->n_layers && !status; i++) simple.mapping[i] = (int32_t)entries[i];
    if (!status && kv_json_has(file, "rank"))
        status = kv_json_int(file, "rank", 0, INT32_MAX, &simple.rank, err);
    if (!status && kv_json_has(file, "aux_layers"))
        status = kv_json_int(file, "aux_layers", 1, 2, &simple.aux_layers, err);
    if (!status && simple.aux_layers > aux->n_layers)
        status = kv_fail(err, KV_ERR_ARGUMENT,
                         "%s: maps that read 2 aux layers, expected 1: the aux has no more", file->path);
    if (!status) make_simple(base, aux, &simple, spec);
    return status;
}

// ---- Writing -------------------------------------------------------------------------------------------

static json_t *output_json(const kv_output_spec *output) {
    json_t *entry = json_object(), *sources = json_array();
    bool ok = entry && sources;
    for (int32_t k = 0; ok && k < output->sources.n; k++) {
        char name[16];
        kv_source_name(output->sources.at[k], name);
        ok = json_array_append_new(sources, json_string(name)) == 0;
    }
    ok = ok && json_object_set(entry, "sources", sources) == 0;
    ok = ok && json_object_set_new(entry, "map", json_string(output->kind->name)) == 0;
    if (output->width > 0) ok = ok && json_object_set_new(entry, "width", json_integer(output->width)) == 0;
    if (output->matched) ok = ok && json_object_set_new(entry, "heads", json_string("matched")) == 0;
    if (output->table == KV_TABLE_FULL)
        ok = ok && json_object_set_new(entry, "table", json_string("full")) == 0;
    if (output->table > 0) ok = ok && json_object_set_new(entry, "table", json_integer(output->table)) == 0;
    json_decref(sources);
    if (ok) return entry;
    json_decref(entry);
    return NULL;
}

bool kv_predictor_spec_write(const kv_predictor_spec *spec, json_t *root) {
    struct simple simple = {0};
    bool ok = json_object_set_new(root, "n_base_layers", json_integer(spec->n_base_layers)) == 0;
    ok = ok && json_object_set_new(root, "n_aux_layers", json_integer(spec->n_aux_layers)) == 0;
    if (is_simple(spec, &simple)) return write_simple(&simple, spec->n_base_layers, root) && ok;
    ok = ok && json_object_set_new(root, "version", json_integer(KV_PREDICTOR_VERSION)) == 0;
    if (spec->prefix_layers > 0)
        ok = ok && json_object_set_new(root, "prefix_layers", json_integer(spec->prefix_layers)) == 0;
    if (spec->adapt != KV_ADAPT_NONE) {
        json_t *queries = json_object();
        const bool lora = spec->adapt == KV_ADAPT_LORA;
        ok = ok && json_object_set_new(queries, "kind", json_string(lora ? "lora" : "full")) == 0;
        if (lora) ok = ok && json_object_set_new(queries, "rank", json_integer(spec->adapt_rank)) == 0;
        ok = json_object_set_new(root, "queries", queries) == 0 && ok;
    }
    for (int side = 0; side < KV_SIDES; side++) {
        json_t *entries = json_array();
        for (int64_t i = 0; ok && i < spec->n_base_layers; i++)
            ok = json_array_append_new(entries, output_json(&spec->outputs[side][i])) == 0;
        ok = json_object_set_new(root, kv_side_names[side], entries) == 0 && ok;
    }
    return ok;
}

// ---- Reading -------------------------------------------------------------------------------------------

// An entry of "keys" or "values".
struct entry {
    const kv_json_file *file;
    const char *side;
    int64_t layer;
    const json_t *value;
};

// KV_ERR_FORMAT saying what entry.key is: FILE: keys[3].map is …
static kv_status wrong(const struct entry *e, const char *key, const char *expected, kv_error *err) {
    char name[64];
    json_t *found = json_object_get(e->value, key);
    snprintf(name, sizeof name, "%s[%lld].%s", e->side, (long long)e->layer, key);
    kv_json_file view = *e->file;
    view.root = json_object();
    if (found) json_object_set(view.root, name, found);
    kv_status status = kv_json_wrong(&view, name, -1, expected, err);
    json_decref(view.root);
    return status;
}

static kv_status read_sources(const struct entry *e, kv_sources *sources, kv_error *err) {
    static const char expected[] =
        "a list of k0, v0, h0 (keys, values, normed input of aux layer 0), embedding, own_k, own_v or own_h";
    const json_t *list = json_object_get(e->value, "sources");
    const size_t n = json_array_size(list);
    if (n == 0 || n > KV_MAX_SOURCES) return wrong(e, "sources", expected, err);
    for (size_t k = 0; k < n; k++) {
        const char *name = json_string_value(json_array_get(list, k));
        kv_source source;
        if (!name || !kv_source_parse(name, &source)) return wrong(e, "sources", expected, err);
        const int32_t before = sources->n;
        kv_sources_add(sources, (kv_source_kind)source.kind, source.layer);
        if (sources->n == before || sources->at[before].kind != source.kind) // there already, or out of order
            return wrong(e, "sources", "each once, what depends on the token alone last", err);
    }
    return KV_OK;
}

static kv_status read_kind(const struct entry *e, kv_output_spec *output, kv_error *err) {
    const char *name = json_string_value(json_object_get(e->value, "map"));
    const json_t *width = json_object_get(e->value, "width");
    output->kind = name ? kv_map_kind_find(name) : NULL;
    if (!output->kind) {
        char known[KV_MAP_KIND_NAMES];
        return wrong(e, "map", kv_map_kind_names_text(known, true), err);
    }
    if (!width) return KV_OK;
    output->width = json_integer_value(width);
    if (!output->kind->width_name) return wrong(e, "width", "none: this kind of map has no width", err);
    return output->width >= 1 ? KV_OK : wrong(e, "width", "an integer of 1 or more", err);
}

static kv_status read_output(const struct entry *e, kv_output_spec *output, kv_error *err) {
    const json_t *heads = json_object_get(e->value, "heads"), *table = json_object_get(e->value, "table");
    *output = (kv_output_spec){0};
    kv_status status = read_sources(e, &output->sources, err);
    if (!status) status = read_kind(e, output, err);
    if (status) return status;
    if (heads && (!json_is_string(heads) || strcmp(json_string_value(heads), "matched") != 0))
        return wrong(e, "heads", "\"matched\" (absent: all heads together)", err);
    output->matched = heads != NULL;
    if (!table) return KV_OK;
    if (json_is_string(table) && strcmp(json_string_value(table), "full") == 0)
        output->table = KV_TABLE_FULL;
    else if (json_integer_value(table) >= 1)
        output->table = json_integer_value(table);
    else
        return wrong(e, "table", "\"full\" or a width of 1 or more", err);
    return KV_OK;
}

static kv_status read_side(const kv_json_file *file, int side, int64_t n_layers, kv_output_spec *outputs,
                           kv_error *err) {
    const json_t *list = json_object_get(file->root, kv_side_names[side]);
    kv_status status = KV_OK;
    if ((int64_t)json_array_size(list) != n_layers)
        return kv_json_wrong(file, kv_side_names[side], -1, "a list with an entry for each base layer", err);
    for (int64_t i = 0; i < n_layers && !status; i++) {
        const struct entry e = {file, kv_side_names[side], i, json_array_get(list, (size_t)i)};
        if (!json_is_object(e.value)) return kv_json_wrong(file, kv_side_names[side], i, "an object", err);
        status = read_output(&e, &outputs[i], err);
    }
    return status;
}

static kv_status read_queries(const kv_json_file *file, kv_predictor_spec *spec, kv_error *err) {
    const json_t *queries = json_object_get(file->root, "queries");
    if (!queries) return KV_OK;
    const char *kind = json_string_value(json_object_get(queries, "kind"));
    spec->adapt_rank = json_integer_value(json_object_get(queries, "rank"));
    if (kind && strcmp(kind, "full") == 0 && spec->adapt_rank == 0)
        spec->adapt = KV_ADAPT_QUERIES;
    else if (kind && strcmp(kind, "lora") == 0 && spec->adapt_rank >= 1)
        spec->adapt = KV_ADAPT_LORA;
    else
        return kv_json_wrong(file, "queries", -1,
                             "{\"kind\": \"full\"} or {\"kind\": \"lora\", \"rank\": 1 or more}", err);
    return KV_OK;
}

kv_status kv_predictor_spec_read(const kv_json_file *file, int64_t version, const kv_model_spec *base,
                                 const kv_model_spec *aux, kv_predictor_spec *spec, kv_error *err) {
    kv_status status = KV_OK;
    memset(spec, 0, sizeof *spec);
    if (version == 1) return read_simple(file, base, aux, spec, err);
    spec->n_base_layers = base->n_layers, spec->n_aux_layers = aux->n_layers;
    if (kv_json_has(file, "prefix_layers"))
        status = kv_json_int(file, "prefix_layers", 0, base->n_layers - 1, &spec->prefix_layers, err);
    if (!status) status = read_queries(file, spec, err);
    for (int side = 0; side < KV_SIDES && !status; side++)
        status = read_side(file, side, base->n_layers, spec->outputs[side], err);
    return status;
}
