// What kvtrain says its steps cost is what the products of real ones do: both tasks, every loss, aux trained
// and frozen, micro-batches, and the least-squares start.
#include "core/gemm.h"
#include "core/slices.h"
#include "data/checkpoint/checkpoint.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/train.h"
#include "train/run/footprint.h"
#include "train/run/sliced.h"
#include "train/run/training.h"
#include "train/task/least_squares_start.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_OVERRIDES = 8 };

static void open_run(kv_training *run, const char *path, const char *const *overrides) {
    kv_error err = {0};
    size_t n = 0;
    while (overrides[n]) n++;
    *run = (kv_training){0};
    kv_status status = kv_training_open(run, path, overrides, n, &err);
    if (status == KV_OK) status = run->task->ops->load(run->task, NULL, &err);
    if (status != KV_OK) fail_msg("%s", err.message);
}

static kv_tensor *objective(void *context, kv_tape *tape, const kv_slice *slice) {
    kv_task *task = context;
    double terms[KV_MAX_TERMS] = {0};
    return task->ops->objective(task, tape, &slice->batch, NULL, terms);
}

// Products of the micro-batches of one step, forward and backward, in the slices that kvtrain runs them in.
static uint64_t executed(const kv_training *run) {
    const kv_data_config *d = &run->config->data;
    const int64_t n = d->batch_size * d->seq_len, micro = d->micro_batch_size * d->seq_len;
    int32_t *ids = test_alloc(n, sizeof *ids), *targets = test_alloc(n, sizeof *targets);
    kv_batches *batches;
    kv_error err = {0};
    kv_slices *slices;
    const kv_task_choice choice = kv_footprint_chosen(run->config);
    const int64_t n_slices = kv_task_slices(run->task, &choice);
    if (kv_slices_create(run->task->params, run->task->n_params, n_slices, &slices, &err) != KV_OK)
        fail_msg("%s", err.message);
    kv_slices_set_checkpointing(slices, run->config->train.activation_checkpointing);
    const kv_batches_args args = kv_train_batches(&run->text, d->batch_size);
    if (kv_batches_create(&args, &batches, &err) != KV_OK ||
        kv_batches_get(batches, 3, ids, targets, &err) != KV_OK)
        fail_msg("%s", err.message);
    kv_gemm_flops_reset();
    for (int64_t start = 0; start < n; start += micro) {
        double loss;
        const kv_batch batch = {.input_ids = ids + start,
                                .target_ids = targets + start,
                                .n_seq = d->micro_batch_size,
                                .seq_len = d->seq_len,
                                .ignore_index = -100,
                                .n_valid = (double)n};
        if (kv_slices_backward(slices, &batch, objective, run->task, &loss, &err) != KV_OK)
            fail_msg("%s", err.message);
    }
    const uint64_t flops = kv_gemm_flops();
    kv_batches_free(batches);
    kv_slices_free(slices);
    free(ids);
    free(targets);
    return flops;
}

// Products of one look at held-out text, which are not those of a step.
static uint64_t executed_without_backward(const kv_training *run) {
    const kv_data_config *d = &run->config->data;
    const int64_t n = d->micro_batch_size * d->seq_len;
    int32_t *ids = test_alloc(n, sizeof *ids);
    double terms[KV_MAX_TERMS] = {0};
    kv_layer_errors errors = {0};
    kv_error err = {0};
    kv_tape *tape = kv_tape_create();
    const kv_batch batch = {.input_ids = ids,
                            .target_ids = ids,
                            .n_seq = d->micro_batch_size,
                            .seq_len = d->seq_len,
                            .ignore_index = -100};
    kv_tape_set_recording(tape, false);
    kv_gemm_flops_reset();
    run->task->ops->validate(run->task, tape, &batch, terms, &errors);
    const uint64_t flops = kv_gemm_flops();
    if (kv_tape_status(tape, &err) != KV_OK) fail_msg("%s", err.message);
    kv_tape_free(tape);
    free(ids);
    return flops;
}

