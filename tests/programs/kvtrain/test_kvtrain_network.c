// What kvtrain says of the time that ranks wait for each other: in the log and kvtrain status, and beforehand in a dry run.
#include "tests/support/launch.h"
#include "tests/support/shell.h"
#include "tests/support/train.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Afterwards ----------------------------------------------------------------------------------------

// "waiting" of the run as kvtrain status --json has it; NAN for null.
static double waiting_of(const char *run, size_t n_lines) {
    char command[256];
    snprintf(command, sizeof command, "$T status --json %s", run);
    shell_succeed(command);
    json_t *root = json_loads(shell_out, 0, NULL);
    const json_t *last = json_object_get(root, "waiting");
    const json_t *series = json_object_get(json_object_get(root, "metrics"), "waiting");
    if (!last || json_object_get(json_object_get(root, "terms"), "waiting"))
        fail_msg("no waiting, or one among the terms of the loss, in %s", shell_out);
    if (json_array_size(series) != n_lines)
        fail_msg("%zu values of waiting, expected %zu in %s", json_array_size(series), n_lines, shell_out);
    const double found = json_is_number(last) ? json_number_value(last) : (double)NAN;
    json_decref(root);
    return found;
}

static void test_ranks_say_how_long_they_wait(void **state) {
    (void)state;
    char command[512];
    launch_or_skip();
    snprintf(command, sizeof command,
             "%s $T base.yaml -s train.steps=6 -s train.log_every=2 -s train.shard_optimizer=true -o two",
             launch(2));
    shell_succeed(command);
    const double waiting = waiting_of("two", 3);
    if (!(waiting > 0 && waiting < 1)) fail_msg("waited %g of the time", waiting);
    shell_succeed("$T status two");
    shell_printed("2 on 1 node, ");
    shell_printed("% of the time is waited for others");
}

static void test_one_process_waits_for_nobody(void **state) {
    (void)state;
    shell_succeed("$T base.yaml -s train.steps=2 -s train.log_every=1 -o one");
    assert_true(isnan(waiting_of("one", 0)));
    shell_succeed("$T status one && ! grep -q waiting one/metrics.jsonl");
    assert_null(strstr(shell_out, "waited"));
}

// ---- Beforehand ----------------------------------------------------------------------------------------

// Of the line of n nodes: seconds of a step at best and at worst, GB sent by each and the seconds that takes.
static void line_of(int n, double found[4]) {
    char words[32];
    snprintf(words, sizeof words, " %d nodes", n);
    const char *line = strstr(shell_out, words);
    if (!line || sscanf(line + strlen(words),
                        " %lf to %lf s a step, efficiency %*f to %*f %%; each sends %lf GB, %lf s", &found[0],
                        &found[1], &found[2], &found[3]) != 4)
        fail_msg("no line of %d nodes in %s", n, shell_out);
}

static double trained(void) {
    double count;
    const char *line = strstr(shell_out, "\ntrained ");
    assert_non_null(line);
    assert_int_equal(sscanf(line, "\ntrained %lf k parameters", &count), 1);
    return 1000 * count;
}

// At a microscopic rate only the network counts: 2 (n - 1) / n · 4 bytes a weight, which the count of weights, of three
// digits, says to half a thousandth of its least value, 100, and the figures to half a hundredth likewise.
static void test_a_dry_run_counts_what_is_sent(void **state) {
    (void)state;
    double found[4];
    shell_succeed(
        "COLUMNS=1000 $T base.yaml -s data.batch_size=4 -s data.micro_batch_size=2 --dry-run --network 1e-6,0");
    for (int n = 2; n <= 4; n *= 2) {
        const double bytes = 2 * (n - 1.0) / n * 4 * trained(), seconds = bytes / (1e3 / 8);
        line_of(n, found);
        const double expected[] = {seconds, seconds, bytes / 1e9, seconds};
        for (int i = 0; i < 4; i++)
            if (fabs(found[i] / expected[i] - 1) > 0.005 + 0.005)
                fail_msg("%d nodes: %g, expected %g in %s", n, found[i], expected[i], shell_out);
    }
    assert_null(strstr(shell_out, " 8 nodes")); // of 4 sequences
    shell_printed("1e-06 Gbit/s and 0 us a message");
}

// A message of a second each, there and back, of one bucket. Sums of gradients come back while backward goes on; updated weights
// do not.
static void test_a_dry_run_counts_messages(void **state) {
    (void)state;
    double found[4];
    shell_succeed("COLUMNS=1000 $T base.yaml --dry-run --network 100,1e6");
    line_of(2, found);
    if (fabs(found[3] - 2) > 0.01 || strstr(shell_out, "after the update")) fail_msg("%s", shell_out);
    shell_succeed("COLUMNS=1000 $T base.yaml -s train.shard_optimizer=true --dry-run --network 100,1e6");
    line_of(2, found);
    if (fabs(found[3] - 2) > 0.01 || !strstr(shell_out, ", half of it after the update"))
        fail_msg("%s", shell_out);
}

static void test_words_that_are_no_network(void **state) {
    (void)state;
    shell_expect("$T base.yaml --dry-run --network fast", 2,
                 "--network: found 'fast', expected Gbit/s, as in 25, or 25,50");
    shell_expect("$T base.yaml --network 25", 2, "--network says something about the --dry-run");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranks_say_how_long_they_wait),
                                       cmocka_unit_test(test_one_process_waits_for_nobody),
                                       cmocka_unit_test(test_a_dry_run_counts_what_is_sent),
                                       cmocka_unit_test(test_a_dry_run_counts_messages),
                                       cmocka_unit_test(test_words_that_are_no_network)};
    return cmocka_run_group_tests(tests, train_shell_setup, train_teardown);
}
