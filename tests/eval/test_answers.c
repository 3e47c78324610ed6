// Answers of the benchmarks that generate text, with a stand-in for the model: where they end, what of them
// is recorded, and that every token is decoded a bounded number of times.
#include "tests/support/eval.h"
#include "tests/support/sandbox.h"

#include "data/checkpoint/checkpoint.h"
#include "eval/benchmark/benchmark.h"
#include "infer/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SEQ = 5, MAX_TOKENS = 600, EOS = 2 };

// ---- The stand-ins -------------------------------------------------------------------------------------

// What "the model" says: the tokens of sequence s, then their end over and over again.
static int32_t *said[N_SEQ];
static int64_t n_said[N_SEQ], n_taken[N_SEQ];

kv_status __wrap_kv_generate_in_turn(kv_session *session, const kv_prompts *prompts, const kv_generation *how,
                                     kv_answers *answers, kv_error *err);
kv_status __wrap_kv_generate_in_turn(kv_session *session, const kv_prompts *prompts, const kv_generation *how,
                                     kv_answers *answers, kv_error *err) {
    (void)session;
    const int64_t n_seq = prompts->n;
    assert_true(n_seq <= N_SEQ);
    bool stopped[N_SEQ] = {0};
    for (int64_t i = 0; i < how->max_tokens; i++)
        for (int64_t at = 0; at < n_seq; at++) { // token by token, all sequences in turn
            const int64_t s = prompts->order[at];
            int32_t *row = answers->generated + s * how->max_tokens;
            if (stopped[s]) continue;
            row[i] = i < n_said[s] ? said[s][i] : EOS;
            n_taken[s] = answers->n_generated[s] = i + 1;
            kv_status status = how->stop(how->context, s, row, i + 1, &stopped[s], err);
            if (status != KV_OK) return status;
        }
    return KV_OK;
}

static int64_t n_decoded; // tokens that went through decoding

kv_status __real_kv_tokenizer_decode(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                     char **text, size_t *length, kv_error *err);
kv_status __wrap_kv_tokenizer_decode(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                     char **text, size_t *length, kv_error *err);
kv_status __wrap_kv_tokenizer_decode(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                     char **text, size_t *length, kv_error *err) {
    n_decoded += n;
    return __real_kv_tokenizer_decode(tokenizer, ids, n, text, length, err);
}

kv_status __real_kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                        char **text, size_t *length, kv_error *err);
kv_status __wrap_kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                        char **text, size_t *length, kv_error *err);
kv_status __wrap_kv_decode_continuation(const kv_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                        char **text, size_t *length, kv_error *err) {
    n_decoded += n;
    return __real_kv_decode_continuation(tokenizer, ids, n, text, length, err);
}

// ---- A benchmark of each kind --------------------------------------------------------------------------

static kv_system tiny_system;
static kv_tokenizer *tokenizers[2]; // SentencePiece with byte pieces; byte-level, which hands bytes out

static int set_up(void **state) {
    test_dir_set_up(state);
    test_make_family(test_dir, MAX_TOKENS + 100);
    assert_int_equal(kv_tokenizer_open(test_path(test_dir, "tokenizer.model"), &tokenizers[0], NULL), KV_OK);
    assert_int_equal(kv_tokenizer_open(test_fixture("fixtures/tokenizers/gpt-2"), &tokenizers[1], NULL),
                     KV_OK);
    assert_int_equal(kv_checkpoint_load(test_path(test_dir, "base"), &tiny_system.base, NULL), KV_OK);
    assert_int_equal(tiny_system.base->spec.eos_id, EOS);
    FILE *problems = fopen(test_path(test_dir, "problems.jsonl"), "w");
    assert_non_null(problems);
    for (int i = 0; i < N_SEQ; i++)
        fprintf(problems,
                "{\"task_id\": \"t/%d\", \"prompt\": \"#\", \"entry_point\": \"f\", "
                "\"canonical_solution\": \"\", \"test\": \"\"}\n",
                i);
    assert_int_equal(fclose(problems), 0);
    return 0;
}

static int tear_down(void **state) {
    for (int i = 0; i < 2; i++) kv_tokenizer_free(tokenizers[i]);
    kv_model_free(tiny_system.base);
    return test_dir_tear_down(state);
}

