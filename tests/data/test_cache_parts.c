// Cache files in the making: what is done is kept and gone on with, wherever it was stopped, and the file is the same to the
// byte; what is damaged or of something else is not taken for a part of it.
#include "data/cache/build.h"
#include "data/corpus/packing.h"
#include "data/file/content.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <fcntl.h>
#include <limits.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// 40 documents of 5 to 16 tokens: 59 rows, and some tokens left over.
enum { SEQ_LEN = 7, N_DOCUMENTS = 40, N_SEQ = 3, TOP_K = 5 };

static struct {
    kv_shard *shard;
    tiny_pair pair;
    kv_cache_info info;
    kv_key_norms norms;
    int64_t n_rows;
    kv_cache_build_args args;
} f;

static int set_up(void **state) {
    if (test_dir_set_up(state)) return -1;
    const char *path = test_path(test_dir, "shard.h5");
    const kv_shard_info info = {
        .tokenizer = "0123456789abcdef", .vocab_size = 61, .bos_id = -1, .eos_id = -1};
    kv_shard_writer *writer;
    int32_t ids[16];
    assert_int_equal(kv_shard_writer_open(path, &info, &writer, NULL), KV_OK);
    for (int64_t i = 0; i < N_DOCUMENTS; i++) {
        tiny_ids(ids, 16, 61, (uint64_t)i);
        assert_int_equal(kv_shard_writer_add(writer, ids, 5 + i % 12, NULL), KV_OK);
    }
    assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
    kv_shard_writer_free(writer);
    assert_int_equal(kv_shard_open(path, &f.shard, NULL), KV_OK);
    f.pair = tiny_pair_make();
    f.info = (kv_cache_info){.dtype = KV_BF16, .seq_len = SEQ_LEN, .top_k = TOP_K};
    strcpy(f.info.tokenizer, f.shard->info.tokenizer);
    strcpy(f.info.source, "shard.h5");
    f.info.base.spec = f.pair.base->spec;
    f.info.aux.spec = f.pair.aux->spec;
    strcpy(f.info.base.fingerprint, "00000000000000ba");
    strcpy(f.info.aux.fingerprint, "00000000000000a0");
    f.info.n_rows = f.n_rows = kv_packed_rows(f.shard->n_tokens, SEQ_LEN);
    strcpy(f.info.shard, f.shard->hash);
    kv_model_key_norms(f.pair.base, &f.norms);
    f.args = (kv_cache_build_args){.base = f.pair.base, .aux = f.pair.aux, .n_seq = N_SEQ, .seconds = 1e9};
    return 0;
}

static int tear_down(void **state) {
    kv_shard_free(f.shard);
    tiny_pair_free(&f.pair);
    return test_dir_tear_down(state);
}

static void succeed(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

static void build(const char *path, const kv_cache_build_args *args) {
    kv_error err = {0};
    succeed(kv_cache_build(path, f.shard, &f.info, args, &err), &err);
}

static void build_rows(const char *path, int64_t first, int64_t n) {
    kv_error err = {0};
    succeed(kv_cache_build_rows(path, f.shard, &f.info, (kv_cache_range){first, n}, &f.args, &err), &err);
}

// The file made in one go, which others are compared with.
static const char *whole(void) {
    const char *path = test_path(test_dir, "whole.h5");
    if (access(path, F_OK) != 0) build(path, &f.args);
    return path;
}

static void is_whole(const char *path) {
    char *a, *b;
    size_t n, m;
    kv_error err = {0};
    char dir[PATH_MAX];
    succeed(kv_read_file(path, 1 << 26, &a, &n, &err), &err);
    succeed(kv_read_file(whole(), 1 << 26, &b, &m, &err), &err);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
    assert_int_equal(kv_cache_parts_dir(path, dir, NULL), KV_OK);
    assert_int_equal(test_dir_count(dir), -1);
}

static int64_t n_parts(const char *path) {
    kv_cache_range *parts;
    int64_t n;
    assert_int_equal(kv_cache_parts_list(path, &parts, &n, NULL), KV_OK);
    free(parts);
    return n;
}

// Rows in parts, all of which have to be sound.
static int64_t rows_kept(const char *path) {
    kv_cache_range *parts;
    int64_t n, rows = 0;
    kv_error err = {0};
    succeed(kv_cache_parts_list(path, &parts, &n, &err), &err);
    for (int64_t p = 0; p < n; p++) {
        succeed(kv_cache_part_check(path, &f.info, &parts[p], &err), &err);
        succeed(kv_cache_part_verify(path, parts[p].first, &err), &err);
        rows += parts[p].n;
    }
    free(parts);
    return rows;
}

// ---- The same file -------------------------------------------------------------------------------------

static void however_rows_are_cut_into_parts(void **state) {
    (void)state;
    kv_cache_build_args each = f.args;
    each.seconds = 0;
    const char *path = test_path(test_dir, "each.h5");
    build(path, &each);
    is_whole(path);
    // Rows in any order, as several processes make them.
    path = test_path(test_dir, "pieces.h5");
    build_rows(path, 30, 12);
    build_rows(path, 42, f.n_rows - 42);
    build_rows(path, 0, 3);
    assert_int_equal(n_parts(path), 3);
    build(path, &each);
    is_whole(path);
}

static int64_t stop_at;
static kv_status stop(void *context, int64_t n_rows, int64_t bytes, kv_error *err) {
    (void)context;
    assert_true(bytes > 0);
    return n_rows < stop_at ? KV_OK : kv_fail(err, KV_ERR_INTERRUPTED, "enough");
}

static void stopped_and_gone_on_with(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "stopped.h5");
    kv_cache_build_args args = f.args;
    kv_error err = {0};
    args.progress = stop;
    int64_t rows = 0;
    for (stop_at = 3;; stop_at += 4) {
        const kv_status status = kv_cache_build(path, f.shard, &f.info, &args, &err);
        if (status == KV_OK) break;
        assert_int_equal(status, KV_ERR_INTERRUPTED);
        assert_int_equal(access(path, F_OK), -1);
        rows += (stop_at + N_SEQ - 1) / N_SEQ * N_SEQ;
        assert_int_equal(rows_kept(path), rows);
    }
    assert_true(rows > 0 && rows < f.n_rows);
    is_whole(path);
}

