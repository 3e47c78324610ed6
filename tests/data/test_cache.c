// Cache files: what is read is what models made, to the precision of the type; damage is noticed.
#include "data/cache/build.h"
#include "data/corpus/packing.h"
#include "data/file/h5.h"
#include "tests/support/numbers/reference_model.h"
#include "tests/support/support.h"
#include "tests/support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEQ_LEN = 7, N_DOCUMENTS = 12, TOP_K = 5 };

// A shard, and models of it. Rows: 12 documents of 5 to 16 tokens, cut into 17 rows with some left over.
typedef struct fixture {
    kv_shard *shard;
    tiny_pair pair;
    kv_cache_info info;
} fixture;

static kv_shard *make_shard(uint64_t seed) {
    const char *path = test_path(test_dir, "shard.h5");
    const kv_shard_info info = {
        .tokenizer = "0123456789abcdef", .vocab_size = 61, .bos_id = -1, .eos_id = -1};
    kv_shard_writer *writer;
    kv_shard *shard;
    int32_t ids[16];
    assert_int_equal(kv_shard_writer_open(path, &info, &writer, NULL), KV_OK);
    for (int64_t i = 0; i < N_DOCUMENTS; i++) {
        tiny_ids(ids, 16, 61, seed + (uint64_t)i);
        assert_int_equal(kv_shard_writer_add(writer, ids, 5 + i, NULL), KV_OK);
    }
    assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
    kv_shard_writer_free(writer);
    assert_int_equal(kv_shard_open(path, &shard, NULL), KV_OK);
    return shard;
}

static fixture fixture_make(kv_dtype dtype, bool aux, int64_t top_k) {
    fixture f = {.shard = make_shard(1), .pair = tiny_pair_make()};
    f.info = (kv_cache_info){.dtype = dtype, .seq_len = SEQ_LEN, .top_k = top_k};
    strcpy(f.info.tokenizer, f.shard->info.tokenizer);
    strcpy(f.info.source, "shard.h5");
    f.info.base.spec = f.pair.base->spec;
    strcpy(f.info.base.fingerprint, "00000000000000ba");
    strcpy(f.info.base.source, "a base");
    if (!aux) return f;
    f.info.aux.spec = f.pair.aux->spec;
    strcpy(f.info.aux.fingerprint, "00000000000000a0");
    return f;
}

static void fixture_free(fixture *f) {
    kv_shard_free(f->shard);
    tiny_pair_free(&f->pair);
}

static kv_status build(const fixture *f, const char *path, int64_t n_seq, kv_error *err) {
    const kv_cache_build_args args = {
        .base = f->pair.base, .aux = f->info.aux.fingerprint[0] ? f->pair.aux : NULL, .n_seq = n_seq};
    return kv_cache_build(path, f->shard, &f->info, &args, err);
}

static kv_cache *built(const fixture *f, const char *path) {
    kv_error err = {0};
    kv_cache *cache = NULL;
    if (build(f, path, 3, &err) != KV_OK || kv_cache_open(path, &cache, &err) != KV_OK)
        fail_msg("%s", err.message);
    return cache;
}

// ---- Values --------------------------------------------------------------------------------------------

// One row by itself in double precision: keys before their norm and values of every layer of the base and of
// the aux, logits, and their logsumexp.
typedef struct row_models {
    ref_model base, aux;
    const int32_t *tokens;
    double temperature; // of the logsumexp
} row_models;

static int64_t layer_size(const kv_model_spec *spec, int64_t layer) {
    return SEQ_LEN * kv_spec_kv_dim(spec, layer);
}

static double *cache_results(const ref_model *m, const int32_t *tokens, double *hidden, double *results) {
    const kv_model_spec *spec = &m->model->spec;
    ref_cache cache;
    ref_cache_make(spec, SEQ_LEN, &cache);
    ref_forward(m, tokens, 1, SEQ_LEN, NULL, &cache, hidden);
    for (int64_t i = 0; i < spec->n_layers; i++) {
        const int64_t n = layer_size(spec, i);
        memcpy(results, cache.raw_k[i], (size_t)n * sizeof *results);
        memcpy(results + n, cache.v[i], (size_t)n * sizeof *results);
        results += 2 * n;
    }
    ref_cache_free(&cache);
    return results;
}

