// The sum over parts that footprint.h explains. The same formulas say what would need less: advice is an
// estimate of the same run with one thing changed.
#include "train/run/footprint.h"

#include "data/system/memory.h"
#include "train/run/sliced.h"
#include "train/run/validation.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>

// Of what is available now; others may take the rest while the run goes on.
static const double usable = 0.95;
// Advice is to make a difference.
static const double worth_saying = 0.95;

// Passes of the start that are advised.
enum { SOME_PASSES = 4 };

// Code and libraries, and what OpenBLAS packs matrices into, as measured.
static const double program_bytes = 19e6, thread_bytes = 3e6;

kv_task_choice kv_footprint_chosen(const kv_train_config *config) {
    return (kv_task_choice){.n_seq = config->data.micro_batch_size,
                            .n_threads = omp_get_max_threads(),
                            .freeze_aux = config->freeze_aux,
                            .checkpointing = config->train.activation_checkpointing,
                            .n_passes = config->predictor.least_squares_passes,
                            .frozen_dtype = config->frozen_dtype};
}

// Tapes of a micro-batch in slices, one for each thread, and the gradients of all slices.
static void run_in_slices(const kv_task *task, const kv_task_choice *choice, int64_t slices,
                          kv_task_memory *m) {
    kv_task_choice each = *choice;
    const int64_t tapes = choice->n_threads < slices ? choice->n_threads : slices;
    each.n_seq = (choice->n_seq + slices - 1) / slices, each.n_threads = 1;
    task->ops->memory(task, &each, m);
    const double rows = (double)choice->n_seq * (double)task->config->data.seq_len;
    m->tape = (double)tapes * m->tape +
              sizeof(float) *
                  ((double)slices * (m->n_trained - (double)m->n_looked_up) + rows * (double)m->row_width);
    m->validation *= (double)tapes;
}

void kv_footprint_estimate(const kv_task *task, const kv_task_choice *choice, kv_footprint *footprint) {
    const kv_data_config *d = &task->config->data;
    kv_task_memory m = {0};
    task->ops->memory(task, choice, &m);
    const int64_t slices = kv_task_slices(task, choice);
    if (slices > 1) run_in_slices(task, choice, slices, &m);
    const bool learns = task->config->train.steps > 0; // else the least-squares start may be all there is
    const double weights = sizeof(float) * m.n_trained;
    const double text = kv_train_text_bytes(task->text) +
                        2.0 * sizeof(int32_t) * (double)d->batch_size * (double)d->seq_len +
                        (task->validation ? kv_validation_bytes(task->validation) : 0);
    *footprint = (kv_footprint){.learns = learns,
                                .trained = (learns ? 4 : 1) * weights,
                                .frozen = m.frozen,
                                .activations = learns ? m.tape : 0,
                                .other = program_bytes + thread_bytes * omp_get_max_threads() + text};
    footprint->peak = footprint->trained + footprint->frozen + footprint->activations + footprint->other;
    // Before the first step gradients and moments are not there yet.
    const struct {
        double peak;
        const char *when;
    } others[] = {{weights + m.frozen + m.loading + footprint->other, "while the weights are read"},
                  {weights + m.frozen + m.start + footprint->other, "while the predictors are solved for"},
                  {footprint->trained + m.frozen + (task->validation ? m.validation : 0) + footprint->other,
                   "while validating"},
                  {footprint->peak + m.saving, "while the frozen aux is written as float32"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (others[i].peak <= footprint->peak) continue;
        footprint->peak = others[i].peak;
        footprint->when = others[i].when;
    }
}

double kv_footprint_limit(const kv_train_config *config, const char **by) {
    *by = "train.memory_gb";
    if (config->train.memory_gb == 0) return (double)INFINITY;
    if (config->train.memory_gb > 0) return 1e9 * config->train.memory_gb;
    const kv_memory_limit available = kv_memory_left("");
    *by = available.by;
    if (available.left == INT64_MAX) return (double)INFINITY;
    return usable * (double)available.left + (double)kv_memory_held();
}

char *kv_footprint_text(const kv_footprint *footprint, char text[KV_FOOTPRINT_TEXT]) {
    snprintf(text, KV_FOOTPRINT_TEXT,
             "%.3g GB%s%s: %.3g trained weights%s, %.3g frozen weights, %.3g "
             "activations of a micro-batch, %.3g program and text",
             footprint->peak / 1e9, footprint->when ? " " : "", footprint->when ? footprint->when : "",
             footprint->trained / 1e9, footprint->learns ? " with gradients and moments" : "",
             footprint->frozen / 1e9, footprint->activations / 1e9, footprint->other / 1e9);
    return text;
}

char *kv_footprint_advice(const kv_task *task, const kv_footprint *footprint,
                          char text[KV_FOOTPRINT_ADVICE]) {
    const kv_train_config *config = task->config;
    const kv_task_choice now = kv_footprint_chosen(config);
    const bool kvp = config->task == KV_TASK_KVP;
    struct {
        const char *text;
        bool possible;
        kv_task_choice choice;
    } others[] = {
        {"data.micro_batch_size: 1", now.n_seq > 1, now},
        {"train.activation_checkpointing: true", !now.checkpointing, now},
        {"freeze_aux: true", kvp && !now.freeze_aux, now},
        {"predictor.token_table: none (own_h among predictor.sources) or a width",
         kvp && config->predictor.token_table != KV_TABLE_NONE, now},
        {"predictor.least_squares_passes: 4",
         kvp && config->predictor.init == KV_START_LEAST_SQUARES && now.n_passes < SOME_PASSES, now},
        {"frozen_dtype: bf16",
         config->base && now.frozen_dtype != KV_FROZEN_BF16 && now.frozen_dtype != KV_FROZEN_F16, now}};
    others[0].choice.n_seq = 1;
    others[1].choice.checkpointing = true;
    others[2].choice.freeze_aux = true;
    others[3].choice.no_tables = true;
    others[4].choice.n_passes = SOME_PASSES;
    others[5].choice.frozen_dtype = KV_FROZEN_BF16;
    size_t used = (size_t)snprintf(text, KV_FOOTPRINT_ADVICE, "a smaller model or data.seq_len");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        kv_footprint less;
        if (!others[i].possible) continue;
        kv_footprint_estimate(task, &others[i].choice, &less);
        if (less.peak < worth_saying * footprint->peak)
            used += (size_t)snprintf(text + used, KV_FOOTPRINT_ADVICE - used, ", %s (%.3g GB)",
                                     others[i].text, less.peak / 1e9);
    }
    return text;
}

kv_status kv_footprint_check(const kv_task *task, kv_error *err) {
    const kv_train_config *config = task->config;
    const char *by;
    const double limit = kv_footprint_limit(config, &by);
    const kv_task_choice choice = kv_footprint_chosen(config);
    kv_footprint footprint;
    kv_footprint_estimate(task, &choice, &footprint);
    if (footprint.peak <= limit) return KV_OK;
    char parts[KV_FOOTPRINT_TEXT], advice[KV_FOOTPRINT_ADVICE];
    return kv_fail(err, KV_ERR_MEMORY,
                   "the run does not fit in memory, %.3g GB by %s; it needs about %s; less with: %s; "
                   "train.memory_gb: 0 tries all the same",
                   limit / 1e9, by, kv_footprint_text(&footprint, parts),
                   kv_footprint_advice(task, &footprint, advice));
}
