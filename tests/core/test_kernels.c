// Products run the kernels that the environment asks for, ours and OpenBLAS's, so that a run of the tests under other
// CPUs' kernels (./kv test --kernels) has tried what it says it has.
#include "core/gemm/isa.h"
#include "tests/support/support.h"

#include <cblas.h>
#include <stdlib.h>

static void test_kernels_are_those_asked_for(void **state) {
    (void)state;
    const char *asked = getenv("OPENBLAS_CORETYPE");
    if (!asked || !*asked) skip();
    assert_string_equal(openblas_get_corename(), asked);
}

static void test_set_is_the_one_asked_for(void **state) {
    (void)state;
    const char *asked = getenv("KV_ISA");
    if (!asked || !*asked) skip();
    assert_string_equal(kv_isa()->name, asked);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kernels_are_those_asked_for),
                                       cmocka_unit_test(test_set_is_the_one_asked_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
