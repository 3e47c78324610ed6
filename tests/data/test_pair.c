// What of a pair is checked before any weights are read: each mismatch is named with the role and the path of
// what is at fault, what was found and what was expected; what goes together by design is let pass.
#include "tests/support/corpus.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/tiny.h"

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/pair.h"
#include "data/file/content.h"
#include "data/file/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECES = 400 }; // of test_small_corpus's tokenizer

static const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

static void must(kv_status status, const kv_error *err) {
    if (status) fail_msg("%s", err->message);
}

// ---- Making what is checked ----------------------------------------------------------------------------

static void make_model(const char *name, kv_model_spec spec, int64_t vocab_size, int64_t context) {
    kv_error err = {0};
    spec.vocab_size = vocab_size;
    spec.context_length = context;
    kv_model *model = tiny_model(&spec, 1);
    mkdir(in_dir(name), 0777);
    must(kv_checkpoint_save(in_dir(name), model, &err), &err);
    kv_model_free(model);
}

// A tokenizer.model in a directory: the corpus's, with `was` (a piece of it) replaced by as many bytes of
// `is`, and with pieces[n] more behind it. NULL: as it is.
static void make_tokenizer(const char *name, const char *was, const char *is, const char *const *more,
                           int n) {
    kv_error err = {0};
    char *bytes, path[256];
    size_t size;
    must(kv_read_file(in_dir("tokenizer.model"), 1 << 20, &bytes, &size, &err), &err);
    bytes = realloc(bytes, size + 4096);
    assert_non_null(bytes);
    if (was) {
        char *at = memmem(bytes, size, was, strlen(was));
        assert_non_null(at);
        memcpy(at, is, strlen(was));
    }
    for (int i = 0; i < n; i++) {
        // ModelProto.pieces: {piece, type: USER_DEFINED}
        const size_t length = strlen(more[i]);
        assert_true(length < 100);
        bytes[size++] = 0x0A, bytes[size++] = (char)(length + 4);
        bytes[size++] = 0x0A, bytes[size++] = (char)length;
        memcpy(bytes + size, more[i], length), size += length;
        bytes[size++] = 0x18, bytes[size++] = 4;
    }
    snprintf(path, sizeof path, "%s/tokenizer.model", in_dir(name));
    must(kv_write_file(path, bytes, size, &err), &err);
    free(bytes);
}

static void no_tokenizer(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/tokenizer.model", in_dir(name));
    unlink(path);
}

static void save_predictor(const char *name, kv_predictor *predictor) {
    kv_error err = {0};
    mkdir(in_dir(name), 0777);
    must(kv_predictor_save(in_dir(name), predictor, NULL, &err), &err);
    kv_predictor_free(predictor);
}

static void make_predictor(const char *name, const kv_model_spec *base, const kv_model_spec *aux) {
    save_predictor(name, tiny_predictor(base, aux, 3));
}

static char base_dir[128], aux_dir[128], wide[128], wide_aux[128], small[128], predictor[128], prefix[128];

static void name_dirs(void) {
    snprintf(base_dir, sizeof base_dir, "%s", in_dir("base"));
    snprintf(aux_dir, sizeof aux_dir, "%s", in_dir("aux"));
    snprintf(wide, sizeof wide, "%s", in_dir("wide"));
    snprintf(wide_aux, sizeof wide_aux, "%s", in_dir("wide-aux"));
    snprintf(small, sizeof small, "%s", in_dir("small"));
    snprintf(predictor, sizeof predictor, "%s", in_dir("predictor"));
    snprintf(prefix, sizeof prefix, "%s", in_dir("prefix"));
}

static int set_up(void **state) {
    test_dir_set_up(state);
    test_small_corpus(test_dir);
    const kv_model_spec base = tiny_base(), aux = tiny_aux();
    make_model("base", base, PIECES, 64);
    make_model("aux", aux, PIECES, 48);
    make_model("wide", base, PIECES + 20, 64);
    make_model("wide-aux", aux, PIECES + 10, 64);
    make_model("small", aux, PIECES - 100, 64);
    make_predictor("predictor", &base, &aux);
    save_predictor("prefix", tiny_prefix_predictor(&base, 2, 4));
    name_dirs();
    return 0;
}

