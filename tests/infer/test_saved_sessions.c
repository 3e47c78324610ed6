// What a session holds, saved in a file and loaded by another session, goes on with the same bits: with every part a
// predictor can be made of, behind prompts and behind answers. What does not fit is refused.
#include "data/prompt/saved_prompt.h"
#include "infer/session/engine.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCABULARY = 61, ROOM = 40, FIRST = 9, ANSWER = 3, SECOND = 6 };

static int32_t text[ROOM];

static void must(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

static kv_session *make_session(const kv_system *system, int64_t n_seq, int64_t capacity) {
    kv_session *session;
    kv_error err = {0};
    must(kv_session_create_turns(system, n_seq, capacity, &session, &err), &err);
    return session;
}

static void read_first(kv_session *session, float *logits) {
    kv_error err = {0};
    must(kv_session_prefill(session, text, (int64_t[]){FIRST}, logits, &err), &err);
    for (int i = 0; i < ANSWER; i++)
        must(kv_session_decode(session, &text[FIRST + i], NULL, logits, &err), &err);
}

static kv_saved_prompt *by_way_of_a_file(const kv_session *session) {
    char path[256];
    kv_error err = {0};
    kv_saved_prompt *prompt, *read;
    snprintf(path, sizeof path, "%s/prompt.h5", test_dir);
    must(kv_session_save(session, 0, &prompt, &err), &err);
    must(kv_saved_prompt_write(path, prompt, &err), &err);
    must(kv_saved_prompt_read(path, &read, &err), &err);
    kv_saved_prompt_free(prompt);
    return read;
}

// kept: how much of it is saved. In the other session it is the second of two sequences.
static void expect_the_same_of(const char *name, const kv_system *system, int64_t kept, int64_t more) {
    float logits[VOCABULARY], expected[VOCABULARY], found[2 * VOCABULARY];
    kv_error err = {0};
    kv_session *session = make_session(system, 1, ROOM), *other = make_session(system, 2, ROOM + 3);
    read_first(session, logits);
    kv_session_rewind(session, kept);
    kv_saved_prompt *prompt = by_way_of_a_file(session);
    assert_int_equal(prompt->n_rows, kept);
    assert_memory_equal(prompt->ids, text, (size_t)kept * sizeof *text);
    must(kv_session_load(other, 1, prompt, &err), &err);
    assert_int_equal(kv_session_length(other, 1), kept);
    assert_int_equal(kv_session_unread(other, 1), kv_session_unread(session, 0));
    must(kv_session_append(session, text + kept, &more, expected, &err), &err);
    must(kv_session_append(other, text + kept, (int64_t[]){0, more}, found, &err), &err);
    if (memcmp(found + VOCABULARY, expected, sizeof expected) != 0)
        fail_msg("%s, %d tokens: not what the session says that they were saved from", name, (int)kept);
    kv_saved_prompt_free(prompt);
    kv_session_free(session);
    kv_session_free(other);
}

static void expect_the_same(const char *name, const kv_system *system, int64_t kept) {
    expect_the_same_of(name, system, kept, SECOND);
    expect_the_same_of(name, system, kept, 1);
}

static void test_goes_on(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        test_made m = test_part_make(&test_parts[p]);
        const kv_system system = {.base = m.base, .aux = m.aux, .predictor = m.predictor};
        expect_the_same(test_parts[p].name, &system, FIRST + ANSWER);
        expect_the_same(test_parts[p].name, &system, FIRST - 1);
        expect_the_same(test_parts[p].name, &system, 1);
        if (p == 0) expect_the_same("a base alone", &(kv_system){.base = m.base}, FIRST + ANSWER);
        test_made_free(&m);
    }
}

static void refuse(kv_session *session, const kv_saved_prompt *prompt, kv_status expected, const char *part) {
    kv_error err = {0};
    assert_int_equal(kv_session_load(session, 0, prompt, &err), expected);
    if (!strstr(err.message, part)) fail_msg("expected %s\nfound    %s", part, err.message);
}

static void test_refusals(void **state) {
    (void)state;
    test_made m = test_part_make(&test_parts[4]),
              prefix = test_part_make(&(test_part){.name = "p", .prefix = 2});
    const kv_system system = {.base = m.base, .aux = m.aux, .predictor = m.predictor},
                    other = {.base = prefix.base, .aux = prefix.aux, .predictor = prefix.predictor},
                    alone = {.base = m.base}, aux = {.base = m.aux},
                    pruned = {.base = m.base, .pruning = {.kind = KV_PRUNE_RANDOM, .keep = 0.5}};
    float logits[VOCABULARY];
    kv_error err = {0};
    kv_saved_prompt *none, *prompt;
    kv_session *session = make_session(&system, 1, ROOM);
    assert_int_equal(kv_session_save(session, 0, &none, &err), KV_ERR_ARGUMENT);
    read_first(session, logits);
    prompt = by_way_of_a_file(session);
    const struct {
        const kv_system *system;
        int64_t room;
        kv_status status;
        const char *part;
    } others[] = {{&system, FIRST, KV_ERR_RANGE, "12 tokens does not fit the room for 9"},
                  {&other, ROOM, KV_ERR_MISMATCH, "layers of the aux are 1, expected 0"},
                  {&alone, ROOM, KV_ERR_MISMATCH, "layers of the aux are 1, expected 0"},
                  {&aux, ROOM, KV_ERR_MISMATCH, "layers of the base are 3, expected 2"},
                  {&pruned, ROOM, KV_ERR_ARGUMENT, "only a session for turns"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        kv_session *wrong = make_session(others[i].system, 1, others[i].room);
        refuse(wrong, prompt, others[i].status, others[i].part);
        assert_int_equal(kv_session_length(wrong, 0), 0);
        kv_session_free(wrong);
    }
    prompt->ids[3] = VOCABULARY;
    refuse(session, prompt, KV_ERR_MISMATCH, "token 3 has id 61");
    assert_int_equal(kv_session_length(session, 0), FIRST + ANSWER);
    kv_saved_prompt_free(prompt);
    kv_session_free(session);
    test_made_free(&m);
    test_made_free(&prefix);
}

static int setup(void **state) {
    tiny_ids(text, ROOM, VOCABULARY, 7);
    return test_dir_set_up(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_goes_on), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, setup, test_dir_tear_down);
}
