#include "core/flops.h"
#include "data/checkpoint.h"
#include "data/h5.h"
#include "data/kvdata.h"
#include "data/random_checkpoint.h"
#include "data/safetensors.h"
#include "data/shard.h"
#include "data/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
    const char *path, *tokenizer;
    int64_t n_documents;
};

static const char doc[] =
    "Describes what PATH holds: a token shard, any other HDF5 file (results.h5), safetensors, a "
    "tokenizer.model, or a "
    "directory with a checkpoint or a predictor. random:openelm-1.1b and the like stand for the published "
    "shapes.\v"
    "Example: kvdata inspect --tokenizer runs/atlas/tokenizer.model --documents 3 runs/atlas/train.h5";

static const struct argp_option option_list[] = {
    {"documents", 'd', "N", 0, "also show the first N documents of a token shard", 0},
    {"tokenizer", 't', "FILE", 0, "show those documents as text", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    switch (key) {
    case 'd': options->n_documents = kvdata_int_option(state, "documents", text, 0, INT32_MAX); return 0;
    case 't': options->tokenizer = text; return 0;
    case ARGP_KEY_ARG:
        if (options->path) argp_error(state, "one PATH at a time");
        options->path = text;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "PATH is needed"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// ---- Token shards --------------------------------------------------------------------------------------

static kv_status show_text(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n, kv_error *err) {
    char *text = NULL;
    size_t length = 0;
    kv_status status = kv_tokenizer_decode(tokenizer, ids, n, &text, &length, err);
    if (!status) fwrite(text, 1, length, stdout);
    if (!status && (length == 0 || text[length - 1] != '\n')) putchar('\n');
    free(text);
    return status;
}

static kv_status show_documents(const struct options *options, const kv_shard *shard, kv_error *err) {
    kv_tokenizer *tokenizer = NULL;
    kv_status status = KV_OK;
    if (options->tokenizer) status = kv_tokenizer_open(options->tokenizer, &tokenizer, err);
    if (!status && tokenizer && strcmp(kv_tokenizer_hash(tokenizer), shard->info.tokenizer) != 0)
        status = kv_fail(err, KV_ERR_MISMATCH, "%s was made with tokenizer %s, but %s is %s", options->path,
                         shard->info.tokenizer, options->tokenizer, kv_tokenizer_hash(tokenizer));
    for (int64_t i = 0; !status && i < options->n_documents && i < shard->n_documents; i++) {
        const int32_t *ids = shard->tokens + shard->documents[i];
        int64_t n = shard->documents[i + 1] - shard->documents[i];
        printf("-- document %" PRIi64 ", %" PRIi64 " tokens\n", i, n);
        if (tokenizer) {
            status = show_text(tokenizer, ids, n, err);
            continue;
        }
        for (int64_t t = 0; t < n; t++) printf("%s%" PRIi32, t ? " " : "", ids[t]);
        putchar('\n');
    }
    kv_tokenizer_free(tokenizer);
    return status;
}

static kv_status inspect_shard(const struct options *options, kv_error *err) {
    kv_shard *shard = NULL;
    kv_status status = kv_shard_open(options->path, &shard, err);
    if (status) return status;
    int64_t shortest = shard->n_documents ? INT64_MAX : 0, longest = 0;
    for (int64_t i = 0; i < shard->n_documents; i++) {
        int64_t n = shard->documents[i + 1] - shard->documents[i];
        if (n < shortest) shortest = n;
        if (n > longest) longest = n;
    }
    printf("token shard %s\n", options->path);
    printf("  documents    %" PRIi64 ", of %" PRIi64 " to %" PRIi64 " tokens\n", shard->n_documents, shortest,
           longest);
    printf("  tokens       %" PRIi64 "\n", shard->n_tokens);
    printf("  vocabulary   %" PRIi64 ", BOS %" PRIi32 ", EOS %" PRIi32 "\n", shard->info.vocab_size,
           shard->info.bos_id, shard->info.eos_id);
    printf("  tokenizer    %s\n", shard->info.tokenizer);
    printf("  source       %s\n", shard->info.source);
    status = show_documents(options, shard, err);
    kv_shard_free(shard);
    return status;
}

// ---- Safetensors, checkpoints, tokenizers --------------------------------------------------------------

static kv_status inspect_safetensors(const char *path, kv_error *err) {
    kv_safetensors *file = NULL;
    kv_status status = kv_safetensors_open(path, &file, err);
    if (status) return status;
    size_t bytes = 0;
    int64_t n = kv_safetensors_count(file);
    printf("safetensors %s\n", path);
    for (int64_t i = 0; i < n; i++) {
        const kv_st_entry *entry = kv_safetensors_at(file, i);
        printf("  %-52s %-5s [", entry->name, kv_dtype_name(entry->dtype));
        for (int d = 0; d < entry->n_dims; d++) printf("%s%" PRIi64, d ? ", " : "", entry->shape[d]);
        printf("]\n");
        bytes += entry->size;
    }
    printf("  %" PRIi64 " tensors, %zu bytes\n", n, bytes);
    kv_safetensors_close(file);
    return KV_OK;
}

static kv_status inspect_tokenizer(const char *path, kv_error *err) {
    kv_tokenizer *tokenizer = NULL;
    kv_status status = kv_tokenizer_open(path, &tokenizer, err);
    if (status) return status;
    printf("tokenizer %s\n", path);
    printf("  vocabulary   %" PRIi64 ", BOS %" PRIi32 ", EOS %" PRIi32 "\n",
           kv_tokenizer_vocab_size(tokenizer), kv_tokenizer_bos(tokenizer), kv_tokenizer_eos(tokenizer));
    printf("  hash         %s\n", kv_tokenizer_hash(tokenizer));
    kv_tokenizer_free(tokenizer);
    return KV_OK;
}

static kv_status inspect_config(const char *directory, kv_error *err) {
    static kv_model_spec spec;
    kv_status status = kv_checkpoint_spec(directory, &spec, err);
    if (status) return status;
    printf("checkpoint %s\n", directory);
    printf("  type         %s, %" PRIi64 " layers, dim %" PRIi64 ", head dim %" PRIi64 "%s%s\n",
           spec.model_type, spec.n_layers, spec.model_dim, spec.head_dim, spec.qk_norm ? ", q/k norm" : "",
           spec.qkv_bias ? ", QKV bias" : "");
    printf("  vocabulary   %" PRIi64 ", context %" PRIi64 "%s\n", spec.vocab_size, spec.context_length,
           spec.tied_head ? ", head tied to the embedding" : "");
    for (int64_t i = 0; i < spec.n_layers; i++)
        printf("  layer %-6" PRIi64 " %" PRIi64 " heads, %" PRIi64 " KV heads, FFN %" PRIi64 "\n", i,
               spec.layers[i].n_heads, spec.layers[i].n_kv_heads, spec.layers[i].ffn_dim);
    printf("  parameters   %" PRIi64 ", %" PRIi64 " without embedding and head\n", kv_spec_size(&spec, true),
           kv_spec_size(&spec, false));
    return KV_OK;
}

// Whatever of the known files is there.
static kv_status inspect_directory(const char *directory, kv_error *err) {
    static const struct {
        const char *name;
        kv_status (*show)(const char *path, kv_error *err);
        bool whole_directory;
    } known[] = {{"config.json", inspect_config, true},
                 {"model.safetensors", inspect_safetensors, false},
                 {"predictor.safetensors", inspect_safetensors, false},
                 {"tokenizer.model", inspect_tokenizer, false}};
    int shown = 0;
    kv_status status = KV_OK;
    for (size_t i = 0; !status && i < sizeof known / sizeof *known; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", directory, known[i].name) >= (int)sizeof path)
            return kv_fail(err, KV_ERR_ARGUMENT, "%.200s...: the path is too long", directory);
        if (access(path, F_OK) != 0) continue;
        status = known[i].show(known[i].whole_directory ? directory : path, err);
        shown++;
    }
    if (status || shown) return status;
    return kv_fail(err, KV_ERR_FORMAT,
                   "%s: expected a checkpoint (config.json, model.safetensors), a predictor "
                   "(predictor.safetensors) or a "
                   "tokenizer.model in it",
                   directory);
}

// ---- Which one is it -----------------------------------------------------------------------------------

static kv_status inspect_hdf5(const struct options *options, kv_error *err) {
    hid_t file;
    kv_status status = kv_h5_open(options->path, &file, err);
    if (status) return status;
    char format[32] = "";
    bool shard = H5Aexists(file, "format") > 0 &&
                 kv_h5_attr_string(file, "/", "format", format, sizeof format, NULL) == KV_OK &&
                 strcmp(format, "kv-tokens") == 0;
    if (shard) {
        H5Fclose(file);
        return inspect_shard(options, err);
    }
    printf("HDF5 file %s\n", options->path);
    status = kvdata_list_hdf5(file, options->path, err);
    H5Fclose(file);
    return status;
}

static bool ends_in(const char *path, const char *ending) {
    size_t length = strlen(path), n = strlen(ending);
    return length >= n && strcmp(path + length - n, ending) == 0;
}

static kv_status inspect(const struct options *options, kv_error *err) {
    const char *path = options->path;
    struct stat info;
    if (kv_is_random_model(path)) return inspect_config(path, err);
    if (stat(path, &info) != 0) return kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode)) return inspect_directory(path, err);
    if (ends_in(path, ".safetensors")) return inspect_safetensors(path, err);
    if (ends_in(path, ".model")) return inspect_tokenizer(path, err);
    if (ends_in(path, ".h5") || ends_in(path, ".hdf5")) return inspect_hdf5(options, err);
    return kv_fail(err, KV_ERR_FORMAT,
                   "%s: don't know this kind of file, expected .h5, .safetensors, .model or a directory",
                   path);
}

int kvdata_inspect(int argc, char **argv) {
    static const struct argp argp = {.options = option_list, .parser = parse, .args_doc = "PATH", .doc = doc};
    struct options options = {0};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    return kvdata_result(inspect(&options, &err), &err);
}
