// The one table that a sweep leaves: kveval's figures beside what each run was and what its training cost.
#include "data/system/table.h"
#include "data/file/content.h"
#include "data/file/csv.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/file/whole_file.h"
#include "data/system/console.h"
#include "train/sweep/sweep.h"
#include "train/task/task.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// The training loss is the mean of so many logged lines at the end: one batch alone says little.
enum { LAST_LINES = 10 };

enum { ACCURACY, LOW, HIGH, RETENTION, RETENTION_LOW, RETENTION_HIGH, P_VALUE, PAPER, EXACT, N_FIGURES };

// kveval's name of a column, and ours.
static const struct {
    const char *from, *to;
} figures[N_FIGURES] = {[ACCURACY] = {"accuracy", "accuracy"},
                        [LOW] = {"accuracy_low", "low"},
                        [HIGH] = {"accuracy_high", "high"},
                        [RETENTION] = {"retention", "retention"},
                        [RETENTION_LOW] = {"retention_low", "retention_low"},
                        [RETENTION_HIGH] = {"retention_high", "retention_high"},
                        [P_VALUE] = {"p_value", "p_value"},
                        [PAPER] = {"flops_reduction_paper", "paper_reduction"},
                        [EXACT] = {"flops_reduction_exact", "exact_reduction"}};

// One row: a run (or NULL: a system of the eval file's own) and a row of the results (-1: none).
struct row {
    const kv_sweep_run *run;
    int64_t result;
};

struct losses {
    double train[LAST_LINES], validation;
    int64_t n_train;
};

struct results {
    const kv_sweep *sweep;
    kv_csv_table csv; // empty where nothing was evaluated
    int64_t system, task, split, metric, better, figure[N_FIGURES];
    struct row *rows;
    size_t n_rows;
    double *train_loss, *validation_loss; // [n_runs], NAN where not known
};

// ---- What training logged ------------------------------------------------------------------------------

static kv_status take_line(void *context, const json_t *entry, const char *where, kv_error *err) {
    (void)where, (void)err;
    struct losses *l = context;
    const json_t *validation = json_object_get(entry, "validation");
    const json_t *loss = json_object_get(validation ? validation : entry, "loss");
    if (!json_is_number(loss)) return KV_OK;
    if (validation)
        l->validation = json_number_value(loss);
    else
        l->train[l->n_train++ % LAST_LINES] = json_number_value(loss);
    return KV_OK;
}

// A run of no steps has logged nothing.
static void read_losses(const kv_sweep_run *run, double *train, double *validation) {
    struct losses l = {.validation = (double)NAN};
    char path[PATH_MAX], *text = NULL;
    size_t size;
    *train = *validation = (double)NAN;
    if (kv_path_join(run->directory, "metrics.jsonl", path, NULL) != KV_OK) return;
    if (kv_read_file(path, (size_t)1 << 30, &text, &size, NULL) != KV_OK) return;
    if (kv_json_lines(path, text, size, 0, "step", take_line, &l, NULL) == KV_OK) {
        const int64_t n = l.n_train < LAST_LINES ? l.n_train : LAST_LINES;
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += l.train[i];
        if (n > 0) *train = sum / (double)n;
        *validation = l.validation;
    }
    free(text);
}

// ---- What kveval found ---------------------------------------------------------------------------------

static const kv_sweep_run *find_run(const kv_sweep *sweep, const char *name) {
    for (size_t i = 0; i < sweep->n_runs; i++)
        if (strcmp(sweep->runs[i].name, name) == 0) return &sweep->runs[i];
    return NULL;
}

