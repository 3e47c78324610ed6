// What keys do to the line. Names and places are those of shells: Emacs' letters, and the keys that say what they do.
#include "infer/kvrun/edit.h"

#include "data/system/width.h"
#include "data/text/unicode.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

// ---- Places --------------------------------------------------------------------------------------------

static size_t line_start(const kvrun_text *t, size_t at) {
    while (at > 0 && t->line[at - 1] != L'\n') at--;
    return at;
}

static size_t line_end(const kvrun_text *t, size_t at) {
    while (at < t->n && t->line[at] != L'\n') at++;
    return at;
}

// Character by character, as a reader sees them, through a part of a line: where the last one begins that ends before `stop` and
// with which the walk is at most so many columns long.
static size_t walk(const kvrun_editor *e, size_t from, size_t end, size_t stop, int columns) {
    size_t place = from, length;
    char *text = kvrun_editor_utf8(e, from, end);
    for (const char *at = text; at && *at; at += length) {
        columns -= kv_text_character(at, &length);
        const size_t next = place + (size_t)kv_utf8_count(at, length);
        if (columns < 0 || next >= stop) break;
        place = next;
    }
    free(text);
    return place;
}

static size_t before(const kvrun_editor *e, size_t at) {
    const kvrun_text t = kvrun_editor_text(e);
    if (at == 0) return 0;
    if (t.line[at - 1] == L'\n') return at - 1;
    return walk(e, line_start(&t, at), at, at, INT_MAX);
}

static size_t behind(const kvrun_editor *e, size_t at) {
    const kvrun_text t = kvrun_editor_text(e);
    size_t length;
    if (at >= t.n) return t.n;
    if (t.line[at] == L'\n') return at + 1;
    char *text = kvrun_editor_utf8(e, at, line_end(&t, at));
    if (!text) return at + 1;
    kv_text_character(text, &length);
    at += (size_t)kv_utf8_count(text, length);
    free(text);
    return at;
}

static bool is_word(wchar_t c) {
    return kv_is_word((int32_t)c);
}

static bool is_solid(wchar_t c) {
    return !kv_is_white_space((int32_t)c);
}

// The character that a mark stands on decides, so both look at the first code point of each.
static size_t word_before(const kvrun_editor *e, bool (*belongs)(wchar_t)) {
    const kvrun_text t = kvrun_editor_text(e);
    size_t at = t.cursor, next;
    while (at > 0 && !belongs(t.line[next = before(e, at)])) at = next;
    while (at > 0 && belongs(t.line[next = before(e, at)])) at = next;
    return at;
}

static size_t word_behind(const kvrun_editor *e) {
    const kvrun_text t = kvrun_editor_text(e);
    size_t at = t.cursor;
    while (at < t.n && !is_word(t.line[at])) at = behind(e, at);
    while (at < t.n && is_word(t.line[at])) at = behind(e, at);
    return at;
}

// ---- Moving and deleting -------------------------------------------------------------------------------

static void left(kvrun_editor *e, kvrun_text t) {
    kvrun_editor_go(e, before(e, t.cursor));
}

static void right(kvrun_editor *e, kvrun_text t) {
    kvrun_editor_go(e, behind(e, t.cursor));
}

static void word_left(kvrun_editor *e, kvrun_text t) {
    (void)t;
    kvrun_editor_go(e, word_before(e, is_word));
}

static void word_right(kvrun_editor *e, kvrun_text t) {
    (void)t;
    kvrun_editor_go(e, word_behind(e));
}

// Of the line, and from there of everything.
static void home(kvrun_editor *e, kvrun_text t) {
    const size_t start = line_start(&t, t.cursor);
    kvrun_editor_go(e, start == t.cursor ? 0 : start);
}

static void end(kvrun_editor *e, kvrun_text t) {
    const size_t stop = line_end(&t, t.cursor);
    kvrun_editor_go(e, stop == t.cursor ? t.n : stop);
}

static void rub_out(kvrun_editor *e, kvrun_text t) {
    kvrun_editor_cut(e, before(e, t.cursor), t.cursor);
}

static void delete (kvrun_editor *e, kvrun_text t) {
    kvrun_editor_cut(e, t.cursor, behind(e, t.cursor));
}

static void delete_or_end(kvrun_editor *e, kvrun_text t) {
    if (t.n == 0)
        e->ended = true;
    else
        delete (e, t);
}

