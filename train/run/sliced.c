#include "train/run/sliced.h"

#include "core/slices.h"

int64_t kv_task_slices(const kv_task *task, const kv_task_choice *choice) {
    kv_task_memory m = {0};
    task->ops->memory(task, choice, &m);
    const kv_slice_shape shape = {.n_seq = choice->n_seq,
                                  .seq_len = task->config->data.seq_len,
                                  .n_weights = m.n_weights,
                                  .n_trained = (int64_t)m.n_trained - m.n_looked_up};
    return kv_slice_count(&shape);
}

// Slice by slice: whether a loss keeps its logits for backward or makes them again depends on how many there are.
uint64_t kv_step_flops(const kv_task *task, const kv_task_choice *choice) {
    const kv_data_config *d = &task->config->data;
    const int64_t n = kv_task_slices(task, choice);
    uint64_t flops = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t first = kv_slice_begin(choice->n_seq, n, i),
                      end = kv_slice_begin(choice->n_seq, n, i + 1);
        flops += task->ops->flops(task, end - first, d->seq_len);
    }
    return flops * (uint64_t)(d->batch_size / choice->n_seq);
}
