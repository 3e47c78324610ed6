// Frozen weights are in memory once a node: the same bits on all ranks, read by all, made by one. Ranks are this program again,
// under a launcher, with the name of what they are to do; what they find is gathered, and printed by rank 0.
#include "core/gemm/packed.h"
#include "data/checkpoint/shared.h"
#include "data/ranks/pages.h"
#include "data/ranks/ranks.h"
#include "tests/support/launch.h"
#include "tests/support/shell.h"
#include "tests/support/tiny.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RANKS = 4, MAX_PARAMS = 64 };

// Some megabytes, so that there are huge pages and what is beside them; layers differ.
static kv_model_spec large_spec(void) {
    kv_model_spec spec = tiny_base();
    spec.vocab_size = 6000, spec.model_dim = 448;
    return spec;
}

// ---- What a rank sees ----------------------------------------------------------------------------------

struct seen {
    char fingerprint[24], of_weights[24];
    int64_t calls; // of the function that makes the model
    int64_t bytes, in_panels, pages;
    int64_t rss, pss, own; // of the mapping, in kB
    int64_t harmed;        // by a write to a weight
};

// The sums over the parts of the mapping, which writing may have left with rights of their own.
static void look_at_mapping(struct seen *seen) {
    char line[512], rights[8];
    bool inside = false;
    FILE *maps = fopen("/proc/self/smaps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long begin, end;
        long long kb;
        if (sscanf(line, "%lx-%lx %7s", &begin, &end, rights) == 3) inside = strstr(line, "kv_pages") != NULL;
        if (!inside) continue;
        if (sscanf(line, "Rss: %lld", &kb) == 1) seen->rss += kb;
        if (sscanf(line, "Pss: %lld", &kb) == 1) seen->pss += kb;
        if (sscanf(line, "Private_Clean: %lld", &kb) == 1) seen->own += kb;
        if (sscanf(line, "Private_Dirty: %lld", &kb) == 1) seen->own += kb;
    }
    if (maps) fclose(maps);
}

// A process of its own tries, and is ended by it where memory is shared; where it is not, it writes to a copy.
static bool write_harms(kv_model *model) {
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile char *)model->layers[1].up.data = 1;
        _exit(0);
    }
    waitpid(child, &status, 0);
    return !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV;
}

static void look_at(kv_model *model, struct seen *seen) {
    kv_param *params[MAX_PARAMS];
    const int64_t n = kv_model_params(model, params);
    kv_checkpoint_fingerprint(model, seen->of_weights);
    for (int64_t i = 0; i < n; i++) {
        seen->bytes += kv_param_size(params[i]) * (int64_t)kv_dtype_size(params[i]->dtype);
        seen->in_panels += params[i]->layout == KV_IN_PANELS;
    }
    seen->pages = kv_pages_bytes();
    kv_ranks_barrier(); // all have read all weights
    look_at_mapping(seen);
    kv_ranks_barrier();
    seen->harmed = write_harms(model);
}

// ---- What ranks do -------------------------------------------------------------------------------------

struct maker {
    const char *what;
    int64_t calls;
};

static bool is(const struct maker *maker, const char *what) {
    return strcmp(maker->what, what) == 0;
}

// Views of the files in the working directory, or random weights in bf16.
static kv_status make(void *context, kv_model **model, char *fingerprint, kv_error *err) {
    struct maker *maker = context;
    const kv_model_spec spec = large_spec();
    const int breaks = is(maker, "first fails") ? 0 : is(maker, "last fails") ? kv_n_ranks() - 1 : -1;
    maker->calls++;
    *model = NULL;
    if (breaks == kv_rank()) return kv_fail(err, KV_ERR_IO, "model: there is none");
    kv_status status = KV_OK;
    if (is(maker, "views") || is(maker, "last fails")) {
        status = kv_checkpoint_load("model", model, err);
    } else {
        status = kv_model_create(&spec, KV_BF16, true, model, err);
        if (status == KV_OK) kv_model_fill_random(*model, 7, NULL, 0);
    }
    if (status == KV_OK && fingerprint) kv_checkpoint_fingerprint(*model, fingerprint);
    if (status != KV_OK || !is(maker, "looked at")) return status;
    kv_model_free(*model);
    *model = NULL;
    return KV_OK;
}

