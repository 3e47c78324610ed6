#include "data/config_options.h"
#include "data/console.h"
#include "eval/output.h"

#include <argp.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *argp_program_version = "kveval " KV_VERSION;

static const char doc[] =
    "Asks the systems of a YAML file the same questions and shows what each one's answers cost: exact match, "
    "the "
    "share of the base's accuracy that is kept, the reduction of FLOPs to the first token (in the paper's "
    "convention, parameters over parameters, and exact, every matrix product counted), and the measured "
    "time.\v"
    "The table goes to standard output. The output directory (`output` in CONFIG) gets results.csv, "
    "results.h5, "
    "samples.jsonl (every question with every answer) and pareto.svg and .png, drawn by gnuplot.\n"
    "\n"
    "A config with a base, a small model alone, and a KV predictor between them:\n"
    "  output: runs/first/eval\n"
    "  tokenizer: runs/first/tokenizer.model\n"
    "  systems:\n"
    "    - {name: base, family: base, model: runs/first/base/final/model}\n"
    "    - {name: aux, family: aux, model: runs/first/aux/final/model}\n"
    "    - {name: KVP, family: KVP-C, base: runs/first/base/final/model,\n"
    "       aux: runs/first/kvp/final/aux,\n"
    "       predictor: runs/first/kvp/final/predictor}\n"
    "  tasks:\n"
    "    - {name: atlas, split: trained, file: runs/first/trained.jsonl}\n"
    "  ttft: {prompt_tokens: 59, batch_size: 8, repeats: 5}\n"
    "The first system is the one all others are compared with.\n"
    "\n"
    "Run it; only 200 questions, without the clock:\n"
    "  kveval first.yaml\n"
    "  kveval first.yaml -s 'tasks[0].limit=200' --no-ttft --output /tmp/look\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM; what did not "
    "end well "
    "leaves no files.";

static const struct argp_option options[] = {
    {"no-ttft", 't', NULL, 0, "Do not measure the time to the first token", 0}, {0}};

struct arguments {
    kv_config_options common;
    bool no_ttft;
};

