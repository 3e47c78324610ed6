// kvdata inspect: models, as directories and as names of random ones.
#include "data/checkpoint/checkpoint.h"
#include "core/flops.h"
#include "data/chat/chat.h"
#include "data/checkpoint/random.h"
#include "data/kvdata/inspect/inspect.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has(const inspect_subject *s, const char *name) {
    char path[PATH_MAX];
    return s->is_dir && inspect_entry(s->path, name, path, sizeof path);
}

// ---- The shape of a model ------------------------------------------------------------------------------

// Layers of as many heads share a line, whatever their FFNs: OpenELM's differ from layer to layer.
static void report_layers(const kv_model_spec *spec, inspect_report *report) {
    for (int64_t first = 0, next; first < spec->n_layers; first = next) {
        const kv_layer_spec *l = &spec->layers[first];
        int64_t narrow = l->ffn_dim, wide = l->ffn_dim;
        for (next = first; next < spec->n_layers; next++) {
            const kv_layer_spec *m = &spec->layers[next];
            if (m->n_heads != l->n_heads || m->n_kv_heads != l->n_kv_heads) break;
            narrow = m->ffn_dim < narrow ? m->ffn_dim : narrow;
            wide = m->ffn_dim > wide ? m->ffn_dim : wide;
        }
        char which[48] = "all", ffn[64];
        if (next - first == 1)
            snprintf(which, sizeof which, "%" PRIi64, first);
        else if (next - first < spec->n_layers)
            snprintf(which, sizeof which, "%" PRIi64 "-%" PRIi64, first, next - 1);
        snprintf(ffn, sizeof ffn, "%" PRIi64, narrow);
        if (wide > narrow) snprintf(ffn, sizeof ffn, "%" PRIi64 " to %" PRIi64, narrow, wide);
        json_t *row = json_pack("{s:I, s:I, s:I, s:I, s:[I, I]}", "first", (json_int_t)first, "last",
                                (json_int_t)(next - 1), "heads", (json_int_t)l->n_heads, "kv_heads",
                                (json_int_t)l->n_kv_heads, "ffn", (json_int_t)narrow, (json_int_t)wide);
        inspect_row(report, "layers", row, "layers %-5s %" PRIi64 " heads, %" PRIi64 " KV head%s, FFN %s",
                    which, l->n_heads, l->n_kv_heads, l->n_kv_heads == 1 ? "" : "s", ffn);
    }
}

static void report_rope(const kv_rope_spec *rope, inspect_report *report) {
    json_t *value = json_pack("{s:f}", "theta", rope->theta);
    char scaling[160] = "";
    if (rope->factor != 0 && rope->original_context == 0)
        snprintf(scaling, sizeof scaling, ", linear scaling by %g", rope->factor);
    else if (rope->factor != 0)
        snprintf(scaling, sizeof scaling, ", llama3 scaling by %g (low %g, high %g, from a context of %g)",
                 rope->factor, rope->low_freq_factor, rope->high_freq_factor, rope->original_context);
    if (rope->factor != 0) json_object_set_new(value, "factor", json_real(rope->factor));
    inspect_fact(report, "rope", value, "theta %g%s", rope->theta, scaling);
}

static void report_ends(const kv_model_spec *spec, inspect_report *report) {
    char text[32 * KV_MAX_STOP_IDS] = "";
    json_t *stops = json_array();
    for (int64_t i = 0, used = 0; i < spec->n_stop_ids; i++) {
        json_array_append_new(stops, json_integer(spec->stop_ids[i]));
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%" PRIi32, i ? ", " : "; stops also at ",
                         spec->stop_ids[i]);
    }
    json_t *value =
        json_pack("{s:i, s:i, s:o}", "bos", (int)spec->bos_id, "eos", (int)spec->eos_id, "stop", stops);
    inspect_fact(report, "tokens", value, "BOS %" PRIi32 ", EOS %" PRIi32 "%s", spec->bos_id, spec->eos_id,
                 text);
}

static void report_sizes(const kv_model_spec *spec, inspect_report *report) {
    const int64_t all = kv_spec_size(spec, true), without = kv_spec_size(spec, false);
    char a[32], b[32], c[32];
    int64_t cache = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) cache += 2 * kv_spec_kv_dim(spec, i);
    cache *= (int64_t)sizeof(float);
    inspect_fact(report, "parameters", json_integer(all), "%s, %s without embedding and head",
                 inspect_count(all, a), inspect_count(without, b));
    inspect_value(report, "parameters_without_embedding", json_integer(without));
    inspect_fact(report, "kv_cache", json_integer(cache), "%s a token (float32)",
                 inspect_bytes((double)cache, c));
    inspect_fact(report, "flops", json_integer(2 * all), "%.3g a token (2 x parameters)", 2.0 * (double)all);
}

static void report_spec(const kv_model_spec *spec, inspect_report *report) {
    const char *notes[] = {spec->qk_norm ? ", q/k norm" : "", spec->qkv_bias ? ", QKV bias" : ""};
    inspect_fact(report, "type", json_string(spec->model_type),
                 "%s, %" PRIi64 " layers, dim %" PRIi64 ", head dim %" PRIi64 "%s%s", spec->model_type,
                 spec->n_layers, spec->model_dim, spec->head_dim, notes[0], notes[1]);
    inspect_value(report, "n_layers", json_integer(spec->n_layers));
    inspect_value(report, "model_dim", json_integer(spec->model_dim));
    inspect_value(report, "head_dim", json_integer(spec->head_dim));
    inspect_value(report, "qk_norm", json_boolean(spec->qk_norm));
    inspect_value(report, "qkv_bias", json_boolean(spec->qkv_bias));
    inspect_value(report, "tied_head", json_boolean(spec->tied_head));
    inspect_value(report, "context", json_integer(spec->context_length));
    report_layers(spec, report);
    inspect_fact(report, "vocabulary", json_integer(spec->vocab_size), "%" PRIi64 ", context %" PRIi64 "%s",
                 spec->vocab_size, spec->context_length,
                 spec->tied_head ? ", head tied to the embedding" : ", head of its own");
    report_rope(&spec->rope, report);
    report_ends(spec, report);
    report_sizes(spec, report);
}

