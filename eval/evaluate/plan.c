// Sums over shapes: nothing here looks at a weight.
#include "eval/evaluate/plan.h"

#include "core/flops.h"
#include "core/text.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "data/system/memory.h"
#include "data/system/speed.h"
#include "eval/evaluate/attended.h"
#include "eval/evaluate/keep_grid.h"
#include "eval/evaluate/shared.h"
#include "eval/evaluate/timing.h"
#include "infer/cost.h"
#include "infer/memory.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

// Code and libraries, and what OpenBLAS packs matrices into, as measured.
static const double program_bytes = 24e6, thread_bytes = 3e6;
// Of a record, as measured: keys and a verdict, as text and as what becomes of it; and of a token's text, which is there as
// prompt and as what it was made of.
static const double record_bytes = 2300, token_bytes = 12;

static double larger(double a, double b) {
    return a > b ? a : b;
}

// ---- Tasks ---------------------------------------------------------------------------------------------

static kv_plan_task plan_task(const kv_benchmark *b) {
    kv_plan_task task = {0};
    const int64_t units = b->n_units / b->n_items;
    for (int64_t i = 0; i < b->n_items; i++) {
        const kv_item *item = &b->items[i];
        for (int64_t s = 0; s < item->n_seq; s++) {
            task.prompt_tokens += (double)(units * item->lengths[s]);
            if (item->lengths[s] > task.longest) task.longest = item->lengths[s];
        }
        task.sequences += units * item->n_seq;
    }
    task.answer_tokens = (double)(b->n_units * b->answer_tokens);
    return task;
}

// ---- FLOPs ---------------------------------------------------------------------------------------------

static void add_task(const kv_evaluation *e, int64_t system, const kv_benchmark *b, kv_plan_system *plan) {
    const double units = (double)(b->n_units / b->n_items);
    for (int64_t i = 0; i < b->n_items; i++) {
        kv_unit_cost cost;
        kv_benchmark_cost(b, e->systems->shapes, system, i, &cost);
        plan->answers.reading += units * cost.reading;
        plan->answers.steps += units * cost.steps;
    }
}

// Both models on every row of text, and on the first few once more; of every row what attention makes of either cache.
static double analysis_flops(const kv_evaluation *e, const kv_system *system) {
    if (!e->text.rows || !system->predictor) return 0;
    static const kv_kvp_weights none = {0};
    return (double)e->text.sequences * (double)kv_attended_flops(&system->base->spec, e->text.seq_len) +
           (double)kv_analysis_work(&e->text) *
               (double)kv_flops_kvp_loss_only(&system->base->spec, &system->aux->spec, system->predictor, 1,
                                              e->text.seq_len, &none);
}

// ---- Memory --------------------------------------------------------------------------------------------

static void take_larger(kv_plan_system *plan, double bytes, const char *what, const char *split) {
    if (bytes <= plan->bytes) return;
    plan->bytes = bytes;
    snprintf(plan->when, sizeof plan->when, "%.*s%s%.*s", KV_HEAD(what, 80), *split ? ", " : "",
             KV_HEAD(split, 60));
}

// Scores of a text that has no items of its own are numbers alone.
static double records_of(const kv_plan_task *task, const kv_benchmark *b) {
    const double tokens = b->items[0].ids ? task->prompt_tokens + task->answer_tokens : 0;
    return record_bytes * (double)b->n_units + token_bytes * tokens;
}

// A batch of the text as the base reads it and as its cache is predicted, both whole.
static double analysis_bytes(const kv_evaluation *e, const kv_system *system) {
    enum { TOGETHER = 4096 }; // kv_analysis_measure
    const kv_system alone = {.base = system->base};
    const int64_t seq_len = e->text.seq_len, fit = TOGETHER / seq_len + 1,
                  n = fit < e->text.sequences ? fit : e->text.sequences;
    return kv_prefill_bytes(&alone, n, seq_len) + kv_prefill_bytes(system, n, seq_len) +
           kv_attended_bytes(&system->base->spec, n * seq_len);
}

// What tasks keep from one system to the next, most of what the systems up to this one leave.
static double kept_bytes(const kv_evaluation *e, int64_t system) {
    double sum = 0;
    for (unsigned t = 0; t < e->config->n_tasks; t++) {
        double most = 0;
        for (int64_t s = 0; s <= system; s++)
            most = larger(most, kv_benchmark_kept(e->benchmarks[t], &e->systems->shapes[s]));
        sum += most;
    }
    return sum;
}