// What is cut by several keys in a row comes back together.
static void kill(kvrun_editor *e, size_t from, size_t to) {
    const kvrun_text t = kvrun_editor_text(e);
    const bool again = e->killed && e->killed_n == t.n && e->killed_at == t.cursor;
    const size_t had = again ? wcslen(e->killed) : 0, n = to - from;
    wchar_t *all = malloc((had + n + 1) * sizeof *all);
    if (!all) return;
    const bool forward = to > t.cursor;
    if (had > 0) wmemcpy(all + (forward ? 0 : n), e->killed, had);
    wmemcpy(all + (forward ? had : 0), t.line + from, n);
    all[had + n] = L'\0';
    free(e->killed);
    e->killed = all;
    kvrun_editor_cut(e, from, to);
    e->killed_n = t.n - n;
    e->killed_at = from;
}

static void kill_to_end(kvrun_editor *e, kvrun_text t) {
    const size_t stop = line_end(&t, t.cursor);
    kill(e, t.cursor, stop == t.cursor && stop < t.n ? stop + 1 : stop);
}

static void kill_to_start(kvrun_editor *e, kvrun_text t) {
    const size_t start = line_start(&t, t.cursor);
    kill(e, start == t.cursor && start > 0 ? start - 1 : start, t.cursor);
}

static void kill_solid_before(kvrun_editor *e, kvrun_text t) {
    kill(e, word_before(e, is_solid), t.cursor);
}

static void kill_word_before(kvrun_editor *e, kvrun_text t) {
    kill(e, word_before(e, is_word), t.cursor);
}

static void kill_word_behind(kvrun_editor *e, kvrun_text t) {
    kill(e, t.cursor, word_behind(e));
}

static void yank(kvrun_editor *e, kvrun_text t) {
    (void)t;
    if (e->killed && *e->killed) el_winsertstr(e->el, e->killed);
}

static void clear_screen(kvrun_editor *e, kvrun_text t) {
    (void)t;
    kvrun_editor_write(e, "\033[H\033[2J");
    kvrun_editor_forget_screen(e);
}

static void insert_other(kvrun_editor *e, kvrun_text t) {
    (void)t;
    if (e->typed) el_winsertstr(e->el, (const wchar_t[]){e->typed, L'\0'});
}

// ---- Ending a line -------------------------------------------------------------------------------------

static void new_line(kvrun_editor *e, kvrun_text t) {
    (void)t;
    el_winsertstr(e->el, L"\n");
}

// A backslash at the end asks for another line. A new line at the end, as pastes have one, is dropped, as of a file.
static void enter(kvrun_editor *e, kvrun_text t) {
    if (t.n > 0 && t.line[t.n - 1] == L'\\') {
        kvrun_editor_cut(e, t.n - 1, t.n);
        el_winsertstr(e->el, L"\n");
        return;
    }
    char *text = kvrun_editor_utf8(e, 0, t.n - (t.n > 0 && t.line[t.n - 1] == L'\n'));
    e->text.length = 0;
    e->status = text ? kv_bytes_add(&e->text, text, strlen(text) + 1, e->err)
                     : kv_fail(e->err, KV_ERR_MEMORY, "out of memory for a line");
    free(text);
    e->broken = e->status != KV_OK;
    e->accepted = !e->broken;
    if (e->accepted) e->text.length--;
}

// Ctrl-C: what is there stays on the screen, as in shells.
static void give_up(kvrun_editor *e, kvrun_text t) {
    kvrun_editor_show(e, true);
    kvrun_editor_write(e, "^C\r\n");
    kvrun_editor_forget_screen(e);
    kvrun_editor_cut(e, 0, t.n);
    e->at = e->past.n;
}

// ---- Lines within the line -----------------------------------------------------------------------------

// To the line above or below in the same column.
static void to_line(kvrun_editor *e, const kvrun_text *t, size_t start) {
    const size_t own = line_start(t, t->cursor), stop = line_end(t, start);
    char *left_of = kvrun_editor_utf8(e, own, t->cursor);
    if (left_of) kvrun_editor_go(e, walk(e, start, stop, stop + 1, kv_text_width(left_of)));
    free(left_of);
}

