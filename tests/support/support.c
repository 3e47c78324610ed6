#include "tests/support/support.h"

#include <dirent.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

// splitmix64
//                                                                         [Steele et al. 2014, figure 15]
static uint64_t scramble(uint64_t seed, int64_t index) {
    uint64_t z = seed * 0xD1342543DE82EF95u + (uint64_t)(index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

double test_value(uint64_t seed, int64_t index) {
    return ((double)(scramble(seed, index) >> 11) + 0.5) * 0x1p-52 - 1.0;
}

int64_t test_below(uint64_t seed, int64_t index, int64_t bound) {
    return (int64_t)(scramble(seed, index) % (uint64_t)bound);
}

void test_fill(float *x, int64_t n, uint64_t seed, double scale) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)(scale * test_value(seed, i));
}

void *test_alloc(int64_t n, size_t size) {
    void *memory = calloc(n > 0 ? (size_t)n : 1, size);
    assert_non_null(memory);
    return memory;
}

double test_half_value(kv_dtype dtype, uint16_t bits) {
    const int fraction_bits = dtype == KV_BF16 ? 7 : 10;
    const int exponent_bits = 15 - fraction_bits;
    const int exponent = (bits & 0x7FFF) >> fraction_bits;
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    double magnitude;
    if (exponent == (1 << exponent_bits) - 1)
        magnitude = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        magnitude = ldexp(fraction, 1 - bias - fraction_bits);
    else
        magnitude = ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

uint16_t test_half_nearest(kv_dtype dtype, double x) {
    const int fraction_bits = dtype == KV_BF16 ? 7 : 10;
    const uint16_t infinity = (uint16_t)(0x7FFF & ~((1 << fraction_bits) - 1));
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    const double magnitude = fabs(x);
    // Infinity takes part in rounding with the value the next exponent would have.
    const double beyond = 2.0 * test_half_value(dtype, (uint16_t)(infinity - (1 << fraction_bits)));
    if (isnan(x)) return infinity | 1;
    if (magnitude >= beyond) return sign | infinity;
    uint16_t below = 0, above = infinity; // value(below) <= magnitude < value(above)
    while (above - below > 1) {
        uint16_t middle = (uint16_t)((below + above) / 2);
        if (test_half_value(dtype, middle) <= magnitude)
            below = middle;
        else
            above = middle;
    }
    const double low = test_half_value(dtype, below);
    const double high = above == infinity ? beyond : test_half_value(dtype, above);
    const double to_low = magnitude - low, to_high = high - magnitude;
    const bool up = to_high < to_low || (to_high == to_low && (below & 1));
    return sign | (up ? above : below);
}

kv_param test_param(const char *name, int64_t rows, int64_t cols, kv_dtype dtype, bool trainable) {
    kv_param param = {.rows = rows, .cols = cols, .dtype = dtype, .decay = rows > 1};
    snprintf(param.name, sizeof param.name, "%s", name);
    param.data = test_alloc(rows * cols, dtype == KV_F32 ? 4 : 2);
    if (trainable) param.grad = test_alloc(rows * cols, sizeof(float));
    return param;
}

void test_param_free(kv_param *param) {
    free(param->data);
    free(param->grad);
    *param = (kv_param){0};
}

bool test_under_asan(void) {
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return true;
#endif
#endif
    return false;
}

void test_dir_make(char path[64]) {
    snprintf(path, 64, "/tmp/kv-test-XXXXXX");
    assert_non_null(mkdtemp(path));
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

void test_dir_remove(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int64_t test_dir_count(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return -1;
    int64_t n = -2; // . and ..
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

int test_link_configs(void) {
    char target[4096];
    snprintf(target, sizeof target, "%s/../configs", getenv("KV_TEST_DIR"));
    return symlink(target, "configs");
}

const char *test_path(const char *dir, const char *name) {
    static char ring[8][256];
    static int next;
    char *path = ring[next++ % 8];
    assert_true(snprintf(path, sizeof ring[0], "%s/%s", dir, name) < (int)sizeof ring[0]);
    return path;
}

bool test_alive(pid_t child) {
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

void test_limit_file_size(int64_t bytes) {
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN); // so that write fails with EFBIG instead
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < 0 ? limit.rlim_max : (rlim_t)bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

// HDF5 does not give back what belongs to a file that it could not write to the end.
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5";
}

char test_dir[64];

int test_dir_set_up(void **state) {
    (void)state;
    test_dir_make(test_dir);
    return 0;
}

int test_dir_tear_down(void **state) {
    (void)state;
    test_dir_remove(test_dir);
    return 0;
}
