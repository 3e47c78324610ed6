// kvdata inspect: asks the kinds of inspect/ one after the other whether a path is theirs. Nothing but the
// content counts, so that a file that was renamed or has come from elsewhere is known too.
#include "data/file/identify.h"
#include "data/kvdata/inspect/inspect.h"
#include "data/kvdata/kvdata.h"
#include "data/system/help.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char doc[] =
    "Describes whatever PATH is, by its content: anything the programs read or write.\v"
    "Directories: a checkpoint (Hugging Face layout), a predictor, a tokenizer, a run of kvtrain or one of its "
    "checkpoints, what kveval left, a corpus of tokens, frozen caches. Names such as random:openelm-1.1b stand for the published shapes.\n"
    "Files: token shards, saved prompts, results.h5 and any other HDF5 file; safetensors, their index, config.json; "
    "tokenizer.model, tokenizer.json; configs of kvtrain and kveval; metrics.jsonl, samples; TriviaQA, HumanEval "
    "and multiple-choice files; JSON lines and plain text, also with gzip.\n"
    "\n"
    "Examples:\n"
    "  kvdata inspect random:smollm2-135m\n"
    "  kvdata inspect --json random:smollm2-135m | jq .parameters\n"
    "  kvdata inspect --documents 3 corpus.jsonl\n"
    "  kvdata inspect --documents 3 --tokenizer my/tokenizer.model my/train.h5\n"
    "  kvdata inspect runs/quickstart/ours";

static const struct argp_option option_list[] = {
    {"documents", 'd', "N", 0, "also show the first N documents of a token shard, a corpus or a text", 0},
    {"tokenizer", 't', "FILE", 0, "show a shard's documents as text", 0},
    {"json", 'j', NULL, 0, "print the facts as one JSON object", 0},
    {"hash", 'H', NULL, 0,
     "also the fingerprint of a checkpoint, for which all its weights are read, and how many of them are NaN or infinite",
     0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    inspect_options *options = state->input;
    switch (key) {
    case 'd': options->n_documents = kvdata_int_option(state, "documents", text, 0, INT32_MAX); return 0;
    case 't': options->tokenizer = text; return 0;
    case 'j': options->json = true; return 0;
    case 'H': options->hash = true; return 0;
    case ARGP_KEY_ARG:
        if (options->path) argp_error(state, "one PATH at a time");
        options->path = text;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "PATH is needed"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// What stands earlier is asked first: what can be told for certain before what could be many things.
static const inspect_kind *const kinds[] = {
    inspect_cache_kinds,  inspect_hdf5_kinds,       inspect_weights_kinds,   inspect_tokenizer_kinds,
    inspect_run_kinds,    inspect_checkpoint_kinds, inspect_predictor_kinds, inspect_benchmark_kinds,
    inspect_corpus_kinds, inspect_text_kinds,
};

// "begins with 50 4b 03 04 \"PK..\""
static void describe_beginning(const inspect_subject *s, char *text, size_t size) {
    const size_t n = s->n_head < 8 ? s->n_head : 8;
    size_t used = (size_t)snprintf(text, size, "begins with");
    for (size_t i = 0; i < n; i++) used += (size_t)snprintf(text + used, size - used, " %02x", s->head[i]);
    used += (size_t)snprintf(text + used, size - used, " \"");
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, size - used, "%c",
                                 s->head[i] >= ' ' && s->head[i] < 127 ? s->head[i] : '.');
    snprintf(text + used, size - used, "\"");
}

static kv_status unknown(const inspect_subject *s, kv_error *err) {
    char beginning[160];
    kv_identity found;
    kv_identify(s->path, true, &found);
    if (s->is_dir && access(s->path, R_OK | X_OK) == 0)
        return kv_fail(
            err, KV_ERR_FORMAT,
            "%s: nothing in this directory is known: expected a checkpoint (config.json), a predictor "
            "(predictor.json, predictor.safetensors), a tokenizer, a corpus (index.json), a run of kvtrain (config.yaml) or "
            "of kveval (results.h5)",
            s->path);
    describe_beginning(s, beginning, sizeof beginning);
    return kv_fail(err, KV_ERR_FORMAT, "%s: not a file of this project: %s%s%s%s", s->path,
                   *found.what ? found.what : beginning, *found.advice ? " (" : "", found.advice,
                   *found.advice ? ")" : "");
}

static kv_status inspect(const inspect_subject *s, inspect_report *report, kv_error *err) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (const inspect_kind *kind = kinds[i]; kind->recognises; kind++)
            if (kind->recognises(s)) return kind->describe(s, report, err);
    return unknown(s, err);
}

int kvdata_inspect(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "PATH",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    inspect_options options = {0};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    static inspect_subject subject;
    inspect_report *report = inspect_report_create(options.json);
    kv_status status = report ? inspect_subject_open(&subject, &options, &err)
                              : kv_fail(&err, KV_ERR_MEMORY, "out of memory");
    if (!status) status = inspect(&subject, report, &err);
    if (!status) status = inspect_report_finish(report, &err);
    inspect_report_free(report);
    inspect_subject_free(&subject);
    return kvdata_result(status, &err);
}