// ---- Checking ------------------------------------------------------------------------------------------

static void pass(kv_pair pair) {
    kv_error err = {0};
    must(kv_pair_check(&pair, &err), &err);
}

#define refuse(part, pair, ...) check_refusal(part, pair, (const char *const[]){__VA_ARGS__, NULL})

static void check_refusal(kv_pair_part part, kv_pair pair, const char *const *messages) {
    kv_error err = {0};
    kv_pair_part blamed = (kv_pair_part)-1;
    pair.blamed = &blamed;
    kv_status status = kv_pair_check(&pair, &err);
    if (status == KV_OK) fail_msg("accepted, expected '%s'", messages[0]);
    for (; *messages; messages++)
        if (!strstr(err.message, *messages)) fail_msg("'%s' not in '%s'", *messages, err.message);
    assert_int_equal(status, err.code);
    assert_int_equal(blamed, part);
    assert_null(strpbrk(err.message, "\n\r\t\033"));
    assert_int_equal(kv_pair_check(&pair, NULL), status);
}

static void what_goes_together(void **state) {
    (void)state;
    pass((kv_pair){.base = base_dir});
    pass((kv_pair){.base = base_dir, .aux = aux_dir});
    pass((kv_pair){.base = base_dir, .aux = aux_dir, .predictor = predictor, .n_tokens = 48});
    pass(
        (kv_pair){.base = "random:openelm-1.1b", .aux = "random:openelm-270m:bf16@3", .predictor = "random"});
    pass((kv_pair){.base = "random:openelm-3b", .aux = "random:openelm-3b-lp-0.50", .predictor = "random@5"});
    // A random model has 32000 tokens: room for this tokenizer's.
    pass((kv_pair){.base = "random:openelm-270m", .tokenizer = in_dir("tokenizer.model")});
}

// The base's own first layers: there is no aux, and none is welcome.
static void prefixes(void **state) {
    (void)state;
    static const int32_t mapping[3] = {0, 0, 1};
    kv_model_spec spec = {0};
    pass((kv_pair){.base = base_dir, .predictor = prefix, .n_tokens = 64, .base_spec = &spec});
    assert_int_equal(spec.n_layers, 3);
    pass((kv_pair){.base = "random:smollm2-135m", .predictor = "random:prefix=29"});
    refuse(KV_PAIR_AUX, ((kv_pair){.base = base_dir, .aux = aux_dir, .predictor = prefix}), "aux ", aux_dir,
           prefix, "the base's own first 2 layers (prefix_layers), expected no aux");
    refuse(KV_PAIR_AUX, ((kv_pair){.base = base_dir, .aux = aux_dir, .predictor = "random:prefix=1"}),
           "random:prefix=1, which reads the base's own first 1 layers");
    refuse(KV_PAIR_PREDICTOR, ((kv_pair){.base = base_dir, .predictor = "random:prefix=3"}),
           "predictor: ", "the base has 3 layers, expected a prefix of 1 to 2");
    refuse(KV_PAIR_MAPPING,
           ((kv_pair){.base = base_dir, .predictor = prefix, .mapping = mapping, .n_mapping = 3}),
           "mapping: found beside the predictor ", prefix);
    refuse(KV_PAIR_PREDICTOR, ((kv_pair){.base = aux_dir, .predictor = prefix}),
           "predictor: ", "made for a base model of 3 layers, this one has 2");
    refuse(KV_PAIR_PREDICTOR, ((kv_pair){.base = base_dir, .predictor = in_dir("gone")}),
           "predictor: ", "gone: No such file");
    refuse(KV_PAIR_BASE, ((kv_pair){.base = in_dir("gone"), .predictor = prefix}), "base: ");
    refuse(KV_PAIR_CONTEXT, ((kv_pair){.base = base_dir, .predictor = prefix, .n_tokens = 65}),
           "context of the base ");
}

