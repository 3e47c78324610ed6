// Held-out text: what is logged is what the models really make of it, the training knows nothing of it, the
// best is kept, and a run that is stopped owes what it did not look at.
#include "data/checkpoint/checkpoint.h"
#include "data/corpus/corpus.h"
#include "data/corpus/packing.h"
#include "data/file/path.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/train.h"
#include "train/run/training.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEQ_LEN = 16, MAX_LINES = 64 };

// Documents that count downwards where shard.h5's count upwards: the better the one is learned, the worse is
// the other.
static void make_down(const char *path, int64_t n_documents, const char *tokenizer) {
    kv_shard_info info = {.vocab_size = TEST_VOCAB, .bos_id = 1, .eos_id = 2};
    snprintf(info.tokenizer, sizeof info.tokenizer, "%s", tokenizer);
    kv_shard_writer *writer;
    kv_error err = {0};
    assert_int_equal(kv_shard_writer_open(path, &info, &writer, &err), KV_OK);
    for (int64_t d = 0; d < n_documents; d++) {
        int32_t ids[14] = {1};
        for (int64_t i = 1; i < 13; i++)
            ids[i] = (int32_t)(3 + (test_below(9, d, TEST_VOCAB - 3) + 100 * (TEST_VOCAB - 3) - i) %
                                       (TEST_VOCAB - 3));
        ids[13] = 2;
        assert_int_equal(kv_shard_writer_add(writer, ids, 14, &err), KV_OK);
    }
    assert_int_equal(kv_shard_writer_finish(writer, &err), KV_OK);
    kv_shard_writer_free(writer);
}

static int set_up(void **state) {
    if (train_setup(state)) return -1;
    make_down("down.h5", 40, "0123456789abcdef");
    make_down("long.h5", 13000, "0123456789abcdef");
    make_down("other.h5", 40, "fedcba9876543210");
    make_down("short.h5", 1, "0123456789abcdef");
    put_file("held.yaml", "extends: base.yaml\ndata: {validation: down.h5}\n"
                          "train: {validate_every: 7, validation_tokens: 200}\n");
    put_file("held_kvp.yaml", "extends: kvp.yaml\ndata: {validation: down.h5}\n"
                              "train: {validate_every: 7, validation_tokens: 200}\n");
    return 0;
}

// ---- metrics.jsonl -------------------------------------------------------------------------------------

struct lines {
    int n;
    int64_t steps[MAX_LINES];
    json_t *found[MAX_LINES]; // "validation" of each
};

static struct lines read_lines(const char *run) {
    struct lines lines = {0};
    char path[PATH_MAX], line[4096];
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        json_t *root = json_loads(line, 0, NULL), *found = json_object_get(root, "validation");
        assert_non_null(root);
        if (found) {
            assert_true(lines.n < MAX_LINES);
            assert_true(json_real_value(json_object_get(root, "validation_seconds")) > 0);
            assert_true(json_is_real(json_object_get(root, "seconds")));
            lines.steps[lines.n] = json_integer_value(json_object_get(root, "step"));
            lines.found[lines.n++] = json_incref(found);
        }
        json_decref(root);
    }
    fclose(file);
    return lines;
}

static void free_lines(struct lines *lines) {
    for (int i = 0; i < lines->n; i++) json_decref(lines->found[i]);
}

static double number(const json_t *found, const char *key) {
    const json_t *value = json_object_get(found, key);
    if (!json_is_number(value)) fail_msg("no number at %s", key);
    return json_number_value(value);
}

// Two float32 computations, in batches of other sizes, of a result that each may have wrong by `allowed`.
static void expect_near(const char *what, double found, double expected, double allowed) {
    rounding_expect(what, found, expected, 2 * allowed);
}

static void expect_steps(const char *run, const int64_t *steps, int n) {
    struct lines lines = read_lines(run);
    assert_int_equal(lines.n, n);
    for (int i = 0; i < n; i++) assert_int_equal(lines.steps[i], steps[i]);
    free_lines(&lines);
}

