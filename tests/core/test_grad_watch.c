// A watcher is told of every gradient once, by the thread that asked for the pass, and when it is told the gradient is what
// it is at the end: of models and of every part of predictors, run again or not, of one slice and of several. Layers come one
// after the other, the last one first. An operator that adds to a gradient which was told is found out.
#include "core/optimizer.h"
#include "core/recompute.h"
#include "core/slices.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_SEQ = 4,
    SEQ_LEN = 6,
    TOKENS = N_SEQ * SEQ_LEN,
    N_SLICES = 3,
    VOCABULARY = 61,
    MAX_PARAMS = 400,
    DEEP = 8
};

// ---- What is trained -----------------------------------------------------------------------------------

// A language model that learns, alone or as the aux of a pair whose predictors learn, too.
typedef struct setting {
    const char *name;
    kv_model *model; // of its own; NULL: the pair is trained
    int passes;      // of the model, in one objective
    test_made made;
    kv_kvp_weights weights;
    kv_param *params[MAX_PARAMS];
    int64_t n_params, size;
    int32_t ids[TOKENS], targets[TOKENS];
} setting;

static void collect(setting *s) {
    for (int64_t i = 0; i < s->n_params; i++) s->size += kv_param_size(s->params[i]);
    assert_true(s->n_params <= MAX_PARAMS);
    tiny_ids(s->ids, TOKENS, VOCABULARY, 3);
    tiny_ids(s->targets, TOKENS, VOCABULARY, 4);
}

static setting setting_lm(bool tied_head, int passes, int64_t vocabulary) {
    setting s = {.name = tied_head ? "a tied model" : "a model", .passes = passes};
    kv_model_spec spec = tiny_deep_base(DEEP);
    kv_error err = {0};
    spec.tied_head = tied_head, spec.vocab_size = vocabulary;
    s.model = tiny_model(&spec, 1);
    if (kv_model_set_trainable(s.model, true, &err) != KV_OK) fail_msg("%s", err.message);
    s.n_params = kv_model_params(s.model, s.params);
    collect(&s);
    return s;
}

static setting setting_part(const test_part *part, bool aux_trained, float aux_weight) {
    setting s = {.name = part->name, .made = test_part_make(part)};
    kv_error err = {0};
    s.weights = (kv_kvp_weights){.base = 1, .aux = aux_weight, .consistency = 0.25f, .kl = 0.5f};
    if ((aux_trained && kv_model_set_trainable(s.made.aux, true, &err) != KV_OK) ||
        kv_predictor_set_trainable(s.made.predictor, true, &err) != KV_OK)
        fail_msg("%s", err.message);
    // A frozen aux stands in the list, too: nobody is told of it.
    s.n_params = kv_model_params(s.made.aux, s.params);
    s.n_params += kv_predictor_params(s.made.predictor, s.params + s.n_params);
    collect(&s);
    return s;
}

static void setting_free(setting *s) {
    kv_model_free(s->model);
    if (!s->model) test_made_free(&s->made);
}

static kv_tensor *objective(void *context, kv_tape *tape, const kv_slice *slice) {
    setting *s = context;
    kv_tensor *losses[2] = {0};
    if (!s->model)
        return kv_kvp_objective(tape, s->made.base, s->made.aux, s->made.predictor, &slice->batch,
                                &s->weights, NULL, NULL);
    for (int i = 0; i < s->passes; i++)
        losses[i] = kv_lm_objective(tape, s->model, NULL, &slice->batch, &(kv_lm_weights){.ce = 1}, NULL);
    return s->passes == 1 ? losses[0] : kv_weighted_sum(tape, losses, (float[]){1, 0.5f}, 2);
}

// ---- Who watches ---------------------------------------------------------------------------------------

typedef struct journal {
    const setting *s;
    const float *expected; // all gradients at the end of the pass, one behind the other
    int64_t ticks, n_told;
    int64_t place[MAX_PARAMS]; // when each was told, from 1
    int64_t at[MAX_PARAMS];    // after how many ticks
    pthread_t thread;
} journal;

