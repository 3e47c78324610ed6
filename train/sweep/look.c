// Where the runs of a sweep stand, what they take and how long that will be.
#include "core/text.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/system/console.h"
#include "data/system/speed.h"
#include "train/run/doubts.h"
#include "train/run/footprint.h"
#include "train/run/sliced.h"
#include "train/run/training.h"
#include "train/sweep/sweep.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

// ---- One training --------------------------------------------------------------------------------------

static double seconds_of(const char *run) {
    char path[PATH_MAX];
    kv_json_file file = {0};
    double seconds = 0;
    if (kv_path_join(run, "final", path, NULL) == KV_OK &&
        kv_json_open(path, "state.json", &file, NULL) == KV_OK)
        kv_json_real(&file, "seconds", 0, 1e12, &seconds, NULL);
    kv_json_close(&file);
    return seconds;
}

static void plan(const kv_training *s, kv_sweep_look *look) {
    kv_footprint footprint;
    kv_task_choice choice = kv_footprint_chosen(s->config);
    choice.n_ranks = choice.node_ranks = 1; // ranks share runs, not a run
    kv_footprint_estimate(s->task, &choice, &footprint);
    look->known = true;
    look->steps = s->config->train.steps;
    look->n_trained = s->task->n_trainable;
    look->flops = (double)kv_step_flops(s->task, &choice) * (double)look->steps;
    look->memory = footprint.peak;
}

static void note_longer(const kv_training *s, kv_sweep_look *look) {
    const kv_run *run = &s->run;
    const kv_run_plan *last = run->n_plans > 0 ? &run->plans[run->n_plans - 1] : NULL;
    kv_error inner = {0};
    look->longer = last && last->until == run->state.step;
    if (!look->longer) return;
    kv_config_fail(s->source, &inner, "train.steps",
                   "found %" PRIi64 " in a run that was planned for %" PRIi64 " until step %" PRIi64,
                   look->steps, last->steps, last->until);
    snprintf(look->why_changed, sizeof look->why_changed, "%.*s", KV_HEAD(inner.message, 500));
}

kv_status kv_sweep_look_at(const char *train, const char *const *overrides, size_t n_overrides,
                           kv_sweep_look *look, kv_error *err) {
    kv_training s = {0};
    kv_error inner = {0};
    *look = (kv_sweep_look){0};
    kv_status status = kv_training_open(&s, train, overrides, n_overrides, &inner);
    if (status == KV_OK) {
        kv_training_doubts(&s);
        plan(&s, look);
        status = kv_training_run(&s, KV_RUN_RESUME, &inner);
    }
    if (look->known && status != KV_OK) {
        look->changed = true;
        snprintf(look->why_changed, sizeof look->why_changed, "%.*s", KV_HEAD(inner.message, 500));
        status = KV_OK;
    } else if (status == KV_OK) {
        look->steps_done = s.run.finished ? look->steps : s.run.state.step;
        look->seconds = s.run.finished ? seconds_of(s.run.path) : s.run.state.seconds;
        if (s.run.finished) look->state = KV_SWEEP_DONE;
        note_longer(&s, look);
    }
    kv_training_close(&s);
    return status == KV_OK ? KV_OK : kv_fail(err, status, "%s", inner.message);
}

kv_status kv_sweep_look_at_prepared(const kv_sweep_prepared *p, kv_sweep_look *look, kv_error *err) {
    const char *const overrides[] = {p->override};
    return kv_sweep_look_at(p->path, overrides, p->seed != NULL, look, err);
}

kv_status kv_sweep_look_at_runs(kv_sweep *sweep, kv_error *err) {
    for (size_t i = 0; i < sweep->n_runs; i++) {
        kv_sweep_run *run = &sweep->runs[i];
        kv_error inner = {0};
        const kv_status status = kv_sweep_look_at(run->train, (const char *const *)run->overrides,
                                                  run->n_overrides, &run->look, &inner);
        if (status == KV_OK) continue;
        // What it stands on may be that of a seed that nobody wants now.
        if (run->wanted) return kv_sweep_name_place(sweep, run, status, &inner, err);
        run->look = (kv_sweep_look){0};
    }
    return KV_OK;
}

