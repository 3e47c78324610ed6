// The configurations of published models (openelm, smollm2, qwen3): layer maps and hyper-parameters of the trainings, what
// predictors are made of, and that evaluations read what trainings write. Shapes come from random models, which
// configs/random.sed puts in place of the published checkpoints.
#include "data/checkpoint/checkpoint.h"
#include "eval/config/doubts.h"
#include "tests/support/corpus.h"
#include "tests/support/support.h"
#include "train/config/doubts.h"
#include "train/task/predictor_plan.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
enum { MAX_TRAININGS = 64 };
static char dir[64];

struct training {
    char *family, *name; // "openelm", "1.1b-lp-0.50"
    kv_config *plain_source, *random_source;
    const kv_train_config *plain; // as it stands
    const kv_train_config *random;
    bool used; // by an evaluation
};
static struct training trainings[MAX_TRAININGS];
static int n_trainings;

// ---- Loading -------------------------------------------------------------------------------------------

static const char *base_name(const char *path) {
    return strrchr(path, '/') + 1;
}

// The rest are evaluations, and what others start from.
static bool is_training(const char *path) {
    static const char *const patterns[] = {"[0-9]*",      "code-*",  "lp-*",    "kvp-*",
                                           "prefix[-_]*", "ridge_*", "head_*",  "swiftkv.*",
                                           "pop.*",       "ours.*",  "paper.*", "rival.*"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        if (!fnmatch(patterns[i], base_name(path), 0)) return true;
    return false;
}

static const kv_train_config *load(const char *path, kv_config **source) {
    const kv_train_config *train;
    kv_error err = {0};
    if (kv_train_config_load(path, NULL, 0, source, &train, &err)) fail_msg("%s", err.message);
    return train;
}

// Files of configs/ name each other from where the program is: in the repository, or among the copies.
static void go_to(const char *root) {
    assert_int_equal(chdir(root), 0);
}

static const char *repository(void) {
    return test_path(getenv("KV_TEST_DIR"), "..");
}

static void load_family(const char *family) {
    char pattern[512];
    glob_t found;
    go_to(dir);
    snprintf(pattern, sizeof pattern, "configs/%s/*.yaml", family);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i];
        if (!is_training(path)) continue;
        assert_true(n_trainings < MAX_TRAININGS);
        struct training *t = &trainings[n_trainings++];
        t->family = strdup(family);
        t->name = strndup(base_name(path), strlen(base_name(path)) - strlen(".yaml"));
        t->random = load(path, &t->random_source);
        go_to(repository());
        t->plain = load(path, &t->plain_source);
        go_to(dir);
    }
    globfree(&found);
}

// Copies of all files with random models.
static int setup(void **state) {
    (void)state;
    char command[2048];
    test_dir_make(dir);
    snprintf(
        command, sizeof command,
        "cd '%s/..' && for d in openelm smollm2 qwen3; do mkdir -p '%s'/configs/$d; for f in configs/$d/*.yaml; "
        "do sed -E -f configs/random.sed $f >'%s'/$f || exit 1; done; done",
        getenv("KV_TEST_DIR"), dir, dir);
    if (system(command)) return -1;
    load_family("openelm");
    load_family("smollm2");
    load_family("qwen3");
    go_to(repository());
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int i = 0; i < n_trainings; i++) {
        free(trainings[i].family);
        free(trainings[i].name);
        kv_config_free(trainings[i].plain_source);
        kv_config_free(trainings[i].random_source);
    }
    test_dir_remove(dir);
    return 0;
}

// ---- Trainings -----------------------------------------------------------------------------------------

static void expect_spec(const char *model, kv_model_spec *spec) {
    kv_error err = {0};
    if (strncmp(model, "random:", 7) != 0) fail_msg("%s: not a random model", model);
    if (kv_checkpoint_spec(model, spec, &err)) fail_msg("%s", err.message);
}

