// The plan as --dry-run prints it: the same text on a terminal and in a pipe.
#include "eval/evaluate/plan.h"

#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "data/system/memory.h"
#include "data/table/table.h"
#include "eval/evaluate/shared.h"
#include "eval/evaluate/timing.h"

#include <string.h>

// "1.46 GB", "9.7 MB".
static char *bytes_text(double bytes, char text[32]) {
    const bool giga = bytes >= 1e9;
    snprintf(text, 32,
             giga              ? "%.3g GB"
             : bytes < 999.5e3 ? "%.2g MB"
                               : "%.3g MB",
             bytes / (giga ? 1e9 : 1e6));
    return text;
}

static void print_systems(const kv_evaluation *e, FILE *out) {
    fprintf(out, "%-12s", "systems");
    for (unsigned s = 0; s < e->config->n_systems; s++)
        fprintf(out, " %s%s%s", s ? "| " : "", e->config->systems[s].name,
                e->config->systems[s].tabulated ? " (tabulated)" : "");
    fprintf(out, "\n");
}

static void print_tokens(const kv_benchmark *b, const kv_plan_task *task, FILE *out) {
    char read[32], written[32];
    fprintf(out, "%-12s %s tokens to read in %lld sequence%s: %.4g each, the longest %lld", "",
            kv_count_text(task->prompt_tokens, read), (long long)task->sequences,
            task->sequences == 1 ? "" : "s", task->prompt_tokens / (double)task->sequences,
            (long long)task->longest);
    if (b->answer_tokens > 0)
        fprintf(out, "; %s to write, at most %lld each", kv_count_text(task->answer_tokens, written),
                (long long)b->answer_tokens);
    fputc('\n', out);
}

// What is read once for all prompts of a task, and from where.
static void print_shared(const kv_evaluation *e, unsigned t, FILE *out) {
    for (unsigned s = 0; s < e->config->n_systems; s++) {
        kv_shared_file file;
        if (kv_shared_file_find(e, s, t, &file, NULL) != KV_OK || !file.used) continue;
        fprintf(out, "%-12s %s: all prompts begin with the same %lld tokens; %s %s\n", "",
                e->config->systems[s].name, (long long)file.n_tokens, file.path,
                file.there ? "is there" : "will be made");
    }
}

static void print_task(const kv_evaluation *e, const kv_plan *plan, unsigned t, FILE *out) {
    const kv_benchmark *b = e->benchmarks[t];
    const kv_eval_task *row = &e->config->tasks[t];
    fprintf(out, "%-12s %s%s%s: %lld items, %lld answers of each system, scored by %s", t == 0 ? "tasks" : "",
            row->name, *row->split ? ", " : "", row->split, (long long)b->n_items, (long long)b->n_units,
            b->metrics[0]);
    if (row->chat) fputs("; asked in a chat", out);
    if (row->shots > 0 && row->shots_drawn == KV_SHOTS_ONCE)
        fprintf(out, "; the same %lld example%s in front of all", (long long)row->shots,
                row->shots == 1 ? "" : "s");
    if (b->n_skipped) fprintf(out, "; %lld skipped: too long", (long long)b->n_skipped);
    if (b->n_cut) fprintf(out, "; %lld cut from the left: too long", (long long)b->n_cut);
    fputc('\n', out);
    print_tokens(b, &plan->tasks[t], out);
    print_shared(e, t, out);
}

static void print_clock(const kv_evaluation *e, const kv_plan *plan, FILE *out) {
    if (plan->n_cells > 0)
        fprintf(out, "%-12s time to first token of %lld size%s of prompts, %lld times after a warm-up\n",
                "clock", (long long)plan->n_cells, plan->n_cells == 1 ? "" : "s",
                (long long)e->config->ttft.repeats);
}

static void print_memory(const kv_plan *plan, FILE *out) {
    const kv_memory_limit limit = kv_memory_left("");
    const double parts[] = {plan->weights + plan->at_work + plan->records + plan->other, plan->weights,
                            plan->at_work, plan->records, plan->other};
    char text[5][32], left[32];
    for (int i = 0; i < 5; i++) bytes_text(parts[i], text[i]);
    fprintf(out, "%-12s about %s: %s weights, %s at work (%s), %s records, %s program\n", "memory", text[0],
            text[1], text[2], plan->when ? plan->when : "nothing", text[3], text[4]);
    if (kv_n_ranks() > 1) {
        char node[32];
        fprintf(out, "%-12s that is rank 0's; %s of the %d ranks of its machine, which have models once\n",
                "", bytes_text(kv_plan_node_bytes(plan), node), kv_node_ranks());
    }
    if (limit.left == INT64_MAX) return;
    fprintf(out, "%-12s %s: %s are left by %s\n", "",
            kv_plan_check(plan, NULL) == KV_OK ? "fits" : "does not fit",
            bytes_text((double)limit.left, left), limit.by);
}

// ---- Systems -------------------------------------------------------------------------------------------