static error_t parse(int key, char *text, struct argp_state *state) {
    (void)text;
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &a->common; return 0;
    case 't': a->no_ttft = true; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

// What an evaluation is made of.
struct evaluation {
    kv_config *source;
    const kv_eval_config *config;
    kv_tokenizer *tokenizer;
    kv_systems *systems;
    kv_results results;
};

static void close_evaluation(struct evaluation *e) {
    kv_results_free(&e->results);
    kv_systems_free(e->systems);
    kv_tokenizer_free(e->tokenizer);
    kv_config_free(e->source);
}

// Puts the place in the config in front of an error about what stands there.
static kv_status blame(const struct evaluation *e, const char *key, kv_error *err) {
    const kv_error inner = *err;
    kv_config_fail(e->source, err, key, "%s", inner.message);
    return err->code = inner.code;
}

static kv_status make_tasks(struct evaluation *e, kv_error *err) {
    for (unsigned t = 0; t < e->config->n_tasks; t++) {
        char key[64];
        kv_status status = kv_trivia_task_create(&e->config->tasks[t], e->tokenizer, e->config->seed,
                                                 &e->results.tasks[t], err);
        snprintf(key, sizeof key, "tasks[%u].file", t);
        if (status != KV_OK) return blame(e, key, err);
    }
    return KV_OK;
}

// That every question fits every system is known before the first is asked.
static kv_status check_fit(const struct evaluation *e, kv_error *err) {
    for (unsigned t = 0; t < e->config->n_tasks; t++)
        for (unsigned s = 0; s < e->config->n_systems; s++) {
            kv_status status =
                kv_trivia_task_fits(e->results.tasks[t], kv_system_context(&e->systems->items[s]),
                                    e->config->systems[s].name, err);
            if (status != KV_OK) return status;
        }
    for (unsigned s = 0; s < e->config->n_systems; s++) {
        const int64_t context = kv_system_context(&e->systems->items[s]);
        if (e->results.prompt_tokens > context)
            return kv_config_fail(e->source, err, "ttft.prompt_tokens",
                                  "found %lld, expected at most the context of `%s`, %lld",
                                  (long long)e->results.prompt_tokens, e->config->systems[s].name,
                                  (long long)context);
    }
    return KV_OK;
}

static int64_t mean_prompt(const struct evaluation *e) {
    int64_t n = 0, tokens = 0;
    for (unsigned t = 0; t < e->config->n_tasks; t++) {
        const kv_trivia_task *task = e->results.tasks[t];
        n += task->n;
        for (int64_t i = 0; i < task->n; i++) tokens += task->lengths[i];
    }
    return (tokens + n / 2) / n;
}

static kv_status open_evaluation(struct evaluation *e, const struct arguments *a, kv_error *err) {
    const kv_config_options *o = &a->common;
    kv_status status =
        kv_eval_config_load(o->config, o->overrides, o->n_overrides, &e->source, &e->config, err);
    if (status != KV_OK) return status;
    status = kv_output_probe(e->config->output, err);
    if (status != KV_OK) return blame(e, "output", err);
    status = kv_results_init(&e->results, e->source, e->config, err);
    if (status != KV_OK) return status;
    status = kv_tokenizer_open(e->config->tokenizer, &e->tokenizer, err);
    if (status != KV_OK) return blame(e, "tokenizer", err);
    status = make_tasks(e, err);
    if (status != KV_OK) return status;
    e->results.prompt_tokens = e->config->ttft.prompt_tokens ? e->config->ttft.prompt_tokens : mean_prompt(e);
    status = kv_systems_load(e->source, e->config, kv_tokenizer_vocab_size(e->tokenizer), &e->systems, err);
    return status == KV_OK ? check_fit(e, err) : status;
}

static kv_status ask(struct evaluation *e, kv_error *err) {
    const kv_eval_config *config = e->config;
    for (unsigned s = 0; s < config->n_systems; s++)
        for (unsigned t = 0; t < config->n_tasks; t++) {
            kv_status status = kv_trivia_task_run(e->results.tasks[t], &e->systems->items[s],
                                                  config->systems[s].name, e->tokenizer, config->batch_size,
                                                  &e->results.answers[s * config->n_tasks + t], err);
            if (status != KV_OK) return status;
        }
    return KV_OK;
}

static kv_status measure(struct evaluation *e, kv_error *err) {
    const kv_eval_ttft *ttft = &e->config->ttft;
    const int64_t n = e->systems->n;
    kv_ttft *measured = calloc((size_t)n, sizeof *measured);
    e->results.ttft_samples = calloc((size_t)n, (size_t)ttft->repeats * sizeof *e->results.ttft_samples);
    if (!measured || !e->results.ttft_samples) {
        free(measured);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld timings", (long long)ttft->repeats);
    }
    const kv_ttft_args args = {.prompt_tokens = e->results.prompt_tokens,
                               .batch_size = ttft->batch_size,
                               .repeats = ttft->repeats,
                               .seed = e->config->seed};
    kv_progress progress;
    kv_progress_begin(&progress, stderr, "time to first token", n * ttft->repeats);
    kv_status status =
        kv_ttft_measure(e->systems->items, n, &args, &progress, measured, e->results.ttft_samples, err);
    kv_progress_end(&progress, status == KV_OK ? NULL : "stopped");
    for (int64_t s = 0; status == KV_OK && s < n; s++) {
        e->results.costs[s].ttft = measured[s];
        e->results.costs[s].ttft_reduction = measured[0].seconds / measured[s].seconds;
    }
    free(measured);
    return status;
}

static kv_status evaluate(struct evaluation *e, const struct arguments *a, kv_error *err) {
    kv_status status = ask(e, err);
    if (status != KV_OK) return status;
    kv_results_count(&e->results, e->systems);
    if (!a->no_ttft) status = measure(e, err);
    if (status != KV_OK) return status;
    kv_results_print(&e->results, stdout);
    char note[KV_PLOT_NOTE];
    status = kv_output_write(&e->results, e->config->output, note, err);
    if (status != KV_OK) return status;
    if (*note) fprintf(stderr, "kveval: note: %s\n", note);
    fprintf(stderr, "kveval: results, samples and picture are in %s\n", e->config->output);
    return KV_OK;
}

int main(int argc, char **argv) {
    kv_console_calm_threads(argv);
    static const struct argp_child children[] = {{&kv_config_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {options, parse, "CONFIG.yaml", doc, children, NULL, NULL};
    struct arguments arguments = {0};
    struct evaluation evaluation = {0};
    kv_error err = {0};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &arguments);
    kv_console_catch_signals();
    kv_status status = open_evaluation(&evaluation, &arguments, &err);
    if (status == KV_OK) status = evaluate(&evaluation, &arguments, &err);
    if (status == KV_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = kv_fail(&err, KV_ERR_IO, "standard output: cannot write the table");
    close_evaluation(&evaluation);
    if (status == KV_OK) return 0;
    fprintf(stderr, "kveval: %s\n", err.message);
    return status == KV_ERR_INTERRUPTED ? 128 + kv_console_signal() : 1;
}
