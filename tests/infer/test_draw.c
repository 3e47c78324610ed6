// Documents drawn from a model: what each is, that company, threads and batches change none of its tokens, that tokens
// come as often as the model says, and that what it costs is what it was said to cost.
#include "core/gemm.h"
#include "infer/draw.h"
#include "infer/session/engine.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOS = 1, EOS = 2, VOCABULARY = 61, MOST = 400, LONG = 24 };

static const int32_t bos = BOS;

// What was handed on.
struct drawn {
    int64_t first, n, wanted; // documents; 0: as many as are drawn
    int64_t between;          // one document and the next: so many that are not drawn
    int32_t ids[MOST][LONG];
    int64_t lengths[MOST];
};

static kv_status keep(void *context, int64_t number, const int32_t *ids, int64_t n, bool *enough,
                      kv_error *err) {
    struct drawn *d = context;
    (void)err;
    assert_true(d->n < MOST && n >= 1 && n <= LONG);
    assert_int_equal(number, d->first + d->n * (1 + d->between)); // in their order
    memcpy(d->ids[d->n], ids, (size_t)n * sizeof *ids);
    d->lengths[d->n++] = n;
    *enough = d->n == d->wanted;
    return KV_OK;
}

// Where it is asked, products are batch-invariant, and all is one thread's. (No assertion jumps out of a thread.)
static bool otherwise;
static bool always(void *context, int64_t n_tokens) {
    (void)context;
    (void)n_tokens;
    if (!kv_gemm_batch_invariant(true) || omp_get_max_threads() != 1) otherwise = true;
    return true;
}

static struct drawn *draw_on(const kv_document_plan *plan, int64_t first, int64_t n, int64_t batch,
                             int threads) {
    struct drawn *d = test_alloc(1, sizeof *d);
    kv_error err = {0};
    d->first = first;
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    if (kv_draw_documents(plan, first, 1, n, batch, keep, always, d, &err)) fail_msg("%s", err.message);
    omp_set_num_threads(before);
    assert_int_equal(d->n, n);
    assert_false(otherwise);
    assert_false(kv_gemm_batch_invariant(false)); // as it was
    return d;
}

static kv_document_plan plan_of(kv_model *model) {
    return (kv_document_plan){.model = model,
                              .sampling = {.temperature = 1.5, .top_p = 1, .seed = 5},
                              .opening = &bos,
                              .n_opening = 1,
                              .max_tokens = LONG,
                              .n_ids = VOCABULARY,
                              .next = BOS,
                              .closing = -1};
}

// Widths that fill no vector, and leave rows at odd places.
static kv_model *odd_model(kv_dtype dtype) {
    kv_model_spec spec = tiny_base();
    spec.model_dim = 22, spec.head_dim = 6;
    spec.layers[0].ffn_dim = 37;
    spec.qkv_bias = true;
    kv_model *model = tiny_model(&spec, 7), *narrow;
    if (dtype == KV_F32) return model;
    kv_param *from[64 * 12], *to[64 * 12];
    assert_int_equal(kv_model_create(&spec, dtype, true, &narrow, NULL), KV_OK);
    const int64_t n = kv_model_params(model, from);
    assert_int_equal(kv_model_params(narrow, to), n);
    for (int64_t i = 0; i < n; i++)
        if (from[i]->data) kv_narrow(to[i]->data, from[i]->data, dtype, kv_param_size(from[i]));
    kv_model_free(model);
    return narrow;
}

// ---- What a document is --------------------------------------------------------------------------------

// One document as its definition says, token by token.
static int64_t draw_alone(const kv_document_plan *plan, int64_t number, int32_t *ids) {
    const kv_system system = {.base = plan->model};
    kv_session *session;
    float logits[VOCABULARY];
    kv_token_candidate room[VOCABULARY];
    int64_t n = plan->n_opening, all = plan->n_before + plan->max_tokens;
    int32_t sequence[LONG + 8];
    memcpy(sequence, plan->opening, (size_t)n * sizeof *sequence);
    assert_int_equal(kv_session_create(&system, 1, LONG + 8, &session, NULL), KV_OK);
    const bool before = kv_gemm_batch_invariant(true);
    omp_set_num_threads(1);
    for (int64_t read = 0; n < all; read++) {
        assert_int_equal(kv_session_decode(session, &sequence[read], NULL, logits, NULL), KV_OK);
        if (read + 1 < n) continue;
        const int32_t id = kv_sample(logits, plan->n_ids, &plan->sampling, (uint64_t)number,
                                     (uint64_t)(n - plan->n_before), room);
        if (id == plan->next) break;
        sequence[n++] = id;
        if (id == EOS) break;
    }
    omp_set_num_threads(2);
    kv_gemm_batch_invariant(before);
    kv_session_free(session);
    n -= plan->n_before;
    memcpy(ids, sequence + plan->n_before, (size_t)n * sizeof *ids);
    return n;
}