static void ready(void *context, const kv_param *param) {
    journal *l = context;
    const float *expected = l->expected;
    int64_t i = 0;
    for (; i < l->s->n_params && l->s->params[i] != param; i++) expected += kv_param_size(l->s->params[i]);
    assert_true(i < l->s->n_params && kv_param_trainable(param));
    assert_true(pthread_equal(pthread_self(), l->thread));
    if (l->place[i]) fail_msg("%s: %s is told twice", l->s->name, param->name);
    l->place[i] = ++l->n_told, l->at[i] = l->ticks;
    if (memcmp(param->grad, expected, (size_t)kv_param_size(param) * sizeof *expected) != 0)
        fail_msg("%s: the gradient of %s is told before it is complete", l->s->name, param->name);
}

static void tick(void *context) {
    journal *l = context;
    assert_true(pthread_equal(pthread_self(), l->thread));
    l->ticks++;
}

typedef struct test_way {
    int64_t n_slices;
    bool checkpointing;
} test_way;

// Two micro-batches, of which the second one is watched (journal NULL: none). Gradients as they then are, which the caller
// frees; after that, nobody is told of a third.
static float *run(setting *s, const test_way *way, journal *l) {
    kv_slices *slices;
    kv_error err = {0};
    double loss;
    const kv_batch batch = {.input_ids = s->ids,
                            .target_ids = s->targets,
                            .n_seq = N_SEQ,
                            .seq_len = SEQ_LEN,
                            .ignore_index = -100};
    const kv_grad_watcher watcher = {s->params, s->n_params, ready, tick, l};
    if (kv_slices_create(s->params, s->n_params, way->n_slices, &slices, &err) != KV_OK)
        fail_msg("%s", err.message);
    kv_slices_set_checkpointing(slices, way->checkpointing);
    float *all = test_alloc(s->size, sizeof *all), *next = all;
    for (int64_t i = 0; i < s->n_params; i++)
        if (s->params[i]->grad) kv_grad_zero(&s->params[i], 1);
    for (int i = 0; i < 2; i++) {
        kv_slices_set_watcher(slices, l && i == 1 ? &watcher : NULL);
        if (kv_slices_backward(slices, &batch, objective, s, &loss, &err) != KV_OK)
            fail_msg("%s: %s", s->name, err.message);
    }
    for (int64_t i = 0; i < s->n_params; next += kv_param_size(s->params[i++]))
        if (s->params[i]->grad)
            memcpy(next, s->params[i]->grad, (size_t)kv_param_size(s->params[i]) * sizeof *next);
    const int64_t told = l ? l->n_told : 0, ticks = l ? l->ticks : 0;
    kv_slices_set_watcher(slices, NULL);
    assert_int_equal(kv_slices_backward(slices, &batch, objective, s, &loss, &err), KV_OK);
    assert_true(!l || (l->n_told == told && l->ticks == ticks));
    kv_slices_free(slices);
    return all;
}

// Everything is told once, whole, and nothing is changed by that.
static journal watched(setting *s, test_way way) {
    float *expected = run(s, &way, NULL);
    journal l = {.s = s, .expected = expected, .thread = pthread_self()};
    float *found = run(s, &way, &l);
    assert_memory_equal(found, expected, (size_t)s->size * sizeof *found);
    for (int64_t i = 0; i < s->n_params; i++)
        if (kv_param_trainable(s->params[i]) != (l.place[i] > 0))
            fail_msg("%s: %s is %s", s->name, s->params[i]->name,
                     l.place[i] ? "frozen, and told" : "never told");
    assert_true(l.ticks > 0);
    free(expected), free(found);
    l.expected = NULL;
    return l;
}

// ---- Models --------------------------------------------------------------------------------------------

static int64_t index_of(const setting *s, const kv_param *param) {
    for (int64_t i = 0; i < s->n_params; i++)
        if (s->params[i] == param) return i;
    fail_msg("%s is not among them", param->name);
    return -1;
}

