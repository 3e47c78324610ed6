// Lines that need not be typed: those of before, found by keys or by a part of them, and commands.
#include "infer/kvrun/edit.h"

#include "data/text/unicode.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

// ---- What was typed before -----------------------------------------------------------------------------

static void show_past(kvrun_editor *e, size_t which) {
    if (e->at == e->past.n) {
        free(e->draft);
        e->draft = kvrun_editor_utf8(e, 0, kvrun_editor_text(e).n);
    }
    e->at = which;
    const char *text = which < e->past.n ? e->past.lines[which] : e->draft;
    kvrun_editor_put(e, text ? text : "");
}

void kvrun_edit_older(kvrun_editor *e, kvrun_text t) {
    (void)t;
    if (e->at > 0) show_past(e, e->at - 1);
}

void kvrun_edit_newer(kvrun_editor *e, kvrun_text t) {
    (void)t;
    if (e->at < e->past.n) show_past(e, e->at + 1);
}

// ---- Searching -----------------------------------------------------------------------------------------

struct search {
    char query[256];
    size_t n;
    bool found;
};

// The newest line up to `from`, or (forward) the oldest from there on, that has the query; false: none.
static bool find(kvrun_editor *e, struct search *s, size_t from, bool forward) {
    s->found = s->n == 0;
    for (size_t i = from; !s->found && i < e->past.n; i += forward ? 1 : (size_t)-1) {
        const char *match = strstr(e->past.lines[i], s->query);
        if (!match) continue;
        show_past(e, i);
        kvrun_editor_go(e, (size_t)kv_utf8_count(e->past.lines[i], (size_t)(match - e->past.lines[i])));
        s->found = true;
    }
    return s->found;
}

static void add_to_query(struct search *s, wchar_t c) {
    char bytes[MB_LEN_MAX];
    mbstate_t state = {0};
    const size_t n = wcrtomb(bytes, c, &state);
    if (n == (size_t)-1 || s->n + n >= sizeof s->query) return;
    memcpy(s->query + s->n, bytes, n);
    s->query[s->n += n] = '\0';
}

static void drop_from_query(struct search *s) {
    int32_t point;
    s->n -= kv_utf8_last(s->query, s->n, &point);
    s->query[s->n] = '\0';
}

// False: the key ends the search.
static bool search_key(kvrun_editor *e, struct search *s, wchar_t key) {
    const bool inside = e->at < e->past.n;
    if (key == 'R' - '@')
        find(e, s, e->at - 1, false);
    else if (key == 'S' - '@')
        find(e, s, inside ? e->at + 1 : e->at, true);
    else if (key == 'H' - '@' || key == kvrun_rubout)
        drop_from_query(s), find(e, s, e->past.n - 1, false);
    else if (key >= ' ')
        add_to_query(s, key), find(e, s, inside ? e->at : e->past.n - 1, false);
    else
        return false;
    return true;
}

// The keys up to the end of the search are its own; what ends it does its work afterwards, but for Ctrl-G and Ctrl-C, which
// bring back what was there before.
void kvrun_edit_search(kvrun_editor *e, kvrun_text t) {
    struct search s = {.found = true};
    wchar_t key = 0;
    const size_t at = e->at;
    char *saved = kvrun_editor_utf8(e, 0, t.n);
    do snprintf(e->label, sizeof e->label, "%s '%s': ", s.found ? "search" : "no such line:", s.query);
    while (kvrun_editor_next(e, &key) && search_key(e, &s, key));
    e->label[0] = '\0';
    if (key == kvrun_ctrl_c || key == 'G' - '@') {
        kvrun_editor_put(e, saved ? saved : "");
        e->at = at;
    } else if (!e->broken && !e->ended)
        el_wpush(e->el, (const wchar_t[]){key, L'\0'});
    free(saved);
}

// ---- Completing ----------------------------------------------------------------------------------------

static void list_commands(kvrun_editor *e, const char *begun) {
    kvrun_editor_show(e, true);
    kvrun_editor_write(e, "\r\n");
    for (const char *const *c = e->commands; *c; c++)
        if (!strncmp(*c, begun, strlen(begun))) kvrun_editor_write(e, *c), kvrun_editor_write(e, "  ");
    kvrun_editor_write(e, "\r\n");
    kvrun_editor_forget_screen(e);
}

static void complete_command(kvrun_editor *e, const char *begun) {
    const size_t n = strlen(begun);
    const char *first = NULL;
    size_t same = 0;
    for (const char *const *c = e->commands; *c; c++) {
        if (strncmp(*c, begun, n) != 0) continue;
        if (!first) first = *c, same = strlen(first);
        while (strncmp(*c, first, same) != 0) same--;
    }
    if (!first) return;
    if (same == n && first[n]) {
        list_commands(e, begun);
        return;
    }
    char *longer = strndup(first, same);
    if (longer) kvrun_editor_put(e, longer);
    free(longer);
}

// A slash and letters are a command; anywhere else a tab is a tab.
void kvrun_edit_tab(kvrun_editor *e, kvrun_text t) {
    char *begun = kvrun_editor_utf8(e, 0, t.n);
    if (begun && *begun == '/' && t.cursor == t.n && !strpbrk(begun, " \n\t"))
        complete_command(e, begun);
    else
        el_winsertstr(e->el, L"\t");
    free(begun);
}
