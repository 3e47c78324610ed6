// Everything that can fail without a model is done before weights are loaded; from then on every answer is on
// disk before the next batch is asked.
#include "eval/evaluate/evaluate.h"

#include "core/gemm.h"
#include "core/text.h"
#include "data/file/made_by.h"
#include "data/file/hash.h"
#include "data/system/console.h"
#include "data/system/warning.h"
#include "eval/benchmark/kinds.h"
#include "eval/evaluate/analyse.h"
#include "eval/evaluate/journal.h"
#include "eval/evaluate/keep_grid.h"
#include "eval/evaluate/shared.h"
#include "eval/evaluate/timing.h"
#include "infer/cost.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- Opening -------------------------------------------------------------------------------------------

// Models that were trained here have their tokenizer with them.
static void find_tokenizer(kv_evaluation *e) {
    const kv_eval_config *config = e->config;
    e->tokenizer_path = config->tokenizer;
    for (unsigned s = 0; s < config->n_systems && !e->tokenizer_path; s++) {
        const kv_eval_system *row = &config->systems[s];
        const char *const dirs[] = {row->model, row->base, row->aux};
        for (int i = 0; i < 3 && !e->tokenizer_path; i++)
            if (dirs[i] && kv_tokenizer_present(dirs[i])) e->tokenizer_path = dirs[i];
    }
}

static bool decodes(const kv_eval_config *config) {
    for (unsigned t = 0; t < config->n_tasks; t++)
        if (kv_benchmark_kind_find(config->tasks[t].kind).decodes) return true;
    return false;
}

// One for all tasks that are chats, as there is one tokenizer.
static kv_status open_chat(kv_evaluation *e, kv_error *err) {
    const kv_eval_config *config = e->config;
    unsigned t = 0;
    while (t < config->n_tasks && !config->tasks[t].chat) t++;
    if (t == config->n_tasks) return KV_OK;
    kv_status status =
        kv_chat_template_find(e->tokenizer_path, e->tokenizer, config->systems[0].model, &e->chat, err);
    char key[64];
    snprintf(key, sizeof key, "tasks[%u].chat", t);
    if (status != KV_OK) return kv_eval_blame(e->source, key, err);
    if (e->chat.opens_thought)
        kv_config_warn(
            e->source, key,
            "the model's template begins every answer with <think>: what is written within `max_tokens` may be "
            "thoughts alone, and choices are scored where thoughts would begin");
    return KV_OK;
}

static kv_prompting prompting_of(const kv_evaluation *e, const kv_eval_task *task) {
    return (kv_prompting){
        .tokenizer = e->tokenizer, .chat = task->chat ? &e->chat : NULL, .system = task->system_prompt};
}

// Which of a task's files an error is about, by the name that it opens with.
static const char *file_key(const kv_eval_task *task, const kv_error *err) {
    const size_t n = task->shots_file ? strlen(task->shots_file) : 0;
    return n > 0 && !strncmp(err->message, task->shots_file, n) && err->message[n] == ':' &&
                   strcmp(task->shots_file, kv_task_source(task)) != 0
               ? "shots_file"
               : kv_task_source_key(task);
}

static kv_status open_benchmarks(kv_evaluation *e, kv_error *err) {
    const kv_eval_config *config = e->config;
    find_tokenizer(e);
    if (config->n_tasks == 0) return KV_OK;
    if (!e->tokenizer_path)
        return kv_config_fail(
            e->source, err, "tokenizer",
            "expected the path of a tokenizer, since none of the models has one in its directory");
    kv_status status = kv_tokenizer_open(e->tokenizer_path, &e->tokenizer, err);
    if (status == KV_OK && decodes(config)) status = kv_tokenizer_speaks(e->tokenizer, err);
    if (status != KV_OK) return kv_eval_blame(e->source, "tokenizer", err);
    status = open_chat(e, err);
    if (status != KV_OK) return status;
    e->benchmarks = calloc(config->n_tasks, sizeof(kv_benchmark *));
    if (!e->benchmarks) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %u tasks", config->n_tasks);
    for (unsigned t = 0; t < config->n_tasks; t++) {
        char key[64];
        const kv_prompting prompting = prompting_of(e, &config->tasks[t]);
        status = kv_benchmark_create(&config->tasks[t], &prompting, config->seed, &e->benchmarks[t], err);
        snprintf(key, sizeof key, "tasks[%u].%s", t, file_key(&config->tasks[t], err));
        if (status != KV_OK) return kv_eval_blame(e->source, key, err);
        kv_benchmark *b = e->benchmarks[t];
        snprintf(key, sizeof key, "tasks[%u].limit", t);
        if (config->tasks[t].limit > b->n_items && config->tasks[t].limit != config->limit)
            kv_config_warn(e->source, key, "found %lld, but %s has %lld items, all of which are asked",
                           (long long)config->tasks[t].limit, kv_task_source(&config->tasks[t]),
                           (long long)b->n_items);
        snprintf(key, sizeof key, "tasks[%u]", t);
        status = b->ops->prepare ? b->ops->prepare(b, e->unsafe_execution, err) : KV_OK;
        if (status != KV_OK) return kv_eval_blame(e->source, key, err);
    }
    return KV_OK;
}

