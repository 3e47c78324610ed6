// kveval report with directories and --html: what it prints, writes and refuses.
#include "tests/support/page_results.h"
#include "tests/support/shell.h"

#include <stdio.h>
#include <string.h>

static void a_directory_stands_for_its_results(void **state) {
    (void)state;
    shell_succeed(
        "$E report made >of_dir && $E report made/ | cmp - of_dir && $E report made/results.h5 | cmp - of_dir");
    shell_succeed("$E report made made/results.h5 -o joined && test -s joined/results.h5");
    shell_succeed("mkdir -p empty");
    shell_expect("$E report empty", 1, "kveval: empty: found a directory without results.h5");
    shell_expect("$E report made empty", 1, "kveval: empty: found a directory");
    shell_expect("$E report missing", 1, "missing");
}

static void a_page_is_written_beside_what_is_printed(void **state) {
    (void)state;
    shell_succeed(
        "$E report made >plain && $E report made --html new/page.html >with && cmp plain with && tail -c 8 new/page.html "
        "| grep -q '</html>'");
    shell_succeed(
        "$E report made --html both.html -o both && test -s both/results.csv && cmp both.html new/page.html");
    shell_succeed(
        "$E report made --html few.html --answers 1 && grep -q 'first 1 of 6' few.html && ! grep -q 'first 1 of 6' both.html");
    shell_succeed(
        "$E report made --html axes.html --x paper --y retention --line ours --published triviaqa-openelm-1.1b "
        "&& grep -q 'id=\"x-paper\" checked' axes.html && grep -q 'id=\"y-retention\" checked' axes.html "
        "&& grep -q 'class=\"height\"' axes.html && grep -q 'arXiv 2410.08391' axes.html");
    shell_succeed(
        "ls | grep -v tmp | wc -l >before; $E report made --html both.html | head -n 1 >/dev/null; grep -q '</html>' both.html");
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    shell_expect("$E report --html page.html", 2, "a directory with a results.h5");
    shell_expect("$E report made --html page.html --answers some", 2,
                 "--answers: 'some', expected a whole number from 0 on");
    shell_expect("$E report made --html page.html --answers -1", 2, "--answers");
    shell_expect("$E report made --answers 3", 2, "--html, which is not asked for");
    shell_succeed("echo old >old.html");
    shell_expect("$E report made --line nobody --html old.html", 1, "nobody");
    shell_succeed("grep -q old old.html && test ! -e page.html");
    shell_expect("$E report made --html old.html/page.html", 1, "old.html");
    shell_expect("$E report made --html made", 1, "made");
}

static int set_up(void **state) {
    kv_error err = {0};
    (void)state;
    shell_set_up();
    kv_results results = test_page_results();
    if (shell("mkdir made")) return -1;
    const kv_status status = kv_results_write_h5(&results, test_path(test_dir, "made/results.h5"), &err);
    kv_results_free(&results);
    if (status != KV_OK) fprintf(stderr, "%s\n", err.message);
    return status == KV_OK ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_directory_stands_for_its_results),
                                       cmocka_unit_test(a_page_is_written_beside_what_is_printed),
                                       cmocka_unit_test(what_cannot_be_is_refused)};
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
