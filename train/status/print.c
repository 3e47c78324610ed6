// A run's state told three ways: to people one run at a time or a row each, to programs as JSON.
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/table/table.h"
#include "train/status/status.h"
#include "train/task/task.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool kv_run_status_is_rate(const char *name) {
    return strcmp(name, "lr") == 0 || strncmp(name, "lr_", 3) == 0;
}

// Columns of the log that are no terms of the loss.
static bool is_term(const char *name) {
    static const char *const others[] = {"loss",    "grad_norm", "tokens_per_second", "gflops_per_second",
                                         "waiting", "seconds",   "validation_seconds"};
    if (kv_run_status_is_rate(name)) return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(name, others[i]) == 0) return false;
    return true;
}

static double percent(const kv_run_status *s) {
    if (s->steps > 0) return 100 * fmin(1, (double)s->step / (double)s->steps);
    return s->phase == KV_RUN_FINISHED ? 100 : 0;
}

// ---- Lines ---------------------------------------------------------------------------------------------

static void print_task(const kv_run_status *s, FILE *out) {
    if (strcmp(s->task, "lm") == 0)
        fprintf(out, "task         lm: a language model, %s\n", s->model);
    else
        fprintf(out, "task         kvp: base %s, aux %s\n", s->base, *s->aux ? s->aux : "layers of the base");
}

// One corpus with the held-out text behind it; the parts of a mixture on a line each.
static void print_texts(const kv_run_status *s, FILE *out) {
    const bool several = s->n_texts > 1;
    const char *title = "text";
    for (size_t i = 0; i < s->n_texts; i++) {
        const kv_run_text *text = &s->texts[i];
        fprintf(out, "%-13s%s", title, text->corpus);
        if (several)
            fprintf(out, ", weight %.6g: %.3g %% of the sequences\n", text->weight, 100 * text->share);
        title = "";
    }
    if (*s->validation && several)
        fprintf(out, "%-13sheld out %s", title, s->validation);
    else if (*s->validation)
        fprintf(out, s->n_texts ? ", held out %s" : "text         held out %s", s->validation);
    if (*s->validation || s->n_texts == 1) fputc('\n', out);
}

static void print_phase(const kv_run_status *s, FILE *out) {
    fprintf(out, "state        %s, step %" PRIi64 " of %" PRIi64 " (%.0f %%)", kv_run_phase_name(s->phase),
            s->step, s->steps, percent(s));
    if (s->phase != KV_RUN_RUNNING && s->phase != KV_RUN_FINISHED)
        fprintf(out, "; --resume goes on from step %" PRIi64, kv_run_status_resumes_at(s));
    fputc('\n', out);
    for (size_t i = 0; i < json_array_size(s->plans); i++) {
        const json_t *plan = json_array_get(s->plans, i);
        fprintf(out,
                "             planned for %" JSON_INTEGER_FORMAT " steps until step %" JSON_INTEGER_FORMAT
                "\n",
                json_integer_value(json_object_get(plan, "steps")),
                json_integer_value(json_object_get(plan, "until")));
    }
    if (s->phase == KV_RUN_KILLED)
        fputs("             it ended without saying why: killed, out of memory, or the machine went down\n",
              out);
    else if (s->phase == KV_RUN_FAILED && *s->message)
        fprintf(out, "             %s\n", s->message);
}

static void print_loss(const kv_run_status *s, FILE *out) {
    const kv_metrics_table *t = &s->metrics.training;
    if (t->n == 0) {
        fputs("loss         no step logged yet\n", out);
        return;
    }
    fprintf(out, "loss         %.4f, lately %.4f (mean of the last %d logged steps%s)\n",
            kv_metrics_last(t, "loss"), kv_metrics_mean(t, "loss", KV_STATUS_WINDOW), KV_STATUS_WINDOW,
            kv_run_status_is_resuming(s) ? ", of before the resume" : "");
    const char *before = "terms        ";
    for (int i = 0; i < t->n_columns; i++) {
        const char *name = t->columns[i].name;
        if (!is_term(name)) continue;
        fprintf(out, "%s%s %.4g (%.4g)", before, name, kv_metrics_last(t, name),
                kv_metrics_mean(t, name, KV_STATUS_WINDOW));
        before = ", ";
    }
    if (*before == ',') fputc('\n', out);
}

