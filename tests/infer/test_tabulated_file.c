// Tabulated predictors as files: what is written is what the core works out; sessions that use one answer as without
// and execute what is said; files of other weights, another vocabulary, or half made, are refused or not there.
#include "core/gemm.h"
#include "core/predictor/tabulated.h"
#include "data/checkpoint/safetensors.h"
#include "data/checkpoint/tabulated.h"
#include "infer/cost.h"
#include "infer/session/engine.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VOCABULARY = 61, PROMPT = 17 };

static void must(kv_status status, const kv_error *err) {
    if (status != KV_OK) fail_msg("%s", err->message);
}

static void write_file(const test_made *m, kv_dtype dtype, const char *path) {
    char of_base[17];
    kv_error err = {0};
    kv_checkpoint_fingerprint(m->base, of_base);
    must(kv_tabulated_write(path, m->predictor, m->base, of_base, &m->aux->spec, dtype, NULL, NULL, &err),
         &err);
}

static kv_status use(test_made *m, const char *path, kv_error *err) {
    char of_base[17];
    kv_checkpoint_fingerprint(m->base, of_base);
    return kv_tabulated_use(path, &m->base->spec, &m->aux->spec, of_base, &m->predictor, err);
}

static bool of_token(const test_made *m) {
    kv_tabulated_size size;
    return kv_tabulated_measure(m->predictor, &m->base->spec, &m->aux->spec, KV_F32, &size, NULL) == KV_OK;
}

// Logits of the first token; what was executed for them.
static uint64_t answer(const test_made *m, float logits[VOCABULARY]) {
    const kv_system system = {.base = m->base, .aux = m->aux, .predictor = m->predictor};
    const int64_t n = PROMPT;
    int32_t ids[PROMPT];
    kv_session *session;
    kv_error err = {0};
    tiny_ids(ids, n, VOCABULARY, 12);
    must(kv_session_create(&system, 1, n, &session, &err), &err);
    kv_gemm_flops_reset();
    must(kv_session_prefill(session, ids, &n, logits, &err), &err);
    kv_session_free(session);
    assert_int_equal(kv_gemm_flops(), kv_system_flops(&system, n));
    return kv_gemm_flops();
}

static void test_sessions_answer_as_without(void **state) {
    (void)state;
    for (int p = 0; p < TEST_PARTS; p++) {
        test_made m = test_part_make(&test_parts[p]);
        float expected[VOCABULARY], found[VOCABULARY];
        if (of_token(&m)) {
            const char *path = test_path(test_dir, "f32.safetensors");
            kv_error err = {0};
            write_file(&m, KV_F32, path);
            const uint64_t whole = answer(&m, expected);
            must(use(&m, path, &err), &err);
            assert_true(m.predictor->tabulated);
            const uint64_t left = answer(&m, found);
            const kv_system system = {.base = m.base, .aux = m.aux, .predictor = m.predictor};
            assert_int_equal(whole, kv_system_flops_computed(&system, PROMPT));
            assert_int_equal(left, kv_system_flops_looked_up(&system, PROMPT));
            for (int i = 0; i < VOCABULARY; i++)
                if (!(fabsf(found[i] - expected[i]) <= 2e-5f * (1 + fabsf(expected[i]))))
                    fail_msg("%s: id %d has %g, expected %g", test_parts[p].name, i, (double)found[i],
                             (double)expected[i]);
        }
        test_made_free(&m);
    }
}

// Two chunks of tokens and their place in the file; types; what was said of its size.
static void test_files_hold_what_is_worked_out(void **state) {
    (void)state;
    for (kv_dtype dtype = KV_F32; dtype <= KV_BF16; dtype++) {
        kv_model_spec base = tiny_base(), aux = tiny_aux();
        base.vocab_size = aux.vocab_size = 700;
        test_made m = test_part_make_of(&test_parts[5], &base, &aux); // low rank, of the embedding
        const char *path = test_path(test_dir, "tables.safetensors");
        kv_predictor *memory = test_tabulated(&m, dtype);
        kv_token_table *tables = test_alloc(KV_MAX_TOKEN_TABLES, sizeof *tables);
        const int64_t n = kv_predictor_token_tables(memory, tables);
        kv_safetensors *file;
        kv_tabulated_size size;
        kv_tabulated_info info;
        struct stat stated;
        kv_error err = {0};
        write_file(&m, dtype, path);
        must(kv_tabulated_measure(m.predictor, &base, &aux, dtype, &size, &err), &err);
        must(kv_tabulated_read_info(path, &info, &err), &err);
        must(kv_safetensors_open(path, &file, &err), &err);
        assert_int_equal(kv_safetensors_count(file), n);
        for (int64_t i = 0; i < n; i++) {
            const kv_st_entry *entry = kv_safetensors_find(file, tables[i].param->name);
            assert_non_null(entry);
            assert_true(entry->dtype == dtype && entry->shape[0] == 700);
            const int64_t cols = tables[i].param->cols;
            float *found = test_alloc(700 * cols, sizeof *found),
                  *expected = test_alloc(700 * cols, sizeof *found);
            kv_widen(found, entry->data, dtype, 700 * cols);
            kv_widen(expected, tables[i].param->data, dtype, 700 * cols);
            // Other numbers of rows may be multiplied in another order, and then rounded the other way.
            const float unit = dtype == KV_BF16 ? 0x1p-7f : 1e-5f;
            for (int64_t k = 0; k < 700 * cols; k++)
                assert_true(fabsf(found[k] - expected[k]) <= unit * fabsf(expected[k]) + 1e-6f);
            free(found);
            free(expected);
        }
        assert_int_equal(stat(path, &stated), 0);
        assert_true((double)stated.st_size >= size.bytes && (double)stated.st_size <= size.bytes + 4096);
        assert_true(info.vocab_size == 700 && info.width == size.width && info.dtype == dtype);
        assert_true(size.products - size.products_left == kv_flops_predictor_tokens(m.predictor, &base, 1));
        kv_safetensors_close(file);
        kv_predictor_free(memory);
        free(tables);
        test_made_free(&m);
    }
}

