// Losses without weight: what only the aux's own loss would need of it is neither trained nor decayed nor counted.
#include "data/checkpoint/checkpoint.h"
#include "tests/support/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kv_model *load(const char *dir) {
    kv_model *model;
    kv_error err = {0};
    if (kv_checkpoint_load(dir, &model, &err) != KV_OK) fail_msg("%s", err.message);
    return model;
}

static bool same(const kv_param *a, const kv_param *b) {
    return memcmp(a->data, b->data, (size_t)kv_param_size(a) * sizeof(float)) == 0;
}

#define NO_AUX "-s", "loss={base: 0, aux: 0, kl: 1}"

// The second layer of two is read for its keys and values alone.
static void test_what_nobody_reads_stays(void **state) {
    (void)state;
    train_expect(0, ARGS("kvp.yaml", "-o", "none", NO_AUX));
    assert_true(isnan(metric("none", 1, "aux")) && metric("none", 1, "kl") > 0);
    kv_model *before = load("aux/final/model"), *after = load("none/final/aux");
    const kv_layer *a = before->layers, *b = after->layers;
    assert_false(same(&before->embed, &after->embed));
    assert_false(same(&a[0].up, &b[0].up) || same(&a[0].q, &b[0].q) || same(&a[0].out, &b[0].out));
    assert_false(same(&a[1].k, &b[1].k) || same(&a[1].v, &b[1].v) || same(&a[1].attn_norm, &b[1].attn_norm));
    assert_true(same(&a[1].q, &b[1].q) && same(&a[1].out, &b[1].out) && same(&a[1].gate, &b[1].gate));
    assert_true(same(&a[1].up, &b[1].up) && same(&a[1].down, &b[1].down) &&
                same(&a[1].ffn_norm, &b[1].ffn_norm));
    assert_true(same(&before->norm, &after->norm));
    kv_model_free(after);
    // With its own loss all of it learns.
    train_expect(0, ARGS("kvp.yaml", "-o", "own", "-s", "loss={base: 0, aux: 0.1, kl: 1}"));
    after = load("own/final/aux");
    assert_false(same(&a[1].up, &after->layers[1].up) || same(&before->norm, &after->norm));
    kv_model_free(before);
    kv_model_free(after);
}

static double said(const char *before) {
    const char *found = strstr(train_output(), before);
    if (!found) fail_msg("expected `%s` in %s", before, train_output());
    return strtod(found + strlen(before), NULL);
}

static void test_it_is_not_counted(void **state) {
    (void)state;
    train_expect(0, ARGS("kvp.yaml", "--dry-run", "-s", "loss={base: 0, kl: 1}"));
    const double all = said("trained      "), flops = said("FLOPs        ");
    assert_non_null(strstr(train_output(), "aux/final/model (trained): "));
    train_expect(0, ARGS("kvp.yaml", "--dry-run", NO_AUX));
    assert_non_null(strstr(train_output(), "aux/final/model (trained as far as it is read): "));
    // Queries, their norm and that of keys, attention's output, the feed-forward part, two norms: see base.yaml.
    const double idle = 8 * 8 + 4 + 4 + 8 * 8 + 3 * 8 * 32 + 8 + 8;
    if (fabs(all - said("trained      ") - idle / 1e3) > 0.006)
        fail_msg("%g k weights without the loss, %g with it", said("trained      "), all);
    assert_true(said("FLOPs        ") < flops);
}

static void test_goes_on(void **state) {
    (void)state;
    kv_error err = {0};
    train_expect(0, ARGS("kvp.yaml", "--force", "-o", "whole", NO_AUX));
    train_expect(0, ARGS("kvp.yaml", "--force", "-o", "parts", NO_AUX));
    assert_int_equal(kv_remove_tree("parts/final", &err), KV_OK);
    train_expect(0, ARGS("kvp.yaml", "--resume", "-o", "parts", NO_AUX));
    assert_non_null(strstr(train_output(), "resuming from parts/checkpoints/step-000016"));
    assert_true(same_file("whole/final/aux/model.safetensors", "parts/final/aux/model.safetensors"));
    assert_true(same_file("whole/final/predictor/predictor.safetensors",
                          "parts/final/predictor/predictor.safetensors"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_nobody_reads_stays),
        cmocka_unit_test(test_it_is_not_counted),
        cmocka_unit_test(test_goes_on),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
