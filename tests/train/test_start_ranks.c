// Held-out text and the start of a training over ranks: a validation finds the same bits however many share it; the sums of a
// start are those of a run alone to what adding in another order makes of them, and all ranks end with the same weights;
// what stops one rank stops all; of a cache each rank reads its own rows.
//
// The program is its own rank: started with arguments, it does what kvtrain does before its first step, and writes what it found.
#include "core/predictor/best.h"
#include "data/file/content.h"
#include "data/ranks/ranks.h"
#include "data/system/console.h"
#include "tests/support/launch.h"
#include "tests/support/numbers/rounding.h"
#include "tests/support/train.h"
#include "train/run/footprint.h"
#include "train/run/sliced.h"
#include "train/run/training.h"
#include "train/task/kvp.h"
#include "train/task/least_squares_start.h"

#include <hdf5.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_RANKS = 4, N_LAYERS = 3, N_AUX_LAYERS = 2, SIDES = KV_SIDES };
enum { N_TOKENS = 840 }; // of the text: 13 batches of 64 and a part of one
static const char *self;

// ---- A rank --------------------------------------------------------------------------------------------

// What it has to say, in front of its weights.
struct said {
    int status, signal;
    char message[sizeof((kv_error *)0)->message];
    kv_validation_result validation;
    int64_t n_weights, n_scales;
};

static kv_status validate(kv_training *run, kv_validation_result *result, kv_error *err) {
    const kv_task_choice choice = kv_footprint_chosen(run->config);
    kv_slices *slices;
    kv_status status = kv_slices_create(run->task->params, run->task->n_params,
                                        kv_task_slices(run->task, &choice), &slices, err);
    if (status != KV_OK) return status;
    status = kv_validate(run->validation, run->task, slices, NULL, 0, result, err);
    result->seconds = 0;
    kv_slices_free(slices);
    return status;
}

static void write_weights(FILE *file, const kv_task *task, int64_t n, kv_param *const *params) {
    for (int64_t i = 0; i < n; i++)
        fwrite(params[i]->data, sizeof(float), (size_t)kv_param_size(params[i]), file);
    if (task->rate_scales) fwrite(task->rate_scales, sizeof(double), (size_t)task->n_params, file);
    const kv_predictor_spec *spec = &((const kvp_task *)task)->predictor->spec;
    for (int side = 0; side < KV_SIDES; side++)
        for (int64_t i = 0; i < spec->n_base_layers; i++)
            fwrite(&spec->outputs[side][i].sources, sizeof(kv_sources), 1, file);
}

static void write_all(const char *out, struct said *said, kv_training *run) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.%d", out, kv_rank());
    FILE *file = fopen(path, "w");
    if (!file) abort();
    const bool kvp = said->status == KV_OK && run->config->task == KV_TASK_KVP;
    kv_predictor *predictor = kvp ? ((kvp_task *)run->task)->predictor : NULL;
    const int64_t n = kvp ? kv_predictor_params(predictor, NULL) : 0;
    kv_param **params = test_alloc(n + 1, sizeof *params);
    if (kvp) {
        kv_predictor_params(predictor, params);
        said->n_weights = kv_predictor_size(predictor);
        said->n_scales = run->task->rate_scales ? run->task->n_params : 0;
    }
    fwrite(said, sizeof *said, 1, file);
    if (kvp) write_weights(file, run->task, n, params);
    free(params);
    if (fclose(file)) abort();
}

// rank CONFIG OUT SIGNALLED [OVERRIDE...]; SIGNALLED: the rank that gets SIGTERM before it validates (v1) or starts (s1).
static int be_rank(int argc, char **argv) {
    kv_training run = {0};
    kv_error err = {0};
    struct said said = {0};
    const char *signalled = argv[4];
    kv_console_catch_signals();
    kv_status status = kv_ranks_start(&err);
    const bool is_hit = atoi(signalled + 1) == kv_rank();
    if (status == KV_OK)
        status = kv_training_open(&run, argv[2], (const char *const *)argv + 5, (size_t)argc - 5, &err);
    if (status == KV_OK) status = kv_task_load(run.task, NULL, &err);
    status = kv_ranks_agree(status, &err);
    if (is_hit && signalled[0] == 'v') raise(SIGTERM);
    if (status == KV_OK && run.validation) status = validate(&run, &said.validation, &err);
    if (is_hit && signalled[0] == 's') raise(SIGTERM);
    if (status == KV_OK && run.task->ops->start) status = run.task->ops->start(run.task, &err);
    said.status = status, said.signal = kv_console_signal();
    snprintf(said.message, sizeof said.message, "%s", err.message);
    write_all(argv[3], &said, &run);
    kv_training_close(&run);
    return kv_ranks_end(0);
}