static kv_status check_prompt(const kv_evaluation *e, const char *key, int64_t tokens, unsigned system,
                              kv_error *err) {
    const int64_t context = e->systems->contexts[system];
    if (tokens <= context) return KV_OK;
    return kv_config_fail(e->source, err, key, "found %lld, expected at most the context of `%s`, %lld",
                          (long long)tokens, e->config->systems[system].name, (long long)context);
}

// Questions, by what the task says of those that are too long.
static kv_status fit_tasks(const kv_evaluation *e, kv_error *err) {
    kv_status status = KV_OK;
    char whose[KV_SYSTEM_LIMIT], whose_ids[KV_SYSTEM_LIMIT];
    const int64_t context = kv_systems_shortest(e->systems, whose);
    const int64_t n_ids = kv_systems_fewest_ids(e->systems, whose_ids);
    for (unsigned t = 0; t < e->config->n_tasks && status == KV_OK; t++) {
        char key[64];
        snprintf(key, sizeof key, "tasks[%u]", t);
        const kv_fit fit = {
            .context = context, .whose = whose, .key = key, .n_ids = n_ids, .whose_ids = whose_ids};
        status = kv_benchmark_fit(e->benchmarks[t], &fit, err);
        if (status != KV_OK) kv_eval_blame(e->source, key, err);
    }
    return status;
}

// That everything fits every system is known before the first weights are loaded.
static kv_status check_fit(const kv_evaluation *e, kv_error *err) {
    const kv_eval_config *config = e->config;
    kv_status status = fit_tasks(e, err);
    for (unsigned s = 0; s < config->n_systems && status == KV_OK; s++) {
        status = check_prompt(e, "ttft.prompt_tokens", kv_timing_prompt(e), s, err);
        for (unsigned i = 0; i < config->ttft.n_prompts && status == KV_OK; i++) {
            char key[64];
            snprintf(key, sizeof key, "ttft.prompts[%u]", i);
            status = check_prompt(e, key, config->ttft.prompts[i], s, err);
        }
    }
    return status;
}

kv_status kv_evaluation_open(kv_evaluation *e, kv_error *err) {
    kv_status status = open_benchmarks(e, err);
    if (status != KV_OK) return status;
    status = kv_systems_open(e->source, e->config, e->tokenizer_path, e->tokenizer, &e->systems, err);
    if (status == KV_OK) status = check_fit(e, err);
    if (status == KV_OK && e->config->analysis.corpus) status = kv_evaluation_open_analysis(e, err);
    return status;
}

kv_status kv_evaluation_load(kv_evaluation *e, kv_error *err) {
    return kv_systems_load(e->systems, err);
}

void kv_evaluation_close(kv_evaluation *e) {
    for (unsigned t = 0; e->benchmarks && t < e->config->n_tasks; t++) kv_benchmark_free(e->benchmarks[t]);
    free(e->benchmarks);
    kv_analysis_text_free(&e->text);
    kv_systems_free(e->systems);
    kv_chat_template_free(&e->chat);
    kv_tokenizer_free(e->tokenizer);
    kv_config_free(e->source);
    *e = (kv_evaluation){0};
}

// ---- Asking --------------------------------------------------------------------------------------------

// One system at one task.
struct session {
    kv_evaluation *evaluation;
    kv_benchmark *benchmark;
    kv_asking asking;
    kv_journal *journal;
    kv_progress progress;
    char title[192];
    uint64_t flops_before; // products counted when it began
    int64_t n_asked;       // units that were not there from before
};

