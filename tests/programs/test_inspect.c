// kvdata inspect on what the programs really write: each kind once, as text and as JSON, and what is damaged
// or of no kind that is known.
#include "tests/support/eval.h"

#include "data/checkpoint/checkpoint.h"
#include "data/file/content.h"
#include "data/file/h5.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static char out[1 << 17], err[1 << 16];

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static int run(const char *program, const char *const *arguments) {
    const char *all[16] = {getenv(program)};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, -1, out, err, sizeof err);
}

#define inspect(...) run("KVDATA", (const char *const[]){"inspect", __VA_ARGS__, NULL})

static void copy(const char *from, const char *to) {
    kv_error error = {0};
    char *bytes;
    size_t size;
    if (kv_read_file(from, 1 << 24, &bytes, &size, &error) || kv_write_file(to, bytes, size, &error))
        fail_msg("%s", error.message);
    free(bytes);
}

// A small family, a shard, a run of kvtrain with checkpoints, and an evaluation.
static int set_up(void **state) {
    test_family_set_up(state);
    // HDF5 does not give back all of a damaged file that it could not open.
    char options[256];
    snprintf(options, sizeof options, "suppressions=%s:print_suppressions=0", in_dir("leaks"));
    test_write_text(in_dir("leaks"), "leak:libhdf5\n");
    setenv("LSAN_OPTIONS", options, 1);
    const char *const tokenize[] = {"tokenize",
                                    "-c",
                                    "0",
                                    "-m",
                                    "0",
                                    "-t",
                                    in_dir("tokenizer.model"),
                                    "-o",
                                    in_dir("train.h5"),
                                    in_dir("train.jsonl"),
                                    NULL};
    if (run("KVDATA", tokenize)) fail_msg("%s", err);
    FILE *file = fopen(in_dir("lm.yaml"), "w");
    fprintf(
        file,
        "# of a test\ntask: lm\noutput: %s\ndata: {train: %s, validation: %s, seq_len: 16, batch_size: 2}\n"
        "model: {n_layers: 3, model_dim: 16, head_dim: 8, n_heads: 4, n_kv_heads: 2, ffn_dim: 24, context_length: 32}\n"
        "train: {steps: 3, lr: 1e-2, warmup_steps: 1, checkpoint_every: 1, log_every: 1, keep_best: true}\n",
        in_dir("run"), in_dir("train.h5"), in_dir("train.h5"));
    fclose(file);
    if (run("KVTRAIN", (const char *const[]){in_dir("lm.yaml"), NULL})) fail_msg("%s", err);
    if (run("KVEVAL", (const char *const[]){in_dir("eval.yaml"), NULL})) fail_msg("%s", err);
    return 0;
}

// ---- Expectations --------------------------------------------------------------------------------------

#define expect(path, ...) check_text(path, (const char *const[]){__VA_ARGS__, NULL})

// Succeeds and says all of this.
static void check_text(const char *path, const char *const *parts) {
    if (inspect(path) != 0) fail_msg("%s", err);
    for (; *parts; parts++)
        if (!strstr(out, *parts)) fail_msg("'%s' not in\n%s", *parts, out);
    assert_string_equal(err, "");
}

#define refuse(path, ...) check_refusal(path, (const char *const[]){__VA_ARGS__, NULL})

// One line on stderr, exit status 1.
static void check_refusal(const char *path, const char *const *parts) {
    const int status = inspect(path);
    const char *newline = strchr(err, '\n');
    if (status != 1 || !newline || newline[1] || strncmp(err, "kvdata: ", 8) != 0)
        fail_msg("status %d, expected 1 and one line, found: %s%s", status, err, out);
    for (; *parts; parts++)
        if (!strstr(err, *parts)) fail_msg("'%s' not in %s", *parts, err);
}

// The JSON of a path; the caller lets go of it.
static json_t *facts(const char *path) {
    json_error_t why;
    if (inspect("--json", path) != 0) fail_msg("%s", err);
    json_t *root = json_loads(out, 0, &why);
    if (!root) fail_msg("%s: %s in %s", path, why.text, out);
    return root;
}

static int64_t whole(const json_t *root, const char *key) {
    const json_t *value = json_object_get(root, key);
    if (!json_is_integer(value)) fail_msg("no whole number under '%s'", key);
    return json_integer_value(value);
}

static const char *text(const json_t *root, const char *key) {
    const char *value = json_string_value(json_object_get(root, key));
    if (!value) fail_msg("no text under '%s'", key);
    return value;
}

