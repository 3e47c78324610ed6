// The program kvrun as its users meet it, on a family of random models. KVRUN names the program.
#include "tests/support/kvrun.h"

#include "data/checkpoint/checkpoint.h"
#include "data/tokenizer/tokenizer.h"
#include "infer/cost.h"
#include "infer/generate.h"
#include "infer/ttft.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char question[] = "Question: In which country is Chaco?\nAnswer:";

// ---- Answers -------------------------------------------------------------------------------------------

struct expected {
    int32_t ids[CONTEXT], prompt[CONTEXT];
    int64_t n, n_prompt;
    char *text;
    uint64_t flops;
};

static kv_tokenizer *tokenizer;
static kv_system base_system, kvp_system, prefix_system;

// What the library makes of a prompt, with room for so many tokens.
static struct expected expect_within(const kv_system *system, const char *text, const kv_sampling *sampling,
                                     int64_t n, int64_t room) {
    kv_error error = {0};
    struct expected e = {.prompt = {1}};
    int32_t *ids;
    size_t length;
    kv_session *session;
    assert_int_equal(kv_tokenizer_encode(tokenizer, text, strlen(text), &ids, &e.n_prompt, &error), KV_OK);
    memcpy(e.prompt + 1, ids, (size_t)e.n_prompt++ * sizeof *ids);
    free(ids);
    const kv_generation how = {.max_tokens = n, .sampling = *sampling};
    assert_int_equal(kv_session_create(system, 1, room, &session, &error), KV_OK);
    assert_int_equal(kv_generate(session, e.prompt, &e.n_prompt, &how, e.ids, &e.n, &error), KV_OK);
    kv_session_free(session);
    for (int64_t i = 0; i < e.n; i++) // tests below are about answers that nothing ends
        assert_int_not_equal(e.ids[i], system->base->spec.eos_id);
    char *decoded;
    assert_int_equal(kv_decode_continuation(tokenizer, e.ids, e.n, &decoded, &length, &error), KV_OK);
    e.text = test_repaired(decoded, length, NULL);
    free(decoded);
    e.flops = kv_system_flops(system, e.n_prompt);
    return e;
}

static struct expected expect(const kv_system *system, const char *text, const kv_sampling *sampling,
                              int64_t n) {
    return expect_within(system, text, sampling, n, CONTEXT);
}

static void check_ids(const json_t *list, const int32_t *ids, int64_t n) {
    assert_int_equal(json_array_size(list), n);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(json_integer_value(json_array_get(list, (size_t)i)), ids[i]);
}

static void check_object(const json_t *object, const struct expected *e, const char *system,
                         const char *finish) {
    check_ids(json_object_get(object, "ids"), e->ids, e->n);
    assert_string_equal(json_string_value(json_object_get(object, "text")), e->text);
    assert_string_equal(json_string_value(json_object_get(object, "system")), system);
    assert_string_equal(json_string_value(json_object_get(object, "finish")), finish);
    assert_int_equal(json_integer_value(json_object_get(object, "flops_to_first_token")), e->flops);
    assert_true(json_real_value(json_object_get(object, "ttft_seconds")) > 0);
    assert_true(json_real_value(json_object_get(object, "tokens_per_second")) > 0);
}

static json_t *parsed(void) {
    json_error_t fault;
    json_t *object = json_loads(kvrun_out, 0, &fault);
    if (!object) fail_msg("%s in: %s", fault.text, kvrun_out);
    assert_int_equal(strchr(kvrun_out, '\n') - kvrun_out, strlen(kvrun_out) - 1); // one line
    return object;
}

static char *joined(const int32_t *ids, int64_t n) {
    static char text[12 * CONTEXT];
    *text = '\0';
    for (int64_t i = 0; i < n; i++) sprintf(text + strlen(text), i ? " %d" : "%d", ids[i]);
    return text;
}