// texts[N_SEQ] as answers, tokens as the tokenizer makes them, to all items of a task. records[N_SEQ].
static void answer(const char *kind, const kv_tokenizer *tokenizer, const char *const *texts,
                   json_t **records) {
    kv_error err = {0};
    kv_benchmark *benchmark;
    char name[] = "made up", split[] = "test", file[300];
    snprintf(file, sizeof file, "%s",
             test_path(test_dir, strcmp(kind, "humaneval") ? "questions_trained.jsonl" : "problems.jsonl"));
    const kv_eval_task config = {.name = name,
                                 .split = split,
                                 .kind = (char *)kind,
                                 .file = file,
                                 .limit = N_SEQ,
                                 .max_tokens = MAX_TOKENS,
                                 .samples = 1,
                                 .timeout = 20};
    for (int s = 0; s < N_SEQ; s++)
        if (kv_tokenizer_encode(tokenizer, texts[s], strlen(texts[s]), &said[s], &n_said[s], &err))
            fail_msg("%s", err.message);
    if (kv_benchmark_create(&config, &(kv_prompting){.tokenizer = tokenizer}, 1, &benchmark, &err))
        fail_msg("%s", err.message);
    kv_asking asking = {
        .system = &tiny_system, .tokenizer = tokenizer, .seed = 7, .unsafe_execution = !test_bwrap_works()};
    n_decoded = 0;
    if (benchmark->ops->answer(benchmark, &asking, 0, N_SEQ, records, &err)) fail_msg("%s", err.message);
    kv_session_free(asking.session);
    kv_benchmark_free(benchmark);
}

static void done(json_t **records) {
    kv_records_free(records, N_SEQ);
    for (int s = 0; s < N_SEQ; s++) free(said[s]);
}

// Tokens up to the first whose text, with that of all before it, holds one of the stops; or the end.
static int64_t expected_tokens(const kv_tokenizer *tokenizer, int64_t s, const char *const *stops) {
    for (int64_t n = 1; n <= n_said[s]; n++) {
        char *text;
        size_t length;
        bool found = false;
        assert_int_equal(kv_decode_continuation(tokenizer, said[s], n, &text, &length, NULL), KV_OK);
        for (int i = 0; stops[i]; i++) found = found || strstr(text, stops[i]);
        free(text);
        if (found) return n;
    }
    return n_said[s] < MAX_TOKENS ? n_said[s] + 1 : MAX_TOKENS;
}

// ---- Tests ---------------------------------------------------------------------------------------------

static void answers_end_with_the_token_that_completes_a_stop(void **state) {
    (void)state;
    static const char *const trivia_stops[] = {"\n", ".", ",", NULL};
    static const char *const code_stops[] = {"\nclass", "\ndef", "\n#", "\nif", "\nprint", NULL};
    static const struct {
        const char *kind, *key, *said[N_SEQ], *recorded[N_SEQ];
    } cases[] = {{"triviaqa",
                  "generation",
                  {" Saint Kitts\nQuestion: Which", " Nguy\xE1\xBB\x85n, or else",
                   " \xE4\xB8\xAD\xE5\x9B\xBD.", " no end in sight", ""},
                  {"Saint Kitts", "Nguy\xE1\xBB\x85n", "\xE4\xB8\xAD\xE5\x9B\xBD", "no end in sight", ""}},
                 {"humaneval",
                  "completion",
                  {" x\nprintf\n", " \xC3\xA9\n\ndefine", "\n    if x:\nif \xF0\x9F\x98\x80", " x\n  if y\n",
                   "\nclass"},
                  {" x", " \xC3\xA9\n", "\n    if x:", " x\n  if y\n", ""}}};
    for (int c = 0; c < 2; c++)
        for (int t = 0; t < 2; t++) {
            json_t *records[N_SEQ];
            answer(cases[c].kind, tokenizers[t], cases[c].said, records);
            for (int s = 0; s < N_SEQ; s++) {
                assert_string_equal(json_string_value(json_object_get(records[s], cases[c].key)),
                                    cases[c].recorded[s]);
                assert_int_equal(n_taken[s],
                                 expected_tokens(tokenizers[t], s, c ? code_stops : trivia_stops));
            }
            done(records);
        }
}

// Ten times as long is ten times the work, not a hundred times.
static void long_answers_are_decoded_once(void **state) {
    (void)state;
    static char text[5 * MAX_TOKENS + 1];
    for (int i = 0; i < 5 * MAX_TOKENS; i++) text[i] = "o \xC3\xA9-"[i % 5];
    const char *const texts[N_SEQ] = {text, text, text, text, text};
    static const char *const kinds[] = {"triviaqa", "humaneval"};
    for (int k = 0; k < 2; k++)
        for (int t = 0; t < 2; t++) {
            json_t *records[N_SEQ];
            answer(kinds[k], tokenizers[t], texts, records);
            int64_t taken = 0;
            for (int s = 0; s < N_SEQ; s++) taken += n_taken[s];
            assert_int_equal(taken, N_SEQ * MAX_TOKENS);
            // Each token when it comes, a few of them again with the next, and the whole once.
            assert_in_range(n_decoded, taken, 5 * taken);
            done(records);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_end_with_the_token_that_completes_a_stop),
        cmocka_unit_test(long_answers_are_decoded_once),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