static void expect_same_losses(const char *a, const char *b) {
    struct lines x = read_lines(a), y = read_lines(b);
    assert_int_equal(x.n, y.n);
    for (int i = 0; i < x.n; i++) {
        assert_int_equal(x.steps[i], y.steps[i]);
        assert_true(json_equal(x.found[i], y.found[i]));
    }
    free_lines(&x);
    free_lines(&y);
}

// ---- What is logged ------------------------------------------------------------------------------------

// The first rows of a shard as one batch; the caller frees both.
static kv_batch rows_of(const char *path, int64_t n_rows, int32_t **ids, int32_t **targets) {
    kv_shard *shard;
    kv_error err = {0};
    assert_int_equal(kv_shard_open(path, &shard, &err), KV_OK);
    const int64_t all = kv_packed_rows(shard->n_tokens, SEQ_LEN);
    assert_true(all >= n_rows);
    int32_t *rows = test_alloc(all * (SEQ_LEN + 1), sizeof *rows);
    assert_int_equal(kv_packed_cut(shard, SEQ_LEN, rows, &err), KV_OK);
    *ids = test_alloc(n_rows * SEQ_LEN, sizeof **ids);
    *targets = test_alloc(n_rows * SEQ_LEN, sizeof **targets);
    for (int64_t r = 0; r < n_rows; r++)
        for (int64_t i = 0; i < SEQ_LEN; i++) {
            (*ids)[r * SEQ_LEN + i] = rows[r * (SEQ_LEN + 1) + i];
            (*targets)[r * SEQ_LEN + i] = rows[r * (SEQ_LEN + 1) + i + 1];
        }
    free(rows);
    kv_shard_free(shard);
    return (kv_batch){
        .input_ids = *ids, .target_ids = *targets, .n_seq = n_rows, .seq_len = SEQ_LEN, .ignore_index = -100};
}

struct language_model {
    ref_model model;
    kv_batch batch;
    kv_lm_weights weights;
};

// Loss, cross-entropy, z.
static void language_model_results(const void *context, double *results) {
    const struct language_model *l = context;
    kv_lm_loss_terms terms;
    results[0] = ref_lm_objective(&l->model, NULL, &l->batch, &l->weights, &terms);
    results[1] = terms.cross_entropy, results[2] = terms.z;
}

static rounding_spread language_model_spread(kv_model *model, const kv_batch *batch,
                                             const kv_lm_weights *weights) {
    struct language_model l = {ref_model_copy(model), *batch, *weights};
    rounding_operands operands = {0};
    ref_add_operands(&operands, &l.model.params);
    rounding_spread spread = rounding_measure(
        &operands, ref_terms_forward(&model->spec, model->spec.vocab_size), language_model_results, &l, 3);
    rounding_operands_free(&operands);
    ref_model_free(&l.model);
    return spread;
}

// 200 tokens are 12 rows of 16; in batches of 8 or 4 rows as in training, the last one smaller, or at once.
static void test_language_model(void **state) {
    (void)state;
    train_expect(0, ARGS("held.yaml", "-o", "held", "-s", "loss.z_loss=0.01"));
    expect_steps("held", (const int64_t[]){0, 7, 14, 21, 28, 35, 40}, 7);
    assert_non_null(strstr(train_output(), "train: step 40: validation loss "));
    int32_t *ids, *targets;
    kv_batch batch = rows_of("down.h5", 12, &ids, &targets);
    kv_model *model;
    kv_error err = {0};
    kv_lm_loss_terms terms;
    kv_tape *tape = kv_tape_create();
    assert_int_equal(kv_checkpoint_load("held/final/model", &model, &err), KV_OK);
    const kv_lm_weights weights = {.ce = 1, .z_loss = 0.01f};
    const kv_tensor *loss = kv_lm_objective(tape, model, NULL, &batch, &weights, &terms);
    assert_int_equal(kv_tape_status(tape, &err), KV_OK);
    struct lines lines = read_lines("held");
    const json_t *last = lines.found[lines.n - 1];
    rounding_spread spread = language_model_spread(model, &batch, &weights);
    expect_near("loss", number(last, "loss"), (double)loss->data[0], spread.allowed[0]);
    expect_near("cross-entropy", number(last, "cross_entropy"), terms.cross_entropy, spread.allowed[1]);
    expect_near("z", number(last, "z_loss"), terms.z, spread.allowed[2]);
    rounding_spread_free(&spread);
    assert_null(json_object_get(last, "key_error"));
    free_lines(&lines);
    kv_model_free(model);
    kv_tape_free(tape);
    free(ids);
    free(targets);
}