static void models_that_are_not_there(void **state) {
    (void)state;
    refuse(KV_PAIR_BASE, ((kv_pair){.base = in_dir("gone")}), "model: ", "gone: No such file");
    refuse(KV_PAIR_BASE, ((kv_pair){.base = in_dir("gone"), .aux = aux_dir}), "base: ", "gone: No such file");
    refuse(KV_PAIR_AUX, ((kv_pair){.base = base_dir, .aux = in_dir("gone")}), "aux: ", "gone: No such file");
    refuse(KV_PAIR_AUX, ((kv_pair){.base = base_dir, .aux = "random:openelm-7b"}), "aux: random:openelm-7b");
    refuse(KV_PAIR_PREDICTOR, ((kv_pair){.base = base_dir, .aux = aux_dir, .predictor = in_dir("gone")}),
           "predictor: ", "gone: No such file");
    refuse(KV_PAIR_TOKENIZER, ((kv_pair){.base = base_dir, .tokenizer = in_dir("gone")}),
           "tokenizer: ", "gone");
    refuse(KV_PAIR_AUX, ((kv_pair){.base = base_dir, .predictor = predictor}), predictor, "needs an aux",
           base_dir, "prefix_layers");
}

// Weights are not looked at: it takes config.json alone.
static void no_weights_are_needed(void **state) {
    (void)state;
    kv_error err = {0};
    char *text;
    size_t size;
    must(kv_read_file(in_dir("base/config.json"), 1 << 16, &text, &size, &err), &err);
    mkdir(in_dir("bare"), 0777);
    must(kv_write_file(in_dir("bare/config.json"), text, size, &err), &err);
    free(text);
    pass((kv_pair){.base = in_dir("bare"), .aux = aux_dir, .predictor = predictor});
}

// ---- Vocabularies --------------------------------------------------------------------------------------

static void padded_tables(void **state) {
    (void)state;
    const kv_pair plain = {.base = wide, .aux = wide_aux}, turned = {.base = wide_aux, .aux = wide};
    // Nothing says what is padding.
    refuse(KV_PAIR_AUX, plain, "aux ", wide_aux, "vocabulary of 410 tokens, expected 420 as in the base",
           wide);
    refuse(KV_PAIR_AUX, turned, "vocabulary of 420 tokens, expected 410");
    // A tokenizer does, given or the base's own; so does a shard.
    kv_pair given = plain;
    given.tokenizer = in_dir("tokenizer.model");
    pass(given);
    given.base = wide_aux, given.aux = wide;
    pass(given);
    given.aux = small;
    refuse(KV_PAIR_AUX, given, "aux ", small,
           "vocabulary of 300 tokens, expected at least the 400 of the tokenizer ", "tokenizer.model");
    given.base = small, given.aux = NULL;
    refuse(KV_PAIR_BASE, given, "model ", small, "expected at least the 400");
    make_tokenizer("wide", NULL, NULL, NULL, 0);
    pass(plain);
    refuse(KV_PAIR_AUX, ((kv_pair){.base = wide, .aux = small}), "at least the 400 of the base ", wide);
    // The aux's own alone does not say what texts will be turned into ids with.
    refuse(KV_PAIR_AUX, turned, "vocabulary of 420 tokens, expected 410");
    no_tokenizer("wide");
}

static void shards(void **state) {
    (void)state;
    kv_shard_info info = {.tokenizer = "0123456789abcdef", .vocab_size = 400, .bos_id = 1, .eos_id = 2};
    kv_pair pair = {.base = wide, .aux = wide_aux, .shard = "train.h5", .shard_info = &info};
    pass(pair);
    info.vocab_size = 411;
    refuse(KV_PAIR_AUX, pair, "aux ", wide_aux,
           "vocabulary of 410 tokens, expected at least the 411 of the shard train.h5");
    info.vocab_size = 400;
    // Documents without BOS or EOS are as good as those with the model's.
    info.bos_id = info.eos_id = -1;
    pass(pair);
    info.bos_id = 7, info.eos_id = 2;
    refuse(KV_PAIR_BASE, pair, "base ", wide, "bos_id 1, expected 7 as in the shard train.h5");
    info.bos_id = 1, info.eos_id = 7;
    refuse(KV_PAIR_BASE, pair, "base ", wide, "eos_id 2, expected 7 as in the shard train.h5");
}