// As it will be when the weights are there. Of what prompts share it matters that there is some; a path that is too long is
// refused elsewhere.
static kv_batching batching_of(const kv_evaluation *e, int64_t system, int64_t task, double owned) {
    static const kv_saved_prompt some = {0};
    const kv_system *shape = &e->systems->shapes[system];
    const double memory = kv_batching_memory(shape) / kv_node_ranks() - owned / 2;
    kv_shared_file file;
    const bool shared = kv_shared_file_find(e, system, task, &file, NULL) == KV_OK && file.used;
    return (kv_batching){.system = shape,
                         .most = e->config->batch_size,
                         .memory = memory > 1 ? memory : 1,
                         .shared = shared ? &some : NULL};
}

static double entry_bytes(const kv_model_spec *spec) {
    double sum = 0;
    for (int64_t i = 0; i < spec->n_layers; i++) sum += 2 * sizeof(float) * (double)kv_spec_kv_dim(spec, i);
    return sum;
}

// The saved prompt itself, as it lies beside the session.
static double shared_bytes(const kv_evaluation *e, int64_t system, int64_t task) {
    const kv_system *shape = &e->systems->shapes[system];
    kv_shared_file file;
    if (kv_shared_file_find(e, system, task, &file, NULL) != KV_OK || !file.used) return 0;
    return (double)file.n_tokens *
           (entry_bytes(&shape->base->spec) + (shape->aux ? entry_bytes(&shape->aux->spec) : 0));
}

static void add_memory(const kv_evaluation *e, int64_t system, kv_plan *plan) {
    kv_plan_system *own = &plan->systems[system];
    const double kept = kept_bytes(e, system);
    if (e->text.rows && e->systems->shapes[system].predictor)
        take_larger(own, analysis_bytes(e, &e->systems->shapes[system]), "predicted caches", "");
    for (unsigned t = 0; t < e->config->n_tasks; t++) {
        const kv_benchmark *b = e->benchmarks[t];
        const kv_batching batching = batching_of(e, system, t, plan->owned);
        const double batch = kv_benchmark_bytes(b, &batching) + shared_bytes(e, system, t);
        take_larger(own, kept + batch + records_of(&plan->tasks[t], b), e->config->tasks[t].name,
                    e->config->tasks[t].split);
    }
}

// ---- The clock -----------------------------------------------------------------------------------------

// Sessions live together where they fit, else every turn warms up for itself.
static void add_cell(const kv_evaluation *e, const kv_ttft_cell *cell, double available, kv_plan *plan) {
    const double together = (double)kv_ttft_bytes(e->systems->shapes, e->systems->n, cell),
                 repeats = (double)e->config->ttft.repeats;
    const double turns = together <= available ? 1 + repeats : 2 * repeats;
    for (int64_t s = 0; s < e->systems->n; s++) {
        const kv_system *shape = &e->systems->shapes[s];
        const double alone = kv_prefill_bytes(shape, cell->batch_size, cell->prompt_tokens);
        plan->systems[s].clock +=
            turns * (double)cell->batch_size * (double)kv_system_flops(shape, cell->prompt_tokens);
        take_larger(&plan->systems[s], together <= available ? together : alone, "the time to first tokens",
                    "");
    }
}

static void free_grid(kv_result_task *task) {
    free(task->grid.lengths);
    free(task->grid.tokens);
    free(task->grid.depths);
    free(task->grid.skipped);
}

// Of results that are not there yet what says how long prompts on a grid are.
static kv_status list_cells(const kv_evaluation *e, kv_ttft_cell **cells, int64_t *n, kv_error *err) {
    const int64_t n_tasks = e->config->n_tasks;
    kv_result_task *tasks = calloc((size_t)n_tasks + 1, sizeof *tasks);
    bool ok = tasks != NULL;
    *cells = NULL;
    for (int64_t t = 0; t < n_tasks && ok; t++) {
        const kv_benchmark *b = e->benchmarks[t];
        tasks[t] = (kv_result_task){.name = e->config->tasks[t].name,
                                    .split = e->config->tasks[t].split,
                                    .n_items = b->n_items,
                                    .n_skipped = b->n_skipped};
        ok = kv_keep_grid(b, &tasks[t]);
    }
    kv_status status = ok ? kv_timing_cells(e, e->systems->shapes, tasks, n_tasks, cells, n, err)
                          : kv_fail(err, KV_ERR_MEMORY, "out of memory for the sizes that are timed");
    for (int64_t t = 0; tasks && t < n_tasks; t++) free_grid(&tasks[t]);
    free(tasks);
    return status;
}

static kv_status add_clock(const kv_evaluation *e, kv_plan *plan, kv_error *err) {
    const double available = (double)kv_memory_available("") - plan->weights - plan->records - plan->other;
    kv_ttft_cell *cells;
    if (!e->measure) return KV_OK;
    kv_status status = list_cells(e, &cells, &plan->n_cells, err);
    for (int64_t c = 0; c < plan->n_cells && status == KV_OK; c++) add_cell(e, &cells[c], available, plan);
    free(cells);
    return status;
}