// The first and the last tick at which a layer's weights are told.
static void span_of(const journal *l, kv_layer *layer, int64_t *first, int64_t *last) {
    *first = l->ticks, *last = 0;
    for (size_t j = 0; j < sizeof *layer / sizeof(kv_param); j++) {
        const kv_param *param = (kv_param *)layer + j;
        if (param->rows == 0) continue;
        const int64_t at = l->at[index_of(l->s, param)];
        if (at < *first) *first = at;
        if (at > *last) *last = at;
    }
}

// Each layer is told before anything of the one below it has gone backward; what is told of `passes` passes, in the last of
// them, which is the first one's.
static void expect_layers_in_order(const journal *l, kv_model *model, int64_t passes) {
    int64_t first, last, before = l->ticks * (passes - 1) / passes;
    for (int64_t i = model->spec.n_layers - 1; i >= 0; i--, before = last) {
        span_of(l, &model->layers[i], &first, &last);
        if (first <= before)
            fail_msg("%s: layer %lld begins at tick %lld, the one above ends at %lld", l->s->name,
                     (long long)i, (long long)first, (long long)before);
    }
    assert_true(last < l->ticks);
    assert_int_equal(l->at[index_of(l->s, &model->embed)], l->ticks);
}

static void expect_most_before_the_end(const journal *l) {
    int64_t early = 0;
    for (int64_t i = 0; i < l->s->n_params; i++)
        if (l->at[i] < l->ticks) early += kv_param_size(l->s->params[i]);
    if (10 * early < 7 * l->s->size)
        fail_msg("%s: %lld of %lld weights are told before the embedding's backward", l->s->name,
                 (long long)early, (long long)l->s->size);
}

static const test_way whole = {1, false}, again = {1, true}, sliced = {N_SLICES, false},
                      sliced_again = {N_SLICES, true};

static void test_language_model(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++)
        for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
            setting s = setting_lm(tied, 1, VOCABULARY);
            const journal l = watched(&s, checkpointing ? again : whole);
            expect_layers_in_order(&l, s.model, 1);
            expect_most_before_the_end(&l);
            watched(&s, checkpointing ? sliced_again : sliced);
            setting_free(&s);
        }
}

// Gradients of several slices are added up, and told, some at a time, from the last to the first.
static void test_groups(void **state) {
    (void)state;
    enum { MANY = 20000 };
    setting s = setting_lm(false, 1, MANY);
    const journal l = watched(&s, sliced);
    for (int64_t i = 0; i < s.n_params; i++) assert_int_equal(l.place[i], s.n_params - i);
    assert_int_equal(l.at[s.n_params - 1], 0); // the head, which is enough for once
    assert_true(l.at[0] > 0);
    assert_true(l.ticks < s.n_params);
    setting_free(&s);
}

// What runs twice is complete in the second walk over it.
static void test_model_that_runs_twice(void **state) {
    (void)state;
    for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
        setting s = setting_lm(true, 2, VOCABULARY);
        const journal l = watched(&s, checkpointing ? again : whole);
        expect_layers_in_order(&l, s.model, 2);
        setting_free(&s);
    }
}

// ---- Predictors ----------------------------------------------------------------------------------------

static void test_predictor_parts(void **state) {
    (void)state;
    for (int i = 0; i < TEST_PARTS; i++) {
        const bool aux = test_parts[i].prefix == 0;
        for (int trained = 0; trained <= aux; trained++) {
            setting s = setting_part(&test_parts[i], trained, trained && i % 2 ? 0.5f : 0);
            watched(&s, whole);
            watched(&s, again);
            watched(&s, i % 2 ? sliced : sliced_again);
            setting_free(&s);
        }
    }
}

