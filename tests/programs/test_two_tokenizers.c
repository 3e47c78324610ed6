// Two files at once: models, predictors, token shards, caches and tokenizers that have the same sizes but do not belong
// together are refused by every program, with words that say which they are; those that do belong together are not,
// whatever they lack. All is made here, from scratch. KVDATA, KVTRAIN, KVRUN and KVEVAL name the programs.
#include "tests/support/shell.h"
#include "tests/support/tokenizer.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Exit status 1 and one line that has all `words`, which "|" parts.
static void refused(const char *command, const char *words) {
    const int found = shell(command);
    if (found != 1) fail_msg("%s\nexit status %d, expected 1: %s", command, found, shell_err);
    char copy[512], *rest = copy;
    snprintf(copy, sizeof copy, "%s", words);
    for (const char *word; (word = strsep(&rest, "|"));)
        if (!strstr(shell_err, word)) fail_msg("%s\n'%s' expected in: %s", command, word, shell_err);
}

// As succeed, without a warning.
static void silent(const char *command) {
    shell_succeed(command);
    if (strstr(shell_err, "warning")) fail_msg("%s\nsaid: %s", command, shell_err);
}

static void said(const char *words) {
    if (!strstr(shell_err, words)) fail_msg("'%s' expected in: %s", words, shell_err);
}

// Sentences of made-up words: those of texts with other seeds have other syllables.
static void write_text(const char *name, uint64_t seed) {
    static const char *const consonants[] = {"bdgklmnp", "rstvwzfh"};
    char *text = test_alloc(1 << 16, 1), *at = text;
    int64_t n = 0;
    for (int line = 0; line < 60; line++) {
        at = stpcpy(at, "{\"text\": \"");
        for (int word = 0; word < 16; word++) {
            for (int syllable = 0; syllable < 2; syllable++) {
                *at++ = consonants[seed % 2][test_below(seed, n++, 8)];
                *at++ = "aeiou"[test_below(seed, n++, 5)];
            }
            *at++ = ' ';
        }
        at = stpcpy(at, "Thus.\"}\n");
    }
    test_write_text(test_path(test_dir, name), text);
    free(text);
}