static void shards_of_other_tokenizers(void **state) {
    (void)state;
    kv_error err = {0};
    kv_tokenizer *tokenizer;
    kv_shard_info info = {.vocab_size = 400, .bos_id = 1, .eos_id = 2};
    static const char *const more[] = {"<|im_start|>"};
    const kv_pair pair = {.base = wide, .aux = wide_aux, .shard = "train.h5", .shard_info = &info};
    must(kv_tokenizer_open(in_dir("tokenizer.model"), &tokenizer, &err), &err);
    snprintf(info.tokenizer, sizeof info.tokenizer, "%s", kv_tokenizer_hash(tokenizer));
    make_tokenizer("wide", NULL, NULL, NULL, 0);
    pass(pair);
    // The base's goes on where the shard's ends; the aux's is the shard's.
    make_tokenizer("wide", NULL, NULL, more, 1);
    refuse(KV_PAIR_SHARD, pair, "shard train.h5 was made with another tokenizer, ", info.tokenizer, "base ",
           wide);
    make_tokenizer("wide-aux", NULL, NULL, NULL, 0);
    pass(pair);
    make_tokenizer("wide", "country", "COUNTRY", NULL, 0);
    refuse(KV_PAIR_BASE, pair, "base ", wide, "COUNTRY', expected", "as in the aux ", wide_aux);
    // A tokenizer that is asked for decides.
    kv_pair given = pair;
    given.tokenizer = in_dir("tokenizer.model");
    refuse(KV_PAIR_BASE, given, "COUNTRY");
    snprintf(info.tokenizer, sizeof info.tokenizer, "fedcba9876543210");
    refuse(KV_PAIR_SHARD, given, "made with another tokenizer, fedcba9876543210", "tokenizer.model");
    no_tokenizer("wide");
    no_tokenizer("wide-aux");
    kv_tokenizer_free(tokenizer);
}

// ---- Tokenizers ----------------------------------------------------------------------------------------

static void the_same_tokenizer(void **state) {
    (void)state;
    const kv_pair pair = {.base = base_dir, .aux = aux_dir};
    make_tokenizer("base", NULL, NULL, NULL, 0);
    make_tokenizer("aux", NULL, NULL, NULL, 0);
    pass(pair);
    // Other bytes, same pieces: the last normaliser setting again.
    char *bytes;
    size_t size;
    kv_error err = {0};
    must(kv_read_file(in_dir("tokenizer.model"), 1 << 20, &bytes, &size, &err), &err);
    bytes = realloc(bytes, size + 2);
    assert_non_null(bytes);
    bytes[size] = 0x1A, bytes[size + 1] = 0; // an empty NormalizerSpec, merged into the one there
    must(kv_write_file(in_dir("aux/tokenizer.model"), bytes, size + 2, &err), &err);
    free(bytes);
    pass(pair);
    no_tokenizer("base");
    no_tokenizer("aux");
}

static void other_tokenizers(void **state) {
    (void)state;
    kv_error err = {0};
    const kv_pair pair = {.base = base_dir, .aux = aux_dir};
    make_tokenizer("base", NULL, NULL, NULL, 0);
    make_tokenizer("aux", "country", "COUNTRY", NULL, 0);
    kv_tokenizer *own;
    must(kv_tokenizer_open(in_dir("aux"), &own, &err), &err);
    const int32_t id = kv_tokenizer_find(own, "\xE2\x96\x81"
                                              "COUNTRY");
    kv_tokenizer_free(own);
    assert_true(id > 0);
    char message[400];
    snprintf(message, sizeof message,
             "aux %s: token %d is '\xE2\x96\x81"
             "COUNTRY', expected '\xE2\x96\x81"
             "country' as in the base %s",
             aux_dir, (int)id, base_dir);
    refuse(KV_PAIR_AUX, pair, message);
    // One that is given is compared with both.
    kv_pair given = pair;
    given.tokenizer = in_dir("tokenizer.model");
    refuse(KV_PAIR_AUX, given, "as in the tokenizer ", given.tokenizer);
    given.tokenizer = in_dir("aux/tokenizer.model");
    refuse(KV_PAIR_BASE, given, "base ", base_dir, "country', expected", "COUNTRY' as in the tokenizer ");
    // A piece that would end the line.
    make_tokenizer("aux", "country", "c\nu\033\try", NULL, 0);
    refuse(KV_PAIR_AUX, pair, "c?u??ry'");
    // Unlike ones of another length, and files that are none.
    test_write_text(in_dir("aux/tokenizer.model"), "neither this nor that");
    refuse(KV_PAIR_AUX, pair, "aux: ", "aux/tokenizer.model");
    test_write_text(in_dir("base/tokenizer.model"), "");
    refuse(KV_PAIR_BASE, pair, "base: ", "base/tokenizer.model");
    no_tokenizer("base");
    no_tokenizer("aux");
}

