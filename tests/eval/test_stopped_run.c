// A signal that comes while nothing is being asked loses no answers: journals stay what they are.
#include "data/system/console.h"
#include "eval/evaluate/evaluate.h"
#include "tests/support/eval.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_status evaluate(bool stop, kv_error *err) {
    kv_evaluation e = {0};
    kv_results results;
    if (kv_eval_config_load(test_path(test_dir, "eval.yaml"), NULL, 0, &e.source, &e.config, err) ||
        kv_evaluation_open(&e, err) || kv_evaluation_load(&e, err))
        fail_msg("%s", err->message);
    if (stop) assert_int_equal(raise(SIGINT), 0);
    const kv_status status = kv_evaluation_run(&e, &results, err);
    kv_console_forget_interrupt();
    if (status == KV_OK) kv_results_free(&results);
    kv_evaluation_close(&e);
    return status;
}

static void journals_outlive_a_signal(void **state) {
    (void)state;
    const char *const names[] = {"eval/samples/atlas-trained/base.jsonl",
                                 "eval/samples/atlas-held-out/KVP.jsonl"};
    char *before[2];
    kv_error err = {0};
    if (evaluate(false, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++) before[i] = test_read_text(test_path(test_dir, names[i]));
    kv_console_catch_signals();
    // All is answered: there is nothing to stop.
    if (evaluate(true, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++) {
        char *after = test_read_text(test_path(test_dir, names[i]));
        assert_string_equal(before[i], after);
        free(after);
    }
    // With a question left it stops at it, and the others stay.
    char *end = strrchr(before[0], '\n');
    assert_non_null(end);
    *end = '\0';
    test_write_text(test_path(test_dir, names[0]), before[0]);
    assert_int_equal(evaluate(true, &err), KV_ERR_INTERRUPTED);
    char *after = test_read_text(test_path(test_dir, names[0]));
    assert_true(strlen(after) > strlen(before[0]) / 2);
    free(after);
    for (int i = 0; i < 2; i++) free(before[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(journals_outlive_a_signal),
    };
    return cmocka_run_group_tests(tests, test_family_set_up, test_dir_tear_down);
}
