// Prompts that begin alike, answered from one reading of that beginning: with every part a predictor can be made of the
// same answers as without, in whatever places they join, for fewer products.
#include "core/gemm.h"
#include "infer/batching.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, PROMPTS = 7, SHARED = 12, LONGEST = SHARED + 8, STEPS = 6 };

static int32_t texts[PROMPTS][LONGEST];
static const int64_t lengths[PROMPTS] = {SHARED + 1, SHARED + 5, SHARED + 5, SHARED + 8,
                                         SHARED + 2, SHARED + 8, SHARED + 3};

static void must(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

static kv_saved_prompt *read_once(const kv_system *system) {
    kv_session *session;
    kv_saved_prompt *shared;
    float logits[VOCABULARY];
    kv_error err = {0};
    must(kv_session_create_turns(system, 1, SHARED + 1, &session, &err), &err);
    must(kv_session_prefill(session, texts[0], (int64_t[]){SHARED + 1}, logits, &err), &err);
    kv_session_rewind(session, SHARED);
    must(kv_session_save(session, 0, &shared, &err), &err);
    kv_session_free(session);
    return shared;
}

static kv_prompts all_prompts(int32_t *rows[PROMPTS]) {
    for (int i = 0; i < PROMPTS; i++) rows[i] = texts[i];
    return (kv_prompts){.ids = rows, .lengths = lengths, .n = PROMPTS};
}

// Products that it took.
static uint64_t answer(const kv_system *system, const kv_saved_prompt *shared, int64_t most,
                       int32_t *generated, int64_t *n_generated) {
    int32_t *rows[PROMPTS];
    const kv_prompts prompts = all_prompts(rows);
    const kv_batching batching = {.system = system, .most = most, .shared = shared};
    const kv_generation how = {.max_tokens = STEPS};
    kv_answers answers = {.generated = generated, .n_generated = n_generated};
    kv_session *session = NULL;
    kv_error err = {0};
    kv_gemm_flops_reset();
    for (int times = 0; times < 2; times++) // the second time in the session of the first
        must(kv_generate_batched(&batching, &session, &prompts, &how, &answers, &err), &err);
    kv_session_free(session);
    return kv_gemm_flops();
}

static void expect_the_same(const char *name, const kv_system *system) {
    static int32_t generated[2][PROMPTS * STEPS];
    int64_t n_generated[2][PROMPTS];
    kv_saved_prompt *shared = read_once(system);
    for (int64_t most = 1; most <= PROMPTS; most += 2) {
        const uint64_t alone = answer(system, NULL, most, generated[0], n_generated[0]),
                       from_one = answer(system, shared, most, generated[1], n_generated[1]);
        for (int i = 0; i < PROMPTS; i++) {
            assert_int_equal(n_generated[0][i], STEPS);
            assert_int_equal(n_generated[1][i], STEPS);
        }
        if (memcmp(generated[0], generated[1], sizeof generated[0]) != 0)
            fail_msg("%s, %d at a time: other answers", name, (int)most);
        assert_true(from_one < alone);
    }
    kv_saved_prompt_free(shared);
}

static void test_same_answers(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        test_made m = test_part_make(&test_parts[p]);
        const bool reads = test_parts[p].keys == NULL || strcmp(test_parts[p].keys, "embedding") != 0;
        const kv_system system = {.base = m.base, .aux = m.aux, .predictor = m.predictor};
        if (reads) expect_the_same(test_parts[p].name, &system);
        if (p == 0) expect_the_same("a base alone", &(kv_system){.base = m.base});
        test_made_free(&m);
    }
}

// A prompt that is no longer than what is shared has nothing left to read.
static void test_too_short(void **state) {
    (void)state;
    const kv_model_spec spec = tiny_base();
    kv_model *model = tiny_model(&spec, 1);
    const kv_system system = {.base = model};
    kv_saved_prompt *shared = read_once(&system);
    int32_t generated[STEPS], *row = texts[0];
    int64_t n_generated;
    const kv_prompts prompts = {.ids = &row, .lengths = (int64_t[]){SHARED}, .n = 1};
    const kv_batching batching = {.system = &system, .shared = shared};
    kv_answers answers = {.generated = generated, .n_generated = &n_generated};
    kv_session *session = NULL;
    kv_error err = {0};
    assert_int_equal(kv_generate_batched(&batching, &session, &prompts, &(kv_generation){.max_tokens = STEPS},
                                         &answers, &err),
                     KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "expected more than the 12 tokens that all share, found 12"));
    kv_session_free(session);
    kv_saved_prompt_free(shared);
    kv_model_free(model);
}

static int setup(void **state) {
    (void)state;
    for (int i = 0; i < PROMPTS; i++) {
        tiny_ids(texts[i], LONGEST, VOCABULARY, 20 + (uint64_t)i);
        memcpy(texts[i], texts[0], SHARED * sizeof **texts);
    }
    memcpy(texts[2], texts[1], sizeof texts[2]); // two are the same
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_answers), cmocka_unit_test(test_too_short)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