// ---- All of it -----------------------------------------------------------------------------------------

kv_status kv_plan_make(const kv_evaluation *e, kv_plan *plan, kv_error *err) {
    const int64_t n = e->systems->n, n_tasks = e->config->n_tasks;
    *plan = (kv_plan){.tasks = calloc((size_t)n_tasks + 1, sizeof *plan->tasks),
                      .systems = calloc((size_t)n, sizeof *plan->systems)};
    if (!plan->tasks || !plan->systems)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a plan of %lld systems", (long long)n);
    kv_status status = kv_systems_shapes(e->systems, err);
    if (status != KV_OK) return status;
    const kv_systems_size size = kv_systems_measure(e->systems);
    plan->weights = size.weights, plan->owned = size.owned, plan->predictors = size.predictors;
    plan->other = program_bytes + thread_bytes * omp_get_max_threads();
    for (int64_t t = 0; t < n_tasks; t++) {
        plan->tasks[t] = plan_task(e->benchmarks[t]);
        plan->records += (double)n * records_of(&plan->tasks[t], e->benchmarks[t]);
    }
    for (int64_t s = 0; s < n; s++) {
        for (int64_t t = 0; t < n_tasks; t++) add_task(e, s, e->benchmarks[t], &plan->systems[s]);
        plan->systems[s].analysis = analysis_flops(e, &e->systems->shapes[s]);
        add_memory(e, s, plan);
    }
    for (int64_t s = 0; s < n; s++) plan->shared_work = larger(plan->shared_work, plan->systems[s].bytes);
    status = add_clock(e, plan, err);
    for (int64_t s = 0; s < n; s++) {
        if (plan->systems[s].bytes <= plan->at_work) continue;
        plan->at_work = plan->systems[s].bytes, plan->when = plan->systems[s].when;
    }
    return status;
}

void kv_plan_free(kv_plan *plan) {
    free(plan->tasks);
    free(plan->systems);
    *plan = (kv_plan){0};
}

double kv_plan_node_bytes(const kv_plan *plan) {
    const double others = kv_node_ranks() - 1;
    return plan->weights + plan->other + others * (plan->predictors + plan->other) +
           larger(kv_node_ranks() * plan->shared_work, plan->at_work) + plan->records;
}

// The machine's memory its ranks have together, the addresses that a limit leaves each for itself.
static double needed_of(const kv_plan *plan, const kv_memory_limit *limit) {
    const bool apart = kv_address_space_left("").left <= limit->left;
    const double n = apart ? 1 : kv_node_ranks();
    return plan->owned + (n - 1) * plan->predictors + larger(n * plan->shared_work, plan->at_work) +
           plan->records;
}

kv_status kv_plan_check(const kv_plan *plan, kv_error *err) {
    const kv_memory_limit limit = kv_memory_left("");
    const double needed = needed_of(plan, &limit);
    char ranks[64] = "";
    if (limit.left == INT64_MAX || needed <= (double)limit.left) return KV_OK;
    if (kv_node_ranks() > 1) snprintf(ranks, sizeof ranks, " for %d ranks of a machine", kv_node_ranks());
    return kv_fail(
        err, KV_ERR_MEMORY,
        "the evaluation needs about %.3g GB%s: %.3g of weights that are no mapped files, %.3g for %s, %.3g for "
        "what was answered; found %.3g GB left by %s, expected a smaller `batch_size`",
        needed / 1e9, ranks, plan->owned / 1e9, plan->at_work / 1e9, plan->when, plan->records / 1e9,
        (double)limit.left / 1e9, limit.by);
}

// Prompts are read many tokens at once, as many as a pack has; steps have a token of each sequence.
kv_status kv_plan_measure(const kv_evaluation *e, kv_plan *plan, kv_error *err) {
    enum { LEAST = 64, MOST = 2048, TOGETHER = 4096 };
    const kv_model_spec *base = &e->systems->shapes[0].base->spec;
    const int64_t dim = base->model_dim < LEAST ? LEAST : base->model_dim > MOST ? MOST : base->model_dim;
    double steps = 0;
    plan->together = 1;
    for (int64_t s = 0; s < e->systems->n; s++) {
        for (unsigned t = 0; t < e->config->n_tasks; t++) {
            const kv_batching batching = batching_of(e, s, t, plan->owned);
            const int64_t n = kv_benchmark_together(e->benchmarks[t], &batching);
            if (n > plan->together) plan->together = n;
        }
        steps = larger(steps, plan->systems[s].answers.steps);
    }
    plan->reading_speed = kv_speed_measure(TOGETHER, dim);
    plan->step_speed = steps > 0 ? kv_speed_measure(plan->together, dim) : plan->reading_speed;
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (plan->reading_speed > 0 && plan->step_speed > 0) return KV_OK;
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for measuring the machine's speed");
}