static bool ours(const struct training *t) {
    return t->plain->recipe == KV_RECIPE_OURS;
}

// The map that is written down is the rule's for the shapes of the pair.
//                                                                      [core/README.md §3, eq. 13 and 14]
static void expect_map(const struct training *t) {
    const kv_predictor_config *p = &t->random->predictor;
    kv_model_spec base, aux;
    int32_t expected[KV_MAX_LAYERS], kept[KV_MAX_LAYERS];
    expect_spec(t->random->base, &base);
    if (t->random->aux) {
        expect_spec(t->random->aux, &aux);
        kv_mapping_separate(base.n_layers, aux.n_layers, expected);
        assert_non_null(strstr(t->name, "kvp-c-"));
    } else {
        const int64_t n_kept = kv_pruned_layers(base.n_layers, p->keep, kept);
        kv_mapping_pruned(base.n_layers, kept, n_kept, expected);
        assert_non_null(strstr(t->name, "kvp-lp-"));
        assert_true(p->keep == strtod(strstr(t->name, "kvp-lp-") + strlen("kvp-lp-"), NULL));
    }
    assert_int_equal(p->mapping, KV_MAPPING_EXPLICIT);
    assert_int_equal(p->n_layers, base.n_layers);
    for (unsigned i = 0; i < p->n_layers; i++)
        if (p->layers[i] != expected[i])
            fail_msg("%s: base layer %u reads aux layer %d, expected %d", t->name, i, p->layers[i],
                     expected[i]);
}

static void maps_are_the_rules(void **state) {
    (void)state;
    int n = 0;
    for (int i = 0; i < n_trainings; i++) {
        const struct training *t = &trainings[i];
        // The rule itself needs no list.
        if (t->plain->task != KV_TASK_KVP || t->random->predictor.mapping == KV_MAPPING_SEPARATE) continue;
        expect_map(t);
        n++;
    }
    assert_int_equal(
        n, 19); // 11 pairs of the paper, 5 of them once more for code, one for less memory; 2 of SmolLM2
}

// Real vocabularies have no room for a table of each map: 2/n_B · L_C and KL teach maps that read the embedding, or those
// of a prefix; from ridge regression on, at low rates.
static void ours_fits_real_vocabularies(void **state) {
    (void)state;
    int n = 0;
    for (int i = 0; i < n_trainings; i++) {
        const kv_train_config *c = trainings[i].plain;
        const kv_predictor_config *p = &c->predictor;
        if (c->task != KV_TASK_KVP || !ours(&trainings[i])) continue;
        n++;
        assert_true(c->loss.base == 0 && c->loss.aux == 0 && c->loss.kl == 1);
        assert_true(c->loss.consistency == 2 && c->loss.consistency_shared);
        assert_true(p->token_table == KV_TABLE_NONE && p->init == KV_START_LEAST_SQUARES);
        assert_true(c->train.lr <= 5e-4 && (c->freeze_aux || c->train.lr_aux <= 5e-4));
        if (!kv_train_prefix(c))
            assert_true(p->n_sources == 2 && !strcmp(p->sources[0], "h") && !strcmp(p->sources[1], "own_h") &&
                        p->exact_layers == 1);
    }
    assert_int_equal(n, 7); // 3 of OpenELM, 2 of SmolLM2, 2 of Qwen3
}