// While the file is put together as well: what is then half written is not the file, and the parts are still there.
static kv_status die(void *context, int64_t n_rows, kv_error *err) {
    (void)context;
    if (n_rows < stop_at) return KV_OK;
    (void)err;
    _exit(7);
}

static void killed_while_it_is_put_together(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "joined.h5");
    build_rows(path, 0, 24);
    build_rows(path, 24, f.n_rows - 24);
    for (stop_at = 1; stop_at < f.n_rows; stop_at += 29) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            kv_cache_join(path, &f.info, &f.norms, die, NULL, NULL);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), 7);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(n_parts(path), 2);
    }
    build(path, &f.args);
    is_whole(path);
}

// At any moment: while rows are made, while a part is committed, while the file is put together.
static void killed_at_many_moments(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "killed.h5");
    kv_cache_build_args each = f.args;
    int64_t kept = 0;
    int killed = 0;
    each.seconds = 0;
    omp_set_num_threads(1); // a child has none of its parent's others
    whole();                // what children need is made
    for (int i = 0; i < 400 && access(path, F_OK) != 0; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) _exit(kv_cache_build(path, f.shard, &f.info, &each, NULL) != KV_OK);
        int status;
        usleep((useconds_t)test_below(7, i, 4000));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        killed += WIFSIGNALED(status);
        if (access(path, F_OK) == 0) break;
        // Nothing is lost of what was there, and all of it is sound.
        const int64_t rows = rows_kept(path);
        assert_true(rows >= kept);
        kept = rows;
    }
    assert_true(killed > 5);
    if (access(path, F_OK) != 0) build(path, &each);
    kv_error err = {0};
    succeed(kv_cache_parts_tidy(path, true, &err), &err); // a kill between the file and its parts
    is_whole(path);
}

