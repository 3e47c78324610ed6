// The program kvdata: finds the command, which then reads its own options.
#include "data/kvdata/kvdata.h"

#include "data/file/commit.h"
#include "data/file/made_by.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/help.h"
#include "data/system/limits.h"
#include "data/system/number.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    bool prints; // and writes no files
    bool shares; // its work among the processes that mpirun or srun has started
} commands[] = {
    {"new", kvdata_new, false, false},           {"atlas", kvdata_atlas, false, false},
    {"snippets", kvdata_snippets, false, false}, {"recall", kvdata_recall, false, false},
    {"stdlib", kvdata_stdlib, false, false},     {"tokenizer", kvdata_tokenizer, false, false},
    {"tokenize", kvdata_tokenize, false, false}, {"cache", kvdata_cache, false, true},
    {"sample", kvdata_sample, false, true},      {"tabulate", kvdata_tabulate, false, false},
    {"inspect", kvdata_inspect, true, false},    {"encode", kvdata_encode, true, false},
    {"decode", kvdata_decode, true, false},
};

static const char doc[] = "Prepares and looks at data: everything that models are trained and tested on.\v"
                          "Commands:\n"
                          "  new        make a whole small project of text, ready to train and evaluate\n"
                          "  atlas      build the fact corpus from the ISO code lists\n"
                          "  snippets   make up small Python tasks in HumanEval's format\n"
                          "  recall     make up passages with a question about one of their statements\n"
                          "  stdlib     collect the source of Python's standard library\n"
                          "  tokenizer  train a SentencePiece tokenizer\n"
                          "  tokenize   turn text into token shards for kvtrain\n"
                          "  cache      keep what frozen models make of a corpus, for kvtrain\n"
                          "  sample     draw text from a model, to train others on\n"
                          "  tabulate   work out what of predictors depends on the token alone\n"
                          "  inspect    describe any file the programs read or write\n"
                          "  encode     text to token ids\n"
                          "  decode     token ids to text\n"
                          "\n"
                          "From text to models and figures, and from nothing to something kvtrain can read:\n"
                          "  kvdata new my/project texts/\n"
                          "  kvdata atlas --out atlas\n"
                          "  kvdata tokenizer --input atlas/train.jsonl --vocab-size 1024 \\\n"
                          "         --out atlas/tokenizer\n"
                          "  kvdata tokenize --min-chars 0 --min-tokens 0 \\\n"
                          "         --tokenizer atlas/tokenizer.model --out atlas/train.h5 \\\n"
                          "         atlas/train.jsonl\n"
                          "\n"
                          "Under mpirun or srun, cache and sample share their work among all processes;\n"
                          "the other commands refuse to be several.\n"
                          "\n"
                          "kvdata COMMAND --help tells more. Exit status: 0 done, 1 failed, 2 wrong usage.";

int kvdata_result(kv_status status, const kv_error *err) {
    char reason[KV_LIMITS_TEXT];
    if (!status) return 0;
    if (kv_ranks_failed_together())
        kv_fold_complaint("%s%s", err->message, kv_limits_reason(err, reason));
    else
        kv_ranks_last_words(err->message);
    return 1;
}

int64_t kvdata_int_option(struct argp_state *state, const char *name, const char *text, int64_t min,
                          int64_t max) {
    int64_t value = 0;
    if (!kv_read_whole(text, &value) || value < min || value > max)
        argp_error(state, "--%s: '%s', expected a whole number from %" PRIi64 " to %" PRIi64, name, text, min,
                   max);
    return value;
}

kv_text_format kvdata_format_option(struct argp_state *state, const char *text) {
    const bool plain = strcmp(text, "text") == 0;
    if (!plain && strcmp(text, "jsonl") != 0)
        argp_error(state, "--format: '%s', expected text or jsonl", text);
    return plain ? KV_TEXT_PLAIN : KV_TEXT_JSONL;
}

double kvdata_real_option(struct argp_state *state, const char *name, const char *text, double min,
                          double max) {
    double value = 0;
    if (!kv_read_real(text, &value) || value < min || value > max)
        argp_error(state, "--%s: '%s', expected a number from %g to %g", name, text, min, max);
    return value;
}

// Leaves argv from the command on: its own options are its own business.
static error_t parse(int key, char *argument, struct argp_state *state) {
    int *first = state->input;
    if (key == ARGP_KEY_ARG) {
        (void)argument;
        *first = state->next - 1;
        state->next = state->argc;
        return 0;
    }
    if (key == ARGP_KEY_NO_ARGS) argp_usage(state);
    return key == ARGP_KEY_END || key == ARGP_KEY_INIT || key == ARGP_KEY_SUCCESS ? 0 : ARGP_ERR_UNKNOWN;
}

// Several processes that all did the same would write the same files.
static int join_ranks(const char *command, bool shares) {
    kv_error err = {0};
    kv_status status = kv_ranks_start(&err);
    if (status != KV_OK || shares || kv_n_ranks() == 1) return kvdata_result(status, &err);
    kv_fail(
        &err, KV_ERR_ARGUMENT,
        "%s is no work for several processes, and %d were started: start it without mpirun or srun (kvdata "
        "cache and kvdata sample share their work)",
        command, kv_n_ranks());
    kvdata_result(kv_ranks_agree(KV_ERR_ARGUMENT, &err), &err);
    return 2;
}

static int run_command(int argc, char **argv) {
    static char full_name[64];
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[0], commands[i].name) != 0) continue;
        snprintf(full_name, sizeof full_name, "kvdata %s", argv[0]);
        argv[0] = full_name;
        if (commands[i].prints) kv_console_printout();
        if (strcmp(commands[i].name, "encode") != 0 && strcmp(commands[i].name, "decode") != 0)
            kv_fold_begin();
        const int failed = join_ranks(full_name, commands[i].shares);
        return failed ? failed : commands[i].run(argc, argv);
    }
    fprintf(stderr, "kvdata: there is no command '%s'; see kvdata --help\n", argv[0]);
    return 2;
}

int main(int argc, char **argv) {
    kv_console_start(argv);
    kv_made_by_program("kvdata", kv_commit);
    static const struct argp argp = {
        .parser = parse, .args_doc = "COMMAND [OPTION...]", .doc = doc, .help_filter = kv_help_filter};
    int first = 0;
    argp_err_exit_status = 2;
    kv_console_catch_signals();
    error_t error = argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &first);
    if (error) {
        fprintf(stderr, "kvdata: %s\n", strerror(error));
        return 1;
    }
    int status = run_command(argc - first, argv + first);
    if (status == 0 && !kv_console_flush()) {
        fprintf(stderr, "kvdata: cannot write the output: %s\n", strerror(errno));
        status = 1;
    }
    return kv_ranks_end(status);
}
