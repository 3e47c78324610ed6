// kvtrain on corpora of many shards, mixtures and fixed packing: what a run reads, that it goes on bit by
// bit, and that it is not resumed with other text.
#include "data/corpus/batches.h"
#include "data/file/path.h"
#include "tests/support/train.h"
#include "train/run/footprint.h"
#include "train/run/training.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const kv_shard_info info = {
    .tokenizer = "0123456789abcdef", .vocab_size = TEST_VOCAB, .bos_id = 1, .eos_id = 2};

// A shard of n documents of 14 tokens, which count up from a drawn start by `stride`.
static void write_shard(const char *path, const kv_shard_info *said, int64_t n, int stride, char hash[17]) {
    kv_shard_writer *writer;
    assert_int_equal(kv_shard_writer_open(path, said, &writer, NULL), KV_OK);
    for (int64_t d = 0; d < n; d++) {
        int32_t ids[14] = {said->bos_id};
        for (int64_t i = 1; i < 13; i++)
            ids[i] = 3 + (int32_t)((test_below(5, d, 29) + i * stride) % (TEST_VOCAB - 3));
        ids[13] = said->eos_id;
        assert_int_equal(kv_shard_writer_add(writer, ids, 14, NULL), KV_OK);
    }
    assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
    strcpy(hash, kv_shard_writer_hash(writer));
    kv_shard_writer_free(writer);
}

// A directory of shards of so many documents.
static void write_corpus(const char *dir, const kv_shard_info *said, int n_shards, const int64_t *n_documents,
                         int stride) {
    char path[PATH_MAX], hash[17];
    json_t *list = json_array();
    assert_int_equal(kv_make_dirs(dir, NULL), KV_OK);
    for (int s = 0; s < n_shards; s++) {
        char name[32];
        snprintf(name, sizeof name, "shard-%05d.h5", s);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        write_shard(path, said, n_documents[s], stride, hash);
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:s}", "file", name, "documents",
                                              (json_int_t)n_documents[s], "tokens",
                                              (json_int_t)(14 * n_documents[s]), "hash", hash));
    }
    json_t *index = json_pack("{s:s, s:i, s:o}", "format", "kv-corpus", "version", 1, "shards", list);
    snprintf(path, sizeof path, "%s/index.json", dir);
    assert_int_equal(json_dump_file(index, path, 0), 0);
    json_decref(index);
}

static int set_up(void **state) {
    if (train_setup(state)) return 1;
    char hash[17];
    write_corpus("many", &info, 4, (const int64_t[]){20, 7, 30, 3}, 1);
    write_corpus("few", &info, 2, (const int64_t[]){10, 12}, 2);
    write_shard("more.h5", &info, 25, 3, hash);
    return 0;
}

#define MIXTURE                                                                                                 \
    "data: {mixture: [{corpus: many, weight: 2}, {corpus: more.h5, weight: 0.5}, {corpus: few, weight: 1.5}], " \
    "seq_len: 16, batch_size: 8, micro_batch_size: 4}\n"
#define MODEL                                                                                                  \
    "model: {from: scratch, n_layers: 1, model_dim: 16, head_dim: 8, n_heads: 2, n_kv_heads: 1, ffn_dim: 24, " \
    "context_length: 32}\n"

static void put_mixture(void) {
    put_file("mix.yaml", "task: lm\noutput: mix\nseed: 5\n" MIXTURE MODEL
                         "train: {steps: 24, lr: 1e-2, checkpoint_every: 8, log_every: 1}\n");
}

