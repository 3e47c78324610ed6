// The table of a sweep as it is shown: a row for each run, or, with seeds, for all runs that differ in nothing else.
#include "train/sweep/table.h"

#include "core/spread.h"
#include "data/system/console.h"
#include "train/task/task.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- One row -------------------------------------------------------------------------------------------

static void figure_cells(const kv_sweep_row *row, kv_table *table) {
    double value[KV_SWEEP_N_FIGURES];
    for (int i = 0; i < KV_SWEEP_N_FIGURES; i++) value[i] = kv_sweep_row_number(row, i);
    // What is better the lower it is is no share: it is shown in its own unit.
    const bool lower = kv_sweep_row_lower_is_better(row);
    const double unit = lower ? 1 : 100, low = value[KV_SWEEP_LOW], high = value[KV_SWEEP_HIGH];
    kv_table_number(table, lower ? "%.5g" : "%.1f %%", unit, value[KV_SWEEP_ACCURACY]);
    if (isfinite(low) && isfinite(high))
        kv_table_pair(table, low, high, lower ? "%.5g-%.5g" : "%.1f-%.1f", unit * low, unit * high);
    else
        kv_table_none(table);
    kv_table_number(table, "%.1f %%", 100, value[KV_SWEEP_RETENTION]);
    kv_table_pair(table, value[KV_SWEEP_RETENTION_LOW], value[KV_SWEEP_RETENTION_HIGH], "%s", "");
    kv_table_number(table, "%.3f", 1, value[KV_SWEEP_P_VALUE]);
    kv_table_number(table, "%.2fx", 1, value[KV_SWEEP_PAPER]);
    kv_table_number(table, "%.2fx", 1, value[KV_SWEEP_EXACT]);
}

static void size_cells(const kv_sweep_run *run, kv_table *table) {
    char text[32];
    const double trained = (double)run->look.n_trained;
    kv_table_number(table, "%.0f", 1, (double)run->look.steps);
    kv_table_value(table, trained, "%s", kv_count_text(trained, text));
}

static void training_cells(const kv_sweep_rows *r, const kv_sweep_run *run, kv_table *table) {
    char text[32];
    if (!run) {
        for (int i = 0; i < 5; i++) kv_table_none(table);
        return;
    }
    const ptrdiff_t at = run - r->sweep->runs;
    size_cells(run, table);
    kv_table_number(table, "%.4f", 1, r->train_loss[at]);
    kv_table_number(table, "%.4f", 1, r->validation_loss[at]);
    kv_table_value(table, run->look.seconds, "%s", kv_duration(run->look.seconds, text));
}

// ---- The same with several seeds -----------------------------------------------------------------------

// Rows of one block that differ in their seed alone.
struct group {
    const kv_sweep_row **rows;
    int64_t n;
    double *values; // [n] of room
};

// Without ± where there is one alone. `format` shows mean and sd, `single` the mean, both times `unit`.
__attribute__((format(printf, 4, 0), format(printf, 5, 0))) static void
spread_cell(kv_table *table, const struct group *g, double unit, const char *format, const char *single) {
    const kv_spread spread = kv_spread_of(g->values, g->n);
    char text[64] = "-";
    if (isfinite(spread.sd))
        snprintf(text, sizeof text, format, unit * spread.mean, unit * spread.sd);
    else if (isfinite(spread.mean))
        snprintf(text, sizeof text, single, unit * spread.mean);
    kv_table_pair(table, spread.mean, spread.sd, "%s", text);
}

static void take_column(struct group *g, int column) {
    for (int64_t i = 0; i < g->n; i++) g->values[i] = kv_sweep_row_number(g->rows[i], column);
}

static const char *test_text(const kv_csv_table *tests, int64_t row, const char *column) {
    return kv_csv_cell(tests, row, kv_csv_column(tests, column));
}