static bool older(const char *results, const kv_sweep_run *run) {
    char path[PATH_MAX];
    struct stat of_results, of_run;
    if (kv_path_join(run->directory, "final", path, NULL) != KV_OK) return true;
    if (stat(results, &of_results) != 0 || stat(path, &of_run) != 0) return true;
    const struct timespec a = of_results.st_mtim, b = of_run.st_mtim;
    return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

static kv_status find_columns(struct results *r, const char *path, kv_error *err) {
    struct {
        const char *name;
        int64_t *column;
    } wanted[4 + N_FIGURES] = {
        {"system", &r->system}, {"task", &r->task}, {"split", &r->split}, {"metric", &r->metric}};
    for (int i = 0; i < N_FIGURES; i++) {
        wanted[4 + i].name = figures[i].from;
        wanted[4 + i].column = &r->figure[i];
    }
    for (int i = 0; i < 4 + N_FIGURES; i++) {
        *wanted[i].column = kv_csv_column(&r->csv, wanted[i].name);
        // Results that were left before retention had an interval are without one.
        if (*wanted[i].column < 0 && strncmp(wanted[i].name, "retention_", 10) != 0)
            return kv_fail(err, KV_ERR_FORMAT, "%s:1: expected a column `%s`", path, wanted[i].name);
    }
    r->better = kv_csv_column(&r->csv, "better"); // likewise: then all were shares
    return KV_OK;
}

static void add_row(struct results *r, const kv_sweep_run *run, int64_t result) {
    r->rows[r->n_rows++] = (struct row){.run = run, .result = result};
}

// The eval file's own systems first, then the runs in the sweep's order; one without figures has a row too.
static void arrange(struct results *r, const char *path, bool evaluated) {
    for (int64_t i = 0; i < r->csv.n_rows; i++)
        if (!find_run(r->sweep, kv_csv_cell(&r->csv, i, r->system))) add_row(r, NULL, i);
    for (size_t k = 0; k < r->sweep->n_runs; k++) {
        const kv_sweep_run *run = &r->sweep->runs[k];
        if (run->look.state != KV_SWEEP_DONE) continue;
        const size_t before = r->n_rows;
        const bool usable = evaluated || !older(path, run);
        for (int64_t i = 0; usable && i < r->csv.n_rows; i++)
            if (!strcmp(kv_csv_cell(&r->csv, i, r->system), run->name)) add_row(r, run, i);
        if (r->n_rows == before) add_row(r, run, -1);
    }
}

static kv_status collect(struct results *r, bool evaluated, kv_error *err) {
    const size_t n_runs = r->sweep->n_runs;
    char path[PATH_MAX];
    struct stat info;
    kv_status status = kv_path_join(r->sweep->output, "results.csv", path, err);
    if (status == KV_OK && stat(path, &info) == 0) {
        status = kv_csv_read(path, &r->csv, err);
        if (status == KV_OK) status = find_columns(r, path, err);
    }
    if (status != KV_OK) return status;
    r->rows = calloc((size_t)r->csv.n_rows + n_runs + 1, sizeof *r->rows);
    r->train_loss = calloc(n_runs + 1, sizeof *r->train_loss);
    r->validation_loss = calloc(n_runs + 1, sizeof *r->validation_loss);
    if (!r->rows || !r->train_loss || !r->validation_loss)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the table");
    for (size_t i = 0; i < n_runs; i++)
        read_losses(&r->sweep->runs[i], &r->train_loss[i], &r->validation_loss[i]);
    arrange(r, path, evaluated);
    return KV_OK;
}

static const char *result_text(const struct results *r, const struct row *row, int64_t column) {
    return row->result < 0 ? "" : kv_csv_cell(&r->csv, row->result, column);
}

static bool lower_is_better(const struct results *r, const struct row *row) {
    return r->better >= 0 && !strcmp(result_text(r, row, r->better), "lower");
}

// ---- table.csv -----------------------------------------------------------------------------------------

static void put_header(const struct results *r, FILE *out) {
    fputs("run,arm", out);
    for (size_t k = 0; k < r->sweep->n_keys; k++) fprintf(out, ",%s", r->sweep->keys[k]);
    fputs(",task,split,metric", out);
    for (int i = 0; i < N_FIGURES; i++) fprintf(out, ",%s", figures[i].to);
    fputs(",steps,trained_parameters,train_loss,validation_loss,seconds,better", out);
}

static void put_row(const struct results *r, const struct row *row, kv_csv *csv) {
    const kv_sweep_run *run = row->run;
    const bool own = run == NULL;
    kv_csv_text(csv, own ? result_text(r, row, r->system) : run->name);
    kv_csv_text(csv, !own && run->arm->name ? run->arm->name : "");
    for (size_t k = 0; k < r->sweep->n_keys; k++) {
        char *value = own ? NULL : kv_config_value(run->source, r->sweep->keys[k]);
        kv_csv_text(csv, value ? value : "");
        free(value);
    }
    kv_csv_text(csv, result_text(r, row, r->task));
    kv_csv_text(csv, result_text(r, row, r->split));
    kv_csv_text(csv, result_text(r, row, r->metric));
    for (int i = 0; i < N_FIGURES; i++) kv_csv_text(csv, result_text(r, row, r->figure[i]));
    const ptrdiff_t at = own ? 0 : run - r->sweep->runs;
    const double numbers[] = {
        own ? (double)NAN : (double)run->look.steps, own ? (double)NAN : (double)run->look.n_trained,
        own ? (double)NAN : r->train_loss[at], own ? (double)NAN : r->validation_loss[at],
        own ? (double)NAN : run->look.seconds};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) kv_csv_number(csv, numbers[i]);
    kv_csv_text(csv, row->result < 0 ? "" : lower_is_better(r, row) ? "lower" : "higher");
    kv_csv_end_row(csv);
}

