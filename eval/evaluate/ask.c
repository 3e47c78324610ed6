// One system at one task: its units become records, and records become a score. Every answer is on disk before the next block
// is asked. Alone a process does one after the other; several ranks first ask their shares of everything, none waiting for
// another, and rank 0 then joins what they were answered.
#include "eval/evaluate/ask.h"

#include "core/gemm.h"
#include "core/text.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "data/system/warning.h"
#include "eval/evaluate/shared.h"
#include "eval/evaluate/shares.h"
#include "eval/evaluate/units.h"

#include <stdlib.h>
#include <string.h>

struct session {
    kv_evaluation *evaluation;
    kv_benchmark *benchmark;
    int64_t system, task;
    kv_asking asking;
    kv_journal *journal;
    const int32_t *owners; // [n_units] as kv_shares has them; NULL: all units are this process's
    kv_progress progress;
    char title[192];
    uint64_t flops_before; // products counted when it began
    int64_t n_asked;       // units that were not there from before
};

// ---- Progress ------------------------------------------------------------------------------------------

// n: units answered beside those that the journal has. Rank 0 knows its own share.
static void show_progress(void *session, int64_t n) {
    struct session *s = session;
    char note[48];
    const double flops = (double)(kv_gemm_flops() - s->flops_before),
                 seconds = kv_now() - s->progress.started;
    const int64_t before = s->owners ? s->n_asked : kv_journal_done(s->journal);
    snprintf(note, sizeof note, "%.1f GFLOP/s", seconds > 0 ? flops / seconds / 1e9 : 0);
    kv_progress_show(&s->progress, before + n, note);
}

static void begin_progress(struct session *s, int64_t n_units, const char *whose) {
    const kv_eval_task *row = &s->evaluation->config->tasks[s->task];
    const char *name = s->evaluation->config->systems[s->system].name;
    snprintf(s->title, sizeof s->title, "%.*s on %.*s %.*s%s", KV_HEAD(name, 60), KV_HEAD(row->name, 60),
             KV_HEAD(row->split, 30), whose);
    kv_progress_begin(&s->progress, stderr, s->title, n_units);
    s->flops_before = kv_gemm_flops();
}

// ---- Asking --------------------------------------------------------------------------------------------

static void set_up(struct session *s, kv_evaluation *e, int64_t system, int64_t task) {
    *s = (struct session){.evaluation = e, .benchmark = e->benchmarks[task], .system = system, .task = task};
    // Ranks of one machine have its memory together.
    s->asking = (kv_asking){.system = &e->systems->items[system],
                            .tokenizer = e->tokenizer,
                            .chat = s->benchmark->prompting.chat,
                            .seed = e->config->seed,
                            .unsafe_execution = e->unsafe_execution,
                            .most = e->config->batch_size,
                            .memory = kv_batching_memory(&e->systems->items[system]) / kv_node_ranks(),
                            .answered = show_progress,
                            .listener = s};
}

static kv_status begin(struct session *s, kv_saved_prompt **shared, kv_error *err) {
    kv_status status = kv_shared_prompt_open(s->evaluation, s->system, s->task, shared, err);
    if (status == KV_OK)
        status = (s->owners ? kv_units_open_part : kv_units_open)(s->evaluation, s->system, s->task,
                                                                  &s->journal, err);
    s->asking.shared = *shared;
    return status;
}

static void finish(struct session *s, kv_saved_prompt *shared) {
    kv_session_free(s->asking.session);
    kv_saved_prompt_free(shared);
    kv_journal_close(s->journal);
}

// A system that gives no numbers for one question has no score of the task, and is asked no further. That is kept
// as the record of this question, so that it need not be asked again: {"not_finite": what was not}.
static kv_status keep_not_finite(struct session *s, int64_t unit, kv_error *err) {
    const kv_benchmark *b = s->benchmark;
    char *text;
    if (asprintf(&text, "%s: %s", b->items[unit / (b->n_units / b->n_items)].where, err->message) < 0)
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a record");
    json_t *record = json_pack("{s:o}", "not_finite", kv_record_text(text));
    free(text);
    if (!record) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a record");
    s->n_asked++;
    return kv_journal_add(s->journal, unit, 1, &record, err);
}

static kv_status ask_block(struct session *s, int64_t first, int64_t n, json_t **records, kv_error *err) {
    kv_benchmark *b = s->benchmark;
    if (kv_journal_has(s->journal, first, n)) return KV_OK;
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    // Some may be there from when fewer were asked, in another block.
    kv_journal_forget(s->journal, first, n);
    kv_status status = b->ops->answer(b, &s->asking, first, n, records, err);
    if (status == KV_OK) status = kv_journal_add(s->journal, first, n, records, err);
    if (status == KV_OK) s->n_asked += n;
    if (status == KV_OK) show_progress(s, 0);
    return status;
}

static bool is_mine(const struct session *s, int64_t first) {
    return !s->owners || s->owners[first] == kv_rank();
}

