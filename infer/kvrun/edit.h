// A line editor for messages of any length and of several lines. Not for others than line.c.
//
// libedit knows what keys are called, holds the line, and sets the terminal. What it makes of keys is not enough here: it draws no more
// than a screen and shows accents and joined emoji a column too wide, takes code points for characters, has no lines within a
// line, and cuts what is being typed at 1024 characters when Up is pressed. So what keys do and how it looks is done here, by characters
// as a reader sees them (data/system/width.h), and none of its own commands runs: they would draw, over a picture of the screen that is not
// ours.
#pragma once

#include "data/system/buffers.h"

#include <histedit.h>
#include <stdbool.h>
#include <stdio.h>
#include <termios.h>

// ---- What was typed before: past.c ---------------------------------------------------------------------

typedef struct kvrun_past {
    char **lines; // [n] oldest first
    size_t n;
    char *path; // where they are kept between runs; NULL: nowhere
} kvrun_past;

// keep: in the usual place, which is KVRUN_HISTORY (empty: nowhere), else kvrun/history in XDG_STATE_HOME or
// ~/.local/state. What cannot be read or written is a warning, and lines are kept in memory.
void kvrun_past_open(kvrun_past *past, bool keep);
// Unless it is empty, begins with a blank or is what was typed last. At once to the file, behind what others put there.
void kvrun_past_add(kvrun_past *past, const char *line);
void kvrun_past_close(kvrun_past *past);

// ---- The editor ----------------------------------------------------------------------------------------

typedef struct kvrun_editor {
    EditLine *el;
    FILE *nowhere; // libedit's own drawing
    kvrun_past past;
    const char *const *commands; // NULL-terminated; completed by Tab
    struct termios before;       // the terminal as it was found, and as it is left

    // Reading.
    char input[4096]; // [n_input] read, not yet taken
    size_t n_input;
    wchar_t typed; // what stands behind kvrun_other_key, 0: nothing
    bool verbatim; // characters are wanted as they come
    bool quoting;  // inside of a paste: nothing is drawn
    bool ended;    // Ctrl-D, or the terminal is gone
    bool broken;   // a signal to stop, or an error: in status
    bool accepted;
    kv_bytes text; // what was accepted
    kv_status status;
    kv_error *err;

    // The line.
    size_t at;                  // past.n: what is being typed; else which line of the past is shown
    char *draft;                // what was being typed when Up was pressed
    wchar_t *killed;            // what Ctrl-Y brings back
    size_t killed_n, killed_at; // the line's length and the cursor right behind that
    char label[600];            // in front of the text while searching; "": the prompt

    // What the screen shows.
    int *columns;  // [n_rows] of each row drawn
    int n_rows;    // 0: nothing yet
    int row;       // the cursor's
    size_t top;    // rows of the text that are above the screen
    int width;     // when it was drawn
    kv_bytes draw; // what goes to the terminal in one piece
} kvrun_editor;

// NULL in *editor: this is no terminal to edit on, or there is no locale of UTF-8.
kv_status kvrun_editor_open(kvrun_editor **editor, bool keep, const char *const *commands, kv_error *err);
void kvrun_editor_close(kvrun_editor *editor);
// The next line is in editor->text, which ends with a NUL that does not count; *end and failures as kvrun_line_read.
kv_status kvrun_editor_read(kvrun_editor *editor, bool *end, kv_error *err);

// From `from` up to `to` of the line, in UTF-8; the caller frees it. NULL when out of memory.
char *kvrun_editor_utf8(const kvrun_editor *editor, size_t from, size_t to);
// The line becomes this, with the cursor at its end.
void kvrun_editor_put(kvrun_editor *editor, const char *text);

// The line and the cursor in it, in code points.
typedef struct kvrun_text {
    const wchar_t *line;
    size_t n, cursor;
} kvrun_text;
kvrun_text kvrun_editor_text(const kvrun_editor *editor);
void kvrun_editor_go(kvrun_editor *editor, size_t to);
void kvrun_editor_cut(kvrun_editor *editor, size_t from, size_t to); // the cursor is at `from` then

// What keys do: edit_keys.c. False when libedit refuses.
bool kvrun_editor_bind(kvrun_editor *editor);
enum { kvrun_ctrl_c = 3, kvrun_escape = 27, kvrun_other_key = 31, kvrun_rubout = 127 };
// The next character within a key of several; false: none will come.
bool kvrun_editor_next(kvrun_editor *editor, wchar_t *character);
// Those of them that are in edit_find.c.
void kvrun_edit_older(kvrun_editor *editor, kvrun_text text);
void kvrun_edit_newer(kvrun_editor *editor, kvrun_text text);
void kvrun_edit_search(kvrun_editor *editor, kvrun_text text);
void kvrun_edit_tab(kvrun_editor *editor, kvrun_text text);

// The line as it is, drawn over how it was: edit_show.c. `whole`: all of it, with the cursor behind it, for good.
void kvrun_editor_show(kvrun_editor *editor, bool whole);
// The screen is another, or something else was written: the next drawing starts where the cursor is.
void kvrun_editor_forget_screen(kvrun_editor *editor);
// The terminal has another size: how many rows the old drawing takes now.
void kvrun_editor_reflow(kvrun_editor *editor);
// To the terminal, as it is.
void kvrun_editor_write(kvrun_editor *editor, const char *text);
