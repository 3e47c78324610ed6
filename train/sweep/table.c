// The one table that a sweep leaves: kveval's figures beside what each run was and what its training cost.
#include "train/sweep/table.h"

#include "data/file/content.h"
#include "data/file/json.h"
#include "data/file/made_by.h"
#include "data/file/path.h"
#include "data/file/whole_file.h"
#include "train/run/directory.h"
#include "train/run/starts.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// The training loss is the mean of so many logged lines at the end: one batch alone says little.
enum { LAST_LINES = 10 };

// kveval's name of a column, and ours.
static const struct {
    const char *from, *to;
} columns[KV_SWEEP_N_COLUMNS] = {[KV_SWEEP_ACCURACY] = {"accuracy", "accuracy"},
                                 [KV_SWEEP_LOW] = {"accuracy_low", "low"},
                                 [KV_SWEEP_HIGH] = {"accuracy_high", "high"},
                                 [KV_SWEEP_RETENTION] = {"retention", "retention"},
                                 [KV_SWEEP_RETENTION_LOW] = {"retention_low", "retention_low"},
                                 [KV_SWEEP_RETENTION_HIGH] = {"retention_high", "retention_high"},
                                 [KV_SWEEP_P_VALUE] = {"p_value", "p_value"},
                                 [KV_SWEEP_PAPER] = {"flops_reduction_paper", "paper_reduction"},
                                 [KV_SWEEP_EXACT] = {"flops_reduction_exact", "exact_reduction"},
                                 [KV_SWEEP_SYSTEM] = {"system", "run"},
                                 [KV_SWEEP_TASK] = {"task", "task"},
                                 [KV_SWEEP_SPLIT] = {"split", "split"},
                                 [KV_SWEEP_METRIC] = {"metric", "metric"},
                                 [KV_SWEEP_BETTER] = {"better", "better"}};

