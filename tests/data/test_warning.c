// A warning is one line, is said once, and shows a name's control characters instead of obeying them.
#include "data/system/warning.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int kept;

static void listen_to_stderr(void) {
    fflush(stderr);
    kept = dup(STDERR_FILENO);
    FILE *heard = tmpfile();
    assert_non_null(heard);
    dup2(fileno(heard), STDERR_FILENO);
    fclose(heard);
}

static int heard(char *text, size_t size) {
    char buffer[1 << 15];
    const ssize_t n = pread(STDERR_FILENO, buffer, sizeof buffer - 1, 0);
    dup2(kept, STDERR_FILENO);
    close(kept);
    assert_true(n >= 0);
    buffer[n] = '\0';
    snprintf(text, size, "%s", buffer);
    int lines = 0;
    for (const char *end = buffer; (end = strchr(end, '\n')); end++) lines++;
    return lines;
}

static void once(void **state) {
    (void)state;
    char text[1024];
    listen_to_stderr();
    kv_warn("%d rows of %s", 3, "a.h5");
    kv_warn("%d rows of %s", 3, "a.h5");
    kv_warn("%d rows of %s", 4, "a.h5");
    assert_int_equal(heard(text, sizeof text), 2);
    assert_string_equal(text,
                        "test_warning: warning: 3 rows of a.h5\ntest_warning: warning: 4 rows of a.h5\n");
}

static void a_line(void **state) {
    (void)state;
    char text[1024];
    listen_to_stderr();
    kv_warn("%s", "a\nb\033[2Jc");
    assert_int_equal(heard(text, sizeof text), 1);
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "warning: a b"));
}

// However many there are, none is lost.
static void many(void **state) {
    (void)state;
    char text[1 << 15];
    listen_to_stderr();
    for (int i = 0; i < 200; i++) kv_warn("number %d", i);
    assert_int_equal(heard(text, sizeof text), 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(once), cmocka_unit_test(a_line),
                                       cmocka_unit_test(many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