// What ends an answer, as config.json and the tokenizer's files say it: no weight tells of that.
static uint64_t hash_ends(const kv_evaluation *e, int64_t system, uint64_t hash) {
    const kv_model_spec *base = &e->systems->items[system].base->spec;
    const int32_t ids[] = {base->eos_id, kv_tokenizer_eos(e->tokenizer)};
    hash = kv_hash64(hash, base->stop_ids, (size_t)base->n_stop_ids * sizeof *base->stop_ids);
    return kv_hash64(hash, ids, sizeof ids);
}

// Raised when units meet in other batches than before.
enum { BATCHING = 2 };

// Everything the records depend on, but for what each item is. What is asked together is part of it: sums of many numbers round
// differently in another order.
static void run_hash(const kv_evaluation *e, int64_t system, const kv_benchmark *b, char out[17]) {
    char system_hash[17];
    kv_systems_hash(e->systems, system, system_hash);
    const int64_t numbers[] = {(int64_t)e->config->seed, e->config->batch_size, BATCHING};
    kv_tokenizer_id tokenizer;
    kv_tokenizer_identify(e->tokenizer, &tokenizer);
    uint64_t hash = kv_hash64(0, numbers, sizeof numbers);
    hash = kv_hash64(hash, system_hash, 16);
    hash = b->way ? kv_hash64(hash, &b->way, sizeof b->way) : kv_hash64(hash, b->hash, 16);
    hash = kv_hash64(hash, tokenizer.hash, 16);
    hash = kv_hash64(hash, tokenizer.cuts, 16);
    hash = kv_hash64(hash, KV_VERSION, strlen(KV_VERSION));
    if (b->answer_tokens > 0) hash = hash_ends(e, system, hash);
    kv_hash_text(hash, out);
}

