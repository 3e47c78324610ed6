// Reading a line with libedit: where its characters come from, what signals do meanwhile, and how the terminal is set and set back.
#include "infer/kvrun/edit.h"

#include "data/system/console.h"

#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

// ---- Signals -------------------------------------------------------------------------------------------
// They set flags, which the wait for a key looks at several times a second.

static volatile sig_atomic_t resized, continued, to_default;

static void on_signal(int number) {
    if (number == SIGWINCH)
        resized = 1;
    else if (number == SIGCONT)
        continued = 1;
    else
        to_default = number;
}

// SIGTSTP and SIGQUIT would leave the terminal as it is now: they take effect once it is set back.
static const int watched[] = {SIGWINCH, SIGCONT, SIGTSTP, SIGQUIT};
enum { n_watched = sizeof watched / sizeof *watched };
static struct sigaction usual[n_watched];

static void watch(void) {
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    resized = continued = to_default = 0;
    for (int i = 0; i < n_watched; i++)
        if (sigaction(watched[i], NULL, &usual[i]) == 0 && usual[i].sa_handler != SIG_IGN)
            sigaction(watched[i], &action, NULL);
}

static void stop_watching(void) {
    for (int i = 0; i < n_watched; i++) sigaction(watched[i], &usual[i], NULL);
}

// ---- The terminal --------------------------------------------------------------------------------------
// A paste comes between marks, so that its new lines are no Enter. Signals stay keys; what libedit leaves on is off, so that CR and
// LF, Ctrl-S and Ctrl-V come as they are.

static void take_terminal(kvrun_editor *e) {
    el_wset(e->el, EL_PREP_TERM, 0); // so that it looks anew
    el_wset(e->el, EL_PREP_TERM, 1);
    struct termios raw = e->before;
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IGNCR | IXON);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ECHONL | IEXTEN);
    raw.c_lflag |= NOFLSH; // what was typed before Ctrl-C or Ctrl-Z stays
    raw.c_cc[VMIN] = 1, raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    kvrun_editor_write(e, "\033[?2004h");
    kvrun_editor_forget_screen(e);
}

static void leave_terminal(kvrun_editor *e) {
    kvrun_editor_write(e, "\033[?2004l");
    el_wset(e->el, EL_PREP_TERM, 0);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &e->before);
}

static void obey_signals(kvrun_editor *e) {
    if (to_default) {
        const int number = to_default;
        kvrun_editor_show(e, true);
        kvrun_editor_write(e, "\r\n");
        leave_terminal(e);
        stop_watching();
        raise(number); // and here it goes on behind SIGTSTP
        watch();
        take_terminal(e);
    } else if (continued) { // behind SIGSTOP: whoever ran meanwhile may have set the terminal
        continued = 0;
        take_terminal(e);
        kvrun_editor_show(e, false);
    } else if (resized) {
        resized = 0;
        kvrun_editor_reflow(e);
        kvrun_editor_show(e, false);
    }
}

// ---- Characters ----------------------------------------------------------------------------------------

static void drop(kvrun_editor *e, size_t n) {
    e->n_input -= n;
    memmove(e->input, e->input + n, e->n_input);
}

// The first character of what has been read; false: more bytes have to come. What is none is U+FFFD.
static bool take_character(kvrun_editor *e, wchar_t *character) {
    mbstate_t state = {0};
    if (e->n_input == 0) return false;
    const size_t n = mbrtowc(character, e->input, e->n_input, &state);
    if (n == (size_t)-2) return false;
    if (n == (size_t)-1) *character = 0xFFFD;
    drop(e, n == (size_t)-1 || n == 0 ? 1 : n);
    return true;
}

// libedit runs a command of its own for all characters that it has no key for, so they go around it.
static int hand_on(kvrun_editor *e, wchar_t *character) {
    e->typed = 0;
    if (*character > kvrun_rubout && !e->verbatim) {
        e->typed = *character;
        *character = kvrun_other_key;
    }
    return 1;
}