// Chat models add tokens at the end. Ids that a text can have must be rows of both tables.
static void tokenizers_that_go_on(void **state) {
    (void)state;
    static const char *const more[] = {"<|im_start|>", "<|im_end|>"}, *const other[] = {"<|user|>"};
    make_tokenizer("aux", NULL, NULL, NULL, 0);
    make_tokenizer("wide-aux", NULL, NULL, more, 2);
    make_tokenizer("base", NULL, NULL, NULL, 0);
    make_tokenizer("wide", NULL, NULL, more, 2);
    pass((kv_pair){.base = base_dir, .aux = wide_aux}); // prompts never have the aux's two
    refuse(KV_PAIR_AUX, ((kv_pair){.base = wide, .aux = aux_dir}), "aux ", aux_dir,
           "vocabulary of 400 tokens, expected at least the 402 of the base ", wide);
    make_tokenizer("wide-aux", NULL, NULL, NULL, 0);
    pass((kv_pair){.base = wide, .aux = wide_aux}); // rows for the base's two
    make_tokenizer("wide-aux", NULL, NULL, other, 1);
    refuse(KV_PAIR_AUX, ((kv_pair){.base = wide, .aux = wide_aux}),
           "token 400 is '<|user|>', expected '<|im_start|>'");
    // A name that stands for nothing yet.
    static const char *const reserved[] = {"<|reserved_special_token_0|>", "<|im_end|>"};
    make_tokenizer("wide-aux", NULL, NULL, reserved, 2);
    pass((kv_pair){.base = wide, .aux = wide_aux});
    pass((kv_pair){.base = wide_aux, .aux = wide});
    static const char *const names[] = {"base", "aux", "wide", "wide-aux"};
    for (int i = 0; i < 4; i++) no_tokenizer(names[i]);
}

static void a_tokenizer_that_is_open(void **state) {
    (void)state;
    kv_error err = {0};
    kv_tokenizer *tokenizer;
    must(kv_tokenizer_open(in_dir("tokenizer.model"), &tokenizer, &err), &err);
    // The path serves messages only: whether the files are the same, and what they are called.
    kv_pair pair = {.base = wide, .aux = small, .tokenizer = "/nowhere/t.model", .opened = tokenizer};
    refuse(KV_PAIR_AUX, pair, "400 of the tokenizer /nowhere/t.model");
    make_tokenizer("wide", "country", "COUNTRY", NULL, 0);
    refuse(KV_PAIR_BASE, pair, "COUNTRY', expected", "as in the tokenizer /nowhere/t.model");
    no_tokenizer("wide");
    kv_tokenizer_free(tokenizer);
}

// ---- Shapes --------------------------------------------------------------------------------------------

static void contexts(void **state) {
    (void)state;
    kv_pair pair = {.base = base_dir, .aux = aux_dir, .n_tokens = 49};
    refuse(KV_PAIR_CONTEXT, pair, "found 49 tokens, expected at most the context of the aux ", aux_dir,
           ", 48");
    pair.aux = NULL;
    pass(pair);
    pair.n_tokens = 65;
    refuse(KV_PAIR_CONTEXT, pair, "found 65 tokens, expected at most the context of the model ", base_dir,
           ", 64");
}

static void mappings(void **state) {
    (void)state;
    const int32_t good[] = {0, 0, 1}, beyond[] = {0, 1, 2}, negative[] = {0, -1, 1}, other[] = {0, 1, 1};
    kv_pair pair = {.base = base_dir, .aux = aux_dir, .mapping = good, .n_mapping = 3};
    pass(pair);
    pair.n_mapping = 2;
    refuse(KV_PAIR_MAPPING, pair, "mapping: ", "2 entries, expected one for each of the 3 base layers");
    pair.n_mapping = 3, pair.mapping = beyond;
    refuse(KV_PAIR_MAPPING, pair, "entry 2 of the layer map is 2, expected an aux layer from 0 to 1");
    pair.mapping = negative;
    refuse(KV_PAIR_MAPPING, pair, "entry 1 of the layer map is -1");
    // Against the predictor's own.
    pair.predictor = predictor, pair.mapping = good;
    pass(pair);
    pair.mapping = other;
    refuse(KV_PAIR_PREDICTOR, pair, "predictor: ", predictor,
           "base layer 1 reads auxiliary layer 0, the mapping asked for has 1");
    pair.aux = NULL;
    refuse(KV_PAIR_AUX, pair, "needs an aux");
}