// The limit is taken back, as clang's OpenMP cannot end without a descriptor; nor can it begin, which is done before.
static kv_status hold_without_descriptors(const kv_model_spec *spec, struct maker *maker, kv_model **model,
                                          struct seen *seen, kv_error *err) {
    struct rlimit before, none;
    if (getrlimit(RLIMIT_NOFILE, &before) != 0) return KV_ERR_IO;
    none = before;
    none.rlim_cur = 0;
#pragma omp parallel
    (void)0;
    setrlimit(RLIMIT_NOFILE, &none);
    const kv_status status = kv_share_frozen(spec, "model", make, maker, model, seen->fingerprint, err);
    setrlimit(RLIMIT_NOFILE, &before);
    return status;
}

static kv_status hold(struct maker *maker, kv_model **model, struct seen *seen, kv_error *err) {
    kv_model_spec spec = large_spec();
    // A view of what is in the file, brought into panels; and widened, then packed where it lies.
    if (is(maker, "packed"))
        return kv_checkpoint_load_shared("model", NULL, KV_FROZEN_STORED, model, seen->fingerprint, err);
    if (is(maker, "narrowed"))
        return kv_checkpoint_load_shared("model", NULL, KV_FROZEN_BF16, model, seen->fingerprint, err);
    if (is(maker, "apart") && kv_rank() == 1) return hold_without_descriptors(&spec, maker, model, seen, err);
    if (is(maker, "small files")) {
        const struct rlimit few = {.rlim_cur = 4096, .rlim_max = 4096};
        setrlimit(RLIMIT_FSIZE, &few);
    }
    if (is(maker, "elsewhere")) { // the same name, of others' weights on the second rank
        if (kv_rank() == 1 && chdir("other")) return KV_ERR_IO;
        return kv_checkpoint_load_shared("model", NULL, KV_FROZEN_BF16, model, seen->fingerprint, err);
    }
    if (is(maker, "wider") && kv_rank() == 1) spec.vocab_size += 16;
    return kv_share_frozen(&spec, "model", make, maker, model, seen->fingerprint, err);
}

static int run_rank(const char *what) {
    kv_error err = {0};
    struct maker maker = {.what = what};
    struct seen mine = {0}, all[MAX_RANKS];
    kv_model *model = NULL;
    kv_status status = kv_ranks_start(&err);
    if (status == KV_OK) status = hold(&maker, &model, &mine, &err);
    if (status != KV_OK) {
        printf("%d: %s\n", (int)status, err.message);
        return kv_ranks_end(0); // launchers take their time where something failed
    }
    mine.calls = maker.calls;
    if (model) look_at(model, &mine);
    kv_ranks_gather(&mine, sizeof mine, all);
    for (int r = 0; r < kv_n_ranks(); r++)
        printf("%s %s %lld %lld %lld %lld %lld %lld %lld %lld\n", all[r].fingerprint,
               *all[r].of_weights ? all[r].of_weights : "-", (long long)all[r].calls, (long long)all[r].bytes,
               (long long)all[r].in_panels, (long long)all[r].pages, (long long)all[r].rss,
               (long long)all[r].pss, (long long)all[r].own, (long long)all[r].harmed);
    kv_model_free(model);
    printf("%lld left\n", (long long)kv_pages_bytes());
    return kv_ranks_end(0);
}

// ---- Tests ---------------------------------------------------------------------------------------------

static struct seen seen[MAX_RANKS];
static char self[512];

static const char *under(int kind, int n, const char *what) {
    static char command[2048];
    snprintf(command, sizeof command, "LD_LIBRARY_PATH=$(dirname $K):$LD_LIBRARY_PATH %s '%s' '%s'",
             launch_with(kind, n), self, what);
    return command;
}

static void run(int kind, int n, const char *what) {
    const char *line = shell_out;
    shell_succeed(under(kind, n, what));
    for (int r = 0; r < n; r++) {
        struct seen *s = &seen[r];
        long long x[8];
        assert_int_equal(sscanf(line, "%23s %23s %lld %lld %lld %lld %lld %lld %lld %lld", s->fingerprint,
                                s->of_weights, &x[0], &x[1], &x[2], &x[3], &x[4], &x[5], &x[6], &x[7]),
                         10);
        s->calls = x[0], s->bytes = x[1], s->in_panels = x[2], s->pages = x[3];
        s->rss = x[4], s->pss = x[5], s->own = x[6], s->harmed = x[7];
        line = strchr(line, '\n') + 1;
    }
    assert_string_equal(line, "0 left\n");
}