bool kvrun_editor_next(kvrun_editor *e, wchar_t *character) {
    e->verbatim = true;
    const bool there = el_wgetc(e->el, character) == 1;
    e->verbatim = false;
    return there;
}

static int fail(kvrun_editor *e, kv_status status) {
    e->broken = true;
    e->status = status;
    return -1;
}

// Ctrl-C is a key where there is a line to clear. Whoever asks differently, or twice, means the program.
static int interrupted(kvrun_editor *e, wchar_t *character) {
    if (kv_console_signal() != SIGINT || (kvrun_editor_text(e).n == 0 && !e->label[0]))
        return fail(e, kv_fail(e->err, KV_ERR_INTERRUPTED, "interrupted"));
    kv_console_forget_interrupt();
    *character = 3;
    return 1;
}

static bool has_more(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) == 1;
}

static bool read_more(kvrun_editor *e) {
    const ssize_t got = read(STDIN_FILENO, e->input + e->n_input, sizeof e->input - e->n_input);
    if (got > 0)
        e->n_input += (size_t)got;
    else if (got < 0 && errno != EIO)
        fail(e, kv_fail(e->err, KV_ERR_IO, "standard input: %s", strerror(errno)));
    else
        e->ended = true; // the terminal is gone
    return got > 0;
}

// What libedit calls for every character. The screen is brought up to date when none has come yet.
static int next_character(EditLine *el, wchar_t *character) {
    static const double look_at_signals = 0.1;
    kvrun_editor *e;
    el_wget(el, EL_CLIENTDATA, &e);
    if (e->broken || e->ended) return -1;
    for (bool shown = false;;) {
        const int signal = kv_console_signal();
        if (signal && signal != SIGINT) return interrupted(e, character);
        obey_signals(e);
        if (take_character(e, character)) return hand_on(e, character);
        const bool waiting = has_more(); // typed before Ctrl-C, most likely
        if (signal && !waiting) return interrupted(e, character);
        if (!shown && !e->quoting && !waiting) kvrun_editor_show(e, false), shown = true;
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        const int ready = waiting ? 1 : kv_console_poll(&input, 1, look_at_signals);
        if (ready < 0) return fail(e, kv_fail(e->err, KV_ERR_IO, "standard input: %s", strerror(errno)));
        if (ready > 0 && !read_more(e)) return e->broken ? -1 : 0;
    }
}

// ---- The line ------------------------------------------------------------------------------------------

kvrun_text kvrun_editor_text(const kvrun_editor *e) {
    const LineInfoW *line = el_wline(e->el);
    return (kvrun_text){.line = line->buffer,
                        .n = (size_t)(line->lastchar - line->buffer),
                        .cursor = (size_t)(line->cursor - line->buffer)};
}

void kvrun_editor_go(kvrun_editor *e, size_t to) {
    el_cursor(e->el, (int)to - (int)kvrun_editor_text(e).cursor);
}

void kvrun_editor_cut(kvrun_editor *e, size_t from, size_t to) {
    kvrun_editor_go(e, to);
    el_wdeletestr(e->el, (int)(to - from));
}

char *kvrun_editor_utf8(const kvrun_editor *e, size_t from, size_t to) {
    const wchar_t *line = kvrun_editor_text(e).line;
    char *text = malloc((to - from) * MB_LEN_MAX + 1), *end = text;
    if (!text) return NULL;
    for (size_t i = from; i < to; i++) {
        mbstate_t state = {0};
        const size_t length = line[i] ? wcrtomb(end, line[i], &state) : (size_t)-1;
        end = length == (size_t)-1 ? stpcpy(end, "\uFFFD") : end + length;
    }
    *end = '\0';
    return text;
}

void kvrun_editor_put(kvrun_editor *e, const char *text) {
    wchar_t *wide = malloc((strlen(text) + 1) * sizeof *wide), *end = wide;
    if (!wide) return;
    for (const char *at = text; *at; end++) {
        mbstate_t state = {0};
        const size_t length = mbrtowc(end, at, strlen(at), &state);
        const bool valid = length != (size_t)-1 && length != (size_t)-2;
        if (!valid) *end = 0xFFFD;
        at += valid ? length : 1;
    }
    *end = L'\0';
    kvrun_editor_cut(e, 0, kvrun_editor_text(e).n);
    el_winsertstr(e->el, wide);
    free(wide);
}

