// Everything that can fail without a model is done before weights are loaded; from then on every answer is on
// disk before the next batch is asked.
#include "eval/evaluate/evaluate.h"

#include "core/text.h"
#include "data/file/made_by.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "data/system/warning.h"
#include "eval/benchmark/kinds.h"
#include "eval/evaluate/analyse.h"
#include "eval/evaluate/ask.h"
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
    // Found out once: a signal to stop ends that, and what it would be then is another's, whose records nobody knows.
    kv_tokenizer_identify(e->tokenizer, &e->tokenizer_id);
    if (status == KV_OK && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
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
    if (e->tokenizer)
        snprintf(to->tokenizer, sizeof to->tokenizer, "%s/%s", e->tokenizer_id.hash, e->tokenizer_id.cuts);
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

static kv_status keep_flops(const kv_evaluation *e, const kv_results *results, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t s = 0; s < results->n_systems; s++)
        for (int64_t t = 0; t < results->n_tasks && status == KV_OK; t++) {
            kv_outcome *outcome = kv_results_outcome(results, s, t);
            const kv_system *system = &e->systems->items[s];
            outcome->flops = kv_task_flops(system, e->benchmarks[t], kv_system_flops);
            outcome->flops_computed = kv_task_flops(system, e->benchmarks[t], kv_system_flops_computed);
            outcome->flops_looked_up = kv_task_flops(system, e->benchmarks[t], kv_system_flops_looked_up);
            if (results->tasks[t].grid.lengths)
                status = kv_keep_item_flops(system, e->benchmarks[t], outcome, err);
        }
    return status;
}

// Before the first question.
static kv_status prepare(kv_evaluation *e, kv_results *results, int *lock, kv_error *err) {
    const bool keeps = e->config->n_tasks > 0 || e->text.rows;
    kv_status status = keeps && kv_rank_leads() ? kv_journal_lock(e->config->output, lock, err) : KV_OK;
    if (status != KV_OK) return kv_eval_blame(e->source, "output", err);
    status = kv_results_init(results, e->config->n_systems, e->config->n_tasks, err);
    if (status == KV_OK && !describe(e, results))
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for the results");
    return status == KV_OK ? keep_flops(e, results, err) : status;
}

// By one rank alone, so that the clock measures what one process does: the others wait asleep.
static kv_status measure(const kv_evaluation *e, kv_results *results, kv_error *err) {
    kv_status status = kv_rank_leads() && e->measure ? kv_evaluation_measure(e, results, err) : KV_OK;
    if (status == KV_OK && kv_rank_leads()) status = kv_results_derive(results, err);
    return kv_ranks_agree(status, err);
}

kv_status kv_evaluation_run(kv_evaluation *e, kv_results *results, kv_error *err) {
    int lock = -1;
    kv_status status = kv_ranks_agree(kv_shared_prompts_check(e, err), err);
    if (status == KV_OK) status = kv_ranks_agree(prepare(e, results, &lock, err), err);
    if (status == KV_OK) status = kv_shared_prompts_make(e, err);
    if (status == KV_OK) status = kv_ask(e, results, err);
    for (unsigned t = 0; t < e->config->n_tasks; t++) kv_benchmark_forget(e->benchmarks[t]);
    if (status == KV_OK && e->text.rows) status = kv_evaluation_analyse(e, results, err);
    if (status == KV_OK) status = measure(e, results, err);
    if (status != KV_OK) kv_results_free(results);
    if (lock >= 0) close(lock);
    return status;
}
