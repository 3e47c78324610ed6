// The sum over parts that footprint.h explains. The same formulas say what would need less: advice is an
// estimate of the same run with one thing changed.
#include "train/run/footprint.h"

#include "data/ranks/ranks.h"
#include "data/system/memory.h"
#include "train/run/exchange.h"
#include "train/run/sliced.h"
#include "train/run/validation.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Of what is available now; others may take the rest while the run goes on.
static const double usable = 0.95;
// Advice is to make a difference.
static const double worth_saying = 0.95;

// Passes of the start that are advised.
enum { SOME_PASSES = 4 };

// Code and libraries, which ranks of a node have together but for what they write to; and what OpenBLAS packs matrices into. As
// measured.
static const double code_bytes = 16e6, program_bytes = 3e6, thread_bytes = 3e6;
// What joining others takes, likewise: of Open MPI 6 MB, of MPICH 12.
static const double mpi_bytes = 9e6;

kv_task_choice kv_footprint_chosen(const kv_train_config *config) {
    return (kv_task_choice){.n_seq = config->data.micro_batch_size,
                            .n_threads = omp_get_max_threads(),
                            .freeze_aux = config->freeze_aux,
                            .checkpointing = config->train.activation_checkpointing,
                            .n_passes = config->predictor.least_squares_passes,
                            .frozen_dtype = config->frozen_dtype,
                            .n_ranks = kv_n_ranks(),
                            .node_ranks = kv_node_ranks(),
                            .shard_optimizer = config->train.shard_optimizer};
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

// What the task needs on one rank. Held-out text goes round in micro-batches, however many a rank's share of a step is.
static kv_task_memory task_memory(const kv_task *task, const kv_task_choice *choice) {
    const int64_t batch_size = task->config->data.batch_size;
    const int64_t share = (batch_size + choice->n_ranks - 1) / choice->n_ranks;
    kv_task_choice own = *choice;
    if (own.n_seq > share) own.n_seq = share;
    kv_task_memory m = {0}, whole = {0};
    const kv_task_choice *choices[] = {&own, choice};
    for (int i = 0; i < 2; i++) {
        kv_task_memory *into = i == 0 ? &m : &whole;
        task->ops->memory(task, choices[i], into);
        const int64_t slices = kv_task_slices(task, choices[i]);
        if (slices > 1) run_in_slices(task, choices[i], slices, into);
    }
    m.validation = task->validation ? whole.validation : 0;
    return m;
}

// One time of a run: what each rank takes then, beside what all of a node share, and one of them alone.
struct phase {
    double each, one;
    const char *when;
};

static void find_peaks(const struct phase *phases, size_t n, kv_footprint *f) {
    for (size_t i = 0; i < n; i++) {
        const double rank = f->shared + phases[i].each + phases[i].one;
        const double node = f->shared + f->node_ranks * phases[i].each + phases[i].one;
        if (rank > f->peak) f->peak = rank, f->when = phases[i].when;
        if (node > f->node) f->node = node, f->node_when = phases[i].when;
    }
}

void kv_footprint_estimate(const kv_task *task, const kv_task_choice *choice, kv_footprint *footprint) {
    const kv_data_config *d = &task->config->data;
    const kv_task_memory m = task_memory(task, choice);
    const bool learns = task->config->train.steps > 0; // else the least-squares start may be all there is
    const double weights = sizeof(float) * m.n_trained, moments = 2 * weights;
    const double text = kv_train_text_bytes(task->text) +
                        2.0 * sizeof(int32_t) * (double)d->batch_size * (double)d->seq_len +
                        (task->validation ? kv_validation_bytes(task->validation) : 0);
    const bool others = choice->n_ranks > 1;
    *footprint = (kv_footprint){
        .learns = learns,
        .trained = learns ? 2 * weights + moments / (choice->shard_optimizer ? choice->n_ranks : 1) : weights,
        .exchange = others && learns ? kv_exchange_bytes(m.n_trained, choice->n_ranks) : 0,
        .sharded = others && choice->shard_optimizer,
        .frozen = m.frozen,
        .activations = learns ? m.tape : 0,
        .other =
            code_bytes + program_bytes + thread_bytes * choice->n_threads + (others ? mpi_bytes : 0) + text,
        .n_ranks = choice->n_ranks,
        .node_ranks = choice->node_ranks,
        .shared = m.shared + code_bytes};
    const double own = m.frozen + footprint->other - footprint->shared;
    const double learning = footprint->trained + footprint->exchange + own;
    const double training = learning + footprint->activations;
    // Before the first step gradients and moments are not there yet.
    const struct phase phases[] = {{training, 0, NULL},
                                   {weights + own, m.loading, "while the weights are read"},
                                   {weights + own + m.start, 0, "while the predictors are solved for"},
                                   {learning + m.validation, 0, "while validating"},
                                   {training, m.saving, "while the frozen aux is written as float32"}};
    find_peaks(phases, sizeof phases / sizeof *phases, footprint);
}

double kv_footprint_limit(const kv_train_config *config, const char **by) {
    *by = "train.memory_gb";
    if (config->train.memory_gb == 0) return (double)INFINITY;
    if (config->train.memory_gb > 0) return 1e9 * config->train.memory_gb;
    const kv_memory_limit available = kv_memory_left("");
    *by = available.by;
    if (available.left == INT64_MAX) return (double)INFINITY;
    // The others hold as much as this one, at the same place of the same program.
    return usable * (double)available.left + (double)kv_memory_held() * kv_node_ranks();
}

// What is said of ranks, of those that are not alone.
static int write_ranks(const kv_footprint *f, char *text, size_t size) {
    return snprintf(text, size, "; %.3g GB for the %d rank%s of a node%s%s%s", f->node / 1e9, f->node_ranks,
                    f->node_ranks > 1 ? "s" : "", f->node_when ? " " : "", f->node_when ? f->node_when : "",
                    f->frozen > 0 && f->node_ranks > 1 ? ", which have frozen weights once" : "");
}

char *kv_footprint_text(const kv_footprint *f, char text[KV_FOOTPRINT_TEXT]) {
    const bool ranks = f->n_ranks > 1;
    char of_moments[32] = "";
    if (f->learns && f->sharded) snprintf(of_moments, sizeof of_moments, "1/%d of the ", f->n_ranks);
    int used = snprintf(text, KV_FOOTPRINT_TEXT, "%.3g GB%s%s%s: %.3g trained weights%s%s%s, ", f->peak / 1e9,
                        ranks ? " a rank" : "", f->when ? " " : "", f->when ? f->when : "", f->trained / 1e9,
                        f->learns ? " with gradients and " : "", of_moments, f->learns ? "moments" : "");
    if (ranks)
        used += snprintf(text + used, KV_FOOTPRINT_TEXT - (size_t)used, "%.3g gradients on their way, ",
                         f->exchange / 1e9);
    used += snprintf(text + used, KV_FOOTPRINT_TEXT - (size_t)used,
                     "%.3g frozen weights, %.3g activations of a micro-batch, %.3g program and text",
                     f->frozen / 1e9, f->activations / 1e9, f->other / 1e9);
    if (ranks) write_ranks(f, text + used, KV_FOOTPRINT_TEXT - (size_t)used);
    return text;
}

char *kv_footprint_advice(const kv_task *task, const kv_task_choice *choice, const kv_footprint *footprint,
                          char text[KV_FOOTPRINT_ADVICE]) {
    const kv_train_config *config = task->config;
    const kv_task_choice now = *choice;
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
         config->base && now.frozen_dtype != KV_FROZEN_BF16 && now.frozen_dtype != KV_FROZEN_F16, now},
        {"train.shard_optimizer: true", now.n_ranks > 1 && !now.shard_optimizer, now},
        {"one rank a node, with all of its threads", now.node_ranks > 1, now}};
    others[0].choice.n_seq = 1;
    others[1].choice.checkpointing = true;
    others[2].choice.freeze_aux = true;
    others[3].choice.no_tables = true;
    others[4].choice.n_passes = SOME_PASSES;
    others[5].choice.frozen_dtype = KV_FROZEN_BF16;
    others[6].choice.shard_optimizer = true;
    others[7].choice.n_ranks /= now.node_ranks;
    others[7].choice.node_ranks = 1;
    others[7].choice.n_threads *= now.node_ranks;
    size_t used = (size_t)snprintf(text, KV_FOOTPRINT_ADVICE, "a smaller model or data.seq_len");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        kv_footprint less;
        if (!others[i].possible) continue;
        kv_footprint_estimate(task, &others[i].choice, &less);
        if (less.node < worth_saying * footprint->node)
            used += (size_t)snprintf(text + used, KV_FOOTPRINT_ADVICE - used, ", %s (%.3g GB)",
                                     others[i].text, less.node / 1e9);
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
    if (footprint.node <= limit) return KV_OK;
    char parts[KV_FOOTPRINT_TEXT], advice[KV_FOOTPRINT_ADVICE];
    return kv_fail(err, KV_ERR_MEMORY,
                   "the run does not fit in memory, %.3g GB by %s; it needs about %s; less with: %s; "
                   "train.memory_gb: 0 tries all the same",
                   limit / 1e9, by, kv_footprint_text(&footprint, parts),
                   kv_footprint_advice(task, &choice, &footprint, advice));
}

