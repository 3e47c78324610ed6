// A run that is made longer: --resume with more train.steps. Its state goes on, the schedule is the new one, and all that
// tells about the run says so. Also which other keys may change on the way, and which may not.
#include "data/file/path.h"
#include "tests/support/corpus.h"
#include "tests/support/train.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char model[] = "model/model.safetensors";

static bool same_result(const char *a, const char *b, const char *file) {
    char x[128], y[128];
    snprintf(x, sizeof x, "%s/final/%s", a, file);
    snprintf(y, sizeof y, "%s/final/%s", b, file);
    return same_file(x, y);
}

static void copy_run(const char *from, const char *to) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", to, from, to);
    assert_int_equal(system(command), 0);
}

static void assert_said(const char *text) {
    if (!strstr(train_output(), text)) fail_msg("expected \"%s\" in\n%s", text, train_output());
}

static void assert_not_said(const char *text) {
    if (strstr(train_output(), text)) fail_msg("did not expect \"%s\" in\n%s", text, train_output());
}

// ---- Longer --------------------------------------------------------------------------------------------

static const char to_40[] = "train.steps=40",
                  longer[] = "train.steps is 40 in a run that was planned for 20 until step 20";

// At a rate that does not depend on the plan, twenty steps and twenty more are forty.
static void test_state_goes_on(void **state) {
    (void)state;
    static const char flat[] = "train.lr_end=1e-2";
    train_expect(0, ARGS("base.yaml", "-o", "flat", "-s", flat, "-s", "train.steps=20"));
    train_expect(0, ARGS("base.yaml", "-o", "flat", "-s", flat, "-s", to_40, "--resume"));
    assert_said(longer);
    assert_said("resuming from flat/final");
    train_expect(0, ARGS("base.yaml", "-o", "flat_40", "-s", flat, "-s", to_40));
    assert_true(same_result("flat", "flat_40", model));
    for (int64_t step = 1; step <= 40; step++)
        assert_true(metric("flat", step, "loss") == metric("flat_40", step, "loss"));
    // The same of predictors and a trained aux; and of ones that were solved for and had no step yet.
    static const char *const kvp[] = {"aux/model.safetensors", "predictor/predictor.safetensors"};
    static const char flat_kvp[] = "train={lr_end: 5e-3, lr: 5e-3, warmup_steps: 0}";
    train_expect(0, ARGS("kvp.yaml", "-o", "flat_kvp", "-s", flat_kvp, "-s", "train.steps=7"));
    train_expect(0, ARGS("kvp.yaml", "-o", "flat_kvp", "-s", flat_kvp, "-s", "train.steps=12", "-r"));
    train_expect(0, ARGS("kvp.yaml", "-o", "kvp_12", "-s", flat_kvp, "-s", "train.steps=12"));
    static const char solved[] = "predictor.init=least_squares";
    train_expect(0, ARGS("kvp.yaml", "-o", "solved", "-s", flat_kvp, "-s", "train.steps=0", "-s", solved));
    train_expect(0,
                 ARGS("kvp.yaml", "-o", "solved", "-s", flat_kvp, "-s", "train.steps=3", "-s", solved, "-r"));
    assert_not_said("warning");
    train_expect(0, ARGS("kvp.yaml", "-o", "solved_3", "-s", flat_kvp, "-s", "train.steps=3", "-s", solved));
    for (int i = 0; i < 2; i++) {
        assert_true(same_result("flat_kvp", "kvp_12", kvp[i]));
        assert_true(same_result("solved", "solved_3", kvp[i]));
    }
}

static void test_new_schedule(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "short", "-s", "train.steps=20"));
    copy_run("short", "again");
    train_expect(0, ARGS("base.yaml", "-o", "short", "-s", to_40, "--resume"));
    train_expect(0, ARGS("base.yaml", "-o", "again", "-s", to_40, "--resume"));
    assert_true(same_result("short", "again", model));
    // Step 20 ended the cosine of 20; step 21 stands where the one of 40 has it.
    assert_true(metric("short", 20, "lr") < 0.3 * metric("base", 20, "lr"));
    for (int64_t step = 21; step <= 40; step++)
        assert_true(metric("short", step, "lr") == metric("base", step, "lr"));
    assert_true(fabs(metric("short", 21, "loss") / metric("short", 20, "loss") - 1) < 0.3);
    // It is no run of 40 steps, and says so wherever it is asked.
    assert_false(same_result("short", "base", model));
    char *config = test_read_text("short/config.yaml"),
         *state_text = test_read_text("short/final/state.json");
    assert_non_null(strstr(config, "steps: 40"));
    assert_non_null(strstr(state_text, "\"plans\""));
    free(config);
    free(state_text);
    train_expect(0, ARGS("status", "short"));
    assert_said("finished, step 40 of 40 (100 %)");
    assert_said("planned for 20 steps until step 20");
    train_expect(0, ARGS("status", "--json", "short"));
    assert_said("\"plans\": [{\"steps\": 20, \"until\": 20}]");
    // Nothing is left to do; and once more is longer still.
    train_expect(0, ARGS("base.yaml", "-o", "short", "-s", to_40, "--resume"));
    assert_said("is finished, nothing to resume; more train.steps make it longer");
    train_expect(0, ARGS("base.yaml", "-o", "short", "-s", "train.steps=42", "--resume", "--resume"));
    train_expect(0, ARGS("status", "--json", "short"));
    assert_said("{\"steps\": 20, \"until\": 20}, {\"steps\": 40, \"until\": 40}");
}

