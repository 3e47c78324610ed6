// From the command line to tables and files.
#include "eval/seeds/command.h"

#include "data/file/json.h"
#include "data/file/made_by.h"
#include "data/file/path.h"
#include "data/file/whole_set.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/help.h"
#include "data/system/limits.h"
#include "eval/published/published.h"
#include "eval/report/picture_options.h"

#include <argp.h>
#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static const char doc[] =
    "Joins evaluations of the same systems and tasks that differ in their seed: mean ± standard deviation over seeds of what "
    "each system scores, keeps and saves, and whether systems differ. Nothing is run again.\v"
    "Give the directories of the evaluations, or their results.h5, one a seed. Rows go by their names, tasks by name and "
    "split; a system that is missing from some is said, and its mean is that of the others.\n"
    "\n"
    "  kveval seeds my/seeds/s1 my/seeds/s2 --line aux --output my/both\n"
    "  kveval seeds my/seeds/s* --against aux\n"
    "\n"
    "kveval CONFIG --seeds N evaluates and joins in one go. In CONFIG {seed} stands for the seed in every path. As "
    "my/seeds.yaml:\n"
    "  output: my/seeds/s{seed}\n"
    "  tokenizer: my/tokenizer.model\n"
    "  systems:\n"
    "    - {name: base, model: my/base/final/model}\n"
    "    - name: KVP\n"
    "      base: my/base/final/model\n"
    "      aux: my/s{seed}/final/aux\n"
    "      predictor: my/s{seed}/final/predictor\n"
    "  tasks: [{name: facts, file: my/questions.jsonl}]\n"
    "Each seed's results go to its own output, the means to my/seeds/s1-2:\n"
    "  kveval my/seeds.yaml --seeds 2 --no-ttft\n"
    "\n"
    "Two tests stand beside each other. `seeds`: the paired t-test of the figures, one pair a seed: would another "
    "training say the same? `items`: the paired test over the items of all seeds as if they were one task: would other "
    "questions say the same of these models? Every system is compared with its base, and with those of --against.\n"
    "\n"
    "The output gets seeds.csv (a row per system, task, split and metric), significance.csv (a row per comparison) and "
    "pareto.svg, .png and .pdf, of means with one standard deviation to each side.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.";

enum { MAX_AGAINST = 16 };

struct arguments {
    kv_seeds_options o;
    const char *against[MAX_AGAINST];
};

