// --dry-run. FLOPs are counted and memory is added up from shapes; only the rate of products is measured,
// since no formula knows this machine.
#include "train/run/estimate.h"

#include "data/system/console.h"
#include "data/system/speed.h"
#include "train/config/rates.h"
#include "train/run/exchange.h"
#include "train/run/footprint.h"
#include "train/run/sliced.h"
#include "train/run/validation.h"
#include "train/task/start_rates.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

// What is configured, on the ranks that are asked for.
static kv_task_choice chosen(const kv_train_config *config, const kv_estimate_ranks *ranks) {
    kv_task_choice choice = kv_footprint_chosen(config);
    if (!ranks) return choice;
    choice.n_ranks = ranks->n_nodes * ranks->node_ranks;
    choice.node_ranks = ranks->node_ranks;
    return choice;
}

// The largest share of a step, on which the others wait.
static int64_t largest_share(const kv_train_config *config, int n_ranks) {
    return (config->data.batch_size + n_ranks - 1) / n_ranks;
}

static void print_ranks(const kv_task *task, const kv_task_choice *choice, FILE *out) {
    const kv_train_config *config = task->config;
    const int n = choice->n_ranks, n_nodes = (n + choice->node_ranks - 1) / choice->node_ranks;
    char bytes[32];
    if (n == 1) return;
    const int64_t most = largest_share(config, n), least = config->data.batch_size / n;
    fprintf(out, "ranks        %d on %d node%s: %" PRIi64, n, n_nodes, n_nodes > 1 ? "s" : "", most);
    if (least < most) fprintf(out, " or %" PRIi64, least);
    fprintf(out, " of a step's sequences for each, which sends %sB a step\n",
            kv_count_text(kv_exchange_traffic((double)task->n_trainable, n), bytes));
}

static void print_memory(const kv_task *task, const kv_task_choice *choice, FILE *out) {
    const kv_train_config *config = task->config;
    kv_footprint footprint;
    char text[KV_FOOTPRINT_TEXT], advice[KV_FOOTPRINT_ADVICE];
    const char *by;
    const double limit = kv_footprint_limit(config, &by);
    kv_footprint_estimate(task, choice, &footprint);
    fprintf(out, "memory       about %s\n", kv_footprint_text(&footprint, text));
    if (isinf(limit)) return;
    fprintf(out, "             %s: %.3g GB are allowed by %s\n",
            footprint.node <= limit ? "fits" : "does not fit", limit / 1e9, by);
    if (footprint.node > limit)
        fprintf(out, "             less with: %s\n", kv_footprint_advice(task, choice, &footprint, advice));
}

static double validation_flops(const kv_task *task) {
    const kv_validation *v = task->validation;
    if (!v) return 0;
    const double passes = 1 + (double)kv_validations_left(&task->config->train, 0);
    const double a_pass = (double)task->ops->validation_flops(task, v->micro_batch_size, v->seq_len) *
                          (double)v->n_rows / (double)v->micro_batch_size;
    return passes * a_pass;
}

static void print_validation(const kv_task *task, double training_flops, FILE *out) {
    const kv_train_config *config = task->config;
    const kv_validation *v = task->validation;
    if (!v) return;
    fprintf(out,
            "validation   %s: the first %" PRIi64 " rows of %" PRIi64 " tokens every %" PRIi64
            " steps, %" PRIi64 " times in all",
            config->data.validation, v->n_rows, v->seq_len, config->train.validate_every,
            1 + kv_validations_left(&config->train, 0));
    const double percent = training_flops > 0 ? 100 * validation_flops(task) / training_flops : 0;
    if (percent > 0) fprintf(out, ": %.*f %% of the training's FLOPs", percent < 10, percent);
    fputs(config->train.keep_best ? "; the lowest loss is kept in best/\n" : "\n", out);
}