static void row_results(const void *context, double *results) {
    const row_models *r = context;
    const kv_model_spec *spec = &r->base.model->spec;
    double hidden[SEQ_LEN * 24], aux_hidden[SEQ_LEN * 24];
    results = cache_results(&r->base, r->tokens, hidden, results);
    results = cache_results(&r->aux, r->tokens, aux_hidden, results);
    ref_final_norm(&r->base, SEQ_LEN, hidden, hidden);
    ref_linear(SEQ_LEN, spec->vocab_size, spec->model_dim, hidden,
               ref_value(&r->base.params, kv_model_head(r->base.model)), NULL, results);
    for (int64_t t = 0; t < SEQ_LEN; t++) {
        double sum = 0;
        for (int64_t j = 0; j < spec->vocab_size; j++)
            sum += exp(results[t * spec->vocab_size + j] / r->temperature);
        results[SEQ_LEN * spec->vocab_size + t] = log(sum);
    }
}

static rounding_spread row_spread(row_models *r) {
    const kv_model_spec *base = &r->base.model->spec, *aux = &r->aux.model->spec;
    rounding_operands operands = {0};
    ref_add_operands(&operands, &r->base.params);
    ref_add_operands(&operands, &r->aux.params);
    int64_t n = SEQ_LEN * (base->vocab_size + 1);
    for (int64_t i = 0; i < base->n_layers; i++) n += 2 * layer_size(base, i);
    for (int64_t i = 0; i < aux->n_layers; i++) n += 2 * layer_size(aux, i);
    rounding_spread spread = rounding_measure(&operands, ref_terms_forward(base, SEQ_LEN), row_results, r, n);
    rounding_operands_free(&operands);
    return spread;
}

// Returns the first result behind this part's.
static int64_t compare(kv_cache *cache, kv_cache_part part, int64_t layer, int64_t row, int64_t n,
                       const rounding_spread *spread, int64_t from, kv_dtype dtype) {
    float *found = test_alloc(n, sizeof *found);
    kv_error err = {0};
    char name[64];
    if (kv_cache_read(cache, part, layer, row, found, &err) != KV_OK) fail_msg("%s", err.message);
    snprintf(name, sizeof name, "part %d layer %d row %d", (int)part, (int)layer, (int)row);
    for (int64_t i = 0; i < n; i++) {
        const double x = spread->expected[from + i], allowed = spread->allowed[from + i];
        const double stored = dtype == KV_F32 ? 0 : rounding_of_type(dtype, fabs(x) + allowed);
        rounding_expect(name, (double)found[i], x, allowed + stored);
    }
    free(found);
    return from + n;
}

// Logits and their logsumexp begin at `from`.
static void compare_topk(kv_cache *cache, int64_t row, const rounding_spread *spread, int64_t from) {
    enum { VOCABULARY = 61 };
    int32_t ids[SEQ_LEN * TOP_K];
    float values[SEQ_LEN * TOP_K], logsumexp[SEQ_LEN];
    assert_int_equal(kv_cache_read_topk(cache, row, ids, values, logsumexp, NULL), KV_OK);
    rounding_compare("logsumexp", logsumexp, spread, from + SEQ_LEN * VOCABULARY, SEQ_LEN);
    for (int64_t t = 0; t < SEQ_LEN; t++) {
        const double *z = spread->expected + from + t * VOCABULARY,
                     *off = spread->allowed + from + t * VOCABULARY;
        for (int64_t i = 0; i < TOP_K; i++) {
            const int32_t id = ids[t * TOP_K + i];
            rounding_expect("logit", (double)values[t * TOP_K + i], z[id], off[id]);
            int64_t larger = 0; // logits above this one, by more than rounding
            for (int64_t j = 0; j < VOCABULARY; j++) larger += z[j] - off[j] > z[id] + off[id];
            assert_true(larger <= i);
            for (int64_t o = 0; o < i; o++) assert_true(ids[t * TOP_K + o] != id);
            if (i > 0) assert_true(values[t * TOP_K + i] <= values[t * TOP_K + i - 1]);
        }
    }
}

