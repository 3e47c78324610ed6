// Text in the columns of a terminal: how many it takes, where to cut it.
//
// What counts is what a reader takes for one character: a letter with its accents, a syllable, a flag, a
// family of emoji. East Asian characters and emoji take two columns, others one, what is never seen none. A
// byte that is no part of UTF-8 counts as U+FFFD, which stands for it.
//                                                              [Unicode Standard Annexes 11 and 29]
#pragma once

#include <stdbool.h>
#include <stddef.h>

// Columns of the whole text.
int kv_text_width(const char *text);

// Columns of the character that text, which is not empty, begins with; its bytes in *length, at least 1.
int kv_text_character(const char *text, size_t *length);

// Blanks that text lacks to take so many columns: printf("%s%*s", text, kv_text_pad(text, 20), "").
int kv_text_pad(const char *text, int columns);

// Bytes of the longest beginning of text, in whole characters, that takes at most so many columns.
size_t kv_text_fit(const char *text, int columns);

// A copy that cannot move the cursor: tabs are four spaces, other control characters, marks that turn the
// direction of text and bytes that are not UTF-8 are U+FFFD; new lines stay where `lines`, else they are spaces. The caller frees it; NULL when out of
// memory.
char *kv_text_printable(const char *text, bool lines);