// Mean over layers of a list of the last validation, and the worst of them.
static bool print_error(const json_t *validation, const char *key, const char *what, FILE *out) {
    const json_t *list = json_object_get(validation, key);
    const size_t n = json_array_size(list);
    double sum = 0, most = 0;
    size_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double value = json_number_value(json_array_get(list, i));
        sum += value;
        if (value > most) most = value, worst = i;
    }
    if (n > 0) fprintf(out, "%s %.4g, most in layer %zu (%.4g)", what, sum / (double)n, worst, most);
    return n > 0;
}

static void print_validation(const kv_run_status *s, FILE *out) {
    const kv_metrics_table *v = &s->metrics.validation;
    if (v->n == 0) return;
    const double *losses = kv_metrics_values(v, "loss");
    fprintf(out, "validation   %.4f at step %" PRIi64 ", best %.4f at step %" PRIi64 "\n", losses[v->n - 1],
            v->steps[v->n - 1], losses[s->metrics.best], v->steps[s->metrics.best]);
    const json_t *last = json_object_get(v->last, "validation");
    if (!json_object_get(last, "key_error")) return;
    fputs("cache        mean |error| of ", out);
    if (print_error(last, "key_error", "keys", out)) fputs("; of ", out);
    print_error(last, "value_error", "values", out);
    fputc('\n', out);
}

static void print_ranks(const kv_run_status *s, FILE *out) {
    const kv_run_place *p = &s->place;
    if (p->ranks < 2) return;
    fprintf(out, "ranks        %" PRIi64 " on %" PRIi64 " node%s, %" PRIi64 " threads in all", p->ranks,
            p->nodes, p->nodes == 1 ? "" : "s", p->threads);
    const double waiting = kv_metrics_mean(&s->metrics.training, "waiting", KV_STATUS_WINDOW);
    if (!isnan(waiting)) fprintf(out, "; lately %.1f %% of the time is waited for others", 100 * waiting);
    fputc('\n', out);
}

static void print_speed(const kv_run_status *s, FILE *out) {
    const kv_metrics_table *t = &s->metrics.training;
    const double tokens = kv_metrics_last(t, "tokens_per_second"),
                 gflops = kv_metrics_last(t, "gflops_per_second");
    char speed[32], time[32];
    const char *before = "speed        ";
    for (int i = 0; i < t->n_columns; i++) {
        const char *name = t->columns[i].name;
        if (!kv_run_status_is_rate(name)) continue;
        fprintf(out, "%s%s %.3g", before, name, kv_metrics_last(t, name));
        before = ", ";
    }
    if (!isnan(tokens)) fprintf(out, ", %s tokens/s", kv_count_text(tokens, speed));
    if (!isnan(gflops)) fprintf(out, ", %.1f GFLOP/s", gflops);
    if (t->n > 0) fputs(kv_run_status_is_resuming(s) ? " (before the resume)\n" : "\n", out);
    fprintf(out, "time         %s spent", kv_duration(s->elapsed, time));
    if (s->starts.n > 1) fprintf(out, " in %" PRIi64 " starts", s->starts.n);
    if (s->starts.lost >= 1) fprintf(out, " (%s on steps done again)", kv_duration(s->starts.lost, time));
    if (s->phase != KV_RUN_FINISHED) {
        const bool runs = s->phase == KV_RUN_RUNNING;
        if (isnan(s->left))
            fputs(runs ? ", not known yet how much is left" : "", out);
        else
            fprintf(out, runs ? ", %s left" : ", would need %s more", kv_duration(s->left, time));
    }
    fputc('\n', out);
}