// ---- Time ----------------------------------------------------------------------------------------------

// Seconds a FLOP of the runs that are done; 0: there are none. any_task: of both tasks.
static double pace(const kv_sweep *sweep, kv_task_kind task, bool any_task) {
    double seconds = 0, flops = 0;
    for (size_t i = 0; i < sweep->n_runs; i++) {
        const kv_sweep_run *run = &sweep->runs[i];
        if (run->look.state != KV_SWEEP_DONE || !(run->look.seconds > 0)) continue;
        if (!any_task && run->config->task != task) continue;
        seconds += run->look.seconds;
        flops += run->look.flops;
    }
    return flops > 0 ? seconds / flops : 0;
}

double kv_sweep_seconds_left(const kv_sweep *sweep, const kv_sweep_look *look, kv_task_kind task) {
    const int64_t left = look->steps - look->steps_done;
    if (!look->known || left <= 0 || look->state != KV_SWEEP_TO_DO) return 0;
    double each = pace(sweep, task, false);
    if (each == 0) each = pace(sweep, task, true);
    return each > 0 ? look->flops * (double)left / (double)look->steps * each : (double)NAN;
}

// ---- --dry-run -----------------------------------------------------------------------------------------

static const char *state_text(const kv_sweep_look *look, bool wanted, char text[48]) {
    if (look->changed) return "changed";
    if (look->state == KV_SWEEP_DONE) return "done";
    if (!wanted) return "left out";
    if (look->steps_done == 0) return "to do";
    snprintf(text, 48, look->longer ? "longer from %" PRIi64 : "at step %" PRIi64, look->steps_done);
    return text;
}

static void look_cells(kv_table *table, const kv_sweep_look *look, double seconds, bool lower_bound) {
    char text[32];
    if (!look->known) {
        for (int i = 0; i < 5; i++) kv_table_cell(table, "?");
        return;
    }
    kv_table_number(table, "%.0f", 1, (double)look->steps);
    kv_table_value(table, (double)look->n_trained, "%s", kv_count_text((double)look->n_trained, text));
    kv_table_number(table, "%.3g", 1, look->flops);
    kv_table_number(table, "%.3g GB", 1e-9, look->memory);
    if (look->state == KV_SWEEP_DONE)
        kv_table_none(table);
    else
        kv_table_value(table, seconds, "%s%s", lower_bound ? ">= " : "", kv_duration(seconds, text));
}

struct total {
    double seconds;
    size_t n_left, n_unknown, n_changed;
    bool lower_bound;
};

// Without a pace to go by: the products alone, at the rate of the machine, which is measured once.
static double least_seconds(const kv_sweep_look *look) {
    static double rate;
    if (rate == 0) rate = kv_speed_measure(2048, 256);
    const double left = (double)(look->steps - look->steps_done) / (double)look->steps;
    return rate > 0 ? look->flops * left / rate : 0;
}

static void add_row(kv_table *table, const kv_sweep *sweep, const char *name, const kv_sweep_look *look,
                    kv_task_kind task, bool wanted, struct total *total) {
    char text[48];
    kv_sweep_look left = *look; // one of another configuration begins again
    if (left.changed) left.steps_done = 0, left.state = KV_SWEEP_TO_DO;
    double seconds = kv_sweep_seconds_left(sweep, &left, task);
    const bool lower_bound = isnan(seconds);
    if (lower_bound) seconds = least_seconds(&left);
    kv_table_cell(table, "%s", name);
    kv_table_cell(table, "%s", look->known || !wanted ? state_text(look, wanted, text) : "to do");
    look_cells(table, &left, seconds, lower_bound);
    total->n_changed += look->changed;
    if (look->state == KV_SWEEP_DONE || !wanted) return;
    total->n_left++;
    total->n_unknown += !look->known;
    total->seconds += seconds;
    total->lower_bound = total->lower_bound || lower_bound;
}

