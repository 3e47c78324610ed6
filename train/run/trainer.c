// One step is: micro-batches forward and backward, gradients added up, over ranks too; clip; AdamW at the rate of the
// schedule. The rest is when to log, to validate and to write, so that a run which goes on ends as one that
// was never stopped.
//                                                                                       [core/README.md §4]
#include "train/run/trainer.h"

#include "data/file/path.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "train/config/rates.h"
#include "train/run/exchange.h"
#include "train/run/footprint.h"
#include "train/run/optimizer_file.h"
#include "train/run/sliced.h"
#include "train/run/validation.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// What a rank knows of a step.
struct share {
    int status, signal;
    double loss, squares; // of its part of the gradients, when they are summed
    double terms[KV_MAX_TERMS];
};

struct trainer {
    kv_task *task;
    const kv_train_config *config;
    kv_run *run;
    kv_batches *batches;
    kv_slices *slices;
    kv_adamw *optimizer;
    kv_exchange *exchange;    // NULL: alone
    bool sharded;             // each rank updates its spans
    struct share *shares;     // [n_ranks]
    int64_t first_seq, n_seq; // of a step's sequences, this rank's share
    kv_schedule schedules[KV_N_GROUPS];
    int32_t *ids, *targets; // [batch_size · seq_len]
    kv_row_ref *rows;       // [batch_size], with fixed packing
    uint64_t step_flops;
    kv_progress progress;
    double step_seconds;       // smoothed, for the progress line
    double validation_seconds; // of the last pass, likewise
    double log_time;           // when the last line was logged
    int64_t log_step;
    double busy,
        waited; // seconds of the steps since then, and those of them spent on waiting for other ranks
};

// What one step found.
struct step_result {
    kv_rates rates;
    double loss, grad_norm, seconds;
    double terms[KV_MAX_TERMS];
    bool
        interrupted; // before its update any rank was asked to stop; of one that is alone the loop asks later
};

// ---- Setting up ----------------------------------------------------------------------------------------

static kv_status prepare_optimizer(struct trainer *t, kv_error *err) {
    const kv_adamw_args args = kv_train_adamw(t->config);
    kv_param *const *params = t->task->params;
    const int64_t n = t->task->n_params;
    int64_t n_spans = 0;
    const kv_param_span *spans = t->sharded ? kv_exchange_spans(t->exchange, &n_spans) : NULL;
    kv_status status = t->sharded ? kv_adamw_create_part(params, n, &args, spans, n_spans, &t->optimizer, err)
                                  : kv_adamw_create(params, n, &args, &t->optimizer, err);
    for (int64_t i = 0; status == KV_OK && t->task->rate_scales && i < t->task->n_params; i++)
        t->optimizer->scales[i] = t->task->rate_scales[i];
    return status;
}

// Collective.
static kv_status load_optimizer(struct trainer *t, kv_error *err) {
    // Before the first step there is no state of it.
    if (!t->run->checkpoint[0] || t->run->state.step == 0) return KV_OK;
    char path[PATH_MAX];
    kv_status status = kv_ranks_agree(kv_path_join(t->run->checkpoint, "optimizer.h5", path, err), err);
    if (status == KV_OK) status = kv_optimizer_load(path, t->optimizer, err);
    if (status == KV_OK && t->optimizer->step != t->run->state.step)
        status = kv_fail(err, KV_ERR_MISMATCH, "%s: holds step %" PRIi64 ", expected %" PRIi64, path,
                         t->optimizer->step, t->run->state.step);
    return status;
}

// A rank's share of a step may be less than a micro-batch; what it validates is not.
static kv_status prepare_slices(struct trainer *t, kv_error *err) {
    kv_task_choice choice = kv_footprint_chosen(t->config);
    const int64_t whole = kv_task_slices(t->task, &choice);
    if (choice.n_seq > t->n_seq) choice.n_seq = t->n_seq;
    const int64_t n = kv_task_slices(t->task, &choice);
    kv_status status = kv_slices_create(t->task->params, t->task->n_params, n, &t->slices, err);
    if (status == KV_OK) status = kv_slices_look_in(t->slices, whole, err);
    if (status == KV_OK) kv_slices_set_checkpointing(t->slices, t->config->train.activation_checkpointing);
    return status;
}

static kv_status prepare_exchange(struct trainer *t, kv_error *err) {
    if (kv_n_ranks() == 1) return KV_OK;
    t->sharded = t->config->train.shard_optimizer;
    return kv_exchange_create(t->task->params, t->task->n_params, t->sharded, &t->exchange, err);
}