static void test_step_costs_what_it_says(void **state) {
    (void)state;
    static const struct {
        const char *path, *overrides[MAX_OVERRIDES];
    } cases[] = {
        {"base.yaml", {NULL}},
        {"base.yaml", {"data.micro_batch_size=2", "loss.z_loss=1e-4", NULL}},
        {"base.yaml", {"train.activation_checkpointing=true", NULL}},
        {"pruned.yaml", {NULL}},
        {"rival.yaml", {NULL}},
        {"rival.yaml", {"loss.kl=0", NULL}},
        {"rival.yaml", {"loss.base=0", "frozen_dtype=bf16", "train.activation_checkpointing=true", NULL}},
        {"kvp.yaml", {NULL}},
        {"kvp.yaml", {"freeze_aux=true", NULL}},
        {"kvp.yaml", {"train.activation_checkpointing=true", NULL}},
        {"kvp.yaml", {"train.activation_checkpointing=true", "freeze_aux=true", "loss.kl=0", NULL}},
        {"kvp.yaml", {"train.activation_checkpointing=true", "loss.base=0", "loss.kl=0", "loss.aux=0", NULL}},
        {"kvp.yaml", {"data.micro_batch_size=8", "loss.kl=0", NULL}},
        {"kvp.yaml", {"loss.kl=0", "loss.consistency=0", NULL}},
        {"kvp.yaml", {"loss.base=0", "loss.kl=0", "loss.aux=0", NULL}},
        {"kvp.yaml", {"loss.base=0", "loss.consistency=0", "freeze_aux=true", NULL}},
        {"kvp.yaml", {"loss.base=0", "loss.kl=0", "freeze_aux=true", NULL}},
        {"kvp.yaml", {"loss.hidden=1", "loss.kl_temperature=2", NULL}},
        {"kvp.yaml", {"loss={base: 0, aux: 0, consistency: 0, kl: 0, hidden: 1, hidden_layer: 2}", NULL}},
        {"kvp.yaml", {"loss={base: 0, kl: 0, hidden: 1, hidden_layer: 0}", "freeze_aux=true", NULL}},
        {"kvp.yaml",
         {"loss={base: 0, aux: 0, kl: 0, hidden: 1}", "train.activation_checkpointing=true", NULL}},
        {"kvp.yaml", {"predictor.mapping=explicit", "predictor.layers=[1,0,1]", NULL}},
        {"kvp.yaml", {"predictor.mapping=uniform", "predictor.rank=3", NULL}},
        {"kvp.yaml", {"predictor.mapping=reversed", "predictor.aux_layers=2", "freeze_aux=true", NULL}},
        {"kvp.yaml", {"predictor.rank=2", "predictor.aux_layers=2", "freeze_aux=true", "loss.kl=0", NULL}},
        {"kvp.yaml", {"predictor={sources: [h, embedding], aux_layers: 0, exact_layers: 1}", NULL}},
        {"kvp.yaml",
         {"predictor={key_sources: [k, v], value_sources: [h1, k], token_table: full}", "freeze_aux=true",
          NULL}},
        {"kvp.yaml", {"predictor={map: mlp, width: 5, token_table: 3, heads: matched}", NULL}},
        {"kvp.yaml", {"predictor={adapt: q, choose: best, aux_layers: 2}", "loss.hidden=1", NULL}},
        {"kvp.yaml", {"predictor={adapt: lora, adapt_rank: 2}", "train.activation_checkpointing=true", NULL}},
        {"prefix.yaml", {NULL}},
        {"prefix.yaml", {"prefix_layers=2", "loss={base: 0, consistency: 0}", NULL}},
        {"prefix.yaml",
         {"predictor={sources: [h, h0], adapt: lora, adapt_rank: 3}", "train.activation_checkpointing=true",
          NULL}},
        {"prefix.yaml", {"prefix_layers=2", "predictor={key_sources: [k, embedding], token_table: 4}", NULL}},
    };
    put_file("prefix.yaml", "extends: kvp.yaml\naux: prefix\nprefix_layers: 1\n");
    put_file("pruned.yaml", "task: lm\n"
                            "output: pruned\n"
                            "data: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
                            "model: {from: pruned, path: base/final/model, keep: 0.5}\n"
                            "train: {steps: 1, lr: 1e-3}\n");
    put_file("rival.yaml", "extends: kvp.yaml\ntask: lm\nmodel: {from: checkpoint, path: aux/final/model}\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_training run;
        open_run(&run, cases[i].path, cases[i].overrides);
        const kv_data_config *d = &run.config->data;
        const kv_task_choice choice = kv_footprint_chosen(run.config);
        const uint64_t said = kv_step_flops(run.task, &choice);
        const uint64_t done = executed(&run);
        if (said != done)
            fail_msg("case %zu: said %llu, executed %llu", i, (unsigned long long)said,
                     (unsigned long long)done);
        const uint64_t looking = run.task->ops->validation_flops(run.task, d->micro_batch_size, d->seq_len);
        assert_int_equal(looking, executed_without_backward(&run));
        kv_training_close(&run);
    }
}

// What the start writes to standard error, its progress line and its table.
static FILE *start_into_file(const kv_training *run) {
    FILE *out = tmpfile();
    kv_error err = {0};
    assert_non_null(out);
    fflush(stderr);
    const int kept = dup(STDERR_FILENO);
    assert_true(kept >= 0 && dup2(fileno(out), STDERR_FILENO) >= 0);
    kv_status status = run->task->ops->start(run->task, &err);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    if (status != KV_OK) fail_msg("%s", err.message);
    rewind(out);
    return out;
}

// 100 tokens are two batches of 4 x 16. The rate shown comes from the formula, which has to be what the whole
// start executes: nothing of the solving goes through the counter.
static void test_least_squares_start(void **state) {
    (void)state;
    kv_training run;
    open_run(&run, "kvp.yaml", ARGS("predictor.init=least_squares", "predictor.least_squares_tokens=100"));
    kv_model_spec base, aux;
    kv_error err = {0};
    if (kv_checkpoint_spec("base/final/model", &base, &err) ||
        kv_checkpoint_spec("aux/final/model", &aux, &err))
        fail_msg("%s", err.message);
    kv_gemm_flops_reset();
    FILE *out = start_into_file(&run);
    kv_predictor *shape = test_plan(&base, &aux, (int32_t[]){0, 0, 1}, (test_kind){0});
    assert_int_equal(kv_gemm_flops(), 2 * kv_flops_least_squares(&base, &aux, shape, 4, 16));
    kv_predictor_free(shape);
    char line[512], *rate = NULL;
    while (!rate && fgets(line, sizeof line, out)) rate = strstr(line, "tokens  ");
    assert_non_null(rate);
    double speed;
    int end = 0;
    assert_int_equal(sscanf(rate, "tokens  %lf GFLOP/s%n", &speed, &end), 1);
    assert_true(end > 0);
    fclose(out);
    kv_training_close(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_costs_what_it_says),
        cmocka_unit_test(test_least_squares_start),
    };
    return cmocka_run_group_tests(tests, train_setup, train_teardown);
}
