// kvdata new: its options, and what it says at the end. The work is in data/kvdata/new/.
#include "data/kvdata/kvdata.h"
#include "data/kvdata/new/new.h"
#include "data/system/console.h"
#include "data/system/help.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char doc[] =
    "Makes a whole small project of text: a tokenizer, token shards to train on and held out, and the four YAML files of a "
    "base, an auxiliary model, KV predictors between them, and an evaluation. Four commands then lead to results.\v"
    "An INPUT is read as by kvdata tokenize: a file, a directory, or - for standard input; plain text or JSON lines, gzip or "
    "not. Each document is taken once, exact copies are left out. Paragraphs of one plain text stay together in "
    "pieces of up to 16 kB; a document that is a large part of all text is cut. A share of the pieces is held out, chosen by "
    "a hash of what is in them: the same text gives the same project. Nothing is left out for being short.\n"
    "\n"
    "Sizes of vocabulary, models, sequences and steps are chosen by how much text there is, so that the four commands take "
    "a few minutes on two slow cores; comments in the files say why each number is what it is. 10 kB of text are the least, "
    "100 kB make a first try, some MB one that says something. DIR/README.md says what is where, and how to scale up.\n"
    "\n"
    "DIR is new or empty. It appears whole, or not at all.\n"
    "\n"
    "Facts that the programs can make themselves, with questions about them; text\n"
    "of your own:\n"
    "  kvdata atlas --facts 400 --out facts\n"
    "  kvdata new my/first facts/train.jsonl \\\n"
    "         --questions facts/questions_trained.jsonl\n"
    "  kvdata new --held-out 0.2 my/second corpus.jsonl texts/\n"
    "\n"
    "Then, as it says at its end:\n"
    "  (cd my/first && kvtrain base.yaml --dry-run)";

enum { KEY_TEXT_KEY = 256, KEY_FORMAT, KEY_QUESTIONS, KEY_HELD_OUT };

static const struct argp_option option_list[] = {
    {"vocab-size", 'v', "N", 0,
     "pieces of the tokenizer, with 3 special ones and 256 bytes (default: by how much text there is)", 0},
    {"held-out", KEY_HELD_OUT, "SHARE", 0,
     "part of the text that is not trained on, 0.01 to 0.5 (default 0.1)", 0},
    {"tokenizer", 't', "PATH", 0,
     "use this one: a tokenizer.json, a tokenizer.model, or a directory with one of them (default: one is trained)",
     0},
    {"text-key", KEY_TEXT_KEY, "KEY", 0,
     "the key of the text in JSON lines (default text); a.b is the key b within a", 0},
    {"format", KEY_FORMAT, "text|jsonl", 0, "what all inputs are (default: as their first lines show)", 0},
    {"questions", KEY_QUESTIONS, "FILE", 0,
     "questions about the text, as TriviaQA has them: the evaluation asks them, too", 0},
    {0},
};

static void check_options(struct argp_state *state, const new_options *options) {
    int n_standard = 0;
    for (int i = 0; i < options->n_inputs; i++) n_standard += strcmp(options->inputs[i], "-") == 0;
    if (n_standard > 1)
        argp_error(state, "standard input (-) can be read once, found it %d times", n_standard);
    if (options->tokenizer && options->vocab_size)
        argp_error(state, "--vocab-size is of a tokenizer that is trained, found it beside --tokenizer");
}