static kv_status prepare(struct trainer *t, kv_error *err) {
    const kv_data_config *d = &t->config->data;
    const kv_batches_args args = kv_train_batches(t->task->text, d->batch_size);
    t->first_seq = kv_share_begin(d->batch_size, kv_rank());
    t->n_seq = kv_share_begin(d->batch_size, kv_rank() + 1) - t->first_seq;
    kv_status status = kv_batches_create(&args, &t->batches, err);
    if (status == KV_OK) status = prepare_exchange(t, err);
    if (status == KV_OK) status = prepare_optimizer(t, err);
    status = kv_ranks_agree(status, err);
    if (status == KV_OK) status = load_optimizer(t, err);
    if (status != KV_OK) return status;
    size_t rows = (size_t)(d->batch_size * d->seq_len);
    t->ids = malloc(rows * sizeof *t->ids);
    t->targets = malloc(rows * sizeof *t->targets);
    t->rows = malloc((size_t)d->batch_size * sizeof *t->rows);
    t->shares = calloc((size_t)kv_n_ranks(), sizeof *t->shares);
    if (!t->ids || !t->targets || !t->rows || !t->shares) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    status = prepare_slices(t, err);
    if (status != KV_OK) return status;
    for (kv_group g = 0; g < KV_N_GROUPS; g++) t->schedules[g] = kv_train_schedule(t->config, g);
    const kv_task_choice choice = kv_footprint_chosen(t->config);
    t->step_flops = kv_step_flops(t->task, &choice);
    t->log_time = kv_now();
    t->log_step = t->run->state.step;
    return KV_OK;
}

static void clean_up(struct trainer *t) {
    kv_batches_free(t->batches);
    kv_slices_free(t->slices);
    kv_adamw_free(t->optimizer);
    kv_exchange_free(t->exchange);
    free(t->ids);
    free(t->targets);
    free(t->rows);
    free(t->shares);
}

// ---- One step ------------------------------------------------------------------------------------------

static double count_valid(const int32_t *targets, int64_t n) {
    int64_t valid = 0;
    for (int64_t i = 0; i < n; i++) valid += targets[i] != KV_IGNORE_INDEX;
    return (double)valid;
}

// A micro-batch on its way.
struct work {
    kv_task *task;
    const kv_row_ref *rows; // of its sequences; NULL: none
    double terms[KV_MAX_SLICES][KV_MAX_TERMS];
};

static kv_tensor *slice_objective(void *context, kv_tape *tape, const kv_slice *slice) {
    struct work *w = context;
    const kv_row_ref *rows = w->rows ? w->rows + slice->first_seq : NULL;
    return w->task->ops->objective(w->task, tape, &slice->batch, rows, w->terms[slice->index]);
}

static kv_status run_micro_batch(struct trainer *t, const kv_batch *batch, const kv_row_ref *rows,
                                 struct step_result *result, kv_error *err) {
    struct work work = {.task = t->task, .rows = rows};
    double loss;
    kv_status status = kv_slices_backward(t->slices, batch, slice_objective, &work, &loss, err);
    result->loss += loss;
    for (int slice = 0; slice < KV_MAX_SLICES; slice++)
        for (int i = 0; i < KV_MAX_TERMS; i++) result->terms[i] += work.terms[slice][i];
    return status;
}

// Gradients of this rank's share of the batch, one micro-batch after the other; behind the last one gradients are on their way
// to the other ranks. Every loss is divided by the valid targets of the whole batch, so that the sum of all is its loss.
static kv_status accumulate(struct trainer *t, struct step_result *result, kv_error *err) {
    const kv_data_config *d = &t->config->data;
    kv_batch batch = {.seq_len = d->seq_len,
                      .ignore_index = KV_IGNORE_INDEX,
                      .n_valid = count_valid(t->targets, d->batch_size * d->seq_len)};
    kv_status status = KV_OK;
    kv_slices_set_watcher(t->slices, NULL);
    for (int64_t done = 0; done < t->n_seq && status == KV_OK; done += batch.n_seq) {
        const int64_t left = t->n_seq - done, first = t->first_seq + done;
        batch.n_seq = left < d->micro_batch_size ? left : d->micro_batch_size;
        batch.input_ids = t->ids + first * d->seq_len;
        batch.target_ids = t->targets + first * d->seq_len;
        const kv_row_ref *refs = d->packing == KV_PACKING_FIXED ? t->rows + first : NULL;
        if (t->exchange && batch.n_seq == left)
            kv_slices_set_watcher(t->slices, kv_exchange_watcher(t->exchange));
        status = run_micro_batch(t, &batch, refs, result, err);
    }
    return status;
}