// allowed: every second number.
static void expect_errors(const json_t *found, const char *key, const double *expected, const double *allowed,
                          int64_t n) {
    const json_t *list = json_object_get(found, key);
    assert_int_equal(json_array_size(list), n);
    for (int64_t i = 0; i < n; i++)
        expect_near(key, json_number_value(json_array_get(list, (size_t)i)), expected[i], allowed[2 * i]);
}

// Errors by layer whether or not the loss has them.
static void test_predictors(void **state) {
    (void)state;
    static const char *const losses[] = {"loss={consistency: 0, kl_temperature: 2}",
                                         "loss={consistency: 0.5, hidden: 1, kl_temperature: 2}"};
    int32_t *ids, *targets;
    kv_batch batch = rows_of("down.h5", 12, &ids, &targets);
    for (int i = 0; i < 2; i++) {
        train_expect(0, ARGS("held_kvp.yaml", "-o", "held_kvp", "--force", "-s", losses[i]));
        expect_steps("held_kvp", (const int64_t[]){0, 7, 14, 20}, 4);
        kv_model *base, *aux;
        kv_predictor *predictor;
        kv_error err = {0};
        kv_kvp_terms terms;
        char fingerprint[17];
        kv_tape *tape = kv_tape_create();
        assert_int_equal(kv_checkpoint_load("base/final/model", &base, &err), KV_OK);
        assert_int_equal(kv_checkpoint_load("held_kvp/final/aux", &aux, &err), KV_OK);
        kv_checkpoint_fingerprint(base, fingerprint);
        if (kv_predictor_load("held_kvp/final/predictor", &base->spec, &aux->spec,
                              &(kv_fingerprints){fingerprint, NULL}, NULL, &predictor, &err))
            fail_msg("%s", err.message);
        // What a run has no weight for has one here, and its part is then taken out of the total.
        const kv_kvp_weights weights = {.base = 1,
                                        .aux = 1,
                                        .kl = 1,
                                        .kl_temperature = 2,
                                        .z_loss = 1e-4f,
                                        .consistency = 1,
                                        .hidden = 1,
                                        .hidden_layer = 1}; // the last but one
        kv_kvp_objective(tape, base, aux, predictor, &batch, &weights, &terms, NULL);
        assert_int_equal(kv_tape_status(tape, &err), KV_OK);
        struct lines lines = read_lines("held_kvp");
        const json_t *last = lines.found[lines.n - 1];
        ref_kvp exact = ref_kvp_copy(base, aux, predictor, &batch, &weights);
        rounding_spread spread = ref_kvp_spread(&exact);
        const double *off = spread.allowed;
        expect_near("loss", number(last, "loss"),
                    terms.total - (i ? 0.5 : 1) * terms.consistency - (i ? 0 : terms.hidden),
                    off[REF_TOTAL] + off[REF_CONSISTENCY] + off[REF_HIDDEN]);
        expect_near("base", number(last, "base"), terms.base.cross_entropy, off[REF_BASE_CE]);
        expect_near("kl", number(last, "kl"), terms.base.kl, off[REF_KL]);
        if (i)
            expect_near("consistency", number(last, "consistency"), terms.consistency, off[REF_CONSISTENCY]);
        if (i) expect_near("hidden", number(last, "hidden"), terms.hidden, off[REF_HIDDEN]);
        if (!i) assert_null(json_object_get(last, "consistency"));
        if (!i) assert_null(json_object_get(last, "hidden"));
        expect_errors(last, "key_error", terms.k_l1, off + REF_L1, 3);
        expect_errors(last, "value_error", terms.v_l1, off + REF_L1 + 1, 3);
        rounding_spread_free(&spread);
        ref_kvp_free(&exact);
        free_lines(&lines);
        kv_model_free(base);
        kv_model_free(aux);
        kv_predictor_free(predictor);
        kv_tape_free(tape);
    }
    free(ids);
    free(targets);
}