// What is behind a question that there were no numbers for is not asked, nor what is in a block with it.
static kv_status ask_blocks(struct session *s, kv_error *err) {
    const int64_t n_units = s->benchmark->n_units, end = kv_units_end(s->benchmark, s->journal);
    json_t **records = calloc((size_t)n_units + 1, sizeof(json_t *));
    kv_status status = records ? KV_OK
                               : kv_fail(err, KV_ERR_MEMORY, "out of memory for the records of %lld answers",
                                         (long long)n_units);
    for (int64_t first = 0, n; first < n_units && status == KV_OK; first += n) {
        n = kv_units_block(s->evaluation, s->system, s->task, first);
        if (first + n > end) break;
        if (!is_mine(s, first)) continue;
        status = ask_block(s, first, n, records, err);
        if (status == KV_ERR_NOT_FINITE) {
            status = keep_not_finite(s, first + s->asking.not_finite, err);
            break;
        }
    }
    free(records);
    return status;
}

// ---- Scoring -------------------------------------------------------------------------------------------

// NULL: every record is of an answer.
static const char *not_finite(const struct session *s) {
    const int64_t end = kv_units_end(s->benchmark, s->journal);
    if (end == s->benchmark->n_units) return NULL;
    return json_string_value(json_object_get(kv_journal_records(s->journal)[end], "not_finite"));
}

// Records become values and texts.
static kv_status take_records(const struct session *s, kv_outcome *outcome, kv_error *err) {
    const kv_benchmark *b = s->benchmark;
    json_t *const *records = kv_journal_records(s->journal);
    if (not_finite(s)) {
        outcome->not_finite = strdup(not_finite(s));
        return outcome->not_finite ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for an answer");
    }
    outcome->values = calloc((size_t)(b->n_metrics * b->n_items), sizeof *outcome->values);
    outcome->records = calloc((size_t)b->n_units + 1, sizeof *outcome->records);
    bool ok = outcome->values && outcome->records;
    for (int64_t u = 0; ok && u < b->n_units; u++) {
        outcome->records[u] = json_dumps(records[u], JSON_COMPACT);
        ok = outcome->records[u];
    }
    if (!ok) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld answers", (long long)b->n_units);
    return b->ops->score(b, records, outcome->values, err);
}

static void write_note(const struct session *s, const kv_outcome *outcome, const double *weights, char *note,
                       size_t size) {
    const kv_benchmark *b = s->benchmark;
    const kv_metric *metric = kv_metric_of(b->metrics[0]);
    char text[KV_METRIC_TEXT];
    if (outcome->not_finite) {
        snprintf(note, size, KV_NOT_FINITE);
        return;
    }
    const double figure = kv_metric_figure(metric, outcome->values, weights, b->n_items);
    const int n = snprintf(note, size, "%s %s", b->metrics[0], kv_metric_text(metric, figure, text));
    const int64_t before = b->n_units - s->n_asked;
    if (before > 0) snprintf(note + n, size - (size_t)n, ", %lld answered before", (long long)before);
}

// What the journal has becomes the outcome, and the progress line ends with it.
static kv_status conclude(struct session *s, const kv_results *results, kv_error *err) {
    kv_outcome *outcome = kv_results_outcome(results, s->system, s->task);
    const kv_eval_task *row = &s->evaluation->config->tasks[s->task];
    char note[96] = "stopped";
    kv_status status = kv_journal_settle(s->journal, err);
    if (status == KV_OK) status = take_records(s, outcome, err);
    if (status == KV_OK) write_note(s, outcome, results->tasks[s->task].weights, note, sizeof note);
    kv_progress_end(&s->progress, note);
    if (outcome->not_finite)
        kv_warn(
            "`%s` is not finite on %s %s: %s: it has no score there; look whether its weights are damaged "
            "or have diverged in training",
            s->evaluation->config->systems[s->system].name, row->name, row->split, outcome->not_finite);
    return status;
}

static kv_status ask(kv_evaluation *e, int64_t system, int64_t task, const kv_results *results,
                     kv_error *err) {
    struct session s;
    kv_saved_prompt *shared = NULL;
    set_up(&s, e, system, task);
    kv_status status = begin(&s, &shared, err);
    if (status == KV_OK) {
        begin_progress(&s, s.benchmark->n_units, "");
        kv_progress_show(&s.progress, kv_journal_done(s.journal), NULL);
        status = ask_blocks(&s, err);
        if (status == KV_OK)
            status = conclude(&s, results, err);
        else
            kv_progress_end(&s.progress, "stopped");
    }
    finish(&s, shared);
    return status;
}

static kv_status ask_alone(kv_evaluation *e, const kv_results *results, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t s = 0; s < e->config->n_systems; s++)
        for (int64_t t = 0; t < e->config->n_tasks && status == KV_OK; t++)
            status = ask(e, s, t, results, err);
    return status;
}

// ---- Several ranks -------------------------------------------------------------------------------------