static void test_as_defined(void **state) {
    (void)state;
    kv_model_spec spec = tiny_base();
    kv_model *model = tiny_model(&spec, 1);
    static const int32_t two[] = {EOS, 7, 9};
    kv_document_plan plans[3] = {plan_of(model), plan_of(model), plan_of(model)};
    plans[1].opening = two, plans[1].n_opening = 3, plans[1].n_before = 1, plans[1].next = -1; // no BOS
    plans[2].sampling.top_p = 0.8, plans[2].n_ids = 40, plans[2].max_tokens = 3;
    int64_t ended = 0, cut = 0, shortened = 0;
    for (int p = 0; p < 3; p++) {
        struct drawn *d = draw_on(&plans[p], 3, 150, 32, 2);
        for (int64_t i = 0; i < d->n; i++) {
            int32_t ids[LONG];
            assert_int_equal(draw_alone(&plans[p], 3 + i, ids), d->lengths[i]);
            assert_memory_equal(ids, d->ids[i], (size_t)d->lengths[i] * sizeof *ids);
            assert_int_equal(ids[0], p == 1 ? 7 : BOS);
            const int32_t last = ids[d->lengths[i] - 1];
            if (last == EOS)
                ended++;
            else if (d->lengths[i] == plans[p].max_tokens)
                cut++;
            else
                shortened++; // where the next would have begun
        }
        free(d);
    }
    assert_true(ended > 20 && cut > 20 && shortened > 20);
    kv_model_free(model);
}

// What ranks draw, each its own of all: the same documents.
static void test_every_third(void **state) {
    (void)state;
    kv_model_spec spec = tiny_base();
    kv_model *model = tiny_model(&spec, 1);
    const kv_document_plan plan = plan_of(model);
    struct drawn *all = draw_on(&plan, 5, 100, 16, 2);
    for (int64_t r = 0; r < 3; r++) {
        struct drawn *d = test_alloc(1, sizeof *d);
        d->first = 5 + r, d->between = 2;
        assert_int_equal(kv_draw_documents(&plan, d->first, 3, 33, 7, keep, always, d, NULL), KV_OK);
        assert_int_equal(d->n, 33);
        for (int64_t i = 0; i < d->n; i++) {
            assert_int_equal(d->lengths[i], all->lengths[3 * i + r]);
            assert_memory_equal(d->ids[i], all->ids[3 * i + r], (size_t)d->lengths[i] * sizeof(int32_t));
        }
        free(d);
    }
    free(all);
    kv_model_free(model);
}

static void test_other_ends(void **state) {
    (void)state;
    kv_model_spec spec = tiny_base();
    spec.stop_ids[0] = 11, spec.n_stop_ids = 1;
    kv_model *model = tiny_model(&spec, 1);
    static const int32_t more[] = {13, 14};
    kv_document_plan plan = plan_of(model);
    plan.ends = more, plan.n_ends = 2, plan.closing = 33, plan.max_tokens = 12;
    struct drawn *d = draw_on(&plan, 0, MOST, 10, 2);
    int64_t by[VOCABULARY] = {0};
    for (int64_t i = 0; i < d->n; i++) {
        const int64_t n = d->lengths[i];
        for (int64_t t = 1; t < n; t++) {
            const int32_t id = d->ids[i][t];
            assert_true(id != BOS);
            const bool end = id == EOS || id == 11 || id == 13 || id == 14;
            if (t < n - 1) assert_false(end);
            if (t == n - 1) by[id]++;
        }
        if (n == 12) assert_int_equal(d->ids[i][11], 33); // whatever the model would have drawn
    }
    assert_true(by[EOS] > 5 && by[11] > 5 && by[13] > 5 && by[14] > 5 && by[33] > 5);
    free(d);
    kv_model_free(model);
}