// printf tells signs of NaN, which mean nothing.
static double without_sign(double x) {
    return isnan(x) ? (double)NAN : x;
}

// Before the first update it cannot be the rate. whose: the rank that found it, where that is known.
static kv_status not_finite(const struct trainer *t, const struct step_result *result, const char *whose,
                            kv_error *err) {
    char advice[128] =
        "nothing has been trained yet, so a model or cache that it starts from holds NaN or infinity";
    const int64_t step = t->run->state.step;
    if (step > 0)
        snprintf(advice, sizeof advice, "a smaller train.lr (now %g) may help", t->config->train.lr);
    return kv_fail(err, KV_ERR_NOT_FINITE,
                   "%sstep %" PRIi64 ": found loss %g and gradient norm %g, expected finite numbers; %s",
                   whose, step + 1, without_sign(result->loss), without_sign(result->grad_norm), advice);
}

static void whose_loss(const struct share *shares, char text[128]) {
    int r = 0;
    while (r < kv_n_ranks() && isfinite(shares[r].loss)) r++;
    text[0] = '\0';
    if (r < kv_n_ranks()) snprintf(text, 128, "rank %d (%s): ", r, kv_rank_host(r));
}

// The sums of all shares, added in the order of the ranks: from here on all know the same.
static kv_status join_shares(struct trainer *t, const struct share *shares, struct step_result *result,
                             kv_error *err) {
    double squares = 0;
    char whose[128];
    kv_status failed = KV_OK;
    *result = (struct step_result){.rates = result->rates};
    for (int r = 0; r < kv_n_ranks(); r++) {
        if (shares[r].status != KV_OK) failed = (kv_status)shares[r].status;
        if (shares[r].signal && !kv_console_signal()) kv_console_take_signal(shares[r].signal);
        result->interrupted = result->interrupted || shares[r].signal;
        result->loss += shares[r].loss;
        squares += shares[r].squares;
        for (int i = 0; i < KV_MAX_TERMS; i++) result->terms[i] += shares[r].terms[i];
    }
    result->grad_norm = sqrt(squares);
    if (failed != KV_OK) return failed;
    if (isfinite(result->loss) && isfinite(result->grad_norm)) return KV_OK;
    whose_loss(shares, whose);
    return not_finite(t, result, whose, err);
}

// Ends backward on all ranks, also where it failed on this one. A failure is agreed on.
static kv_status meet(struct trainer *t, kv_status status, struct step_result *result, kv_error *err) {
    int64_t n_spans;
    const kv_param_span *spans = kv_exchange_spans(t->exchange, &n_spans);
    kv_exchange_finish(t->exchange);
    struct share mine = {.status = (int)status,
                         .signal = kv_console_signal(),
                         .loss = result->loss,
                         .squares = kv_grad_squares_of(t->task->params, spans, n_spans)};
    memcpy(mine.terms, result->terms, sizeof mine.terms);
    kv_ranks_gather(&mine, sizeof mine, t->shares);
    const kv_status joined = join_shares(t, t->shares, result, err);
    if (joined == KV_OK) return KV_OK;
    // The message is that of the rank that failed; where what all have found is the failure, all have it.
    return kv_ranks_agree(status != KV_OK ? status : joined == KV_ERR_NOT_FINITE ? joined : KV_OK, err);
}

static kv_status differentiate(struct trainer *t, struct step_result *result, kv_error *err) {
    const int64_t step = t->run->state.step;
    kv_status status = kv_batches_get(t->batches, step, t->ids, t->targets, err);
    if (status == KV_OK && t->config->data.packing == KV_PACKING_FIXED)
        status = kv_batches_rows(t->batches, step, t->rows, err);
    kv_grad_zero(t->task->params, t->task->n_params);
    if (t->exchange) kv_exchange_begin(t->exchange);
    if (status == KV_OK) status = accumulate(t, result, err);
    if (status != KV_OK) kv_fail_within(err, status, "step %" PRIi64, step + 1);
    if (t->exchange) return meet(t, status, result, err);
    if (status != KV_OK) return status;
    result->grad_norm = kv_grad_norm(t->task->params, t->task->n_params);
    return isfinite(result->loss) && isfinite(result->grad_norm) ? KV_OK : not_finite(t, result, "", err);
}

