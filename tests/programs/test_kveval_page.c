// The page of kveval report --html in a browser (Debian's chromium, without a window): what page_seen.js has it do, with the page's
// script and without, 380 wide, without a network and without a word on the console. Skipped, with a word, where there is no
// chromium.
#include "tests/support/page_results.h"
#include "tests/support/shell.h"

#include "data/file/content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKIPPED = 77 };

static char *read_text(const char *path) {
    char *text = NULL;
    size_t size = 0;
    kv_error err = {0};
    if (kv_read_file(path, SIZE_MAX / 2, &text, &size, &err)) fail_msg("%s", err.message);
    return text;
}

// What goes wrong is noted from the beginning: errors, words on the console, requests that were refused.
static const char listener[] =
    "<script>window.wrong = [];\n"
    "addEventListener('error', (event) => wrong.push(`error: ${event.message}`));\n"
    "addEventListener('securitypolicyviolation', (event) => wrong.push(`request: ${event.blockedURI}`));\n"
    "for (const word of ['error', 'warn']) console[word] = (...said) => wrong.push(`console: ${said.join(' ')}`);\n"
    "</script>";

static size_t place_of(const char *text, const char *word) {
    const char *at = strstr(text, word);
    assert_non_null(at);
    return (size_t)(at - text);
}

// A copy with the listener in front and page_seen.js behind; with or without the page's own script.
static void write_copy(const char *name, bool scripted) {
    char *page = read_text(test_path(test_dir, "page.html"));
    char *seen = read_text(test_path(test_path(getenv("KV_TEST_DIR"), "programs"), "page_seen.js"));
    const size_t body = place_of(page, "<body>"), last = place_of(page, "<script>\n// What a page");
    const size_t end = scripted ? last + place_of(page + last, "</script>") : last;
    FILE *file = fopen(test_path(test_dir, name), "w");
    assert_non_null(file);
    fprintf(file, "%.*s%s", (int)body, page, listener);
    fwrite(page + body, 1, end - body, file);
    fprintf(file, "%s<script>%s</script></body></html>", scripted ? "</script>" : "", seen);
    assert_int_equal(fclose(file), 0);
    free(page);
    free(seen);
}

// Both copies stand in one page, 380 wide, which no window of chromium's is, and tell it what they see.
static const char around[] =
    "<!DOCTYPE html><meta charset=\"utf-8\"><body><script>addEventListener('message', (event) => {"
    "const told = document.createElement('pre'); told.textContent = event.data; document.body.append(told); });</script>"
    "<iframe src=\"with.html\" width=\"380\" height=\"800\" style=\"border:0\"></iframe>"
    "<iframe src=\"without.html\" width=\"380\" height=\"800\" style=\"border:0\"></iframe></body>";

static void look(void) {
    FILE *file = fopen(test_path(test_dir, "around.html"), "w");
    assert_non_null(file);
    fputs(around, file);
    assert_int_equal(fclose(file), 0);
    write_copy("with.html", true);
    write_copy("without.html", false);
    shell(
        "HOME=$D chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --disable-dev-shm-usage --user-data-dir=$D/profile "
        "--host-resolver-rules='MAP * ~NOTFOUND' --window-size=900,900 --virtual-time-budget=2000 --dump-dom file://$D/around.html "
        ">seen.html 2>log; grep -v dbus log >&2; sed -n '/<pre>/,$p' seen.html");
}

static void in_a_browser(void **state) {
    (void)state;
    look();
    if (!strstr(shell_out, "seen with a script\n\nend") || !strstr(shell_out, "seen without a script\n\nend"))
        fail_msg("the browser saw: %s\nand said: %s", shell_out, shell_err);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_a_browser)};
    kv_error err = {0};
    shell_set_up();
    if (shell("command -v chromium")) {
        printf("skipped: no chromium here to look at a page with (./kv test installs it)\n");
        test_dir_remove(test_dir);
        return SKIPPED;
    }
    kv_results results = test_page_results();
    if (kv_results_write_h5(&results, test_path(test_dir, "results.h5"), &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    kv_results_free(&results);
    if (shell("$E report . --html page.html")) {
        fprintf(stderr, "%s\n", shell_err);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, test_dir_tear_down);
}