static void rows_that_are_missing(void **state) {
    (void)state;
    kv_error err = {0};
    const char *path = test_path(test_dir, "gap.h5");
    build_rows(path, 0, 6);
    assert_int_equal(kv_cache_join(path, &f.info, &f.norms, NULL, NULL, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "gap.h5: row 7 is in no part of it"));
    build_rows(path, 9, 3);
    assert_int_equal(kv_cache_join(path, &f.info, &f.norms, NULL, NULL, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "gap.h5: row 7 is in no part of it"));
    assert_int_equal(n_parts(path), 2);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(kv_cache_parts_tidy(path, true, &err), KV_OK);

    static const kv_cache_range parts[] = {{2, 3}, {5, 1}, {8, 2}};
    static const kv_cache_range expected[] = {{0, 2}, {6, 2}, {10, 1}};
    kv_cache_range *missing;
    int64_t n;
    assert_int_equal(kv_cache_parts_missing(parts, 3, 11, &missing, &n, &err), KV_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(missing, expected, sizeof expected);
    free(missing);
    assert_int_equal(kv_cache_parts_missing(parts, 0, 4, &missing, &n, &err), KV_OK);
    assert_true(n == 1 && missing[0].first == 0 && missing[0].n == 4);
    free(missing);
}

// ---- What is no part of it -----------------------------------------------------------------------------

static kv_status check(const char *path, int64_t first, const kv_cache_info *info, kv_error *err) {
    kv_cache_range part = {first, 0};
    return kv_cache_part_check(path, info, &part, err);
}

static void of_something_else(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "other.h5");
    char part[PATH_MAX], moved[PATH_MAX];
    kv_error err = {0};
    build_rows(path, 3, 6);
    kv_cache_range found = {3, 0};
    succeed(kv_cache_part_check(path, &f.info, &found, &err), &err);
    assert_int_equal(found.n, 6);
    kv_cache_info other = f.info;
    strcpy(other.base.fingerprint, "00000000000000bb");
    assert_int_equal(check(path, 3, &other, &err), KV_ERR_MISMATCH);
    other = f.info, other.top_k = 4;
    assert_int_equal(check(path, 3, &other, &err), KV_ERR_MISMATCH);
    other = f.info, other.shard[0] ^= 1;
    assert_int_equal(check(path, 3, &other, &err), KV_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "made of a shard of content "));
    // Rows that stand elsewhere than they say, or behind the last.
    assert_int_equal(kv_cache_part_path(path, 3, part, NULL), KV_OK);
    assert_int_equal(kv_cache_part_path(path, 6, moved, NULL), KV_OK);
    assert_int_equal(rename(part, moved), 0);
    assert_int_equal(check(path, 6, &f.info, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "6 rows from row 3 on"));
    assert_int_equal(rename(moved, part), 0);
    other = f.info, other.n_rows = 8;
    assert_int_equal(check(path, 3, &other, &err), KV_ERR_FORMAT);
    assert_int_equal(kv_cache_join(path, &f.info, &f.norms, NULL, NULL, &err), KV_ERR_FORMAT);
}

// A damaged byte anywhere is found, or does no harm: nothing that was read differs.
static void damaged(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "damaged.h5");
    char part[PATH_MAX];
    kv_error err = {0};
    build_rows(path, 0, 6);
    assert_int_equal(kv_cache_part_path(path, 0, part, NULL), KV_OK);
    succeed(kv_cache_part_verify(path, 0, &err), &err);
    struct stat info;
    assert_int_equal(stat(part, &info), 0);
    int64_t noticed = 0, tried = 0;
    const int fd = open(part, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (off_t at = info.st_size / 2; at < info.st_size; at += info.st_size / 60 + 1, tried++) {
        unsigned char byte, spoiled;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        spoiled = (unsigned char)(byte ^ 0x10);
        assert_int_equal(pwrite(fd, &spoiled, 1, at), 1);
        noticed += check(path, 0, &f.info, &err) != KV_OK || kv_cache_part_verify(path, 0, &err) != KV_OK;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
    if (noticed < tried / 8)
        fail_msg("%d of %d noticed", (int)noticed, (int)tried); // the rest is unused room
    // A tail that is cut off.
    for (off_t size = info.st_size - 1; size > 0; size = size * 2 / 3) {
        assert_int_equal(truncate(part, size), 0);
        assert_int_equal(check(path, 0, &f.info, &err), KV_ERR_FORMAT);
    }
    assert_int_equal(kv_cache_parts_tidy(path, true, &err), KV_OK);
}

// What a killed program leaves half written is removed, what is not ours is not.
static void left_by_others(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "tidy.h5");
    char dir[PATH_MAX], name[PATH_MAX + 64];
    kv_error err = {0};
    succeed(kv_cache_parts_tidy(path, true, &err), &err);
    build_rows(path, 0, 6);
    assert_int_equal(kv_cache_parts_dir(path, dir, NULL), KV_OK);
    static const char *const names[] = {"rows-0000000006.h5.tmp.77.1", "rows-6.h5", "notes.txt"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s/%s", dir, names[i]);
        FILE *file = fopen(name, "w");
        assert_non_null(file);
        fclose(file);
    }
    assert_int_equal(n_parts(path), 1);
    succeed(kv_cache_parts_tidy(path, false, &err), &err);
    assert_int_equal(test_dir_count(dir), 3);
    succeed(kv_cache_parts_tidy(path, true, &err), &err);
    assert_int_equal(test_dir_count(dir), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(however_rows_are_cut_into_parts),
        cmocka_unit_test(stopped_and_gone_on_with),
        cmocka_unit_test(killed_while_it_is_put_together),
        cmocka_unit_test(killed_at_many_moments),
        cmocka_unit_test(rows_that_are_missing),
        cmocka_unit_test(of_something_else),
        cmocka_unit_test(damaged),
        cmocka_unit_test(left_by_others),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