// ---- Nobody's business but its own ---------------------------------------------------------------------

static void test_company_changes_nothing(void **state) {
    (void)state;
    static const struct {
        int64_t first, n, batch;
        int threads;
    } ways[] = {{0, 120, 1, 1},  {0, 120, 2, 2},   {0, 120, 5, 2}, {0, 120, 37, 1},
                {0, 120, 64, 3}, {0, 120, 500, 2}, {17, 60, 7, 2}, {119, 1, 64, 2}};
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
        kv_model *model = odd_model(dtype);
        kv_document_plan plan = plan_of(model);
        struct drawn *whole = draw_on(&plan, 0, 120, 40, 2);
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            struct drawn *d = draw_on(&plan, ways[w].first, ways[w].n, ways[w].batch, ways[w].threads);
            for (int64_t i = 0; i < d->n; i++) {
                const int64_t at = ways[w].first + i;
                assert_int_equal(d->lengths[i], whole->lengths[at]);
                assert_memory_equal(d->ids[i], whole->ids[at], (size_t)d->lengths[i] * sizeof(int32_t));
            }
            free(d);
        }
        // Another seed, another text.
        plan.sampling.seed++;
        struct drawn *other = draw_on(&plan, 0, 120, 40, 2);
        int64_t same = 0;
        for (int64_t i = 0; i < 120; i++)
            same += other->lengths[i] == whole->lengths[i] &&
                    !memcmp(other->ids[i], whole->ids[i], (size_t)whole->lengths[i] * sizeof(int32_t));
        assert_true(same < 20); // the short ones
        free(other);
        free(whole);
        kv_model_free(model);
    }
}

// A draw seldom hangs on the last bit of a logit, so these are compared themselves: of sequences alone, among others at
// other places, and read in one piece.
static void test_logits_bit_by_bit(void **state) {
    (void)state;
    enum { N = 40, LENGTH = 13, WATCHED = 17 };
    int32_t ids[N * LENGTH], newest[N];
    int64_t lengths[N];
    tiny_ids(ids, N * LENGTH, VOCABULARY, 9);
    const bool before = kv_gemm_batch_invariant(true);
    omp_set_num_threads(1);
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
        kv_model *model = odd_model(dtype);
        float together[N * VOCABULARY], alone[VOCABULARY];
        kv_session *all, *one;
        assert_int_equal(kv_session_create(&(kv_system){.base = model}, N, LENGTH + 4, &all, NULL), KV_OK);
        assert_int_equal(kv_session_create(&(kv_system){.base = model}, 1, LENGTH, &one, NULL), KV_OK);
        for (int64_t t = 0; t < LENGTH; t++) { // some take a token more than others
            bool active[N];
            for (int64_t s = 0; s < N; s++) newest[s] = ids[s * LENGTH + t], active[s] = t > 0 || s % 3 != 1;
            assert_int_equal(kv_session_decode(all, newest, active, together, NULL), KV_OK);
            assert_int_equal(kv_session_decode(one, &ids[WATCHED * LENGTH + t], NULL, alone, NULL), KV_OK);
            if (t == 0) kv_session_forget(all, 5);
            assert_memory_equal(alone, together + (int64_t)WATCHED * VOCABULARY, sizeof alone);
        }
        kv_session_reset(all);
        for (int64_t s = 0; s < N; s++) lengths[s] = LENGTH;
        assert_int_equal(kv_session_prefill(all, ids, lengths, together, NULL), KV_OK);
        kv_session_reset(one);
        assert_int_equal(kv_session_prefill(one, ids + (int64_t)WATCHED * LENGTH, lengths, alone, NULL),
                         KV_OK);
        assert_memory_equal(alone, together + (int64_t)WATCHED * VOCABULARY, sizeof alone);
        kv_session_free(all);
        kv_session_free(one);
        kv_model_free(model);
    }
    omp_set_num_threads(2);
    kv_gemm_batch_invariant(before);
}

// ---- Frequencies ---------------------------------------------------------------------------------------