// ---- Models --------------------------------------------------------------------------------------------

static void checkpoints(void **state) {
    (void)state;
    expect(in_dir("base"), "checkpoint ", "openelm, 3 layers, dim 24, head dim 8, q/k norm",
           "layers 0     2 heads, 1 KV head, FFN 20", "layers 2     4 heads, 1 KV head, FFN 28",
           "vocabulary   400, context 96, head tied", "theta 10000", "BOS 1, EOS 2", "F32 ",
           " tensors in 1 file");
    // All layers alike are one line.
    expect(in_dir("run/final/model"), "3 layers, dim 16",
           "layers all   4 heads, 2 KV heads, FFN 24\n  vocabulary");
    kv_error error = {0};
    kv_model *model;
    char fingerprint[17];
    assert_int_equal(kv_checkpoint_load(in_dir("base"), &model, &error), KV_OK);
    kv_checkpoint_fingerprint(model, fingerprint);
    if (inspect("--json", "--hash", in_dir("base"))) fail_msg("%s", err);
    json_t *root = json_loads(out, 0, NULL);
    assert_non_null(root);
    assert_string_equal(text(root, "kind"), "checkpoint");
    assert_string_equal(text(root, "fingerprint"), fingerprint);
    assert_int_equal(whole(root, "parameters"), kv_model_size(model, true));
    assert_int_equal(whole(root, "flops"), 2 * kv_model_size(model, true));
    assert_int_equal(whole(root, "parameters_without_embedding"), kv_model_size(model, false));
    assert_int_equal(whole(root, "context"), 96);
    assert_int_equal(whole(root, "kv_cache"), 4 * 2 * 8 * (1 + 2 + 1));
    const json_t *weights = json_object_get(root, "weights");
    assert_int_equal(whole(json_object_get(weights, "types"), "F32"), kv_model_size(model, true));
    json_decref(root);
    kv_model_free(model);
}

static void checkpoints_with_a_tokenizer(void **state) {
    (void)state;
    mkdir(in_dir("whole"), 0777);
    copy(in_dir("base/config.json"), in_dir("whole/config.json"));
    copy(in_dir("base/model.safetensors"), in_dir("whole/model.safetensors"));
    copy(in_dir("tokenizer.model"), in_dir("whole/tokenizer.model"));
    test_write_text(in_dir("whole/tokenizer_config.json"),
                    "{\"chat_template\": \"<|im_start|>x<|im_end|>\", \"tokenizer_class\": \"X\"}");
    expect(in_dir("whole"), "tokenizer.model, SentencePiece", "vocabulary   400, BOS 1, EOS 2",
           "padding rows 0 rows", "chat         ChatML", "pieces       0 <unk>, 1 <s>, 2 </s>");
    expect(in_dir("whole/tokenizer_config.json"), "tokenizer settings", "chat template");
    test_write_text(
        in_dir("whole/tokenizer_config.json"),
        "{\"model_max_length\": 1000000000000000019884624838656, \"chat_template\": \"[INST]<<SYS>>\"}");
    expect(in_dir("whole"), "chat         Llama-2");
    expect(in_dir("whole/tokenizer_config.json"), "tokenizer settings", "chat template");
    test_write_text(in_dir("whole/chat_template.jinja"), "<|start_header_id|>"); // wins
    expect(in_dir("whole"), "chat         Llama-3");
    test_write_text(in_dir("whole/chat_template.jinja"), "[INST]"); // without <<SYS>>: Mistral's
    expect(in_dir("whole"), "chat         another kind");
    remove(in_dir("whole/chat_template.jinja"));
    json_t *root = facts(in_dir("whole"));
    const json_t *tokenizer = json_object_get(root, "tokenizer");
    kv_tokenizer *opened;
    assert_int_equal(kv_tokenizer_open(in_dir("tokenizer.model"), &opened, NULL), KV_OK);
    assert_string_equal(text(tokenizer, "hash"), kv_tokenizer_hash(opened));
    assert_int_equal(whole(tokenizer, "vocabulary"), 400);
    kv_tokenizer_free(opened);
    json_decref(root);
    // A table larger, and one smaller than the tokenizer.
    copy(in_dir("stranger/config.json"), in_dir("whole/config.json"));
    copy(in_dir("stranger/model.safetensors"), in_dir("whole/model.safetensors"));
    expect(in_dir("whole"), "339 tokens more than the model's table has rows");
    unlink(in_dir("whole/model.safetensors"));
    expect(in_dir("whole"), "weights      none: there is no model.safetensors");
    unlink(in_dir("whole/config.json"));
    expect(in_dir("whole"), "tokenizer ", "400");
}

