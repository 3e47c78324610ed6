// Files that appear whole or not at all, also when the disk fills up or the system refuses.
#include "data/file/content.h"
#include "data/file/path.h"
#include "data/file/whole_set.h"
#include "tests/support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zlib.h>

// The linker finds these before the C library's, so that a test can have the system refuse: always, or the
// n-th call of a kind from now on (counted from 1; 0: none).
static bool refuse_exchange, refuse_flush;
static int refused_flush, refused_rename;
static bool refuse_from_then_on;

static bool refuse_this(int *countdown, int reason) {
    if (*countdown == 0 || --*countdown > 0) return false;
    if (refuse_from_then_on) *countdown = 1;
    errno = reason;
    return true;
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    if (refuse_exchange) {
        errno = EINVAL;
        return -1;
    }
    if (refuse_this(&refused_rename, EIO)) return -1;
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

int rename(const char *from, const char *to) {
    if (refuse_this(&refused_rename, ENOSPC)) return -1;
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int fsync(int fd) {
    if (refuse_flush || refuse_this(&refused_flush, EIO)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

static void assert_content(const char *path, const char *expected) {
    char *content;
    size_t size;
    kv_error err;
    assert_int_equal(kv_read_file(path, 1 << 20, &content, &size, &err), KV_OK);
    assert_int_equal(size, strlen(expected));
    assert_string_equal(content, expected);
    free(content);
}

static void put(const char *path, const char *content) {
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(content, 1, strlen(content), stream), strlen(content));
    assert_int_equal(fclose(stream), 0);
}

static void test_file_replaces_and_leaves_nothing(void **state) {
    (void)state;
    kv_error err;
    const char *path = test_path(test_dir, "deep/er/file");
    assert_int_equal(kv_write_file(path, "one", 3, &err), KV_OK);
    assert_content(path, "one");
    assert_int_equal(kv_write_file(path, "second", 6, &err), KV_OK);
    assert_content(path, "second");
    assert_int_equal(kv_write_file(path, NULL, 0, &err), KV_OK);
    assert_content(path, "");
    assert_int_equal(test_dir_count(test_path(test_dir, "deep/er")), 1);
}

static void test_abandon(void **state) {
    (void)state;
    kv_error err;
    kv_whole_file whole;
    put(test_path(test_dir, "file"), "old");
    assert_int_equal(kv_whole_file_begin(&whole, test_path(test_dir, "file"), &err), KV_OK);
    put(whole.path, "new");
    assert_int_equal(test_dir_count(test_dir), 2);
    kv_whole_file_abandon(&whole);
    kv_whole_file_abandon(&whole);
    assert_int_equal(test_dir_count(test_dir), 1);
    assert_content(test_path(test_dir, "file"), "old");
    assert_int_equal(kv_whole_file_commit(&whole, &err), KV_ERR_ARGUMENT);
    // Nobody wrote the file: commit has nothing to rename.
    assert_int_equal(kv_whole_file_begin(&whole, test_path(test_dir, "file"), &err), KV_OK);
    assert_int_equal(kv_whole_file_commit(&whole, &err), KV_ERR_IO);
    assert_content(test_path(test_dir, "file"), "old");
}

static void test_full_disk(void **state) {
    (void)state;
    kv_error err;
    char *large = test_alloc(100001, 1);
    memset(large, 'x', 100000);
    put(test_path(test_dir, "file"), "old");
    test_limit_file_size(4096);
    kv_status status = kv_write_file(test_path(test_dir, "file"), large, 100000, &err);
    test_limit_file_size(-1);
    assert_int_equal(status, KV_ERR_IO);
    assert_non_null(strstr(err.message, "file"));
    assert_non_null(strstr(err.message, "File too large"));
    assert_content(test_path(test_dir, "file"), "old");
    assert_int_equal(test_dir_count(test_dir), 1);
    free(large);
}

static void test_flush_fails(void **state) {
    (void)state;
    kv_error err;
    kv_whole_file whole;
    put(test_path(test_dir, "file"), "old");
    assert_int_equal(kv_whole_dir_begin(&whole, test_path(test_dir, "sub"), &err), KV_OK);
    put(test_path(whole.path, "inner"), "new");
    refuse_flush = true;
    kv_status as_dir = kv_whole_file_commit(&whole, &err);
    kv_status as_file = kv_write_file(test_path(test_dir, "file"), "new", 3, &err);
    refuse_flush = false;
    assert_int_equal(as_dir, KV_ERR_IO);
    assert_int_equal(as_file, KV_ERR_IO);
    assert_non_null(strstr(err.message, "flush"));
    assert_content(test_path(test_dir, "file"), "old");
    assert_int_equal(test_dir_count(test_dir), 1);
}

static void commit_dir(const char *path, const char *name, const char *content) {
    kv_error err;
    kv_whole_file whole;
    assert_int_equal(kv_whole_dir_begin(&whole, path, &err), KV_OK);
    put(test_path(whole.path, name), content);
    assert_int_equal(mkdir(test_path(whole.path, "inner"), 0777), 0);
    put(test_path(whole.path, "inner/deep"), content);
    assert_int_equal(kv_whole_file_commit(&whole, &err), KV_OK);
    assert_false(whole.active);
}

static void test_dir_replaces(void **state) {
    (void)state;
    // With and without a file system that can exchange two names in one step; also by a name with a slash.
    for (int i = 0; i < 2; i++) {
        refuse_exchange = i == 1;
        commit_dir(test_path(test_dir, "new/dir/"), "a", "first");
        commit_dir(test_path(test_dir, "new/dir"), "b", "second");
        refuse_exchange = false;
        assert_int_equal(test_dir_count(test_path(test_dir, "new")), 1);
        assert_int_equal(test_dir_count(test_path(test_dir, "new/dir")), 2);
        assert_content(test_path(test_dir, "new/dir/b"), "second");
        assert_content(test_path(test_dir, "new/dir/inner/deep"), "second");
        assert_int_equal(kv_remove_tree(test_path(test_dir, "new"), NULL), KV_OK);
    }
    assert_int_equal(test_dir_count(test_dir), 0);
}

static void test_dir_abandoned(void **state) {
    (void)state;
    kv_error err;
    kv_whole_file whole;
    commit_dir(test_path(test_dir, "sub"), "a", "first");
    assert_int_equal(kv_whole_dir_begin(&whole, test_path(test_dir, "sub"), &err), KV_OK);
    put(test_path(whole.path, "half"), "hal");
    kv_whole_file_abandon(&whole);
    assert_int_equal(test_dir_count(test_dir), 1);
    assert_content(test_path(test_dir, "sub/a"), "first");
}

// ---- Sets ----------------------------------------------------------------------------------------------

// The old directory: two files that the set replaces, one that goes, one that is none of its business.
static void make_old(const char *path) {
    kv_error err;
    assert_int_equal(kv_make_dirs(path, &err), KV_OK);
    put(test_path(path, "a"), "old a");
    put(test_path(path, "c"), "old c");
    put(test_path(path, "stale"), "old stale");
    put(test_path(path, "other"), "of others");
}

static void assert_old(const char *path) {
    assert_int_equal(test_dir_count(path), 4);
    assert_content(test_path(path, "a"), "old a");
    assert_content(test_path(path, "c"), "old c");
    assert_content(test_path(path, "stale"), "old stale");
    assert_content(test_path(path, "other"), "of others");
}

static void assert_new(const char *path, bool was_there) {
    assert_int_equal(test_dir_count(path), was_there ? 4 : 3);
    assert_content(test_path(path, "a"), "new a");
    assert_content(test_path(path, "b"), "new b");
    assert_content(test_path(path, "c"), "new c");
    if (was_there) assert_content(test_path(path, "other"), "of others");
}

static kv_status write_set(const char *path, kv_error *err) {
    static const char *const stale[] = {"stale", "a", "never there"};
    kv_whole_set set;
    assert_int_equal(kv_whole_set_begin(&set, path, err), KV_OK);
    put(test_path(set.staged.path, "a"), "new a");
    put(test_path(set.staged.path, "b"), "new b");
    put(test_path(set.staged.path, "c"), "new c");
    const kv_status status = kv_whole_set_commit(&set, stale, 3, err);
    assert_false(set.staged.active);
    return status;
}

static void test_set(void **state) {
    (void)state;
    kv_error err;
    for (int i = 0; i < 2; i++) {
        refuse_exchange = i == 1;
        char fresh[PATH_MAX], old[PATH_MAX];
        snprintf(fresh, sizeof fresh, "%s/deep/fresh", test_dir);
        snprintf(old, sizeof old, "%s/old", test_dir);
        assert_int_equal(write_set(fresh, &err), KV_OK);
        assert_new(fresh, false);
        make_old(old);
        assert_int_equal(write_set(old, &err), KV_OK);
        assert_new(old, true);
        refuse_exchange = false;
        assert_int_equal(kv_remove_tree(old, NULL), KV_OK);
        assert_int_equal(kv_remove_tree(test_path(test_dir, "deep"), NULL), KV_OK);
        assert_int_equal(test_dir_count(test_dir), 0);
    }
}

// Whichever call the system refuses, the directory is as it was. At last none is refused.
static void test_set_all_or_none(void **state) {
    (void)state;
    kv_error err;
    int *const countdowns[] = {&refused_flush, &refused_rename, &refused_rename};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/set", test_dir);
    for (int kind = 0; kind < 3; kind++)
        for (int there = 0; there < 2; there++) {
            kv_status status = KV_ERR_IO;
            int n = 0;
            while (status != KV_OK) {
                if (there) make_old(path);
                refuse_exchange = kind == 2;
                *countdowns[kind] = ++n;
                status = write_set(path, &err);
                // The last flush is of the directory, when everything is in place: it may fail.
                const bool last = status == KV_OK && *countdowns[kind] == 0;
                *countdowns[kind] = 0;
                refuse_exchange = false;
                if (last) status = KV_ERR_IO;
                if (status == KV_OK || last)
                    assert_new(path, there);
                else if (there)
                    assert_old(path);
                else
                    assert_int_equal(test_dir_count(path), -1);
                assert_int_equal(kv_remove_tree(path, NULL), KV_OK);
                assert_int_equal(test_dir_count(test_dir), 0); // and nothing lies beside it
            }
            // One more than there were calls: 3 files and their directories; 4 names, thrice without exchange.
            if (there) assert_true(n >= 5);
        }
}

// A message names what its reader knows: the final path, and not the temporary one.
static void test_messages_name_the_final_path(void **state) {
    (void)state;
    char path[PATH_MAX], inner[3 * PATH_MAX];
    kv_error err;
    kv_whole_set set;
    for (int there = 0; there < 2; there++) {
        snprintf(path, sizeof path, "%s/set-%d", test_dir, there);
        if (there) make_old(path);
        assert_int_equal(kv_whole_set_begin(&set, path, &err), KV_OK);
        snprintf(inner, sizeof inner, "%s/none/a", set.staged.path);
        kv_fail(&err, KV_ERR_IO, "%s: cannot write %s", inner, inner);
        assert_int_equal(kv_whole_set_end(&set, NULL, 0, KV_ERR_IO, &err), KV_ERR_IO);
        snprintf(inner, sizeof inner, "%s/none/a: cannot write %s/none/a", path, path);
        assert_string_equal(err.message, inner);
        int *const countdowns[] = {&refused_flush, &refused_rename};
        for (int i = 0; i < 2; i++) {
            *countdowns[i] = 1;
            assert_int_equal(write_set(path, &err), KV_ERR_IO);
            *countdowns[i] = 0;
            if (strstr(err.message, ".tmp.")) fail_msg("%s", err.message);
        }
    }
    kv_whole_file file;
    assert_int_equal(kv_whole_file_begin(&file, test_path(test_dir, "file"), &err), KV_OK);
    kv_fail(&err, KV_ERR_FORMAT, "%s: odd", file.path);
    assert_int_equal(kv_whole_file_end(&file, KV_ERR_FORMAT, &err), KV_ERR_FORMAT);
    snprintf(path, sizeof path, "%s: odd", test_path(test_dir, "file"));
    assert_string_equal(err.message, path);
    assert_int_equal(err.code, KV_ERR_FORMAT);
}

// Nor does one about a directory that nothing can be written to: a name that is as long as names can be.
static void test_messages_of_a_beginning(void **state) {
    (void)state;
    kv_error err;
    kv_whole_file whole;
    char name[256], path[PATH_MAX];
    memset(name, 'a', 255);
    name[255] = '\0';
    assert_int_equal(kv_path_join(test_dir, name, path, &err), KV_OK);
    assert_int_equal(kv_whole_dir_begin(&whole, path, &err), KV_ERR_IO);
    if (strstr(err.message, ".tmp.")) fail_msg("%s", err.message);
    assert_int_equal(kv_write_file(path, "x", 1, &err), KV_ERR_IO);
    if (strstr(err.message, ".tmp.")) fail_msg("%s", err.message);
}

// What cannot even be put back is told, and not deleted.
static void test_set_cannot_go_back(void **state) {
    (void)state;
    kv_error err;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/set", test_dir);
    kv_whole_set set;
    make_old(path);
    assert_int_equal(kv_whole_set_begin(&set, path, &err), KV_OK);
    char staged[PATH_MAX];
    snprintf(staged, sizeof staged, "%s", set.staged.path);
    put(test_path(staged, "a"), "new a");
    put(test_path(staged, "b"), "new b");
    put(test_path(staged, "c"), "new c");
    refused_rename = 2;
    refuse_from_then_on = true;
    kv_status status = kv_whole_set_commit(&set, NULL, 0, &err);
    refuse_from_then_on = false;
    refused_rename = 0;
    assert_int_equal(status, KV_ERR_IO);
    assert_non_null(strstr(err.message, staged));
    assert_in_range(test_dir_count(staged), 2, 3); // depending on the order of the directory
}

static void test_set_refuses_what_is_no_file(void **state) {
    (void)state;
    kv_error err;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/set", test_dir);
    make_old(path);
    assert_int_equal(mkdir(test_path(path, "b"), 0777), 0);
    assert_int_equal(write_set(path, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "set/b: is a directory"));
    assert_int_equal(rmdir(test_path(path, "b")), 0);
    assert_old(path);
    assert_int_equal(kv_remove_tree(test_path(path, "stale"), NULL), KV_OK);
    assert_int_equal(mkdir(test_path(path, "stale"), 0777), 0);
    assert_int_equal(write_set(path, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "set/stale: is a directory"));
    assert_content(test_path(path, "a"), "old a");
    assert_int_equal(test_dir_count(path), 4);
    put(test_path(test_dir, "file"), "x");
    kv_whole_set set;
    assert_int_equal(kv_whole_set_begin(&set, test_path(test_dir, "file"), &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "not a directory"));
    kv_whole_set_abandon(&set);
}

static void test_set_follows_a_symbolic_link(void **state) {
    (void)state;
    kv_error err;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/set", test_dir);
    make_old(path);
    assert_int_equal(rename(test_path(path, "a"), test_path(test_dir, "elsewhere")), 0);
    assert_int_equal(symlink("../elsewhere", test_path(path, "a")), 0);
    assert_int_equal(write_set(path, &err), KV_OK);
    assert_new(path, true);
    assert_content(test_path(test_dir, "elsewhere"), "new a");
}

static bool write_number(void *context, int index, FILE *file) {
    const int *failing = context;
    fprintf(file, "number %d", index);
    return index != *failing;
}

static void test_set_of_a_function(void **state) {
    (void)state;
    static const char *const names[] = {"one", "two"};
    kv_error err;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/set", test_dir);
    for (int failing = 0; failing <= 2; failing++) {
        const kv_status status = kv_whole_set_write(path, names, 2, write_number, &failing, &err);
        assert_int_equal(status, failing < 2 ? KV_ERR_IO : KV_OK);
        assert_int_equal(test_dir_count(path), failing < 2 ? -1 : 2);
        if (failing < 2) assert_non_null(strstr(err.message, test_path(path, names[failing])));
    }
    assert_content(test_path(path, "one"), "number 0");
    assert_content(test_path(path, "two"), "number 1");
    int none = -1;
    refuse_exchange = true;
    refused_rename = 4; // the first of the second file's three
    const kv_status status = kv_whole_set_write(path, names, 2, write_number, &none, &err);
    refuse_exchange = false;
    assert_int_equal(status, KV_ERR_IO);
    assert_int_equal(test_dir_count(path), 2);
}

static void test_symbolic_link_is_followed(void **state) {
    (void)state;
    kv_error err;
    put(test_path(test_dir, "target"), "old");
    assert_int_equal(symlink("target", test_path(test_dir, "link")), 0);
    assert_int_equal(kv_write_file(test_path(test_dir, "link"), "new", 3, &err), KV_OK);
    assert_content(test_path(test_dir, "target"), "new");
    assert_int_equal(mkdir(test_path(test_dir, "real"), 0777), 0);
    assert_int_equal(symlink("real", test_path(test_dir, "dirlink")), 0);
    commit_dir(test_path(test_dir, "dirlink"), "a", "first");
    assert_content(test_path(test_dir, "real/a"), "first");
}

static void test_refused_names(void **state) {
    (void)state;
    kv_error err;
    kv_whole_file whole;
    char too_long[PATH_MAX + 1];
    memset(too_long, 'a', PATH_MAX);
    too_long[PATH_MAX] = '\0';
    put(test_path(test_dir, "file"), "old");
    const char *bad[] = {"", "/", ".", "..", "a/..", too_long, test_path(test_dir, "file/below")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_not_equal(kv_whole_file_begin(&whole, bad[i], &err), KV_OK);
        assert_int_not_equal(kv_whole_dir_begin(&whole, bad[i], &err), KV_OK);
        assert_false(whole.active);
    }
    // Renaming a file onto these would destroy them.
    assert_int_equal(kv_write_file("/dev/null", "x", 1, &err), KV_ERR_IO);
    assert_int_equal(kv_write_file(test_dir, "x", 1, &err), KV_ERR_IO);
    assert_int_equal(kv_whole_dir_begin(&whole, test_path(test_dir, "file"), &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "not a directory"));
    assert_int_equal(test_dir_count(test_dir), 1);
}

static void test_remove_tree(void **state) {
    (void)state;
    kv_error err;
    assert_int_equal(kv_make_dirs(test_path(test_dir, "a/b/c"), &err), KV_OK);
    assert_int_equal(kv_make_dirs(test_path(test_dir, "a/b/c/"), &err), KV_OK);
    put(test_path(test_dir, "a/b/file"), "x");
    assert_int_equal(kv_make_dirs(test_path(test_dir, "kept"), &err), KV_OK);
    put(test_path(test_dir, "kept/file"), "x");
    assert_int_equal(symlink("../kept", test_path(test_dir, "a/link")), 0);
    assert_int_equal(kv_remove_tree(test_path(test_dir, "a"), &err), KV_OK);
    assert_int_equal(kv_remove_tree(test_path(test_dir, "a"), &err), KV_OK);
    assert_int_equal(test_dir_count(test_dir), 1);
    assert_content(test_path(test_dir, "kept/file"), "x");
}

static void test_read_file(void **state) {
    (void)state;
    kv_error err;
    char *content;
    size_t size;
    assert_int_equal(kv_read_file(test_path(test_dir, "absent"), 10, &content, &size, &err), KV_ERR_IO);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(kv_read_file(test_dir, 10, &content, &size, &err), KV_ERR_IO);
    put(test_path(test_dir, "file"), "0123456789");
    assert_int_equal(kv_read_file(test_path(test_dir, "file"), 9, &content, &size, &err), KV_ERR_FORMAT);
    assert_null(content);
    assert_int_equal(kv_read_file(test_path(test_dir, "file"), 10, &content, &size, &err), KV_OK);
    assert_int_equal(size, 10);
    free(content);
}

static void test_read_gzip(void **state) {
    (void)state;
    kv_error err;
    char *content, *text = test_alloc(300001, 1);
    size_t size;
    for (int i = 0; i < 300000; i++) text[i] = (char)('a' + test_below(1, i, 26));
    gzFile stream = gzopen(test_path(test_dir, "file.gz"), "wb");
    assert_int_equal(gzwrite(stream, text, 300000), 300000);
    assert_int_equal(gzclose(stream), Z_OK);
    assert_content(test_path(test_dir, "file.gz"), text);
    assert_int_equal(kv_read_file(test_path(test_dir, "file.gz"), 299999, &content, &size, &err),
                     KV_ERR_FORMAT);
    struct stat info;
    assert_int_equal(stat(test_path(test_dir, "file.gz"), &info), 0);
    for (int cut = 1; cut <= 4; cut++) {
        assert_int_equal(truncate(test_path(test_dir, "file.gz"), info.st_size * (5 - cut) / 5), 0);
        assert_int_equal(kv_read_file(test_path(test_dir, "file.gz"), 1 << 20, &content, &size, &err),
                         KV_ERR_FORMAT);
        assert_non_null(strstr(err.message, "gzip"));
    }
    free(text);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, test_dir_set_up, test_dir_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_file_replaces_and_leaves_nothing),
        TEST(test_abandon),
        TEST(test_full_disk),
        TEST(test_flush_fails),
        TEST(test_dir_replaces),
        TEST(test_dir_abandoned),
        TEST(test_set),
        TEST(test_set_all_or_none),
        TEST(test_messages_name_the_final_path),
        TEST(test_messages_of_a_beginning),
        TEST(test_set_cannot_go_back),
        TEST(test_set_refuses_what_is_no_file),
        TEST(test_set_follows_a_symbolic_link),
        TEST(test_set_of_a_function),
        TEST(test_symbolic_link_is_followed),
        TEST(test_refused_names),
        TEST(test_remove_tree),
        TEST(test_read_file),
        TEST(test_read_gzip),
    };
    return cmocka_run_group_tests_name("whole_file", tests, NULL, NULL);
}
