// Weights that have become NaN or infinite are never written: the task is not even asked to save them.
#include "tests/support/support.h"
#include "train/task/task.h"

#include <math.h>
#include <string.h>

static int n_saved;

static kv_status save(kv_task *task, const char *dir, bool final, kv_error *err) {
    (void)task;
    (void)err;
    assert_string_equal(dir, "somewhere");
    n_saved += final ? 100 : 1;
    return KV_OK;
}

static void what_is_not_finite_is_not_saved(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    kv_param first = test_param("layers.0.first", 3, 4, KV_F32, true),
             second = test_param("layers.0.second", 5, 7, KV_F32, true);
    kv_param *params[] = {&first, &second};
    const kv_task_ops ops = {.save = save};
    kv_task task = {.ops = &ops, .n_params = 2, .params = params};
    kv_error err = {0};
    assert_int_equal(kv_task_save(&task, 7, "somewhere", false, &err), KV_OK);
    assert_int_equal(kv_task_save(&task, 7, "somewhere", true, &err), KV_OK);
    for (int64_t i = 0; i < 35; i++) {
        ((float *)second.data)[i] = bad[i % 3];
        assert_int_equal(kv_task_save(&task, 7, "somewhere", i % 2, &err), KV_ERR_NOT_FINITE);
        assert_non_null(strstr(err.message, "step 7: found NaN or infinite weights in layers.0.second"));
        ((float *)second.data)[i] = 1;
    }
    assert_int_equal(n_saved, 101);
    test_param_free(&first);
    test_param_free(&second);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_not_finite_is_not_saved)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