static void answers_are_the_librarys(void **state) {
    (void)state;
    const kv_sampling greedy = {0},
                      drawn = {.temperature = 0.9, .top_p = 0.95, .seed = 7, .top_k = 40, .min_p = 0.01};
    for (int kvp = 0; kvp < 2; kvp++) {
        const kv_system *system = kvp ? &kvp_system : &base_system;
        for (int sampled = 0; sampled < 2; sampled++) {
            struct expected e = expect(system, question, sampled ? &drawn : &greedy, 20);
            const char *arguments[32] = {BASE, "-n", "20", question};
            int n = 7;
            if (kvp) {
                const char *const more[] = {"--aux", in_dir("aux"), "--predictor", in_dir("predictor")};
                memcpy(arguments + n, more, sizeof more), n += 4;
            }
            if (sampled) {
                static const char *const more[] = {"-T", "0.9",     "--top-p", "0.95",   "--top-k",
                                                   "40", "--min-p", "0.01",    "--seed", "7"};
                memcpy(arguments + n, more, sizeof more), n += 10;
            }
            assert_int_equal(kvrun_list(arguments), 0);
            assert_int_equal(strncmp(kvrun_out, e.text, strlen(e.text)), 0);
            assert_string_equal(kvrun_out + strlen(e.text), "\n");
            assert_non_null(
                strstr(kvrun_err, kvp ? "[KVP: first token after " : "[base: first token after "));
            assert_non_null(strstr(kvrun_err, "20 tokens, "));
            arguments[n] = "--json";
            assert_int_equal(kvrun_list(arguments), 0);
            assert_string_equal(kvrun_err, "");
            json_t *object = parsed();
            check_object(object, &e, kvp ? "kvp" : "base", "length");
            check_ids(json_object_get(object, "prompt_ids"), e.prompt, e.n_prompt);
            json_decref(object);
            arguments[n] = "--ids", arguments[n + 1] = "-q";
            assert_int_equal(kvrun_list(arguments), 0);
            assert_string_equal(kvrun_err, "");
            assert_int_equal(strncmp(kvrun_out, joined(e.ids, e.n), strlen(joined(e.ids, e.n))), 0);
            free(e.text);
        }
    }
}

// Words, a file, standard input and ids are the same prompt.
static void ways_to_give_a_prompt(void **state) {
    (void)state;
    const kv_sampling greedy = {0};
    struct expected e = expect(&base_system, question, &greedy, 8);
    char wanted[512], command[1024], with_newline[256];
    snprintf(wanted, sizeof wanted, "%s\n", e.text);
    snprintf(with_newline, sizeof with_newline, "%s\n", question);
    test_write_text(in_dir("prompt.txt"), with_newline);
    assert_int_equal(kvrun(BASE, "-n", "8", "--file", in_dir("prompt.txt")), 0);
    assert_string_equal(kvrun_out, wanted);
    assert_int_equal(kvrun(BASE, "-n", "8", "Question: In which", "country is Chaco?\nAnswer:"), 0);
    assert_string_equal(kvrun_out, wanted);
    assert_int_equal(kvrun(BASE, "-n", "8", "--prompt-ids", joined(e.prompt, e.n_prompt)), 0);
    assert_string_equal(kvrun_out, wanted);
    snprintf(command, sizeof command, "%s -q -b %s -t %s -n 8 <%s >%s", getenv("KVRUN"), in_dir("base"),
             in_dir("tokenizer.model"), in_dir("prompt.txt"), in_dir("said"));
    assert_int_equal(system(command), 0);
    char *said = test_read_text(in_dir("said"));
    assert_string_equal(said, wanted);
    free(said);
    // Without a tokenizer: ids in, ids out. --no-bos is about text.
    assert_int_equal(
        kvrun("-b", in_dir("base"), "-n", "8", "--ids", "--prompt-ids", joined(e.prompt, e.n_prompt)), 0);
    snprintf(wanted, sizeof wanted, "%s\n", joined(e.ids, e.n));
    assert_string_equal(kvrun_out, wanted);
    assert_int_equal(kvrun(BASE, "-n", "8", "--no-bos", "--json", question), 0);
    json_t *object = parsed();
    check_ids(json_object_get(object, "prompt_ids"), e.prompt + 1, e.n_prompt - 1);
    json_decref(object);
    // Only BOS.
    assert_int_equal(kvrun(BASE, "-n", "2", "--json", ""), 0);
    object = parsed();
    check_ids(json_object_get(object, "prompt_ids"), (const int32_t[]){1}, 1);
    json_decref(object);
    free(e.text);
}