static void checkpoints_in_parts(void **state) {
    (void)state;
    mkdir(in_dir("parts"), 0777);
    copy(in_dir("base/config.json"), in_dir("parts/config.json"));
    copy(in_dir("base/model.safetensors"), in_dir("parts/model-00001-of-00002.safetensors"));
    test_write_text(
        in_dir("parts/model.safetensors.index.json"),
        "{\"metadata\": {\"total_size\": 123456},\n \"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\",\n"
        "  \"b\": \"model-00001-of-00002.safetensors\", \"c\": \"model-00002-of-00002.safetensors\"}}\n");
    expect(in_dir("parts/model.safetensors.index.json"), "safetensors index ", "3 in 2 files", "123 kB",
           "model-00001-of-00002.safetensors         2 tensors",
           "missing      model-00002-of-00002.safetensors (1 tensors)");
    expect(in_dir("parts"), "tensors in 1 file", "missing      model-00002-of-00002.safetensors");
    json_t *root = facts(in_dir("parts/model.safetensors.index.json"));
    assert_int_equal(whole(root, "n_missing"), 1);
    assert_int_equal(json_array_size(json_object_get(root, "files")), 2);
    json_decref(root);
    test_write_text(in_dir("parts/model.safetensors.index.json"), "{\"weight_map\": 3}");
    refuse(in_dir("parts"), "index.json: not the index of a checkpoint");
}

static void other_parts_of_models(void **state) {
    (void)state;
    expect("random:openelm-1.1b-lp-0.50:bf16@7", "14 layers, dim 2048",
           "layers 0-1   16 heads, 4 KV heads, FFN 1024 to 1536\n", "BF16 1.12 GB, random with seed 7");
    expect(in_dir("base/config.json"), "model description", "3 layers, dim 24");
    expect(in_dir("base/model.safetensors"), "safetensors ", "metadata     format = pt",
           "transformer.token_embeddings.weight", "F32   [400, 24]", "tensors in 1 file");
    expect(in_dir("predictor"), "predictor ", "3 of the base from 2 of the aux", "mapping      0 0 1",
           "fingerprint ", "layers 0 to 0: [8, 12]", "layers 1 to 1: [16, 12]", "layers 2 to 2: [8, 6]");
    expect(test_fixture("golden/kvp_c"), "layers 0 to 0: [16, 8]", "layers 1 to 1: [32, 8]",
           "layers 2 to 4: [32, 16]");
    expect(in_dir("predictor/predictor.json"), "predictor description", "mapping      0 0 1");
    expect(in_dir("predictor/predictor.safetensors"), "key.2.weight", "[8, 6]");
    json_t *root = facts(in_dir("predictor"));
    assert_int_equal(json_array_size(json_object_get(root, "mapping")), 3);
    assert_int_equal(whole(json_object_get(root, "layers"), "aux"), 2);
    json_decref(root);
    test_write_text(in_dir("other/config.json"), "{\"model_type\": \"mystery\"}");
    refuse(in_dir("other"), "other/config.json", "mystery");
    refuse(in_dir("other/config.json"), "mystery");
    refuse("random:openelm-1b", "random:openelm-1b: unknown shape");
}

static void tokenizers(void **state) {
    (void)state;
    expect(in_dir("tokenizer.model"), "tokenizer ", "SentencePiece", "vocabulary   400, BOS 1, EOS 2",
           "bos          1 <s>", "hash ");
    // By its content, whatever it is called.
    copy(in_dir("tokenizer.model"), in_dir("pieces.bin"));
    json_t *root = facts(in_dir("tokenizer.model")), *renamed = facts(in_dir("pieces.bin"));
    assert_string_equal(text(root, "hash"), text(renamed, "hash"));
    json_decref(root);
    json_decref(renamed);
}

// ---- Data ----------------------------------------------------------------------------------------------

static void shards(void **state) {
    (void)state;
    expect(in_dir("train.h5"), "token shard ", "documents    300, of ", "vocabulary   400, BOS 1, EOS 2",
           "tokenizer    ");
    json_t *root = facts(in_dir("train.h5"));
    assert_int_equal(whole(root, "documents"), 300);
    assert_int_equal(whole(root, "vocabulary"), 400);
    assert_true(whole(root, "tokens") >= 300 * whole(root, "shortest"));
    assert_true(whole(root, "tokens") <= 300 * whole(root, "longest"));
    json_decref(root);
    copy(in_dir("train.h5"), in_dir("shard.renamed"));
    expect(in_dir("shard.renamed"), "token shard ");
}