// Rows of several shards, in their order.
static void test_rows_of_a_corpus(void **state) {
    (void)state;
    kv_error err = {0};
    char hash[17];
    kv_corpus_shard shards[2] = {{.path = (char[]){"down.h5"}, .n_documents = 40, .n_tokens = 560},
                                 {.path = (char[]){"shard.h5"}, .n_documents = 60, .n_tokens = 840}};
    kv_corpus corpus = {.n_documents = 100, .n_tokens = 1400, .n_shards = 2, .shards = shards};
    kv_train_config config = {.data = {.seq_len = SEQ_LEN, .micro_batch_size = 8},
                              .train = {.validation_tokens = 700}};
    const kv_train_text text = {.config = &config, .validation = &corpus};
    kv_validation *v;
    assert_int_equal(kv_validation_open(NULL, &config, &text, &v, &err), KV_OK);
    assert_int_equal(v->n_rows, 43); // 34 of the first shard
    for (int shard = 0; shard < 2; shard++) {
        int32_t *ids, *targets;
        const int64_t n = shard ? 9 : 34;
        rows_of(shards[shard].path, n, &ids, &targets);
        for (int64_t r = 0; r < n; r++) {
            const int32_t *row = v->rows + ((shard ? 34 : 0) + r) * (SEQ_LEN + 1);
            assert_memory_equal(row, ids + r * SEQ_LEN, SEQ_LEN * sizeof *row);
            assert_memory_equal(row + 1, targets + r * SEQ_LEN, SEQ_LEN * sizeof *row);
        }
        free(ids);
        free(targets);
    }
    strcpy(hash, v->hash);
    kv_validation_free(v);
    config.train.validation_tokens = 100000; // more than there is
    assert_int_equal(kv_validation_open(NULL, &config, &text, &v, &err), KV_OK);
    assert_int_equal(v->n_rows, 34 + 52);
    assert_string_not_equal(hash, v->hash);
    kv_validation_free(v);
}

static void test_when(void **state) {
    (void)state;
    for (int64_t steps = 0; steps < 12; steps++)
        for (int64_t every = 1; every < 5; every++) {
            const kv_steps_config s = {.steps = steps, .validate_every = every};
            int64_t left = 0;
            for (int64_t step = steps; step >= 0; step--) {
                assert_int_equal(kv_validations_left(&s, step), left);
                left += kv_validation_due(&s, step);
            }
            assert_true(kv_validation_due(&s, 0) && kv_validation_due(&s, steps));
        }
}

// ---- What it leaves alone ------------------------------------------------------------------------------

static void test_training_does_not_notice(void **state) {
    (void)state;
    train_expect(0, ARGS("held.yaml", "-o", "with"));
    assert_true(same_file("with/final/model/model.safetensors", "base/final/model/model.safetensors"));
    for (int64_t step = 1; step <= 40; step++) {
        assert_true(metric("with", step, "loss") == metric("base", step, "loss"));
        assert_true(metric("with", step, "grad_norm") == metric("base", step, "grad_norm"));
    }
    train_expect(0, ARGS("kvp.yaml", "-o", "kvp_without", "-s", "predictor.init=least_squares"));
    train_expect(0, ARGS("held_kvp.yaml", "-o", "kvp_with", "-s", "predictor.init=least_squares", "-s",
                         "train.keep_best=true"));
    assert_true(same_file("kvp_with/final/predictor/predictor.safetensors",
                          "kvp_without/final/predictor/predictor.safetensors"));
    assert_true(same_file("kvp_with/final/aux/model.safetensors", "kvp_without/final/aux/model.safetensors"));
    // The closed form alone is looked at once.
    train_expect(0, ARGS("held_kvp.yaml", "-o", "closed", "-s", "predictor.init=least_squares", "-s",
                         "train.steps=0"));
    expect_steps("closed", (const int64_t[]){0}, 1);
}