// ---- Running ranks -------------------------------------------------------------------------------------

// Runs a command that ends with its output in printed.txt.
static void expect_done(const char *command) {
    char *said = NULL;
    size_t size;
    if (system(command) == 0) return;
    kv_read_file("printed.txt", 1 << 20, &said, &size, NULL);
    fail_msg("%s: %s", command, said);
}

static void run_ranks(int kind, int n, const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "%s %s rank %s > printed.txt 2>&1", n > 1 ? launch_with(kind, n) : "",
             self, arguments);
    expect_done(command);
}

struct found {
    struct said said;
    float *weights; // [said.n_weights]
    double *scales; // [said.n_scales]
    char *bytes;    // all of the file
    size_t size;
};

static struct found read_found(const char *out, int rank) {
    struct found f = {0};
    char path[PATH_MAX];
    kv_error err = {0};
    snprintf(path, sizeof path, "%s.%d", out, rank);
    if (kv_read_file(path, 1 << 26, &f.bytes, &f.size, &err)) fail_msg("%s", err.message);
    memcpy(&f.said, f.bytes, sizeof f.said);
    f.weights = (float *)(f.bytes + sizeof f.said);
    f.scales = (double *)(f.weights + f.said.n_weights);
    return f;
}

// What n ranks found, which is the same on all of them.
static struct found run_found(int kind, int n, const char *out, const char *config, const char *signalled,
                              const char *overrides) {
    char arguments[512];
    snprintf(arguments, sizeof arguments, "%s %s %s %s", config, out, signalled, overrides);
    run_ranks(kind, n, arguments);
    struct found first = read_found(out, 0);
    for (int r = 1; r < n; r++) {
        struct found other = read_found(out, r);
        if (other.size != first.size || memcmp(other.bytes, first.bytes, first.size) != 0)
            fail_msg("%s: rank %d of %d found something else than rank 0: %d %s, %d %s", config, r, n,
                     other.said.status, other.said.message, first.said.status, first.said.message);
        free(other.bytes);
    }
    return first;
}

static void expect_ok(const struct found *f) {
    if (f->said.status != KV_OK) fail_msg("%s", f->said.message);
}

static void need_launcher(void) {
    launch_or_skip();
}

static int set_up(void **state) {
    if (train_setup(state)) return -1;
    put_file("held.yaml",
             "extends: base.yaml\ndata: {validation: shard.h5}\ntrain: {validation_tokens: 400}\n");
    put_file("start.yaml", "extends: kvp.yaml\ndata: {validation: shard.h5}\noutput: start\n"
                           "predictor: {init: least_squares, token_table: full, table_start: fitted}\n"
                           "train: {validation_tokens: 400, lr_table: 1e-3}\n");
    put_file("best.yaml",
             "extends: kvp.yaml\noutput: start\n"
             "predictor: {init: least_squares, choose: best, aux_layers: 1, least_squares_passes: 2,\n"
             "            map: low_rank, width: 2}\n");
    put_file("still.yaml", "extends: start.yaml\ndata: {micro_batch_size: 8}\n"
                           "predictor: {init: random, table_start: zero}\n"
                           "train: {steps: 1, lr: 0, lr_aux: 0, lr_table: 0, keep_best: true}\n");
    return mkdir("start", 0777);
}

// ---- Validation ----------------------------------------------------------------------------------------

// Of a language model whose micro-batches of 8 rows are slices, 25 rows; of predictors in micro-batches of 4.
static void validations_are_the_same(void **state) {
    (void)state;
    need_launcher();
    static const char *const configs[] = {"held.yaml", "start.yaml"};
    for (int i = 0; i < 2; i++) {
        struct found alone = run_found(0, 1, "alone", configs[i], "-", "");
        expect_ok(&alone);
        assert_true(alone.said.validation.loss > 0 && alone.said.validation.terms[0] > 0);
        assert_int_equal(alone.said.validation.errors.n_layers, i ? 3 : 0);
        if (i) assert_true(alone.said.validation.errors.value[2] > 0);
        for (int n = 2; n <= MOST_RANKS; n++) {
            struct found some = run_found(n % launch_n_kinds(), n, "some", configs[i], "-", "");
            expect_ok(&some);
            assert_memory_equal(&some.said.validation, &alone.said.validation, sizeof some.said.validation);
            free(some.bytes);
        }
        free(alone.bytes);
    }
}