// The weights are what a model alone has.
static void expect_weights(int n, kv_model *model) {
    char expected[17];
    kv_checkpoint_fingerprint(model, expected);
    for (int r = 0; r < n; r++) assert_string_equal(seen[r].of_weights, expected);
}

static void expect_fingerprint(int n, const char *expected) {
    for (int r = 0; r < n; r++) assert_string_equal(seen[r].fingerprint, expected);
}

// Pages are counted by the kernel: each that is in memory for n processes counts 1/n for each, so that over all processes
// they sum up to what is in memory. A rounding of 1 kB a mapping; huge pages may have a tail that nobody has touched.
static void expect_shared(int n) {
    int64_t pss = 0;
    for (int r = 0; r < n; r++) {
        assert_in_range(seen[r].pages, seen[r].bytes, seen[r].bytes + (2 << 20) + (1 << 16));
        assert_true(1024 * seen[r].rss >= seen[r].bytes);
        assert_int_equal(seen[r].own, 0);
        assert_int_equal(seen[r].harmed, 0);
        pss += seen[r].pss;
    }
    assert_true(1024 * pss >= seen[0].bytes - 1024 * n);
    assert_true((double)(1024 * pss) < 1.5 * (double)seen[0].bytes);
}

static void expect_apart(int n) {
    for (int r = 0; r < n; r++) {
        assert_int_equal(seen[r].pages, 0);
        assert_int_equal(seen[r].rss, 0);
    }
}

static kv_model *random_model(void) {
    const kv_model_spec spec = large_spec();
    kv_error err = {0};
    kv_model *model;
    if (kv_model_create(&spec, KV_BF16, true, &model, &err)) fail_msg("%s", err.message);
    kv_model_fill_random(model, 7, NULL, 0);
    return model;
}

// Of random weights, which no file holds: one rank makes them.
static void test_own_weights_are_there_once(void **state) {
    (void)state;
    char expected[17];
    launch_or_skip();
    kv_model *model = random_model();
    kv_checkpoint_fingerprint(model, expected);
    for (int kind = 0; kind < launch_n_kinds(); kind++) {
        run(kind, 3, "random");
        expect_weights(3, model);
        expect_fingerprint(3, expected);
        expect_shared(3);
        for (int r = 0; r < 3; r++) assert_int_equal(seen[r].calls, r == 0);
    }
    kv_model_free(model);
}

static void expect_like(int n, kv_frozen_dtype dtype) {
    kv_error err = {0};
    kv_model *model;
    kv_param *params[MAX_PARAMS];
    char fingerprint[17];
    int64_t packed = 0;
    if (kv_checkpoint_load_frozen(test_path(test_dir, "model"), NULL, dtype, &model, fingerprint, &err))
        fail_msg("%s", err.message);
    const int64_t n_params = kv_model_params(model, params);
    for (int64_t i = 0; i < n_params; i++) packed += params[i]->layout == KV_IN_PANELS;
    assert_true(packed > 0);
    for (int r = 0; r < n; r++) assert_int_equal(seen[r].in_panels, packed);
    expect_weights(n, model);
    expect_fingerprint(n, fingerprint);
    expect_shared(n);
    kv_model_free(model);
}

static void test_packed_and_converted_weights_are_there_once(void **state) {
    (void)state;
    launch_or_skip();
    run(0, 2, "packed");
    expect_like(2, KV_FROZEN_STORED);
    run(0, 4, "narrowed");
    expect_like(4, KV_FROZEN_BF16);
}

static void test_views_of_a_file_stay_views(void **state) {
    (void)state;
    launch_or_skip();
    run(0, 2, "views");
    expect_apart(2);
    assert_string_equal(seen[0].of_weights, seen[1].of_weights);
    for (int r = 0; r < 2; r++) assert_int_equal(seen[r].calls, 1);
}

static void test_what_is_only_looked_at_is_looked_at_once(void **state) {
    (void)state;
    char expected[17];
    launch_or_skip();
    kv_model *model = random_model();
    kv_checkpoint_fingerprint(model, expected);
    kv_model_free(model);
    run(0, 2, "looked at");
    expect_fingerprint(2, expected);
    for (int r = 0; r < 2; r++) assert_string_equal(seen[r].of_weights, "-");
}

