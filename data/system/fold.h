// Lines on a terminal that is narrower than they are: it would cut words in two, and columns would no longer stand below
// each other.
#pragma once

#include <stdio.h>

// From here on what is printed on standard output is folded to the width of the terminal that it is, as kv_fold does; no
// terminal, nothing happens. For programs that print lines for people, not texts. To be called before anything is printed.
void kv_fold_begin(void);

// From here on, and where lines are still to be handed on, they are printed as they are.
void kv_fold_stop(void);

// Columns of the terminal that a stream is, COLUMNS where that is less; 0: it is none.
int kv_console_width(FILE *stream);

// "PROGRAM: TEXT" and a new line on standard error, folded where that is a terminal. What a program's main says at its end.
void kv_fold_complaint(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Text in lines, for that many columns. A longer line goes on in the next one, from a blank on, below the place where what it
// says begins: "memory       about ..." behind the first two blanks or more. A word that is longer stays whole, and so do lines
// that begin as JSON does.
void kv_fold(const char *text, int width, FILE *out);

// The same for a page of help. Lines that begin with two blanks can be pasted (commands, YAML) and stay whole, but for those
// that tell of a command or file in a list, "  word    what it is"; sentences go on at the margin.
void kv_fold_help(const char *text, int width, FILE *out);