// ---- What it was ---------------------------------------------------------------------------------------

struct found {
    double peak, shared;
};

// Of all ranks on the host of this one.
static double node_peak(const struct found *all, int rank, int *node_ranks) {
    double own = 0, shared = 0;
    *node_ranks = 0;
    for (int r = 0; r < kv_n_ranks(); r++) {
        if (strcmp(kv_rank_host(r), kv_rank_host(rank)) != 0) continue;
        own += all[r].peak - all[r].shared;
        shared = fmax(shared, all[r].shared);
        ++*node_ranks;
    }
    return own + shared;
}

char *kv_footprint_found(char text[KV_FOOTPRINT_TEXT]) {
    const int n = kv_n_ranks();
    const struct found mine = {(double)kv_memory_peak(), (double)kv_memory_shared()};
    struct found *all = n > 1 ? calloc((size_t)n, sizeof *all) : NULL;
    snprintf(text, KV_FOOTPRINT_TEXT, "%.3g GB of memory at most", mine.peak / 1e9);
    if (kv_ranks_agree(n > 1 && !all ? KV_ERR_MEMORY : KV_OK, NULL) == KV_OK && all) {
        double most = 0, node = 0;
        int node_ranks = 0;
        kv_ranks_gather(&mine, sizeof mine, all);
        for (int r = 0; r < n; r++) {
            int on_node;
            most = fmax(most, all[r].peak);
            if (r > 0 && strcmp(kv_rank_host(r), kv_rank_host(r - 1)) == 0) continue; // the same node again
            const double found = node_peak(all, r, &on_node);
            if (found > node) node = found, node_ranks = on_node;
        }
        snprintf(text, KV_FOOTPRINT_TEXT, "%.3g GB of memory at most a rank, %.3g GB the %d rank%s of a node",
                 most / 1e9, node / 1e9, node_ranks, node_ranks > 1 ? "s" : "");
    }
    free(all);
    return text;
}