static kv_status train_step(struct trainer *t, struct step_result *result, kv_error *err) {
    double started = kv_now();
    int64_t step = t->run->state.step;
    *result = (struct step_result){0};
    for (kv_group g = 0; g < KV_N_GROUPS; g++) result->rates.of[g] = kv_schedule_at(&t->schedules[g], step);
    kv_status status = differentiate(t, result, err);
    if (status != KV_OK) return status;
    kv_adamw_step(t->optimizer, result->rates, kv_clip_scale(result->grad_norm, t->config->train.grad_clip));
    if (t->sharded) kv_exchange_parameters(t->exchange);
    t->run->state.step++;
    result->seconds = kv_now() - started;
    t->busy += result->seconds;
    t->waited += t->exchange ? kv_exchange_waited(t->exchange) : 0;
    t->run->state.seconds += result->seconds;
    t->step_seconds = t->step_seconds > 0 ? 0.9 * t->step_seconds + 0.1 * result->seconds : result->seconds;
    return KV_OK;
}

// ---- Telling about it ----------------------------------------------------------------------------------

static double step_tokens(const struct trainer *t) {
    return (double)(t->config->data.batch_size * t->config->data.seq_len);
}

static double seconds_left(const struct trainer *t) {
    const kv_steps_config *s = &t->config->train;
    const int64_t done = t->run->state.step;
    const double validations =
        t->task->validation ? (double)kv_validations_left(s, done) * t->validation_seconds : 0;
    return (double)(s->steps - done) * t->step_seconds + validations;
}

static void show(struct trainer *t, const struct step_result *result) {
    int64_t done = t->run->state.step, steps = t->config->train.steps;
    char note[160], speed[32], left[32];
    kv_count_text(step_tokens(t) / t->step_seconds, speed);
    size_t used = 0;
    // The bar shows the time left but no steps, the plain line the other way round.
    if (t->progress.terminal)
        used = (size_t)snprintf(note, sizeof note, "step %" PRIi64 "/%" PRIi64 "  ", done, steps);
    used += (size_t)snprintf(note + used, sizeof note - used, "loss %.4f  %s tokens/s  %.1f GFLOP/s",
                             result->loss, speed, 1e-9 * (double)t->step_flops / t->step_seconds);
    if (!t->progress.terminal)
        snprintf(note + used, sizeof note - used, "  %s left", kv_duration(seconds_left(t), left));
    // By proportion, a long look at held-out text before the first step would count for every step.
    t->progress.left = t->task->validation ? seconds_left(t) : 0;
    kv_progress_show(&t->progress, done, note);
}

static kv_status log_step(struct trainer *t, const struct step_result *result, kv_error *err) {
    int64_t step = t->run->state.step;
    double now = kv_now();
    char line[1024];
    size_t used = (size_t)snprintf(line, sizeof line, "{\"step\": %" PRIi64, step);
    for (kv_group g = 0; g < KV_N_GROUPS; g++)
        if (kv_train_has_group(t->config, g))
            used += (size_t)snprintf(line + used, sizeof line - used, ", \"%s\": %.9g",
                                     kv_rate_name(t->config->task, g), result->rates.of[g]);
    used += (size_t)snprintf(line + used, sizeof line - used, ", \"loss\": %.9g", result->loss);
    for (int i = 0; i < t->task->n_terms; i++)
        used += (size_t)snprintf(line + used, sizeof line - used, ", \"%s\": %.9g", t->task->term_names[i],
                                 result->terms[i]);
    double steps_per_second = (double)(step - t->log_step) / (now - t->log_time);
    used += (size_t)snprintf(
        line + used, sizeof line - used,
        ", \"grad_norm\": %.9g, \"tokens_per_second\": %.6g, \"gflops_per_second\": %.6g", result->grad_norm,
        step_tokens(t) * steps_per_second, 1e-9 * (double)t->step_flops * steps_per_second);
    if (t->exchange && t->busy > 0)
        used += (size_t)snprintf(line + used, sizeof line - used, ", \"waiting\": %.4f", t->waited / t->busy);
    snprintf(line + used, sizeof line - used, ", \"seconds\": %.6f}", t->run->state.seconds);
    t->log_time = now;
    t->log_step = step;
    t->busy = t->waited = 0;
    return kv_run_log(t->run, line, err);
}

// ---- Held-out text -------------------------------------------------------------------------------------

static kv_status log_validation(struct trainer *t, const kv_validation_result *result, kv_error *err) {
    const kv_run *run = t->run;
    char *line = kv_validation_line(t->task, run->state.step, run->state.seconds, result);
    kv_status status = line ? kv_run_log(t->run, line, err) : kv_fail(err, KV_ERR_MEMORY, "out of memory");
    free(line);
    return status;
}