// What evaluations with random weights read is made as what was trained is, but for adapted queries.
static void expect_parts(const struct training *t, const char *random) {
    kv_model_spec base, aux;
    kv_predictor *trained = NULL, *named = NULL;
    kv_error err = {0};
    const kv_train_config *c = t->random;
    expect_spec(c->base, &base);
    aux = base;
    if (kv_train_aux(c)) expect_spec(c->aux, &aux);
    if (!c->aux) {
        int32_t kept[KV_MAX_LAYERS];
        const int64_t n = kv_pruned_layers(base.n_layers, c->predictor.keep, kept);
        kv_spec_prune(&aux, kept, n);
    }
    if (kv_plan_predictor(t->random_source, c, &base, &aux, &trained, &err) ||
        kv_predictor_shape(random, &base, kv_train_prefix(c) ? NULL : &aux, &named, &err))
        fail_msg("%s: %s", t->name, err.message);
    trained->spec.adapt = KV_ADAPT_NONE, trained->spec.adapt_rank = 0;
    if (!kv_predictor_spec_equal(&trained->spec, &named->spec))
        fail_msg("%s is trained with other parts than %s has", t->name, random);
    kv_predictor_free(trained);
    kv_predictor_free(named);
}

static struct training *find_name(const char *name, size_t length) {
    for (int i = 0; i < n_trainings; i++)
        if (strlen(trainings[i].name) == length && !strncmp(trainings[i].name, name, length))
            return &trainings[i];
    return NULL;
}

// What another one trains, within 24 GB: NULL, or that other one.
static const struct training *twin_of(const struct training *t) {
    static const char end[] = "-2048";
    const size_t n = strlen(t->name), k = strlen(end);
    return n > k && !strcmp(t->name + n - k, end) ? find_name(t->name, n - k) : NULL;
}

// They differ in what takes memory and in nothing else.
static void less_memory_trains_the_same(void **state) {
    (void)state;
    int n = 0;
    for (int i = 0; i < n_trainings; i++) {
        const struct training *twin = twin_of(&trainings[i]);
        if (!twin) continue;
        const kv_train_config *less = trainings[i].plain, *c = twin->plain;
        assert_true(less->train.activation_checkpointing && less->frozen_dtype == KV_FROZEN_BF16);
        assert_true(less->data.seq_len == 2048 && less->data.micro_batch_size == 1);
        assert_true(less->data.batch_size == c->data.batch_size && less->data.seq_len == c->data.seq_len);
        assert_true(less->loss.base == c->loss.base && less->loss.aux == c->loss.aux &&
                    less->loss.z_loss == c->loss.z_loss && less->loss.consistency == c->loss.consistency);
        assert_true(less->train.lr == c->train.lr && less->train.steps == c->train.steps);
        assert_string_equal(less->base, c->base);
        assert_string_equal(less->aux, c->aux);
        assert_int_equal(less->predictor.n_layers, c->predictor.n_layers);
        n++;
    }
    assert_int_equal(n, 1);
}

// Nothing of the released configurations' schedule is lost on the way through `extends`.
static void schedules_are_published(void **state) {
    (void)state;
    for (int i = 0; i < n_trainings; i++) {
        const struct training *t = &trainings[i];
        const kv_train_config *c = t->plain;
        const kv_steps_config *s = &c->train;
        if (strcmp(t->family, "openelm") != 0) continue;
        const bool code = !strncmp(t->name, "code-", 5), kvp = c->task == KV_TASK_KVP && !ours(t);
        assert_true(s->steps == 70000 && s->warmup_steps == 5000 && c->data.seq_len == 2048);
        assert_int_equal(c->data.batch_size, 8 * 8 * 16);
        assert_true(s->warmup_init == 1e-6 && s->weight_decay == 0.1 && s->beta1 == 0.9 && s->beta2 == 0.95);
        assert_true(s->eps == 1e-8 && s->grad_clip == 1 && c->loss.z_loss == (ours(t) ? 0 : 1e-4));
        assert_true(fabs(s->lr_end - s->lr / 10) < 1e-12);
        if (kvp)
            assert_true(c->loss.base == 1 && c->loss.aux == 1 && c->loss.kl == 0 &&
                        c->loss.consistency_shared);
        if (kvp) assert_true(s->lr == (code ? 1.2e-4 : 1.2e-3));
        if (c->task == KV_TASK_LM && strstr(t->name, "1.1b")) assert_true(s->lr == (code ? 2.4e-4 : 2.4e-3));
        if (c->task == KV_TASK_LM && strstr(t->name, "3b")) assert_true(s->lr == 1.2e-3);
    }
}

