// OpenBLAS as other builds of it are: with threads of its own, and with more threads asked for than it has buffers.
#include "data/system/blas.h"
#include "tests/support/support.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
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

// ---- More threads than it can serve ---------------------------------------------------------------------

static void more_threads_than_buffers(void **state) {
    (void)state;
    static char said[1 << 16];
    const int before = omp_get_max_threads(), out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    kv_error error = {0};
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(NULL);
    dup2(fileno(file), STDOUT_FILENO), dup2(fileno(file), STDERR_FILENO);
    omp_set_num_threads(100000);
    const kv_status status = kv_blas_reserve(&error);
    const int kept = omp_get_max_threads();
    fflush(NULL);
    dup2(out, STDOUT_FILENO), dup2(err, STDERR_FILENO);
    close(out), close(err);
    omp_set_num_threads(before);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    fclose(file);
    if (!strstr(said, "warning: found 100000 threads")) fail_msg("%s", said);
    assert_null(strstr(said, "Terminated"));
    assert_in_range(kept, 2, 10000);
    if (status != KV_OK) assert_non_null(strstr(error.message, "cannot start")); // the machine's own limits
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(helpers_get_buffers),
        cmocka_unit_test(more_threads_than_buffers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
