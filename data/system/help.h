// Pages of help in terminals of any width: options and sentences are folded, what can be pasted is printed as it was written.
#pragma once

// Part of kv_console_start: where the terminal (or COLUMNS) is narrower than argp's 79 columns, argp has that width. Not where
// ARGP_HELP_FMT says otherwise.
void kv_help_fit(void);
// Part of it, too, after everything else that has to do with stdout: argp gets a buffer that all of its help fits into.
void kv_help_make_room(char **argv);

// The help_filter of every struct argp that has a text behind its options. In such a terminal that text is taken from argp,
// which would break commands and YAML as well, and printed by kv_fold_help when the program ends, as it does behind --help.
char *kv_help_filter(int key, const char *text, void *input);