// Adapted queries while the base goes backward, then maps, then the aux, all from the last layer to the first; without a loss
// of its own the aux's head and what else nobody reads at the end.
static void expect_pair_in_order(bool checkpointing, float aux_weight) {
    const test_part part = {"a pair", "k1", "v1", "linear", .table = KV_TABLE_FULL, .adapt = KV_ADAPT_LORA};
    setting s = setting_part(&part, true, aux_weight);
    const journal l = watched(&s, checkpointing ? again : whole);
    const kv_predictor *p = s.made.predictor;
    int64_t before = 0;
    for (int64_t i = p->spec.n_base_layers - 1; i >= 0; i--) {
        const int64_t at = l.place[index_of(&s, p->adapters[i].down)];
        assert_true(at > before);
        before = at;
    }
    for (int64_t i = p->spec.n_base_layers - 1; i >= 0; i--) {
        const int64_t v = l.place[index_of(&s, &p->outputs[KV_VALUES][i].map.params[0])],
                      k = l.place[index_of(&s, &p->outputs[KV_KEYS][i].map.params[0])];
        assert_true(v > before && k > v);
        assert_int_equal(l.place[index_of(&s, &p->outputs[KV_KEYS][i].map.params[1])], k + 1);
        assert_true(l.place[index_of(&s, &p->outputs[KV_KEYS][i].table)] > v);
        before = k;
    }
    const kv_layer *layers = s.made.aux->layers;
    assert_true(l.place[index_of(&s, &layers[1].k)] > before);
    assert_true(l.place[index_of(&s, &layers[0].down)] > l.place[index_of(&s, &layers[1].attn_norm)]);
    assert_true(l.at[index_of(&s, &layers[0].attn_norm)] < l.ticks);
    assert_int_equal(l.at[index_of(&s, &s.made.aux->embed)], l.ticks);
    const bool head_early = l.at[index_of(&s, &s.made.aux->norm)] < l.ticks;
    assert_true(head_early == (aux_weight != 0));
    setting_free(&s);
}

static void test_order_of_a_pair(void **state) {
    (void)state;
    for (int checkpointing = 0; checkpointing < 2; checkpointing++) {
        expect_pair_in_order(checkpointing, 0);
        expect_pair_in_order(checkpointing, 0.5f);
    }
}

// ---- No sequences, and failures ------------------------------------------------------------------------

static void count_ready(void *context, const kv_param *param) {
    (void)param;
    ++*(int64_t *)context;
}

// A batch of none, as a process has for which there was nothing left: everything is complete as it is.
static void test_no_sequences(void **state) {
    (void)state;
    setting s = setting_lm(true, 1, VOCABULARY);
    for (int64_t n_slices = 1; n_slices <= N_SLICES; n_slices += N_SLICES - 1) {
        kv_slices *slices;
        kv_error err = {0};
        double loss = 1;
        int64_t told = 0;
        const kv_batch none = {.input_ids = s.ids, .target_ids = s.targets, .seq_len = SEQ_LEN};
        const kv_grad_watcher watcher = {s.params, s.n_params, count_ready, NULL, &told};
        kv_grad_zero(s.params, s.n_params);
        assert_int_equal(kv_slices_create(s.params, s.n_params, n_slices, &slices, &err), KV_OK);
        kv_slices_set_watcher(slices, &watcher);
        assert_int_equal(kv_slices_backward(slices, &none, objective, &s, &loss, &err), KV_OK);
        assert_true(loss == 0 && kv_grad_norm(s.params, s.n_params) == 0);
        assert_int_equal(told, s.n_params);
        kv_slices_free(slices);
    }
    setting_free(&s);
}

// y = x, whose backward adds to the gradient of a parameter that its record does not name.
struct hidden_weight {
    kv_param *w;
    bool rows;
};

static void lie_backward(kv_tape *tape, const kv_record *r) {
    static const int32_t id = 1;
    static const float row[2] = {1, 1};
    const struct hidden_weight *hidden = r->saved;
    float beta, *dx = kv_tape_grad(tape, r->in[0], &beta), *dw = NULL;
    memcpy(dx, r->out->grad, (size_t)(r->out->rows * r->out->cols) * sizeof *dx);
    if (hidden->rows)
        kv_tape_add_rows(tape, hidden->w, &id, 1, row);
    else
        dw = kv_tape_param_grad(tape, hidden->w, &beta);
    if (dw) dw[0] += 1;
}