static void test_holds_what_models_make(void **state) {
    (void)state;
    for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
        fixture f = fixture_make(dtype, true, TOP_K);
        const double temperature = f.info.temperature = dtype == KV_BF16 ? 2.5 : 1;
        const kv_model_spec *base = &f.pair.base->spec, *aux = &f.pair.aux->spec;
        const int64_t n_rows = kv_packed_rows(f.shard->n_tokens, SEQ_LEN);
        kv_cache *cache = built(&f, test_path(test_dir, "cache.h5"));
        int32_t *tokens = test_alloc(n_rows * (SEQ_LEN + 1), sizeof *tokens), read[SEQ_LEN + 1];
        row_models models = {ref_model_copy(f.pair.base), ref_model_copy(f.pair.aux), read, temperature};
        assert_int_equal(kv_packed_cut(f.shard, SEQ_LEN, tokens, NULL), KV_OK);
        assert_int_equal(kv_cache_about(cache)->n_rows, n_rows);
        assert_true(kv_cache_about(cache)->temperature == temperature);
        for (int64_t row = n_rows - 1; row >= 0; row--) { // backwards: chunks of several rows
            assert_int_equal(kv_cache_read_tokens(cache, row, read, NULL), KV_OK);
            assert_memory_equal(read, tokens + row * (SEQ_LEN + 1), sizeof read);
            rounding_spread s = row_spread(&models);
            int64_t at = 0;
            for (int64_t i = 0; i < base->n_layers; i++) {
                at = compare(cache, KV_CACHE_BASE_KEY, i, row, layer_size(base, i), &s, at, dtype);
                at = compare(cache, KV_CACHE_BASE_VALUE, i, row, layer_size(base, i), &s, at, dtype);
            }
            for (int64_t i = 0; i < aux->n_layers; i++) {
                at = compare(cache, KV_CACHE_AUX_KEY, i, row, layer_size(aux, i), &s, at, dtype);
                at = compare(cache, KV_CACHE_AUX_VALUE, i, row, layer_size(aux, i), &s, at, dtype);
            }
            compare_topk(cache, row, &s, at);
            rounding_spread_free(&s);
        }
        ref_model_free(&models.base);
        ref_model_free(&models.aux);
        free(tokens);
        kv_cache_free(cache);
        fixture_free(&f);
    }
}

static void test_says_what_it_was_made_with(void **state) {
    (void)state;
    fixture f = fixture_make(KV_BF16, true, TOP_K), other = fixture_make(KV_BF16, false, 0);
    kv_cache_free(built(&f, test_path(test_dir, "cache.h5")));
    static kv_cache_info info;
    assert_int_equal(kv_cache_read_info(test_path(test_dir, "cache.h5"), &info, NULL), KV_OK);
    assert_int_equal(kv_cache_same_kind("", &info, &f.info, NULL), KV_OK);
    assert_int_equal(info.n_rows, 17);
    assert_string_equal(info.shard, f.shard->hash);
    assert_string_equal(info.base.source, "a base");
    assert_memory_equal(info.base.spec.layers, f.info.base.spec.layers, 3 * sizeof *info.base.spec.layers);
    assert_int_equal(info.aux.spec.n_layers, 2);
    assert_int_equal(info.base.spec.vocab_size, 61);
    assert_true(kv_cache_bytes(&info) > kv_cache_bytes(&other.info));
    // Without an aux and without logits.
    kv_cache *cache = built(&other, test_path(test_dir, "less.h5"));
    assert_int_equal(kv_cache_about(cache)->aux.fingerprint[0], 0);
    assert_int_equal(kv_cache_about(cache)->top_k, 0);
    kv_cache_free(cache);
    fixture_free(&f);
    fixture_free(&other);
}