// The base's own directory will do where it holds a tokenizer.
static void a_tokenizer_with_the_base(void **state) {
    (void)state;
    char from[128];
    snprintf(from, sizeof from, "%s", in_dir("tokenizer.model"));
    assert_int_equal(link(from, in_dir("base/tokenizer.model")), 0);
    assert_int_equal(kvrun("-b", in_dir("base"), "-n", "2", question), 0);
    unlink(in_dir("base/tokenizer.model"));
}

// Wherever an answer is stopped, what is shown is the text up to there and no byte more.
static void stop_strings(void **state) {
    (void)state;
    const kv_sampling greedy = {0};
    struct expected e = expect(&base_system, question, &greedy, 24);
    const size_t length = strlen(e.text);
    for (size_t from = 1; from + 5 < length; from += 4) {
        char stop[6] = "", wanted[1024];
        memcpy(stop, e.text + from, 5);
        if (((unsigned char)stop[0] & 0xC0) == 0x80 || ((unsigned char)e.text[from + 5] & 0xC0) == 0x80)
            continue;
        snprintf(wanted, sizeof wanted, "%.*s\n", (int)(strstr(e.text, stop) - e.text), e.text);
        assert_int_equal(kvrun(BASE, "-n", "24", "--stop", "never there", "--stop", stop, question), 0);
        assert_string_equal(kvrun_out, wanted);
        assert_non_null(strstr(kvrun_err, "ended by stop"));
    }
    // Held back to the end because it might have been one.
    char stop[64];
    snprintf(stop, sizeof stop, "%.5s and more", e.text + length - 5);
    assert_int_equal(kvrun(BASE, "-n", "24", "--stop", stop, question), 0);
    assert_int_equal(strncmp(kvrun_out, e.text, length), 0);
    assert_non_null(strstr(kvrun_err, "ended by length"));
    free(e.text);
}

static void write_config(const char *name, const char *key, int value) {
    json_t *config = json_load_file(test_path(in_dir(name), "config.json"), 0, NULL);
    assert_non_null(config);
    json_object_set_new(config, key, json_integer(value));
    assert_int_equal(json_dump_file(config, test_path(in_dir(name), "config.json"), 0), 0);
    json_decref(config);
}

static void ways_to_end(void **state) {
    (void)state;
    const kv_sampling greedy = {0};
    struct expected e = expect(&base_system, question, &greedy, 24);
    int64_t at = 5; // a token that comes here for the first time becomes EOS
    for (bool again = true; again; at += again) {
        again = false;
        for (int64_t i = 0; i < at; i++) again = again || e.ids[i] == e.ids[at];
    }
    write_config("base", "eos_token_id", e.ids[at]);
    assert_int_equal(kvrun(BASE, "-n", "24", "--json", question), 0);
    write_config("base", "eos_token_id", 2);
    json_t *object = parsed();
    check_ids(json_object_get(object, "ids"), e.ids, at);
    assert_string_equal(json_string_value(json_object_get(object, "finish")), "eos");
    json_decref(object);
    // The context: room for three tokens behind the prompt, and one more that is not read any more.
    char room[24];
    snprintf(room, sizeof room, "%d", (int)e.n_prompt + 3);
    assert_int_equal(kvrun(BASE, "-n", "24", "--context", room, "--json", question), 0);
    object = parsed();
    check_ids(json_object_get(object, "ids"), e.ids, 4);
    assert_string_equal(json_string_value(json_object_get(object, "finish")), "context");
    json_decref(object);
    snprintf(room, sizeof room, "%d", (int)e.n_prompt);
    assert_int_equal(kvrun(BASE, "-n", "99999999999", "--context", room, "--json", question), 0);
    object = parsed();
    check_ids(json_object_get(object, "ids"), e.ids, 1);
    assert_true(json_is_null(json_object_get(object, "tokens_per_second")));
    json_decref(object);
    free(e.text);
}