static int64_t not_finite_in(const kv_param *param) {
    enum { PIECE = 4096 };
    float values[PIECE];
    const int64_t size = kv_param_size(param), width = (int64_t)kv_dtype_size(param->dtype);
    int64_t found = 0;
    for (int64_t first = 0; first < size; first += PIECE) {
        const int64_t n = size - first < PIECE ? size - first : PIECE;
        kv_widen(values, (const char *)param->data + first * width, param->dtype, n);
        for (int64_t i = 0; i < n; i++) found += !isfinite(values[i]);
    }
    return found;
}

// Nothing is said where all is well, as it is nearly always.
static void report_not_finite(kv_model *model, inspect_report *report) {
    const int64_t n = kv_model_params(model, NULL);
    kv_param **params = calloc((size_t)n, sizeof *params), *first = NULL;
    if (!params) return;
    int64_t found = 0;
    kv_model_params(model, params);
    for (int64_t i = 0; i < n; i++) {
        const int64_t here = not_finite_in(params[i]);
        if (here && !first) first = params[i];
        found += here;
    }
    if (found)
        inspect_fact(report, "not_finite", json_integer(found),
                     "%" PRIi64 " weights are NaN or infinite, the first in %s", found, first->name);
    free(params);
}

static kv_status report_fingerprint(const char *dir, const kv_model_spec *spec, inspect_report *report,
                                    kv_error *err) {
    kv_model *model;
    char fingerprint[17];
    kv_status status = kv_checkpoint_load_known(dir, spec, false, &model, err);
    if (status) return status;
    kv_checkpoint_fingerprint(model, fingerprint);
    inspect_fact(report, "fingerprint", json_string(fingerprint), "%s", fingerprint);
    report_not_finite(model, report);
    kv_model_free(model);
    return KV_OK;
}

// ---- Checkpoints ---------------------------------------------------------------------------------------

static bool is_checkpoint(const inspect_subject *s) {
    return s->random || has(s, "config.json");
}

// Which template kvrun --chat would find.
static void report_chat(const char *dir, inspect_report *report) {
    static const char *const names[] = {
        [KV_CHAT_CHATML] = "ChatML", [KV_CHAT_LLAMA3] = "Llama-3", [KV_CHAT_LLAMA2] = "Llama-2"};
    kv_chat_template chat;
    bool found;
    const kv_status status = kv_chat_template_read(dir, &chat, &found, NULL);
    const char *name = status == KV_OK ? names[chat.kind] : "another kind";
    if (found) inspect_fact(report, "chat", json_string(name), "%s", name);
    kv_chat_template_free(&chat);
}

static kv_status describe_checkpoint(const inspect_subject *s, inspect_report *report, kv_error *err) {
    static kv_model_spec spec;
    kv_status status = kv_checkpoint_spec(s->path, &spec, err);
    if (status) return status;
    inspect_title(report, "checkpoint", s->path);
    report_spec(&spec, report);
    if (s->random) {
        kv_random_name name;
        char bytes[32];
        status = kv_random_parse(s->path, &name, err);
        if (status) return status;
        inspect_bytes((double)kv_spec_size(&spec, true) * (double)kv_dtype_size(name.dtype), bytes);
        inspect_fact(
            report, "weights",
            json_pack("{s:s, s:I}", "type", kv_dtype_name(name.dtype), "seed", (json_int_t)name.seed),
            "%s %s, random with seed %" PRIu64, kv_dtype_name(name.dtype), bytes, name.seed);
    } else {
        status = inspect_weights_in(s->path, report, err);
        report_chat(s->path, report);
        if (!status) status = inspect_tokenizer_said(s->path, report, err);
        if (!status) status = inspect_tokenizer_in(s->path, spec.vocab_size, report, err);
    }
    return status || !s->options->hash ? status : report_fingerprint(s->path, &spec, report, err);
}

static bool is_config(const inspect_subject *s) {
    return json_object_get(s->json, "model_type") != NULL;
}

// kv_checkpoint_spec takes the directory that the file must have the right name in.
static kv_status describe_config(const inspect_subject *s, inspect_report *report, kv_error *err) {
    static kv_model_spec spec;
    char dir[PATH_MAX];
    const char *slash = strrchr(s->path, '/');
    if (strcmp(slash ? slash + 1 : s->path, "config.json") != 0)
        return kv_fail(err, KV_ERR_FORMAT, "%s: a model's description; expected the name config.json",
                       s->path);
    kv_status status = kv_checkpoint_spec(inspect_directory_of(s->path, dir), &spec, err);
    if (status) return status;
    inspect_title(report, "model description", s->path);
    report_spec(&spec, report);
    return KV_OK;
}

// ---- Tokenizers alone ----------------------------------------------------------------------------------

static bool is_tokenizer_directory(const inspect_subject *s) {
    return has(s, "tokenizer.json") || has(s, "tokenizer.model");
}

static kv_status describe_tokenizer_directory(const inspect_subject *s, inspect_report *report,
                                              kv_error *err) {
    return inspect_tokenizer_in(s->path, 0, report, err);
}

const inspect_kind inspect_checkpoint_kinds[] = {
    {is_checkpoint, describe_checkpoint},
    {is_config, describe_config},
    {is_tokenizer_directory, describe_tokenizer_directory},
    {0},
};