static void p_cell(const kv_csv_table *tests, int64_t row, const char *column, kv_table *table) {
    const char *text = row < 0 ? "" : test_text(tests, row, column);
    kv_table_p(table, *text ? strtod(text, NULL) : (double)NAN);
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
    take_column(g, KV_SWEEP_ACCURACY);
    spread_cell(table, g, lower ? 1 : 100, lower ? "%.4f ± %.4f" : "%.1f ± %.1f %%",
                lower ? "%.4f" : "%.1f %%");
    take_column(g, KV_SWEEP_RETENTION);
    spread_cell(table, g, 100, "%.1f ± %.1f %%", "%.1f %%");
    if (r->tests.n_rows) p_cells(&r->tests, g->rows[0], table);
    for (int column = KV_SWEEP_PAPER; column <= KV_SWEEP_EXACT; column++) {
        take_column(g, column);
        kv_table_number(table, "%.2fx", 1, kv_spread_of(g->values, g->n).mean);
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
    size_cells(run, table);
    take_losses(r, g, r->train_loss);
    spread_cell(table, g, 1, "%.4f ± %.4f", "%.4f");
    take_losses(r, g, r->validation_loss);
    spread_cell(table, g, 1, "%.4f ± %.4f", "%.4f");
    for (int64_t i = 0; i < g->n; i++) seconds += g->rows[i]->run->look.seconds;
    seconds /= (double)g->n;
    kv_table_value(table, seconds, "%s", kv_duration(seconds, text));
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

// What a row is about, for programs: its task, and what the run was set to.
static void key_columns(const kv_sweep_rows *r, bool means, kv_table *table) {
    static const char *const texts[] = {"task", "split", "metric", "better"};
    for (int i = 0; i < 4; i++) kv_table_hidden(table, KV_FIELD_TEXT, texts[i]);
    for (size_t k = 0; k < r->sweep->n_keys; k++)
        if (!means || strcmp(r->sweep->keys[k], "seed") != 0)
            kv_table_hidden(table, KV_FIELD_TEXT, r->sweep->keys[k]);
}

static void key_cells(const kv_sweep_rows *r, const kv_sweep_row *row, bool means, kv_table *table) {
    for (int i = KV_SWEEP_TASK; i <= KV_SWEEP_METRIC; i++)
        kv_table_cell(table, "%s", kv_sweep_row_text(row, i));
    kv_table_cell(table, "%s", row->result < 0 ? "" : kv_sweep_row_lower_is_better(row) ? "lower" : "higher");
    for (size_t k = 0; k < r->sweep->n_keys; k++) {
        if (means && !strcmp(r->sweep->keys[k], "seed")) continue;
        char *value = row->run ? kv_config_value(row->run->source, r->sweep->keys[k]) : NULL;
        kv_table_cell(table, "%s", value ? value : "");
        free(value);
    }
}

static void figure_columns(const kv_sweep_rows *r, const kv_sweep_row *first, bool means, kv_table *table) {
    const char *title =
        kv_sweep_row_lower_is_better(first) ? kv_sweep_row_text(first, KV_SWEEP_METRIC) : "accuracy";
    const kv_field field = means ? KV_FIELD_SPREAD : KV_FIELD_NUMBER;
    kv_table_field(table, "", title, field, "accuracy");
    if (!means) kv_table_field(table, "", "95 %", KV_FIELD_INTERVAL, "accuracy");
    kv_table_field(table, "", "kept", field, "retention");
    if (!means) {
        kv_table_hidden(table, KV_FIELD_INTERVAL, "retention");
        kv_table_hidden(table, KV_FIELD_NUMBER, "p_value");
    }
    if (means && r->tests.n_rows) kv_table_field(table, "p", "seeds", KV_FIELD_NUMBER, "p_seeds");
    if (means && r->tests.n_rows) kv_table_field(table, "p", "items", KV_FIELD_NUMBER, "p_items");
    kv_table_field(table, "FLOPs reduction", "paper", KV_FIELD_NUMBER, "flops_reduction_paper");
    kv_table_field(table, "FLOPs reduction", "exact", KV_FIELD_NUMBER, "flops_reduction_exact");
}

// With means each row is of all seeds, else of one run.
static void block_columns(const kv_sweep_rows *r, const kv_sweep_row *first, bool means, kv_table *table) {
    const kv_field loss = means ? KV_FIELD_SPREAD : KV_FIELD_NUMBER;
    key_columns(r, means, table);
    kv_table_field(table, "", "run", KV_FIELD_TEXT, "run");
    if (means) kv_table_field(table, "", "seeds", KV_FIELD_WHOLE, "n_seeds");
    if (first->result >= 0) figure_columns(r, first, means, table);
    kv_table_field(table, "training", "steps", KV_FIELD_WHOLE, "steps");
    kv_table_field(table, "training", "trained", KV_FIELD_WHOLE, "trained_parameters");
    kv_table_field(table, "training", "loss", loss, "train_loss");
    kv_table_field(table, "training", "validation", loss, "validation_loss");
    kv_table_field(table, "training", "time", KV_FIELD_NUMBER, "seconds");
}

static void block_rows(const kv_sweep_rows *r, const kv_sweep_row *first, kv_table *table) {
    for (const kv_sweep_row *row = first; row < r->rows + r->n_rows; row++) {
        if (!same_block(first, row)) continue;
        key_cells(r, row, false, table);
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
        key_cells(r, row, true, table);
        kv_table_cell(table, "%s", kv_sweep_row_name(row));
        take_column(&g, KV_SWEEP_ACCURACY);
        kv_table_number(table, "%.0f", 1, (double)(first->result < 0 ? g.n : kv_spread_of(g.values, g.n).n));
        if (first->result >= 0) mean_figure_cells(r, &g, table);
        mean_training_cells(r, &g, table);
    }
    free(g.rows);
    free(g.values);
}

static void add_block(const kv_sweep_rows *r, const kv_sweep_row *first, kv_tables *tables) {
    const bool means = r->sweep->file.n_seeds > 0;
    kv_table *table = kv_tables_add(tables, KV_FOR_ALL, "sweep");
    block_columns(r, first, means, table);
    if (means)
        block_means(r, first, table);
    else
        block_rows(r, first, table);
    if (first->result >= 0)
        kv_table_title(table, "%s, %s: %s%s%s", kv_sweep_row_text(first, KV_SWEEP_TASK),
                       kv_sweep_row_text(first, KV_SWEEP_SPLIT), kv_sweep_row_text(first, KV_SWEEP_METRIC),
                       kv_sweep_row_lower_is_better(first) ? "; lower is better" : "",
                       r->sweep->file.n_seeds > 1 ? "; mean ± standard deviation over seeds" : "");
    else
        kv_table_title(table, "not evaluated");
}

// With seeds a program may want each run's own figures, too.
static void add_seeds(const kv_sweep_rows *r, const kv_sweep_row *first, kv_tables *tables) {
    kv_table *table = kv_tables_add(tables, KV_FOR_PROGRAMS, "sweep_seeds");
    block_columns(r, first, false, table);
    block_rows(r, first, table);
}

// What means are without: runs that failed, or were left out.
static void note_missing(const kv_sweep_rows *r, kv_table *table) {
    for (size_t i = 0; i < r->sweep->n_runs; i++) {
        const kv_sweep_run *run = &r->sweep->runs[i];
        if (run->seed && run->look.state != KV_SWEEP_DONE)
            kv_table_note(table, "%s: without seed %" PRIu64 ", %s", run->row, *run->seed,
                          run->look.state == KV_SWEEP_FAILED ? "whose training failed"
                                                             : "which is not trained");
    }
}

static bool begins_block(const kv_sweep_rows *r, size_t i) {
    for (size_t j = 0; j < i; j++)
        if (same_block(&r->rows[i], &r->rows[j])) return false;
    return true;
}

void kv_sweep_row_tables(const kv_sweep_rows *r, kv_tables *tables) {
    for (size_t i = 0; i < r->n_rows; i++)
        if (begins_block(r, i)) add_block(r, &r->rows[i], tables);
    if (r->n_rows == 0) kv_tables_add(tables, KV_FOR_ALL, "sweep");
    note_missing(r, kv_tables_last(tables));
    if (r->tests.n_rows)
        kv_table_note(
            kv_tables_last(tables),
            "p against the base: seeds, paired t-test over seeds; items, paired test over the items of all seeds");
    for (size_t i = 0; i < r->n_rows && r->sweep->file.n_seeds > 0; i++)
        if (begins_block(r, i)) add_seeds(r, &r->rows[i], tables);
}