// 99.9th percentile of χ² with k degrees of freedom.
//                                                                              [Wilson & Hilferty 1931]
static double bound(int64_t k) {
    const double c = 2.0 / (9.0 * (double)k), z = 3.0902;
    return (double)k * pow(1 - c + z * sqrt(c), 3);
}

// χ² of counts[VOCABULARY] of n draws against softmax(logits / temperature); tokens of fewer than five expected count
// as one.
static void expect_frequencies(const int64_t *counts, int64_t n, const float *logits, double temperature) {
    double p[VOCABULARY], total = 0, sum = 0, rare = 0;
    int64_t cells = 0, seen = 0;
    for (int i = 0; i < VOCABULARY; i++) total += p[i] = exp((double)logits[i] / temperature);
    for (int i = 0; i < VOCABULARY; i++) {
        const double expected = p[i] / total * (double)n, off = (double)counts[i] - expected;
        if (expected < 5) {
            rare += expected, seen += counts[i];
            continue;
        }
        sum += off * off / expected;
        cells++;
    }
    if (rare >= 5) sum += ((double)seen - rare) * ((double)seen - rare) / rare, cells++;
    assert_true(cells > 4);
    if (sum > bound(cells - 1))
        fail_msg("temperature %g: chi-square %g of %d cells", temperature, sum, (int)cells);
}

struct counts {
    int64_t first[VOCABULARY], second[VOCABULARY][VOCABULARY], n;
};

static kv_status count_pairs(void *context, int64_t number, const int32_t *ids, int64_t n, bool *enough,
                             kv_error *err) {
    struct counts *c = context;
    (void)number, (void)enough, (void)err;
    c->n++;
    c->first[n > 1 ? ids[1] : BOS]++; // one that the next document would have begun behind
    if (n > 1 && ids[1] != EOS) c->second[ids[1]][n > 2 ? ids[2] : BOS]++;
    return KV_OK;
}

static void test_frequencies(void **state) {
    (void)state;
    enum { N = 6000 };
    kv_model_spec spec = tiny_base();
    kv_model *model = tiny_model(&spec, 1);
    static const double temperatures[] = {0.5, 1, 2};
    for (int t = 0; t < 3; t++) {
        kv_document_plan plan = plan_of(model);
        plan.sampling.temperature = temperatures[t], plan.max_tokens = 3;
        struct counts *c = test_alloc(1, sizeof *c);
        assert_int_equal(kv_draw_documents(&plan, 0, 1, N, 64, count_pairs, always, c, NULL), KV_OK);
        assert_int_equal(c->n, N);
        // The first token, and the second behind the most frequent first one.
        kv_session *session;
        float logits[VOCABULARY];
        assert_int_equal(kv_session_create(&(kv_system){.base = model}, 1, 4, &session, NULL), KV_OK);
        assert_int_equal(kv_session_decode(session, &bos, NULL, logits, NULL), KV_OK);
        expect_frequencies(c->first, N, logits, temperatures[t]);
        int32_t best = 3;
        for (int32_t i = 3; i < VOCABULARY; i++) best = c->first[i] > c->first[best] ? i : best;
        assert_int_equal(kv_session_decode(session, &best, NULL, logits, NULL), KV_OK);
        expect_frequencies(c->second[best], c->first[best], logits, temperatures[t]);
        kv_session_free(session);
        free(c);
    }
    kv_model_free(model);
}

// ---- Ends of a run -------------------------------------------------------------------------------------

struct stops {
    int64_t taken, asked, fail_at, go_on;
};

static kv_status stop_taking(void *context, int64_t number, const int32_t *ids, int64_t n, bool *enough,
                             kv_error *err) {
    struct stops *s = context;
    (void)ids, (void)n, (void)enough;
    if (number == s->fail_at) return kv_fail(err, KV_ERR_IO, "no room");
    s->taken++;
    return KV_OK;
}

static bool stop_going(void *context, int64_t n_tokens) {
    struct stops *s = context;
    (void)n_tokens;
    return s->asked++ < s->go_on;
}

