// The table of a sweep on the terminal: a row for each run, or, with seeds, for all runs that differ in nothing else.
#include "train/sweep/table.h"

#include "core/spread.h"
#include "data/system/console.h"
#include "data/system/table.h"
#include "train/task/task.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 0))) static void number_cell(kv_table *table, const char *format,
                                                              double value) {
    char text[32] = "-";
    if (isfinite(value)) snprintf(text, sizeof text, format, value);
    kv_table_cell(table, "%s", text);
}

// ---- One row -------------------------------------------------------------------------------------------

static void figure_cells(const kv_sweep_row *row, kv_table *table) {
    double value[KV_SWEEP_N_FIGURES];
    for (int i = 0; i < KV_SWEEP_N_FIGURES; i++) value[i] = kv_sweep_row_number(row, i);
    // What is better the lower it is is no share: it is shown in its own unit.
    const bool lower = kv_sweep_row_lower_is_better(row);
    const double unit = lower ? 1 : 100;
    number_cell(table, lower ? "%.5g" : "%.1f %%", unit * value[KV_SWEEP_ACCURACY]);
    if (isfinite(value[KV_SWEEP_LOW]) && isfinite(value[KV_SWEEP_HIGH]))
        kv_table_cell(table, lower ? "%.5g-%.5g" : "%.1f-%.1f", unit * value[KV_SWEEP_LOW],
                      unit * value[KV_SWEEP_HIGH]);
    else
        kv_table_cell(table, "-");
    number_cell(table, "%.1f %%", 100 * value[KV_SWEEP_RETENTION]);
    number_cell(table, "%.2fx", value[KV_SWEEP_PAPER]);
    number_cell(table, "%.2fx", value[KV_SWEEP_EXACT]);
}

static void training_cells(const kv_sweep_rows *r, const kv_sweep_run *run, kv_table *table) {
    char text[32];
    if (!run) {
        for (int i = 0; i < 5; i++) kv_table_cell(table, "-");
        return;
    }
    const ptrdiff_t at = run - r->sweep->runs;
    kv_table_cell(table, "%" PRIi64, run->look.steps);
    kv_table_cell(table, "%s", kv_count_text((double)run->look.n_trained, text));
    number_cell(table, "%.4f", r->train_loss[at]);
    number_cell(table, "%.4f", r->validation_loss[at]);
    kv_table_cell(table, "%s", kv_duration(run->look.seconds, text));
}

// ---- The same with several seeds -----------------------------------------------------------------------

// Rows of one block that differ in their seed alone.
struct group {
    const kv_sweep_row **rows;
    int64_t n;
    double *values; // [n] of room
};

// Empty without a number; without ± where there is one alone. `format` prints mean and sd, `single` the mean.
__attribute__((format(printf, 3, 0), format(printf, 4, 0))) static void
spread_cell(kv_table *table, const struct group *g, const char *format, const char *single) {
    const kv_spread spread = kv_spread_of(g->values, g->n);
    char text[64] = "-";
    if (isfinite(spread.sd))
        snprintf(text, sizeof text, format, spread.mean, spread.sd);
    else if (isfinite(spread.mean))
        snprintf(text, sizeof text, single, spread.mean);
    kv_table_cell(table, "%s", text);
}

static void take_column(struct group *g, int column, double unit) {
    for (int64_t i = 0; i < g->n; i++) g->values[i] = unit * kv_sweep_row_number(g->rows[i], column);
}

static const char *test_text(const kv_csv_table *tests, int64_t row, const char *column) {
    return kv_csv_cell(tests, row, kv_csv_column(tests, column));
}

static void p_cell(const kv_csv_table *tests, int64_t row, const char *column, kv_table *table) {
    const char *text = row < 0 ? "" : test_text(tests, row, column);
    const double p = strtod(text, NULL);
    if (!*text)
        kv_table_cell(table, "-");
    else if (p < 0.001)
        kv_table_cell(table, "<0.001");
    else
        kv_table_cell(table, "%.3f", p);
}

