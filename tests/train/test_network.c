// The model of a step over a network, at numbers that are worked out by hand, and how its words are read.
#include "train/run/network.h"

#include "tests/support/support.h"

#include <math.h>

static const double bucket = 1048576;

static void expect(const char *what, double found, double expected) {
    if (fabs(found - expected) > 1e-12 * fabs(expected))
        fail_msg("%s: found %.17g, expected %.17g", what, found, expected);
}

static void expect_step(const kv_network *network, int n_nodes, const kv_network_work *work, double exchange,
                        double best, double worst) {
    const kv_network_step step = kv_network_predict(network, n_nodes, work);
    expect("sent", step.sent, 2 * (n_nodes - 1.0) / n_nodes * 4 * work->n_weights);
    expect("exchange", step.exchange, exchange);
    expect("best", step.best, best);
    expect("worst", step.worst, worst);
}

// A bucket of 4 MiB, of which half goes out and half comes back, at 1 MiB/s: 4 s on the wire between 2 nodes, 6 s between 4.
static void test_a_bucket(void **state) {
    (void)state;
    const kv_network network = {.bytes_per_second = bucket, .latency = 0.25};
    const kv_network_work work = {.n_weights = bucket, .n_last = 10, .seconds = 100, .last_backward = 50};
    // Nothing is hidden of the only one: two messages, one each way; of 4 nodes one and a ring of three.
    expect_step(&network, 2, &work, 4 + 2 * 0.25, 104.5, 104.5);
    expect_step(&network, 4, &work, 6 + 4 * 0.25, 107, 107);
}

// 40 buckets, 5 of them the embedding's: 4 s each.
static void test_what_backward_hides(void **state) {
    (void)state;
    const kv_network network = {.bytes_per_second = bucket, .latency = 0.25};
    kv_network_work work = {
        .n_weights = 40 * bucket, .n_last = 5 * bucket, .seconds = 300, .last_backward = 100};
    expect_step(&network, 2, &work, 160.5, 300 + 60.5, 300 + 160.5);
    work.last_backward = 150; // leaves 10.5 s, but the embedding takes 20.5
    expect_step(&network, 2, &work, 160.5, 320.5, 460.5);
}

// Where messages take long, 4 buckets at a time do: 10 times 4 + 2 · 50 s.
static void test_latency(void **state) {
    (void)state;
    const kv_network network = {.bytes_per_second = bucket, .latency = 50};
    const kv_network_work work = {.n_weights = 40 * bucket, .seconds = 300, .last_backward = 100};
    expect_step(&network, 2, &work, 1040, 300 + 940, 1340);
}

// Gradients there, hidden, then weights back, which are not; of 4 nodes 6 s a bucket, 3 each way, 1 and 3 messages.
static void test_sharded(void **state) {
    (void)state;
    const kv_network network = {.bytes_per_second = bucket, .latency = 0.25};
    const kv_network_work work = {
        .n_weights = 40 * bucket, .seconds = 300, .last_backward = 100, .sharded = true};
    expect_step(&network, 4, &work, 120.25 + 120.75, 300 + 20.25 + 120.75, 300 + 241);
}

static void test_alone(void **state) {
    (void)state;
    const kv_network network = {.bytes_per_second = 1, .latency = 1};
    const kv_network_work work = {.n_weights = bucket, .seconds = 3, .last_backward = 1};
    expect_step(&network, 1, &work, 0, 3, 3);
    expect_step(&network, 2, &(kv_network_work){.seconds = 3}, 0, 3, 3);
}

static void test_words(void **state) {
    (void)state;
    kv_network network;
    assert_true(kv_network_parse("25", &network));
    expect("rate", network.bytes_per_second, 3.125e9);
    expect("latency", network.latency, 50e-6);
    assert_true(kv_network_parse("0.1,1000", &network));
    expect("rate", network.bytes_per_second, 1.25e7);
    expect("latency", network.latency, 1e-3);
    assert_true(kv_network_parse("100,0", &network));
    static const char *const wrong[] = {"",      "0",    "-1",    "inf",     "25,",
                                        "25,-1", "25,x", "25;50", "25,50,3", "fast"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (kv_network_parse(wrong[i], &network)) fail_msg("'%s' is taken for a network", wrong[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bucket), cmocka_unit_test(test_what_backward_hides),
        cmocka_unit_test(test_latency),  cmocka_unit_test(test_sharded),
        cmocka_unit_test(test_alone),    cmocka_unit_test(test_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