// So that damage is noticed, and others can read it.
static void test_filters(void **state) {
    (void)state;
    static const char *const names[] = {"/tokens",      "/base/key/0", "/base/value/2",  "/aux/key/1",
                                        "/aux/value/0", "/logits/ids", "/logits/values", "/logits/logsumexp"};
    static const H5Z_filter_t filters[] = {H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE, H5Z_FILTER_FLETCHER32};
    fixture f = fixture_make(KV_BF16, true, TOP_K);
    const char *path = test_path(test_dir, "cache.h5");
    kv_cache_free(built(&f, path));
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hid_t set = H5Dopen2(file, names[i], H5P_DEFAULT), layout = H5Dget_create_plist(set);
        unsigned flags;
        assert_int_equal(H5Pget_nfilters(layout), 3);
        for (unsigned k = 0; k < 3; k++) {
            size_t n = 0;
            assert_int_equal(H5Pget_filter2(layout, k, &flags, &n, NULL, 0, NULL, NULL), filters[k]);
        }
        H5Pclose(layout);
        H5Dclose(set);
    }
    H5Fclose(file);
    fixture_free(&f);
}

// ---- Kinds ---------------------------------------------------------------------------------------------

static void test_what_differs_is_named(void **state) {
    (void)state;
    fixture f = fixture_make(KV_BF16, true, TOP_K);
    static kv_cache_info others[7];
    static const char *const named[7] = {"a base of fingerprint",
                                         "an aux of fingerprint",
                                         "tokenizer",
                                         "dtype f16",
                                         "seq_len 8",
                                         "top_k 0",
                                         "a temperature of 2, expected 1"};
    for (int i = 0; i < 7; i++) others[i] = f.info;
    strcpy(others[0].base.fingerprint, "ffffffffffffffff");
    others[1].aux.fingerprint[0] = '\0';
    strcpy(others[2].tokenizer, "fedcba9876543210");
    others[3].dtype = KV_F16;
    others[4].seq_len = 8;
    others[5].top_k = 0;
    others[6].temperature = 2;
    for (int i = 0; i < 7; i++) {
        kv_error err = {0};
        assert_int_equal(kv_cache_same_kind("FILE", &others[i], &f.info, &err), KV_ERR_MISMATCH);
        if (!strstr(err.message, named[i]) || !strstr(err.message, "FILE") ||
            !strstr(err.message, "expected"))
            fail_msg("unclear message: %s", err.message);
    }
    fixture_free(&f);
}

static void test_directory(void **state) {
    (void)state;
    char dir[128];
    snprintf(dir, sizeof dir, "%s/dir", test_dir);
    kv_error err = {0};
    kv_cache_dir *d;
    assert_int_equal(kv_cache_dir_open(dir, &d, &err), KV_ERR_FORMAT);
    mkdir(dir, 0777);
    assert_int_equal(kv_cache_dir_open(dir, &d, &err), KV_ERR_FORMAT);
    assert_non_null(strstr(err.message, "kvdata cache"));
    fixture f = fixture_make(KV_F16, true, 0);
    char first[17], second[17];
    memcpy(first, f.shard->hash, sizeof first);
    kv_cache_free(built(&f, test_path(dir, "cache-00003.h5")));
    kv_shard_free(f.shard);
    f.shard = make_shard(2);
    memcpy(second, f.shard->hash, sizeof second);
    assert_string_not_equal(first, second);
    kv_cache_free(built(&f, test_path(dir, "cache-00010.h5")));
    if (kv_cache_dir_open(dir, &d, &err) != KV_OK) fail_msg("%s", err.message);
    assert_int_equal(d->n_files, 2);
    assert_int_equal(kv_cache_dir_find(d, first), 0);
    assert_int_equal(kv_cache_dir_find(d, second), 1);
    assert_int_equal(kv_cache_dir_find(d, "0000000000000000"), -1);
    for (int i = 0; i < 3; i++) { // norms as the base's
        assert_int_equal(d->norms.weight[i]->cols, f.pair.base->spec.head_dim);
        assert_memory_equal(d->norms.weight[i]->data, f.pair.base->layers[i].k_norm.data,
                            (size_t)d->norms.weight[i]->cols * sizeof(float));
    }
    kv_cache *cache;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(kv_cache_dir_file(d, i % 2, &cache, &err), KV_OK);
        assert_string_equal(kv_cache_about(cache)->shard, i % 2 ? second : first);
    }
    // Replaced behind the back of who reads: by one of another shard, then of another base.
    assert_int_equal(kv_cache_dir_file(d, 1, &cache, &err), KV_OK);
    kv_cache_free(built(&f, test_path(dir, "cache-00003.h5")));
    assert_int_equal(kv_cache_dir_file(d, 0, &cache, &err), KV_ERR_MISMATCH);
    assert_null(cache);
    assert_non_null(strstr(err.message, "replaced while it was in use"));
    assert_int_equal(kv_cache_dir_file(d, 1, &cache, &err), KV_OK);
    assert_int_equal(kv_cache_dir_file(d, 0, &cache, &err), KV_ERR_MISMATCH);
    f.info.base.fingerprint[0] ^= 1;
    kv_cache_free(built(&f, test_path(dir, "cache-00010.h5")));
    assert_int_equal(kv_cache_dir_file(d, 1, &cache, &err), KV_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "fingerprint"));
    f.info.base.fingerprint[0] ^= 1;
    kv_cache_free(built(&f, test_path(dir, "cache-00010.h5")));
    kv_cache_dir_free(d);
    // One of another kind among them.
    f.info.dtype = KV_BF16;
    kv_cache_free(built(&f, test_path(dir, "cache-00011.h5")));
    assert_int_equal(kv_cache_dir_open(dir, &d, &err), KV_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "cache-00011.h5"));
    fixture_free(&f);
}

