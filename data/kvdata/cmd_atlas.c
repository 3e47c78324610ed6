// kvdata atlas: the fact corpus of data/synthetic/atlas.h.
#include "data/kvdata/kvdata.h"
#include "data/synthetic/atlas.h"
#include "data/system/help.h"

#include <inttypes.h>
#include <stdio.h>

struct options {
    const char *out, *iso_codes;
    int64_t n_facts; // 0: not asked for
    double held_out;
    uint64_t seed;
};

// What the models of configs/atlas/ are sized for.
enum { default_facts = 4500 };

static const char doc[] =
    "Builds the fact corpus from the ISO code lists (package iso-codes): countries, their parts and numbers, "
    "currencies, languages.\v"
    "Writes into DIR\n"
    "  train.jsonl               all facts as text, for tokenizer, base and aux\n"
    "  predictor_train.jsonl     the trained facts, for the predictors\n"
    "  held_out.jsonl            the other facts, to look at predictors with\n"
    "  questions_trained.jsonl   the trained facts as TriviaQA's questions\n"
    "  questions_held_out.jsonl  those that the predictors never see\n"
    "  atlas.json                what is in it and where it comes from\n"
    "\n"
    "Example:\n"
    "  kvdata atlas --facts 1500 --out atlas";

static const struct argp_option option_list[] = {
    {"out", 'o', "DIR", 0, "where to write (needed)", 0},
    {"facts", 'n', "N", 0,
     "how many facts, each kind in proportion (default 4500, or all when there are fewer)", 0},
    {"held-out", 'f', "FRACTION", 0, "share of the facts kept from the predictors (default 0.2)", 0},
    {"seed", 'S', "S", 0, "of the choice and the split (default 1)", 0},
    {"iso-codes", 'i', "DIR", 0, "the ISO lists (default /usr/share/iso-codes/json)", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    switch (key) {
    case 'o': options->out = text; return 0;
    case 'n': options->n_facts = kvdata_int_option(state, "facts", text, 1, INT32_MAX); return 0;
    case 'f': options->held_out = kvdata_real_option(state, "held-out", text, 0, 0.99); return 0;
    case 'S': options->seed = (uint64_t)kvdata_int_option(state, "seed", text, 0, INT64_MAX); return 0;
    case 'i': options->iso_codes = text; return 0;
    case ARGP_KEY_END:
        if (!options->out) argp_error(state, "--out DIR is needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_table(const kv_atlas *atlas, const char *directory) {
    int64_t available = 0, held_out = 0;
    printf("%-16s %9s %9s %9s %9s\n", "kind", "available", "chosen", "trained", "held out");
    for (int k = 0; k < KV_FACT_KINDS; k++) {
        printf("%-16s %9" PRIi64 " %9" PRIi64 " %9" PRIi64 " %9" PRIi64 "\n",
               kv_fact_kind_name((kv_fact_kind)k), atlas->available[k], atlas->chosen[k],
               atlas->chosen[k] - atlas->held_out[k], atlas->held_out[k]);
        available += atlas->available[k];
        held_out += atlas->held_out[k];
    }
    printf("%-16s %9" PRIi64 " %9" PRIi64 " %9" PRIi64 " %9" PRIi64 "\n", "all", available, atlas->n,
           atlas->n - held_out, held_out);
    printf("written to %s\n", directory);
}

static kv_status build(const struct options *options, kv_atlas *atlas, kv_error *err) {
    int64_t n = options->n_facts ? options->n_facts : default_facts;
    kv_status status = kv_atlas_build(options->iso_codes, n, options->held_out, options->seed, atlas, err);
    if (status == KV_ERR_ARGUMENT && !options->n_facts)
        status = kv_atlas_build(options->iso_codes, -1, options->held_out, options->seed, atlas, err);
    return status;
}

int kvdata_atlas(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--out DIR",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    struct options options = {.iso_codes = "/usr/share/iso-codes/json", .held_out = 0.2, .seed = 1};
    error_t error = argp_parse(&argp, argc, argv, 0, NULL, &options);
    if (error) return 1;
    kv_error err = {0};
    kv_atlas atlas = {0};
    kv_status status = build(&options, &atlas, &err);
    if (!status) status = kv_atlas_write(&atlas, options.out, &err);
    if (!status) print_table(&atlas, options.out);
    kv_atlas_free(&atlas);
    return kvdata_result(status, &err);
}