kv_status kvrun_editor_read(kvrun_editor *e, bool *end, kv_error *err) {
    int n;
    e->err = err;
    e->status = KV_OK;
    e->accepted = e->broken = e->ended = e->quoting = e->verbatim = false;
    e->label[0] = '\0';
    e->text.length = 0;
    e->at = e->past.n;
    watch();
    tcgetattr(STDIN_FILENO, &e->before);
    take_terminal(e);
    while (!e->accepted && !e->ended && !e->broken && el_wgets(e->el, &n)) {
    }
    if (!e->broken || e->n_rows > 0) kvrun_editor_show(e, true);
    kvrun_editor_write(e, "\r\n");
    leave_terminal(e);
    stop_watching();
    free(e->draft);
    e->draft = NULL;
    *end = !e->accepted;
    if (e->accepted) kvrun_past_add(&e->past, e->text.data);
    return e->status;
}

// ---- Opening -------------------------------------------------------------------------------------------

static wchar_t *no_prompt(EditLine *el) {
    (void)el;
    static wchar_t nothing[] = L"";
    return nothing;
}

// What decides which bytes are letters, and nothing else: numbers keep their point.
static bool speaks_utf8(void) {
    static const char *const locales[] = {"", "C.UTF-8", "en_US.UTF-8"};
    for (size_t i = 0; i < sizeof locales / sizeof *locales; i++)
        if (setlocale(LC_CTYPE, locales[i]) && !strcmp(nl_langinfo(CODESET), "UTF-8")) return true;
    setlocale(LC_CTYPE, "C");
    return false;
}

static bool is_able(void) {
    return isatty(STDIN_FILENO) && kv_console_redraws(STDERR_FILENO);
}

static bool set_up(kvrun_editor *e) {
    struct termios before;
    e->nowhere = fopen("/dev/null", "we");
    if (!e->nowhere || tcgetattr(STDIN_FILENO, &before) != 0) return false;
    e->el =
        el_init_fd("kvrun", stdin, e->nowhere, e->nowhere, STDIN_FILENO, STDERR_FILENO, fileno(e->nowhere));
    tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
    if (!e->el) return false;
    return el_wset(e->el, EL_CLIENTDATA, e) == 0 && el_wset(e->el, EL_EDITOR, L"emacs") == 0 &&
           el_wset(e->el, EL_SIGNAL, 0) == 0 && el_wset(e->el, EL_PROMPT, no_prompt) == 0 &&
           el_wset(e->el, EL_GETCFN, next_character) == 0 && kvrun_editor_bind(e);
}

kv_status kvrun_editor_open(kvrun_editor **editor, bool keep, const char *const *commands, kv_error *err) {
    *editor = NULL;
    if (!is_able() || !speaks_utf8()) return KV_OK;
    kvrun_editor *e = calloc(1, sizeof *e);
    if (!e) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a line editor");
    e->commands = commands;
    if (set_up(e)) {
        kvrun_past_open(&e->past, keep);
        *editor = e;
    } else
        kvrun_editor_close(e);
    return KV_OK;
}

void kvrun_editor_close(kvrun_editor *e) {
    struct termios before;
    if (!e) return;
    const bool known = tcgetattr(STDIN_FILENO, &before) == 0;
    if (e->el) el_end(e->el);
    if (known)
        tcsetattr(STDIN_FILENO, TCSADRAIN,
                  &before); // libedit throws away what was typed ahead; not more than that
    if (e->nowhere) fclose(e->nowhere);
    kvrun_past_close(&e->past);
    kv_bytes_free(&e->text);
    kv_bytes_free(&e->draw);
    free(e->columns);
    free(e->draft);
    free(e->killed);
    free(e);
}