// ---- Refusing to write ---------------------------------------------------------------------------------

static void test_values_that_do_not_fit(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/never.h5", test_dir);
    static const float values[] = {65520, INFINITY, NAN, 1e38f};
    for (int v = 0; v < 4; v++)
        for (kv_dtype dtype = KV_F32; dtype <= KV_F16; dtype++) {
            fixture f = fixture_make(dtype, false, 0);
            kv_param *v_weight = &f.pair.base->layers[2].v; // nothing else reads it
            kv_error err = {0};
            ((float *)v_weight->data)[3] = values[v];
            const bool fits = isfinite(values[v]) && (dtype != KV_F16 || v != 3) && dtype != KV_F16;
            const kv_status status = build(&f, path, 4, &err);
            if (fits && v == 0) assert_int_equal(status, KV_OK);
            if (!isfinite(values[v])) {
                assert_int_equal(status, KV_ERR_NOT_FINITE);
                assert_non_null(strstr(err.message, "row 1 of "));
                assert_non_null(strstr(err.message, "/base/value/2"));
            } else if (dtype == KV_F16) {
                assert_int_equal(status, KV_ERR_RANGE);
                assert_non_null(strstr(err.message, "f16 cannot hold"));
            }
            assert_true((access(path, F_OK) == 0) == (status == KV_OK));
            unlink(path);
            fixture_free(&f);
        }
}

static kv_status stop(void *context, int64_t n_rows, int64_t bytes, kv_error *err) {
    (void)bytes;
    *(int64_t *)context = n_rows;
    return n_rows < 9 ? KV_OK : kv_fail(err, KV_ERR_INTERRUPTED, "enough");
}

static void test_nothing_half_written(void **state) {
    (void)state;
    fixture f = fixture_make(KV_F32, true, TOP_K);
    char dir[128];
    snprintf(dir, sizeof dir, "%s/whole", test_dir);
    const char *path = test_path(dir, "cache-00000.h5");
    int64_t reached = 0;
    kv_error err = {0};
    mkdir(dir, 0777);
    const kv_cache_build_args args = {
        .base = f.pair.base, .aux = f.pair.aux, .n_seq = 3, .progress = stop, .context = &reached};
    assert_int_equal(kv_cache_build(path, f.shard, &f.info, &args, &err), KV_ERR_INTERRUPTED);
    assert_int_equal(reached, 9);
    // What is done is kept, beside where the file will be.
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(test_dir_count(test_path(dir, "cache-00000.h5.unfinished")), 3); // parts
    assert_int_equal(kv_cache_parts_tidy(path, true, &err), KV_OK);
    for (int64_t limit = 100; limit < 20000; limit = limit * 3 / 2) {
        test_limit_file_size(limit);
        const kv_status status = build(&f, path, 3, &err);
        test_limit_file_size(-1);
        if (status == KV_OK) break;
        assert_int_equal(status, KV_ERR_IO);
        if (!strstr(err.message, "cache-00000.h5")) fail_msg("unclear message: %s", err.message);
        assert_int_equal(test_dir_count(dir), 0);
    }
    fixture_free(&f);
}