static void up(kvrun_editor *e, kvrun_text t) {
    const size_t start = line_start(&t, t.cursor);
    if (start > 0)
        to_line(e, &t, line_start(&t, start - 1));
    else
        kvrun_edit_older(e, t);
}

static void down(kvrun_editor *e, kvrun_text t) {
    const size_t stop = line_end(&t, t.cursor);
    if (stop < t.n)
        to_line(e, &t, stop + 1);
    else
        kvrun_edit_newer(e, t);
}

// ---- Pasting -------------------------------------------------------------------------------------------

struct paste {
    wchar_t *text;
    size_t n;
};

static bool add_pasted(struct paste *p, wchar_t c) {
    wchar_t *more = kv_room_for_one(p->text, p->n, sizeof *more);
    if (!more) return false;
    p->text = more;
    more[p->n++] = c;
    return true;
}

static bool ends_paste(const struct paste *p) {
    static const wchar_t mark[] = L"\033[201~";
    const size_t n = wcslen(mark);
    return p->n >= n && !wmemcmp(p->text + p->n - n, mark, n);
}

// Terminals send new lines of a paste as Enter, which is CR, or as they are. A NUL is no text.
static size_t mend(wchar_t *text, size_t n) {
    size_t kept = 0;
    wchar_t last = L'\0';
    for (size_t i = 0; i < n; i++) {
        const wchar_t c = text[i];
        if (c != L'\0' && !(c == L'\n' && last == L'\r')) text[kept++] = c == L'\r' ? L'\n' : c;
        last = c;
    }
    return kept;
}

static void paste(kvrun_editor *e) {
    struct paste p = {0};
    wchar_t c;
    bool whole = false;
    e->quoting = true;
    while (!whole && kvrun_editor_next(e, &c) && c != kvrun_ctrl_c && add_pasted(&p, c))
        whole = ends_paste(&p);
    e->quoting = false;
    const size_t n = mend(p.text, whole ? p.n - wcslen(L"\033[201~") : p.n);
    if (n > 0 && add_pasted(&p, L'\0')) {
        p.text[n] = L'\0';
        el_winsertstr(e->el, p.text);
    }
    free(p.text);
}

// ---- Which key does what -------------------------------------------------------------------------------

typedef void kvrun_act(kvrun_editor *e, kvrun_text t);
struct key {
    wchar_t key;
    kvrun_act *act;
};

static const struct key controls[] = {{'A' - '@', home},
                                      {'B' - '@', left},
                                      {kvrun_ctrl_c, give_up},
                                      {'D' - '@', delete_or_end},
                                      {'E' - '@', end},
                                      {'F' - '@', right},
                                      {'H' - '@', rub_out},
                                      {'I' - '@', kvrun_edit_tab},
                                      {'J' - '@', enter},
                                      {'K' - '@', kill_to_end},
                                      {'L' - '@', clear_screen},
                                      {'M' - '@', enter},
                                      {'N' - '@', down},
                                      {'P' - '@', up},
                                      {'R' - '@', kvrun_edit_search},
                                      {'U' - '@', kill_to_start},
                                      {'W' - '@', kill_solid_before},
                                      {'Y' - '@', yank},
                                      {kvrun_other_key, insert_other},
                                      {kvrun_rubout, rub_out}};
// Behind Alt, or Escape.
static const struct key metas[] = {{'b', word_left},
                                   {'f', word_right},
                                   {'d', kill_word_behind},
                                   {'H' - '@', kill_word_before},
                                   {kvrun_rubout, kill_word_before},
                                   {'\r', new_line},
                                   {'\n', new_line}};
static const struct key arrows[] = {{'A', up},   {'B', down}, {'C', right}, {'D', left},
                                    {'H', home}, {'F', end},  {'M', enter}};
static const struct key numbered[] = {{1, home}, {3, delete}, {4, end}, {7, home}, {8, end}};
#define N_KEYS(table) (sizeof(table) / sizeof *(table))

static kvrun_act *find_key(const struct key *keys, size_t n, wchar_t key) {
    for (size_t i = 0; i < n; i++)
        if (keys[i].key == key) return keys[i].act;
    return NULL;
}

static unsigned char do_key(kvrun_editor *e, kvrun_act *act) {
    if (act) act(e, kvrun_editor_text(e));
    if (e->accepted) return CC_NEWLINE;
    return e->ended || e->broken ? CC_EOF : CC_NORM;
}