// One of them has no file descriptor left; or no file may be as large. Then each has its copy, which is said once.
static void test_where_nothing_can_be_shared_each_has_a_copy(void **state) {
    (void)state;
    static const char words[] = "warning: model: 3 ranks have a copy of its weights each";
    launch_or_skip();
    kv_model *model = random_model();
    for (int i = 0; i < 2; i++) {
        run(0, 3, i ? "small files" : "apart");
        expect_apart(3);
        expect_weights(3, model);
        for (int r = 0; r < 3; r++) assert_int_equal(seen[r].calls, 1);
        const char *said = strstr(shell_err, words);
        assert_non_null(said);
        assert_null(strstr(said + 1, words));
    }
    kv_model_free(model);
}

static void test_a_failure_is_everybodys(void **state) {
    (void)state;
    launch_or_skip();
    for (int i = 0; i < 2; i++) {
        char expected[512];
        shell_succeed(under(0, 3, i ? "last fails" : "first fails"));
        snprintf(expected, sizeof expected, "%d: rank %d (%s): model: there is none\n", KV_ERR_IO, 2 * i,
                 kv_rank_host(0));
        assert_string_equal(shell_out, expected);
    }
}

// That it differs is found by whoever compares fingerprints; it is not covered up.
static void test_ranks_have_what_they_name(void **state) {
    (void)state;
    launch_or_skip();
    run(0, 3, "elsewhere");
    assert_string_equal(seen[0].of_weights, seen[2].of_weights);
    assert_string_equal(seen[0].fingerprint, seen[2].fingerprint);
    assert_string_not_equal(seen[0].of_weights, seen[1].of_weights);
    assert_string_not_equal(seen[0].fingerprint, seen[1].fingerprint);
    assert_true(seen[0].pages > 0 && seen[2].pages > 0 && seen[1].pages == 0);
}

// Not what lies there read as another model.
static void test_another_shape_is_refused(void **state) {
    (void)state;
    char expected[512];
    launch_or_skip();
    shell_succeed(under(0, 2, "wider"));
    snprintf(expected, sizeof expected, "%d: rank 1 (%s): model: has another shape here", KV_ERR_MISMATCH,
             kv_rank_host(0));
    shell_printed(expected);
}

// Nothing is shared, nothing is copied.
static void test_alone_it_is_what_was_made(void **state) {
    (void)state;
    kv_error err = {0};
    struct maker maker = {.what = "random"};
    const kv_model_spec spec = large_spec();
    kv_model *model;
    char fingerprint[17];
    assert_int_equal(kv_share_frozen(&spec, "model", make, &maker, &model, fingerprint, &err), KV_OK);
    assert_int_equal(maker.calls, 1);
    assert_true(model->release == free);
    assert_int_equal(kv_pages_bytes(), 0);
    assert_null(kv_pages_create(4096));
    kv_model_free(model);
}

static int set_up(void **state) {
    (void)state;
    kv_error err = {0};
    kv_model *model;
    const kv_model_spec spec = large_spec();
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    shell_set_up();
    if (n <= 0 || kv_model_create(&spec, KV_F32, true, &model, &err)) return -1;
    kv_model_fill_random(model, 3, NULL, 0);
    if (shell("mkdir model") || kv_checkpoint_save(test_path(test_dir, "model"), model, &err)) return -1;
    kv_model_fill_random(model, 4, NULL, 0);
    if (shell("mkdir -p other/model") || kv_checkpoint_save(test_path(test_dir, "other/model"), model, &err))
        return -1;
    kv_model_free(model);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 2) return run_rank(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_weights_are_there_once),
        cmocka_unit_test(test_packed_and_converted_weights_are_there_once),
        cmocka_unit_test(test_views_of_a_file_stay_views),
        cmocka_unit_test(test_what_is_only_looked_at_is_looked_at_once),
        cmocka_unit_test(test_where_nothing_can_be_shared_each_has_a_copy),
        cmocka_unit_test(test_a_failure_is_everybodys),
        cmocka_unit_test(test_ranks_have_what_they_name),
        cmocka_unit_test(test_another_shape_is_refused),
        cmocka_unit_test(test_alone_it_is_what_was_made),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