// ---- Damage --------------------------------------------------------------------------------------------

// Everything that can be read of a file; the first failure.
static kv_status read_all(const char *path, kv_error *err) {
    kv_cache *cache;
    kv_status status = kv_cache_open(path, &cache, err);
    if (status != KV_OK) return status;
    const kv_cache_info *info = kv_cache_about(cache);
    float *x = test_alloc(info->seq_len * 4096, sizeof *x), logsumexp[SEQ_LEN];
    int32_t ids[SEQ_LEN * TOP_K], tokens[SEQ_LEN + 1];
    for (int64_t row = 0; status == KV_OK && row < info->n_rows; row++) {
        status = kv_cache_read_tokens(cache, row, tokens, err);
        for (int part = KV_CACHE_BASE_KEY; status == KV_OK && part <= KV_CACHE_AUX_VALUE; part++)
            for (int64_t i = 0; status == KV_OK && i < (part < KV_CACHE_AUX_KEY ? 3 : 2); i++)
                status = kv_cache_read(cache, (kv_cache_part)part, i, row, x, err);
        if (status == KV_OK) status = kv_cache_read_topk(cache, row, ids, x, logsumexp, err);
    }
    free(x);
    kv_cache_free(cache);
    return status;
}

static char *content(const char *path, long *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    char *bytes = test_alloc(*size, 1);
    assert_int_equal(fread(bytes, 1, (size_t)*size, file), *size);
    fclose(file);
    return bytes;
}

static void put(const char *path, const char *bytes, long size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, (size_t)size, file), size);
    fclose(file);
}

// Truncated anywhere: refused. With a byte changed anywhere: refused, or a byte that holds nothing.
static void test_damaged_bytes(void **state) {
    (void)state;
    fixture f = fixture_make(KV_BF16, true, TOP_K);
    const char *path = test_path(test_dir, "damage.h5");
    kv_error err = {0};
    kv_cache_free(built(&f, path));
    assert_int_equal(read_all(path, &err), KV_OK);
    long size;
    char *bytes = content(path, &size);
    for (long length = 0; length < size; length += 1 + size / 23) {
        put(path, bytes, length);
        if (read_all(path, &err) == KV_OK) fail_msg("%ld of %ld bytes are a cache", length, size);
    }
    int refused = 0, by_checksum = 0;
    for (long at = 16; at < size; at += 1 + size / 211) {
        bytes[at] ^= 0x55;
        put(path, bytes, size);
        if (read_all(path, &err) != KV_OK) {
            refused++;
            by_checksum += strstr(err.message, "checksum") != NULL;
            if (!strstr(err.message, "damage.h5") && !strstr(err.message, "config of"))
                fail_msg("unclear message: %s", err.message);
        }
        bytes[at] ^= 0x55;
    }
    assert_true(refused > 50); // most of the file is data with checksums
    assert_true(by_checksum > 0);
    free(bytes);
    fixture_free(&f);
}

static void write_int(hid_t file, const char *object, const char *name, int64_t value) {
    assert_int_equal(kv_h5_set_i64(file, object, name, value, NULL), KV_OK);
}