static void corpora(void **state) {
    (void)state;
    const char *const tokenize[] = {"tokenize",
                                    "-c",
                                    "0",
                                    "-m",
                                    "0",
                                    "-t",
                                    in_dir("tokenizer.model"),
                                    "-o",
                                    in_dir("corpus"),
                                    "--shard-tokens",
                                    "3000",
                                    in_dir("train.jsonl"),
                                    NULL};
    if (run("KVDATA", tokenize)) fail_msg("%s", err);
    expect(in_dir("corpus"), "corpus ", "documents    300\n", " shards\n", "vocabulary   400, BOS 1, EOS 2",
           "at least 0 characters and 0 tokens", "left out     0 too short", "train.jsonl",
           "shard-00000.h5  ");
    expect(in_dir("corpus/index.json"), "corpus ", "documents    300\n");
    json_t *root = facts(in_dir("corpus")), *one = facts(in_dir("train.h5"));
    assert_int_equal(whole(root, "tokens"), whole(one, "tokens"));
    assert_string_equal(text(root, "tokenizer"), text(one, "tokenizer"));
    const size_t n = json_array_size(json_object_get(root, "shards"));
    assert_true(n >= 3);
    json_decref(root);
    json_decref(one);
    assert_int_equal(inspect("-t", in_dir("tokenizer.model"), "-d", "1", in_dir("corpus")), 0);
    assert_non_null(strstr(out, "-- document 0"));
    // What is left of a run that was killed.
    copy(in_dir("corpus/index.json"), in_dir("kept.json"));
    remove(in_dir("corpus/index.json"));
    refuse(in_dir("corpus"), "nothing in this directory is known", "a corpus (index.json)");
    test_write_text(
        in_dir("corpus/unfinished.json"),
        "{\"format\": \"kv-tokenize\", \"version\": 1, \"shards\": [1, 2], \"counts\": "
        "{\"documents\": 7, \"tokens\": 6000}, \"place\": {\"file\": 0}, \"inputs\": {\"files\": 1}}");
    expect(in_dir("corpus"), "unfinished corpus ", "shards       2 finished", "tokens       6000",
           "0 of 1 files to their end", "started again with the same arguments");
    remove(in_dir("corpus/unfinished.json"));
    copy(in_dir("kept.json"), in_dir("corpus/index.json"));
    remove(in_dir("corpus/shard-00001.h5"));
    refuse(in_dir("corpus"), "shard-00001.h5");
}

static void expect_whole_lines(const char *path, const char *lines) {
    if (inspect("-d", "9", path)) fail_msg("%s", err);
    if (!strstr(out, lines)) fail_msg("%s\nexpected:\n%s", out, lines);
}

