// A pseudo-terminal: what the test types goes to the program, what the program shows is kept.
#include "tests/support/terminal.h"

#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000 };

test_terminal terminal;

bool terminal_exists(void) {
    int control, child;
    if (openpty(&control, &child, NULL, NULL, NULL) != 0) return false;
    close(control);
    close(child);
    return true;
}

void terminal_start(const char *const *arguments, const char *term, const struct termios *settings) {
    const struct winsize size = {.ws_row = TERMINAL_HEIGHT, .ws_col = TERMINAL_WIDTH};
    terminal.length = 0;
    terminal.text[0] = '\0';
    terminal.child = forkpty(&terminal.control, NULL, settings, &size);
    assert_true(terminal.child >= 0);
    if (terminal.child > 0) return;
    setenv("TERM", term, 1);
    execv(arguments[0], (char *const *)arguments);
    _exit(127);
}

bool terminal_more(void) {
    struct pollfd wait = {.fd = terminal.control, .events = POLLIN};
    const int ready = poll(&wait, 1, PATIENCE_MS);
    if (ready != 1) fail_msg("nothing comes behind '%s'", terminal.text);
    const ssize_t n =
        read(terminal.control, terminal.text + terminal.length, sizeof terminal.text - terminal.length - 1);
    if (n <= 0) return false;
    terminal.text[terminal.length += (size_t)n] = '\0';
    return true;
}

// Takes what is shown meanwhile: the program may wait for that.
void terminal_type(const char *text) {
    for (size_t n = strlen(text); n > 0;) {
        struct pollfd wait = {.fd = terminal.control, .events = POLLIN | POLLOUT};
        if (poll(&wait, 1, PATIENCE_MS) != 1)
            fail_msg("nobody takes what is typed behind '%s'", terminal.text);
        if (wait.revents & POLLIN) terminal_more();
        if (!(wait.revents & POLLOUT)) continue;
        const ssize_t written = write(terminal.control, text, n < 256 ? n : 256);
        assert_true(written > 0);
        text += written, n -= (size_t)written;
    }
}

char *terminal_until_end(int *status) {
    terminal.text[terminal.length] = '\0';
    while (terminal_more()) {
    }
    assert_int_equal(waitpid(terminal.child, status, 0), terminal.child);
    *status = WIFEXITED(*status) ? WEXITSTATUS(*status) : -WTERMSIG(*status);
    close(terminal.control);
    return terminal.text;
}

void terminal_expect_end(int expected) {
    int status;
    const char *text = terminal_until_end(&status);
    if (status != expected) fail_msg("exit status %d, expected %d: %s", status, expected, text);
}
