// The same prompt by the base alone and by another system.
#include "infer/kvrun/kvrun.h"

#include "data/file/json.h"
#include "data/file/made_by.h"
#include "data/system/console.h"
#include "data/system/fold.h"
#include "data/system/width.h"
#include "data/table/table.h"
#include "infer/cost.h"
#include "infer/ttft.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { narrowest = 60 }; // columns that two answers need

struct side {
    kv_system system;
    kv_session *session;
    kvrun_answer answer;   // the first of them; all are the same
    double *ttft, *rate;   // [repeats] of each answer
    kv_ttft first, decode; // over them: seconds to the first token; tokens a second behind it
};

struct comparison {
    const kvrun *run;
    int64_t n_prompt;
    struct side sides[2];
    int64_t n;         // answers of each that are whole; fewer than asked for when interrupted
    bool decodes;      // there were tokens behind the first
    double *ratios;    // [repeats] of the times to the first token, turn by turn
    kv_ttft reduction; // over them, which are no seconds
};

// ---- Running -------------------------------------------------------------------------------------------

static kv_status prepare_side(struct comparison *c, struct side *side, const int32_t *ids, kv_error *err) {
    const kvrun *run = c->run;
    const int64_t most = run->options.max_tokens, room = run->context - c->n_prompt;
    const size_t repeats = (size_t)run->options.repeats;
    side->ttft = calloc(repeats, sizeof *side->ttft);
    side->rate = calloc(repeats, sizeof *side->rate);
    if (!side->ttft || !side->rate)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu repeats", repeats);
    kv_status status =
        kvrun_session(&side->system, c->n_prompt + (most < room ? most : room), &side->session, err);
    double seconds; // the first prefill of a session finds its memory page by page
    if (status == KV_OK) status = kvrun_time_prefill(side->session, ids, c->n_prompt, &seconds, err);
    return status;
}

