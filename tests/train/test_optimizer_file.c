// The optimiser's file, written and read by one rank to four whose parts are cut in several ways: the same bytes whoever
// writes, every moment where it belongs whoever reads, and failures of one rank that all of them report.
//
// The program starts itself under a launcher: with an argument, the directory, it is one of the ranks.
#include "train/run/optimizer_file.h"

#include "data/file/h5.h"
#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "tests/support/launch.h"
#include "tests/support/support.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_PARAMS = 4, MAX_SPANS = 256, STEP = 17, MAX_RANKS = 4 };

static char program[PATH_MAX];

// ---- An optimiser of which every moment is known -------------------------------------------------------

struct state {
    kv_param param[N_PARAMS], *params[N_PARAMS];
    kv_adamw *optimizer;
};

static float first_moment(int64_t param, int64_t i) {
    return (float)test_value(100 + (uint64_t)param, i);
}

static float second_moment(int64_t param, int64_t i) {
    return (float)test_value(200 + (uint64_t)param, i);
}

// How elements are dealt out: parameters, or buckets of them, are cut into a piece for each rank.
typedef enum cut { EVERYWHERE, PARAMETERS, BUCKETS, LAST_HAS_ALL, GAP, OVERLAP } cut;

static int64_t spans_of(const struct state *s, cut how, kv_param_span *spans) {
    const int64_t n_ranks = kv_n_ranks();
    const int64_t place = n_ranks - 1 - kv_rank(); // nothing says that low ranks come first
    int64_t n = 0;
    for (int64_t p = 0; p < N_PARAMS; p++) {
        const int64_t size = kv_param_size(&s->param[p]), bucket = how == BUCKETS ? 777 : size;
        for (int64_t begin = 0; begin < size && n < MAX_SPANS; begin += bucket) {
            const int64_t length = begin + bucket < size ? bucket : size - begin;
            kv_param_span span = {p, begin + length * place / n_ranks,
                                  begin + length * (place + 1) / n_ranks};
            if (how == LAST_HAS_ALL) span.begin = begin, span.end = begin + (place == 0 ? length : 0);
            if (how == GAP && p == 2 && place == 0) span.end--;
            if (how == OVERLAP && p == 2 && place == 0) span.end++;
            spans[n++] = span;
        }
    }
    return n;
}

static kv_status make_state(struct state *s, cut how, kv_error *err) {
    static const int64_t shapes[N_PARAMS][2] = {{90, 100}, {1, 7}, {101, 73}, {3, 3}};
    static const char *const names[N_PARAMS] = {"table", "a.norm", "a.weight", "b.weight"};
    const kv_adamw_args args = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f};
    kv_param_span spans[MAX_SPANS];
    for (int p = 0; p < N_PARAMS; p++) {
        s->param[p] = test_param(names[p], shapes[p][0], shapes[p][1], KV_F32, true);
        s->params[p] = &s->param[p];
        test_fill(s->param[p].data, kv_param_size(&s->param[p]), (uint64_t)p, 1);
    }
    if (how == EVERYWHERE) return kv_adamw_create(s->params, N_PARAMS, &args, &s->optimizer, err);
    return kv_adamw_create_part(s->params, N_PARAMS, &args, spans, spans_of(s, how, spans), &s->optimizer,
                                err);
}

static void free_state(struct state *s) {
    kv_adamw_free(s->optimizer);
    for (int p = 0; p < N_PARAMS; p++) test_param_free(&s->param[p]);
}

static void fill_moments(kv_adamw *o) {
    o->step = STEP;
    for (int64_t i = 0; i < o->n_spans; i++) {
        const kv_param_span span = o->spans[i];
        for (int64_t k = span.begin; k < span.end; k++) {
            o->m[i][k - span.begin] = first_moment(span.param, k);
            o->v[i][k - span.begin] = second_moment(span.param, k);
        }
    }
}

