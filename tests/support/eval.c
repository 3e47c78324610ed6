#include "tests/support/eval.h"

#include "data/checkpoint/checkpoint.h"
#include "tests/support/tiny.h"

#include <stdio.h>
#include <sys/stat.h>

static void save_model(const char *dir, const char *name, kv_model_spec spec, int64_t context, uint64_t seed,
                       char fingerprint[17]) {
    kv_error err = {0};
    spec.context_length = context;
    kv_model *model = tiny_model(&spec, seed);
    mkdir(test_path(dir, name), 0777);
    if (kv_checkpoint_save(test_path(dir, name), model, &err) != KV_OK) fail_msg("%s", err.message);
    if (fingerprint) kv_checkpoint_fingerprint(model, fingerprint);
    kv_model_free(model);
}

static void save_predictor(const char *dir, const char *name, kv_predictor *predictor,
                           const char *base_fingerprint) {
    kv_error err = {0};
    mkdir(test_path(dir, name), 0777);
    if (kv_predictor_save(test_path(dir, name), predictor, &(kv_fingerprints){base_fingerprint, NULL},
                          &err) != KV_OK)
        fail_msg("%s", err.message);
    kv_predictor_free(predictor);
}

void test_make_family(const char *dir, int64_t context) {
    char fingerprint[17];
    kv_model_spec base = tiny_base(), aux = tiny_aux();
    base.vocab_size = aux.vocab_size = 400;
    test_small_corpus(dir);
    save_model(dir, "base", base, context, 1, fingerprint);
    save_model(dir, "aux", aux, context, 2, NULL);
    save_model(dir, "stranger", tiny_aux(), context, 2, NULL);
    save_predictor(dir, "predictor", tiny_predictor(&base, &aux, 3), fingerprint);
    save_predictor(dir, "prefix", tiny_prefix_predictor(&base, 2, 4), fingerprint);
    test_write_eval_config(dir);
}

void test_write_eval_config(const char *dir) {
    static const char config[] =
        "output: @/eval\n"
        "tokenizer: @/tokenizer.model\n"
        "batch_size: 5\n"
        "systems:\n"
        "  - {name: base, model: @/base}\n"
        "  - {name: \"aux, alone\", family: aux, model: @/aux}\n"
        "  - {name: KVP, family: KVP-C, base: @/base/, aux: @/aux, predictor: @/predictor}\n"
        "tasks:\n"
        "  - {name: atlas, split: trained, file: @/questions_trained.jsonl, limit: 12, max_tokens: 6}\n"
        "  - {name: atlas, split: held-out, file: @/questions_held_out.jsonl, limit: 9, max_tokens: 6}\n"
        "ttft: {prompt_tokens: 20, batch_size: 2, repeats: 3}\n";
    FILE *file = fopen(test_path(dir, "eval.yaml"), "w");
    assert_non_null(file);
    for (const char *c = config; *c; c++)
        if (*c == '@')
            fputs(dir, file);
        else
            fputc(*c, file);
    assert_int_equal(fclose(file), 0);
}

int test_family_set_up(void **state) {
    test_dir_set_up(state);
    test_make_family(test_dir, 96);
    return 0;
}