// ---- The best ------------------------------------------------------------------------------------------

static int64_t lowest(const char *run, double *loss) {
    struct lines lines = read_lines(run);
    int best = 0;
    for (int i = 1; i < lines.n; i++)
        if (number(lines.found[i], "loss") < number(lines.found[best], "loss")) best = i;
    *loss = number(lines.found[best], "loss");
    const int64_t step = lines.steps[best];
    free_lines(&lines);
    return step;
}

// best/ is of the step with the lowest loss in the log, and of its weights; `all` has a checkpoint of every
// step.
static void expect_best(const char *run, const char *all, const char *weights) {
    char path[PATH_MAX], checkpoint[PATH_MAX];
    double loss;
    const int64_t step = lowest(run, &loss);
    snprintf(path, sizeof path, "%s/best/state.json", run);
    json_t *saved = json_load_file(path, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(saved, "step")), step);
    expect_float("loss of best/", number(saved, "validation_loss"), loss, 1, loss);
    json_decref(saved);
    snprintf(path, sizeof path, "%s/best/%s", run, weights);
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoints/step-%06lld/%s", all, (long long)step, weights);
    if (!same_file(path, checkpoint)) fail_msg("%s is not %s", path, checkpoint);
}

static void test_keeps_the_best(void **state) {
    (void)state;
    static const char *const every[] = {"-s", "train.checkpoint_every=1"};
    train_expect(0, ARGS("held.yaml", "-o", "all", "-s", "train.keep_best=true", every[0], every[1], "-s",
                         "train.keep_last=99"));
    double loss;
    const int64_t best = lowest("all", &loss);
    assert_true(best > 0 && best < 35); // it gets worse again
    expect_best("all", "all", "model/model.safetensors");
    // Over a killed run that goes on from a checkpoint behind its best, and from one before it.
    for (int i = 0; i < 2; i++) {
        kv_error err;
        char last[64], at[64];
        snprintf(last, sizeof last, "train.checkpoint_every=%d", i ? 30 : 5);
        train_expect(0, ARGS("held.yaml", "-o", "part", "--force", "-s", "train.keep_best=true", "-s", last));
        assert_int_equal(kv_remove_tree("part/final", &err), KV_OK);
        if (!i) { // leave step-000005 alone
            for (int step = 10; step < 40; step += 5) {
                snprintf(at, sizeof at, "part/checkpoints/step-%06d", step);
                assert_int_equal(kv_remove_tree(at, &err), KV_OK);
            }
        }
        train_expect(0, ARGS("held.yaml", "-o", "part", "--resume", "-s", "train.keep_best=true"));
        expect_best("part", "all", "model/model.safetensors");
        expect_same_losses("part", "all");
    }
    // From the beginning everything is new: without a checkpoint, and when it is asked for.
    kv_error err;
    assert_int_equal(kv_remove_tree("part/final", &err), KV_OK);
    assert_int_equal(kv_remove_tree("part/checkpoints", &err), KV_OK);
    train_expect(0, ARGS("held.yaml", "-o", "part", "--resume"));
    assert_false(kv_path_exists("part/best"));
    expect_same_losses("part", "all");
    assert_int_equal(kv_make_dirs("part/best", &err), KV_OK);
    train_expect(0, ARGS("held.yaml", "-o", "part", "--force"));
    assert_false(kv_path_exists("part/best"));
    train_expect(
        0, ARGS("held_kvp.yaml", "-o", "best_kvp", "-s", "train.keep_best=true", "-s", "freeze_aux=true"));
    assert_true(kv_path_exists("best_kvp/best/aux/model.safetensors"));
    assert_true(kv_path_exists("best_kvp/best/predictor/predictor.json"));
    assert_nothing_half_written();
}