static void texts(void **state) {
    (void)state;
    expect(in_dir("train.jsonl"), "JSON lines of text", "documents    300\n");
    if (inspect("-d", "1", in_dir("train.jsonl"))) fail_msg("%s", err);
    assert_non_null(strstr(out, "-- document 0: Question: "));
    char *content = test_read_text(in_dir("train.jsonl"));
    gzFile gz = gzopen(in_dir("train.jsonl.gz"), "wb");
    assert_true(gzwrite(gz, content, (unsigned)strlen(content)) > 0);
    gzclose(gz);
    free(content);
    expect(in_dir("train.jsonl.gz"), "JSON lines of text", "documents    300\n", "stored as gzip");
    test_write_text(in_dir("plain.txt"), "One.\n\nTwo \xC3\xA9,\nstill two.\n\nThree.\n");
    expect(in_dir("plain.txt"), "plain text", "documents    3, separated by blank lines");
    // Each document to its own end: not to the NUL that happens to follow, nor only to one within.
    test_write_text(in_dir("shorter.txt"), "the first, a long line\nline two\n\nsecond\n\n3");
    expect_whole_lines(in_dir("shorter.txt"), "  -- document 0: the first, a long line\\nline two\\n\n"
                                              "  -- document 1: second\\n\n"
                                              "  -- document 2: 3\n");
    test_write_text(in_dir("nul.jsonl"), "{\"text\": \"longer than the next\"}\n{\"text\": \"a\\u0000b\"}\n");
    expect_whole_lines(in_dir("nul.jsonl"), "  -- document 0: longer than the next\n  -- document 1: a?b\n");
    expect(in_dir("eval/results.csv"), "table ", "columns      ");
    expect(test_fixture("fixtures/trivia_original.json"), "TriviaQA questions", "items        2",
           "answer       Lamp Room", "3 answers");
    expect(in_dir("questions_trained.jsonl"), "TriviaQA questions", "items        240");
    expect(test_fixture("fixtures/code_problems.jsonl"), "HumanEval problems", "items        4",
           "first        Made/0");
    static const char *const choices[][2] = {{"arc", "arc_challenge or arc_easy"},
                                             {"boolq", "boolq"},
                                             {"hellaswag", "hellaswag"},
                                             {"piqa", "piqa"},
                                             {"sciq", "sciq"},
                                             {"winogrande", "winogrande"}};
    for (int i = 0; i < 6; i++) {
        char name[64];
        snprintf(name, sizeof name, "fixtures/choices/%s.jsonl", choices[i][0]);
        expect(test_fixture(name), "multiple choice", choices[i][1], "\n    * ", "\n    - ");
    }
    expect(test_fixture("fixtures/choices/arc_viewer.json"), "multiple choice");
    expect(in_dir("atlas.json"), "description of the fact corpus", "facts        300");
    test_write_text(in_dir("least_squares.json"), "{\"tokens\": 64, \"ridge\": 0.5, \"aux_layers\": [0]}");
    expect(in_dir("least_squares.json"), "least-squares start of a run", "tokens       64");
    test_write_text(in_dir("best_layers.json"),
                    "{\"tokens\": 64, \"ridge\": 0.5, \"keys\": {}, \"values\": {}}");
    expect(in_dir("best_layers.json"), "choice of a run's best aux layers", "tokens       64");
}

// ---- Runs ----------------------------------------------------------------------------------------------

static void runs_of_kvtrain(void **state) {
    (void)state;
    expect(in_dir("run"), "run of kvtrain ", "task         lm", "steps        3", "steps done   3",
           "last         step 3, ", "loss ", "step-000001, step-000002", "finished     yes",
           "holds        model", "validation   loss ", " at step 3, best ", " at step 3, 2 passes\n",
           "best         model\n");
    expect(in_dir("run/metrics.jsonl"), "metrics of kvtrain", "logged       5 lines", "steps done   3");
    test_write_text(in_dir("stopped.json"),
                    "{\"interrupted\": false, \"step\": 7, \"message\": \"no room\"}");
    expect(in_dir("stopped.json"), "why a run stopped", "interrupted  no, it failed", "step         7",
           "message      no room");
    expect(in_dir("run/best"), "training checkpoint", "step         3", "validation loss ",
           "holds        model");
    expect(in_dir("run/final"), "training checkpoint", "step         3",
           "holds        model, optimizer.h5\n");
    expect(in_dir("run/checkpoints/step-000002"), "training checkpoint", "step         2", "tokenizer ",
           "model, optimizer.h5");
    expect(in_dir("run/checkpoints/step-000002/state.json"), "state of a run", "step         2");
    expect(in_dir("run/checkpoints/step-000002/optimizer.h5"), "optimiser state", "step         2",
           "two moments each");
    expect(in_dir("run/metrics.jsonl"), "metrics of kvtrain", "logged       5 lines", "steps done   3");
    expect(in_dir("run/config.yaml"), "config ", "program      kvtrain", "task         lm");
    json_t *root = facts(in_dir("run"));
    assert_int_equal(whole(root, "steps_done"), 3);
    assert_true(json_is_true(json_object_get(root, "finished")));
    json_decref(root);
    // Not finished, and a line that was cut short.
    mkdir(in_dir("stopped"), 0777);
    copy(in_dir("run/config.yaml"), in_dir("stopped/config.yaml"));
    test_write_text(in_dir("stopped/metrics.jsonl"), "{\"step\": 1, \"loss\": 5}\n{\"step\": 2, \"lo");
    expect(in_dir("stopped"), "logged       1 lines", "steps done   1", "checkpoints  none",
           "finished     no");
}

