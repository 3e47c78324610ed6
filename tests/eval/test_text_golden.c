// kind: text on models of several types against double precision and against what other implementations say: whole_nll
// is the mean cross-entropy over the positions 1 … window - 1, tail_nll that behind the prompt.
#include "data/corpus/shard.h"
#include "data/tokenizer/files.h"
#include "data/tokenizer/train.h"
#include "eval/benchmark/text.h"
#include "eval/statistics/metric.h"
#include "tests/support/corpus.h"
#include "tests/support/golden.h"
#include "tests/support/numbers/reference_system.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Single bytes: ids that mean nothing to these models, but a shard needs a tokenizer.
enum { PIECES = 3 + 256 + 2 };
#define NEAR 1e-4

static kv_tokenizer *make_tokenizer(void) {
    kv_tokenizer *tokenizer;
    const char *text = test_path(test_dir, "a.jsonl"), *path = test_path(test_dir, "bytes.model");
    test_write_text(text, "{\"text\": \"a a\"}\n");
    golden_check(kv_tokenizer_train(&text, 1, PIECES, path, err));
    golden_check(kv_tokenizer_open(path, &tokenizer, err));
    return tokenizer;
}

// All sequences of the case as one document.
static void write_shard(const golden_case *g, const kv_tokenizer *tokenizer, const char *path) {
    kv_shard_info info = {.vocab_size = PIECES, .bos_id = -1, .eos_id = -1};
    kv_shard_writer *writer;
    kv_tokenizer_id id;
    kv_tokenizer_identify(tokenizer, &id);
    memcpy(info.tokenizer, id.hash, sizeof info.tokenizer);
    golden_check(kv_shard_writer_open(path, &info, &writer, err));
    golden_check(kv_shard_writer_add(writer, g->input_ids, g->n_seq * g->seq_len, err));
    golden_check(kv_shard_writer_finish(writer, err));
    kv_shard_writer_free(writer);
}

// Mean nats of the last `scored` tokens of every window, in double precision.
static double reference(const golden_case *g, const kv_system *system, int64_t scored, bool behind) {
    ref_system r = ref_system_copy(system);
    double sum = 0;
    for (int64_t s = 0; s < g->n_seq; s++) {
        rounding_spread spread = ref_question_spread(
            &(ref_question){&r, g->input_ids + s * g->seq_len, g->seq_len, scored, behind});
        sum -= spread.expected[0];
        rounding_spread_free(&spread);
    }
    ref_system_free(&r);
    return sum / (double)(g->n_seq * scored);
}

// The same of a whole window, from the logits that the other implementation left.
static double said_by_others(const golden_case *g, const char *name) {
    golden_array logits = golden_read(g->expected, "%s", name);
    const int64_t vocab_size = g->base->spec.vocab_size;
    double sum = 0;
    for (int64_t s = 0; s < g->n_seq; s++)
        for (int64_t t = 0; t + 1 < g->seq_len; t++) {
            const float *row = logits.data + (s * g->seq_len + t) * vocab_size;
            double total = 0;
            for (int64_t i = 0; i < vocab_size; i++) total += exp((double)row[i]);
            sum += log(total) - (double)row[g->input_ids[s * g->seq_len + t + 1]];
        }
    free(logits.data);
    return sum / (double)(g->n_seq * (g->seq_len - 1));
}

static double figure(const kv_benchmark *b, const char *name, const double *values) {
    int m = 0;
    while (strcmp(b->metrics[m], name) != 0) m++;
    return kv_metric_figure(kv_metric_of(name), values + m * b->n_items, NULL, b->n_items);
}

static void check_system(const golden_case *g, kv_benchmark *b, const kv_system *system, const char *logits) {
    json_t **records = test_alloc(b->n_units, sizeof *records);
    double *values = test_alloc(b->n_metrics * b->n_items, sizeof *values);
    kv_asking asking = {.system = system};
    golden_check(b->ops->answer(b, &asking, 0, b->n_units, records, err));
    golden_check(b->ops->score(b, records, values, err));
    const double whole = figure(b, "whole_nll", values), tail = figure(b, "tail_nll", values);
    rounding_expect("whole_nll", whole, reference(g, system, g->seq_len - 1, false), NEAR);
    rounding_expect("tail_nll", tail, reference(g, system, g->seq_len - b->config->prompt, true), NEAR);
    expect_double("whole_perplexity", figure(b, "whole_perplexity", values), exp(whole), 4, exp(whole));
    expect_double("tail_perplexity", figure(b, "tail_perplexity", values), exp(tail), 4, exp(tail));
    if (logits) rounding_expect("whole_nll", whole, said_by_others(g, logits), NEAR);
    kv_records_free(records, b->n_units);
    free(records);
    free(values);
}

static void test_nats(void **state) {
    golden_case g = golden_open(*state);
    for (int64_t i = 0; i < g.n_seq * g.seq_len; i++)
        if (g.input_ids[i] >= PIECES) skip();
    kv_tokenizer *tokenizer = make_tokenizer();
    char corpus[PATH_MAX], kind[] = "text";
    snprintf(corpus, sizeof corpus, "%s", test_path(test_dir, "golden.h5"));
    write_shard(&g, tokenizer, corpus);
    const kv_eval_task config = {
        .kind = kind, .corpus = corpus, .window = g.seq_len, .prompt = g.seq_len / 2, .stride = g.seq_len};
    kv_benchmark *b;
    golden_check(kv_benchmark_create(&config, &(kv_prompting){.tokenizer = tokenizer}, 1, &b, err));
    assert_int_equal(b->n_items, g.n_seq);
    check_system(&g, b, &(kv_system){.base = g.base}, g.aux ? "base_only/logits" : "logits");
    if (g.aux)
        check_system(&g, b, &(kv_system){.base = g.base, .aux = g.aux, .predictor = g.predictor}, NULL);
    kv_benchmark_free(b);
    kv_tokenizer_free(tokenizer);
    golden_close(&g);
}

static void add_tests(const char *dir, bool predicts) {
    (void)predicts;
    golden_add_test(dir, "nats of a text", test_nats);
}

int main(void) {
    test_dir_set_up(NULL);
    const int failed = golden_run("text_golden", add_tests);
    test_dir_tear_down(NULL);
    return failed;
}
