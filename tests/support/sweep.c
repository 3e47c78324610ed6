// The family has no weights worth having: sweeps are about what is trained when, and what is left.
#include "tests/support/sweep.h"

#include "data/file/h5.h"
#include "tests/support/eval.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- The family ----------------------------------------------------------------------------------------

static const char kvp_yaml[] =
    "task: kvp\noutput: unused\ndata: {train: counting.h5, seq_len: 16, batch_size: 4}\n"
    "base: family/base\naux: family/aux\n"
    "train: {steps: 12, lr: 5e-3, warmup_steps: 1, checkpoint_every: 5, log_every: 1}\n";
static const char lm_yaml[] =
    "task: lm\noutput: unused\ndata: {train: counting.h5, seq_len: 16, batch_size: 4}\n"
    "model: {from: checkpoint, path: family/aux}\n"
    "train: {steps: 12, lr: 5e-3, warmup_steps: 1, checkpoint_every: 5, log_every: 1}\n";
static const char questions_yaml[] =
    "tokenizer: family/tokenizer.model\n"
    "systems:\n"
    "  - {name: base, model: family/base}\n"
    "  - {name: \"aux, alone\", family: aux, model: family/aux}\n"
    "tasks:\n"
    "  - {name: atlas, split: trained, file: family/questions_trained.jsonl, limit: 12, max_tokens: 6}\n"
    "  - {name: atlas, split: held-out, file: family/questions_held_out.jsonl, limit: 9, max_tokens: 6}\n"
    "ttft: {prompt_tokens: 20, batch_size: 2, repeats: 1}\n";

// What is trained on the shard is asked with that tokenizer.
static int say_tokenizer(const char *shard, const char *path) {
    kv_tokenizer *tokenizer;
    hid_t file;
    if (kv_tokenizer_open(path, &tokenizer, NULL)) return -1;
    file = H5Fopen(shard, H5F_ACC_RDWR, H5P_DEFAULT);
    const kv_status status = kv_h5_set_string(file, "/", "tokenizer", kv_tokenizer_hash(tokenizer), NULL);
    kv_tokenizer_free(tokenizer);
    return H5Fclose(file) < 0 || status != KV_OK ? -1 : 0;
}

int sweep_setup(void **state) {
    kv_error err = {0};
    if (train_setup(state) || kv_make_dirs("family", &err) || kv_make_dirs("sweeps", &err)) return -1;
    test_make_family("family", 96);
    make_shard("counting.h5", 400, 1);
    if (say_tokenizer("counting.h5", "family/tokenizer.model")) return -1;
    put_file("pair.yaml", kvp_yaml);
    put_file("alone.yaml", lm_yaml);
    put_file("questions.yaml", questions_yaml);
    return 0;
}

void sweep(int code, const char *name, const char *const *more) {
    char path[128];
    const char *args[12] = {"--sweep", path};
    snprintf(path, sizeof path, "sweeps/%s", name);
    for (int i = 0; more[i]; i++) args[i + 2] = more[i];
    train_expect(code, args);
}

void expect_said(const char *text) {
    if (!strstr(train_output(), text)) fail_msg("expected %s\nfound    %s", text, train_output());
}

void expect_not_said(const char *text) {
    if (strstr(train_output(), text)) fail_msg("did not expect %s\nfound    %s", text, train_output());
}

void expect_line(const char *begin, const char *part, bool there) {
    char line[512];
    const char *at = strstr(train_output(), begin);
    if (!at) fail_msg("expected %s\nfound    %s", begin, train_output());
    snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
    if ((strstr(line, part) != NULL) != there) fail_msg("%s: %s is %sthere", line, part, there ? "not " : "");
}

void put_sweep(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "sweeps/%s", name);
    put_file(path, text);
}