struct losses {
    double train[LAST_LINES], validation;
    int64_t n_train;
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

static const kv_sweep_run *find_run(const kv_sweep *sweep, const kv_sweep_source *source, const char *row) {
    for (size_t i = 0; i < sweep->n_runs; i++)
        if (sweep->runs[i].seed == source->seed && strcmp(sweep->runs[i].row, row) == 0)
            return &sweep->runs[i];
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

static kv_status find_columns(kv_sweep_source *source, const char *path, kv_error *err) {
    for (int i = 0; i < KV_SWEEP_N_COLUMNS; i++) {
        source->column[i] = kv_csv_column(&source->csv, columns[i].from);
        // Results that were left before retention had an interval are without one; then all were shares, too.
        if (source->column[i] < 0 && strncmp(columns[i].from, "retention_", 10) != 0 && i != KV_SWEEP_BETTER)
            return kv_fail(err, KV_ERR_FORMAT, "%s:1: expected a column `%s`", path, columns[i].from);
    }
    return KV_OK;
}

static kv_status results_path(const kv_sweep *sweep, const kv_sweep_source *source, char path[PATH_MAX],
                              kv_error *err) {
    char dir[PATH_MAX];
    const kv_status status = kv_sweep_results_dir(sweep, source->seed, dir, err);
    return status == KV_OK ? kv_path_join(dir, "results.csv", path, err) : status;
}

static kv_status read_source(const kv_sweep *sweep, kv_sweep_source *source, kv_error *err) {
    char path[PATH_MAX];
    struct stat info;
    kv_status status = results_path(sweep, source, path, err);
    if (status != KV_OK || stat(path, &info) != 0) return status;
    status = kv_csv_read(path, &source->csv, err);
    return status == KV_OK ? find_columns(source, path, err) : status;
}

const char *kv_sweep_row_text(const kv_sweep_row *row, int column) {
    return row->result < 0 ? "" : kv_csv_cell(&row->source->csv, row->result, row->source->column[column]);
}

double kv_sweep_row_number(const kv_sweep_row *row, int column) {
    const char *text = kv_sweep_row_text(row, column);
    return *text ? strtod(text, NULL) : (double)NAN;
}

bool kv_sweep_row_lower_is_better(const kv_sweep_row *row) {
    return !strcmp(kv_sweep_row_text(row, KV_SWEEP_BETTER), "lower");
}

const char *kv_sweep_row_name(const kv_sweep_row *row) {
    return row->run ? row->run->row : kv_sweep_row_text(row, KV_SWEEP_SYSTEM);
}

static const char *system_of(const kv_sweep_source *source, int64_t result) {
    return kv_csv_cell(&source->csv, result, source->column[KV_SWEEP_SYSTEM]);
}

static void add_row(kv_sweep_rows *r, const kv_sweep_run *run, const kv_sweep_source *source,
                    int64_t result) {
    r->rows[r->n_rows++] = (kv_sweep_row){.run = run, .source = source, .result = result};
}

// One without figures has a row, too.
static void add_run(kv_sweep_rows *r, const kv_sweep_run *run, bool evaluated) {
    const kv_sweep_source *source = r->sources;
    while (source->seed != run->seed) source++;
    char path[PATH_MAX];
    const size_t before = r->n_rows;
    const bool usable =
        evaluated || (results_path(r->sweep, source, path, NULL) == KV_OK && !older(path, run));
    for (int64_t i = 0; usable && i < source->csv.n_rows; i++)
        if (!strcmp(system_of(source, i), run->row)) add_row(r, run, source, i);
    if (r->n_rows == before) add_row(r, run, source, -1);
}

static void arrange(kv_sweep_rows *r, bool evaluated) {
    for (size_t s = 0; s < r->n_sources; s++)
        for (int64_t i = 0; i < r->sources[s].csv.n_rows; i++)
            if (!find_run(r->sweep, &r->sources[s], system_of(&r->sources[s], i)))
                add_row(r, NULL, &r->sources[s], i);
    for (size_t k = 0; k < r->sweep->n_runs; k++)
        if (r->sweep->runs[k].look.state == KV_SWEEP_DONE) add_run(r, &r->sweep->runs[k], evaluated);
}

// What kveval seeds has just left; that of before is of other runs.
static kv_status read_tests(kv_sweep_rows *r, bool evaluated, kv_error *err) {
    char path[PATH_MAX];
    kv_status status = kv_path_join(r->sweep->output, "significance.csv", path, err);
    if (status != KV_OK || !evaluated || !r->sweep->file.n_seeds || !kv_path_exists(path)) return status;
    return kv_csv_read(path, &r->tests, err);
}

static kv_status collect(kv_sweep_rows *r, bool evaluated, kv_error *err) {
    const kv_sweep_file *file = &r->sweep->file;
    const size_t n_runs = r->sweep->n_runs, n_sources = file->n_seeds ? file->n_seeds : 1;
    size_t room = n_runs + 1;
    kv_status status = KV_OK;
    r->sources = calloc(n_sources, sizeof *r->sources);
    r->train_loss = calloc(n_runs + 1, sizeof *r->train_loss);
    r->validation_loss = calloc(n_runs + 1, sizeof *r->validation_loss);
    if (!r->sources || !r->train_loss || !r->validation_loss)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the table");
    for (; status == KV_OK && r->n_sources < n_sources; r->n_sources++) {
        kv_sweep_source *source = &r->sources[r->n_sources];
        if (file->n_seeds) source->seed = &file->seeds[r->n_sources];
        status = read_source(r->sweep, source, err);
        room += (size_t)source->csv.n_rows;
    }
    if (status == KV_OK) status = read_tests(r, evaluated, err);
    if (status != KV_OK) return status;
    r->rows = calloc(room, sizeof *r->rows);
    if (!r->rows) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the table");
    for (size_t i = 0; i < n_runs; i++)
        read_losses(&r->sweep->runs[i], &r->train_loss[i], &r->validation_loss[i]);
    arrange(r, evaluated);
    return KV_OK;
}

// ---- table.csv -----------------------------------------------------------------------------------------

static void put_header(const kv_sweep_rows *r, FILE *out) {
    fputs("run,arm", out);
    for (size_t k = 0; k < r->sweep->n_keys; k++) fprintf(out, ",%s", r->sweep->keys[k]);
    fputs(",task,split,metric", out);
    for (int i = 0; i < KV_SWEEP_N_FIGURES; i++) fprintf(out, ",%s", columns[i].to);
    fputs(",steps,trained_parameters,train_loss,validation_loss,seconds,better", out);
}

// A system of the eval file's own has of all keys but the seed that it was evaluated with.
static void put_key(const kv_sweep_rows *r, const kv_sweep_row *row, const char *key, kv_csv *csv) {
    char seed[24] = "", *value = row->run ? kv_config_value(row->run->source, key) : NULL;
    if (!row->run && row->source->seed && r->sweep->file.n_seeds && !strcmp(key, "seed"))
        snprintf(seed, sizeof seed, "%" PRIu64, *row->source->seed);
    kv_csv_text(csv, value ? value : seed);
    free(value);
}

static void put_row(const kv_sweep_rows *r, const kv_sweep_row *row, kv_csv *csv) {
    static const int texts[] = {KV_SWEEP_TASK, KV_SWEEP_SPLIT, KV_SWEEP_METRIC};
    const kv_sweep_run *run = row->run;
    const bool own = run == NULL;
    kv_csv_text(csv, kv_sweep_row_name(row));
    kv_csv_text(csv, !own && run->arm->name ? run->arm->name : "");
    for (size_t k = 0; k < r->sweep->n_keys; k++) put_key(r, row, r->sweep->keys[k], csv);
    for (int i = 0; i < 3; i++) kv_csv_text(csv, kv_sweep_row_text(row, texts[i]));
    for (int i = 0; i < KV_SWEEP_N_FIGURES; i++) kv_csv_text(csv, kv_sweep_row_text(row, i));
    const ptrdiff_t at = own ? 0 : run - r->sweep->runs;
    const double numbers[] = {
        own ? (double)NAN : (double)run->look.steps, own ? (double)NAN : (double)run->look.n_trained,
        own ? (double)NAN : r->train_loss[at], own ? (double)NAN : r->validation_loss[at],
        own ? (double)NAN : run->look.seconds};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) kv_csv_number(csv, numbers[i]);
    kv_csv_text(csv, row->result < 0 ? "" : kv_sweep_row_lower_is_better(row) ? "lower" : "higher");
    kv_csv_end_row(csv);
}

static kv_status write_csv(const kv_sweep_rows *r, kv_error *err) {
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

static kv_status take_start(void *context, const json_t *entry, const char *where, kv_error *err) {
    (void)where, (void)err;
    return json_array_append(context, (json_t *)entry) ? KV_ERR_MEMORY : KV_OK;
}

// By what each run was trained, a list of its starts.
static json_t *trainings(const kv_sweep *sweep) {
    json_t *all = json_object();
    for (size_t i = 0; i < sweep->n_runs; i++) {
        char path[PATH_MAX], *text = NULL;
        size_t size;
        json_t *starts = json_array();
        if (kv_path_join(sweep->runs[i].directory, kv_run_machines_name, path, NULL) == KV_OK &&
            kv_read_file(path, (size_t)1 << 24, &text, &size, NULL) == KV_OK)
            kv_json_lines(path, text, size, 0, "start", take_start, starts, NULL);
        free(text);
        json_object_set_new(all, sweep->runs[i].name, starts);
    }
    return all;
}

static kv_status print(const kv_sweep_rows *r, const kv_table_format *format, FILE *out, kv_error *err) {
    kv_tables *tables = kv_tables_create();
    kv_sweep_row_tables(r, tables);
    char *made_by = kv_made_by_text(false);
    kv_tables_made_by(tables, &made_by, made_by != NULL);
    kv_tables_fact(tables, "made_by", kv_made_by_list(&made_by, made_by != NULL));
    free(made_by);
    kv_tables_fact(tables, "trainings", trainings(r->sweep));
    const kv_status status = kv_tables_write(tables, format, out, err);
    kv_tables_free(tables);
    return status;
}

static kv_status write_made_by(const char *dir, kv_error *err) {
    char *text = kv_made_by_text(false);
    const kv_status status = kv_made_by_write(dir, &text, text != NULL, err);
    free(text);
    return status;
}

kv_status kv_sweep_table(const kv_sweep *sweep, bool evaluated, const kv_table_format *format, FILE *out,
                         kv_error *err) {
    kv_sweep_rows r = {.sweep = sweep};
    kv_status status = collect(&r, evaluated, err);
    if (status == KV_OK) status = write_csv(&r, err);
    if (status == KV_OK && !evaluated) status = write_made_by(sweep->output, err); // kveval leaves its own
    // Whether that could be written is asked at exit (kv_console_flush): a reader that has gone costs no sweep.
    if (status == KV_OK) status = print(&r, format, out, err);
    for (size_t i = 0; i < r.n_sources; i++) kv_csv_table_free(&r.sources[i].csv);
    kv_csv_table_free(&r.tests);
    free(r.sources);
    free(r.rows);
    free(r.train_loss);
    free(r.validation_loss);
    return status;
}
