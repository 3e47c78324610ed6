#include "train/memory.h"

#include "data/memory.h"
#include "train/validation.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>

// Of what is available now; others may take the rest while the run goes on.
static const double usable = 0.95;

// Code and libraries, and what OpenBLAS packs matrices into, as measured.
static const double program_bytes = 14e6, thread_bytes = 3e6;

void kv_memory_estimate(const kv_task *task, int64_t n_seq, bool freeze_aux, kv_memory_need *need) {
    const kv_data_config *d = &task->config->data;
    kv_task_memory m = {0};
    task->ops->memory(task, n_seq, freeze_aux, &m);
    const double weights = sizeof(float) * m.n_trained;
    const double text = kv_train_text_bytes(task->text) +
                        2.0 * sizeof(int32_t) * (double)d->batch_size * (double)d->seq_len +
                        (task->validation ? kv_validation_bytes(task->validation) : 0);
    *need = (kv_memory_need){.trained = 4 * weights,
                             .frozen = m.frozen,
                             .activations = m.tape,
                             .other = program_bytes + thread_bytes * omp_get_max_threads() + text};
    need->peak = need->trained + need->frozen + need->activations + need->other;
    // Before the first step gradients and moments are not there yet.
    const struct {
        double peak;
        const char *when;
    } others[] = {
        {weights + m.frozen + m.loading + need->other, "while the whole model is read"},
        {weights + m.frozen + m.start + need->other, "while the predictors are solved for"},
        {need->trained + m.frozen + (task->validation ? m.validation : 0) + need->other, "while validating"},
        {need->peak + m.saving, "while the frozen aux is written as float32"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (others[i].peak <= need->peak) continue;
        need->peak = others[i].peak;
        need->when = others[i].when;
    }
}

double kv_memory_limit(const kv_train_config *config) {
    if (config->train.memory_gb == 0) return (double)INFINITY;
    if (config->train.memory_gb > 0) return 1e9 * config->train.memory_gb;
    const int64_t available = kv_memory_available("");
    if (available == INT64_MAX) return (double)INFINITY;
    return usable * (double)available + (double)kv_memory_held();
}

char *kv_memory_text(const kv_memory_need *need, char text[KV_MEMORY_TEXT]) {
    snprintf(text, KV_MEMORY_TEXT,
             "%.3g GB%s%s: %.3g trained weights with gradients and moments, %.3g frozen weights, %.3g "
             "activations of a micro-batch, %.3g program and text",
             need->peak / 1e9, need->when ? " " : "", need->when ? need->when : "", need->trained / 1e9,
             need->frozen / 1e9, need->activations / 1e9, need->other / 1e9);
    return text;
}

// What would need less: shown when it makes a difference.
static void advise(const kv_task *task, const kv_memory_need *need, char *text, size_t size) {
    const kv_train_config *config = task->config;
    const int64_t n_seq = config->data.micro_batch_size;
    kv_memory_need less;
    size_t used = (size_t)snprintf(text, size, "a smaller model or data.seq_len");
    kv_memory_estimate(task, 1, config->freeze_aux, &less);
    if (n_seq > 1 && less.peak < 0.95 * need->peak)
        used += (size_t)snprintf(text + used, size - used, ", data.micro_batch_size: 1 (%.3g GB)",
                                 less.peak / 1e9);
    if (config->task == KV_TASK_LM || config->freeze_aux) return;
    kv_memory_estimate(task, n_seq, true, &less);
    if (less.peak < 0.95 * need->peak)
        snprintf(text + used, size - used, ", freeze_aux: true (%.3g GB)", less.peak / 1e9);
}

kv_status kv_memory_check(const kv_task *task, kv_error *err) {
    const kv_train_config *config = task->config;
    const double limit = kv_memory_limit(config);
    kv_memory_need need;
    kv_memory_estimate(task, config->data.micro_batch_size, config->freeze_aux, &need);
    if (need.peak <= limit) return KV_OK;
    char parts[KV_MEMORY_TEXT], advice[200];
    advise(task, &need, advice, sizeof advice);
    return kv_fail(err, KV_ERR_MEMORY,
                   "the run does not fit in memory, %.3g GB %s; it needs about %s; less with: %s; "
                   "train.memory_gb: 0 tries all the same",
                   limit / 1e9, config->train.memory_gb > 0 ? "by train.memory_gb" : "available",
                   kv_memory_text(&need, parts), advice);
}
