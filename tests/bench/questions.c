// kveval's questions a second: the evaluation itself, from questions to answers on disk, with a tokenizer of its own and random
// weights. Its prompts have 56 tokens in the mean, its answers 24 (fewer where the model ends its text).
#include "data/checkpoint/checkpoint.h"
#include "data/file/path.h"
#include "data/synthetic/recall.h"
#include "data/tokenizer/train.h"
#include "eval/evaluate/evaluate.h"
#include "tests/bench/bench.h"
#include "tests/bench/shapes.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECES = 512, ANSWER = 24 };

static const int64_t lengths[] = {40, 56, 72};
static const double depths[] = {0.5};
enum { N_LENGTHS = sizeof lengths / sizeof *lengths };

// ---- A folder for it all -------------------------------------------------------------------------------

static char folder[64];

static const char *in_folder(const char *name, char path[128]) {
    snprintf(path, 128, "%s/%s", folder, name);
    return path;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk) {
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

static void remove_folder(void) {
    if (*folder) nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    *folder = '\0';
}

static void make_folder(void) {
    strcpy(folder, "/tmp/kvbench-XXXXXX");
    if (!mkdtemp(folder)) {
        perror("kvbench: a folder in /tmp");
        exit(1);
    }
    atexit(remove_folder);
}

// ---- Questions -----------------------------------------------------------------------------------------

static void must(kv_status status, const kv_error *err) {
    if (status != KV_OK) bench_fail(err);
}

static void make_tokenizer(void) {
    char text[128], model[128];
    const char *const inputs[] = {in_folder("train.jsonl", text)};
    kv_recall recall;
    kv_error err;
    must(kv_recall_open(NULL, 0, 1, &recall, &err), &err);
    const kv_recall_plan plan = {.n_texts = 200, .n_tokens = 256};
    must(kv_recall_write(&recall, &plan, folder, &err), &err);
    kv_recall_free(&recall);
    must(kv_tokenizer_train(inputs, 1, PIECES, in_folder("tokenizer.model", model), &err), &err);
}

static void make_questions(int64_t n) {
    char path[128];
    kv_tokenizer *tokenizer;
    kv_recall recall;
    kv_error err;
    must(kv_tokenizer_open(in_folder("tokenizer.model", path), &tokenizer, &err), &err);
    must(kv_recall_open(tokenizer, 0, 1, &recall, &err), &err);
    const kv_recall_plan plan = {.lengths = lengths,
                                 .n_lengths = N_LENGTHS,
                                 .depths = depths,
                                 .n_depths = 1,
                                 .n_items = n / N_LENGTHS};
    must(kv_recall_write_items(&recall, &plan, in_folder("questions.jsonl", path), &err), &err);
    kv_recall_free(&recall);
    kv_tokenizer_free(tokenizer);
}

static void write_config(const char *name, const char *model) {
    char path[128];
    FILE *file = fopen(in_folder(name, path), "w");
    if (!file) bench_out_of_memory();
    fprintf(
        file,
        "output: %s/none\n"
        "tokenizer: %s/tokenizer.model\n"
        "systems: [{name: base, model: \"%s\"}]\n"
        "tasks:\n"
        "  - {name: recall, kind: custom, file: %s/questions.jsonl, template: \"{prompt}\", target: \"{answer}\",\n"
        "     metric: exact, stop: [], max_tokens: %d}\n",
        folder, folder, model, folder, ANSWER);
    if (fclose(file)) bench_out_of_memory();
}

// ---- Evaluations ---------------------------------------------------------------------------------------

struct asked {
    char config[128];
    kv_evaluation evaluation;
    bool open;
    int64_t n; // outputs so far
};

static void close_evaluation(struct asked *a) {
    if (a->open) kv_evaluation_close(&a->evaluation);
    a->open = false;
}

// Each into a folder of its own, where no answers lie yet; weights are loaded beforehand.
static void open_evaluation(void *context) {
    struct asked *a = context;
    kv_evaluation *e = &a->evaluation;
    char output[160];
    const char *const overrides[] = {output};
    kv_error err;
    close_evaluation(a);
    snprintf(output, sizeof output, "output=%s.%lld", a->config, (long long)a->n++);
    *e = (kv_evaluation){0};
    must(kv_eval_config_load(a->config, overrides, 1, &e->source, &e->config, &err), &err);
    must(kv_evaluation_open(e, &err), &err);
    must(kv_evaluation_load(e, &err), &err);
    a->open = true;
}

static void run_evaluation(void *context) {
    struct asked *a = context;
    kv_results results;
    kv_error err;
    const kv_status status = kv_evaluation_run(&a->evaluation, &results, &err);
    bench_obey_signals();
    must(status, &err);
    kv_results_free(&results);
}

static void add(bench_phase *p, struct asked *a, const char *name, kv_dtype type, double bytes, int64_t n) {
    *p = (bench_phase){.group = "eval",
                       .bound = BENCH_READING,
                       .type = type,
                       .tokens = (double)n,
                       // As if all were answered in one batch, which reads the weights once a token.
                       .bytes = bytes * (1 + ANSWER),
                       .prepare = open_evaluation,
                       .run = run_evaluation,
                       .context = a};
    snprintf(p->name, sizeof p->name, "kveval %s %s, %lld questions", name, type == KV_F32 ? "f32" : "bf16",
             (long long)n);
    snprintf(a->config, sizeof a->config, "%s/%s.yaml", folder, type == KV_F32 ? "f32" : "bf16");
}

static double weight_bytes(const char *name, bool quick, kv_dtype type) {
    kv_model *model =
        quick ? bench_trained_model(name, true) : bench_model(name, false, type); // one is saved
    const double bytes = bench_weight_bytes(model);
    char path[128];
    kv_error err;
    if (quick) must(kv_checkpoint_save(in_folder("tiny", path), model, &err), &err);
    kv_model_free(model);
    return bytes;
}

static void time_them(bench *b, const char *const *models, int n_types, int64_t n) {
    static const kv_dtype types[] = {KV_F32, KV_BF16};
    static const char *const configs[] = {"f32.yaml", "bf16.yaml"};
    bench_phase phases[2];
    struct asked asked[2] = {0};
    for (int t = 0; t < n_types; t++) {
        write_config(configs[t], models[t]);
        add(&phases[t], &asked[t], b->options->quick ? "tiny" : "270M", types[t],
            weight_bytes("openelm-270m", b->options->quick, types[t]), n);
    }
    bench_round(b, phases, n_types);
    for (int t = 0; t < n_types; t++) {
        if (!phases[t].entry) continue;
        bench_add_note(&phases[t], "questions_per_second", phases[t].tokens / phases[t].seconds);
        printf("%-40s %.3g questions a second\n", "  which is", phases[t].tokens / phases[t].seconds);
        close_evaluation(&asked[t]);
    }
}

void bench_questions(bench *b) {
    char tiny[128];
    make_folder();
    make_tokenizer();
    make_questions(b->options->quick ? N_LENGTHS : 24);
    if (b->options->quick) {
        mkdir(in_folder("tiny", tiny), 0777);
        time_them(b, (const char *const[]){tiny}, 1, N_LENGTHS);
    } else {
        time_them(b, (const char *const[]){"random:openelm-270m:f32", "random:openelm-270m:bf16"}, 2, 24);
    }
    remove_folder();
}
