// What the subcommands of the program kvdata share.
#pragma once

#include "core/status.h"
#include "data/text/documents.h"

#include <argp.h>
#include <stdint.h>

// One subcommand: argv[0] is "kvdata NAME". Returns the exit status.
int kvdata_atlas(int argc, char **argv);
int kvdata_snippets(int argc, char **argv);
int kvdata_new(int argc, char **argv);
int kvdata_recall(int argc, char **argv);
int kvdata_stdlib(int argc, char **argv);
int kvdata_tokenizer(int argc, char **argv);
int kvdata_tokenize(int argc, char **argv);
int kvdata_cache(int argc, char **argv);
int kvdata_sample(int argc, char **argv);
int kvdata_tabulate(int argc, char **argv);
int kvdata_inspect(int argc, char **argv);
int kvdata_encode(int argc, char **argv);
int kvdata_decode(int argc, char **argv);

// Prints the error on stderr and returns 1, or returns 0 when status is KV_OK.
int kvdata_result(kv_status status, const kv_error *err);

// The value of an option; anything but a number within [min, max] ends the program as a usage error.
int64_t kvdata_int_option(struct argp_state *state, const char *name, const char *text, int64_t min,
                          int64_t max);
kv_text_format kvdata_format_option(struct argp_state *state, const char *text); // of --format: text or jsonl
double kvdata_real_option(struct argp_state *state, const char *name, const char *text, double min,
                          double max);