// With an explicit map too, and of random ones.
static void kinds_of_predictors(void **state) {
    (void)state;
    const kv_model_spec base = tiny_base(), aux = tiny_aux();
    const int32_t mapping[] = {0, 0, 1}, other[] = {1, 0, 1};
    kv_error err = {0};
    kv_predictor *kind = tiny_predictor_of(&base, &aux, mapping, (test_kind){3, 2}, 4);
    mkdir(in_dir("kind"), 0777);
    must(kv_predictor_save(in_dir("kind"), kind, NULL, &err), &err);
    kv_predictor_free(kind);
    kv_pair pair = {.base = base_dir, .aux = aux_dir, .predictor = in_dir("kind")};
    pass(pair);
    pair.mapping = mapping, pair.n_mapping = 3;
    pass(pair);
    pair.mapping = other;
    refuse(KV_PAIR_PREDICTOR, pair, "base layer 0 reads auxiliary layer 0, the mapping asked for has 1");
    pair.predictor = "random:rank=6:aux_layers=2";
    pass(pair);
    pair.predictor = "random:rank=7";
    refuse(KV_PAIR_PREDICTOR, pair,
           "predictor: random:rank=7: the keys of base layer 0: rank 7, expected 1 to 6",
           "the map makes 8 features of 6");
    pair.mapping = NULL;
    pair.predictor = "random:rank=7"; // its own map
    refuse(KV_PAIR_PREDICTOR, pair, "the keys of base layer 2: rank 7", "8 features of 6");
}

static void predictors(void **state) {
    (void)state;
    kv_pair pair = {.base = base_dir, .aux = aux_dir, .predictor = predictor};
    // Turned round, and of an aux with other heads.
    refuse(KV_PAIR_PREDICTOR, ((kv_pair){.base = aux_dir, .aux = base_dir, .predictor = predictor}),
           "predictor.json: made for a base model of 3 layers, this one has 2");
    kv_model_spec other = tiny_aux();
    other.layers[1].n_kv_heads = 2;
    make_model("other", other, PIECES, 64);
    pair.aux = in_dir("other");
    refuse(KV_PAIR_PREDICTOR, pair,
           "predictor: ", "predictor.safetensors: tensor 'key.2.weight' has shape [8, 6], expected [8, 12]");
    pair.aux = aux_dir;
    kv_model_spec base = tiny_base();
    base.layers[1].n_kv_heads = 1;
    make_model("other-base", base, PIECES, 64);
    pair.base = in_dir("other-base");
    refuse(KV_PAIR_PREDICTOR, pair, "tensor 'key.1.weight' has shape [16, 12], expected [8, 12]");
    pair.base = base_dir;
    // Weights without a description need a mapping, and the other way round.
    char *bytes;
    size_t size;
    kv_error err = {0};
    const int32_t mapping[] = {0, 0, 1};
    mkdir(in_dir("damaged"), 0777);
    must(kv_read_file(in_dir("predictor/predictor.safetensors"), 1 << 20, &bytes, &size, &err), &err);
    must(kv_write_file(in_dir("damaged/predictor.safetensors"), bytes, size, &err), &err);
    pair.predictor = in_dir("damaged");
    refuse(KV_PAIR_PREDICTOR, pair, "damaged/predictor.json");
    pair.mapping = mapping, pair.n_mapping = 3;
    pass(pair);
    kv_model_spec shallow = tiny_base();
    shallow.n_layers = 2;
    make_model("shallow", shallow, PIECES, 64);
    refuse(KV_PAIR_PREDICTOR,
           ((kv_pair){.base = in_dir("shallow"),
                      .aux = aux_dir,
                      .predictor = in_dir("damaged"),
                      .mapping = mapping,
                      .n_mapping = 2}),
           "surplus tensor 'key.2.weight'");
    // A tensor under another name, a file that was cut short, none at all.
    char *at = memmem(bytes, size, "value.1.bias", 12);
    assert_non_null(at);
    memcpy(at, "value.1.BIAS", 12);
    must(kv_write_file(in_dir("damaged/predictor.safetensors"), bytes, size, &err), &err);
    refuse(KV_PAIR_PREDICTOR, pair, "damaged/predictor.safetensors: tensor 'value.1.bias' is missing");
    for (size_t cut = 0; cut < size; cut += 1 + size / 50) {
        must(kv_write_file(in_dir("damaged/predictor.safetensors"), bytes, cut, &err), &err);
        refuse(KV_PAIR_PREDICTOR, pair, "damaged/predictor.safetensors");
    }
    unlink(in_dir("damaged/predictor.safetensors"));
    refuse(KV_PAIR_PREDICTOR, pair, "damaged/predictor.safetensors");
    free(bytes);
    refuse(KV_PAIR_PREDICTOR, ((kv_pair){.base = base_dir, .aux = aux_dir, .predictor = "random@twelve"}),
           "random@twelve");
}