// The program's: a rank's share of a step is less than a micro-batch, and is cut into other slices.
static void validations_of_a_run(void **state) {
    (void)state;
    need_launcher();
    static const char *const runs[] = {"r1", "r4"};
    json_t *said[2], *best[2];
    for (int i = 0; i < 2; i++) {
        char command[1024], path[64];
        snprintf(command, sizeof command, "%s %s still.yaml -o %s > printed.txt 2>&1", i ? launch(4) : "",
                 getenv("KVTRAIN"), runs[i]);
        expect_done(command);
        snprintf(path, sizeof path, "%s/metrics.jsonl", runs[i]);
        said[i] = json_load_file(path, JSON_DISABLE_EOF_CHECK, NULL); // its first line
        snprintf(path, sizeof path, "%s/best/state.json", runs[i]);
        best[i] = json_load_file(path, 0, NULL);
        assert_non_null(json_object_get(json_object_get(said[i], "validation"), "key_error"));
        assert_non_null(json_object_get(best[i], "validation_loss"));
    }
    assert_true(json_equal(json_object_get(said[0], "validation"), json_object_get(said[1], "validation")));
    assert_true(
        json_equal(json_object_get(best[0], "validation_loss"), json_object_get(best[1], "validation_loss")));
    for (int i = 0; i < 2; i++) {
        json_decref(said[i]);
        json_decref(best[i]);
    }
}

// ---- Sums of a run alone -------------------------------------------------------------------------------

// Sums of one of two kinds, of all of a run's text, and what comes of them.
struct sums {
    kv_training run;
    kvp_task *kvp;
    kv_least_squares *fit;
    kv_best *best;
    kv_predictor *all; // that best was made for
};

static kv_status add_fit(void *sums, kv_tape *tape, const kv_taps *taps, kv_tensor *const *base_raw_k,
                         kv_tensor *const *base_v, const uint8_t *keep, kv_error *err) {
    return kv_least_squares_add(sums, tape, taps, base_raw_k, base_v, keep, err);
}

static kv_status add_best(void *sums, kv_tape *tape, const kv_taps *taps, kv_tensor *const *base_raw_k,
                          kv_tensor *const *base_v, const uint8_t *keep, kv_error *err) {
    return kv_best_add(sums, tape, taps, base_raw_k, base_v, keep, err);
}

static bool visit_fit(void *sums, kv_sums_fn *fn, void *what) {
    return kv_least_squares_visit(sums, fn, what);
}

static bool visit_best(void *sums, kv_sums_fn *fn, void *what) {
    return kv_best_visit(sums, fn, what);
}

static void tell_fit(void *sums, int64_t n_tokens) {
    kv_least_squares_tell_tokens(sums, n_tokens);
}

static void tell_best(void *sums, int64_t n_tokens) {
    kv_best_tell_tokens(sums, n_tokens);
}

static kv_status make_sums(struct sums *s, bool best, kv_error *err) {
    kv_predictor_spec *spec = test_alloc(1, sizeof *spec);
    *spec = s->kvp->shape->spec;
    kv_predictor_spec_all_layers(spec, N_AUX_LAYERS);
    kv_predictor_spec_set_map(spec, &kv_map_linear, 0);
    kv_status status = kv_predictor_plan(&s->kvp->base_spec, &s->kvp->aux_spec, spec, &s->all, err);
    if (status == KV_OK && best) status = kv_best_create(s->all, &s->best, err);
    if (status == KV_OK && !best) status = kv_least_squares_create(s->kvp->predictor, &s->fit, err);
    if (status == KV_OK && !best) status = kv_least_squares_tables(s->fit, s->kvp->predictor, err);
    free(spec);
    return status;
}