static bool has_moments(const kv_adamw *o) {
    bool all = o->step == STEP;
    for (int64_t i = 0; i < o->n_spans; i++) {
        const kv_param_span span = o->spans[i];
        for (int64_t k = span.begin; k < span.end; k++)
            all = all && o->m[i][k - span.begin] == first_moment(span.param, k) &&
                  o->v[i][k - span.begin] == second_moment(span.param, k);
    }
    return all;
}

// ---- One of the ranks ----------------------------------------------------------------------------------

static int n_wrong;

static void expect(bool right, const char *what, cut how) {
    if (right) return;
    fprintf(stderr, "rank %d of %d, cut %d: %s\n", kv_rank(), kv_n_ranks(), how, what);
    n_wrong++;
}

// All ranks have failed in the same words.
static void expect_failure(kv_status found, kv_status code, const kv_error *err, const char *words, cut how) {
    kv_error other = {0};
    const bool same = kv_ranks_same("the message", err->message, &other) == KV_OK;
    if (found == code && same && strstr(err->message, words)) return;
    fprintf(stderr, "status %d and `%s`, expected %d and `%s`\n", found, err->message, code, words);
    expect(false, same ? "another failure" : other.message, how);
}

static bool same_bytes(const char *a, const char *b) {
    FILE *x = fopen(a, "rb"), *y = fopen(b, "rb");
    bool same = x && y;
    for (int c = 0; same && c != EOF;) same = (c = getc(x)) == getc(y);
    if (x) fclose(x);
    if (y) fclose(y);
    return same;
}

// Where the file is only rank 0 is told.
static const char *there(const char *path) {
    return kv_rank_leads() ? path : "/nowhere/at/all";
}

static void check_save(cut how) {
    struct state s;
    kv_error err = {0};
    expect(make_state(&s, how, &err) == KV_OK, err.message, how);
    fill_moments(s.optimizer);
    expect(kv_optimizer_save(there("parts.h5"), s.optimizer, &err) == KV_OK, err.message, how);
    expect(has_moments(s.optimizer), "saving has changed moments", how);
    if (kv_rank_leads())
        expect(same_bytes("parts.h5", "whole.h5"), "another file than one process writes", how);
    free_state(&s);
}

static void check_load(cut how) {
    struct state s;
    kv_error err = {0};
    expect(make_state(&s, how, &err) == KV_OK, err.message, how);
    expect(kv_optimizer_load(there("whole.h5"), s.optimizer, &err) == KV_OK, err.message, how);
    expect(has_moments(s.optimizer), "other moments than were saved", how);
    free_state(&s);
}

// room: what a file may grow to on rank 0; negative: anything.
static void refuse_save(cut how, const char *path, int64_t room, kv_status code, const char *words) {
    struct state s;
    kv_error err = {0};
    expect(make_state(&s, how, &err) == KV_OK, err.message, how);
    fill_moments(s.optimizer);
    if (kv_rank_leads()) test_limit_file_size(room);
    const kv_status found = kv_optimizer_save(there(path), s.optimizer, &err);
    if (kv_rank_leads()) test_limit_file_size(-1);
    expect_failure(found, code, &err, words, how);
    free_state(&s);
}

static void refuse_load(cut how, const char *path, int rank_of_other_weights, kv_status code,
                        const char *words) {
    struct state s;
    kv_error err = {0};
    expect(make_state(&s, how, &err) == KV_OK, err.message, how);
    if (kv_rank() == rank_of_other_weights) *(float *)s.param[2].data += 1;
    expect_failure(kv_optimizer_load(there(path), s.optimizer, &err), code, &err, words, how);
    free_state(&s);
}

