// The formulas are those of network.h, in its letters.
#include "train/run/network.h"

#include "data/system/number.h"
#include "train/run/exchange.h"

#include <math.h>

// n buckets, w seconds on the wire each, l of latency.
static double pass(double n, double w, double l) {
    return fmax(n * w + l, n * (w + l) / KV_EXCHANGE_SLOTS);
}

kv_network_step kv_network_predict(const kv_network *network, int n_nodes, const kv_network_work *work) {
    const double sent = kv_exchange_traffic(work->n_weights, n_nodes);
    if (sent <= 0) return (kv_network_step){.best = work->seconds, .worst = work->seconds};
    const double n = ceil(work->n_weights / KV_EXCHANGE_BUCKET), w = sent / network->bytes_per_second / n;
    const double m = fmax(1, ceil(work->n_last / KV_EXCHANGE_BUCKET)), there = network->latency,
                 back = (n_nodes - 1) * network->latency;
    const double l = work->sharded ? there : there + back, share = work->sharded ? 0.5 * w : w;
    const double gradients = pass(n, share, l), weights = work->sharded ? pass(n, share, back) : 0;
    return (kv_network_step){.sent = sent,
                             .exchange = gradients + weights,
                             .best = work->seconds +
                                     fmax(gradients - work->last_backward, pass(m, share, l)) + weights,
                             .worst = work->seconds + gradients + weights};
}

bool kv_network_parse(const char *text, kv_network *network) {
    double gbit, microseconds = 50;
    if (!kv_take_real(&text, &gbit) || gbit <= 0) return false;
    if (*text && (*text++ != ',' || !kv_read_real(text, &microseconds) || microseconds < 0)) return false;
    *network = (kv_network){gbit * 1e9 / 8, microseconds * 1e-6};
    return true;
}
