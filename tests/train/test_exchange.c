// Sums of gradients over ranks: against sums worked out by each rank from what the others have, whatever the order in which
// gradients are ready. Started by hand or by meson it starts itself under the launchers there are.
#include "train/run/exchange.h"

#include "data/ranks/ranks.h"
#include "tests/support/corpus.h"
#include "tests/support/launch.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Odd sizes, one larger than a bucket and one of no numbers.
enum { N = 7 };
static const int64_t sizes[N][2] = {{1300, 1001}, {1, 7}, {0, 5}, {64, 64}, {1, 1}, {3, 33}, {600, 999}};

struct set {
    kv_param params[N], *list[N];
};

static float number(int rank, int64_t param, int64_t i) {
    return (float)(((uint64_t)(rank + 1) * 2654435761u + (uint64_t)param * 40503u + (uint64_t)i * 97u) %
                   2001) /
               1000.0f -
           1;
}

static void make(struct set *s) {
    for (int64_t p = 0; p < N; p++) {
        kv_param *param = s->list[p] = &s->params[p];
        *param = (kv_param){.rows = sizes[p][0], .cols = sizes[p][1], .dtype = KV_F32};
        snprintf(param->name, sizeof param->name, "p%d", (int)p);
        const size_t n = (size_t)kv_param_size(param) + 1;
        param->data = calloc(n, sizeof(float));
        param->grad = calloc(n, sizeof(float));
    }
}

static void fill(struct set *s) {
    for (int64_t p = 0; p < N; p++)
        for (int64_t i = 0; i < kv_param_size(s->list[p]); i++) s->list[p]->grad[i] = number(kv_rank(), p, i);
}

static float expected(int64_t p, int64_t i) {
    float sum = number(0, p, i);
    for (int r = 1; r < kv_n_ranks(); r++) sum += number(r, p, i);
    return sum;
}

static void unmake(struct set *s) {
    for (int64_t p = 0; p < N; p++) {
        free(s->params[p].data);
        free(s->params[p].grad);
    }
}

#define CHECK(what)                                                                                          \
    do {                                                                                                     \
        if (!(what)) {                                                                                       \
            dprintf(STDERR_FILENO, "rank %d: line %d: %s\n", kv_rank(), __LINE__, #what);                    \
            kv_ranks_last_words(#what);                                                                      \
            exit(kv_ranks_end(1));                                                                           \
        }                                                                                                    \
    } while (0)

static bool owned(const kv_exchange *e, int64_t p, int64_t i) {
    int64_t n;
    const kv_param_span *spans = kv_exchange_spans(e, &n);
    for (int64_t k = 0; k < n; k++)
        if (spans[k].param == p && spans[k].begin <= i && i < spans[k].end) return true;
    return false;
}

// One pass that says what is ready in this order, some of it not at all, and looks in between.
static void run_pass(kv_exchange *e, const struct set *s, const int *order, int n) {
    const kv_grad_watcher *watcher = kv_exchange_watcher(e);
    kv_exchange_begin(e);
    for (int k = 0; k < n; k++) {
        watcher->ready(watcher->context, s->list[order[k]]);
        for (int t = 0; t < 3 * kv_rank(); t++) watcher->tick(watcher->context);
    }
    kv_exchange_finish(e);
}

static void check_sums(const kv_exchange *e, const struct set *s, bool sharded) {
    for (int64_t p = 0; p < N; p++)
        for (int64_t i = 0; i < kv_param_size(s->list[p]); i += 1 + i % 11)
            CHECK((sharded && !owned(e, p, i)) || s->list[p]->grad[i] == expected(p, i));
}

// Every number is one rank's.
static void check_spans(const kv_exchange *e, const struct set *s) {
    int64_t n, last = -1;
    double mine = 0, all = 0;
    const kv_param_span *spans = kv_exchange_spans(e, &n);
    for (int64_t k = 0; k < n; k++) {
        CHECK(spans[k].begin < spans[k].end && spans[k].end <= kv_param_size(s->list[spans[k].param]));
        CHECK(spans[k].param > last || (k > 0 && spans[k].begin >= spans[k - 1].end));
        last = spans[k].param;
        mine += (double)(spans[k].end - spans[k].begin);
    }
    for (int64_t p = 0; p < N; p++) all += (double)kv_param_size(s->list[p]);
    double sum = mine;
    kv_ranks_sum(&sum, 1);
    CHECK(sum == all);
    CHECK(mine >= all / kv_n_ranks() * 0.99 - 16 * 4 && mine <= all / kv_n_ranks() * 1.01 + 16 * 4);
}

static void check_parameters(kv_exchange *e, struct set *s) {
    for (int64_t p = 0; p < N; p++)
        for (int64_t i = 0; i < kv_param_size(s->list[p]); i++) ((float *)s->list[p]->data)[i] = -1;
    int64_t n;
    const kv_param_span *spans = kv_exchange_spans(e, &n);
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = spans[k].begin; i < spans[k].end; i++)
            ((float *)s->list[spans[k].param]->data)[i] = number(40, spans[k].param, i);
    kv_exchange_parameters(e);
    for (int64_t p = 0; p < N; p++)
        for (int64_t i = 0; i < kv_param_size(s->list[p]); i++)
            CHECK(((float *)s->list[p]->data)[i] == number(40, p, i));
}

static int rank_main(void) {
    static const int orders[3][N] = {{6, 5, 4, 3, 2, 1, 0}, {0, 1, 2, 3, 4, 5, 6}, {3, 6, 0, 2, 5, 1, 4}};
    kv_error err = {0};
    if (kv_ranks_start(&err) != KV_OK) return 1;
    for (int sharded = 0; sharded < 2; sharded++) {
        struct set s;
        kv_exchange *e;
        make(&s);
        CHECK(kv_exchange_create(s.list, N, sharded, &e, &err) == KV_OK);
        check_spans(e, &s);
        for (int o = 0; o < 3; o++) {
            fill(&s);
            // The order may even differ between ranks; the last pass fails on one of them after two gradients.
            run_pass(e, &s, orders[(o + kv_rank()) % 3], o == 2 && kv_rank() == 1 ? 2 : N);
            check_sums(e, &s, sharded);
        }
        check_parameters(e, &s);
        kv_exchange_free(e);
        unmake(&s);
    }
    return kv_ranks_end(0);
}

// ---- Under launchers -----------------------------------------------------------------------------------

static void test_sums(void **state) {
    (void)state;
    char self[1024] = {0}, out[8192], err[8192];
    launch_or_skip();
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    for (int kind = 0; kind < launch_n_kinds(); kind++)
        for (int n = 2; n <= 4; n++) {
            char command[2048];
            snprintf(command, sizeof command, "KV_RANKS_LOUD=1 %s %s rank", launch_with(kind, n), self);
            const int status =
                test_run((const char *const[]){"/bin/sh", "-c", command, NULL}, -1, out, err, sizeof out);
            if (status != 0) fail_msg("%s: exit status %d\n%s", command, status, err);
        }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "rank") == 0) return rank_main();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