// With ids for a prompt and an object for the answer there are no words, and so nothing to make them with.
static void objects_without_words(void **state) {
    (void)state;
    const kv_sampling greedy = {0};
    struct expected e = expect(&base_system, question, &greedy, 8);
    const char *ids = joined(e.prompt, e.n_prompt);
    for (int with_ids = 0; with_ids < 2; with_ids++) {
        assert_int_equal(
            kvrun("-b", in_dir("base"), "-n", "8", "--prompt-ids", ids, "--json", with_ids ? "--ids" : NULL),
            0);
        assert_string_equal(kvrun_err, "");
        json_t *object = parsed();
        check_ids(json_object_get(object, "ids"), e.ids, 8);
        assert_true(json_is_null(json_object_get(object, "text")));
        json_decref(object);
    }
    assert_int_equal(kvrun("-b", in_dir("base"), "--predictor", "random:prefix=1", "-n", "2", "--prompt-ids",
                           ids, "--json", "-c"),
                     0);
    json_t *object = parsed();
    assert_true(json_is_null(json_object_get(json_object_get(object, "base"), "text")));
    assert_true(json_is_null(json_object_get(json_object_get(object, "kvp"), "text")));
    json_decref(object);
    // Both, where there are words.
    assert_int_equal(kvrun(BASE, "-n", "8", "--ids", "--json", question), 0);
    object = parsed();
    check_object(object, &e, "base", "length");
    json_decref(object);
    free(e.text);
}

// ---- Comparing -----------------------------------------------------------------------------------------

static double *samples_of(const json_t *object, const char *name, int64_t n) {
    const json_t *list = json_object_get(object, name);
    double *samples = malloc((size_t)n * sizeof *samples);
    assert_non_null(samples);
    assert_int_equal(json_array_size(list), n);
    for (int64_t i = 0; i < n; i++) {
        samples[i] = json_real_value(json_array_get(list, (size_t)i));
        assert_true(samples[i] > 0);
    }
    return samples;
}

// Median and spread are those of the samples.
static void check_spread(const json_t *object, const char *name, const char *spread, const char *samples,
                         int64_t n) {
    double *all = samples_of(object, samples, n);
    const kv_ttft summary = kv_ttft_summary(all, n);
    assert_true(json_real_value(json_object_get(object, name)) == summary.seconds);
    assert_true(json_real_value(json_object_get(object, spread)) == summary.spread);
    free(all);
}

static void check_spreads(const json_t *object, int64_t n) {
    static const char *const sides[] = {"base", "kvp"};
    double *ttft[2];
    assert_int_equal(json_integer_value(json_object_get(object, "repeats")), n);
    for (int i = 0; i < 2; i++) {
        const json_t *side = json_object_get(object, sides[i]);
        check_spread(side, "ttft_seconds", "ttft_spread", "ttft_samples", n);
        check_spread(side, "tokens_per_second", "tokens_per_second_spread", "tokens_per_second_samples", n);
        ttft[i] = samples_of(side, "ttft_samples", n);
    }
    check_spread(object, "ttft_reduction", "ttft_reduction_spread", "ttft_reduction_samples", n);
    double *ratios = samples_of(object, "ttft_reduction_samples", n); // turn by turn
    for (int64_t i = 0; i < n; i++) assert_true(ratios[i] == ttft[0][i] / ttft[1][i]);
    free(ratios);
    free(ttft[0]);
    free(ttft[1]);
}

