// Lines typed at kvrun's prompt on a terminal that can move its cursor: what keys do, what the screen shows, what is kept for the next
// run, and that the terminal is left as it was found. The screen is a small one of our own that knows no more than it is told.
#include "tests/support/kvrun.h"
#include "tests/support/terminal.h"

#include "data/text/unicode.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- A screen ------------------------------------------------------------------------------------------

enum { ROWS = 200 }; // nothing scrolls away
static struct {
    char cells[ROWS][TERMINAL_WIDTH][40]; // what stands in each; "" behind a wide one
    int row, column, width;
    bool full;     // the last column was written, and the next character wraps
    bool brackets; // pastes are marked
    int n_lines;   // how often that ended
    size_t taken;  // of terminal.text
} screen;

static void clear_row(int row, int from) {
    for (int i = from; i < TERMINAL_WIDTH; i++) strcpy(screen.cells[row][i], " ");
}

static void clear_screen(void) {
    memset(&screen, 0, sizeof screen);
    for (int row = 0; row < ROWS; row++) clear_row(row, 0);
    screen.width = TERMINAL_WIDTH;
}

static void next_row(void) {
    assert_true(++screen.row < ROWS);
}

// Those that the tests use.
static int columns_of(int32_t point) {
    if ((point >= 0x300 && point < 0x370) || point == 0x200D || point == 0xFE0F) return 0;
    return (point >= 0x3000 && point < 0xA000) || point >= 0x1F300 ? 2 : 1;
}

static char *cell_before(void) {
    int column = screen.column - !screen.full;
    while (column > 0 && !screen.cells[screen.row][column][0]) column--;
    return screen.cells[screen.row][column];
}

static void put_character(const char *bytes, size_t length, int32_t point) {
    const int columns = columns_of(point);
    const bool joined = screen.column > 0 &&
                        strcmp(cell_before() + strlen(cell_before()) - 3, "\u200D") == 0 &&
                        strlen(cell_before()) > 3;
    if (columns == 0 || joined) {
        strncat(cell_before(), bytes, length);
        return;
    }
    if (screen.full || screen.column + columns > screen.width)
        next_row(), screen.column = 0, screen.full = false;
    char *cell = screen.cells[screen.row][screen.column];
    memcpy(cell, bytes, length);
    cell[length] = '\0';
    if (columns == 2) screen.cells[screen.row][screen.column + 1][0] = '\0';
    screen.column += columns;
    if (screen.column == screen.width) screen.column--, screen.full = true;
}

static void put_sequence(const char *text, size_t length) {
    const char final = text[length - 1];
    const int number = atoi(text + 2) > 0 ? atoi(text + 2) : 1;
    if (final != 'h' && final != 'l') screen.full = false;
    if (!strncmp(text, "\033[?2004", 7))
        screen.brackets = final == 'h', screen.n_lines += final == 'l';
    else if (final == 'A')
        screen.row = screen.row > number ? screen.row - number : 0;
    else if (final == 'C')
        screen.column = screen.column + number < screen.width ? screen.column + number : screen.width - 1;
    else if (!strncmp(text, "\033[J", 3) || !strncmp(text, "\033[K", 3)) {
        clear_row(screen.row, screen.column);
        for (int row = screen.row + 1; final == 'J' && row < ROWS; row++) clear_row(row, 0);
    } else if (!strncmp(text, "\033[H\033", 3))
        screen.row = screen.column = 0;
    else if (!strncmp(text, "\033[2J", 4))
        for (int row = 0; row < ROWS; row++) clear_row(row, 0);
    else
        fail_msg("a terminal was told %.*s", (int)length - 1, text + 1);
}

// Takes what the terminal has been told, as far as it is whole.
static void draw(void) {
    while (screen.taken < terminal.length) {
        const char *at = terminal.text + screen.taken;
        const size_t left = terminal.length - screen.taken;
        int32_t point;
        size_t length = 1;
        if (*at == '\033') {
            for (length = 2; length < left && (at[length] < '@' || at[length] > '~'); length++) {
            }
            if (++length > left) return;
            put_sequence(at, length);
        } else if (*at == '\r')
            screen.column = 0, screen.full = false;
        else if (*at == '\n')
            next_row(), screen.full = false;
        else {
            length = kv_utf8_next(at, left, &point);
            if (length == 0) return;
            put_character(at, length, point);
        }
        screen.taken += length;
    }
}