// Against the base, whose comparisons come first.
static void p_cells(const kv_csv_table *tests, const kv_sweep_row *row, kv_table *table) {
    static const char *const columns[] = {"task", "split", "metric"};
    int64_t at = -1;
    for (int64_t r = 0; at < 0 && r < tests->n_rows; r++) {
        bool same = !strcmp(test_text(tests, r, "system"), kv_sweep_row_name(row));
        for (int i = 0; i < 3; i++)
            same =
                same && !strcmp(test_text(tests, r, columns[i]), kv_sweep_row_text(row, KV_SWEEP_TASK + i));
        if (same) at = r;
    }
    p_cell(tests, at, "p_seeds", table);
    p_cell(tests, at, "p_items", table);
}

static void mean_figure_cells(const kv_sweep_rows *r, struct group *g, kv_table *table) {
    const bool lower = kv_sweep_row_lower_is_better(g->rows[0]);
    take_column(g, KV_SWEEP_ACCURACY, lower ? 1 : 100);
    spread_cell(table, g, lower ? "%.4f ± %.4f" : "%.1f ± %.1f %%", lower ? "%.4f" : "%.1f %%");
    take_column(g, KV_SWEEP_RETENTION, 100);
    spread_cell(table, g, "%.1f ± %.1f %%", "%.1f %%");
    if (r->tests.n_rows) p_cells(&r->tests, g->rows[0], table);
    for (int column = KV_SWEEP_PAPER; column <= KV_SWEEP_EXACT; column++) {
        take_column(g, column, 1);
        number_cell(table, "%.2fx", kv_spread_of(g->values, g->n).mean);
    }
}

static void take_losses(const kv_sweep_rows *r, struct group *g, const double *losses) {
    for (int64_t i = 0; i < g->n; i++) g->values[i] = losses[g->rows[i]->run - r->sweep->runs];
}

static void mean_training_cells(const kv_sweep_rows *r, struct group *g, kv_table *table) {
    const kv_sweep_run *run = g->rows[0]->run;
    char text[32];
    double seconds = 0;
    if (!run) {
        training_cells(r, NULL, table);
        return;
    }
    kv_table_cell(table, "%" PRIi64, run->look.steps);
    kv_table_cell(table, "%s", kv_count_text((double)run->look.n_trained, text));
    take_losses(r, g, r->train_loss);
    spread_cell(table, g, "%.4f ± %.4f", "%.4f");
    take_losses(r, g, r->validation_loss);
    spread_cell(table, g, "%.4f ± %.4f", "%.4f");
    for (int64_t i = 0; i < g->n; i++) seconds += g->rows[i]->run->look.seconds;
    kv_table_cell(table, "%s", kv_duration(seconds / (double)g->n, text));
}

// ---- Blocks --------------------------------------------------------------------------------------------

// Whether two rows are of the same task, split and metric.
static bool same_block(const kv_sweep_row *a, const kv_sweep_row *b) {
    for (int i = KV_SWEEP_TASK; i <= KV_SWEEP_METRIC; i++)
        if (strcmp(kv_sweep_row_text(a, i), kv_sweep_row_text(b, i)) != 0) return false;
    return true;
}

static bool same_group(const kv_sweep_row *a, const kv_sweep_row *b) {
    return same_block(a, b) && !a->run == !b->run && !strcmp(kv_sweep_row_name(a), kv_sweep_row_name(b));
}

// The rows of a group, first of all the one it begins with; n 0 where it has begun before.
static void find_group(const kv_sweep_rows *r, const kv_sweep_row *first, struct group *g) {
    g->n = 0;
    for (const kv_sweep_row *row = r->rows; row < r->rows + r->n_rows; row++) {
        if (!same_group(first, row)) continue;
        if (g->n == 0 && row != first) return;
        g->rows[g->n++] = row;
    }
}