static void check_failures(cut how) {
    static const char other[] = "found the optimiser's state of weights with";
    char last[32];
    const int64_t room = 60000; // for the first moment or two
    refuse_save(how, "missing/parts.h5", -1, KV_ERR_IO, "missing/parts.h5");
    refuse_save(how, "parts.h5", room, KV_ERR_IO, "parts.h5");
    refuse_load(how, "missing.h5", -1, KV_ERR_IO, "missing.h5");
    refuse_load(how, "short.h5", -1, KV_ERR_FORMAT, "short.h5");
    refuse_load(how, "shapes.h5", -1, KV_ERR_MISMATCH, "shapes.h5: /m/a.weight has another shape");
    refuse_load(how, "whole.h5", 0, KV_ERR_MISMATCH, other);
    if (kv_n_ranks() == 1) return;
    snprintf(last, sizeof last, "rank %d (", kv_n_ranks() - 1);
    refuse_load(how, "whole.h5", kv_n_ranks() - 1, KV_ERR_MISMATCH, last);
    refuse_save(GAP, "parts.h5", -1, KV_ERR_ARGUMENT, "parts hold a.weight up to element");
    refuse_save(OVERLAP, "parts.h5", -1, KV_ERR_ARGUMENT, "parts hold ");
}

static int be_rank(const char *directory) {
    kv_error err = {0};
    if (kv_ranks_start(&err) != KV_OK || chdir(directory) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (cut how = EVERYWHERE; how <= LAST_HAS_ALL; how++) {
        check_save(how);
        check_load(how);
    }
    check_failures(EVERYWHERE);
    if (kv_n_ranks() > 1) check_failures(BUCKETS);
    double wrong = n_wrong;
    kv_ranks_sum(&wrong, 1);
    if (kv_rank_leads()) printf("%d ranks by %s: %g wrong\n", kv_n_ranks(), kv_ranks_library(), wrong);
    return kv_ranks_end(wrong > 0);
}

// ---- The files, and those who start ranks --------------------------------------------------------------

static const char *put_file(const char *name, bool other_shape) {
    struct state s;
    kv_error err = {0};
    const char *path = test_path(test_dir, name);
    assert_int_equal(make_state(&s, EVERYWHERE, &err), KV_OK);
    fill_moments(s.optimizer);
    if (other_shape) s.param[2].rows = 73, s.param[2].cols = 101;
    if (kv_optimizer_save(path, s.optimizer, &err) != KV_OK) fail_msg("%s", err.message);
    free_state(&s);
    return path;
}

static int set_up(void **state) {
    const int failed = test_dir_set_up(state);
    kv_error err = {0};
    hid_t file;
    put_file("whole.h5", false);
    if (truncate(put_file("short.h5", false), 20000) != 0) return -1;
    // As before files said whose they are.
    if (kv_h5_open(put_file("shapes.h5", true), &file, &err) != KV_OK) return -1;
    kv_h5_close(&file, NULL);
    file = H5Fopen(test_path(test_dir, "shapes.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
    if (file < 0 || H5Adelete(file, "weights") < 0) return -1;
    kv_h5_close(&file, NULL);
    return failed;
}

// Modules lie beside kvdata.
static void run_ranks(const char *launcher, int n_ranks) {
    char command[2 * PATH_MAX + 512], modules[PATH_MAX], text[4096];
    const char *kvdata = getenv("KVDATA"), *printed = test_path(test_dir, "printed.txt");
    snprintf(modules, sizeof modules, "%s", kvdata ? kvdata : "");
    snprintf(command, sizeof command,
             "export KV_RANKS_LOUD=1 LD_LIBRARY_PATH=%s:$LD_LIBRARY_PATH; timeout 60 %s %s %s >%s 2>&1",
             dirname(modules), launcher, program, test_dir, printed);
    const int code = system(command);
    FILE *file = fopen(printed, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    char ranks[32];
    snprintf(ranks, sizeof ranks, "%d ranks by", n_ranks);
    if (code != 0 || !strstr(text, ranks)) fail_msg("%s\nexit status %d: %s", command, code, text);
}

static void test_alone(void **state) {
    (void)state;
    run_ranks("env", 1);
}

static void test_under_launchers(void **state) {
    (void)state;
    launch_or_skip();
    for (int kind = 0; kind < launch_n_kinds(); kind++)
        for (int n = 2; n <= MAX_RANKS; n++) run_ranks(launch_with(kind, n), n);
}

int main(int argc, char **argv) {
    if (argc == 2) return be_rank(argv[1]);
    if (!realpath(argv[0], program)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone), cmocka_unit_test(test_under_launchers)};
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
