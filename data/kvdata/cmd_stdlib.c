// kvdata stdlib: the source of Python's standard library, by data/text/stdlib.h.
#include "data/kvdata/kvdata.h"
#include "data/system/help.h"
#include "data/text/stdlib.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct options {
    const char *out, *root;
};

static const char doc[] =
    "Collects real text that every Debian has: the source of Python's standard library, as the package "
    "libpython3-stdlib and those it stands for ship it. One document a file.\v"
    "Writes into DIR\n"
    "  train.jsonl     nine tenths of the files, for all that is trained\n"
    "  held_out.jsonl  a tenth, chosen by a hash of the path: for measuring\n"
    "  stdlib.json     package, version, a hash of all text, and how much of it\n"
    "Left out are Python's own tests (test/), tables and documentation that programs made (encodings/, "
    "pydoc_data/, _sysconfigdata*), links, empty files and what is not UTF-8.\n"
    "\n"
    "Example:\n"
    "  kvdata stdlib --out stdlib";

static const struct argp_option option_list[] = {
    {"out", 'o', "DIR", 0, "where to write (needed)", 0},
    {"root", 'r', "DIR", 0, "root of the Debian system whose library it is (default /)", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *options = state->input;
    switch (key) {
    case 'o': options->out = text; return 0;
    case 'r': options->root = strcmp(text, "/") == 0 ? "" : text; return 0;
    case ARGP_KEY_END:
        if (!options->out) argp_error(state, "--out DIR is needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_table(const kv_stdlib *stdlib, const char *directory) {
    int64_t files, bytes;
    printf("%-10s %6s %10s\n", "split", "files", "bytes");
    for (int held_out = 0; held_out < 2; held_out++) {
        kv_stdlib_count(stdlib, held_out, &files, &bytes);
        printf("%-10s %6" PRIi64 " %10" PRIi64 "\n", held_out ? "held out" : "train", files, bytes);
    }
    printf("%-10s %6" PRIi64 "\n", "left out", stdlib->left_out);
    printf("%s %s, hash %s; written to %s\n", stdlib->package, stdlib->version, stdlib->hash, directory);
}

int kvdata_stdlib(int argc, char **argv) {
    static const struct argp argp = {.options = option_list,
                                     .parser = parse,
                                     .args_doc = "--out DIR",
                                     .doc = doc,
                                     .help_filter = kv_help_filter};
    struct options options = {.root = ""};
    if (argp_parse(&argp, argc, argv, 0, NULL, &options)) return 1;
    kv_error err = {0};
    kv_stdlib stdlib = {0};
    kv_status status = kv_stdlib_collect(options.root, &stdlib, &err);
    if (!status) status = kv_stdlib_write(&stdlib, options.out, &err);
    if (!status) print_table(&stdlib, options.out);
    kv_stdlib_free(&stdlib);
    return kvdata_result(status, &err);
}
