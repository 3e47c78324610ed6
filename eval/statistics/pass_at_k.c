#include "eval/statistics/pass_at_k.h"

double kv_pass_at_k(int64_t n, int64_t c, int64_t k) {
    if (c <= 0) return 0;
    if (n - c < k) return 1; // every choice of k holds one that passed
    // C(n - c, k) / C(n, k), the chance that none of k passes, as a product of at most k factors below 1:
    // neither binomial is ever formed.
    const int64_t fewer = c < k ? c : k, rest = c < k ? k : c;
    double none = 1;
    for (int64_t i = 0; i < fewer; i++) none *= 1 - (double)rest / (double)(n - i);
    return 1 - none;
}
