// y_i = E[id_i]        dE[id_i] += dy_i
#include "core/gemm/packed.h"
#include "core/ops.h"

#include <string.h>

struct embedding_saved {
    const int32_t *ids;
};

// Threads share out the columns, so two rows with the same id never race and always add up in the same order.
static void embedding_backward(kv_tape *tape, const kv_record *r) {
    const int32_t *ids = ((struct embedding_saved *)r->saved)->ids;
    int64_t n = r->out->rows, dim = r->out->cols;
    float beta, *grad = kv_tape_param_grad(tape, r->weight, &beta);
    if (beta == 0) memset(grad, 0, (size_t)kv_param_size(r->weight) * sizeof *grad);
    const float *dy = r->out->grad;
    enum { STRIP = 16 };
#pragma omp parallel for schedule(static) if (n * dim > 1 << 14)
    for (int64_t j0 = 0; j0 < dim; j0 += STRIP) {
        int64_t j1 = j0 + STRIP < dim ? j0 + STRIP : dim;
        for (int64_t i = 0; i < n; i++) {
            float *row = grad + ids[i] * dim;
            for (int64_t j = j0; j < j1; j++) row[j] += dy[i * dim + j];
        }
    }
}

kv_tensor *kv_embedding(kv_tape *tape, kv_param *table, const int32_t *ids, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= table->rows)
            return kv_tape_fail(tape, KV_ERR_RANGE, "token %lld has id %d, outside the vocabulary of %lld",
                                (long long)i, (int)ids[i], (long long)table->rows);
    kv_tensor *y = kv_tape_tensor(tape, n, table->cols);
    if (!y) return NULL;
#pragma omp parallel for schedule(static) if (n * y->cols > 1 << 16)
    for (int64_t i = 0; i < n; i++)
        kv_param_values(table, ids[i] * table->cols, table->cols, y->data + i * y->cols);
    if (kv_tape_wants(tape, NULL, 0, table, NULL)) {
        kv_record *r = kv_tape_record(tape, embedding_backward, y, sizeof(struct embedding_saved));
        if (!r) return NULL;
        r->weight = table;
        ((struct embedding_saved *)r->saved)->ids = ids;
    }
    return y;
}