static void open_sums(struct sums *s, const char *config, bool best) {
    kv_error err = {0};
    int64_t n_tokens = 0;
    *s = (struct sums){0};
    kv_status status = kv_training_open(&s->run, config, NULL, 0, &err);
    if (status == KV_OK) status = s->run.task->ops->load(s->run.task, NULL, &err);
    s->kvp = (kvp_task *)s->run.task;
    if (status == KV_OK) status = make_sums(s, best, &err);
    if (status != KV_OK) fail_msg("%s", err.message);
    const kv_start_args args = {.source = s->run.source,
                                .config = s->run.config,
                                .text = &s->run.text,
                                .base_spec = &s->kvp->base_spec,
                                .aux_spec = &s->kvp->aux_spec,
                                .base = s->kvp->base,
                                .aux = s->kvp->aux};
    const kv_start_pass pass = {.title = "sums",
                                .reads = best ? s->all : s->kvp->predictor,
                                .add = best ? add_best : add_fit,
                                .visit = best ? visit_best : visit_fit,
                                .tell_tokens = best ? tell_best : tell_fit,
                                .sums = best ? (void *)s->best : (void *)s->fit};
    if (kv_start_read(&args, &pass, &n_tokens, &err)) fail_msg("%s", err.message);
    assert_int_equal(n_tokens, N_TOKENS);
}

static void close_sums(struct sums *s) {
    kv_least_squares_free(s->fit);
    kv_best_free(s->best);
    kv_predictor_free(s->all);
    kv_training_close(&s->run);
}

// Sums are doubles: they are moved by the part of a float's rounding that a double's is.
static bool note_operand(double *sums, int64_t n, void *what) {
    rounding_operands *operands = what;
    rounding_add(operands, sums, n);
    operands->of[operands->n - 1].part = ROUNDING_DOUBLE / ROUNDING_FLOAT;
    return true;
}

// How far results may lie from each other that come of the sums in any order.
static rounding_spread spread_of(const struct sums *s, rounding_fn *compute, int64_t n) {
    rounding_operands operands = {0};
    if (s->fit) kv_least_squares_visit(s->fit, note_operand, &operands);
    if (s->best) kv_best_visit(s->best, note_operand, &operands);
    rounding_spread spread = rounding_measure(&operands, N_TOKENS, compute, s, n);
    rounding_operands_free(&operands);
    return spread;
}

// Explained variances of keys, of values; weights.
static void fit_weights(const void *context, double *results) {
    const struct sums *s = context;
    kv_predictor *predictor = s->kvp->predictor;
    kv_error err = {0};
    if (kv_least_squares_solve(s->fit, s->run.config->predictor.ridge, predictor, results, results + N_LAYERS,
                               &err))
        fail_msg("%s", err.message);
    results += SIDES * N_LAYERS;
    const int64_t n = kv_predictor_params(predictor, NULL);
    kv_param **params = test_alloc(n, sizeof *params);
    kv_predictor_params(predictor, params);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < kv_param_size(params[i]); k++)
            *results++ = ((const float *)params[i]->data)[k];
    free(params);
}

static void compare_layers(const void *context, double *results) {
    const struct sums *s = context;
    kv_error err = {0};
    for (int side = 0; side < SIDES; side++)
        if (kv_best_explained(s->best, s->run.config->predictor.ridge, (kv_side)side,
                              results + side * N_LAYERS * N_AUX_LAYERS, &err))
            fail_msg("%s", err.message);
}

// ---- The start -----------------------------------------------------------------------------------------

// Numbers of a list, or of lists of a list. Returns how many.
static size_t read_numbers(const json_t *list, double *numbers) {
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (json_is_array(item))
            n += read_numbers(item, numbers + n);
        else
            numbers[n++] = json_number_value(item);
    }
    return n;
}

// What the run's file says is explained of keys and of values, in 9 digits; all: by each layer of the aux.
static void read_explained(bool all, double *explained) {
    json_t *root = json_load_file(all ? "start/best_layers.json" : "start/least_squares.json", 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(root, "tokens")), N_TOKENS);
    for (int side = 0; side < SIDES; side++) {
        const json_t *of = json_object_get(root, kv_side_names[side]);
        const size_t n = read_numbers(all ? json_object_get(of, "explained") : of, explained);
        assert_int_equal(n, all ? N_LAYERS * N_AUX_LAYERS : N_LAYERS);
        explained += n;
    }
    json_decref(root);
}