static const struct argp_option option_list[] = {
    {"output", 'o', "DIR", 0, "write the CSV files and the picture there (default: only print)", 0},
    {"against", 'a', "SYSTEM", 0, "compare all systems with this one, too; may be given several times", 0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->o.picture;
        state->child_inputs[1] = &a->o.format;
        return 0;
    case 'o': a->o.output = text; return 0;
    case 'a':
        if (a->o.n_against == MAX_AGAINST) argp_error(state, "--against: more than %d", MAX_AGAINST);
        a->against[a->o.n_against++] = text;
        return 0;
    case ARGP_KEY_ARGS:
        a->o.inputs = state->argv + state->next;
        a->o.n_inputs = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "at least one evaluation is needed"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// ---- Files ---------------------------------------------------------------------------------------------

static kv_status write_published(const kv_eval_picture *picture, const char *dir, kv_error *err) {
    char path[PATH_MAX];
    if (!picture->published) return KV_OK;
    const kv_status status = kv_path_join(dir, "published.csv", path, err);
    return status == KV_OK ? kv_published_write(picture->published, path, err) : status;
}

// A list for each seed.
static json_t *made_by_seeds(const kv_seeds *seeds) {
    json_t *list = json_array();
    for (int64_t i = 0; i < seeds->n; i++)
        json_array_append_new(list, kv_made_by_list(seeds->runs[i].made_by, seeds->runs[i].n_made_by));
    return list;
}

static kv_status write_made_by(const kv_seeds *seeds, const char *dir, kv_error *err) {
    char path[PATH_MAX];
    const kv_status status = kv_path_join(dir, "made_by.json", path, err);
    if (status != KV_OK) return status;
    return kv_json_write(path, json_pack("{s:o}", "made_by", made_by_seeds(seeds)), JSON_INDENT(1), err);
}

static kv_status write_all(const kv_seeds *seeds, const kv_seeds_against *against,
                           const kv_eval_picture *picture, const char *dir, char note[KV_PLOT_NOTE],
                           kv_error *err) {
    char path[PATH_MAX], interval[64];
    kv_eval_picture settings = *picture;
    kv_results mean;
    snprintf(interval, sizeof interval, "± 1 sd over %lld seeds", (long long)seeds->n);
    settings.interval = interval;
    kv_status status = kv_path_join(dir, "seeds.csv", path, err);
    if (status == KV_OK) status = kv_seeds_write_csv(seeds, path, err);
    if (status == KV_OK) status = kv_path_join(dir, "significance.csv", path, err);
    if (status == KV_OK) status = kv_seeds_write_tests(seeds, against, path, err);
    if (status == KV_OK) status = write_published(picture, dir, err);
    if (status == KV_OK) status = write_made_by(seeds, dir, err);
    if (status == KV_OK) status = kv_seeds_mean(seeds, &mean, err);
    if (status != KV_OK) return status;
    status = kv_pictures_draw(&mean, &settings, dir, note, err);
    kv_results_free(&mean);
    return status;
}

static kv_status write_output(const kv_seeds *seeds, const kv_seeds_against *against,
                              const kv_seeds_options *options, char note[KV_PLOT_NOTE], kv_error *err) {
    static const char *const stale[] = {"pareto.svg", "pareto.png", "pareto.pdf", "published.csv"};
    kv_whole_set set;
    kv_status status = kv_whole_set_begin(&set, options->output, err);
    if (status == KV_OK) status = write_all(seeds, against, &options->picture, set.staged.path, note, err);
    return kv_whole_set_end(&set, stale, sizeof stale / sizeof *stale, status, err);
}

// ---- All of it -----------------------------------------------------------------------------------------

static kv_status find_against(const kv_seeds *seeds, const kv_seeds_options *options, int64_t *rows,
                              kv_error *err) {
    for (int64_t i = 0; i < options->n_against; i++) {
        rows[i] = kv_seeds_find(seeds, options->against[i]);
        if (rows[i] < 0)
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "--against: found '%s', expected the name of a system, as `%s`",
                           options->against[i], seeds->systems[0].name);
    }
    return KV_OK;
}

static kv_status print(const kv_seeds *seeds, const kv_seeds_against *against, const kv_table_format *format,
                       FILE *out, kv_error *err) {
    kv_tables *tables = kv_tables_create();
    kv_status status = kv_seeds_tables(seeds, against, tables, err);
    for (int64_t i = 0; i < seeds->n; i++)
        kv_tables_made_by(tables, seeds->runs[i].made_by, seeds->runs[i].n_made_by);
    kv_tables_fact(tables, "made_by", made_by_seeds(seeds));
    if (status == KV_OK) status = kv_tables_write(tables, format, out, err);
    kv_tables_free(tables);
    return status;
}

kv_status kv_seeds_join(const kv_seeds_options *options, FILE *out, char note[KV_PLOT_NOTE], kv_error *err) {
    kv_seeds seeds = {0};
    int64_t *rows = calloc((size_t)options->n_against + 1, sizeof *rows);
    const kv_seeds_against against = {rows, options->n_against};
    kv_status status =
        rows ? kv_seeds_open(options->inputs, options->n_inputs, options->picture.line, &seeds, err)
             : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    note[0] = '\0';
    if (status == KV_OK) status = find_against(&seeds, options, rows, err);
    if (status == KV_OK) status = print(&seeds, &against, options->format, out, err);
    if (status == KV_OK && options->output) status = write_output(&seeds, &against, options, note, err);
    kv_seeds_close(&seeds);
    free(rows);
    return status;
}

int kv_seeds_main(int argc, char **argv) {
    static const struct argp_child children[] = {
        {&kv_picture_argp, 0, NULL, 0}, {&kv_table_format_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {option_list,    parse, "DIR|RESULTS.h5...", doc, children,
                                     kv_help_filter, NULL};
    struct arguments arguments = {0};
    kv_error err = {0};
    char note[KV_PLOT_NOTE] = "";
    arguments.o.against = arguments.against;
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    if (!arguments.o.output) kv_console_printout();
    kv_status status = kv_limits_try_threads(omp_get_max_threads(), &err); // the statistics'
    if (status == KV_OK) status = kv_seeds_join(&arguments.o, stdout, note, &err);
    if (status == KV_OK && !kv_console_flush())
        status = kv_fail(&err, KV_ERR_IO, "standard output: cannot write the table: %s", strerror(errno));
    if (status != KV_OK) kv_fold_complaint("%s", err.message);
    if (status == KV_OK && *note) fprintf(stderr, "kveval: note: %s\n", note);
    return status == KV_OK ? 0 : 1;
}
