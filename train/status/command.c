// kvtrain status: what runs are doing, or what became of them.
#include "data/file/path.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/help.h"
#include "data/system/number.h"
#include "train/status/status.h"

#include <argp.h>
#include <dirent.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const char doc[] =
    "Tells what a run of kvtrain is doing or what became of it: progress, losses, speed, time left, the "
    "checkpoints there are, and the loss curve, drawn in the terminal (by gnuplot).\v"
    "DIR is the `output` of a run. For several, or for a directory of runs (of a sweep, say), there is one line "
    "each and no curve. A run at work is not disturbed.\n"
    "\n"
    "States: running; interrupted (by Ctrl-C or another signal); failed (with its message); killed (ended without "
    "saying why); finished. What is not finished, kvtrain CONFIG.yaml --resume goes on with.\n"
    "\n"
    "`lately` and values in parentheses are means of the last 20 logged steps. The validation loss is the whole "
    "weighted loss on data.validation, the one that train.keep_best goes by.\n"
    "\n"
    "  kvtrain status runs/quickstart/base\n"
    "  kvtrain status --watch runs/quickstart/base\n"
    "  kvtrain status --json runs/quickstart | grep -c '\"finished\"'\n"
    "  kvtrain status --csv runs/quickstart >quickstart.csv\n"
    "\n"
    "--csv has a row for each step that something was logged of, with the names of metrics.jsonl as columns; what is of "
    "held-out text begins with validation_, and a list has a column for each layer (validation_key_error_0). `run` is "
    "there where several runs, or a directory of runs, were asked for. Numbers are those of the log, all their digits; a field is empty where there is none. "
    "`metrics` of --json has the same columns as lists.\n"
    "\n"
    "Exit status: 0 done, 1 a directory could not be read, 2 wrong usage, 130 --watch ended by Ctrl-C.";

enum { KEY_JSON = 256, KEY_CSV };
static const struct argp_option options[] = {
    {"csv", KEY_CSV, NULL, 0,
     "All that was logged, as a table: a row for each step, a column for each metric (several runs: `run` in front)",
     0},
    {"json", KEY_JSON, NULL, 0,
     "One JSON object a line for each run, with all that was logged under `metrics`; null is what is not known",
     0},
    {"watch", 'w', "SECONDS", OPTION_ARG_OPTIONAL,
     "Look again every so many seconds (2) until no run is at work any more", 0},
    {0}};

struct arguments {
    bool json, csv;
    double watch; // seconds between looks, 0: one look
    char **dirs;
    size_t n_dirs;
};

