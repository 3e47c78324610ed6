// y_i = E[id_i]        dE[id_i] += dy_i
#include "core/gemm/packed.h"
#include "core/ops.h"
#include "core/ops/loops.h"

struct embedding_saved {
    const int32_t *ids;
};

static void embedding_backward(kv_tape *tape, const kv_record *r) {
    kv_tape_add_rows(tape, r->weight, ((struct embedding_saved *)r->saved)->ids, r->out->rows, r->out->grad);
}

kv_tensor *kv_embedding(kv_tape *tape, kv_param *table, const int32_t *ids, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= table->rows)
            return kv_tape_fail(tape, KV_ERR_RANGE, "token %lld has id %d, outside the vocabulary of %lld",
                                (long long)i, (int)ids[i], (long long)table->rows);
    kv_tensor *y = kv_tape_tensor(tape, n, table->cols);
    if (!y) return NULL;
    const int64_t cols = table->cols;
    KV_ROW_LOOP(n * cols > 1 << 16, for (int64_t i = 0; i < n; i++)
                                        kv_param_values(table, ids[i] * cols, cols, y->data + i * cols););
    if (kv_tape_wants(tape, NULL, 0, table, NULL)) {
        kv_record *r = kv_tape_record(tape, embedding_backward, y, sizeof(struct embedding_saved));
        if (!r) return NULL;
        r->weight = table;
        ((struct embedding_saved *)r->saved)->ids = ids;
    }
    return y;
}
