// OpenBLAS as other builds of it are: with threads of its own, with more threads asked for than it has buffers, and older than
// the CPU.
#include "core/gemm/isa.h"
#include "data/system/blas.h"
#include "tests/support/support.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *blas_memory_alloc(int purpose);
void blas_memory_free(void *buffer);

// ---- Helpers while libraries are loaded -----------------------------------------------------------------

static int kind = -1; // -1: what it is

int __real_openblas_get_parallel(void);
int __wrap_openblas_get_parallel(void);
int __wrap_openblas_get_parallel(void) {
    return kind < 0 ? __real_openblas_get_parallel() : kind;
}

static struct {
    bool tried;
    void *openmp, *threads;
} early;

// As OpenBLAS's own constructor does, before blas.c knows that all is loaded.
static __attribute__((constructor(200))) void ask_early(void) {
    enum { HELPER = 2 };
    kind = OPENBLAS_OPENMP;
    early.openmp = blas_memory_alloc(HELPER);
    kind = OPENBLAS_THREAD;
    early.threads = blas_memory_alloc(HELPER);
    kind = -1;
    early.tried = true;
}

// A thread of its own asks once, and multiplies with what it got.
static void helpers_get_buffers(void **state) {
    (void)state;
    assert_true(early.tried);
    assert_null(early.openmp);
    assert_non_null(early.threads);
    memset(early.threads, 1, 1 << 20);
    blas_memory_free(early.threads);
}

// ---- What it says when it is asked for buffers -----------------------------------------------------------

static const char *core; // NULL: what it is

char *__real_openblas_get_corename(void);
char *__wrap_openblas_get_corename(void);
char *__wrap_openblas_get_corename(void) {
    return core ? (char *)core : __real_openblas_get_corename();
}

// kv_blas_reserve, with all that is printed meanwhile in said; *kept: the threads that are then used.
static char said[1 << 16];
static kv_status reserve(int n_threads, int *kept, kv_error *error) {
    const int before = omp_get_max_threads(), out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(NULL);
    dup2(fileno(file), STDOUT_FILENO), dup2(fileno(file), STDERR_FILENO);
    omp_set_num_threads(n_threads);
    const kv_status status = kv_blas_reserve(error);
    *kept = omp_get_max_threads();
    fflush(NULL);
    dup2(out, STDOUT_FILENO), dup2(err, STDERR_FILENO);
    close(out), close(err);
    omp_set_num_threads(before);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    fclose(file);
    return status;
}

static void more_threads_than_buffers(void **state) {
    (void)state;
    kv_error error = {0};
    int kept;
    const kv_status status = reserve(100000, &kept, &error);
    if (!strstr(said, "warning: found 100000 threads")) fail_msg("%s", said);
    assert_null(strstr(said, "Terminated"));
    assert_in_range(kept, 2, 10000);
    if (status != KV_OK) assert_non_null(strstr(error.message, "cannot start")); // the machine's own limits
}

// The fallback for a CPU that OpenBLAS does not know is a warning, unless it was asked for.
static void kernels_of_another_time(void **state) {
    (void)state;
    int kept;
    core = "Prescott";
    setenv("OPENBLAS_CORETYPE", "Prescott", 1);
    assert_int_equal(reserve(2, &kept, NULL), KV_OK);
    assert_string_equal(said, "");
    unsetenv("OPENBLAS_CORETYPE");
    assert_int_equal(reserve(2, &kept, NULL), KV_OK);
#ifdef __x86_64__
    const bool expected = __builtin_cpu_supports("avx2");
#else
    const bool expected = false;
#endif
    if ((strstr(said, "set OPENBLAS_CORETYPE=") != NULL) != expected) fail_msg("%s", said);
    core = "Haswell";
    assert_int_equal(reserve(2, &kept, NULL), KV_OK);
    assert_string_equal(said, "");
    core = NULL;
}

// The set that KV_ISA names is taken, or said not to be there.
static void isa_by_name(void **state) {
    (void)state;
    kv_error error = {0};
    int kept;
    const char *before = getenv("KV_ISA");
    char *kept_name = before ? strdup(before) : NULL;
    setenv("KV_ISA", "plain", 1);
    assert_int_equal(reserve(2, &kept, &error), KV_OK);
    assert_string_equal(kv_isa()->name, "plain");
    setenv("KV_ISA", "abacus", 1);
    assert_int_equal(reserve(2, &kept, &error), KV_ERR_ARGUMENT);
    const char *expected = "KV_ISA: found 'abacus', expected what this CPU has: plain";
    if (strncmp(error.message, expected, strlen(expected)) != 0) fail_msg("%s", error.message);
    setenv("KV_ISA", "", 1);
    assert_int_equal(reserve(2, &kept, &error), KV_OK);
    const kv_kernels *list[KV_MAX_ISAS];
    assert_ptr_equal(kv_isa(), list[kv_isa_list(list) - 1]);
    if (kept_name) setenv("KV_ISA", kept_name, 1);
    if (!kept_name) unsetenv("KV_ISA");
    free(kept_name);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(helpers_get_buffers),
        cmocka_unit_test(more_threads_than_buffers),
        cmocka_unit_test(kernels_of_another_time),
        cmocka_unit_test(isa_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
