#include "data/cache/top_logits.h"

#include <math.h>
#include <string.h>

enum { BLOCK_FLOATS = 1 << 20 };

// Keeps the k largest sorted; most of a vocabulary falls below the smallest of them and is only compared.
static void pick(const float *z, int64_t vocab, int64_t k, int32_t *ids, float *logits) {
    int64_t n = 0;
    for (int64_t j = 0; j < vocab; j++) {
        if (n == k && !(z[j] > logits[k - 1])) continue;
        int64_t i = n < k ? n++ : k - 1;
        for (; i > 0 && z[j] > logits[i - 1]; i--) logits[i] = logits[i - 1], ids[i] = ids[i - 1];
        logits[i] = z[j];
        ids[i] = (int32_t)j;
    }
}

static float logsumexp_of(const float *z, int64_t vocab, float top, double temperature) {
    double sum = 0;
    for (int64_t j = 0; j < vocab; j++) sum += (double)expf((z[j] - top) / (float)temperature);
    return (float)((double)top / temperature + log(sum));
}

kv_status kv_top_logits(kv_tape *tape, kv_model *model, const kv_tensor *hidden, int64_t k,
                        double temperature, int32_t *ids, float *logits, float *logsumexp, kv_error *err) {
    const int64_t vocab = model->spec.vocab_size, dim = hidden->cols;
    const int64_t step = BLOCK_FLOATS / vocab < 16 ? 16 : BLOCK_FLOATS / vocab;
    kv_arena *arena = kv_tape_arena(tape);
    for (int64_t row = 0; row < hidden->rows; row += step) {
        const int64_t rows = hidden->rows - row < step ? hidden->rows - row : step;
        kv_arena_mark mark = kv_arena_get_mark(arena);
        kv_tensor *block = kv_tape_view(tape, hidden->data + row * dim, rows, dim);
        kv_tensor *all = kv_model_logits(tape, model, block);
        if (!all) return kv_tape_status(tape, err);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            const float *z = all->data + i * vocab;
            pick(z, vocab, k, ids + (row + i) * k, logits + (row + i) * k);
            logsumexp[row + i] = logsumexp_of(z, vocab, logits[(row + i) * k], temperature);
        }
        kv_arena_release(arena, mark);
    }
    return KV_OK;
}