static bool is_blank(int row) {
    for (int i = 0; i < TERMINAL_WIDTH; i++)
        if (strcmp(screen.cells[row][i], " ") != 0) return false;
    return true;
}

static char *put_row(char *end, int row) {
    char *last = end;
    for (int i = 0; i < TERMINAL_WIDTH; i++) {
        const bool cursor = row == screen.row && i == screen.column;
        if (cursor) end = stpcpy(end, "|");
        end = stpcpy(end, screen.cells[row][i]);
        if (strcmp(screen.cells[row][i], " ") != 0)
            last = end;
        else if (cursor)
            last = end - 1;
    }
    *last = '\0';
    return last;
}

// The rows from `from` to the cursor or the last that has anything, without blanks at their ends, "|" where the cursor is.
static const char *shown(int from) {
    static char text[1 << 15];
    char *end = text;
    int last = ROWS - 1;
    while (last > screen.row && is_blank(last)) last--;
    for (int row = from; row <= last; row++) {
        if (row > from) *end++ = '\n';
        end = put_row(end, row);
    }
    *end = '\0';
    return text;
}

// ---- kvrun at it ---------------------------------------------------------------------------------------

static struct termios found; // the terminal's settings at the start

static void start_kvrun(const char *term, const char *more) {
    const char *all[] = {getenv("KVRUN"), BASE, "-n", "1", more, NULL};
    clear_screen();
    terminal_start(all, term, NULL);
    assert_int_equal(tcgetattr(terminal.control, &found), 0);
}

// Until the screen from row `from` on shows just this.
static void expect_below(int from, const char *expected) {
    draw();
    while (strcmp(shown(from), expected) != 0) {
        if (!terminal_more()) fail_msg("ended, showing\n%s\nexpected\n%s", shown(from), expected);
        draw();
    }
}

static int prompt_row; // where the line being edited begins

static void expect(const char *expected) {
    expect_below(prompt_row, expected);
}

// Until there is a fresh prompt.
static void expect_prompt(void) {
    draw();
    for (;;) {
        const bool fresh = screen.brackets && screen.column == 2 &&
                           !strcmp(screen.cells[screen.row][0], ">") &&
                           !strcmp(screen.cells[screen.row][2], " ");
        if (fresh) break;
        if (!terminal_more()) fail_msg("no prompt:\n%s", shown(0));
        draw();
    }
    prompt_row = screen.row;
}

static void start_editing(void) {
    start_kvrun("xterm-256color", "--quiet");
    expect_prompt();
}

// Types, and waits for what becomes of it.
static void becomes(const char *keys, const char *expected) {
    terminal_type(keys);
    expect(expected);
}

static void send_by(const char *key) {
    const int before = screen.n_lines;
    terminal_type(key);
    for (draw(); screen.n_lines == before; draw())
        if (!terminal_more()) fail_msg("ended:\n%s", shown(0));
    expect_prompt();
}

static void send(void) {
    send_by("\r");
}

static void leave(void) {
    terminal_type("\4");
    terminal_expect_end(0);
}

static char *history(void) {
    static char text[1 << 16];
    FILE *file = fopen(in_dir("history"), "r");
    text[file ? fread(text, 1, sizeof text - 1, file) : 0] = '\0';
    if (file) fclose(file);
    return text;
}

// ---- Keys ----------------------------------------------------------------------------------------------

#define UP    "\033[A"
#define DOWN  "\033[B"
#define RIGHT "\033[C"
#define LEFT  "\033[D"
#define HOME  "\033[H"
#define END   "\033[F"

static void arrows(void **state) {
    (void)state;
    start_editing();
    becomes("Chaco?", "> Chaco?|");
    becomes(LEFT LEFT LEFT "X", "> ChaX|co?");
    becomes(HOME "\033OC" RIGHT "\033[3~", "> Ch|Xco?");
    becomes(END "\177", "> ChXco|");
    becomes("\1" RIGHT "\013", "> C|");
    becomes("\031!", "> ChXco!|");
    becomes("\033[15~\033[2~\033[1;5P", "> ChXco!|"); // keys that mean nothing
    send();
    assert_string_equal(history(), "ChXco!\n");
    leave();
}

static void words(void **state) {
    (void)state;
    start_editing();
    becomes("one two-three  four\033[1;5D", "> one two-three  |four");
    becomes("\033b", "> one two-|three  four");
    becomes("\033[1;3C", "> one two-three|  four");
    becomes("\027", "> one |  four");
    becomes("\033d", "> one |");
    becomes("\031", "> one two-three  four|"); // both, as they were
    becomes("\033\177\033\177", "> one two-|");
    becomes("\025", "> |");
    becomes("\031\031", "> one two-three  fourone two-three  four|"); // keys in a row

    becomes("\025", "> |");
    leave();
}