static void comparing(void **state) {
    (void)state;
    const kv_sampling greedy = {0};
    struct expected base = expect(&base_system, question, &greedy, 12),
                    kvp = expect(&kvp_system, question, &greedy, 12);
    int64_t common = 0;
    while (common < 12 && base.ids[common] == kvp.ids[common]) common++;
    assert_int_equal(kvrun(KVP, "-n", "12", "--compare", "--repeats", "3", "--json", question), 0);
    assert_string_equal(kvrun_err, "");
    json_t *object = parsed();
    check_object(json_object_get(object, "base"), &base, "base", "length");
    check_object(json_object_get(object, "kvp"), &kvp, "kvp", "length");
    check_ids(json_object_get(object, "prompt_ids"), base.prompt, base.n_prompt);
    check_spreads(object, 3);
    assert_int_equal(json_integer_value(json_object_get(object, "common_prefix")), common);
    assert_int_equal(json_is_true(json_object_get(object, "first_token_equal")), common > 0);
    const double flops = json_real_value(json_object_get(object, "flops_reduction"));
    assert_true(flops > 1 && flops == (double)base.flops / (double)kvp.flops);
    assert_true(json_real_value(json_object_get(object, "paper_reduction")) ==
                kv_system_paper_reduction(&kvp_system, &base_system));
    json_decref(object);

    char wanted[1024];
    assert_int_equal(kvrun(KVP, "-n", "12", "--compare", "--repeats", "3", question), 0);
    snprintf(wanted, sizeof wanted, "base:\n%s\n\nKVP:\n%s\n\n", base.text, kvp.text);
    assert_int_equal(strncmp(kvrun_out, wanted, strlen(wanted)), 0);
    assert_non_null(strstr(kvrun_out, "time to first token, "));
    assert_non_null(strstr(kvrun_out, "median ± half the distance of the quartiles, of 3 turns\n"));
    assert_non_null(strstr(kvrun_out, "exact FLOPs"));
    snprintf(wanted, sizeof wanted, "the first %d tokens are the same\n", (int)common);
    assert_non_null(strstr(kvrun_out, wanted));
    assert_int_equal(kvrun(KVP, "-n", "12", "-qc", "--ids", question), 0);
    snprintf(wanted, sizeof wanted, "base:\n%s\n\nKVP:\n", joined(base.ids, 12));
    assert_int_equal(strncmp(kvrun_out, wanted, strlen(wanted)), 0);
    assert_int_equal(strcmp(kvrun_out + strlen(wanted), strcat(joined(kvp.ids, 12), "\n")), 0);
    free(base.text);
    free(kvp.text);
}

// The base's own first layers read the prompt: no aux is named, and the base alone beside it answers as always.
static void comparing_with_a_prefix(void **state) {
    (void)state;
    const kv_sampling greedy = {0};
    struct expected base = expect(&base_system, question, &greedy, 12),
                    kvp = expect(&prefix_system, question, &greedy, 12);
    assert_true(base.n != kvp.n || memcmp(base.ids, kvp.ids, 12 * sizeof *base.ids) != 0);
    assert_int_equal(kvrun(PREFIX, "-n", "12", "--compare", "--json", question), 0);
    assert_string_equal(kvrun_err, "");
    json_t *object = parsed();
    check_spreads(object, 5);
    check_object(json_object_get(object, "base"), &base, "base", "length");
    check_object(json_object_get(object, "kvp"), &kvp, "kvp", "length");
    assert_true(json_real_value(json_object_get(object, "paper_reduction")) ==
                kv_system_paper_reduction(&prefix_system, &base_system));
    json_decref(object);
    assert_int_equal(kvrun(PREFIX, "-n", "12", "--json", question), 0);
    object = parsed();
    check_object(object, &kvp, "kvp", "length");
    json_decref(object);
    free(base.text);
    free(kvp.text);
}

// With a system that is the base itself everything agrees.
static void comparing_with_itself(void **state) {
    (void)state;
    assert_int_equal(kvrun(BASE, "-n", "12", "--compare", "--prune", "lazy:1-1", "--json", question), 0);
    json_t *object = parsed();
    assert_true(json_is_true(json_object_get(object, "first_token_equal")));
    assert_int_equal(json_integer_value(json_object_get(object, "common_prefix")), 12);
    assert_true(json_equal(json_object_get(json_object_get(object, "base"), "ids"),
                           json_object_get(json_object_get(object, "pruned"), "ids")));
    json_decref(object);
}

