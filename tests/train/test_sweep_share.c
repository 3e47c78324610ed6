// Which runs of a sweep are whose, and the locks that keep those who share it apart.
#include "tests/support/support.h"

#include "data/file/path.h"
#include "train/sweep/lock.h"
#include "train/sweep/share.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- Dealing -------------------------------------------------------------------------------------------

static void expect_parts(const double *cost, size_t n, size_t n_parts, const size_t *expected) {
    size_t part[16];
    kv_error err = {0};
    assert_int_equal(kv_sweep_deal(cost, n, n_parts, part, &err), KV_OK);
    for (size_t i = 0; i < n; i++)
        if (part[i] != expected[i])
            fail_msg("thing %zu of %zu in part %zu, expected %zu", i, n, part[i], expected[i]);
}

static void test_deal(void **state) {
    (void)state;
    // What costs the same goes round.
    static const double same[] = {3, 3, 3, 3, 3, 3, 3};
    static const size_t round[] = {0, 1, 2, 0, 1, 2, 0};
    expect_parts(same, 7, 3, round);
    // A dear one weighs as much as three cheap ones.
    static const double mixed[] = {1, 1, 3, 1}, rising[] = {1, 2, 3, 4, 5, 6};
    static const size_t of_mixed[] = {1, 1, 0, 1};
    expect_parts(mixed, 4, 2, of_mixed);
    // 6, then 5 to the other, 4 to that, 3 to the first, 2 to either (both have 9), 1 to the other.
    static const size_t by_hand[] = {1, 0, 0, 1, 1, 0};
    expect_parts(rising, 6, 2, by_hand);
    static const size_t few[] = {0, 1};
    expect_parts(same, 2, 5, few);
}

static void test_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool is_share;
        int64_t i, n;
    } cases[] = {{"2/4", true, 2, 4},    {"1/1", true, 1, 1},   {"10/250", true, 10, 250},
                 {"5/4", true, 0, 0},    {"0/4", true, 0, 0},   {"ours-*", false, 0, 0},
                 {"2/", false, 0, 0},    {"/4", false, 0, 0},   {"2", false, 0, 0},
                 {"1/2/3", false, 0, 0}, {"+2/4", false, 0, 0}, {"2/ 4", false, 0, 0},
                 {"", false, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_sweep_share share;
        const bool found = kv_sweep_read_share(cases[i].text, &share);
        if (found != cases[i].is_share || share.i != cases[i].i || share.n != cases[i].n)
            fail_msg("'%s': %d, %d of %d", cases[i].text, found, (int)share.i, (int)share.n);
    }
}

// ---- Locks ---------------------------------------------------------------------------------------------

// With 64-bit offsets, as meson has them, that is the name of fcntl.
// What the system says of a lock, where it is not asked itself; 0: it is asked.
static int refusal;

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command == F_OFD_SETLK && refusal) {
        errno = refusal;
        return -1;
    }
    return __real_fcntl64(fd, command, argument);
}

static int set_up(void **state) {
    char dir[] = "/tmp/kv_share_XXXXXX";
    *state = NULL;
    return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char path[256];
    kv_error err;
    return getcwd(path, sizeof path) && chdir("/") == 0 && kv_remove_tree(path, &err) == KV_OK ? 0 : -1;
}

static void expect_open(bool share, kv_sweep_lock *lock, const char *message) {
    kv_error err = {0};
    const kv_status status = kv_sweep_lock_open(".", share, lock, &err);
    if ((status != KV_OK) != (message != NULL) || (message && !strstr(err.message, message)))
        fail_msg("%d: %s", (int)status, err.message);
}

// Locks of one process's two open files exclude each other as those of two processes do.
static void test_who_excludes_whom(void **state) {
    (void)state;
    kv_sweep_lock whole, a, b;
    kv_error err = {0};
    expect_open(false, &whole, NULL);
    expect_open(false, &a, ".: another kvtrain is at work there");
    expect_open(true, &a, ".: another kvtrain is at work there");
    kv_sweep_lock_close(&whole);
    expect_open(true, &a, NULL);
    expect_open(true, &b, NULL);
    expect_open(false, &whole, ".: another kvtrain is at work there");
    assert_int_equal(kv_sweep_lock_take(&a, "kl=0", &err), KV_OK);
    assert_int_equal(kv_sweep_lock_take(&b, "kl=1", &err), KV_OK);
    assert_int_equal(kv_sweep_lock_take(&b, "kl=0", &err), KV_ERR_IO);
    assert_string_equal(err.message, ".: another kvtrain is at work on kl=0");
    kv_sweep_lock_drop(&a, "kl=0");
    assert_int_equal(kv_sweep_lock_await(&b, "kl=0", &err), KV_OK);
    assert_int_equal(kv_sweep_lock_take(&a, "kl=0", &err), KV_ERR_IO);
    kv_sweep_lock_close(&b); // and with it all that it held
    assert_int_equal(kv_sweep_lock_take(&a, "kl=0", &err), KV_OK);
    kv_sweep_lock_close(&a);
}

// The lock goes with the process, not with a child that it has started.
static void test_child_holds_nothing(void **state) {
    (void)state;
    kv_sweep_lock lock;
    expect_open(false, &lock, NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) execlp("sleep", "sleep", "60", NULL);
    char link[64], name[256];
    do { // until it is the other program, which has our files no more
        snprintf(link, sizeof link, "/proc/%d/exe", (int)child);
        const ssize_t n = readlink(link, name, sizeof name - 1);
        name[n > 0 ? n : 0] = '\0';
        usleep(1000);
    } while (strstr(name, "test_sweep_share"));
    kv_sweep_lock_close(&lock);
    expect_open(false, &lock, NULL);
    kv_sweep_lock_close(&lock);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

// A file system without locks: a whole sweep is kept to itself on this machine, shares are refused.
static void test_no_locks(void **state) {
    (void)state;
    static const int reasons[] = {ENOLCK, ENOSYS, EOPNOTSUPP};
    kv_sweep_lock whole, other;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        refusal = reasons[i];
        expect_open(true, &other, "shares of a sweep need a file system with locks");
        expect_open(false, &whole, NULL);
        expect_open(false, &other, ".: another kvtrain is at work there");
        kv_sweep_lock_close(&whole);
        expect_open(false, &other, NULL);
        kv_sweep_lock_close(&other);
    }
    refusal = EIO;
    expect_open(false, &whole, "./sweep.lock: cannot lock: Input/output error");
    refusal = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deal),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_who_excludes_whom),
        cmocka_unit_test(test_child_holds_nothing),
        cmocka_unit_test(test_no_locks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