static kv_status write_csv(const struct results *r, kv_error *err) {
    char path[PATH_MAX], *header = NULL;
    size_t size;
    kv_whole_file table = {0};
    kv_csv *csv = NULL;
    FILE *out = open_memstream(&header, &size);
    if (!out) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the table");
    put_header(r, out);
    kv_status status = fclose(out) == 0 ? kv_path_join(r->sweep->output, "table.csv", path, err)
                                        : kv_fail(err, KV_ERR_MEMORY, "out of memory for the table");
    if (status == KV_OK) status = kv_whole_file_begin(&table, path, err);
    if (status == KV_OK) status = kv_csv_create(table.path, header, &csv, err);
    if (csv) {
        for (size_t i = 0; i < r->n_rows; i++) put_row(r, &r->rows[i], csv);
        status = kv_csv_close(csv, status, err);
    }
    free(header);
    return kv_whole_file_end(&table, status, err);
}

// ---- On the terminal -----------------------------------------------------------------------------------

static double number_of(const char *text) {
    return *text ? strtod(text, NULL) : (double)NAN;
}

__attribute__((format(printf, 2, 0))) static void number_cell(kv_table *table, const char *format,
                                                              double value) {
    char text[32] = "-";
    if (isfinite(value)) snprintf(text, sizeof text, format, value);
    kv_table_cell(table, "%s", text);
}

static void figure_columns(kv_table *table, const char *name) {
    kv_table_column(table, "", name, false);
    kv_table_column(table, "", "95 %", false);
    kv_table_column(table, "", "kept", false);
    kv_table_column(table, "FLOPs reduction", "paper", false);
    kv_table_column(table, "FLOPs reduction", "exact", false);
}

static void figure_cells(const struct results *r, const struct row *row, kv_table *table) {
    double value[N_FIGURES];
    for (int i = 0; i < N_FIGURES; i++) value[i] = number_of(result_text(r, row, r->figure[i]));
    // What is better the lower it is is no share: it is shown in its own unit.
    const bool lower = lower_is_better(r, row);
    const double unit = lower ? 1 : 100;
    number_cell(table, lower ? "%.5g" : "%.1f %%", unit * value[ACCURACY]);
    if (isfinite(value[LOW]) && isfinite(value[HIGH]))
        kv_table_cell(table, lower ? "%.5g-%.5g" : "%.1f-%.1f", unit * value[LOW], unit * value[HIGH]);
    else
        kv_table_cell(table, "-");
    number_cell(table, "%.1f %%", 100 * value[RETENTION]);
    number_cell(table, "%.2fx", value[PAPER]);
    number_cell(table, "%.2fx", value[EXACT]);
}

static void training_cells(const struct results *r, const kv_sweep_run *run, kv_table *table) {
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

// Whether two rows are of the same task, split and metric.
static bool same_block(const struct results *r, const struct row *a, const struct row *b) {
    const int64_t columns[] = {r->task, r->split, r->metric};
    for (int i = 0; i < 3; i++)
        if (strcmp(result_text(r, a, columns[i]), result_text(r, b, columns[i])) != 0) return false;
    return true;
}

static void print_block(const struct results *r, const struct row *first, FILE *out) {
    static const char *const training[] = {"steps", "trained", "loss", "validation", "time"};
    const bool figured = first->result >= 0;
    kv_table *table = kv_table_create();
    kv_table_column(table, "", "run", true);
    const bool lower = lower_is_better(r, first);
    if (figured) figure_columns(table, lower ? result_text(r, first, r->metric) : "accuracy");
    for (int i = 0; i < 5; i++) kv_table_column(table, "training", training[i], false);
    for (const struct row *row = first; row < r->rows + r->n_rows; row++) {
        if (!same_block(r, first, row)) continue;
        kv_table_cell(table, "%s", row->run ? row->run->name : result_text(r, row, r->system));
        if (figured) figure_cells(r, row, table);
        training_cells(r, row->run, table);
    }
    if (figured)
        fprintf(out, "%s, %s: %s%s\n", result_text(r, first, r->task), result_text(r, first, r->split),
                result_text(r, first, r->metric), lower ? "; lower is better" : "");
    else
        fputs("not evaluated\n", out);
    kv_table_print(table, out);
    kv_table_free(table);
}

static void print_blocks(const struct results *r, FILE *out) {
    for (size_t i = 0; i < r->n_rows; i++) {
        bool printed = false;
        for (size_t j = 0; !printed && j < i; j++) printed = same_block(r, &r->rows[i], &r->rows[j]);
        if (printed) continue;
        if (i > 0) fputc('\n', out);
        print_block(r, &r->rows[i], out);
    }
}

kv_status kv_sweep_table(const kv_sweep *sweep, bool evaluated, FILE *out, kv_error *err) {
    struct results r = {.sweep = sweep};
    kv_status status = collect(&r, evaluated, err);
    if (status == KV_OK) status = write_csv(&r, err);
    // Whether that could be written is asked at exit (kv_console_flush): a reader that has gone costs no sweep.
    if (status == KV_OK) print_blocks(&r, out);
    kv_csv_table_free(&r.csv);
    free(r.rows);
    free(r.train_loss);
    free(r.validation_loss);
    return status;
}