static void expect_explained(bool all, const double *expected, const rounding_spread *spread) {
    double found[SIDES * N_LAYERS * N_AUX_LAYERS];
    read_explained(all, found);
    for (int64_t i = 0; i < SIDES * N_LAYERS * (all ? N_AUX_LAYERS : 1); i++)
        rounding_expect("explained", found[i], expected[i],
                        2 * spread->allowed[i] + 1e-9 * fabs(expected[i]));
}

// Maps and fitted tables.
static void starts_are_the_same(void **state) {
    (void)state;
    need_launcher();
    struct sums sums;
    double explained[SIDES * N_LAYERS];
    open_sums(&sums, "start.yaml", false);
    const int64_t n_weights = kv_predictor_size(sums.kvp->predictor);
    rounding_spread spread = spread_of(&sums, fit_weights, SIDES * N_LAYERS + n_weights);
    close_sums(&sums);
    struct found alone = run_found(0, 1, "alone", "start.yaml", "-", "");
    expect_ok(&alone);
    assert_int_equal(alone.said.n_weights, n_weights);
    read_explained(false, explained);
    for (int n = 2; n <= MOST_RANKS; n++) {
        struct found some = run_found(n % launch_n_kinds(), n, "some", "start.yaml", "-", "");
        expect_ok(&some);
        expect_explained(false, explained, &spread);
        assert_int_equal(some.said.n_weights, n_weights);
        rounding_compare_both("fitted", some.weights, alone.weights, &spread, SIDES * N_LAYERS, n_weights);
        free(some.bytes);
    }
    free(alone.bytes);
    rounding_spread_free(&spread);
}

// Best layers, several passes, maps that are no plain solution: all ranks have the same (run_found), and the layers that are
// chosen alone.
static void choices_are_the_same(void **state) {
    (void)state;
    need_launcher();
    struct sums sums;
    double explained[SIDES * N_LAYERS * N_AUX_LAYERS];
    open_sums(&sums, "best.yaml", true);
    rounding_spread spread = spread_of(&sums, compare_layers, SIDES * N_LAYERS * N_AUX_LAYERS);
    close_sums(&sums);
    struct found alone = run_found(0, 1, "alone", "best.yaml", "-", "");
    expect_ok(&alone);
    assert_true(alone.said.n_scales > 0);
    read_explained(true, explained);
    for (int n = 2; n <= MOST_RANKS; n++) {
        struct found some = run_found(n % launch_n_kinds(), n, "some", "best.yaml", "-", "");
        expect_ok(&some);
        expect_explained(true, explained, &spread);
        assert_true(some.size == alone.size && some.said.n_scales == alone.said.n_scales);
        const size_t sources = (size_t)((const char *)(alone.scales + alone.said.n_scales) - alone.bytes);
        assert_memory_equal(some.bytes + sources, alone.bytes + sources, alone.size - sources);
        free(some.bytes);
    }
    free(alone.bytes);
    rounding_spread_free(&spread);
}

// ---- What stops one rank -------------------------------------------------------------------------------

// A signal that only one of them gets: all know it, none waits.
static void signals_stop_all(void **state) {
    (void)state;
    need_launcher();
    static const char *const where[] = {"v0", "v2", "s1", "s2"};
    for (size_t i = 0; i < sizeof where / sizeof *where; i++) {
        struct found some = run_found(0, 3, "some", "start.yaml", where[i], "");
        assert_int_equal(some.said.status, KV_ERR_INTERRUPTED);
        assert_int_equal(some.said.signal, SIGTERM);
        assert_non_null(strstr(some.said.message, where[i][0] == 's' ? "nothing to save" : "interrupted"));
        free(some.bytes);
    }
}

// ---- Caches --------------------------------------------------------------------------------------------

// The text's row that is sequence `seq` of a batch of n_seq.
static int64_t row_of(const char *config, int64_t n_seq, int64_t batch, int64_t seq) {
    kv_training run;
    kv_batches *batches;
    kv_row_ref rows[8];
    kv_error err = {0};
    assert_true(n_seq <= 8);
    if (kv_training_open(&run, config, NULL, 0, &err)) fail_msg("%s", err.message);
    const kv_batches_args args = kv_train_batches(&run.text, n_seq);
    if (kv_batches_create(&args, &batches, &err) || kv_batches_rows(batches, batch, rows, &err))
        fail_msg("%s", err.message);
    kv_batches_free(batches);
    kv_training_close(&run);
    return rows[seq].row;
}