// ---- Stopping ------------------------------------------------------------------------------------------

// In the middle of the pass before the first step: at once, with a checkpoint; the resumed run makes up for
// it.
static void test_interrupted_validation(void **state) {
    (void)state;
    const char *const args[] = {"held.yaml",
                                "-o",
                                "cut",
                                "-s",
                                "data.validation=long.h5",
                                "-s",
                                "train.validation_tokens=170000",
                                "-s",
                                "data.micro_batch_size=1",
                                "-s",
                                "train.validate_every=40",
                                NULL};
    const char *const resume[] = {"held.yaml",
                                  "-o",
                                  "cut",
                                  "-s",
                                  "data.validation=long.h5",
                                  "-s",
                                  "train.validation_tokens=170000",
                                  "-s",
                                  "data.micro_batch_size=1",
                                  "-s",
                                  "train.validate_every=40",
                                  "--resume",
                                  NULL};
    const pid_t pid = train_start(args, 0);
    train_wait_for_file(pid, "cut/metrics.jsonl", 0);
    usleep(20000);
    assert_int_equal(kill(pid, SIGINT), 0);
    const int code = train_finish(pid);
    if (code != 130) fail_msg("exit status %d: %s", code, train_output());
    if (!strstr(train_output(), "interrupted after step 0 of 40, before its validation was done"))
        fail_msg("%s", train_output());
    assert_true(kv_path_exists("cut/checkpoints/step-000000/optimizer.h5"));
    assert_true(kv_path_exists("cut/stopped.json"));
    expect_steps("cut", NULL, 0);
    train_expect(0, resume);
    expect_steps("cut", (const int64_t[]){0, 40}, 2);
    assert_false(kv_path_exists("cut/stopped.json"));
    train_expect(0, ARGS("base.yaml", "-o", "cut_whole", "-s", "data.micro_batch_size=1"));
    assert_true(same_file("cut/final/model/model.safetensors", "cut_whole/final/model/model.safetensors"));
}

// After the last step a checkpoint stands in for final/ until the validation is done.
static void test_owed_at_the_end(void **state) {
    (void)state;
    kv_error err;
    train_expect(
        0, ARGS("held.yaml", "-o", "owed", "-s", "train.checkpoint_every=1", "-s", "train.keep_last=40"));
    // As if stopped in the last validation: its checkpoint is that of a run with more steps.
    train_expect(0, ARGS("held.yaml", "-o", "longer", "-s", "train.checkpoint_every=1", "-s",
                         "train.keep_last=40", "-s", "train.steps=41", "-s", "train.lr_end=1e-3"));
    assert_int_equal(kv_remove_tree("owed/final", &err), KV_OK);
    assert_int_equal(rename("longer/checkpoints/step-000040", "owed/checkpoints/step-000040"), 0);
    assert_int_equal(system("head -n -1 owed/metrics.jsonl > cut.jsonl && mv cut.jsonl owed/metrics.jsonl"),
                     0);
    expect_steps("owed", (const int64_t[]){0, 7, 14, 21, 28, 35}, 6);
    train_expect(0, ARGS("held.yaml", "-o", "owed", "--resume"));
    expect_steps("owed", (const int64_t[]){0, 7, 14, 21, 28, 35, 40}, 7);
    assert_true(kv_path_exists("owed/final/model/config.json"));
}