static kvrun_editor *editor_of(EditLine *el) {
    kvrun_editor *e;
    el_wget(el, EL_CLIENTDATA, &e);
    return e;
}

static unsigned char on_control(EditLine *el, wint_t key) {
    return do_key(editor_of(el), find_key(controls, N_KEYS(controls), (wchar_t)key));
}

static unsigned char on_letter(EditLine *el, wint_t letter) {
    el_winsertstr(el, (const wchar_t[]){(wchar_t)letter, L'\0'});
    return CC_NORM;
}

static unsigned char on_meta(EditLine *el, wint_t key) {
    return do_key(editor_of(el), find_key(metas, N_KEYS(metas), (wchar_t)key));
}

// "\033O" and a letter.
static unsigned char on_keypad(EditLine *el, wint_t bracket) {
    kvrun_editor *e = editor_of(el);
    wchar_t key = 0;
    (void)bracket;
    kvrun_editor_next(e, &key);
    return do_key(e, find_key(arrows, N_KEYS(arrows), key));
}

// "\033[", numbers between semicolons and a letter or a tilde, all of which are taken also where they mean nothing here. The
// second number says which of Shift (1), Alt (2) and Ctrl (4) were down.
static unsigned char on_sequence(EditLine *el, wint_t bracket) {
    kvrun_editor *e = editor_of(el);
    int numbers[3] = {0}, n = 0;
    wchar_t c = 0;
    (void)bracket;
    while (kvrun_editor_next(e, &c) && (c < '@' || c > '~')) {
        if (c >= '0' && c <= '9' && numbers[n] < 1000) numbers[n] = 10 * numbers[n] + (c - '0');
        if (c == ';' && n < 2) n++;
        if (c == kvrun_ctrl_c) break;
    }
    const bool moved = n > 0 && (numbers[1] - 1) & 6;
    if (c == '~' && numbers[0] == 200)
        paste(e);
    else if (c == '~' && numbers[0] == 27 && numbers[2] == '\r') // xterm's modifyOtherKeys
        return do_key(e, new_line);
    else if (c == '~')
        return do_key(e, moved && numbers[0] == 3 ? kill_word_behind
                                                  : find_key(numbered, N_KEYS(numbered), numbers[0]));
    else if (c == 'u' && numbers[0] == '\r') // kitty's
        return do_key(e, moved || numbers[1] == 2 ? new_line : enter);
    else if (moved && (c == 'C' || c == 'D'))
        return do_key(e, c == 'C' ? word_right : word_left);
    else
        return do_key(e, find_key(arrows, N_KEYS(arrows), c));
    return CC_NORM;
}

// One key, behind Escape or not.
static bool bind(kvrun_editor *e, bool behind_escape, int key, const wchar_t *name) {
    wchar_t keys[16];
    swprintf(keys, sizeof keys / sizeof *keys, behind_escape ? L"\\033\\%03o" : L"\\%03o", key);
    return el_wset(e->el, EL_BIND, keys, name, NULL) == 0;
}

// All keys: libedit's own commands would draw.
bool kvrun_editor_bind(kvrun_editor *e) {
    static const wchar_t control[] = L"kvrun-control", letter[] = L"kvrun-letter", meta[] = L"kvrun-meta",
                         sequence[] = L"kvrun-sequence", keypad[] = L"kvrun-keypad";
    bool bound = el_wset(e->el, EL_ADDFN, control, L"A control character", on_control) == 0 &&
                 el_wset(e->el, EL_ADDFN, letter, L"A letter, digit or the like", on_letter) == 0 &&
                 el_wset(e->el, EL_ADDFN, meta, L"A key behind Alt", on_meta) == 0 &&
                 el_wset(e->el, EL_ADDFN, sequence, L"A key of several characters", on_sequence) == 0 &&
                 el_wset(e->el, EL_ADDFN, keypad, L"A key of three characters", on_keypad) == 0;
    for (int c = 1; bound && c <= kvrun_rubout; c++) {
        const bool prints = c >= ' ' && c != kvrun_rubout;
        if (c == kvrun_escape) continue;
        bound = bind(e, false, c, prints ? letter : control) && bind(e, true, c, meta);
    }
    return bound && bind(e, true, '[', sequence) && bind(e, true, 'O', keypad);
}