// Killed while it is being made longer, it goes on as the longer run; until then final/ is the shorter one's.
static void test_killed_on_the_way(void **state) {
    (void)state;
    static const char to_300[] = "train.steps=300", often[] = "train={checkpoint_every: 2, keep_last: 1000}";
    train_expect(0, ARGS("base.yaml", "-o", "killed", "-s", "train.steps=20"));
    copy_run("killed", "left_alone");
    train_expect(0, ARGS("base.yaml", "-o", "left_alone", "-s", to_300, "--resume"));
    const pid_t pid =
        train_start(ARGS("base.yaml", "-o", "killed", "-s", to_300, "-s", often, "--resume"), 0);
    train_wait_for_file(pid, "killed/checkpoints/step-000028/state.json", 0);
    int status;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_true(kv_path_exists("killed/final/model"));
    train_expect(0, ARGS("status", "killed"));
    assert_said("killed, step ");
    assert_said("of 300");
    assert_said("final/ of step 20");
    assert_said("planned for 20 steps until step 20");
    train_expect(0, ARGS("base.yaml", "-o", "killed", "-s", to_300, "--resume"));
    assert_said("resuming from killed/checkpoints/step-");
    assert_not_said("warning");
    assert_true(same_result("killed", "left_alone", model));
    assert_true(metric("killed", 300, "loss") == metric("left_alone", 300, "loss"));
    train_expect(0, ARGS("status", "killed"));
    assert_said("planned for 20 steps until step 20");
}

// A run that was stopped may also be made shorter, down to what is done.
static void test_fewer_steps(void **state) {
    (void)state;
    train_refuse("key `train.steps`: found 30, but 40 are done in base",
                 ARGS("base.yaml", "--resume", "-s", "train.steps=30"));
    copy_run("base", "shorter");
    kv_error err;
    assert_int_equal(kv_remove_tree("shorter/final", &err), KV_OK);
    train_refuse("found 29, but 30 are done",
                 ARGS("base.yaml", "-o", "shorter", "-r", "-s", "train.steps=29"));
    train_expect(0, ARGS("base.yaml", "-o", "shorter", "-r", "-s", "train.steps=30"));
    assert_true(kv_path_exists("shorter/final/optimizer.h5"));
    train_expect(0, ARGS("status", "shorter"));
    assert_said("finished, step 30 of 30");
}

// What was finished by a sweep, or by a program of before, kept no state to go on with.
static void test_without_state(void **state) {
    (void)state;
    copy_run("base", "bare");
    assert_int_equal(unlink("bare/final/optimizer.h5"), 0);
    train_expect(0, ARGS("base.yaml", "-o", "bare", "-r", "-s", "train.steps=42"));
    assert_said("resuming from bare/checkpoints/step-000030");
    copy_run("base", "bare");
    kv_error err;
    assert_int_equal(unlink("bare/final/optimizer.h5"), 0);
    assert_int_equal(kv_remove_tree("bare/checkpoints", &err), KV_OK);
    train_refuse("key `train.steps`: found 42, but bare is finished after 40 and kept no optimiser state",
                 ARGS("base.yaml", "-o", "bare", "-r", "-s", "train.steps=42"));
    train_expect(0, ARGS("base.yaml", "-o", "bare", "-r"));
    // Damage is named, and leaves the run as it was.
    copy_run("base", "bare");
    assert_int_equal(truncate("bare/final/optimizer.h5", 1000), 0);
    train_refuse("bare/final/optimizer.h5", ARGS("base.yaml", "-o", "bare", "-r", "-s", "train.steps=42"));
}

// ---- Looking first -------------------------------------------------------------------------------------

static void test_dry_run_of_a_resume(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-n", "--resume"));
    assert_said("is finished, nothing to resume");
    train_expect(0, ARGS("base.yaml", "--resume", "-n", "-s", "train.steps=50"));
    assert_said("resuming from base/final");
    assert_said("train.steps is 50 in a run that was planned for 40");
    train_refuse("key `train.lr`", ARGS("base.yaml", "--resume", "-n", "-s", "train.lr=1"));
    char *config = test_read_text("base/config.yaml");
    assert_non_null(strstr(config, "steps: 40"));
    free(config);
}