static void pruned_prompts(void **state) {
    (void)state;
    static const struct {
        const char *policy;
        kv_pruning pruning;
    } cases[] = {
        {"random:0.5", {.kind = KV_PRUNE_RANDOM, .keep = 0.5}},
        {"static:0.25", {.kind = KV_PRUNE_STATIC, .keep = 0.25}},
        {"lazy:0.75-0.50", {.kind = KV_PRUNE_LAZY, .start = 0.75, .end = 0.5}},
        {"speculative:0.75", {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.75}},
        // Numbers as C, Python and JSON write them.
        {"random:5e-1", {.kind = KV_PRUNE_RANDOM, .keep = 0.5}},
        {"random:.5", {.kind = KV_PRUNE_RANDOM, .keep = 0.5}},
        {"static:+2.5E-01", {.kind = KV_PRUNE_STATIC, .keep = 0.25}},
        {"lazy:75e-2-5e-1", {.kind = KV_PRUNE_LAZY, .start = 0.75, .end = 0.5}},
        {"lazy:0.075e1-.5", {.kind = KV_PRUNE_LAZY, .start = 0.75, .end = 0.5}},
        {"speculative:7.5e-1", {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.75}},
    };
    const kv_sampling greedy = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_system pruned = {.base = base_system.base, .pruning = cases[i].pruning};
        const char *arguments[] = {BASE, "-n", "8", "--json", question, "--prune", cases[i].policy,
                                   NULL, NULL, NULL};
        if (cases[i].pruning.kind == KV_PRUNE_SPECULATIVE)
            pruned.aux = kvp_system.aux, arguments[10] = "--aux", arguments[11] = in_dir("aux");
        struct expected e = expect_within(&pruned, question, &greedy, 8, CONTEXT - 8); // 8 to look ahead
        assert_int_equal(kvrun_list(arguments), 0);
        json_t *object = parsed();
        check_object(object, &e, "pruned", "length");
        json_decref(object);
        free(e.text);
    }
}

// ---- Chat ----------------------------------------------------------------------------------------------

static void chats(void **state) {
    (void)state;
    char config[128];
    snprintf(config, sizeof config, "%s", in_dir("tokenizer_config.json")); // beside the tokenizer
    test_write_text(config, "{\"chat_template\": \"{{ '[INST] ' }} <<SYS>>\"}");
    assert_int_equal(kvrun(BASE, "-n", "4", "--json", "--chat", "--system", "Be kind.", " Hi"), 0);
    json_t *object = parsed();
    int32_t *ids;
    int64_t n;
    kv_error error = {0};
    static const char text[] = "[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n Hi [/INST]";
    assert_int_equal(kv_tokenizer_encode(tokenizer, text, strlen(text), &ids, &n, &error), KV_OK);
    const json_t *prompt = json_object_get(object, "prompt_ids");
    assert_int_equal(json_integer_value(json_array_get(prompt, 0)), 1);
    assert_int_equal(json_array_size(prompt), n + 1);
    for (int64_t i = 0; i < n; i++)
        assert_int_equal(json_integer_value(json_array_get(prompt, (size_t)i + 1)), ids[i]);
    free(ids);
    json_decref(object);
    test_write_text(config, "{\"chat_template\": \"<|im_start|><|im_end|>\"}");
    expect_one_line(kvrun(BASE, "--chat", "Hi"),
                    "the template ends answers with <|im_end|>, the tokenizer has no such token");
    test_write_text(config, "{\"chat_template\": \"<|user|>\"}");
    expect_one_line(kvrun(BASE, "--chat", "Hi"), "a chat template of an unknown kind");
    unlink(config);
    // With the base, when there is none beside the tokenizer.
    test_write_text(in_dir("base/chat_template.jinja"), "[INST] <<SYS>>");
    assert_int_equal(kvrun(BASE, "-n", "4", "--chat", "Hi"), 0);
    unlink(in_dir("base/chat_template.jinja"));
}

// ---- Random weights ------------------------------------------------------------------------------------

