// The command line of kveval report: what is read, printed and written.
#include "eval/report/report.h"

#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/help.h"
#include "data/system/limits.h"
#include "data/system/number.h"
#include "eval/html/page.h"
#include "eval/published/published.h"
#include "eval/report/inputs.h"
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
    "A directory stands for the results.h5 in it.\n"
    "\n"
    "  kveval report my/eval runs/quickstart --output my/both\n"
    "  kveval report my/eval --y retention --x paper \\\n"
    "    --published triviaqa-openelm-1.1b -o my/look\n"
    "  kveval report my/eval --html my/eval.html\n"
    "\n"
    "The page of --html is one file that needs no network: the curve with every point's figures, all tables, sorted as "
    "you like, maps of the predicted caches' errors and of grids, and the answers of any two systems side by side. "
    "Without a script it can be read, too.\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.";

struct options {
    char **inputs;
    int n_inputs;
    char *output, *html;
    int64_t answers; // in the page; negative: as many as are fit for it
    kv_eval_picture picture;
    const kv_table_format *format;
};

static const struct argp_option option_list[] = {
    {"output", 'o', "DIR", 0, "write results.h5, the CSV files and the picture there (default: only print)",
     0},
    {"html", 'w', "FILE", 0, "write a page of all of it, with the answers, for a browser", 0},
    {"answers", 'a', "N", 0,
     "of each system and task at most so many answers in that page (default 200, fewer where all would take more than 16 MB)",
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
    case 'w': o->html = text; return 0;
    case 'a':
        if (!kv_read_whole(text, &o->answers) || o->answers < 0)
            argp_error(state, "--answers: '%s', expected a whole number from 0 on", text);
        return 0;
    case ARGP_KEY_END:
        if (o->answers >= 0 && !o->html)
            argp_error(state, "--answers says how many go into the page of --html, which is not asked for");
        return 0;
    case ARGP_KEY_ARGS:
        o->inputs = state->argv + state->next;
        o->n_inputs = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a directory with a results.h5, or such a file, is needed");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static kv_status check_line(const kv_results *results, const char *name, kv_error *err) {
    for (int64_t s = 0; name && s < results->n_systems; s++)
        if (!strcmp(results->systems[s].name, name)) return KV_OK;
    return name ? kv_fail(err, KV_ERR_ARGUMENT, "--line: found '%s', expected the name of a system, as `%s`",
                          name, results->systems[0].name)
                : KV_OK;
}

static kv_status write_page(const struct options *o, const kv_results *results, const kv_published *published,
                            kv_error *err) {
    kv_tables *tables;
    kv_status status = kv_output_tables(results, &tables, err);
    if (status != KV_OK) return status;
    const kv_html_page page = {
        .sources = (const char *const *)o->inputs,
        .n_sources = o->n_inputs,
        .tables = tables,
        .curve = {.x = o->picture.x, .y = o->picture.y, .line = o->picture.line, .published = published},
        .answers = o->answers};
    kv_console_catch_signals(); // nothing half done is left behind
    status = kv_html_write(results, &page, o->html, err);
    kv_tables_free(tables);
    return status;
}

int kv_report_main(int argc, char **argv) {
    static const struct argp_child children[] = {
        {&kv_picture_argp, 0, NULL, 0}, {&kv_table_format_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {option_list,    parse, "DIR|RESULTS.h5...", doc, children,
                                     kv_help_filter, NULL};
    struct options options = {.answers = -1};
    kv_published *published = NULL;
    kv_results results = {0};
    kv_error err = {0};
    char note[KV_PLOT_NOTE] = "";
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    if (!options.output && !options.html) kv_console_printout();
    kv_status status = kv_limits_try_threads(omp_get_max_threads(), &err); // the statistics'
    if (status == KV_OK && options.picture.published) {
        status = kv_published_load(options.picture.published, &published, &err);
        if (status == KV_OK)
            status = kv_published_fits(options.picture.published, published,
                                       !strcmp(options.picture.y, "retention"), &err);
    }
    if (status == KV_OK)
        status = kv_report_read((const char *const *)options.inputs, options.n_inputs, &results, &err);
    if (status == KV_OK) status = check_line(&results, options.picture.line, &err);
    if (status == KV_OK) status = kv_output_print(&results, options.format, stdout, &err);
    if (status == KV_OK && options.output)
        status = kv_output_write(&results, &options.picture, options.output, note, &err);
    if (status == KV_OK && options.html) status = write_page(&options, &results, published, &err);
    if (status == KV_OK && !kv_console_flush())
        status = kv_fail(&err, KV_ERR_IO, "standard output: cannot write the table: %s", strerror(errno));
    kv_published_free(published);
    kv_results_free(&results);
    if (status != KV_OK) kv_fold_complaint("%s", err.message);
    if (status == KV_OK && *note) fprintf(stderr, "kveval: note: %s\n", note);
    return status == KV_OK ? 0 : status == KV_ERR_INTERRUPTED ? 128 + kv_console_signal() : 1;
}