static void refuse(test_made *m, const char *path, kv_status expected, const char *words) {
    kv_error err = {0};
    const kv_predictor *before = m->predictor;
    assert_int_equal(use(m, path, &err), expected);
    assert_ptr_equal(m->predictor, before);
    if (!strstr(err.message, words)) fail_msg("expected %s\nfound    %s", words, err.message);
    assert_non_null(strstr(err.message, path));
}

static void test_files_of_others_are_refused(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "own.safetensors");
    test_made m = test_part_make(&test_parts[2]);
    write_file(&m, KV_BF16, path);
    ((float *)m.predictor->outputs[0][1].map.params[0].data)[3] += 1;
    refuse(&m, path, KV_ERR_MISMATCH, "tabulated from a predictor with fingerprint");
    ((float *)m.base->embed.data)[3] += 1;
    refuse(&m, path, KV_ERR_MISMATCH, "tabulated from a base with fingerprint");
    test_made_free(&m);
    kv_model_spec base = tiny_base(), aux = tiny_aux();
    base.vocab_size = aux.vocab_size = 64;
    m = test_part_make_of(&test_parts[2], &base, &aux);
    refuse(&m, path, KV_ERR_MISMATCH, "made for a vocabulary of 61 tokens, this base has 64");
    test_made_free(&m);
    // Plans ask for shapes alone.
    m = test_part_make(&test_parts[5]);
    kv_predictor *shape;
    kv_error err = {0};
    must(kv_predictor_plan(&m.base->spec, &m.aux->spec, &m.predictor->spec, &shape, &err), &err);
    assert_int_equal(kv_tabulated_use(path, &m.base->spec, &m.aux->spec, NULL, &shape, &err),
                     KV_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "from another"));
    kv_predictor_free(shape);
    test_made_free(&m);
    m = test_part_make(&test_parts[2]);
    must(kv_predictor_plan(&m.base->spec, &m.aux->spec, &m.predictor->spec, &shape, &err), &err);
    must(kv_tabulated_use(path, &m.base->spec, &m.aux->spec, NULL, &shape, &err), &err);
    assert_true(shape->tabulated && !shape->storage);
    kv_predictor_free(shape);
    // Any safetensors file is not one.
    const float one = 1;
    const char *other = test_path(test_dir, "other.safetensors");
    const kv_st_tensor tensor = {
        .name = "key.0.table", .dtype = KV_F32, .n_dims = 1, .shape = {1}, .part = {&one}, .part_size = {4}};
    must(kv_safetensors_write(other, &tensor, 1, NULL, 0, &err), &err);
    refuse(&m, other, KV_ERR_FORMAT, "no tabulated predictor, expected a file of kvdata tabulate");
    test_made_free(&m);
}

static bool stop_at_once(void *context, int64_t n_tokens) {
    (void)context, (void)n_tokens;
    return false;
}

static void test_whole_or_not_at_all(void **state) {
    (void)state;
    const char *path = test_path(test_dir, "stopped.safetensors");
    kv_error err = {0};
    test_made m = test_part_make(&test_parts[2]);
    const kv_model_spec *aux = &m.aux->spec;
    assert_int_equal(kv_tabulated_write(path, m.predictor, m.base, "0123456789abcdef", aux, KV_F32,
                                        stop_at_once, NULL, &err),
                     KV_ERR_INTERRUPTED);
    assert_int_not_equal(access(path, F_OK), 0);
    test_made_free(&m);
    m = test_part_make(&test_parts[0]);
    assert_int_equal(kv_tabulated_write(path, m.predictor, m.base, "0123456789abcdef", &m.aux->spec, KV_F32,
                                        NULL, NULL, &err),
                     KV_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "nothing of this predictor depends on the token alone"));
    assert_int_not_equal(access(path, F_OK), 0);
    test_made_free(&m);
    // What is left is not saved as if it were whole.
    m = test_part_make(&test_parts[2]);
    kv_predictor *left = test_tabulated(&m, KV_F32);
    assert_int_equal(kv_predictor_save(test_path(test_dir, "saved"), left, NULL, &err), KV_ERR_ARGUMENT);
    kv_predictor_free(left);
    test_made_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sessions_answer_as_without),
        cmocka_unit_test(test_files_hold_what_is_worked_out),
        cmocka_unit_test(test_files_of_others_are_refused),
        cmocka_unit_test(test_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