static void test_stopping(void **state) {
    (void)state;
    kv_model_spec spec = tiny_base();
    kv_model *model = tiny_model(&spec, 1);
    const kv_document_plan plan = plan_of(model);
    kv_error err = {0};
    struct drawn *d = test_alloc(1, sizeof *d);
    d->wanted = 33;
    assert_int_equal(kv_draw_documents(&plan, 0, 1, -1, 20, keep, always, d, &err), KV_OK);
    assert_int_equal(d->n, 33);
    free(d);
    struct stops s = {.fail_at = 12, .go_on = INT64_MAX};
    assert_int_equal(kv_draw_documents(&plan, 0, 1, -1, 20, stop_taking, stop_going, &s, &err), KV_ERR_IO);
    assert_string_equal(err.message, "no room");
    assert_int_equal(s.taken, 12);
    s = (struct stops){.fail_at = -1, .go_on = 400};
    assert_int_equal(kv_draw_documents(&plan, 0, 1, -1, 20, stop_taking, stop_going, &s, &err), KV_OK);
    assert_true(s.taken > 0 && s.asked == 401);
    assert_int_equal(kv_draw_documents(&plan, 0, 1, 0, 20, stop_taking, stop_going, &s, &err), KV_OK);
    kv_model_free(model);
}

static void test_refused(void **state) {
    (void)state;
    kv_model_spec spec = tiny_base();
    kv_model *model = tiny_model(&spec, 1);
    const kv_document_plan plan = plan_of(model);
    struct {
        kv_document_plan plan;
        kv_status status;
        const char *words;
    } cases[] = {
        {plan, KV_ERR_ARGUMENT, "top_p: found 2"},
        {plan, KV_ERR_ARGUMENT, "62 ids to draw from, expected at most the vocabulary's 61"},
        {plan, KV_ERR_ARGUMENT, "documents of 1 tokens, expected more than the 1 they begin with"},
        {plan, KV_ERR_RANGE, "documents of 65 tokens, expected at most the context of the model, 64"},
        {plan, KV_ERR_ARGUMENT, "needs a token that the model has read"},
    };
    cases[0].plan.sampling.top_p = 2;
    cases[1].plan.n_ids = 62;
    cases[2].plan.max_tokens = 1;
    cases[3].plan.max_tokens = 65;
    cases[4].plan.n_opening = 0;
    for (int i = 0; i < 5; i++) {
        kv_error err = {0};
        struct stops s = {.fail_at = -1};
        assert_int_equal(kv_draw_documents(&cases[i].plan, 0, 1, 9, 4, stop_taking, stop_going, &s, &err),
                         cases[i].status);
        if (!strstr(err.message, cases[i].words)) fail_msg("'%s' in '%s'", cases[i].words, err.message);
        assert_int_equal(s.asked + s.taken, 0);
    }
    // Nothing is drawn from what is no number.
    ((float *)model->norm.data)[3] = NAN;
    kv_error err = {0};
    struct stops s = {.fail_at = -1, .go_on = INT64_MAX};
    assert_int_equal(kv_draw_documents(&plan, 40, 1, 9, 1, stop_taking, stop_going, &s, &err),
                     KV_ERR_NOT_FINITE);
    if (!strstr(err.message, "document 40, token 1: the logits are not finite")) fail_msg("%s", err.message);
    assert_int_equal(s.taken, 0);
    kv_model_free(model);
}

// ---- What it costs -------------------------------------------------------------------------------------

static void test_flops(void **state) {
    (void)state;
    kv_model *model = odd_model(KV_F32);
    static const int32_t two[] = {EOS, 7, 9};
    kv_document_plan plans[2] = {plan_of(model), plan_of(model)};
    plans[1].opening = two, plans[1].n_opening = 3, plans[1].n_before = 1;
    for (int p = 0; p < 2; p++) {
        plans[p].next = -1; // every document ends with its last token
        kv_gemm_flops_reset();
        struct drawn *d = draw_on(&plans[p], 0, 50, 50, 2); // no place is taken again: none is begun in vain
        uint64_t expected = 0;
        for (int64_t i = 0; i < d->n; i++) expected += kv_document_flops(&plans[p], d->lengths[i]);
        assert_int_equal(kv_gemm_flops(), expected);
        free(d);
    }
    kv_model_free(model);
}

int main(void) {
    omp_set_num_threads(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_defined),
        cmocka_unit_test(test_every_third),
        cmocka_unit_test(test_other_ends),
        cmocka_unit_test(test_company_changes_nothing),
        cmocka_unit_test(test_logits_bit_by_bit),
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_flops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