// ---- Sweeps --------------------------------------------------------------------------------------------

static void put_sweep(const char *keep, int steps) {
    char text[256];
    snprintf(text, sizeof text,
             "output: swept\ntrain: base.yaml\nkeep: %s\nset: {train.steps: %d}\ngrid: {seed: [1, 2]}\n",
             keep, steps);
    put_file("sweep.yaml", text);
}

static void test_longer_sweep(void **state) {
    (void)state;
    put_sweep("checkpoints", 20);
    train_expect(0, ARGS("--sweep", "sweep.yaml"));
    put_sweep("checkpoints", 40);
    train_expect(0, ARGS("--sweep", "sweep.yaml", "--dry-run"));
    assert_said("longer from 20");
    assert_not_said("warning");
    train_expect(0, ARGS("--sweep", "sweep.yaml"));
    assert_said(longer);
    train_expect(0, ARGS("base.yaml", "-o", "swept_1", "-s", "train.steps=20"));
    train_expect(0, ARGS("base.yaml", "-o", "swept_1", "-s", to_40, "--resume"));
    assert_true(same_result("swept/seed=1", "swept_1", model));
    // --force trains anew what has changed.
    put_sweep("final", 42);
    train_expect(0, ARGS("--sweep", "sweep.yaml", "--force"));
    assert_not_said("resuming");
    assert_false(kv_path_exists("swept/seed=1/final/optimizer.h5"));
    // Nothing is left to go on with.
    put_sweep("final", 44);
    train_refuse(
        "run seed=1: key `train.steps`: found 44, but swept/seed=1 is finished after 42 and kept no optimiser "
        "state to go on with, expected as many (of a sweep's runs keep: checkpoints keeps it); --force trains it anew",
        ARGS("--sweep", "sweep.yaml"));
}

// ---- Other keys ----------------------------------------------------------------------------------------

static void test_what_may_change(void **state) {
    (void)state;
    train_expect(0, ARGS("base.yaml", "-o", "moved", "-s", "train.steps=20"));
    assert_int_equal(system("cp shard.h5 elsewhere.h5 && cp -r moved micro"), 0);
    train_expect(0, ARGS("base.yaml", "-o", "moved", "-r", "-s", to_40, "-s", "data.train=elsewhere.h5"));
    assert_said("other paths than before in data.train");
    train_expect(0, ARGS("base.yaml", "-o", "micro", "-r", "-s", to_40, "-s", "data.micro_batch_size=4"));
    assert_said("data.micro_batch_size is 4 and was 8");
    make_text("other.h5", 60, 99);
    train_refuse("key `data.train`: other.h5",
                 ARGS("base.yaml", "-o", "moved", "-r", "-s", "train.steps=41", "-s", "data.train=other.h5"));
    // The base is known by its weights, not by its name.
    train_expect(0, ARGS("kvp.yaml", "-o", "pair", "-s", "train.steps=4"));
    assert_int_equal(system("cp -r base/final/model base_model && cp -r aux/final/model aux_model"), 0);
    train_expect(0, ARGS("kvp.yaml", "-o", "pair", "-r", "-s", "train.steps=6", "-s", "base=base_model", "-s",
                         "aux=aux_model"));
    assert_said("other paths than before in base, aux");
    train_expect(0, ARGS("base.yaml", "-o", "base_2", "-s", "seed=2"));
    train_refuse(
        "", ARGS("kvp.yaml", "-o", "pair", "-r", "-s", "train.steps=8", "-s", "base=base_2/final/model"));
    // What has a part in the weights stays, and the line names the way out.
    train_refuse("key `train.lr`: found `1`, expected `1e-2` as in base/config.yaml, which is to be resumed "
                 "(model.from: checkpoint trains on with other settings, in another output)",
                 ARGS("base.yaml", "--resume", "-s", "train.lr=1", "-s", "train.steps=50"));
    train_refuse("key `data.batch_size`", ARGS("base.yaml", "--resume", "-s", "data.batch_size=16"));
    train_refuse("key `seed`", ARGS("base.yaml", "--resume", "-s", "seed=2", "-s", "train.steps=50"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_goes_on),     cmocka_unit_test(test_new_schedule),
        cmocka_unit_test(test_killed_on_the_way), cmocka_unit_test(test_fewer_steps),
        cmocka_unit_test(test_without_state),     cmocka_unit_test(test_dry_run_of_a_resume),
        cmocka_unit_test(test_longer_sweep),      cmocka_unit_test(test_what_may_change),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