// Answers are those of the rounded weights; the predictor is one for the base as it is stored.
static void weights_in_another_type(void **state) {
    (void)state;
    kv_system rounded = {.predictor = kvp_system.predictor};
    kv_error error = {0};
    if (kv_checkpoint_load_frozen(in_dir("base"), NULL, KV_FROZEN_BF16, &rounded.base, NULL, &error) ||
        kv_checkpoint_load_frozen(in_dir("aux"), NULL, KV_FROZEN_BF16, &rounded.aux, NULL, &error))
        fail_msg("%s", error.message);
    struct expected e = expect(&rounded, question, &(kv_sampling){0}, 20);
    if (kvrun(KVP, "--dtype", "bf16", "-n", "20", "--ids", question)) fail_msg("%s", kvrun_err);
    assert_int_equal(strncmp(kvrun_out, joined(e.ids, e.n), strlen(joined(e.ids, e.n))), 0);
    assert_int_equal(kvrun(KVP, "--dtype", "half", question), 2);
    assert_non_null(strstr(kvrun_err, "--dtype: 'half', expected stored, f32, bf16 or f16"));
    free(e.text);
    kv_model_free(rounded.base);
    kv_model_free(rounded.aux);
}

static void random_names(void **state) {
    (void)state;
    assert_int_equal(
        kvrun(BASE, "--predictor", "random:prefix=1", "--prompt-ids", "5 17 9", "--ids", "-n", "2"), 0);
    assert_non_null(strstr(kvrun_err, "[KVP: "));
    assert_int_equal(kvrun("-b", "random:openelm-270m-lp-0.25:bf16", "--aux",
                           "random:openelm-270m-lp-0.25:bf16", "--predictor", "random", "--prompt-ids",
                           "5 17 9", "--ids", "-n", "2"),
                     0);
    int first, second, used = 0;
    assert_int_equal(sscanf(kvrun_out, "%d %d\n%n", &first, &second, &used), 2);
    assert_int_equal(kvrun_out[used], '\0');
    assert_true(first >= 0 && first < 32000 && second >= 0 && second < 32000);
}

// ---- The family ----------------------------------------------------------------------------------------

static int set_up(void **state) {
    kv_error error = {0};
    test_dir_set_up(state);
    test_make_family(test_dir, CONTEXT);
    if (kv_tokenizer_open(in_dir("tokenizer.model"), &tokenizer, &error) ||
        kv_checkpoint_load(in_dir("base"), &base_system.base, &error) ||
        kv_checkpoint_load(in_dir("aux"), &kvp_system.aux, &error))
        fail_msg("%s", error.message);
    kvp_system.base = prefix_system.base = prefix_system.aux = base_system.base;
    if (kv_predictor_load(in_dir("predictor"), &kvp_system.base->spec, &kvp_system.aux->spec, NULL, NULL,
                          &kvp_system.predictor, &error) ||
        kv_predictor_load(in_dir("prefix"), &kvp_system.base->spec, NULL, NULL, NULL,
                          &prefix_system.predictor, &error))
        fail_msg("%s", error.message);
    if (!freopen("/dev/null", "r", stdin)) fail();
    return 0;
}

static int tear_down(void **state) {
    kv_predictor_free(kvp_system.predictor);
    kv_predictor_free(prefix_system.predictor);
    kv_model_free(kvp_system.aux);
    kv_model_free(base_system.base);
    kv_tokenizer_free(tokenizer);
    return test_dir_tear_down(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_librarys),
        cmocka_unit_test(ways_to_give_a_prompt),
        cmocka_unit_test(a_tokenizer_with_the_base),
        cmocka_unit_test(stop_strings),
        cmocka_unit_test(ways_to_end),
        cmocka_unit_test(objects_without_words),
        cmocka_unit_test(comparing),
        cmocka_unit_test(comparing_with_a_prefix),
        cmocka_unit_test(comparing_with_itself),
        cmocka_unit_test(pruned_prompts),
        cmocka_unit_test(chats),
        cmocka_unit_test(weights_in_another_type),
        cmocka_unit_test(random_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