static bool starts_with(const char *text, const char *start) {
    return text && !strncmp(text, start, strlen(start));
}

// A file's name is its run's; code is learned from code, by models that know it, all else from text and
// published models.
static void names_and_sources(void **state) {
    (void)state;
    for (int i = 0; i < n_trainings; i++) {
        const struct training *t = &trainings[i];
        const bool code = !strncmp(t->name, "code-", 5),
                   from_code = code && strlen(t->name) > strlen("code-450m");
        char output[256], text[256];
        snprintf(output, sizeof output, "runs/%s/%s", t->family, t->name);
        snprintf(text, sizeof text, "runs/%s/data/%s.h5", t->family, code ? "code" : "text");
        assert_string_equal(t->plain->output, output);
        assert_string_equal(t->plain->data.train, text);
        const char *models[] = {t->plain->base, kv_train_aux(t->plain), t->plain->model.path};
        for (int m = 0; m < 3; m++)
            if (models[m] && !starts_with(models[m], from_code ? "runs/openelm/code-" : "models/"))
                fail_msg("%s: made from %s", t->name, models[m]);
    }
}

// A warning about what we ship would be the first thing a user reads.
static void nothing_is_doubted(void **state) {
    (void)state;
    static const char pattern[] = "configs/*/*.yaml";
    char name[128];
    glob_t found;
    int n = 0;
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    snprintf(name, sizeof name, "%s/warnings", dir);
    fflush(stderr);
    const int before = dup(STDERR_FILENO), file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(before >= 0 && file >= 0 && dup2(file, STDERR_FILENO) >= 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        kv_config *source;
        const kv_train_config *config;
        const kv_eval_config *eval;
        // The others are sweeps and what these start from.
        if (kv_train_config_load(found.gl_pathv[i], NULL, 0, &source, &config, NULL) == KV_OK)
            kv_train_config_doubts(source, config);
        else if (kv_eval_config_load(found.gl_pathv[i], NULL, 0, &source, &eval, NULL) == KV_OK)
            kv_eval_config_doubts(source, eval);
        else
            continue;
        kv_config_free(source);
        n++;
    }
    fflush(stderr);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    close(file);
    globfree(&found);
    char *text = test_read_text(name);
    if (*text) fail_msg("%s", text);
    free(text);
    if (n < 60) fail_msg("found %d trainings among %s", n, pattern);
}

// ---- Evaluations ---------------------------------------------------------------------------------------

static struct training *find_training(const char *path, const char **rest) {
    for (int i = 0; i < n_trainings; i++) {
        const size_t n = strlen(trainings[i].plain->output);
        if (strncmp(path, trainings[i].plain->output, n) != 0 || path[n] != '/') continue;
        *rest = path + n;
        return &trainings[i];
    }
    return NULL;
}

// A checkpoint to be downloaded, or what a training writes.
static struct training *expect_model(const char *path, const char *expected_rest) {
    static const char *const downloads[] = {
        "models/OpenELM-270M", "models/OpenELM-450M", "models/OpenELM-1_1B", "models/OpenELM-3B",
        "models/SmolLM2-135M", "models/Qwen3-0.6B",   "models/Qwen3-1.7B"};
    for (size_t i = 0; i < sizeof downloads / sizeof *downloads; i++)
        if (!strcmp(path, downloads[i])) return NULL;
    const char *rest = "";
    struct training *t = find_training(path, &rest);
    if (!t || strcmp(rest, expected_rest) != 0) fail_msg("%s: no training writes it", path);
    if ((t->plain->task == KV_TASK_LM) != !strcmp(rest, "/final/model"))
        fail_msg("%s: of another task", path);
    t->used = true;
    return t;
}