// Whatever stands in a predictor.json or a config.json, the answer is one line or a pass.
static void mutated_descriptions(void **state) {
    (void)state;
    static const char *const files[] = {"mutated/predictor/predictor.json", "mutated/aux/config.json",
                                        "mutated/aux/tokenizer.model",
                                        "mutated/predictor/predictor.safetensors"};
    static const char *const sources[] = {"predictor/predictor.json", "aux/config.json", "tokenizer.model",
                                          "predictor/predictor.safetensors"};
    make_tokenizer("base", NULL, NULL, NULL, 0);
    char aux[128], dir[128];
    snprintf(aux, sizeof aux, "%s", in_dir("mutated/aux"));
    snprintf(dir, sizeof dir, "%s", in_dir("mutated/predictor"));
    kv_error err = {0};
    must(kv_make_dirs(aux, &err), &err);
    must(kv_make_dirs(dir, &err), &err);
    char *bytes[4];
    size_t sizes[4];
    for (int i = 0; i < 4; i++) {
        must(kv_read_file(in_dir(sources[i]), 1 << 20, &bytes[i], &sizes[i], &err), &err);
        must(kv_write_file(in_dir(files[i]), bytes[i], sizes[i], &err), &err);
    }
    const kv_pair pair = {.base = base_dir, .aux = aux, .predictor = dir};
    pass(pair);
    for (int64_t i = 0; i < 400; i++) {
        const int f = (int)(i % 4);
        char *copy = test_alloc((int64_t)sizes[f] + 1, 1);
        memcpy(copy, bytes[f], sizes[f]);
        for (int k = 0; k < 3; k++)
            copy[test_below(11, 8 * i + k, (int64_t)sizes[f] < 600 ? (int64_t)sizes[f] : 600)] =
                (char)test_below(12, 8 * i + k, 256);
        must(kv_write_file(in_dir(files[f]), copy, sizes[f], &err), &err);
        free(copy);
        if (kv_pair_check(&pair, &err) != KV_OK) {
            assert_true(err.message[0]);
            assert_null(strchr(err.message, '\n'));
        }
        must(kv_write_file(in_dir(files[f]), bytes[f], sizes[f], &err), &err);
    }
    for (int i = 0; i < 4; i++) free(bytes[i]);
    no_tokenizer("base");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_together),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(models_that_are_not_there),
        cmocka_unit_test(no_weights_are_needed),
        cmocka_unit_test(padded_tables),
        cmocka_unit_test(shards),
        cmocka_unit_test(shards_of_other_tokenizers),
        cmocka_unit_test(the_same_tokenizer),
        cmocka_unit_test(other_tokenizers),
        cmocka_unit_test(tokenizers_that_go_on),
        cmocka_unit_test(a_tokenizer_that_is_open),
        cmocka_unit_test(contexts),
        cmocka_unit_test(mappings),
        cmocka_unit_test(kinds_of_predictors),
        cmocka_unit_test(predictors),
        cmocka_unit_test(mutated_descriptions),
    };
    return cmocka_run_group_tests(tests, set_up, test_dir_tear_down);
}
