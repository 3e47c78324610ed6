// Stands between OpenBLAS and mmap, since OpenBLAS cannot be told that there is no memory: see blas.h.
#include "data/system/blas.h"

#include "data/system/isa.h"
#include "data/system/limits.h"
#include "data/system/memory.h"
#include "data/system/warning.h"

#include <cblas.h>
#include <dlfcn.h>
#include <errno.h>
#include <omp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

// Exported by OpenBLAS, declared in no header of it; by one that hides them nothing is reserved.
void *blas_memory_alloc(int purpose);
__attribute__((weak)) void blas_memory_free(void *buffer);

// OpenBLAS finds what is not hidden in a program.
#define VISIBLE __attribute__((visibility("default")))

static atomic_int n_taken;

// ---- The limit -----------------------------------------------------------------------------------------

// A helper's and a caller's for every thread.
static int n_needed(void) {
    return 2 * omp_get_max_threads();
}

// n_more buffers are missing.
static kv_status too_little(size_t size, int n_more, kv_error *err) {
    const int n_threads = omp_get_max_threads();
    const double taken = (double)size * atomic_load(&n_taken);
    const kv_memory_limit limit = kv_address_space_left("");
    char found[128] = "refused by the system (vm.overcommit_memory)", advice[64] = "";
    if (limit.left < n_more * (int64_t)size) {
        const double left = (double)limit.left + taken;
        const int fit = (int)(left / (double)size / 2);
        snprintf(found, sizeof found, "found %.3g GB left by %s", left / 1e9, limit.by);
        if (fit > 0 && fit < n_threads) snprintf(advice, sizeof advice, ", or set OMP_NUM_THREADS=%d", fit);
    } else if (n_threads > 1) {
        strcpy(advice, ", or set a smaller OMP_NUM_THREADS");
    }
    return kv_fail(
        err, KV_ERR_MEMORY,
        "matrix products with %d thread%s need %.3g GB of address space for OpenBLAS, %s; raise that limit%s",
        n_threads, n_threads > 1 ? "s" : "", (double)size * n_needed() / 1e9, found, advice);
}

// Called while OpenBLAS holds locks that exit() would wait for.
static _Noreturn void give_up(size_t size) {
    kv_error err = {0};
    too_little(size, 1, &err);
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, err.message);
    fflush(stderr);
    _exit(1);
}

// ---- mmap ----------------------------------------------------------------------------------------------

static bool is_openblas(const void *address) {
    static _Atomic(const void *) library;
    Dl_info info;
    if (!atomic_load(&library)) {
        void *product = dlsym(RTLD_DEFAULT, "cblas_sgemm");
        if (!product || !dladdr(product, &info)) return false;
        atomic_store(&library, info.dli_fbase);
    }
    return dladdr(address, &info) && info.dli_fbase == atomic_load(&library);
}

// Called by OpenBLAS and whoever else asks for mmap by this name, which headers may turn into mmap64. In the shared library it
// stays inside: it is not for a library to stand between a program and the system.
VISIBLE void *stand_in(void *address, size_t size, int protection, int flags, int fd,
                       off_t offset) __asm__("mmap");

void *stand_in(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
    void *const at = (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
    if (fd >= 0 || !is_openblas(__builtin_return_address(0))) return at;
    if (at == MAP_FAILED) give_up(size);
    atomic_fetch_add(&n_taken, 1);
    return at;
}

// ---- Buffers -------------------------------------------------------------------------------------------

static bool loaded;

// The constructors of libraries come first.
static __attribute__((constructor)) void note_that_libraries_are_loaded(void) {
    loaded = true;
}

typedef void *allocate(int purpose);

static allocate *original_allocate(void) {
    static _Atomic(allocate *) original;
    allocate *found = atomic_load(&original);
    if (found) return found;
    *(void **)&found = dlsym(RTLD_NEXT, "blas_memory_alloc");
    atomic_store(&original, found);
    return found;
}

// OpenBLAS for OpenMP asks again for a helper that has none. One with threads of its own does not.
VISIBLE void *blas_memory_alloc(int purpose) {
    enum { HELPER = 2 };
    if (!loaded && purpose == HELPER && openblas_get_parallel() == OPENBLAS_OPENMP) return NULL;
    return original_allocate()(purpose);
}

static void take_buffers(int n_threads) {
    openblas_set_num_threads(n_threads); // the helpers'
    void **buffers = calloc((size_t)n_threads, sizeof *buffers);
    if (!buffers || !blas_memory_free || !original_allocate()) n_threads = 0; // missed when they are needed
    for (int i = 0; i < n_threads; i++) buffers[i] = blas_memory_alloc(0);
    for (int i = 0; i < n_threads; i++) blas_memory_free(buffers[i]);
    free(buffers);
}

// Beyond the two for each thread that it was built for it has so many buffers more [NEW_BUFFERS in OpenBLAS's
// source]. With none left it writes page after page, and products get none.
static void keep_to_what_openblas_has(void) {
    enum { SPARE = 512 };
    static const char key[] = "MAX_THREADS=";
    const char *found = strstr(openblas_get_config(), key);
    const int built_for = found ? atoi(found + strlen(key)) : 1, most = built_for + SPARE;
    const int n_threads = omp_get_max_threads();
    if (n_threads <= most) return;
    kv_warn("found %d threads (OMP_NUM_THREADS, or else the number of cores), more than OpenBLAS has buffers "
            "for: goes on with %d; set a smaller OMP_NUM_THREADS",
            n_threads, most);
    omp_set_num_threads(most);
}

// A CPU that came out after this OpenBLAS did is taken for one of 2004: Debian 12's does so on Emerald Rapids. What is left to
// the library are products in double precision.
static void warn_of_old_kernels(void) {
#ifdef __x86_64__
    if (getenv("OPENBLAS_CORETYPE") || strcmp(openblas_get_corename(), "Prescott") != 0 ||
        !__builtin_cpu_supports("avx2"))
        return;
    kv_warn(
        "OpenBLAS does not know this CPU: least squares will take several times longer than they could; set "
        "OPENBLAS_CORETYPE=%s",
        __builtin_cpu_supports("avx512bw") ? "SkylakeX" : "Haswell");
#endif
}

// Where UCX, which MPICH uses, has put itself between everybody and mmap, the stand-in does not see who asks. So what can be known
// beforehand is looked at then: the buffers' size as OpenBLAS has it for this kind of CPU.
static kv_status look_for_room(kv_error *err) {
#ifdef __x86_64__
    static bool looked; // what was taken then is left to OpenBLAS
    const int n_more = n_needed() - atomic_load(&n_taken);
    const size_t size = (size_t)32 << 22;
    if (!looked && kv_address_space_left("").left < n_more * (int64_t)size)
        return too_little(size, n_more, err);
    looked = true;
#else
    (void)err;
#endif
    return KV_OK;
}

kv_status kv_blas_reserve(kv_error *err) {
    kv_status status = kv_isa_from_environment(err);
    if (status == KV_OK) status = look_for_room(err);
    if (status != KV_OK) return status;
    warn_of_old_kernels();
    keep_to_what_openblas_has();
    take_buffers(omp_get_max_threads());
    status = kv_limits_try_threads(omp_get_max_threads(), err);
    if (status != KV_OK) return status;
    atomic_int n = 0;
#pragma omp parallel // OpenMP keeps its threads, and their stacks
    atomic_fetch_add(&n, 1);
    return KV_OK;
}