static void print_checkpoints(const kv_run_status *s, FILE *out) {
    fputs("holds        ", out);
    const char *before = "";
    for (size_t i = 0; i < s->n_checkpoints; i++) {
        fprintf(out, "%s%" PRIi64, i == 0 ? "checkpoints of step " : ", ", s->checkpoints[i]);
        before = "; ";
    }
    if (s->best_step >= 0) {
        fprintf(out, "%sbest/ of step %" PRIi64, before, s->best_step);
        before = "; ";
    }
    if (s->final_step >= 0) {
        fprintf(out, "%sfinal/", before);
        if (s->phase != KV_RUN_FINISHED) fprintf(out, " of step %" PRIi64, s->final_step);
        before = "; ";
    }
    fputs(*before ? "\n" : "nothing yet\n", out);
}

void kv_run_status_print(const kv_run_status *s, FILE *out) {
    fprintf(out, "%s\n", s->path);
    print_task(s, out);
    print_texts(s, out);
    print_phase(s, out);
    print_loss(s, out);
    print_validation(s, out);
    print_ranks(s, out);
    print_speed(s, out);
    print_checkpoints(s, out);
}

// ---- Several -------------------------------------------------------------------------------------------

static void number_cell(kv_table *table, const char *format, double value) {
    char text[32];
    snprintf(text, sizeof text, format, value);
    kv_table_cell(table, "%s", isnan(value) ? "" : text);
}

// "corpus", or "67 % one, 33 % other".
static void text_cell(kv_table *table, const kv_run_status *s) {
    char *cell = NULL;
    size_t size;
    FILE *out = open_memstream(&cell, &size);
    for (size_t i = 0; out && i < s->n_texts; i++) {
        if (s->n_texts > 1) fprintf(out, "%s%.3g %% ", i ? ", " : "", 100 * s->texts[i].share);
        fputs(s->texts[i].corpus, out);
    }
    kv_table_cell(table, "%s", out && fclose(out) == 0 ? cell : "");
    free(cell);
}

static void add_row(kv_table *table, const kv_run_status *s) {
    char left[32] = "";
    const kv_metrics *m = &s->metrics;
    const double *losses = kv_metrics_values(&m->validation, "loss");
    if (s->phase != KV_RUN_FINISHED && !isnan(s->left)) kv_duration(s->left, left);
    kv_table_cell(table, "%s", s->path);
    kv_table_cell(table, "%s", kv_run_phase_name(s->phase));
    kv_table_cell(table, "%" PRIi64 "/%" PRIi64, s->step, s->steps);
    kv_table_cell(table, "%.0f %%", percent(s));
    number_cell(table, "%.4f", kv_metrics_mean(&m->training, "loss", KV_STATUS_WINDOW));
    number_cell(table, "%.4f", kv_metrics_last(&m->validation, "loss"));
    number_cell(table, "%.4f", m->best >= 0 ? losses[m->best] : (double)NAN);
    kv_table_cell(table, "%s", left);
    text_cell(table, s);
}

void kv_run_status_print_table(const kv_run_status *runs, size_t n, FILE *out) {
    kv_table *table = kv_table_create();
    kv_table_column(table, "", "run", true);
    kv_table_column(table, "", "state", true);
    kv_table_column(table, "", "step", false);
    kv_table_column(table, "", "", false);
    kv_table_column(table, "", "loss", false);
    kv_table_column(table, "validation", "last", false);
    kv_table_column(table, "validation", "best", false);
    kv_table_column(table, "", "left", false);
    kv_table_column(table, "", "text", true);
    for (size_t i = 0; i < n; i++) add_row(table, &runs[i]);
    kv_table_print_within(table, kv_console_width(stdout), out);
    kv_table_free(table);
}

// ---- JSON ----------------------------------------------------------------------------------------------

// null for what is not known.
static json_t *count(int64_t n) {
    return n > 0 ? json_integer(n) : json_null();
}

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *text(const char *value) {
    return *value ? json_string(value) : json_null();
}

static json_t *json_texts(const kv_run_status *s) {
    json_t *texts = json_array();
    for (size_t i = 0; i < s->n_texts; i++)
        json_array_append_new(texts,
                              json_pack("{s:s, s:o, s:o}", "corpus", s->texts[i].corpus, "weight",
                                        number(s->texts[i].weight), "share", number(s->texts[i].share)));
    return texts;
}