// Changes the first token of a row, or back.
static void spoil_row(int64_t row) {
    const hid_t file = H5Fopen("cache/cache-00000.h5", H5F_ACC_RDWR, H5P_DEFAULT),
                set = H5Dopen2(file, "/tokens", H5P_DEFAULT), space = H5Dget_space(set);
    const hsize_t start[2] = {(hsize_t)row, 0}, count[2] = {1, 1}, one = 1;
    const hid_t memory = H5Screate_simple(1, &one, NULL);
    int32_t token = 0;
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    assert_true(H5Dread(set, H5T_NATIVE_INT32, memory, space, H5P_DEFAULT, &token) >= 0);
    token ^= 1;
    assert_true(H5Dwrite(set, H5T_NATIVE_INT32, memory, space, H5P_DEFAULT, &token) >= 0);
    H5Sclose(memory), H5Sclose(space), H5Dclose(set), H5Fclose(file);
}

static void make_cache(void) {
    char command[512];
    snprintf(command, sizeof command,
             "%s cache --seq-len 16 --dtype f32 --base base/final/model --aux aux/final/model --out cache "
             "shard.h5 > printed.txt 2>&1 && cp cache/cache-00000.h5 before.h5",
             getenv("KVDATA"));
    expect_done(command);
    put_file("cached.yaml", "extends: best.yaml\nteacher: cached\ncache: cache\n"
                            "data: {packing: fixed}\nloss: {kl: 0, consistency: 1}\nfreeze_aux: true\n");
    put_file("steps.yaml", "extends: kvp.yaml\noutput: steps\nteacher: cached\ncache: cache\n"
                           "data: {packing: fixed}\nloss: {kl: 0, consistency: 1}\nfreeze_aux: true\n");
}

static void expect_named(int rank, const char *message) {
    char expected[64];
    snprintf(expected, sizeof expected, "rank %d (", rank);
    if (!strstr(message, expected) || !strstr(message, "holds other tokens"))
        fail_msg("rank %d: %s", rank, message);
}

// A row that is not what it should be is found by the rank whose it is, and by none before it. Of a start, of 49 rows in
// batches of 4; of a step of 8 sequences, of which rank 2 has the last two.
static void caches_are_read_by_whose_rows_they_are(void **state) {
    (void)state;
    need_launcher();
    make_cache();
    for (int rank = 0; rank < 3; rank++) {
        const int64_t row = row_of("cached.yaml", 4, kv_share_begin_of(13, 3, rank + 1) - 1, 0);
        spoil_row(row);
        struct found some = run_found(0, 3, "some", "cached.yaml", "-", "");
        assert_int_equal(some.said.status, KV_ERR_MISMATCH);
        expect_named(rank, some.said.message);
        free(some.bytes);
        spoil_row(row);
    }
    char command[1024], *said = NULL;
    size_t size;
    const int64_t row = row_of("steps.yaml", 8, 0, 6);
    spoil_row(row);
    snprintf(command, sizeof command, "%s %s steps.yaml > printed.txt 2>&1", launch(3), getenv("KVTRAIN"));
    assert_int_not_equal(system(command), 0);
    assert_int_equal(kv_read_file("printed.txt", 1 << 20, &said, &size, NULL), KV_OK);
    expect_named(2, said);
    free(said);
    spoil_row(row);
}

// Whoever reads a cache leaves it as it was.
static void caches_are_left_alone(void **state) {
    (void)state;
    need_launcher();
    assert_int_equal(system("cp before.h5 cache/cache-00000.h5"), 0);
    struct found some = run_found(0, 3, "some", "cached.yaml", "-", "");
    expect_ok(&some);
    free(some.bytes);
    assert_true(same_file("before.h5", "cache/cache-00000.h5"));
    assert_int_equal(test_dir_count("cache"), 1);
}

int main(int argc, char **argv) {
    if (argc > 4 && strcmp(argv[1], "rank") == 0) return be_rank(argc, argv);
    static char path[PATH_MAX];
    self = realpath(argv[0], path);
    if (!self) return 99;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(validations_are_the_same), cmocka_unit_test(validations_of_a_run),
        cmocka_unit_test(starts_are_the_same),      cmocka_unit_test(choices_are_the_same),
        cmocka_unit_test(signals_stop_all),         cmocka_unit_test(caches_are_read_by_whose_rows_they_are),
        cmocka_unit_test(caches_are_left_alone),
    };
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}