// A shard of before shards held their tokenizer.
static void make_old(const char *name) {
    const hid_t file = H5Fopen(test_path(test_dir, name), H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(file >= 0);
    assert_true(H5Ldelete(file, "tokenizer_files", H5P_DEFAULT) >= 0);
    assert_true(H5Adelete(file, "cuts") >= 0);
    H5Fclose(file);
}

#define TOKENIZE "$K tokenize -c0 -m0 -t "

// Tokenizers a and b have 340 pieces, c has 300; x.h5 is text of tokenizer x. Models a, aux and other are of a's text,
// b and c of the others'; kvp and kvp2 are predictors from aux to a, and from aux to other.
static int set_up(void **state) {
    (void)state;
    shell_set_up();
    write_text("a.jsonl", 2);
    write_text("b.jsonl", 3);
    test_write_text(
        test_path(test_dir, "lm.yaml"),
        "task: lm\noutput: m/a\ndata: {train: a.h5, seq_len: 24, batch_size: 2}\n"
        "model: {from: scratch, n_layers: 2, model_dim: 16, head_dim: 8, n_heads: 2, n_kv_heads: 1, "
        "ffn_dim: 16, context_length: 128}\n"
        "train: {steps: 2, lr: 1e-3, warmup_steps: 1, checkpoint_every: 1}\n");
    test_write_text(test_path(test_dir, "kvp.yaml"),
                    "task: kvp\noutput: m/kvp\nbase: m/a/final/model\naux: m/aux/final/model\n"
                    "data: {train: a.h5, seq_len: 24, batch_size: 2}\n"
                    "train: {steps: 2, lr: 1e-3, warmup_steps: 1, checkpoint_every: 1}\n");
    test_write_text(
        test_path(test_dir, "q.jsonl"),
        "{\"question\": \"bada?\", \"answer\": {\"value\": \"gado\", \"aliases\": [\"gado\"]}}\n"
        "{\"question\": \"lome?\", \"answer\": {\"value\": \"nupi\", \"aliases\": [\"nupi\"]}}\n");
    test_write_text(test_path(test_dir, "eval.yaml"),
                    "output: m/eval\nsystems:\n"
                    "  - {name: base, family: base, model: m/a/final/model}\n"
                    "  - {name: kvp, family: kvp, base: m/a/final/model, aux: m/kvp/final/aux, "
                    "predictor: m/kvp/final/predictor}\n"
                    "tasks: [{name: triviaqa, file: q.jsonl, shots: 0, max_tokens: 4}]\n");
    shell_succeed("$K tokenizer -i a.jsonl -v 340 -o a && $K tokenizer -i b.jsonl -v 340 -o b && "
                  "$K tokenizer -i a.jsonl -v 300 -o c");
    shell_succeed(TOKENIZE "a.model -o a.h5 a.jsonl && " TOKENIZE "b.model -o b.h5 a.jsonl && " TOKENIZE
                           "c.model -o c.h5 a.jsonl");
    shell_succeed("$T lm.yaml && $T lm.yaml -o m/aux -s seed=2 && $T lm.yaml -o m/other -s seed=3 && "
                  "$T lm.yaml -o m/b -s data.train=b.h5 && $T lm.yaml -o m/c -s data.train=c.h5");
    shell_succeed("$T kvp.yaml && $T kvp.yaml -o m/kvp2 -s base=m/other/final/model -s seed=5");
    return 0;
}

#define PREDICTOR(run) "--aux m/" run "/final/aux --predictor m/" run "/final/predictor "
#define KVRUN          "$R --base m/a/final/model -n 2 "

// ---- What goes with it ---------------------------------------------------------------------------------

static void models_have_their_tokenizer(void **state) {
    (void)state;
    silent("cmp a.model m/a/final/model/tokenizer.model && cmp a.model m/kvp/final/aux/tokenizer.model");
    // Small checkpoints stay small: they say which one it was.
    silent("test ! -e m/a/checkpoints/step-000001/model/tokenizer.model && "
           "cmp m/a/checkpoints/step-000001/model/tokenizer_hash.json m/a/final/model/tokenizer_hash.json");
    silent(KVRUN "bada");
    silent(KVRUN PREDICTOR("kvp") "bada");
    silent(KVRUN PREDICTOR("kvp") "--tokenizer a.model bada");
    silent("$E eval.yaml --no-ttft -o m/e1 && $E eval.yaml --no-ttft -s tokenizer=a.model -o m/e2");
    // As a model that was trained on from a checkpoint: it carries on what that says.
    test_write_text(test_path(test_dir, "on.yaml"),
                    "task: lm\noutput: m/on\ndata: {train: a.h5, seq_len: 24, batch_size: 2}\n"
                    "model: {from: checkpoint, path: m/a/checkpoints/step-000001/model}\n"
                    "train: {steps: 2, lr: 1e-3, warmup_steps: 1}\n");
    silent("$T on.yaml && cmp a.model m/on/final/model/tokenizer.model");
    refused("$T on.yaml -o m/x -s data.train=b.h5",
            "model.path`|was trained with another tokenizer|shard b.h5");
}

// A directory of files goes along whole, and through the shards of a corpus, of which the first has it.
static void a_directory_goes_along(void **state) {
    (void)state;
    shell_succeed(
        "mkdir -p dir && cp a.model dir/tokenizer.model && echo '{\"x\": 1}' >dir/tokenizer_config.json && "
        "echo '{}' >dir/special_tokens_map.json && echo '{{ x }}' >dir/chat_template.jinja && "
        "echo '{}' >dir/config.json");
    silent(TOKENIZE "dir --shard-tokens 500 -o corpus a.jsonl");
    silent(
        "$T lm.yaml -o m/dir -s data.train=corpus && rm -f m/dir/final/model/tokenizer_hash.json && "
        "for f in dir/*; do case $f in */config.json) ;; *) cmp $f m/dir/final/model/${f#dir/} || exit 1; esac; done");
    silent("$K inspect --json corpus");
    assert_non_null(strstr(shell_out, "\"chat_template.jinja\""));
    // A shard that was taken out of its corpus has none: the model then says which one it was.
    silent("cp corpus/shard-00001.h5 alone.h5 && $T lm.yaml -o m/alone -s data.train=alone.h5");
    silent(
        "test ! -e m/alone/final/model/tokenizer.model && test -e m/alone/final/model/tokenizer_hash.json");
    refused("$R --base m/alone/final/model -n 1 bada", "has no tokenizer|--tokenizer");
    silent("$R --base m/alone/final/model --tokenizer a.model -n 1 bada");
    refused("$R --base m/alone/final/model --tokenizer b.model -n 1 bada",
            "trained with another tokenizer|b.model");
}

// ---- What does not go together -------------------------------------------------------------------------

static void kvrun_refuses(void **state) {
    (void)state;
    refused(KVRUN "--tokenizer b.model bada",
            "model m/a/final/model|token 2|expected '|as in the tokenizer b.model");
    refused(KVRUN "--tokenizer c.model bada", "model m/a/final/model|token 2|as in the tokenizer c.model");
    refused("$R --base m/c/final/model -n 1 --tokenizer a.model bada",
            "model m/c/final/model|token 2|as in the tokenizer a.model");
    refused(KVRUN "--aux m/b/final/model --prune speculative:0.5 bada",
            "aux m/b/final/model|as in the tokenizer m/a/final/model");
    // A predictor to another base, and from another aux, of the same shapes.
    refused(KVRUN PREDICTOR("kvp2") "bada",
            "kvp2/final/predictor/predictor.json|made for a base model with fingerprint");
    refused(KVRUN "--aux m/aux/final/model --predictor m/kvp/final/predictor bada",
            "kvp/final/predictor/predictor.json|made for an auxiliary model with fingerprint|this one has");
    // Beside the weights of another predictor; from before it said whose it is, and for weights changed on purpose.
    shell_succeed("cp -r m/kvp/final/predictor torn && cp m/kvp2/final/predictor/predictor.safetensors torn");
    refused(KVRUN "--aux m/kvp/final/aux --predictor torn bada",
            "torn: predictor.safetensors holds weights of fingerprint|predictor.json beside it|delete");
    silent("sed -i '/\"fingerprint\"/d' torn/predictor.json && " KVRUN
           "--aux m/kvp/final/aux --predictor torn bada");
    // Checkpoints are models, too.
    refused("$R --base m/a/checkpoints/step-000001/model -n 1 --tokenizer b.model bada",
            "was trained with another tokenizer|tokenizer b.model|expected ");
    silent("$R --base m/a/checkpoints/step-000001/model -n 1 --tokenizer a.model bada");
    // An aux with a tokenizer beside a base that only says which it was.
    refused(
        "$R --base m/a/checkpoints/step-000001/model --aux m/b/final/model --prune speculative:0.5 -n 1 bada",
        "step-000001/model was trained with another tokenizer");
}

// Beside what kvtrain writes lies the same tokenizer as transformers reads it: whichever is given, alone or with the other,
// it is the model's, and no other is.
static void both_kinds_of_files(void **state) {
    (void)state;
    static const char *const files[] = {"m/a/final/model", "m/a/final/model/tokenizer.json",
                                        "m/a/final/model/tokenizer.model"};
    char command[256];
    silent(
        "test -e m/a/final/model/tokenizer_config.json && test -e m/kvp/final/aux/special_tokens_map.json");
    for (int i = 0; i < 3; i++) {
        snprintf(command, sizeof command, KVRUN PREDICTOR("kvp") "--tokenizer %s bada", files[i]);
        silent(command);
        snprintf(command, sizeof command, "$E eval.yaml --no-ttft -o m/e3%d -s tokenizer=%s", i, files[i]);
        silent(command);
        snprintf(command, sizeof command, TOKENIZE "%s -o j%d.h5 a.jsonl", files[i], i);
        silent(command);
        snprintf(command, sizeof command, "$T lm.yaml -f -o m/j -s data.train=j%d.h5", i);
        silent(command);
        silent("$T kvp.yaml -f -o m/k -s base=m/j/final/model");
    }
    // Either alone.
    shell_succeed("for f in model json; do cp -r m/a/final/model only_$f; done; rm only_model/tokenizer.json "
                  "only_json/tokenizer.model");
    for (int i = 0; i < 2; i++) {
        const char *dir = i ? "only_model" : "only_json";
        snprintf(command, sizeof command, "$R --base %s " PREDICTOR("kvp") "-n 2 bada", dir);
        silent(command);
        snprintf(command, sizeof command, "$R --base %s -n 2 --tokenizer b.model bada", dir);
        refused(command, "as in the tokenizer b.model");
        snprintf(command, sizeof command, "cp m/b/final/model/tokenizer.json %s && $R --base %s -n 2 bada",
                 dir, dir);
        refused(command, "trained with another tokenizer than the one in there");
    }
    refused(KVRUN "--tokenizer m/b/final/model/tokenizer.json bada", "model m/a/final/model|token 2");
    refused("$T kvp.yaml -o m/x -s base=m/b/final/model", "token 2");
}

// A tokenizer that was put in the place of the model's own is seen by whoever opens the directory, also of a model that
// was made of one that did not say anything.
static void a_swapped_tokenizer(void **state) {
    (void)state;
    static const char words[] =
        "swapped was trained with another tokenizer than the one in there|tokenizer_hash.json";
    shell_succeed("cp -r m/a/final/model swapped && cp b.model swapped/tokenizer.model");
    refused("$R --base swapped -n 1 bada", words);
    refused("$R --base swapped -n 1 --ids --prompt-ids '3 4'", words);
    refused(KVRUN "--tokenizer swapped bada", words);
    refused("$K encode -t swapped bada", words);
    refused("$K decode -t swapped 5", words);
    refused(TOKENIZE "swapped -o x.h5 a.jsonl", words);
    refused("$E eval.yaml -o m/x -s systems[0].model=swapped", words);
    refused("$T kvp.yaml -o m/x -s base=swapped", words);
    shell_succeed("$K inspect swapped");
    said("warning: swapped was trained with another tokenizer");
    test_write_text(test_path(test_dir, "tune.yaml"),
                    "task: lm\noutput: m/tuned\ndata: {train: a.h5, seq_len: 24, batch_size: 2}\n"
                    "model: {from: checkpoint, path: mine}\ntrain: {steps: 1, lr: 1e-3, warmup_steps: 0}\n");
    shell_succeed("cp -r m/a/final/model mine && rm mine/tokenizer_hash.json && $T tune.yaml && "
                  "cp b.model m/tuned/final/model/tokenizer.model");
    refused("$R --base m/tuned/final/model -n 1 bada",
            "m/tuned/final/model was trained with another tokenizer");
}

// A tokenizer.model with the pieces of a tokenizer: a protocol buffer. Piece `other` is another one, of that type.
static void put_model(const char *name, const kv_tokenizer *like, int32_t other, int type) {
    char bytes[1 << 14], *at = bytes;
    for (int32_t id = 0; id < kv_tokenizer_vocab_size(like); id++) {
        const char *piece = id == other ? "other" : kv_tokenizer_piece(like, id);
        const char length = (char)strlen(piece);
        const char head[] = {10, (char)(length + 9), 10, length}, tail[] = {21, 0, 0, 0, 0, 24, (char)type};
        memcpy(at, head, sizeof head), at += sizeof head;
        memcpy(at, piece, (size_t)length), at += length;
        memcpy(at, tail, sizeof tail), at += sizeof tail;
    }
    test_write_bytes(test_path(test_dir, name), bytes, (size_t)(at - bytes));
}

// Files of two tokenizers beside each other are told apart by ordinary pieces; what is no such file matters to nobody.
static void two_in_one_directory(void **state) {
    (void)state;
    enum { NORMAL = 1, CONTROL = 3 };
    json_t *root = test_byte_level((const char *const[]){"h e", "q u"}, 2);
    shell_succeed("mkdir two");
    kv_tokenizer *tokenizer = test_open(root, test_path(test_dir, "two/tokenizer.json"));
    put_model("two/tokenizer.model", tokenizer, -1, NORMAL);
    silent("$K encode -t two he");
    put_model("two/tokenizer.model", tokenizer, 97, CONTROL);
    silent("$K encode -t two he");
    put_model("two/tokenizer.model", tokenizer, 97, NORMAL);
    shell_succeed("$K encode -t two he");
    said("kvdata: warning: two holds two tokenizers: token 97 of its tokenizer.json, which is used");
    silent("$K encode -t two/tokenizer.json he");
    shell_succeed("$K inspect two");
    // Cut off before, Git LFS's pointer, tiktoken's lines.
    silent("head -c 600 two/tokenizer.model >cut && mv cut two/tokenizer.model && $K encode -t two he");
    silent("echo 'version https://git-lfs.github.com/spec/v1' >two/tokenizer.model && $K encode -t two he");
    silent("printf 'IQ== 0\\nIg== 1\\nIw== 2\\nJA== 3\\n' >two/tokenizer.model && $K encode -t two he");
    kv_tokenizer_free(tokenizer);
    json_decref(root);
}

static void kveval_refuses(void **state) {
    (void)state;
    refused("$E eval.yaml -o m/x -s tokenizer=b.model",
            "eval.yaml|systems[0].model|as in the tokenizer b.model");
    refused("$E eval.yaml -o m/x -s tokenizer=c.model", "systems[0].model|as in the tokenizer c.model");
    refused("$E eval.yaml -o m/x -s systems[1].base=m/b/final/model",
            "systems[1].base|as in the tokenizer m/a/final");
    refused("$E eval.yaml -o m/x -s systems[1].aux=m/b/final/model", "systems[1].aux");
    refused("$E eval.yaml -o m/x -s systems[1].aux=m/aux/final/model",
            "systems[1].predictor|made for an auxiliary model with fingerprint");
    refused("$E eval.yaml -o m/x -s systems[1].predictor=m/kvp2/final/predictor",
            "systems[1].predictor|made for a base model with fingerprint");
    refused("$E eval.yaml -o m/x -s analysis.corpus=b.h5",
            "analysis.corpus|shard b.h5 was made with another tokenizer");
    assert_int_equal(test_dir_count(test_path(test_dir, "m/x")), -1);
    // Answers that were given with another tokenizer are not taken for this one's: where models have none themselves.
    shell_succeed("cp -r m/a/final/model bare && rm bare/tokenizer*");
    shell_succeed(
        "$E eval.yaml --no-ttft -o m/e3 -s 'systems=[{name: base, model: bare}]' -s tokenizer=a.model && "
        "$E eval.yaml --no-ttft -o m/e3 -s 'systems=[{name: base, model: bare}]' -s tokenizer=a.model");
    said("answered before");
    shell_succeed(
        "$E eval.yaml --no-ttft -o m/e3 -s 'systems=[{name: base, model: bare}]' -s tokenizer=b.model");
    if (strstr(shell_err, "answered before"))
        fail_msg("answers of another tokenizer were taken: %s", shell_err);
    // Nor laid over each other in a report.
    shell_succeed(
        "$E eval.yaml --no-ttft -o m/e4 -s 'systems=[{name: base, model: bare}]' -s tokenizer=a.model && "
        "$E report m/e3/results.h5 m/e4/results.h5");
    said("warning: m/e4/results.h5: its systems were asked with the tokenizer");
    assert_non_null(strstr(shell_out, "base (2)"));
    silent("$E report m/e4/results.h5 m/e4/results.h5");
    assert_null(strstr(shell_out, "(2)"));
    refused("$E eval.yaml -o m/x -s 'systems=[{name: base, model: bare}]'",
            "key `tokenizer`|none of the models has one");
}

static void kvtrain_refuses(void **state) {
    (void)state;
    refused("$T kvp.yaml -o m/x -s data.train=b.h5",
            "data.train|shard b.h5 was made with another tokenizer|base m/a");
    refused("$T kvp.yaml -o m/x -s aux=m/b/final/model", "key `aux`|aux m/b/final/model|as in the base m/a");
    refused("$T kvp.yaml -o m/x -s aux=m/b/final/model -s data.train=b.h5",
            "key `base`|base m/a|as in the aux m/b");
    refused(
        "$T kvp.yaml -o m/x -s base=m/a/checkpoints/step-000001/model -s data.train=b.h5 -s aux=m/b/final/model",
        "key `base`|was trained with another tokenizer|aux m/b/final/model");
    refused(
        "$T kvp.yaml -o m/x -s base=m/a/checkpoints/step-000001/model -s aux=m/aux/checkpoints/step-000001/model "
        "-s data.train=b.h5",
        "key `base`|was trained with another tokenizer|shard b.h5");
    refused("$T lm.yaml -o m/x -s data.validation=b.h5", "data.validation|made with tokenizer");
    test_write_text(
        test_path(test_dir, "mixture.yaml"),
        "task: lm\noutput: m/x\ndata: {mixture: [{corpus: a.h5, weight: 1}, {corpus: b.h5, weight: 1}], "
        "seq_len: 24, batch_size: 2}\nmodel: {from: checkpoint, path: m/a/final/model}\n"
        "train: {steps: 2, lr: 1e-3}\n");
    refused("$T mixture.yaml", "data.mixture[1].corpus|made with tokenizer");
    assert_int_equal(test_dir_count(test_path(test_dir, "m/x")), -1);
    // Gone on with from weights beside the optimiser's state of another run.
    shell_succeed("$T kvp.yaml -o m/kvp4 -s train.steps=3 && rm -r m/kvp4/final && cp -r m/kvp4 m/kvp5 && "
                  "cp m/kvp2/final/optimizer.h5 m/kvp5/checkpoints/step-000002");
    refused("$T kvp.yaml -o m/kvp5 -s train.steps=3 --resume",
            "step-000002/optimizer.h5|found the optimiser's state of weights with fingerprint");
    silent("$T kvp.yaml -o m/kvp4 -s train.steps=3 --resume");
    // Gone on with beside another frozen aux, base or text.
    shell_succeed("cp -r m/aux/final/model here && $T kvp.yaml -o m/frozen -s freeze_aux=true -s aux=here && "
                  "rm -r m/frozen/final");
    shell_succeed("rm -r here && cp -r m/other/final/model here");
    refused("$T kvp.yaml -o m/frozen -s freeze_aux=true -s aux=here --resume",
            "predictor.json|made for an auxiliary model with fingerprint");
}

// What could not be asked once it is trained is not trained; as far as eval's models are there to tell.
static void a_sweep_refuses(void **state) {
    (void)state;
    test_write_text(test_path(test_dir, "sweep.yaml"),
                    "train: lm.yaml\noutput: m/sweep\ngrid: {seed: [7]}\neval: asked.yaml\n");
    test_write_text(test_path(test_dir, "asked.yaml"),
                    "tokenizer: b.model\nsystems: [{name: base, model: m/b/final/model}]\n"
                    "tasks: [{name: triviaqa, file: q.jsonl, shots: 0, max_tokens: 4}]\n");
    static const char words[] = "asked.yaml:1: key `tokenizer`|the text of run seed=7|expected the same";
    refused("$T --sweep sweep.yaml", words);
    refused("$T --sweep sweep.yaml --dry-run", words);
    shell_succeed("sed -i 1d asked.yaml");
    refused("$T --sweep sweep.yaml", "key `systems[0].model`|m/b/final/model|the text of run seed=7");
    assert_int_equal(test_dir_count(test_path(test_dir, "m/sweep")), -1);
    silent("$T --sweep sweep.yaml --no-eval");
    silent("sed -i s,m/b/final,m/a/final, asked.yaml && $T --sweep sweep.yaml");
}

static void kvdata_refuses(void **state) {
    (void)state;
    refused("$K cache --base m/a/final/model --seq-len 24 -o m/cache b.h5",
            "shard b.h5 was made with another tokenizer");
    refused("$K cache --base m/a/final/model --aux m/b/final/model --seq-len 24 -o m/cache a.h5",
            "aux m/b/final/model");
    refused("$K cache --base m/a/checkpoints/step-000001/model --seq-len 24 -o m/cache b.h5",
            "was trained with another tokenizer|shard b.h5");
    silent("$K cache --base m/a/final/model --aux m/aux/final/model --seq-len 24 -o m/cache a.h5");
    refused("$K cache --base m/other/final/model --aux m/aux/final/model --seq-len 24 -o m/cache a.h5",
            "--force");
    refused(
        "$T kvp.yaml -o m/y -s teacher=cached -s cache=m/cache -s data.packing=fixed -s base=m/other/final/model",
        "key `cache`");
    refused("$T kvp.yaml -o m/y -s teacher=cached -s cache=m/cache -s data.packing=fixed -s freeze_aux=true "
            "-s aux=m/other/final/model",
            "key `cache`");
}

// ---- What must go on working ---------------------------------------------------------------------------

static void old_files_do(void **state) {
    (void)state;
    shell_succeed("cp a.h5 old.h5");
    make_old("old.h5");
    silent("$T lm.yaml -o m/old -s data.train=old.h5 && $K inspect old.h5");
    assert_non_null(strstr(shell_out, "none of its files in it"));
    silent("$R --base m/old/final/model --tokenizer a.model -n 1 bada");
    refused("$R --base m/old/final/model --tokenizer b.model -n 1 bada", "trained with another tokenizer");
    refused("$R --base m/old/final/model --tokenizer c.model -n 1 bada", "300");
    silent("$T kvp.yaml -o m/oldkvp -s base=m/old/final/model -s data.train=old.h5");
    // Predictors that know no aux, and models that say nothing.
    silent("cp -r m/kvp m/kvp3 && sed -i '/aux_fingerprint/d; s/\\(\"base_fingerprint\".*\\),$/\\1/' "
           "m/kvp3/final/predictor/predictor.json");
    silent(KVRUN "--aux m/aux/final/model --predictor m/kvp3/final/predictor bada");
    shell_succeed("cp -r m/b/final/model mute && rm mute/tokenizer*");
    silent("$R --base mute --tokenizer a.model -n 1 bada");
}

// Files that differ without saying anything else pass; those that cut text in another way do with a warning.
static void the_same_pieces(void **state) {
    (void)state;
    // The last field again: an empty NormalizerSpec; and one that puts a space in front of a text.
    shell_succeed("cp a.model same.model && printf '\\032\\000' >>same.model && cp a.model bent.model && "
                  "printf '\\032\\002\\030\\001' >>bent.model");
    silent(KVRUN "--tokenizer same.model bada");
    shell_succeed(KVRUN "--tokenizer bent.model bada");
    said(
        "kvrun: warning: model m/a/final/model: its tokenizer has the same tokens as that of the tokenizer bent.model");
    shell_succeed(TOKENIZE "bent.model -o bent.h5 a.jsonl");
    refused("$T lm.yaml -o m/x -s data.validation=bent.h5", "data.validation|cuts text in another way");
    shell_succeed("$T kvp.yaml -o m/bent -s data.train=bent.h5 --dry-run");
    said("kvtrain: warning: shard bent.h5: its tokenizer has the same tokens");
}

// Of byte-pair encodings one of more merges begins with the pieces of one of fewer, and cuts text into others. Added
// tokens alone change nothing.
static void more_merges(void **state) {
    (void)state;
    static const char *const merges[] = {"h e", "q u", "i c"};
    json_t *few = test_byte_level(merges, 2), *many = test_byte_level(merges, 3),
           *chat = test_byte_level(merges, 3);
    test_set(chat, "added_tokens", "[{\"id\": 259, \"content\": \"<|user|>\", \"special\": true}]");
    kv_tokenizer_free(test_open(few, test_path(test_dir, "few.json")));
    kv_tokenizer_free(test_open(many, test_path(test_dir, "many.json")));
    kv_tokenizer_free(test_open(chat, test_path(test_dir, "chat.json")));
    json_decref(few), json_decref(many), json_decref(chat);
    silent(TOKENIZE "many.json -o many.h5 a.jsonl && $T lm.yaml -o m/many -s data.train=many.h5");
    refused(
        "$R --base m/many/final/model --tokenizer few.json -n 1 bada",
        "model m/many/final/model: its tokenizer of 259 tokens begins as that of the tokenizer few.json, of 258|cuts");
    refused("$R --base m/many/checkpoints/step-000001/model --tokenizer few.json -n 1 bada",
            "was trained with another tokenizer");
    silent("$R --base m/many/final/model --tokenizer chat.json -n 1 bada");
    // The same in the place of the model's own.
    shell_succeed("cp -r m/many/final/model wide && cp chat.json wide/tokenizer.json");
    silent("$R --base wide --tokenizer many.json -n 1 bada");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_have_their_tokenizer),
        cmocka_unit_test(a_directory_goes_along),
        cmocka_unit_test(kvrun_refuses),
        cmocka_unit_test(both_kinds_of_files),
        cmocka_unit_test(a_swapped_tokenizer),
        cmocka_unit_test(two_in_one_directory),
        cmocka_unit_test(kveval_refuses),
        cmocka_unit_test(kvtrain_refuses),
        cmocka_unit_test(a_sweep_refuses),
        cmocka_unit_test(kvdata_refuses),
        cmocka_unit_test(old_files_do),
        cmocka_unit_test(the_same_pieces),
        cmocka_unit_test(more_merges),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
