// What a map may read: names, sizes, and how a list of them is put together.
#include "core/predictor/spec.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

// By kv_source_kind.
static const struct {
    const char *name;
    bool of_layer; // its name has the number of an aux layer
} kinds[KV_SOURCE_KINDS] = {
    [KV_SOURCE_KEYS] = {"k", true},
    [KV_SOURCE_VALUES] = {"v", true},
    [KV_SOURCE_HIDDEN] = {"h", true},
    [KV_SOURCE_EMBEDDING] = {"embedding", false},
    [KV_SOURCE_OWN_KEYS] = {"own_k", false},
    [KV_SOURCE_OWN_VALUES] = {"own_v", false},
    [KV_SOURCE_OWN_HIDDEN] = {"own_h", false},
};

int64_t kv_source_dim(const kv_model_spec *base, const kv_model_spec *aux, kv_source source) {
    switch ((kv_source_kind)source.kind) {
    case KV_SOURCE_KEYS:
    case KV_SOURCE_VALUES: return kv_spec_kv_dim(aux, source.layer);
    case KV_SOURCE_HIDDEN: return aux->model_dim;
    case KV_SOURCE_EMBEDDING:
    case KV_SOURCE_OWN_HIDDEN: return base->model_dim;
    case KV_SOURCE_OWN_KEYS:
    case KV_SOURCE_OWN_VALUES: return kv_spec_kv_dim(base, 0);
    }
    return 0;
}

int64_t kv_source_heads(const kv_model_spec *aux, kv_source source) {
    const bool has = source.kind == KV_SOURCE_KEYS || source.kind == KV_SOURCE_VALUES;
    return has ? aux->layers[source.layer].n_kv_heads : 0;
}

bool kv_source_of_token(kv_source source) {
    return !kinds[source.kind].of_layer;
}

void kv_source_name(kv_source source, char name[16]) {
    if (kinds[source.kind].of_layer)
        snprintf(name, 16, "%s%d", kinds[source.kind].name, source.layer);
    else
        snprintf(name, 16, "%s", kinds[source.kind].name);
}

bool kv_source_parse(const char *name, kv_source *source) {
    for (int kind = 0; kind < KV_SOURCE_KINDS; kind++) {
        const size_t n = strlen(kinds[kind].name);
        if (strncmp(name, kinds[kind].name, n) != 0) continue;
        char *end;
        const bool digit = name[n] >= '0' && name[n] <= '9';
        const long layer = kinds[kind].of_layer && digit ? strtol(name + n, &end, 10) : 0;
        const bool whole = kinds[kind].of_layer ? digit && *end == '\0' : name[n] == '\0';
        if (!whole || layer >= KV_MAX_LAYERS) continue;
        *source = (kv_source){(uint8_t)kind, (uint8_t)layer};
        return true;
    }
    return false;
}

bool kv_source_kind_parse(const char *name, kv_source_kind *kind) {
    for (int k = 0; k < KV_SOURCE_KINDS; k++) {
        if (!kinds[k].of_layer || strcmp(kinds[k].name, name) != 0) continue;
        *kind = (kv_source_kind)k;
        return true;
    }
    return false;
}

const char *kv_source_names_text(char text[KV_SOURCE_NAMES]) {
    size_t n = 0;
    for (int layered = 1; layered >= 0; layered--) {
        for (int k = 0; k < KV_SOURCE_KINDS; k++)
            if (kinds[k].of_layer == layered)
                n += (size_t)snprintf(text + n, KV_SOURCE_NAMES - n, "%s%s", n ? ", " : "", kinds[k].name);
        if (layered)
            n += (size_t)snprintf(text + n, KV_SOURCE_NAMES - n, " (or of aux layer 3: %s3)", kinds[0].name);
    }
    return text;
}

// What enters the layer behind a prefix is there, too; its keys and values are not.
int64_t kv_source_layers(kv_source_kind kind, int64_t n_aux_layers, int64_t prefix) {
    if (prefix == 0) return n_aux_layers;
    return kind == KV_SOURCE_HIDDEN ? prefix + 1 : prefix;
}

void kv_sources_add(kv_sources *sources, kv_source_kind kind, int64_t layer) {
    const kv_source added = {(uint8_t)kind, (uint8_t)layer};
    int32_t place = sources->n;
    for (int32_t k = 0; k < sources->n; k++)
        if (sources->at[k].kind == added.kind && sources->at[k].layer == added.layer) return;
    if (!kv_source_of_token(added))
        while (place > 0 && kv_source_of_token(sources->at[place - 1])) place--;
    assert(sources->n < KV_MAX_SOURCES);
    memmove(sources->at + place + 1, sources->at + place, (size_t)(sources->n - place) * sizeof added);
    sources->at[place] = added;
    sources->n++;
}

bool kv_sources_equal(const kv_sources *a, const kv_sources *b) {
    return a->n == b->n && memcmp(a->at, b->at, (size_t)a->n * sizeof *a->at) == 0;
}

bool kv_sources_of_aux(const kv_sources *sources) {
    return sources->n > 0 && !kv_source_of_token(sources->at[0]);
}