static void expect_row(const kv_eval_system *row) {
    if (row->model) expect_model(row->model, "/final/model");
    if (row->base) expect_model(row->base, "/final/model");
    if (!row->predictor) {
        if (row->aux) expect_model(row->aux, "/final/model");
        return;
    }
    const struct training *predictor = expect_model(row->predictor, "/final/predictor");
    assert_non_null(predictor);
    assert_true(kv_train_prefix(predictor->plain) == !row->aux);
    if (row->aux) assert_ptr_equal(expect_model(row->aux, "/final/aux"), predictor);
    assert_string_equal(row->base, predictor->plain->base); // else the predictor would refuse it
}

static const char *const evaluations[] = {
    "openelm/triviaqa-1.1b",  "openelm/triviaqa-3b", "openelm/mcqa-1.1b", "openelm/mcqa-3b",
    "openelm/humaneval-1.1b", "smollm2/eval",        "qwen3/hellaswag",   "qwen3/triviaqa"};
enum { N_EVALUATIONS = sizeof evaluations / sizeof *evaluations };

static bool has_family(const char *evaluation) {
    for (int i = 0; i < n_trainings; i++)
        if (starts_with(evaluation, trainings[i].family)) return true;
    return false;
}

static const kv_eval_config *load_evaluation(const char *name, kv_config **source) {
    char path[512];
    const kv_eval_config *eval;
    kv_error err = {0};
    snprintf(path, sizeof path, "configs/%s.yaml", name);
    if (kv_eval_config_load(path, NULL, 0, source, &eval, &err)) fail_msg("%s", err.message);
    return eval;
}

static void evaluations_read_what_trainings_write(void **state) {
    (void)state;
    for (int e = 0; e < N_EVALUATIONS; e++) {
        kv_config *source;
        if (!has_family(evaluations[e])) continue;
        const kv_eval_config *eval = load_evaluation(evaluations[e], &source);
        for (unsigned i = 0; i < eval->n_systems; i++) expect_row(&eval->systems[i]);
        kv_config_free(source);
    }
    for (int i = 0; i < n_trainings; i++)
        if (!trainings[i].used && !twin_of(&trainings[i]))
            fail_msg("%s: no evaluation uses it", trainings[i].name);
}

// With random weights nothing is left to download, and every pair is of shapes that predictors can be made
// for.
static void random_models_replace_all(void **state) {
    (void)state;
    for (int e = 0; e < N_EVALUATIONS; e++) {
        kv_config *source, *plain_source;
        if (!has_family(evaluations[e])) continue;
        go_to(dir);
        const kv_eval_config *eval = load_evaluation(evaluations[e], &source);
        go_to(repository());
        const kv_eval_config *plain = load_evaluation(evaluations[e], &plain_source);
        assert_int_equal(eval->n_systems, plain->n_systems);
        for (unsigned i = 0; i < eval->n_systems; i++) {
            const kv_eval_system *row = &eval->systems[i];
            const char *models[] = {row->model, row->base, row->aux};
            kv_model_spec spec;
            for (int m = 0; m < 3; m++)
                if (models[m]) expect_spec(models[m], &spec);
            const char *rest;
            if (row->predictor)
                expect_parts(find_training(plain->systems[i].predictor, &rest), row->predictor);
        }
        kv_config_free(source);
        kv_config_free(plain_source);
    }
    for (int i = 0; i < n_trainings; i++) {
        const kv_train_config *c = trainings[i].random;
        kv_model_spec spec;
        expect_spec(c->task == KV_TASK_LM ? c->model.path : c->base, &spec);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_are_the_rules),        cmocka_unit_test(ours_fits_real_vocabularies),
        cmocka_unit_test(schedules_are_published),   cmocka_unit_test(names_and_sources),
        cmocka_unit_test(nothing_is_doubted),        cmocka_unit_test(evaluations_read_what_trainings_write),
        cmocka_unit_test(random_models_replace_all), cmocka_unit_test(less_memory_trains_the_same),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
