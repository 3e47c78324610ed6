// For spreadsheets and scripts: one row says everything about one figure, and what is not known is empty,
// never 0.
#include "data/file/csv.h"
#include "eval/results/results.h"
#include "eval/results/selection.h"

#include <math.h>
#include <stdlib.h>

// ---- results.csv ---------------------------------------------------------------------------------------

static void metric_row(kv_csv *csv, const kv_results *r, int64_t system, int64_t task, int metric,
                       bool on_front) {
    const kv_result_system *s = &r->systems[system];
    const kv_result_task *t = &r->tasks[task];
    const kv_outcome *o = kv_results_outcome(r, system, task);
    const kv_figure *f = &o->figures[metric];
    const kv_timing *timing = r->n_timings ? &r->timings[0] : NULL;
    kv_csv_text(csv, s->name);
    kv_csv_text(csv, s->family);
    kv_csv_text(csv, t->name);
    kv_csv_text(csv, t->split);
    kv_csv_text(csv, t->metrics[metric]);
    const double numbers[] = {f->accuracy,
                              f->retention,
                              s->paper_reduction,
                              o->exact_reduction,
                              timing ? timing->seconds[system] : NAN,
                              timing ? timing->reduction[system] : NAN,
                              timing ? timing->spread[system] : NAN,
                              (double)t->shots,
                              (double)t->n_items,
                              o->flops,
                              t->prompt_tokens,
                              f->low,
                              f->high,
                              f->p_value};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) kv_csv_number(csv, numbers[i]);
    kv_csv_number(csv, on_front);
    kv_csv_number(csv, f->retention_low);
    kv_csv_number(csv, f->retention_high);
    kv_csv_number(csv, (double)t->n_skipped);
    kv_csv_number(csv, (double)t->n_cut);
    kv_csv_number(csv, o->values && kv_task_runs_programs(t) ? (double)o->redefined : NAN);
    kv_csv_text(csv, o->not_finite ? KV_NOT_FINITE : "");
    kv_csv_number(csv, t->chat);
    kv_csv_number(csv, o->flops_computed);
    kv_csv_number(csv, o->flops_looked_up);
    kv_csv_number(csv, s->lookups);
    kv_csv_text(csv, t->shots == 0 ? "" : t->shots_once ? "once" : "each");
    kv_csv_text(csv, kv_metric_better(kv_metric_of(t->metrics[metric])));
    kv_csv_end_row(csv);
}

kv_status kv_results_write_csv(const kv_results *r, const char *path, kv_error *err) {
    kv_csv *csv;
    kv_status status =
        kv_csv_create(path,
                      "system,family,task,split,metric,accuracy,retention,flops_reduction_paper,"
                      "flops_reduction_exact,ttft_seconds,ttft_reduction,ttft_spread,shots,"
                      "n_questions,flops_exact,prompt_tokens,accuracy_low,accuracy_high,p_value,"
                      "on_front,retention_low,retention_high,n_skipped,n_cut,redefined,note,chat,"
                      "flops_computed,flops_looked_up,lookups,shots_drawn,better",
                      &csv, err);
    if (status != KV_OK) return status;
    bool *front = calloc((size_t)(r->n_systems * r->n_tasks) + 1, sizeof *front);
    bool ok = front != NULL;
    for (int64_t t = 0; ok && t < r->n_tasks; t++) ok = kv_results_front(r, t, front + t * r->n_systems);
    for (int64_t s = 0; ok && s < r->n_systems; s++)
        for (int64_t t = 0; t < r->n_tasks; t++)
            for (int m = 0; m < r->tasks[t].n_metrics; m++)
                if (kv_results_outcome(r, s, t)->values || kv_results_outcome(r, s, t)->not_finite)
                    metric_row(csv, r, s, t, m, front[t * r->n_systems + s]);
    if (!ok) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for results.csv");
    free(front);
    return kv_csv_close(csv, status, err);
}

// ---- budgets.csv and ttft.csv --------------------------------------------------------------------------

static void choice_row(const kv_budget_choice *choice, void *context) {
    kv_csv *csv = context;
    kv_csv_number(csv, choice->budget);
    kv_csv_text(csv, choice->task->name);
    kv_csv_text(csv, choice->task->split);
    kv_csv_text(csv, choice->task->metrics[0]);
    kv_csv_text(csv, choice->family);
    kv_csv_text(csv, choice->system->name);
    kv_csv_number(csv, choice->figure->accuracy);
    kv_csv_number(csv, choice->figure->low);
    kv_csv_number(csv, choice->figure->high);
    kv_csv_number(csv, choice->fraction);
    kv_csv_text(csv, kv_metric_better(kv_metric_of(choice->task->metrics[0])));
    kv_csv_end_row(csv);
}

kv_status kv_results_write_budgets(const kv_results *r, const char *path, kv_error *err) {
    kv_csv *csv;
    kv_status status = kv_csv_create(
        path,
        "budget,task,split,metric,family,system,accuracy,accuracy_low,accuracy_high,flops_fraction,better",
        &csv, err);
    if (status != KV_OK) return status;
    for (int64_t t = 0; t < r->n_tasks && status == KV_OK; t++)
        status = kv_results_choose(r, t, choice_row, csv, err);
    return kv_csv_close(csv, status, err);
}

kv_status kv_results_write_timings(const kv_results *r, const char *path, kv_error *err) {
    kv_csv *csv;
    kv_status status = kv_csv_create(
        path, "system,family,prompt_tokens,batch_size,repeats,ttft_seconds,ttft_spread,ttft_reduction,flops",
        &csv, err);
    if (status != KV_OK) return status;
    for (int64_t i = 0; i < r->n_timings; i++)
        for (int64_t s = 0; s < r->n_systems; s++) {
            const kv_timing *t = &r->timings[i];
            if (!isfinite(t->seconds[s])) continue;
            kv_csv_text(csv, r->systems[s].name);
            kv_csv_text(csv, r->systems[s].family);
            const double numbers[] = {(double)t->prompt_tokens,
                                      (double)t->batch_size,
                                      (double)t->repeats,
                                      t->seconds[s],
                                      t->spread[s],
                                      t->reduction[s],
                                      t->flops[s]};
            for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) kv_csv_number(csv, numbers[n]);
            kv_csv_end_row(csv);
        }
    return kv_csv_close(csv, status, err);
}