static void test_killed_run_has_every_line_once(void **state) {
    (void)state;
    train_expect(0, ARGS("held.yaml", "-o", "once"));
    train_expect(0, ARGS("held.yaml", "-o", "killed"));
    kv_error err;
    assert_int_equal(kv_remove_tree("killed/final", &err), KV_OK);
    FILE *file = fopen("killed/metrics.jsonl", "a");
    fputs("{\"step\": 40, \"validation\": {\"lo", file);
    fclose(file);
    train_expect(0, ARGS("held.yaml", "-o", "killed", "--resume"));
    expect_same_losses("killed", "once");
    // More often from now on; and a run that begins to look.
    assert_int_equal(kv_remove_tree("killed/final", &err), KV_OK);
    train_expect(0, ARGS("held.yaml", "-o", "killed", "--resume", "-s", "train.validate_every=3"));
    expect_steps("killed", (const int64_t[]){0, 7, 14, 21, 28, 30, 33, 36, 39, 40}, 10);
    // A step that has its line gets no second one.
    assert_int_equal(kv_remove_tree("killed/final", &err), KV_OK);
    train_expect(0, ARGS("held.yaml", "-o", "killed", "--resume", "-s", "train.validate_every=3"));
    expect_steps("killed", (const int64_t[]){0, 7, 14, 21, 28, 30, 33, 36, 39, 40}, 10);
    train_expect(0, ARGS("base.yaml", "-o", "late"));
    assert_int_equal(kv_remove_tree("late/final", &err), KV_OK);
    train_expect(0, ARGS("held.yaml", "-o", "late", "--resume"));
    expect_steps("late", (const int64_t[]){35, 40}, 2);
}

// ---- What is refused -----------------------------------------------------------------------------------

static void test_refusals(void **state) {
    (void)state;
    train_refuse(
        "key `train.validate_every`: found a key without effect, expected it only with data.validation",
        ARGS("base.yaml", "-o", "x", "-s", "train.validate_every=5"));
    train_refuse("key `train.validate_every`: found 0, expected 1 to",
                 ARGS("held.yaml", "-o", "x", "-s", "train.validate_every=0"));
    train_refuse("key `data.validation`: none.h5",
                 ARGS("held.yaml", "-o", "x", "-s", "data.validation=none.h5"));
    train_refuse("key `data.validation`: made with tokenizer fedcba9876543210, expected 0123456789abcdef",
                 ARGS("held.yaml", "-o", "x", "-s", "data.validation=other.h5"));
    train_refuse("key `data.validation`: short.h5: found at most 14 tokens in a shard, expected 17 at least",
                 ARGS("held.yaml", "-o", "x", "-s", "data.validation=short.h5"));
    assert_false(kv_path_exists("x"));
    train_expect(0, ARGS("held.yaml", "-n"));
    assert_non_null(strstr(train_output(),
                           "validation   down.h5: the first 12 rows of 16 tokens every 7 steps, 7 times"));
    // Losses of other text cannot be compared with those there are.
    kv_error err;
    train_expect(0, ARGS("held.yaml", "-o", "changed"));
    assert_int_equal(kv_remove_tree("changed/final", &err), KV_OK);
    train_refuse("key `data.validation`: the first rows of text have the hash",
                 ARGS("held.yaml", "-o", "changed", "--resume", "-s", "data.validation=shard.h5"));
    train_refuse("key `data.validation`: the first rows of text have the hash",
                 ARGS("held.yaml", "-o", "changed", "--resume", "-s", "train.validation_tokens=300"));
    // A resolved configuration, with or without held-out text, is a configuration.
    train_expect(0, ARGS("changed/config.yaml", "-n"));
    train_expect(0, ARGS("base/config.yaml", "-n"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_model),
        cmocka_unit_test(test_predictors),
        cmocka_unit_test(test_rows_of_a_corpus),
        cmocka_unit_test(test_when),
        cmocka_unit_test(test_training_does_not_notice),
        cmocka_unit_test(test_keeps_the_best),
        cmocka_unit_test(test_interrupted_validation),
        cmocka_unit_test(test_owed_at_the_end),
        cmocka_unit_test(test_killed_run_has_every_line_once),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}