// A line for each corpus: how large it is, how much of the training is drawn from it.
static kv_status print_text(const kv_task *task, FILE *out, kv_error *err) {
    const kv_train_text *text = task->text;
    const kv_train_config *config = task->config;
    const kv_batches_args args = kv_train_batches(text, config->data.batch_size);
    kv_batches *batches;
    kv_status status = kv_batches_create(&args, &batches, err);
    if (status != KV_OK) return status;
    double weights = 0;
    for (int64_t i = 0; i < text->n_parts; i++) weights += text->parts[i].weight;
    for (int64_t i = 0; i < text->n_parts; i++) {
        const kv_corpus *corpus = text->corpora[i];
        fprintf(out, "%-13s", i ? "" : "data");
        if (text->n_parts > 1) fprintf(out, "%4.1f %% of ", 100 * text->parts[i].weight / weights);
        fprintf(out, "%s: %" PRIi64 " documents, %" PRIi64 " tokens", kv_train_text_path(config, i),
                corpus->n_documents, corpus->n_tokens);
        if (corpus->n_shards > 1) fprintf(out, " in %" PRIi64 " shards", corpus->n_shards);
        fprintf(out, ", vocabulary %" PRIi64 "; %.3g epochs\n", corpus->info.vocab_size,
                kv_batches_epochs(batches, i, config->train.steps));
    }
    if (args.fixed) fprintf(out, "             fixed packing: every epoch has the same rows\n");
    kv_batches_free(batches);
    return KV_OK;
}

static void print_schedule(const char *title, const char *rate, const kv_schedule *s, FILE *out) {
    fprintf(out, "%-13s%s ", title, rate);
    if (s->peak == 0)
        fputs("0: these weights stay as they are\n", out);
    else if (s->warmup_steps >= s->total_steps)
        fprintf(out, "%g to %.3g: all %" PRIi64 " steps are of the warm-up to %g in %" PRIi64 "\n",
                s->warmup_init, kv_schedule_at(s, s->total_steps - 1), s->total_steps, s->peak,
                s->warmup_steps);
    else
        fprintf(out, "%g to %g in %" PRIi64 " steps, then to %g\n", s->warmup_init, s->peak, s->warmup_steps,
                s->end);
}

// A line for each group of weights.
static void print_schedules(const kv_train_config *config, FILE *out) {
    const char *title = "schedule";
    if (config->train.steps == 0) return;
    for (kv_group g = 0; g < KV_N_GROUPS; g++) {
        if (!kv_train_has_group(config, g)) continue;
        const kv_schedule s = kv_train_schedule(config, g);
        print_schedule(title, kv_rate_name(config->task, g), &s, out);
        title = "";
    }
    if (kv_train_scales_rates(config))
        fprintf(out, "             after the fit times √(2 (1 - R²)) of each map%s, from %g to 1\n",
                config->freeze_aux ? "" : ", of the aux by the mean of all", KV_LEAST_RATE);
}

// The products of a rank's share of a step, and of its last backward pass, at `rate` a second.
static kv_network_work work_of_rank(const kv_task *task, int64_t n_ranks, double step_flops, double rate) {
    const kv_train_config *config = task->config;
    const kv_data_config *d = &config->data;
    const kv_task_choice choice = kv_footprint_chosen(config);
    const int64_t share = (d->batch_size + n_ranks - 1) / n_ranks,
                  n_seq = share < d->micro_batch_size ? share : d->micro_batch_size;
    kv_task_memory memory;
    task->ops->memory(task, &choice, &memory);
    const double whole = (double)task->ops->flops(task, n_seq, d->seq_len),
                 forward = (double)task->ops->validation_flops(task, n_seq, d->seq_len);
    return (kv_network_work){.n_weights = (double)task->n_trainable,
                             .n_last = (double)memory.n_last,
                             .seconds = step_flops / rate * (double)share / (double)d->batch_size,
                             .last_backward = fmax(0, whole - forward) / rate,
                             .sharded = config->train.shard_optimizer};
}