// This rank's share of one system on one task.
static kv_status ask_share(kv_evaluation *e, const kv_shares *shares, int64_t system, int64_t task,
                           kv_error *err) {
    const int64_t n_mine = kv_shares_count(shares, system, task, kv_rank());
    struct session s;
    kv_saved_prompt *shared = NULL;
    char note[64] = "stopped";
    if (n_mine == 0) return KV_OK;
    set_up(&s, e, system, task);
    s.owners = kv_shares_of(shares, system, task);
    kv_status status = begin(&s, &shared, err);
    if (status == KV_OK) {
        begin_progress(&s, n_mine, ", rank 0's share");
        status = ask_blocks(&s, err);
        if (status == KV_OK)
            snprintf(note, sizeof note, "of %lld, for %d ranks", (long long)s.benchmark->n_units,
                     kv_n_ranks());
        kv_progress_end(&s.progress, note);
    }
    finish(&s, shared);
    return status;
}

static kv_status read_part(const kv_evaluation *e, const kv_shares *shares, int64_t system, int64_t task,
                           char **lines, size_t *size, kv_error *err) {
    const kv_journal_name name = kv_units_name(e, system, task);
    *lines = NULL, *size = 0;
    if (kv_rank_leads() || kv_shares_count(shares, system, task, kv_rank()) == 0) return KV_OK;
    return kv_journal_read_part(e->config->output, &name, kv_rank(), lines, size, err);
}

// On the journal of rank 0. Others may have gone on behind the first question without numbers, which one process would not.
static kv_status take_parts(struct session *s, const char *lines, size_t size, kv_error *err) {
    const int64_t n_units = s->benchmark->n_units;
    kv_journal_take(s->journal, lines, size);
    const int64_t end = kv_units_end(s->benchmark, s->journal);
    if (end < n_units) kv_journal_forget(s->journal, end + 1, n_units - end - 1);
    if (end < n_units || kv_journal_has(s->journal, 0, n_units)) return KV_OK;
    return kv_fail(err, KV_ERR_MISMATCH, "%s: found %lld of %lld answers that the ranks were to give",
                   s->evaluation->config->output, (long long)kv_journal_done(s->journal), (long long)n_units);
}

static kv_status join_parts(kv_evaluation *e, const kv_shares *shares, int64_t system, int64_t task,
                            const kv_results *results, const char *lines, size_t size, kv_error *err) {
    struct session s;
    set_up(&s, e, system, task);
    s.n_asked = s.benchmark->n_units - kv_shares_count(shares, system, task, -1);
    kv_status status = kv_units_open_part(e, system, task, &s.journal, err);
    if (status != KV_OK) return status;
    begin_progress(&s, s.benchmark->n_units, "");
    status = take_parts(&s, lines, size, err);
    if (status == KV_OK) {
        kv_progress_show(&s.progress, s.benchmark->n_units, NULL);
        status = conclude(&s, results, err);
    } else {
        kv_progress_end(&s.progress, "stopped");
    }
    if (status == KV_OK) kv_journal_drop_parts(s.journal, kv_n_ranks());
    finish(&s, NULL);
    return status;
}

// Parts reach rank 0 as messages: what one machine wrote another may see a while later.
static kv_status join(kv_evaluation *e, const kv_shares *shares, int64_t system, int64_t task,
                      const kv_results *results, kv_error *err) {
    char *lines, *all = NULL;
    size_t size, *sizes = calloc((size_t)kv_n_ranks(), sizeof *sizes);
    kv_status status = read_part(e, shares, system, task, &lines, &size, err);
    if (status == KV_OK && !sizes) status = kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = kv_ranks_collect(lines, size, &all, sizes, err);
    if (status == KV_OK && kv_rank_leads()) {
        size_t total = 0;
        for (int r = 0; r < kv_n_ranks(); r++) total += sizes[r];
        status = join_parts(e, shares, system, task, results, all, total, err);
    }
    free(lines);
    free(all);
    free(sizes);
    return kv_ranks_agree(status, err);
}

static kv_status ask_shares(kv_evaluation *e, const kv_shares *shares, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t s = 0; s < e->config->n_systems; s++)
        for (int64_t t = 0; t < e->config->n_tasks && status == KV_OK; t++)
            status = ask_share(e, shares, s, t, err);
    // Who fails alone ends the others at once, whatever they are at: none of them has to come here first. A signal is sent to
    // all.
    return status == KV_OK || status == KV_ERR_INTERRUPTED ? kv_ranks_agree(status, err) : status;
}

static kv_status ask_together(kv_evaluation *e, const kv_results *results, kv_error *err) {
    kv_shares shares;
    kv_status status = kv_shares_make(e, &shares, err);
    if (status != KV_OK) return status;
    status = ask_shares(e, &shares, err);
    for (int64_t s = 0; s < e->config->n_systems; s++)
        for (int64_t t = 0; t < e->config->n_tasks && status == KV_OK; t++)
            status = join(e, &shares, s, t, results, err);
    kv_shares_free(&shares);
    return status;
}

kv_status kv_ask(kv_evaluation *e, const kv_results *results, kv_error *err) {
    return kv_n_ranks() > 1 ? ask_together(e, results, err) : ask_alone(e, results, err);
}
