// Joining is not averaging: systems and tasks are laid over each other where they are the same, and stand
// beside each other where they are not.
#include "eval/report/report.h"

#include "data/system/console.h"
#include "data/system/limits.h"
#include "data/system/warning.h"
#include "eval/published/published.h"
#include "eval/report/output.h"
#include "eval/report/picture_options.h"

#include <argp.h>
#include <errno.h>
#include <omp.h>
#include <string.h>

static const char doc[] =
    "Joins the results of one or more evaluations and shows them as one: the same tables, files and picture as "
    "an evaluation leaves. Nothing is run again.\v"
    "Systems of the same name that compute the same are one row; accuracies, retentions and reductions are "
    "against the base of the evaluation they come from.\n"
    "\n"
    "  kveval report my/eval/results.h5 runs/quickstart/results.h5 --output my/both\n"
    "  kveval report my/eval/results.h5 --y retention --x paper \\\n"
    "    --published triviaqa-openelm-1.1b -o my/look\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.";

struct options {
    char **inputs;
    int n_inputs;
    char *output;
    kv_eval_picture picture;
    const kv_table_format *format;
};

static const struct argp_option option_list[] = {
    {"output", 'o', "DIR", 0, "write results.h5, the CSV files and the picture there (default: only print)",
     0},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state) {
    struct options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->picture;
        state->child_inputs[1] = &o->format;
        return 0;
    case 'o': o->output = text; return 0;
    case ARGP_KEY_ARGS:
        o->inputs = state->argv + state->next;
        o->n_inputs = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "at least one results.h5 is needed"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// Tasks that go by one name and are not the same: questions were left out or cut for one, or the file has changed.
static void warn_of_tasks(const kv_results *results, const kv_results *more, const char *path) {
    for (int64_t j = 0; j < more->n_tasks; j++)
        for (int64_t i = 0; i < results->n_tasks; i++) {
            const kv_result_task *a = &results->tasks[i], *b = &more->tasks[j];
            char items[2][KV_TASK_ITEMS];
            if (strcmp(a->name, b->name) || strcmp(a->split, b->split) || !strcmp(a->hash, b->hash)) continue;
            kv_warn(
                "%s: %s, %s is not the task of that name before it: %s here, %s there, asked or scored otherwise; "
                "it stands beside it with a number, and the two cannot be compared",
                path, b->name, b->split, kv_task_items(b, items[0]), kv_task_items(a, items[1]));
        }
}

// Systems that go by one name and are the same but for what turned questions into tokens.
static void warn_of_tokenizers(const kv_results *results, const kv_results *more, const char *path) {
    for (int64_t j = 0; j < more->n_systems; j++)
        for (int64_t i = 0; i < results->n_systems; i++) {
            const kv_result_system *a = &results->systems[i], *b = &more->systems[j];
            if (strcmp(a->name, b->name) || strcmp(a->hash, b->hash) || !kv_result_tokenizers_differ(a, b))
                continue;
            kv_warn(
                "%s: its systems were asked with the tokenizer %.16s, those before it of the same names with %.16s "
                "(`%s`): they stand beside each other with a number, and cannot be compared; evaluate them with "
                "one `tokenizer`",
                path, b->tokenizer, a->tokenizer, a->name);
            return;
        }
}

static kv_status read_all(const struct options *o, kv_results *results, kv_error *err) {
    kv_status status = kv_results_read_h5(o->inputs[0], results, err);
    for (int i = 1; i < o->n_inputs && status == KV_OK; i++) {
        kv_results more;
        status = kv_results_read_h5(o->inputs[i], &more, err);
        if (status != KV_OK) break;
        if (results->analysis.corpus && more.analysis.corpus &&
            !kv_analysis_same(&results->analysis, &more.analysis))
            fprintf(stderr,
                    "kveval: note: predicted caches in %s are left out: they are of %s, those before of %s "
                    "(or read in another way)\n",
                    o->inputs[i], more.analysis.corpus, results->analysis.corpus);
        warn_of_tasks(results, &more, o->inputs[i]);
        warn_of_tokenizers(results, &more, o->inputs[i]);
        status = kv_results_join(results, &more, err);
        kv_results_free(&more);
    }
    return status;
}

static kv_status check_line(const kv_results *results, const char *name, kv_error *err) {
    for (int64_t s = 0; name && s < results->n_systems; s++)
        if (!strcmp(results->systems[s].name, name)) return KV_OK;
    return name ? kv_fail(err, KV_ERR_ARGUMENT, "--line: found '%s', expected the name of a system, as `%s`",
                          name, results->systems[0].name)
                : KV_OK;
}

int kv_report_main(int argc, char **argv) {
    static const struct argp_child children[] = {
        {&kv_picture_argp, 0, NULL, 0}, {&kv_table_format_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {option_list, parse, "RESULTS.h5...", doc, children, NULL, NULL};
    struct options options = {0};
    kv_results results = {0};
    kv_error err = {0};
    char note[KV_PLOT_NOTE] = "";
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    if (!options.output) kv_console_printout();
    kv_status status = kv_limits_try_threads(omp_get_max_threads(), &err); // the statistics'
    if (status == KV_OK && options.picture.published) {
        kv_published *table;
        status = kv_published_load(options.picture.published, &table, &err);
        if (status == KV_OK)
            status = kv_published_fits(options.picture.published, table,
                                       !strcmp(options.picture.y, "retention"), &err);
        kv_published_free(table);
    }
    if (status == KV_OK) status = read_all(&options, &results, &err);
    if (status == KV_OK) status = check_line(&results, options.picture.line, &err);
    if (status == KV_OK) status = kv_output_print(&results, options.format, stdout, &err);
    if (status == KV_OK && options.output)
        status = kv_output_write(&results, &options.picture, options.output, note, &err);
    if (status == KV_OK && !kv_console_flush())
        status = kv_fail(&err, KV_ERR_IO, "standard output: cannot write the table: %s", strerror(errno));
    kv_results_free(&results);
    if (status != KV_OK) fprintf(stderr, "kveval: %s\n", err.message);
    if (status == KV_OK && *note) fprintf(stderr, "kveval: note: %s\n", note);
    return status == KV_OK ? 0 : 1;
}