static void add_total(const struct total *total, kv_tables *tables) {
    kv_table *paragraph = kv_tables_add(tables, KV_FOR_ALL, "total");
    char text[32], time[200] = "", unknown[100] = "";
    if (total->n_left > 0)
        snprintf(time, sizeof time, ", %s%s in all%s", total->lower_bound ? "at least " : "",
                 kv_duration(total->seconds, text),
                 total->lower_bound ? ": the matrix products alone, at the rate measured just now"
                                    : " at the pace of those that are done");
    if (total->n_unknown > 0)
        snprintf(unknown, sizeof unknown, "; %zu not counted whose models are still to be trained",
                 total->n_unknown);
    kv_table_title(paragraph, "%zu to be trained%s%s", total->n_left, time, unknown);
    if (total->n_changed > 0)
        kv_table_note(paragraph, "%zu were trained by another configuration: --force replaces them",
                      total->n_changed);
}

static void look_at_prepared(const kv_sweep *sweep, kv_table *table, struct total *total) {
    for (size_t i = 0; i < sweep->n_prepared; i++) {
        const kv_sweep_prepared *p = &sweep->prepared[i];
        kv_sweep_look look;
        char name[300];
        snprintf(name, sizeof name, "%.*s%s", KV_HEAD(p->output, 200),
                 sweep->file.n_seeds && !p->seed ? " (all seeds)" : "");
        // One that reads another that is still to be trained is not known yet.
        if (kv_sweep_look_at_prepared(p, &look, NULL) != KV_OK) look = (kv_sweep_look){0};
        add_row(table, sweep, name, &look, p->task, p->wanted, total);
    }
}

static void title(const kv_sweep *sweep, kv_table *table) {
    const kv_sweep_file *file = &sweep->file;
    char seeds[1024] = "";
    size_t used = 0;
    for (size_t i = 0; i < file->n_seeds && used < sizeof seeds; i++)
        used += (size_t)snprintf(seeds + used, sizeof seeds - used, "%s%" PRIu64,
                                 i                   ? ", "
                                 : file->n_seeds > 1 ? ", seeds "
                                                     : ", seed ",
                                 file->seeds[i]);
    kv_table_title(table, "%s: %zu runs in %s%s", file->path, sweep->n_runs, sweep->output, seeds);
}

static void columns(kv_table *table) {
    kv_table_field(table, "", "run", KV_FIELD_TEXT, "run");
    kv_table_field(table, "", "", KV_FIELD_TEXT, "state");
    kv_table_field(table, "", "steps", KV_FIELD_WHOLE, "steps");
    kv_table_field(table, "", "trained", KV_FIELD_WHOLE, "trained_parameters");
    kv_table_field(table, "", "FLOPs", KV_FIELD_NUMBER, "flops");
    kv_table_field(table, "", "memory", KV_FIELD_NUMBER, "memory_bytes");
    kv_table_field(table, "", "time", KV_FIELD_NUMBER, "seconds");
}

kv_status kv_sweep_estimate(const kv_sweep_args *args, FILE *out, kv_error *err) {
    kv_sweep sweep = {0};
    struct total total = {0};
    kv_tables *tables = kv_tables_create();
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "sweep");
    columns(table);
    kv_status status = kv_sweep_open(args, &sweep, err);
    if (status == KV_OK && !args->no_eval) status = kv_sweep_check_tokenizer(&sweep, err);
    if (status == KV_OK) look_at_prepared(&sweep, table, &total);
    const bool ready = status == KV_OK && total.n_left == 0;
    if (ready) {
        status = kv_sweep_look_at_runs(&sweep, err);
    } else if (status == KV_OK) {
        for (size_t i = 0; i < sweep.n_runs; i++)
            kv_sweep_look_at(sweep.runs[i].train, (const char *const *)sweep.runs[i].overrides,
                             sweep.runs[i].n_overrides, &sweep.runs[i].look, NULL);
    }
    for (size_t i = 0; status == KV_OK && i < sweep.n_runs; i++)
        add_row(table, &sweep, sweep.runs[i].name, &sweep.runs[i].look, sweep.runs[i].config->task,
                sweep.runs[i].wanted, &total);
    if (status == KV_OK) {
        title(&sweep, table);
        add_total(&total, tables);
        status = kv_tables_write(tables, args->format, out, err);
        if (ferror(out) || fflush(out)) status = kv_fail(err, KV_ERR_IO, "cannot write to standard output");
    }
    kv_tables_free(tables);
    kv_sweep_close(&sweep);
    return status;
}