static void configs(void **state) {
    (void)state;
    expect(in_dir("lm.yaml"), "program      kvtrain");
    expect(in_dir("eval.yaml"), "program      kveval", "systems      3", "tasks        2");
    // Told by what it extends, and by its content under another name.
    test_write_text(in_dir("more.yaml"), "extends: eval.yaml\noutput: elsewhere\n");
    expect(in_dir("more.yaml"), "program      kveval", "extends      eval.yaml");
    copy(in_dir("lm.yaml"), in_dir("config.txt"));
    expect(in_dir("config.txt"), "config ", "program      kvtrain");
    // A mixture, part by part.
    test_write_text(in_dir("mix.yaml"),
                    "task: lm\ndata:\n  validation: held\n"
                    "  mixture: [{corpus: books, weight: 2}, {corpus: code, weight: 0.5}]\n");
    expect(in_dir("mix.yaml"), "data         books (weight 2), code (weight 0.5)\n", "held out     held\n");
    test_write_text(in_dir("sweep.yaml"), "sweep: lambda.yaml\noutput: elsewhere\nruns:\n  - name: a\n");
    expect(in_dir("sweep.yaml"), "program      kvtrain", "sweep        lambda.yaml", "runs         1");
    test_write_text(in_dir("lambda.yaml"), "train: lm.yaml\narms:\n  - {name: a}\n  - {name: b}\n");
    expect(in_dir("lambda.yaml"), "program      kvtrain", "sweep of     lm.yaml", "arms         2");
    test_write_text(in_dir("circle.yaml"), "extends: circle.yaml\n");
    refuse(in_dir("circle.yaml"), "YAML, but neither a config of kvtrain");
    test_write_text(in_dir("bad.yaml"), "task: [lm\n");
    refuse(in_dir("bad.yaml"), "bad.yaml:", "not valid YAML");
}