// By what a reader takes for one character.
static void characters(void **state) {
    (void)state;
    start_editing();
    becomes("日本語 e\u0301a\u0302\u0323x 👩\u200D👩\u200D👧!",
            "> 日本語 e\u0301a\u0302\u0323x 👩\u200D👩\u200D👧!|");
    becomes(LEFT LEFT, "> 日本語 e\u0301a\u0302\u0323x |👩\u200D👩\u200D👧!");
    becomes("\033[3~", "> 日本語 e\u0301a\u0302\u0323x |!");
    becomes(LEFT LEFT "\177", "> 日本語 e\u0301|x !");
    becomes("\177", "> 日本語 |x !");
    becomes(HOME RIGHT "\177", "> |本語 x !");
    becomes("\xE9z", "> \uFFFDz|本語 x !"); // no UTF-8
    send();
    assert_string_equal(history(), "\uFFFDz本語 x !\n");
    leave();
}

static void several_lines(void **state) {
    (void)state;
    start_editing();
    becomes("one\033\rtwo\\\rthree", "> one\n  two\n  three|");
    becomes(UP, "> one\n  two|\n  three");
    becomes(UP LEFT LEFT DOWN "X", "> one\n  tX|wo\n  three");
    becomes("\013\013", "> one\n  tX|three");
    becomes("\025\025", "> one|three");
    send_by("\n"); // Enter as scripts send it
    assert_string_equal(history(), "onethree\n");
    leave();
}

static void long_lines_wrap(void **state) {
    (void)state;
    char line[200], expected[300];
    start_editing();
    memset(line, 'a', 150);
    line[150] = '\0';
    snprintf(expected, sizeof expected, "> %.69s\n  %.69s\n  %.12s|", line, line, line);
    becomes(line, expected);
    snprintf(expected, sizeof expected, "> |%.69s\n  %.69s\n  %.12s", line, line, line);
    becomes(HOME, expected);
    snprintf(expected, sizeof expected, "> 語|%.67s\n  %.69s\n  %.14s", line, line, line);
    becomes("語", expected);
    becomes("\005\025", "> |");
    leave();
}

// ---- Pastes --------------------------------------------------------------------------------------------

static void paste_of_three_lines(void **state) {
    (void)state;
    start_editing();
    becomes("say: \033[200~one\rtwo 語\r\nthree\n\033[201~", "> say: one\n  two 語\n  three\n  |");
    becomes("\177" UP UP END "!", "> say: one!|\n  two 語\n  three");
    send();
    assert_string_equal(history(), "say: one!\\ntwo 語\\nthree\n");
    becomes(UP, "> say: one!\n  two 語\n  three|");
    becomes("\003", "> say: one!\n  two 語\n  three^C\n> |");
    leave();
}

// More than the kernel's lines hold, and more than the screen does; with marks around it and without.
static void paste_of_5600_characters(void **state) {
    (void)state;
    char text[5601];
    for (size_t i = 0; i < 5600; i++) text[i] = i % 2 ? ' ' : "abcd"[i / 2 % 4];
    text[5600] = '\0';
    for (int marked = 0; marked < 2; marked++) {
        unlink(in_dir("history"));
        start_editing();
        if (marked) terminal_type("\033[200~");
        terminal_type(text);
        if (marked) terminal_type("\033[201~");
        send();
        assert_non_null(strstr(terminal.text, " the context holds 96"));
        assert_int_equal(strlen(history()), 5601);
        assert_int_equal(strncmp(history(), text, 5600), 0);
        leave();
    }
}

// ---- What was typed before -----------------------------------------------------------------------------

static void say(const char *text) {
    terminal_type(text);
    send();
}