static void the_dry_run_lists_the_parts(void **state) {
    (void)state;
    put_mixture();
    train_expect(0, ARGS("mix.yaml", "--dry-run"));
    const char *out = train_output();
    static const char *const lines[] = {
        "data         50.0 % of many: 60 documents, 840 tokens in 4 shards, vocabulary 32; 1.83 epochs\n",
        "             12.5 % of more.h5: 25 documents, 350 tokens, vocabulary 32; 1.1 epochs\n",
        "             37.5 % of few: 22 documents, 308 tokens in 2 shards, vocabulary 32; 3.74 epochs\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(out, lines[i])) fail_msg("no '%s' in: %s", lines[i], out);
    train_expect(0, ARGS("mix.yaml", "--dry-run", "-s", "data.packing=fixed"));
    if (!strstr(train_output(), "fixed packing")) fail_msg("%s", train_output());
    assert_false(kv_path_exists("mix"));
}

// Stopped and gone on with, the same weights; and text that is another one is not gone on with, whichever
// part it is.
static void a_mixture_goes_on(void **state) {
    (void)state;
    put_mixture();
    static const char *const packings[] = {"data.packing=stream", "data.packing=fixed"};
    for (int i = 0; i < 2; i++) {
        train_expect(0, ARGS("mix.yaml", "-o", "straight", "--force", "-s", packings[i]));
        train_expect(0, ARGS("mix.yaml", "-o", "cut", "--force", "-s", packings[i]));
        kv_error err;
        assert_int_equal(kv_remove_tree("cut/final", &err), KV_OK);
        train_expect(0, ARGS("mix.yaml", "-o", "cut", "--resume", "-s", packings[i]));
        assert_true(same_file("straight/final/model/model.safetensors", "cut/final/model/model.safetensors"));
    }
    train_refuse("key `data.packing`: found `stream`, expected `fixed`",
                 ARGS("mix.yaml", "-o", "cut", "--resume"));
}

static void expect_lines(const char *const *lines) {
    for (; *lines; lines++)
        if (!strstr(train_output(), *lines)) fail_msg("no '%s' in: %s", *lines, train_output());
}

// Every part with its weight and its share, alone, among others and for programs.
static void status_tells_the_parts(void **state) {
    (void)state;
    put_mixture();
    const char *const held_out = "data.validation=more.h5";
    train_expect(0, ARGS("mix.yaml", "-o", "told", "--force", "-s", held_out));
    train_expect(0, ARGS("status", "told"));
    expect_lines(ARGS("text         many, weight 2: 50 % of the sequences\n"
                      "             more.h5, weight 0.5: 12.5 % of the sequences\n"
                      "             few, weight 1.5: 37.5 % of the sequences\n"
                      "             held out more.h5\nstate "));
    train_expect(0, ARGS("mix.yaml", "-o", "untold", "--force"));
    train_expect(0, ARGS("status", "untold"));
    expect_lines(ARGS("             few, weight 1.5: 37.5 % of the sequences\nstate "));
    train_expect(0, ARGS("status", "--json", "told", "base"));
    expect_lines(ARGS("\"text\": [{\"corpus\": \"many\", \"weight\": 2.0, \"share\": 0.5}, "
                      "{\"corpus\": \"more.h5\", \"weight\": 0.5, \"share\": 0.125}, "
                      "{\"corpus\": \"few\", \"weight\": 1.5, \"share\": 0.375}], \"held_out\": \"more.h5\"",
                      "\"text\": [{\"corpus\": \"shard.h5\", \"weight\": 1.0, \"share\": 1.0}], "
                      "\"held_out\": null"));
    train_expect(0, ARGS("status", "told", "base"));
    expect_lines(ARGS("text", "50 % many, 12.5 % more.h5, 37.5 % few\n", "        shard.h5"));
}

static void other_text_is_refused(void **state) {
    (void)state;
    put_mixture();
    kv_error err;
    char hash[17];
    train_expect(0, ARGS("mix.yaml", "-o", "text", "--force"));
    assert_int_equal(kv_remove_tree("text/final", &err), KV_OK);
    train_refuse("key `data.mixture[0].weight`",
                 ARGS("mix.yaml", "-o", "text", "--resume", "-s", "data.mixture[0].weight=3"));
    // As many tokens, but others; fewer; in another order.
    write_shard("more.h5", &info, 25, 4, hash);
    train_refuse("key `data.mixture[1].corpus`: more.h5 holds other text (hash ",
                 ARGS("mix.yaml", "-o", "text", "--resume"));
    write_shard("more.h5", &info, 24, 3, hash);
    train_refuse("key `data.mixture[1].corpus`: more.h5 has 336 tokens, expected the 350",
                 ARGS("mix.yaml", "-o", "text", "--resume"));
    write_shard("more.h5", &info, 25, 3, hash);
    write_corpus("few", &info, 2, (const int64_t[]){12, 10}, 2);
    train_refuse("key `data.mixture[2].corpus`: few holds other text",
                 ARGS("mix.yaml", "-o", "text", "--resume"));
    write_corpus("few", &info, 2, (const int64_t[]){10, 12}, 2);
    train_expect(0, ARGS("mix.yaml", "-o", "text", "--resume"));
}

static void parts_must_agree(void **state) {
    (void)state;
    put_mixture();
    char hash[17];
    kv_shard_info other = info;
    strcpy(other.tokenizer, "fedcba9876543210");
    write_shard("other.h5", &other, 5, 1, hash);
    train_refuse(
        "key `data.mixture[1].corpus`: made with tokenizer fedcba9876543210, expected 0123456789abcdef as in data.mixture[0].corpus",
        ARGS("mix.yaml", "-o", "bad", "-s", "data.mixture[1].corpus=other.h5"));
    other = info, other.vocab_size++;
    write_shard("other.h5", &other, 5, 1, hash);
    train_refuse("key `data.mixture[2].corpus`: made with a vocabulary of 33, expected 32",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.mixture[2].corpus=other.h5"));
    other = info, other.bos_id = 3;
    write_shard("other.h5", &other, 5, 1, hash);
    train_refuse("key `data.mixture[1].corpus`: made with BOS 3 and EOS 2, expected 1 and 2",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.mixture[1].corpus=other.h5"));
    train_refuse("key `data.validation`: made with BOS 3",
                 ARGS("base.yaml", "-o", "bad", "-s", "data.validation=other.h5"));
    assert_false(kv_path_exists("bad"));
}

static void bad_mixtures(void **state) {
    (void)state;
    put_mixture();
    train_refuse("key `data.train`: found a key without effect, expected it only without data.mixture",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.train=more.h5"));
    train_refuse("key `data.mixture[1].weight`: found -1, expected 1e-09 to 1e+09",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.mixture[1].weight=-1"));
    train_refuse("key `data.mixture[1].weight`: found 0",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.mixture[1].weight=0"));
    train_refuse("key `data.mixture[0].weight`: found nothing",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.mixture=[{corpus: many}]"));
    train_refuse("key `data.mixture[0].corpus`: found nothing",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.mixture=[{weight: 1}]"));
    train_refuse("key `data.mixture[1].corpus`: gone: No such file",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.mixture[1].corpus=gone"));
    train_refuse("key `data.mixture",
                 ARGS("mix.yaml", "-o", "bad", "-s",
                      "data.mixture=[{corpus: many, weight: 1e-9}, {corpus: few, weight: 1e9}]"));
    train_refuse("key `data.mixture[2].corpus`: few: no shard of the corpus has more than 170 tokens",
                 ARGS("mix.yaml", "-o", "bad", "-s", "data.packing=fixed", "-s", "data.seq_len=170", "-s",
                      "model.context_length=200"));
    train_refuse("key `data.train`: many/shard-00001.h5",
                 ARGS("base.yaml", "-o", "bad", "-s", "data.train=many/shard-00001.h5", "-s",
                      "data.packing=fixed", "-s", "data.seq_len=98"));
    assert_false(kv_path_exists("bad"));
}

// What is counted for text is the largest shard of each part, with the order of its documents.
static void the_largest_shards_count(void **state) {
    (void)state;
    put_mixture();
    kv_error err = {0};
    kv_training training = {0};
    if (kv_training_open(&training, "mix.yaml", NULL, 0, &err)) fail_msg("%s", err.message);
    const double documents = 30 + 25 + 12, expected = documents * 14 * 4 + documents * 3 * 8;
    assert_true(kv_train_text_bytes(&training.text) == expected);
    assert_int_equal(training.text.n_tokens, 14 * (60 + 25 + 22));
    kv_training_close(&training);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_dry_run_lists_the_parts),
        cmocka_unit_test(a_mixture_goes_on),
        cmocka_unit_test(status_tells_the_parts),
        cmocka_unit_test(other_text_is_refused),
        cmocka_unit_test(parts_must_agree),
        cmocka_unit_test(bad_mixtures),
        cmocka_unit_test(the_largest_shards_count),
    };
    return cmocka_run_group_tests(tests, set_up, train_teardown);
}