static void evaluations(void **state) {
    (void)state;
    expect(in_dir("eval/results.h5"), "results of kveval ", "systems      3",
           "atlas trained: exact_match in % of 12 items", "aux, alone",
           "time to first token, 2 prompts of 20 tokens, ms");
    expect(in_dir("eval"), "results of kveval ", "results.csv", "samples");
    // Figures that differ, which random models do not reach.
    const double accuracy[] = {0.25, 0.5, 0.875};
    copy(in_dir("eval/results.h5"), in_dir("figures.h5"));
    hid_t file = H5Fopen(in_dir("figures.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t dataset = H5Dopen2(file, "/tasks/0/accuracy", H5P_DEFAULT);
    assert_true(dataset >= 0);
    assert_true(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, accuracy) >= 0);
    H5Dclose(dataset), H5Fclose(file);
    expect(in_dir("figures.h5"), " 25\n", " 50\n", " 87.5\n");
    // Nats are no per cent.
    static const char *const lower[] = {"lower"};
    copy(in_dir("figures.h5"), in_dir("nats.h5"));
    file = H5Fopen(in_dir("nats.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
    assert_true(H5Ldelete(file, "/tasks/0/better", H5P_DEFAULT) >= 0);
    assert_int_equal(kv_h5_write_strings(file, "/tasks/0/better", lower, 1, NULL), KV_OK);
    H5Fclose(file);
    expect(in_dir("nats.h5"), "atlas trained: exact_match of 12 items; lower is better\n", " 0.25\n",
           " 0.875\n");
    json_t *root = facts(in_dir("figures.h5"));
    const json_t *tasks = json_object_get(root, "tasks"), *first = json_array_get(tasks, 0);
    assert_int_equal(json_array_size(tasks), 2);
    assert_string_equal(text(first, "split"), "trained");
    for (size_t i = 0; i < 3; i++)
        assert_true(json_number_value(json_array_get(json_object_get(first, "values"), i)) == accuracy[i]);
    json_decref(root);
    expect(in_dir("eval/samples/atlas-trained/base.jsonl"), "samples of kveval", "answers      12",
           "task         atlas", "system       base", "split        trained");
    expect(in_dir("eval/pareto.svg"), "picture ");
    mkdir(in_dir("half"), 0777);
    mkdir(in_dir("half/samples"), 0777);
    expect(in_dir("half"), "unfinished evaluation", "samples");
}

static void any_hdf5_file(void **state) {
    (void)state;
    hid_t file = -1;
    const float values[] = {1, 2, 3, 4, 5, 6};
    const int64_t shape[] = {2, 3}, n = 6;
    const int32_t whole_numbers[] = {1, 2, 3, 4, 5, 6};
    assert_int_equal(kv_h5_create(in_dir("cache.h5"), &file, NULL), KV_OK);
    kv_h5_write(file, "layers/0/keys", H5T_NATIVE_FLOAT, values, 2, shape, NULL);
    kv_h5_write(file, "ids", H5T_NATIVE_INT32, whole_numbers, 1, &n, NULL);
    kv_h5_set_string(file, "/", "format", "kv-other", NULL);
    kv_h5_set_string(file, "layers", "base", "two\nlines", NULL);
    kv_h5_set_f64(file, "layers/0", "scale", 0.5, NULL);
    kv_h5_set_i64(file, "layers/0/keys", "layer", 7, NULL);
    char long_text[400];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    kv_h5_set_string(file, "ids", "source", long_text, NULL);
    const hsize_t many = 20;
    double reals[20] = {0.25, 1};
    hid_t space = H5Screate_simple(1, &many, NULL), ids = H5Dopen2(file, "ids", H5P_DEFAULT);
    hid_t attribute = H5Acreate2(ids, "curve", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_DOUBLE, reals);
    H5Aclose(attribute), H5Dclose(ids), H5Sclose(space);
    H5Fclose(file);
    expect(in_dir("cache.h5"), "HDF5 file ", "@format = \"kv-other\"", "layers/\n    @base = \"two\\nlines\"",
           "@scale = 0.5", "layers/0/keys                            float32 [2, 3]\n    @layer = 7",
           "int32 [6]", "xxxx...\"", "@curve = 0.25, 1, 0, 0, 0, 0, 0, 0, ... 20 in all");
    json_t *root = facts(in_dir("cache.h5")), *object;
    size_t i;
    bool found = false;
    json_array_foreach(json_object_get(root, "objects"), i, object) {
        if (strcmp(text(object, "name"), "layers/0/keys") != 0) continue;
        found = true;
        assert_int_equal(whole(json_object_get(object, "attributes"), "layer"), 7);
        assert_int_equal(json_array_size(json_object_get(object, "shape")), 2);
    }
    assert_true(found);
    json_decref(root);
}

// ---- Nothing of ours, and damaged ----------------------------------------------------------------------

static void unknown_things(void **state) {
    (void)state;
    kv_error error = {0};
    static const struct {
        const char *name, *content;
        size_t size;
        const char *part;
    } cases[] = {
        {"pytorch_model.bin", "PK\3\4\0\0\10\10abc", 11, "not a file of this project: a ZIP archive"},
        {"pytorch.pt", "PK\3\4\0\0\10\10a/data.pkl", 18, "a file of PyTorch's torch.save (transformers'"},
        {"program",
         "\x7F"
         "ELF\2\1\1\0\0",
         9, "what libmagic calls \"ELF 64-bit"},
        {"noise", "\1\2\3\4\5\6\7\x8\x9", 9, "begins with 01 02 03"},
        {"nothing", "", 0, "an empty file"},
        {"list.json", "[1, 2, 3]", 9, "JSON, but not a file of this project"},
        {"other.json", "{\"colour\": \"red\", \"size\": 3}", 28, "it has the keys 'colour', 'size'"},
        {"cut.json", "{\"model_type\": \"openelm\", ", 26, "not valid JSON, or cut short"},
        {"wrong.h5", "hello", 5, "wrong.h5"},
        {"wrong.safetensors", "hello", 5, "wrong.safetensors: nothing but the text \"hello\", expected"},
        {"wrong.model", "hello", 5, "wrong.model: nothing but the text \"hello\", expected a tokenizer"},
        {"bad.gz", "\x1F\x8B\x08\0junkjunk", 12, "bad.gz"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(kv_write_file(in_dir(cases[i].name), cases[i].content, cases[i].size, &error),
                         KV_OK);
        refuse(in_dir(cases[i].name), cases[i].part);
    }
    test_write_text(in_dir("lines.jsonl"), "{\"model_type\": \"openelm\"}\n{\"model_type\": \"llama\"}\n");
    refuse(in_dir("lines.jsonl"), "it has the keys 'model_type'");
    refuse(in_dir("gone"), "gone: No such file or directory");
    refuse("/dev/null", "neither a file nor a directory");
    mkdir(in_dir("empty"), 0777);
    refuse(in_dir("empty"), "expected a checkpoint");
    // Deep nesting does not exhaust the stack.
    FILE *file = fopen(in_dir("deep.json"), "w");
    for (int i = 0; i < 200000; i++) fputc('[', file);
    fclose(file);
    refuse(in_dir("deep.json"), "not valid JSON");
}

static const char *const samples[] = {
    "base/model.safetensors",
    "base/config.json",
    "train.h5",
    "eval/results.h5",
    "predictor/predictor.json",
    "tokenizer.model",
    "run/metrics.jsonl",
    "run/checkpoints/step-000002/optimizer.h5",
    "eval/samples/atlas-trained/base.jsonl",
    "lm.yaml",
    "questions_trained.jsonl",
};
enum { N_SAMPLE_FILES = sizeof samples / sizeof *samples };

// An answer or a line that says what is wrong; nothing else, in either form.
static void expect_sane(const char *path) {
    const char *const forms[][3] = {{"inspect", path, NULL}, {"inspect", "--json", path}};
    for (int i = 0; i < 2; i++) {
        const char *const arguments[] = {forms[i][0], forms[i][1], forms[i][2], NULL};
        const int status = run("KVDATA", arguments);
        if (status != 0 && status != 1) fail_msg("%s: status %d: %s", path, status, err);
        const char *newline = strchr(err, '\n');
        if (status == 1 && (!newline || newline[1] || strncmp(err, "kvdata: ", 8) != 0)) fail_msg("%s", err);
        if (status == 1 || i == 0) continue;
        json_t *root = json_loads(out, 0, NULL);
        if (!root && strlen(out) + 1 < sizeof err) fail_msg("%s: no JSON: %s", path, out);
        json_decref(root);
    }
}

// HDF5 files are only cut short: the library itself reads beyond its buffers on some damaged headers.
static void damaged_files(void **state) {
    (void)state;
    kv_error error = {0};
    for (int f = 0; f < N_SAMPLE_FILES; f++) {
        char *bytes, name[64];
        const char *dot = strrchr(samples[f], '.');
        size_t size;
        snprintf(name, sizeof name, "damaged%s", dot);
        if (kv_read_file(in_dir(samples[f]), 1 << 24, &bytes, &size, &error)) fail_msg("%s", error.message);
        for (int64_t i = 0; i < 12; i++) {
            char *copied = test_alloc((int64_t)size + 1, 1);
            memcpy(copied, bytes, size);
            size_t length = size;
            if (i % 3 == 0 || strcmp(dot, ".h5") == 0)
                length = (size_t)test_below(21, 64 * f + i, (int64_t)size);
            else
                for (int k = 0; k < 4; k++) // headers are at the beginning
                    copied[test_below(22, 8 * (64 * f + i) + k,
                                      i % 3 == 1 && size > 400 ? 400 : (int64_t)size)] =
                        (char)test_below(23, 8 * (64 * f + i) + k, 256);
            if (kv_write_file(in_dir(name), copied, length, &error)) fail_msg("%s", error.message);
            free(copied);
            expect_sane(in_dir(name));
        }
        free(bytes);
        unlink(in_dir(name));
    }
}

static void names_that_are_not_text(void **state) {
    (void)state;
    copy(in_dir("train.jsonl"), in_dir("na\xFFme.jsonl"));
    json_t *root = facts(in_dir("na\xFFme.jsonl"));
    assert_true(json_is_null(json_object_get(root, "path")));
    json_decref(root);
}

static void help_teaches(void **state) {
    (void)state;
    assert_int_equal(inspect("--help"), 0);
    static const char *const parts[] = {"--json",    "--hash",     "--documents",   "checkpoint",
                                        "predictor", "results.h5", "tokenizer.json"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(out, parts[i])) fail_msg("'%s' not in %s", parts[i], out);
    assert_int_equal(inspect("--nonsense", in_dir("base")), 2);
    // A reader that has seen enough.
    char command[512];
    snprintf(command, sizeof command, "%s inspect %s | head -1 > /dev/null", getenv("KVDATA"),
             in_dir("base/model.safetensors"));
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoints),
        cmocka_unit_test(checkpoints_with_a_tokenizer),
        cmocka_unit_test(checkpoints_in_parts),
        cmocka_unit_test(other_parts_of_models),
        cmocka_unit_test(tokenizers),
        cmocka_unit_test(shards),
        cmocka_unit_test(corpora),
        cmocka_unit_test(texts),
        cmocka_unit_test(runs_of_kvtrain),
        cmocka_unit_test(configs),
        cmocka_unit_test(evaluations),
        cmocka_unit_test(any_hdf5_file),
        cmocka_unit_test(unknown_things),
        cmocka_unit_test(damaged_files),
        cmocka_unit_test(names_that_are_not_text),
        cmocka_unit_test(help_teaches),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