static kv_tensor *lie(kv_tape *tape, kv_tensor *x, kv_param *w, bool rows) {
    kv_tensor *y = kv_tape_tensor(tape, x->rows, x->cols);
    memcpy(y->data, x->data, (size_t)(x->rows * x->cols) * sizeof *x->data);
    kv_record *r = kv_tape_record(tape, lie_backward, y, sizeof(struct hidden_weight));
    r->in[0] = x;
    *(struct hidden_weight *)r->saved = (struct hidden_weight){w, rows};
    return y;
}

// As a layer that is run again, and does not say what of.
static void region(kv_tape *tape, const void *what, kv_tensor *const *in, kv_tensor **out) {
    out[0] = kv_linear(tape, in[0], *(kv_param *const *)what, NULL);
}

static kv_tensor *run_again(kv_tape *tape, kv_tensor *x, kv_param *w, bool named) {
    kv_recompute r = {.run = region, .what = &w, .what_size = sizeof w, .in = {x}};
    r.out[0] = kv_tape_tensor(tape, x->rows, x->cols);
    if (named) r.weights = &w, r.n_weights = 1;
    assert_true(kv_recompute_run(tape, &r, true));
    return r.out[0];
}

enum { NOT_NAMED, ROWS_NOT_NAMED, REGION_NOT_NAMED, REGION_NAMED, N_CASES };

// E[0] through what is under test with w, then through a product with w, which says so.
static kv_tensor *network(kv_tape *tape, kv_param *e, kv_param *w, kv_param *last, int kind) {
    static const int32_t id = 0;
    kv_tensor *x = kv_embedding(tape, e, &id, 1);
    x = kind <= ROWS_NOT_NAMED ? lie(tape, x, w, kind == ROWS_NOT_NAMED)
                               : run_again(tape, x, w, kind == REGION_NAMED);
    return kv_linear(tape, kv_linear(tape, x, w, NULL), last, NULL);
}

// Whether the pass goes through; w's gradient is left in found[4].
static kv_status pass(kv_param **params, int kind, kv_tape *tape, float *found, kv_error *err) {
    kv_tape_reset(tape);
    kv_grad_zero(params, 3);
    const kv_status status =
        kv_tape_backward(tape, network(tape, params[0], params[1], params[2], kind), err);
    memcpy(found, params[1]->grad, 4 * sizeof *found);
    return status;
}

static void expect_found_out(kv_param **params, int kind) {
    kv_error err = {0};
    float found[4], all[4];
    int64_t told = 0;
    kv_tape *tape = kv_tape_create();
    const kv_grad_watcher watcher = {params, 3, count_ready, NULL, &told};
    kv_tape_set_watcher(tape, &watcher);
    const bool named = kind == REGION_NAMED;
    assert_int_equal(pass(params, kind, tape, found, &err), named ? KV_OK : KV_ERR_ARGUMENT);
    assert_int_equal(told, named ? 3 : 2); // of the last weight and of w, but not of e
    if (!named) assert_non_null(strstr(err.message, "the gradient of w "));
    // Unwatched it is added as ever, also after a failure; watched it was not.
    kv_tape_set_watcher(tape, NULL);
    if (pass(params, kind, tape, all, &err) != KV_OK) fail_msg("%s", err.message);
    assert_true(named == (memcmp(found, all, sizeof all) == 0));
    assert_int_equal(told, named ? 3 : 2);
    kv_tape_free(tape);
}

static void test_guard(void **state) {
    (void)state;
    for (int kind = 0; kind < N_CASES; kind++) {
        kv_param e = test_param("e", 3, 2, KV_F32, true), w = test_param("w", 2, 2, KV_F32, true),
                 last = test_param("last", 1, 2, KV_F32, true);
        test_fill(e.data, 6, 1, 1), test_fill(w.data, 4, 2, 1), test_fill(last.data, 2, 3, 1);
        expect_found_out((kv_param *[]){&e, &w, &last}, kind);
        test_param_free(&e), test_param_free(&w), test_param_free(&last);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_model),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_model_that_runs_twice),
        cmocka_unit_test(test_predictor_parts),
        cmocka_unit_test(test_order_of_a_pair),
        cmocka_unit_test(test_no_sequences),
        cmocka_unit_test(test_guard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