static void history_across_runs(void **state) {
    (void)state;
    struct stat info;
    start_editing();
    say("first");
    say("sec\\ond\033\rline");
    say("sec\\ond\033\rline"); // once is enough
    say(" secret");
    leave();
    assert_string_equal(history(), "first\nsec\\\\ond\\nline\n");
    assert_int_equal(stat(in_dir("history"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    start_editing();
    becomes("draft" UP, "> sec\\ond\n  line|");
    becomes(UP UP, "> first|");
    becomes("!" UP, "> first!|"); // nothing is older
    becomes(DOWN DOWN, "> draft|");
    becomes(DOWN "\025", "> |");
    leave();
}

static void searching(void **state) {
    (void)state;
    start_editing();
    say("alpha one");
    say("beta two");
    say("alpha three");
    becomes("draft\022", "search '': draft|");
    becomes("al", "search 'al': |alpha three");
    becomes("\022", "search 'al': |alpha one");
    becomes("x", "no such line: 'alx': |alpha one");
    becomes("\177", "search 'al': |alpha three");
    becomes("\007", "> draft|");
    becomes("\022two" END "!", "> beta two!|");
    becomes("\022one\023", "no such line: 'one': alpha |one");
    becomes("\003", "> beta two!|");
    becomes("\025\022alp", "search 'alp': |alpha one");
    send();
    leave();
}

// Each line is added as it is typed, so neither takes the other's away.
static void two_sessions_at_once(void **state) {
    (void)state;
    start_editing();
    const test_terminal first = terminal;
    terminal.length = 0;
    start_editing();
    say("of the second");
    const test_terminal second = terminal;
    terminal = first;
    clear_screen();
    expect_prompt();
    say("of the first");
    leave();
    terminal = second;
    leave();
    assert_string_equal(history(), "of the second\nof the first\n");
}

static void a_long_history_is_cut(void **state) {
    (void)state;
    FILE *file = fopen(in_dir("history"), "w");
    for (int i = 0; i < 2500; i++) fprintf(file, "line %d\n", i);
    fputs("half a li", file); // a disk was full
    assert_int_equal(fclose(file), 0);
    start_editing();
    becomes(UP UP, "> line 2499|");
    becomes("\025new", "> new|");
    send();
    leave();
    assert_int_equal(strncmp(history(), "line 1501\n", 10), 0);
    assert_non_null(strstr(history(), "line 2499\nhalf a li\nnew\n"));
}

static void history_that_cannot_be_kept(void **state) {
    (void)state;
    test_write_text(in_dir("plain"), "");
    setenv("KVRUN_HISTORY", test_path(in_dir("plain"), "below/history"), 1);
    start_kvrun("xterm", "--quiet");
    expect_prompt();
    say("first");
    assert_non_null(strstr(terminal.text, "warning: "));
    becomes(UP, "> first|");
    terminal_type("\025");
    leave();
    setenv("KVRUN_HISTORY", "", 1);
    start_kvrun("xterm", "--quiet");
    expect_prompt();
    say("first");
    leave();
    setenv("KVRUN_HISTORY", in_dir("history"), 1);
    start_kvrun("xterm", "--no-history");
    expect_prompt();
    say("first");
    becomes(UP, "> first|");
    terminal_type("\025");
    leave();
    assert_string_equal(history(), "");
}

// The usual place, which is made where it is not there.
static void usual_places(void **state) {
    (void)state;
    struct stat info;
    unsetenv("KVRUN_HISTORY");
    setenv("HOME", in_dir("home"), 1);
    unsetenv("XDG_STATE_HOME");
    start_editing();
    say("at home");
    leave();
    assert_int_equal(stat(in_dir("home/.local/state/kvrun/history"), &info), 0);
    setenv("XDG_STATE_HOME", in_dir("state"), 1);
    start_editing();
    say("in its state");
    leave();
    assert_int_equal(stat(in_dir("state/kvrun"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
}

// ---- Commands ------------------------------------------------------------------------------------------

static void completion(void **state) {
    (void)state;
    start_editing();
    becomes("/he\t", "> /help|");
    becomes("\025/x\t", "> /x|");
    becomes("\025a\tb", "> a    b|"); // a tab
    becomes("\025/\t", "> /\n/help  /load  /quit  /reset  /save\n> /|");
    terminal_type("q\t\r");
    terminal_expect_end(0);
}

// ---- Signals and the terminal --------------------------------------------------------------------------

static void expect_settings_as_found(void) {
    struct termios now;
    assert_int_equal(tcgetattr(terminal.control, &now), 0);
    assert_int_equal(now.c_iflag, found.c_iflag);
    assert_int_equal(now.c_oflag, found.c_oflag);
    assert_int_equal(now.c_cflag, found.c_cflag);
    assert_int_equal(now.c_lflag, found.c_lflag);
    assert_memory_equal(now.c_cc, found.c_cc, sizeof now.c_cc);
    draw();
    assert_false(screen.brackets);
}

// What there is of the program's output is read, then its status; the terminal is still there to look at.
static void expect_stop(int expected) {
    int status;
    while (waitpid(terminal.child, &status, WNOHANG) == 0) {
        struct pollfd input = {.fd = terminal.control, .events = POLLIN};
        if (poll(&input, 1, 20) == 1) terminal_more();
    }
    for (struct pollfd input = {.fd = terminal.control, .events = POLLIN};
         poll(&input, 1, 0) == 1 && input.revents & POLLIN;)
        terminal_more();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), expected);
}

static void signals(void **state) {
    (void)state;
    static const int numbers[] = {SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        start_editing();
        becomes("half", "> half|");
        kill(terminal.child, numbers[i]);
        expect_stop(128 + numbers[i]);
        expect_settings_as_found();
        close(terminal.control);
    }
    start_editing();
    becomes("half", "> half|");
    becomes("\003", "> half^C\n> |");
    becomes("all at once\003", "> half^C\n> all at once^C\n> |");
    terminal_type("\003");
    expect_stop(128 + SIGINT);
    expect_settings_as_found();
    close(terminal.control);
    start_editing();
    say("x");
    terminal_type("\4");
    expect_stop(0);
    expect_settings_as_found();
    close(terminal.control);
}

// Somebody else had the terminal meanwhile, and left it as he likes it.
static void stopped_and_continued(void **state) {
    (void)state;
    start_editing();
    becomes("half", "> half|");
    const int row = screen.row;
    kill(terminal.child, SIGSTOP);
    assert_int_equal(waitpid(terminal.child, NULL, WUNTRACED), terminal.child);
    assert_int_equal(tcsetattr(terminal.control, TCSANOW, &found), 0);
    kill(terminal.child, SIGCONT);
    for (screen.brackets = false, draw(); !screen.brackets; draw()) assert_true(terminal_more());
    expect_below(row, "> half|");
    becomes(LEFT "X", "> halX|f");
    terminal_type("\025\013");
    terminal_type("\4");
    expect_stop(0);
    expect_settings_as_found();
    close(terminal.control);
}

static void resized(void **state) {
    (void)state;
    const struct winsize narrow = {.ws_row = TERMINAL_HEIGHT, .ws_col = 20};
    start_editing();
    becomes("0123456789012345", "> 0123456789012345|");
    screen.width = 20;
    assert_int_equal(ioctl(terminal.control, TIOCSWINSZ, &narrow), 0);
    becomes("6789", "> 01234567890123456\n  789|");
    terminal_type("\025");
    leave();
}

// ---- Terminals that know nothing -----------------------------------------------------------------------

static void dumb_terminals(void **state) {
    (void)state;
    static const char *const terms[] = {"dumb", ""};
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++) {
        start_kvrun(terms[i], NULL);
        while (!strstr(terminal.text, "> ")) assert_true(terminal_more());
        terminal_type("hello\n");
        while (terminal.length < 4 || strcmp(terminal.text + terminal.length - 4, "\r\n> ") != 0)
            assert_true(terminal_more());
        terminal_type("\4");
        expect_stop(0);
        assert_null(strchr(terminal.text, '\033'));
        assert_string_equal(history(), "");
        close(terminal.control);
    }
}

// ---- The family ----------------------------------------------------------------------------------------

static int set_up(void **state) {
    test_dir_set_up(state);
    test_make_family(test_dir, CONTEXT);
    return 0;
}

static int fresh_history(void **state) {
    (void)state;
    setenv("KVRUN_HISTORY", in_dir("history"), 1);
    unlink(in_dir("history"));
    return 0;
}

int main(void) {
    enum { SKIPPED = 77 }; // to meson
    if (!terminal_exists()) {
        perror("skipped: this system gives out no pseudo-terminal");
        return SKIPPED;
    }
#define EDITING(name) cmocka_unit_test_setup(name, fresh_history)
    const struct CMUnitTest tests[] = {
        EDITING(arrows),
        EDITING(words),
        EDITING(characters),
        EDITING(several_lines),
        EDITING(long_lines_wrap),
        EDITING(paste_of_three_lines),
        EDITING(paste_of_5600_characters),
        EDITING(history_across_runs),
        EDITING(searching),
        EDITING(two_sessions_at_once),
        EDITING(a_long_history_is_cut),
        EDITING(history_that_cannot_be_kept),
        EDITING(usual_places),
        EDITING(completion),
        EDITING(signals),
        EDITING(stopped_and_continued),
        EDITING(resized),
        EDITING(dumb_terminals),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