static double parse_seconds(struct argp_state *state, const char *text) {
    double seconds = 2;
    if (text && (!kv_read_real(text, &seconds) || seconds < 0.1 || seconds > 86400))
        argp_error(state, "--watch: '%s', expected a number of seconds from 0.1 to 86400", text);
    return seconds;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case KEY_JSON: a->json = true; return 0;
    case KEY_CSV: a->csv = true; return 0;
    case ARGP_KEY_END:
        if (a->csv && (a->json || a->watch > 0))
            argp_error(state, "--csv and --%s exclude each other", a->json ? "json" : "watch");
        return 0;
    case 'w': a->watch = parse_seconds(state, text); return 0;
    case ARGP_KEY_ARGS:
        a->dirs = state->argv + state->next;
        a->n_dirs = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "expected the directory of a run"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// ---- Which runs ----------------------------------------------------------------------------------------

struct looks {
    kv_run_status *runs;
    size_t n;
    bool failed; // something could not be read, and was said
};

static void free_looks(struct looks *l) {
    for (size_t i = 0; i < l->n; i++) kv_run_status_free(&l->runs[i]);
    free(l->runs);
    *l = (struct looks){0};
}

static void look_at(struct looks *l, const char *path) {
    kv_error err = {0};
    kv_run_status *more = kv_room_for_one(l->runs, l->n, sizeof *more);
    if (more) {
        l->runs = more;
        if (kv_run_status_read(path, &more[l->n], &err) == KV_OK) {
            l->n++;
            return;
        }
        kv_run_status_free(&more[l->n]);
    }
    fprintf(stderr, "kvtrain: %s\n", more ? err.message : "out of memory");
    l->failed = true;
}

static int compare_names(const void *a, const void *b) {
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

// Runs right inside a directory, by name; false when there are none.
static bool look_inside(struct looks *l, const char *given) {
    struct dirent **entries = NULL;
    char path[PATH_MAX], inner[PATH_MAX], **names = NULL;
    size_t n = 0, length = strlen(given);
    while (length > 1 && given[length - 1] == '/') length--;
    if (length >= sizeof path) return false;
    snprintf(path, sizeof path, "%.*s", (int)length, given);
    const int found = scandir(path, &entries, NULL, NULL);
    if (found > 0) names = calloc((size_t)found, sizeof *names);
    for (int i = 0; i < found; i++) {
        if (names && entries[i]->d_name[0] != '.' && !strstr(entries[i]->d_name, ".tmp.") &&
            kv_path_join(path, entries[i]->d_name, inner, NULL) == KV_OK && kv_run_status_is_run(inner) &&
            (names[n] = strdup(inner)))
            n++;
        free(entries[i]);
    }
    free(entries);
    if (n > 0) qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 0; i < n; i++) {
        look_at(l, names[i]);
        free(names[i]);
    }
    free(names);
    return n > 0;
}

static struct looks look(const struct arguments *a) {
    struct looks l = {0};
    for (size_t i = 0; i < a->n_dirs; i++)
        if (kv_run_status_is_run(a->dirs[i]) || !look_inside(&l, a->dirs[i])) look_at(&l, a->dirs[i]);
    return l;
}

static bool any_runs(const struct looks *l) {
    for (size_t i = 0; i < l->n; i++)
        if (l->runs[i].phase == KV_RUN_RUNNING) return true;
    return false;
}

// ---- The picture's frame -------------------------------------------------------------------------------

static bool speaks_utf8(void) {
    const locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    if (!locale) return false;
    const bool utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return utf8;
}

static int clamp(int value, int low, int high) {
    return value < low ? low : value > high ? high : value;
}

// As wide as the terminal, and what is left of its height; elsewhere as most terminals are.
static void frame(int *width, int *height) {
    enum { LINES_ABOVE = 12 };
    struct winsize size;
    const bool terminal = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    const char *columns = getenv("COLUMNS");
    const int wanted = columns ? atoi(columns) : 0, own = kv_console_width(stdout);
    *width = clamp(own > 0 ? own - 1 : wanted > 0 ? wanted : 80, 38, 160);
    *height = terminal && size.ws_row > 0 ? clamp(size.ws_row - LINES_ABOVE, 10, 30) : 20;
}

// ---- Showing -------------------------------------------------------------------------------------------

static void show(const struct arguments *a, const struct looks *l, FILE *out) {
    int width, height;
    if (a->csv) {
        const bool one = a->n_dirs == 1 && l->n == 1 && kv_run_status_is_run(a->dirs[0]);
        if (!kv_run_status_print_csv(l->runs, l->n, !one, out)) fputs("kvtrain: out of memory\n", stderr);
    } else if (a->json) {
        for (size_t i = 0; i < l->n; i++)
            if (!kv_run_status_print_json(&l->runs[i], out)) fputs("kvtrain: out of memory\n", stderr);
    } else if (l->n > 1) {
        kv_run_status_print_table(l->runs, l->n, out);
    } else if (l->n == 1) {
        frame(&width, &height);
        kv_run_status_print(&l->runs[0], out);
        kv_run_status_curve(&l->runs[0], width, height, speaks_utf8(), out);
    }
}

// In one piece, so that a screen redrawn does not flicker.
static bool show_at_once(const struct arguments *a, const struct looks *l, bool redraw) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return false;
    show(a, l, out);
    const bool whole = fclose(out) == 0;
    if (whole) {
        if (redraw) fputs("\033[H\033[2J", stdout);
        fwrite(text, 1, size, stdout);
        fflush(stdout);
    }
    free(text);
    return whole && !ferror(stdout);
}

int kvtrain_status(int argc, char **argv) {
    static const struct argp argp = {options, parse, "DIR...", doc, NULL, kv_help_filter, NULL};
    struct arguments arguments = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    kv_console_printout();
    if (!arguments.csv && !arguments.json) kv_fold_begin();
    const bool redraw = arguments.watch > 0 && !arguments.json && kv_console_redraws(STDOUT_FILENO);
    for (;;) {
        struct looks l = look(&arguments);
        const bool written = show_at_once(&arguments, &l, redraw),
                   again = arguments.watch > 0 && any_runs(&l);
        const bool failed = l.failed;
        free_looks(&l);
        if (!written) {
            fputs("kvtrain: cannot write to standard output\n", stderr);
            return 1;
        }
        if (!again) return failed;
        kv_console_poll(NULL, 0, arguments.watch);
        if (kv_console_interrupted()) return 128 + kv_console_signal();
        if (!redraw && !arguments.json) putchar('\n');
    }
}
