// Checkpoints pass through many hands, which put things in front of names and leave things behind.
#include "data/checkpoint/hf_names.h"

#include "core/text.h"
#include "data/checkpoint/hf_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool begins_with(const char *text, const char *beginning) {
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

// The name behind all that wrappers put in front.
static const char *unwrapped(const char *name) {
    static const char *const wrappers[] = {"_orig_mod.", "module.", "base_model.model."};
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++)
        if (begins_with(name, wrappers[i])) return unwrapped(name + strlen(wrappers[i]));
    return name;
}

static const char *without(const char *name, const char *beginning) {
    return begins_with(name, beginning) ? name + strlen(beginning) : name;
}

// ---- Other names ---------------------------------------------------------------------------------------

void kv_hf_rename(const kv_weights_set *set, const kv_model_spec *spec, kv_weights_tensor *tensors,
                  int64_t n) {
    const char *base = kv_hf_base(spec), *first = tensors[0].name, *found = NULL;
    kv_weights_entry entry;
    bool bare = false;
    if (kv_weights_set_find(set, first, &entry)) return;
    for (int64_t i = 0; i < kv_weights_set_count(set) && !found; i++) {
        const char *name = kv_weights_set_at(set, i).entry->name, *own = unwrapped(name);
        bare = strcmp(own, without(first, base)) == 0;
        if (bare || strcmp(own, first) == 0) found = name;
    }
    for (int64_t i = 0; i < n && found; i++) {
        char renamed[2 * KV_NAME_MAX];
        const int length = snprintf(renamed, sizeof renamed, "%.*s%s", (int)(unwrapped(found) - found), found,
                                    bare ? without(tensors[i].name, base) : tensors[i].name);
        if (length < KV_NAME_MAX) memcpy(tensors[i].name, renamed, (size_t)length + 1);
    }
}

// ---- Nobody asked for them -----------------------------------------------------------------------------

// What config.json and the code of a model say anyway, and counts that a profiler left behind.
static bool is_buffer(const char *name) {
    static const char *const last[] = {"inv_freq",   "original_inv_freq", "cos_cached",  "sin_cached",
                                       "freqs_cis",  "position_ids",      "causal_mask", "masked_bias",
                                       "rope.freqs", "attn.bias",         "total_ops",   "total_params"};
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++) {
        const size_t longer = strlen(name), n = strlen(last[i]);
        if (!kv_ends_with(name, last[i])) continue;
        if (longer == n || strchr("._", name[longer - n - 1])) return true;
    }
    return false;
}

// Parts outside the layers that every model here has, or that would change what reaches the layers.
static bool is_around_layers(const char *name) {
    static const char *const parts[] = {"lm_head.", "norm.", "embed", "token_embeddings", "project_"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (begins_with(name, parts[i])) return true;
    return false;
}

kv_weights_verdict kv_hf_judge(const void *spec, const char *name) {
    static const char layers[] = "layers.";
    const kv_model_spec *model = spec;
    const char *own = without(unwrapped(name), kv_hf_base(model));
    if (is_buffer(own)) return KV_WEIGHTS_SKIPPED;
    if (begins_with(own, layers)) {
        char *end;
        const long long layer = strtoll(own + strlen(layers), &end, 10);
        return *end == '.' && layer >= model->n_layers ? KV_WEIGHTS_LEFT_OUT : KV_WEIGHTS_REFUSED;
    }
    if (is_around_layers(own) || strstr(own, "lora_")) return KV_WEIGHTS_REFUSED;
    return KV_WEIGHTS_LEFT_OUT;
}