static double flops_of(const kv_plan_system *s) {
    return s->answers.reading + s->answers.steps + s->clock + s->analysis;
}

// Ranks share all but the clock.
static double seconds_of(const kv_plan *plan, const kv_plan_system *s) {
    return ((s->answers.reading + s->analysis) / plan->reading_speed + s->answers.steps / plan->step_speed) /
               kv_n_ranks() +
           s->clock / plan->reading_speed;
}

static char *seconds_text(double seconds, char text[32]) {
    return seconds < 1 ? strcpy(text, "< 1 s") : kv_duration(seconds, text);
}

static bool has_lookups(const kv_evaluation *e) {
    bool any = false;
    for (int64_t s = 0; s < e->systems->n; s++) any = any || kv_system_lookups(&e->systems->shapes[s]) > 0;
    return any;
}

static void add_row(kv_table *table, const kv_evaluation *e, const kv_plan *plan, int64_t i) {
    const kv_plan_system *s = &plan->systems[i];
    char text[32];
    kv_table_cell(table, "%s", e->config->systems[i].name);
    const double parts[] = {s->answers.reading, s->answers.steps, s->clock, s->analysis};
    for (int k = 0; k < 4; k++)
        kv_table_cell(table, "%s", parts[k] > 0 ? kv_count_text(parts[k], text) : "-");
    kv_table_cell(table, "%s", seconds_text(seconds_of(plan, s), text));
    kv_table_cell(table, "%s", bytes_text(s->bytes, text));
    if (has_lookups(e)) kv_table_cell(table, "%lld", (long long)kv_system_lookups(&e->systems->shapes[i]));
}

static void print_costs(const kv_evaluation *e, const kv_plan *plan, FILE *out) {
    kv_table *table = kv_table_create();
    kv_table_column(table, "", "system", true);
    static const char *const parts[] = {"reading", "writing", "clock", "analysis"};
    for (int k = 0; k < 4; k++) kv_table_column(table, "FLOPs, at most", parts[k], false);
    kv_table_column(table, "", "about", false);
    kv_table_column(table, "", "at work", false);
    if (has_lookups(e)) kv_table_column(table, "lookups", "a token", false);
    for (int64_t s = 0; s < e->systems->n; s++) add_row(table, e, plan, s);
    fputc('\n', out);
    kv_table_print(table, out);
    kv_table_free(table);
}

// Of predictors of which something depends on the token alone.
static void print_lookups(const kv_evaluation *e, FILE *out) {
    const int64_t n = kv_timing_prompt(e);
    for (int64_t s = 0; s < e->systems->n; s++) {
        const kv_system *shape = &e->systems->shapes[s];
        const uint64_t computed = kv_system_flops_computed(shape, n),
                       looked_up = kv_system_flops_looked_up(shape, n);
        char texts[2][32];
        if (kv_system_lookups(shape) == 0) continue;
        fprintf(
            out,
            "%-12s %s: a prompt of %lld tokens takes %sFLOPs with nothing looked up, %sFLOPs with all of it%s\n",
            "lookups", e->config->systems[s].name, (long long)n, kv_count_text((double)computed, texts[0]),
            kv_count_text((double)looked_up, texts[1]), e->config->systems[s].tabulated ? ", as here" : "");
    }
}

static void print_time(const kv_evaluation *e, const kv_plan *plan, FILE *out) {
    double flops = 0, seconds = 0;
    char duration[32], count[32];
    for (int64_t s = 0; s < e->systems->n; s++) {
        flops += flops_of(&plan->systems[s]);
        seconds += seconds_of(plan, &plan->systems[s]);
    }
    fprintf(out, "\n%-12s about %s: %sFLOPs at most, at the %.3g GFLOP/s of reading", "time",
            seconds < 1 ? "a second or less" : kv_duration(seconds, duration), kv_count_text(flops, count),
            plan->reading_speed / 1e9);
    if (plan->step_speed != plan->reading_speed)
        fprintf(out, " and the %.3g of writing %lld at a time", plan->step_speed / 1e9,
                (long long)plan->together);
    fputs(" that were measured just now", out);
    if (kv_n_ranks() > 1) fprintf(out, ", on each of %d ranks", kv_n_ranks());
    fputc('\n', out);
}

void kv_plan_print(const kv_evaluation *e, const kv_plan *plan, FILE *out) {
    print_systems(e, out);
    for (unsigned t = 0; t < e->config->n_tasks; t++) print_task(e, plan, t, out);
    print_clock(e, plan, out);
    if (e->text.rows)
        fprintf(out, "%-12s predicted caches on %lld sequences of %lld tokens\n", "analysis",
                (long long)e->text.sequences, (long long)e->text.seq_len);
    print_lookups(e, out);
    print_memory(plan, out);
    fprintf(out, "%-12s %s\n", "output", e->config->output);
    print_costs(e, plan, out);
    print_time(e, plan, out);
}