static kv_status keep_result(struct trainer *t, const kv_validation_result *result, kv_error *err) {
    kv_run *run = t->run;
    const int64_t step = run->state.step;
    const bool best = !run->has_best || result->loss < run->best_loss;
    char note[96];
    kv_status status = KV_OK;
    // The line comes last: a step that has one is not validated again, nor kept.
    if (best) {
        run->has_best = true;
        run->best_loss = result->loss;
        if (t->config->train.keep_best) status = kv_run_keep_best(run, t->task, err);
    }
    if (status == KV_OK)
        status = kv_ranks_agree(kv_rank_leads() ? log_validation(t, result, err) : KV_OK, err);
    snprintf(note, sizeof note, "step %" PRIi64 ": validation loss %.4f%s", step, result->loss,
             best ? ", the lowest so far" : "");
    kv_progress_line(&t->progress, note);
    return status;
}

// What Ctrl-C leaves undone is made up for when the run goes on from the checkpoint written here, even if no
// step is left then.
static kv_status stop_validating(struct trainer *t, kv_error *err) {
    kv_status status = kv_run_checkpoint(t->run, t->task, t->optimizer, err);
    if (status != KV_OK) return status;
    return kv_fail(err, KV_ERR_INTERRUPTED,
                   "interrupted after step %" PRIi64 " of %" PRIi64 ", before its validation was done",
                   t->run->state.step, t->config->train.steps);
}

static kv_status validate_if_due(struct trainer *t, kv_error *err) {
    kv_run *run = t->run;
    const int64_t step = run->state.step;
    kv_validation_result result;
    if (!t->task->validation || run->validated == step || !kv_validation_due(&t->config->train, step))
        return KV_OK;
    kv_status status = kv_validate(t->task->validation, t->task, t->slices, &t->progress, step, &result, err);
    if (status == KV_ERR_INTERRUPTED) return stop_validating(t, err);
    if (status != KV_OK) return kv_fail_within(err, status, "validation of step %" PRIi64, step);
    run->validated = step;
    run->state.validation_seconds += result.seconds;
    t->validation_seconds = result.seconds;
    t->log_time += result.seconds; // the speed that is logged is the steps'
    return keep_result(t, &result, err);
}

// ---- The loop ------------------------------------------------------------------------------------------

static kv_status save_if_due(struct trainer *t, bool interrupted, kv_error *err) {
    int64_t step = t->run->state.step;
    // After the last step final/ is written instead.
    if (step == t->config->train.steps || !(interrupted || step % t->config->train.checkpoint_every == 0))
        return KV_OK;
    return kv_run_checkpoint(t->run, t->task, t->optimizer, err);
}

static kv_status run_steps(struct trainer *t, struct step_result *result, kv_error *err) {
    int64_t steps = t->config->train.steps;
    kv_status status = validate_if_due(t, err);
    while (status == KV_OK && t->run->state.step < steps) {
        status = train_step(t, result, err);
        if (status != KV_OK) break;
        int64_t step = t->run->state.step;
        show(t, result);
        if (step % t->config->train.log_every == 0 || step == steps)
            status = kv_ranks_agree(kv_rank_leads() ? log_step(t, result, err) : KV_OK, err);
        if (status == KV_OK) status = validate_if_due(t, err);
        // Asked once: a signal between the two uses must not stop the run without a checkpoint.
        const bool interrupted = t->exchange ? result->interrupted : kv_console_interrupted();
        if (status == KV_OK) status = save_if_due(t, interrupted, err);
        if (status == KV_OK && interrupted && step < steps)
            status = kv_ranks_agree(kv_fail(err, KV_ERR_INTERRUPTED,
                                            "interrupted after step %" PRIi64 " of %" PRIi64, step, steps),
                                    err);
    }
    return status;
}

kv_status kv_train(kv_task *task, kv_run *run, kv_error *err) {
    struct trainer t = {.task = task, .config = task->config, .run = run};
    struct step_result last = {0};
    kv_status status = kv_ranks_agree(prepare(&t, err), err);
    if (status == KV_OK) {
        kv_progress_begin(&t.progress, stderr, "train", t.config->train.steps);
        t.progress.started -=
            run->state.seconds +
            run->state.validation_seconds; // of a resumed run, so that the time left comes out right
        status = run_steps(&t, &last, err);
        char note[64] = "";
        if (last.seconds > 0) snprintf(note, sizeof note, "loss %.4f", last.loss);
        if (last.seconds > 0 || t.progress.last_shown >= 0) kv_progress_end(&t.progress, note);
    }
    if (status == KV_OK) status = kv_run_finish(run, task, t.optimizer, err);
    clean_up(&t);
    return status;
}