static json_t *json_terms(const kv_metrics_table *t) {
    json_t *terms = json_object();
    for (int i = 0; i < t->n_columns; i++) {
        const char *name = t->columns[i].name;
        if (is_term(name))
            json_object_set_new(terms, name,
                                json_pack("{s:o, s:o}", "last", number(kv_metrics_last(t, name)), "smoothed",
                                          number(kv_metrics_mean(t, name, KV_STATUS_WINDOW))));
    }
    return terms;
}

static json_t *json_rates(const kv_metrics_table *t) {
    json_t *rates = json_object();
    for (int i = 0; i < t->n_columns; i++) {
        const char *name = t->columns[i].name;
        if (kv_run_status_is_rate(name)) json_object_set_new(rates, name, number(kv_metrics_last(t, name)));
    }
    return rates;
}

static json_t *json_validation(const kv_run_status *s) {
    const kv_metrics_table *v = &s->metrics.validation;
    if (v->n == 0) return json_null();
    json_t *found = json_deep_copy(json_object_get(v->last, "validation"));
    json_object_set_new(found, "step", json_integer(v->steps[v->n - 1]));
    json_object_set_new(found, "best_step", json_integer(v->steps[s->metrics.best]));
    json_object_set_new(found, "best_loss", number(kv_metrics_values(v, "loss")[s->metrics.best]));
    return found;
}

bool kv_run_status_print_json(const kv_run_status *s, FILE *out) {
    const kv_metrics_table *t = &s->metrics.training;
    json_t *checkpoints = json_array(), *root = json_object();
    for (size_t i = 0; i < s->n_checkpoints; i++)
        json_array_append_new(checkpoints, json_integer(s->checkpoints[i]));
    const bool stopped = s->phase != KV_RUN_RUNNING && s->phase != KV_RUN_FINISHED;
    const struct {
        const char *key;
        json_t *value;
    } fields[] = {{"path", json_string(s->path)},
                  {"task", json_string(s->task)},
                  {"model", text(s->model)},
                  {"base", text(s->base)},
                  {"aux", text(s->aux)},
                  {"text", json_texts(s)},
                  {"held_out", text(s->validation)},
                  {"state", json_string(kv_run_phase_name(s->phase))},
                  {"message", text(s->message)},
                  {"step", json_integer(s->step)},
                  {"steps", json_integer(s->steps)},
                  {"resumes_at", stopped ? json_integer(kv_run_status_resumes_at(s)) : json_null()},
                  {"loss", number(kv_metrics_last(t, "loss"))},
                  {"loss_smoothed", number(kv_metrics_mean(t, "loss", KV_STATUS_WINDOW))},
                  {"terms", json_terms(t)},
                  {"validation", json_validation(s)},
                  {"lr", number(kv_metrics_last(t, "lr"))},
                  {"rates", json_rates(t)},
                  {"tokens_per_second", number(kv_metrics_last(t, "tokens_per_second"))},
                  {"gflops_per_second", number(kv_metrics_last(t, "gflops_per_second"))},
                  {"waiting", number(kv_metrics_last(t, "waiting"))},
                  {"elapsed", number(s->elapsed)},
                  {"starts", count(s->starts.n)},
                  {"ranks", count(s->place.ranks)},
                  {"nodes", count(s->place.nodes)},
                  {"threads", count(s->place.threads)},
                  {"lost", number(s->starts.lost)},
                  {"resuming", json_boolean(kv_run_status_is_resuming(s))},
                  {"left", number(s->left)},
                  {"checkpoints", checkpoints},
                  {"best", s->best_step >= 0 ? json_integer(s->best_step) : json_null()},
                  {"plans", s->plans ? json_incref(s->plans) : json_array()},
                  {"final", json_boolean(s->phase == KV_RUN_FINISHED)}};
    bool whole = root != NULL;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        whole = json_object_set_new(root, fields[i].key, fields[i].value) == 0 && whole;
    char *line = whole ? json_dumps(root, JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    if (!line) return false;
    fprintf(out, "%.*s, \"metrics\": ", (int)strlen(line) - 1, line); // behind the last of its keys
    free(line);
    whole = kv_run_status_print_series(s, out);
    fputs("}\n", out);
    return whole;
}