// A line for each number of nodes.
static void print_network(const kv_task *task, const kv_network *network, double step_flops, double rate,
                          FILE *out) {
    enum { MOST = 64 };
    char count[32];
    fprintf(
        out,
        "network      a rank on each node, %.4g Gbit/s and %.4g us a message; products as above, %s weights "
        "exchanged\n",
        network->bytes_per_second * 8e-9, network->latency * 1e6,
        kv_count_text((double)task->n_trainable, count));
    const double alone = work_of_rank(task, 1, step_flops, rate).seconds;
    for (int n = 1; n <= MOST && n <= task->config->data.batch_size; n *= 2) {
        const kv_network_work work = work_of_rank(task, n, step_flops, rate);
        const kv_network_step step = kv_network_predict(network, n, &work);
        if (n == 1)
            fprintf(out, "              1 node   %.4g s a step\n", alone);
        else
            fprintf(
                out,
                "             %2d nodes  %.4g to %.4g s a step, efficiency %.3g to %.3g %%; each sends %.3g GB, "
                "%.3g s%s\n",
                n, step.best, step.worst, 100 * alone / (n * step.worst), 100 * alone / (n * step.best),
                step.sent / 1e9, step.exchange, work.sharded ? ", half of it after the update" : "");
    }
}

// The rate of products that it has found, 0: none.
static double print_time(const kv_task *task, int n_ranks, double start, double training, FILE *out) {
    const kv_data_config *d = &task->config->data;
    const double rate = kv_speed_measure(d->micro_batch_size * d->seq_len, 256);
    const double share = (double)largest_share(task->config, n_ranks) / (double)d->batch_size;
    char duration[32];
    if (rate <= 0) return 0;
    fprintf(out, "time         at least %s: the matrix products alone, at the %.0f GFLOP/s measured just now",
            kv_duration(((start + validation_flops(task)) / n_ranks + share * training) / rate, duration),
            rate / 1e9);
    if (n_ranks > 1) fprintf(out, ", were that the rate of each rank");
    fputc('\n', out);
    return rate;
}

kv_status kv_estimate_print(const kv_task *task, const kv_estimate_ranks *ranks, const kv_network *network,
                            FILE *out, kv_error *err) {
    const kv_train_config *config = task->config;
    const kv_data_config *d = &config->data;
    char *text = kv_config_text(task->source);
    if (!text) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    fprintf(out, "%s\n", text);
    free(text);
    task->ops->describe(task, out);
    char count[32];
    fprintf(out, "trained      %s parameters\n", kv_count_text((double)task->n_trainable, count));
    double tokens = (double)d->batch_size * (double)d->seq_len, total = tokens * (double)config->train.steps;
    fprintf(out, "steps        %" PRIi64 " of %.0f tokens (%" PRIi64 " micro-batches): %s tokens\n",
            config->train.steps, tokens, d->batch_size / d->micro_batch_size, kv_count_text(total, count));
    const kv_task_choice choice = chosen(config, ranks);
    print_ranks(task, &choice, out);
    kv_status status = print_text(task, out, err);
    if (status != KV_OK) return status;
    print_schedules(config, out);
    double flops = (double)kv_step_flops(task, &choice) / tokens;
    fprintf(out, "FLOPs        %s a token, %.3g in all\n", kv_count_text(flops, count), flops * total);
    const double start = task->ops->start_flops ? task->ops->start_flops(task) : 0;
    if (start > 0) fprintf(out, "             %.3g for the least-squares start\n", start);
    print_validation(task, flops * total, out);
    print_memory(task, &choice, out);
    const double rate = print_time(task, choice.n_ranks, start, flops * total, out);
    if (network && rate > 0) print_network(task, network, flops * tokens, rate, out);
    return ferror(out) || fflush(out) ? kv_fail(err, KV_ERR_IO, "cannot write to standard output") : KV_OK;
}