// Edited by someone with the library at hand: checksums fit.
static void edit(const char *path, int what) {
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), set;
    assert_true(file >= 0);
    float nan[SEQ_LEN * 2];
    for (int i = 0; i < SEQ_LEN * 2; i++) nan[i] = NAN;
    const int32_t ids[1] = {61};
    hsize_t one[3] = {1, 1, 1}, zero[3] = {0, 0, 0};
    switch (what) {
    case 0: kv_h5_set_string(file, "/", "format", "kv-tokens", NULL); break;
    case 1: write_int(file, "/", "version", 3); break;
    case 2: kv_h5_set_string(file, "/", "dtype", "f16", NULL); break;
    case 3: kv_h5_set_string(file, "/", "dtype", "f64", NULL); break;
    case 4: write_int(file, "/", "seq_len", SEQ_LEN + 1); break;
    case 5: write_int(file, "/", "seq_len", -3); break;
    case 6: write_int(file, "/", "top_k", TOP_K - 1); break;
    case 7: write_int(file, "/", "top_k", 1000); break;
    case 8: H5Adelete_by_name(file, "/base", "config", H5P_DEFAULT); break;
    case 9: kv_h5_set_string(file, "/base", "config", "{\"model_type\": \"openelm\"}", NULL); break;
    case 10: kv_h5_set_string(file, "/aux", "config", "[", NULL); break;
    case 11: kv_h5_set_string(file, "/base", "fingerprint", "short", NULL); break;
    case 12: H5Ldelete(file, "/base/value/2", H5P_DEFAULT); break;
    case 13: H5Lmove(file, "/logits/ids", file, "/logits/id", H5P_DEFAULT, H5P_DEFAULT); break;
    case 14: H5Ldelete(file, "/tokens", H5P_DEFAULT); break;
    case 15: // another layer's, of another width
        H5Ldelete(file, "/base/key/1", H5P_DEFAULT);
        H5Lcreate_hard(file, "/base/key/0", file, "/base/key/1", H5P_DEFAULT, H5P_DEFAULT);
        break;
    case 16:
    case 17: {
        set = H5Dopen2(file, what == 16 ? "/aux/value/1" : "/logits/ids", H5P_DEFAULT);
        hid_t space = H5Dget_space(set), memory = H5Screate_simple(3, one, NULL);
        H5Sselect_hyperslab(space, H5S_SELECT_SET, zero, NULL, one, NULL);
        assert_true(H5Dwrite(set, what == 16 ? H5T_NATIVE_FLOAT : H5T_NATIVE_INT32, memory, space,
                             H5P_DEFAULT, what == 16 ? (const void *)nan : (const void *)ids) >= 0);
        H5Sclose(space);
        H5Sclose(memory);
        H5Dclose(set);
        break;
    }
    case 18:
    case 19:
        write_int(file, "/", "version", 2);
        if (what == 19) kv_h5_set_f64(file, "/", "temperature", 0, NULL);
        break;
    default: fail();
    }
    H5Fclose(file);
}

static void test_edited_by_hand(void **state) {
    (void)state;
    static const char *const named[] = {"frozen cache",   "version",
                                        "type it says",   "dtype",
                                        "seq_len",        "seq_len",
                                        "type it says",   "top_k",
                                        "config",         "config of /base",
                                        "config of /aux", "fingerprint",
                                        "/base/value/2",  "/logits/ids",
                                        "tokens",         "/base/key/1",
                                        "no finite",      "outside the vocabulary",
                                        "temperature",    "temperature makes no sense"};
    fixture f = fixture_make(KV_BF16, true, TOP_K);
    const char *path = test_path(test_dir, "edited.h5");
    for (int what = 0; what < (int)(sizeof named / sizeof *named); what++) {
        kv_error err = {0};
        kv_cache_free(built(&f, path));
        edit(path, what);
        const kv_status status = read_all(path, &err);
        if (status == KV_OK) fail_msg("edit %d passes", what);
        if (!strstr(err.message, named[what])) fail_msg("edit %d: unclear message: %s", what, err.message);
    }
    fixture_free(&f);
}

static void test_rows_outside(void **state) {
    (void)state;
    fixture f = fixture_make(KV_BF16, false, 0);
    kv_cache *cache = built(&f, test_path(test_dir, "cache.h5"));
    int32_t tokens[SEQ_LEN + 1];
    kv_error err = {0};
    assert_int_equal(kv_cache_read_tokens(cache, 17, tokens, &err), KV_ERR_RANGE);
    assert_int_equal(kv_cache_read_tokens(cache, -1, tokens, &err), KV_ERR_RANGE);
    assert_non_null(strstr(err.message, "17 rows"));
    kv_cache_free(cache);
    fixture_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds_what_models_make),
        cmocka_unit_test(test_says_what_it_was_made_with),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_what_differs_is_named),
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_values_that_do_not_fit),
        cmocka_unit_test(test_nothing_half_written),
        cmocka_unit_test(test_damaged_bytes),
        cmocka_unit_test(test_edited_by_hand),
        cmocka_unit_test(test_rows_outside),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