static error_t parse(int key, char *text, struct argp_state *state) {
    new_options *options = state->input;
    switch (key) {
    case 'v': options->vocab_size = kvdata_int_option(state, "vocab-size", text, 260, 1 << 20); return 0;
    case 't': options->tokenizer = text; return 0;
    case KEY_HELD_OUT: options->held_out = kvdata_real_option(state, "held-out", text, 0.01, 0.5); return 0;
    case KEY_TEXT_KEY: options->text.text_key = text; return 0;
    case KEY_FORMAT: options->text.format = kvdata_format_option(state, text); return 0;
    case KEY_QUESTIONS: options->questions = text; return 0;
    case ARGP_KEY_ARGS:
        options->dir = state->argv[state->next];
        options->inputs = state->argv + state->next + 1;
        options->n_inputs = state->argc - state->next - 1;
        if (options->n_inputs < 1)
            argp_error(state, "found DIR %s alone, expected at least one INPUT behind it", options->dir);
        for (size_t n; (n = strlen(options->dir)) > 1 && options->dir[n - 1] == '/';)
            state->argv[state->next][n - 1] = '\0';
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "expected DIR and at least one INPUT"); return 0;
    case ARGP_KEY_END: check_options(state, options); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// A name as a shell takes it.
static void print_quoted(const char *name) {
    bool plain = *name != '-' && *name != '~';
    for (const char *c = name; *c; c++)
        plain = plain && (isalnum((unsigned char)*c) || strchr("/._-+,:@%", *c));
    if (plain) {
        fputs(name, stdout);
        return;
    }
    if (*name == '-') fputs("./", stdout);
    putchar('\'');
    for (const char *c = name; *c; c++) fputs(*c == '\'' ? "'\\''" : (char[]){*c, 0}, stdout);
    putchar('\'');
}

static void print_text(const new_text *t, const new_sizes *s) {
    char count[32];
    printf("documents        %" PRIi64 "\n", t->documents - t->copies);
    printf("  left out       %" PRIi64 " exact copies, %" PRIi64 " bad\n", t->copies, t->bad);
    printf("pieces           %" PRIi64, t->n);
    if (t->cut > 0) printf(", as %" PRIi64 " documents are cut", t->cut);
    printf("\n  to train on    %" PRIi64 ", %sB", t->n - t->held_out,
           kv_count_text((double)(t->bytes - t->held_out_bytes), count));
    printf(", %s tokens\n", kv_count_text((double)s->train_tokens, count));
    printf("  held out       %" PRIi64 ", %sB", t->held_out, kv_count_text((double)t->held_out_bytes, count));
    printf(", %s tokens\n", kv_count_text((double)s->held_out_tokens, count));
    printf("vocabulary       %" PRIi64 "\n", s->vocab_size);
}

static void print_model(const char *name, const new_model *m, const new_sizes *s) {
    printf("%-16s %" PRIi64 " layers of width %" PRIi64 ", %" PRIi64 " steps of %" PRIi64 " x %" PRIi64
           " tokens\n",
           name, m->layers, m->dim, m->steps, s->batch, s->seq_len);
}

static void print_result(const new_options *options, const new_text *text, const new_sizes *sizes) {
    const double seconds = (sizes->base.flops + sizes->aux.flops + 1.5 * sizes->kvp_flops) / NEW_SLOW + 20;
    print_text(text, sizes);
    print_model("base", &sizes->base, sizes);
    print_model("aux", &sizes->aux, sizes);
    printf("written to %s\n", options->dir);
    if (sizes->train_tokens < 50000) printf("\nWith so little text models learn it by heart: a first try.\n");
    const double minutes = ceil(seconds / 60);
    printf("\nNow, in about %.0f minute%s on two slow cores:\n  cd ", minutes, minutes > 1 ? "s" : "");
    print_quoted(options->dir);
    printf("\n  kvtrain base.yaml\n  kvtrain aux.yaml\n  kvtrain kvp.yaml\n  kveval eval.yaml\n");
    printf("`kvtrain base.yaml --dry-run` says how long it takes here,\nREADME.md there what follows.\n");
}

int kvdata_new(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "DIR INPUT...",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    new_options options = {.held_out = 0.1};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    new_text text = {0};
    new_sizes sizes = {0};
    kv_status status = new_project(&options, &text, &sizes, &err);
    if (!status) print_result(&options, &text, &sizes);
    new_text_free(&text);
    return kvdata_result(status, &err);
}