static kv_status take_turn(struct comparison *c, struct side *side, const int32_t *ids, int64_t turn,
                           kv_error *err) {
    kvrun_answer answer;
    kv_status status = kvrun_answer_make(c->run, side->session, ids, c->n_prompt, false, NULL, &answer, err);
    if (status == KV_OK && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (status == KV_OK) {
        side->ttft[turn] = answer.ttft;
        side->rate[turn] = answer.tokens_per_second;
        if (answer.tokens_per_second <= 0) c->decodes = false;
    }
    if (turn == 0)
        side->answer = answer;
    else
        kvrun_answer_free(&answer);
    return status;
}

static void show_progress(kv_progress *progress, const struct comparison *c, int64_t done) {
    if (!c->run->options.quiet && !c->run->options.json) kv_progress_show(progress, done, NULL);
}

// The systems take turns, so that a disturbance of the machine hits both. Being interrupted ends it; what there is by then is
// shown if it has a spread.
static kv_status run_turns(struct comparison *c, const int32_t *ids, kv_error *err) {
    kv_progress progress;
    kv_progress_begin(&progress, stderr, "comparing", 2 * c->run->options.repeats);
    kv_status status = KV_OK;
    for (int i = 0; i < 2 && status == KV_OK; i++) status = prepare_side(c, &c->sides[i], ids, err);
    while (status == KV_OK && c->n < c->run->options.repeats) {
        for (int i = 0; i < 2 && status == KV_OK; i++) {
            show_progress(&progress, c, 2 * c->n + i);
            status = take_turn(c, &c->sides[i], ids, c->n, err);
        }
        if (status == KV_OK) c->n++;
    }
    if (progress.terminal && progress.last_shown >= 0) fputs("\r\033[K", stderr);
    return status == KV_ERR_INTERRUPTED && c->n > 1 ? KV_OK : status;
}

// The samples stay in the order of the turns.
static kv_status summarize(const double *samples, int64_t n, kv_ttft *summary, kv_error *err) {
    double *sorted = malloc((size_t)n * sizeof *sorted);
    if (!sorted) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld samples", (long long)n);
    memcpy(sorted, samples, (size_t)n * sizeof *sorted);
    *summary = kv_ttft_summary(sorted, n);
    free(sorted);
    return KV_OK;
}

static kv_status summarize_all(struct comparison *c, kv_error *err) {
    kv_status status = KV_OK;
    for (int i = 0; i < 2 && status == KV_OK; i++) {
        struct side *side = &c->sides[i];
        status = summarize(side->ttft, c->n, &side->first, err);
        if (status == KV_OK) status = summarize(side->rate, c->n, &side->decode, err);
    }
    c->ratios = malloc((size_t)c->n * sizeof *c->ratios);
    if (!c->ratios) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld samples", (long long)c->n);
    for (int64_t i = 0; i < c->n; i++) c->ratios[i] = c->sides[0].ttft[i] / c->sides[1].ttft[i];
    return status == KV_OK ? summarize(c->ratios, c->n, &c->reduction, err) : status;
}

// ---- Agreement -----------------------------------------------------------------------------------------

static int64_t common_prefix(const kvrun_answer *a, const kvrun_answer *b) {
    int64_t n = 0;
    while (n < a->n && n < b->n && a->ids[n] == b->ids[n]) n++;
    return n;
}

// Two that both ended at once agree as well.
static bool same_first(const kvrun_answer *a, const kvrun_answer *b) {
    if (a->n == 0 || b->n == 0) return a->n == b->n;
    return a->ids[0] == b->ids[0];
}

// ---- Showing -------------------------------------------------------------------------------------------

static char *as_ids(const kvrun_answer *answer) {
    char *text = malloc((size_t)answer->n * 12 + 1), *end = text;
    if (!text) return NULL;
    *end = '\0';
    for (int64_t i = 0; i < answer->n; i++) end += sprintf(end, i ? " %d" : "%d", answer->ids[i]);
    return text;
}

static void print_answers(const struct comparison *c, const char *const texts[2]) {
    struct winsize size;
    const char *const names[2] = {kvrun_system_name(&c->sides[0].system),
                                  kvrun_system_name(&c->sides[1].system)};
    const bool terminal = isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    if (terminal && size.ws_col >= narrowest) {
        kvrun_columns_print(stdout, size.ws_col, names, texts);
        return;
    }
    for (int i = 0; i < 2; i++) printf("%s%s:\n%s\n", i ? "\n" : "", names[i], texts[i]);
}

// The unit stands behind the label.
static void print_row(kv_table *table, const char *label, const char *base, const char *other,
                      const char *reduction) {
    const char *const cells[] = {label, base, other, reduction};
    for (int i = 0; i < 4; i++) kv_table_cell(table, "%s", cells[i]);
}

// So many digits behind the point that the smallest has three in all.
static int digits_for(double smallest) {
    return smallest < 10 ? 2 : smallest < 100 ? 1 : 0;
}

static char *spread_text(kv_ttft of, double unit, int digits, char text[48]) {
    snprintf(text, 48, "%.*f ± %.*f", digits, of.seconds / unit, digits, of.spread / unit);
    return text;
}

static char *ratio_text(double ratio, char text[48]) {
    snprintf(text, 48, "%.2fx", ratio);
    return text;
}

static void print_times(const struct comparison *c, kv_table *table) {
    const struct side *base = &c->sides[0], *other = &c->sides[1];
    const double least = fmin(base->first.seconds, other->first.seconds);
    static const char *const labels[] = {"time to first token, s", "time to first token, ms",
                                         "time to first token, µs"};
    const int small = least < 1e-3 ? 2 : least < 1;
    const double unit = pow(1e-3, small);
    const double slowest = fmin(base->decode.seconds, other->decode.seconds);
    char first[48], second[48], reduction[48];
    snprintf(reduction, sizeof reduction, "%.2f ± %.2fx", c->reduction.seconds, c->reduction.spread);
    print_row(table, labels[small], spread_text(base->first, unit, digits_for(least / unit), first),
              spread_text(other->first, unit, digits_for(least / unit), second), reduction);
    if (c->decodes)
        print_row(table, "tokens/s behind it", spread_text(base->decode, 1, digits_for(slowest), first),
                  spread_text(other->decode, 1, digits_for(slowest), second), "");
}

// What depends on the token alone may be computed or looked up: the other count, and how much is read from tables.
static void print_flops(const struct comparison *c, kv_table *table) {
    const kv_system *system = &c->sides[1].system;
    const uint64_t base = kv_system_flops(&c->sides[0].system, c->n_prompt),
                   own = kv_system_flops(system, c->n_prompt);
    const bool billions = own >= 100000000;
    const struct {
        const char *label;
        uint64_t flops;
    } rows[] = {{billions ? "  exact FLOPs, billions" : "  exact FLOPs, millions", own},
                {"  nothing looked up", kv_system_flops_computed(system, c->n_prompt)},
                {"  with tokens looked up", kv_system_flops_looked_up(system, c->n_prompt)}};
    const double unit = billions ? 1e9 : 1e6;
    char first[48], second[48], ratio[48];
    snprintf(first, sizeof first, "%.2f", (double)base / unit);
    for (int i = 0; i < 3; i++) {
        if (i > 0 && rows[i].flops == own) continue;
        snprintf(second, sizeof second, "%.2f", (double)rows[i].flops / unit);
        print_row(table, rows[i].label, i == 0 ? first : "", second,
                  ratio_text((double)base / (double)rows[i].flops, ratio));
    }
    snprintf(second, sizeof second, "%lld", (long long)kv_system_lookups(system));
    if (kv_system_lookups(system) > 0) print_row(table, "  lookups a token", "", second, "");
    print_row(table, "  paper's convention", "", "",
              ratio_text(kv_system_paper_reduction(system, &c->sides[0].system), ratio));
}

static void print_counts(kv_table *table, const char *label, int64_t base, int64_t other) {
    char first[48], second[48];
    snprintf(first, sizeof first, "%lld", (long long)base);
    snprintf(second, sizeof second, "%lld", (long long)other);
    print_row(table, label, first, second, "");
}

static kv_status print_figures(const struct comparison *c, kv_error *err) {
    const struct side *base = &c->sides[0], *other = &c->sides[1];
    kv_table *table = kv_table_create();
    if (!table) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the figures");
    kv_table_column(table, "", "", true);
    kv_table_column(table, "", kvrun_system_name(&base->system), false);
    kv_table_column(table, "", kvrun_system_name(&other->system), false);
    kv_table_column(table, "", "saved", false);
    print_times(c, table);
    print_flops(c, table);
    print_counts(table, "tokens of the prompt", c->n_prompt, c->n_prompt);
    print_counts(table, "tokens of the answer", base->answer.n, other->answer.n);
    print_row(table, "ended by", base->answer.finish, other->answer.finish, "");
    putchar('\n');
    kv_table_print(table, stdout);
    kv_table_free(table);
    printf("first token %s; the first %lld tokens are the same\n",
           same_first(&base->answer, &other->answer) ? "the same" : "another",
           (long long)common_prefix(&base->answer, &other->answer));
    printf("median ± half the distance of the quartiles, of %lld turns\n", (long long)c->n);
    return KV_OK;
}

// Times are those of one machine.
static void print_made_by(void) {
    char line[KV_MADE_BY_LINE], *made_by = kv_made_by_text(false);
    if (made_by) kv_fold(kv_made_by_line(made_by, line), kv_console_width(stdout), stdout);
    if (made_by) putchar('\n');
    free(made_by);
}

static kv_status print_comparison(const struct comparison *c, kv_error *err) {
    char *ids[2] = {NULL, NULL};
    const char *texts[2] = {c->sides[0].answer.text, c->sides[1].answer.text};
    kv_status status = KV_OK;
    for (int i = 0; i < 2 && c->run->options.ids; i++) {
        texts[i] = ids[i] = as_ids(&c->sides[i].answer);
        if (!ids[i]) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for an answer");
    }
    if (status == KV_OK) {
        print_answers(c, texts);
        if (!c->run->options.quiet) status = print_figures(c, err);
        if (!c->run->options.quiet) print_made_by();
    }
    free(ids[0]);
    free(ids[1]);
    return status;
}

static json_t *samples_json(const double *samples, int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; i < n && list; i++)
        if (json_array_append_new(list, json_real(samples[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    return list;
}

static json_t *side_json(const struct comparison *c, const struct side *side) {
    json_t *object = kvrun_answer_json(&side->answer, &side->system, c->n_prompt);
    if (!object) return NULL;
    json_object_set_new(object, "ttft_seconds", json_real(side->first.seconds));
    json_object_set_new(object, "ttft_spread", json_real(side->first.spread));
    json_object_set_new(object, "ttft_samples", samples_json(side->ttft, c->n));
    if (!c->decodes) { // at least once there was nothing to time
        json_object_set_new(object, "tokens_per_second", json_null());
        return object;
    }
    json_object_set_new(object, "tokens_per_second", json_real(side->decode.seconds));
    json_object_set_new(object, "tokens_per_second_spread", json_real(side->decode.spread));
    json_object_set_new(object, "tokens_per_second_samples", samples_json(side->rate, c->n));
    return object;
}

static kv_status put_json(const struct comparison *c, const int32_t *ids, kv_error *err) {
    const struct side *base = &c->sides[0], *other = &c->sides[1];
    json_t *object = json_pack("{s:o, s:o, s:o, s:I, s:i, s:b, s:I, s:f, s:f, s:o, s:f, s:f}", "prompt_ids",
                               kvrun_ids_json(ids, c->n_prompt), "base", side_json(c, base),
                               other->system.predictor ? "kvp" : "pruned", side_json(c, other), "repeats",
                               (json_int_t)c->n, "threads", omp_get_max_threads(), "first_token_equal",
                               same_first(&base->answer, &other->answer), "common_prefix",
                               (json_int_t)common_prefix(&base->answer, &other->answer), "ttft_reduction",
                               c->reduction.seconds, "ttft_reduction_spread", c->reduction.spread,
                               "ttft_reduction_samples", samples_json(c->ratios, c->n), "flops_reduction",
                               (double)kv_system_flops(&base->system, c->n_prompt) /
                                   (double)kv_system_flops(&other->system, c->n_prompt),
                               "paper_reduction", kv_system_paper_reduction(&other->system, &base->system));
    if (!object) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the JSON object");
    json_object_set_new(object, "made_by", kv_made_by(false));
    kv_json_put(stdout, object, JSON_COMPACT);
    return KV_OK;
}

kv_status kvrun_compare(const kvrun *run, const int32_t *ids, int64_t n, bool *interrupted, kv_error *err) {
    struct comparison c = {.run = run, .n_prompt = n, .decodes = true};
    c.sides[0].system = (kv_system){.base = run->system.base};
    c.sides[1].system = run->system;
    kv_status status = run_turns(&c, ids, err);
    if (status == KV_OK) status = summarize_all(&c, err);
    if (status == KV_OK) status = run->options.json ? put_json(&c, ids, err) : print_comparison(&c, err);
    if (status == KV_OK) status = kvrun_flush(stdout, err);
    *interrupted = kv_console_interrupted();
    for (int i = 0; i < 2; i++) {
        kvrun_answer_free(&c.sides[i].answer);
        kv_session_free(c.sides[i].session);
        free(c.sides[i].ttft);
        free(c.sides[i].rate);
    }
    free(c.ratios);
    return status;
}