static void block_columns(const kv_sweep_rows *r, const kv_sweep_row *first, kv_table *table) {
    static const char *const training[] = {"steps", "trained", "loss", "validation", "time"};
    const bool seeds = r->sweep->file.n_seeds > 0;
    kv_table_column(table, "", "run", true);
    if (seeds) kv_table_column(table, "", "seeds", false);
    if (first->result >= 0) {
        kv_table_column(table, "",
                        kv_sweep_row_lower_is_better(first) ? kv_sweep_row_text(first, KV_SWEEP_METRIC)
                                                            : "accuracy",
                        false);
        if (!seeds) kv_table_column(table, "", "95 %", false);
        kv_table_column(table, "", "kept", false);
        if (r->tests.n_rows) kv_table_column(table, "p", "seeds", false);
        if (r->tests.n_rows) kv_table_column(table, "p", "items", false);
        kv_table_column(table, "FLOPs reduction", "paper", false);
        kv_table_column(table, "FLOPs reduction", "exact", false);
    }
    for (int i = 0; i < 5; i++) kv_table_column(table, "training", training[i], false);
}

static void block_rows(const kv_sweep_rows *r, const kv_sweep_row *first, kv_table *table) {
    for (const kv_sweep_row *row = first; row < r->rows + r->n_rows; row++) {
        if (!same_block(first, row)) continue;
        kv_table_cell(table, "%s", kv_sweep_row_name(row));
        if (first->result >= 0) figure_cells(row, table);
        training_cells(r, row->run, table);
    }
}

static void block_means(const kv_sweep_rows *r, const kv_sweep_row *first, kv_table *table) {
    struct group g = {.rows = calloc(r->n_rows, sizeof *g.rows),
                      .values = calloc(r->n_rows, sizeof *g.values)};
    for (const kv_sweep_row *row = first; g.rows && g.values && row < r->rows + r->n_rows; row++) {
        if (!same_block(first, row)) continue;
        find_group(r, row, &g);
        if (g.n == 0) continue;
        kv_table_cell(table, "%s", kv_sweep_row_name(row));
        take_column(&g, KV_SWEEP_ACCURACY, 1);
        kv_table_cell(table, "%" PRIi64, first->result < 0 ? g.n : kv_spread_of(g.values, g.n).n);
        if (first->result >= 0) mean_figure_cells(r, &g, table);
        mean_training_cells(r, &g, table);
    }
    free(g.rows);
    free(g.values);
}

static void print_block(const kv_sweep_rows *r, const kv_sweep_row *first, FILE *out) {
    kv_table *table = kv_table_create();
    block_columns(r, first, table);
    if (r->sweep->file.n_seeds)
        block_means(r, first, table);
    else
        block_rows(r, first, table);
    if (first->result >= 0)
        fprintf(out, "%s, %s: %s%s%s\n", kv_sweep_row_text(first, KV_SWEEP_TASK),
                kv_sweep_row_text(first, KV_SWEEP_SPLIT), kv_sweep_row_text(first, KV_SWEEP_METRIC),
                kv_sweep_row_lower_is_better(first) ? "; lower is better" : "",
                r->sweep->file.n_seeds > 1 ? "; mean ± standard deviation over seeds" : "");
    else
        fputs("not evaluated\n", out);
    kv_table_print(table, out);
    kv_table_free(table);
}

// What means are without: runs that failed, or were left out.
static void print_missing(const kv_sweep_rows *r, FILE *out) {
    for (size_t i = 0; i < r->sweep->n_runs; i++) {
        const kv_sweep_run *run = &r->sweep->runs[i];
        if (run->seed && run->look.state != KV_SWEEP_DONE)
            fprintf(out, "%s: without seed %" PRIu64 ", %s\n", run->row, *run->seed,
                    run->look.state == KV_SWEEP_FAILED ? "whose training failed" : "which is not trained");
    }
}

void kv_sweep_print_rows(const kv_sweep_rows *r, FILE *out) {
    for (size_t i = 0; i < r->n_rows; i++) {
        bool printed = false;
        for (size_t j = 0; !printed && j < i; j++) printed = same_block(&r->rows[i], &r->rows[j]);
        if (printed) continue;
        if (i > 0) fputc('\n', out);
        print_block(r, &r->rows[i], out);
    }
    print_missing(r, out);
    if (r->tests.n_rows)
        fputs(
            "p against the base: seeds, paired t-test over seeds; items, paired test over the items of all seeds\n",
            out);
}