// n: units answered beside those that the journal has.
static void show_progress(void *session, int64_t n) {
    struct session *s = session;
    char note[48];
    const double flops = (double)(kv_gemm_flops() - s->flops_before),
                 seconds = kv_now() - s->progress.started;
    snprintf(note, sizeof note, "%.1f GFLOP/s", seconds > 0 ? flops / seconds / 1e9 : 0);
    kv_progress_show(&s->progress, kv_journal_done(s->journal) + n, note);
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

// NULL: every record is of an answer.
static const char *not_finite(const struct session *s) {
    json_t *const *records = kv_journal_records(s->journal);
    const char *found = NULL;
    for (int64_t u = 0; u < s->benchmark->n_units && !found; u++)
        found = json_string_value(json_object_get(records[u], "not_finite"));
    return found;
}

// Units are asked in blocks, as they are numbered: what is there of a block that is not whole is asked anew, so that an
// evaluation that was stopped ends with the bits of one that never was. Of what is scored a block is a batch. Answers in
// words take a few batches' worth, for prompts of like length to meet and answers to take the places of others, as long as
// that is not much work to lose. A pure function of the configuration and of what the units before `first` and in it are.
static int64_t block_of(const struct session *s, int64_t first) {
    enum { BATCHES = 4 };
    static const double much = 5e12; // FLOPs: a minute of two cores
    const kv_benchmark *b = s->benchmark;
    const int64_t units = b->n_units / b->n_items, batch = s->asking.most ? s->asking.most : KV_BATCH_MOST;
    const int64_t least = b->most_units > 0 && b->most_units < batch ? b->most_units : batch;
    const int64_t left = b->n_units - first, most = b->answer_tokens > 0 ? BATCHES * least : least;
    double flops = 0;
    int64_t n = 0;
    for (; n < left && n < most && (n < least || flops < much); n++) {
        kv_unit_cost cost;
        if (b->answer_tokens == 0) continue;
        kv_benchmark_cost(b, s->asking.system, 0, (first + n) / units, &cost);
        flops += cost.reading + cost.steps;
    }
    return n;
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

static kv_status ask_blocks(struct session *s, kv_error *err) {
    const int64_t n_units = s->benchmark->n_units;
    if (not_finite(s)) return KV_OK;
    json_t **records = calloc((size_t)n_units + 1, sizeof(json_t *));
    kv_status status = records ? KV_OK
                               : kv_fail(err, KV_ERR_MEMORY, "out of memory for the records of %lld answers",
                                         (long long)n_units);
    for (int64_t first = 0, n; first < n_units && status == KV_OK; first += n) {
        n = block_of(s, first);
        status = ask_block(s, first, n, records, err);
        if (status == KV_ERR_NOT_FINITE) {
            status = keep_not_finite(s, first + s->asking.not_finite, err);
            break;
        }
    }
    free(records);
    return status;
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

// What of the journal's file is of this system and this task.
static kv_status open_journal(struct session *s, int64_t system, const kv_eval_task *row, kv_error *err) {
    const kv_benchmark *b = s->benchmark;
    const kv_eval_config *config = s->evaluation->config;
    const kv_journal_name name = {row->name, row->split, config->systems[system].name};
    uint64_t *asked = malloc((size_t)b->n_units * sizeof *asked + 1);
    if (!asked) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld answers", (long long)b->n_units);
    for (int64_t u = 0; u < b->n_units; u++) asked[u] = kv_item_key(&b->items[u / (b->n_units / b->n_items)]);
    kv_journal_run run = {
        .n_units = b->n_units, .asked = b->way ? asked : NULL, .part = b->way && row->limit > 0};
    run_hash(s->evaluation, system, b, run.hash);
    kv_status status = kv_journal_skipped(config->output, &name, b->skipped, err);
    if (status == KV_OK) status = kv_journal_open(config->output, &name, &run, &s->journal, err);
    free(asked);
    return status;
}

static kv_status ask(kv_evaluation *e, int64_t system, int64_t task, const kv_results *results,
                     kv_error *err) {
    kv_outcome *outcome = kv_results_outcome(results, system, task);
    const kv_eval_config *config = e->config;
    const kv_eval_task *row = &config->tasks[task];
    const char *name = config->systems[system].name;
    struct session s = {.evaluation = e, .benchmark = e->benchmarks[task]};
    s.asking = (kv_asking){.system = &e->systems->items[system],
                           .tokenizer = e->tokenizer,
                           .chat = s.benchmark->prompting.chat,
                           .seed = config->seed,
                           .unsafe_execution = e->unsafe_execution,
                           .most = config->batch_size,
                           .memory = kv_batching_memory(&e->systems->items[system]),
                           .answered = show_progress,
                           .listener = &s};
    kv_saved_prompt *shared;
    kv_status status = kv_shared_prompt_open(e, system, task, &shared, err);
    if (status == KV_OK) status = open_journal(&s, system, row, err);
    if (status != KV_OK) {
        kv_saved_prompt_free(shared);
        return status;
    }
    s.asking.shared = shared;
    snprintf(s.title, sizeof s.title, "%.*s on %.*s %.*s", KV_HEAD(name, 60), KV_HEAD(row->name, 60),
             KV_HEAD(row->split, 30));
    kv_progress_begin(&s.progress, stderr, s.title, s.benchmark->n_units);
    s.flops_before = kv_gemm_flops();
    kv_progress_show(&s.progress, kv_journal_done(s.journal), NULL);
    status = ask_blocks(&s, err);
    if (status == KV_OK) status = kv_journal_settle(s.journal, err);
    if (status == KV_OK) status = take_records(&s, outcome, err);
    char note[96] = "stopped";
    if (status == KV_OK) write_note(&s, outcome, results->tasks[task].weights, note, sizeof note);
    kv_progress_end(&s.progress, note);
    if (outcome->not_finite)
        kv_warn(
            "`%s` is not finite on %s %s: %s: it has no score there; look whether its weights are damaged "
            "or have diverged in training",
            name, row->name, row->split, outcome->not_finite);
    kv_session_free(s.asking.session);
    kv_saved_prompt_free(shared);
    kv_journal_close(s.journal);
    return status;
}

// ---- All together --------------------------------------------------------------------------------------

static bool copy_text(char **to, const char *from) {
    *to = strdup(from);
    return *to != NULL;
}

static bool describe_system(const kv_evaluation *e, kv_results *results, int64_t i) {
    kv_result_system *to = &results->systems[i];
    to->paper_reduction = kv_system_paper_reduction(&e->systems->items[i], &e->systems->items[0]);
    to->lookups = (double)kv_system_lookups(&e->systems->items[i]);
    kv_systems_hash(e->systems, i, to->hash);
    if (e->tokenizer) {
        kv_tokenizer_id id;
        kv_tokenizer_identify(e->tokenizer, &id);
        snprintf(to->tokenizer, sizeof to->tokenizer, "%s/%s", id.hash, id.cuts);
    }
    return copy_text(&to->name, e->config->systems[i].name) &&
           copy_text(&to->family, e->config->systems[i].family);
}

// NULL where all weigh the same; false when out of memory.
static bool copy_weights(const kv_benchmark *b, double **weights) {
    bool alike = true;
    for (int64_t i = 0; i < b->n_items; i++) alike = alike && b->items[i].weight == b->items[0].weight;
    if (alike) return true;
    *weights = calloc((size_t)b->n_items + 1, sizeof **weights);
    for (int64_t i = 0; *weights && i < b->n_items; i++) (*weights)[i] = b->items[i].weight;
    return *weights != NULL;
}

static bool describe_task(const kv_evaluation *e, kv_results *results, int64_t i) {
    const kv_benchmark *b = e->benchmarks[i];
    const kv_eval_task *from = &e->config->tasks[i];
    kv_result_task *to = &results->tasks[i];
    to->shots = from->shots, to->n_items = b->n_items, to->n_units = b->n_units, to->n_metrics = b->n_metrics;
    to->shots_once = from->shots > 0 && from->shots_drawn == KV_SHOTS_ONCE;
    to->chat = from->chat, to->n_skipped = b->n_skipped, to->n_cut = b->n_cut;
    memcpy(to->metrics, b->metrics, sizeof to->metrics);
    memcpy(to->hash, b->hash, sizeof to->hash);
    for (int64_t k = 0; k < b->n_items; k++)
        to->prompt_tokens += (double)b->prompt_tokens[k] / (double)b->n_items;
    return copy_weights(b, &to->weights) && copy_text(&to->name, from->name) &&
           copy_text(&to->split, from->split) && copy_text(&to->kind, from->kind) &&
           copy_text(&to->file, kv_task_source(from)) && kv_keep_grid(b, to);
}

static bool describe(const kv_evaluation *e, kv_results *results) {
    const kv_eval_config *config = e->config;
    bool ok = true;
    for (unsigned s = 0; s < config->n_systems; s++) ok = ok && describe_system(e, results, s);
    for (unsigned t = 0; t < config->n_tasks; t++) ok = ok && describe_task(e, results, t);
    results->seed = config->seed, results->bootstrap = config->bootstrap;
    results->budgets = malloc(config->n_budgets * sizeof *results->budgets + 1);
    results->configs = calloc(1, sizeof *results->configs);
    if (!ok || !results->budgets || !results->configs) return false;
    if (config->n_budgets)
        memcpy(results->budgets, config->budgets, config->n_budgets * sizeof *config->budgets);
    results->n_budgets = config->n_budgets;
    results->configs[0] = kv_config_text(e->source);
    results->n_configs = results->configs[0] != NULL;
    results->made_by = calloc(1, sizeof *results->made_by);
    if (results->made_by) results->made_by[0] = kv_made_by_text(true);
    results->n_made_by = results->made_by && results->made_by[0];
    return results->n_configs == 1 && results->n_made_by == 1;
}

kv_status kv_evaluation_run(kv_evaluation *e, kv_results *results, kv_error *err) {
    const int64_t n_systems = e->config->n_systems, n_tasks = e->config->n_tasks;
    int lock = -1;
    const bool keeps = n_tasks > 0 || e->text.rows;
    kv_status status = kv_shared_prompts_check(e, err);
    if (status != KV_OK) return status;
    status = keeps ? kv_journal_lock(e->config->output, &lock, err) : KV_OK;
    if (status != KV_OK) return kv_eval_blame(e->source, "output", err);
    status = kv_results_init(results, n_systems, n_tasks, err);
    if (status == KV_OK && !describe(e, results))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the results");
    if (status == KV_OK) status = kv_shared_prompts_make(e, err);
    for (int64_t s = 0; s < n_systems; s++)
        for (int64_t t = 0; t < n_tasks && status == KV_OK; t++) {
            kv_outcome *outcome = kv_results_outcome(results, s, t);
            const kv_system *system = &e->systems->items[s];
            outcome->flops = kv_task_flops(system, e->benchmarks[t], kv_system_flops);
            outcome->flops_computed = kv_task_flops(system, e->benchmarks[t], kv_system_flops_computed);
            outcome->flops_looked_up = kv_task_flops(system, e->benchmarks[t], kv_system_flops_looked_up);
            if (results->tasks[t].grid.lengths)
                status = kv_keep_item_flops(&e->systems->items[s], e->benchmarks[t], outcome, err);
            if (status == KV_OK) status = ask(e, s, t, results, err);
        }
    for (int64_t t = 0; t < n_tasks; t++) kv_benchmark_forget(e->benchmarks[t]);
    if (status == KV_OK && e->text.rows) status = kv_evaluation_analyse(e, results, err);
    if (status == KV_OK && e->measure) status = kv_evaluation_measure(e, results, err);
    if (status == KV_OK) status = kv_results_derive(results, err);
    if (status != KV_OK) kv_results_free(results);
    if (lock >= 0) close(lock);
    return status;
}
