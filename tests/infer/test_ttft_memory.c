// What kv_ttft_bytes says that a cell takes against what its session then takes, for every way of reading a
// prompt; and what kv_document_bytes says of documents that are drawn. The linker sends the project's calls of malloc and its kin through the functions below, which add
// up what is alive; of an arena, whose chunks are larger than what is used of them, its own count is taken.
//
// The estimate must never be lower: a cell that does not fit would be run. It may be a tenth higher, plus the
// tiles of two threads (0.6 MB): layers are taken to be as large as the largest at their worst moment.
#include "core/arena.h"
#include "core/gemm.h"
#include "infer/draw.h"
#include "infer/memory.h"
#include "infer/session/session.h"
#include "infer/ttft.h"
#include "tests/support/predictors/paper.h"
#include "tests/support/predictors/parts.h"
#include "tests/support/support.h"

#include "infer/session/engine.h"

#include <malloc.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

static struct {
    size_t alive, most;
    void *chunks[256]; // of arenas
    int n_chunks;
} heap;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);

// Threads that read packs side by side ask for memory at the same time.
static void *count(void *memory) {
#pragma omp critical(heap)
    {
        if (memory) heap.alive += malloc_usable_size(memory);
        if (heap.alive > heap.most) heap.most = heap.alive;
    }
    return memory;
}
static void forget(void *memory) {
    bool chunk = false;
#pragma omp critical(heap)
    {
        for (int i = 0; i < heap.n_chunks && !chunk; i++)
            if (heap.chunks[i] == memory) heap.chunks[i] = heap.chunks[--heap.n_chunks], chunk = true;
        if (!chunk) heap.alive -= malloc_usable_size(memory);
    }
}
void *__wrap_malloc(size_t size) {
    return count(__real_malloc(size));
}
void *__wrap_calloc(size_t n, size_t size) {
    return count(__real_calloc(n, size));
}
void *__wrap_realloc(void *old, size_t size) {
    if (old) forget(old);
    return count(__real_realloc(old, size));
}
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    void *chunk = __real_aligned_alloc(alignment, size);
    assert_true(heap.n_chunks < 256);
#pragma omp critical(heap)
    heap.chunks[heap.n_chunks++] = chunk;
    return chunk;
}
void __wrap_free(void *memory) {
    if (memory) forget(memory);
    __real_free(memory);
}

// ---- Measuring -----------------------------------------------------------------------------------------

static size_t tape_peak(const kv_session *session) {
    size_t sum = session ? kv_arena_peak(kv_tape_arena(session->tape)) : 0;
    for (int64_t i = 0; session && i < session->n_more_tapes; i++)
        sum += kv_arena_peak(kv_tape_arena(session->more_tapes[i]));
    return sum;
}

// A prefill as the clock has it, with the arrays it needs.
static size_t measure(const kv_system *system, const kv_ttft_cell *cell) {
    const size_t batch = (size_t)cell->batch_size, n = (size_t)cell->prompt_tokens;
    kv_session *session;
    kv_error err = {0};
    const size_t before = heap.alive;
    heap.most = heap.alive;
    if (kv_session_create(system, cell->batch_size, cell->prompt_tokens, &session, &err) != KV_OK)
        fail_msg("%s", err.message);
    int32_t *ids = malloc(batch * n * sizeof *ids);
    int64_t *lengths = malloc(batch * sizeof *lengths);
    float *logits = malloc(batch * (size_t)system->base->spec.vocab_size * sizeof *logits);
    tiny_ids(ids, (int64_t)(batch * n), kv_system_vocab_size(system), 1);
    for (size_t s = 0; s < batch; s++) lengths[s] = cell->prompt_tokens;
    if (kv_session_prefill(session, ids, lengths, logits, &err) != KV_OK) fail_msg("%s", err.message);
    const size_t taken = heap.most - before + tape_peak(session) + tape_peak(session->drafter);
    kv_session_free(session);
    free(ids);
    free(lengths);
    free(logits);
    return taken;
}

static const kv_ttft_cell all_cells[] = {{512, 64}, {512, 1},  {59, 64}, {128, 8},
                                         {3, 700},  {2000, 2}, {1, 5}},
                          few_cells[] = {{150, 20}, {3, 700}, {1, 5}};
enum { ALL_CELLS = sizeof all_cells / sizeof *all_cells, FEW_CELLS = sizeof few_cells / sizeof *few_cells };

static void check(const char *name, const kv_system *system, const kv_ttft_cell *cells, int n_cells) {
    static const double above = 1.1, tiles = 0.6e6;
    for (int c = 0; c < n_cells; c++) {
        const double said = (double)kv_ttft_bytes(system, 1, &cells[c]);
        const double taken = (double)measure(system, &cells[c]);
        if (!(said >= taken && said <= above * taken + tiles))
            fail_msg("%s, %lld tokens x %lld: %.0f bytes estimated, %.0f taken (%.3f)", name,
                     (long long)cells[c].prompt_tokens, (long long)cells[c].batch_size, said, taken,
                     said / taken);
    }
}

// ---- Every way to read a prompt ------------------------------------------------------------------------

enum { CONTEXT = 2048 };

static void check_all(const char *name, kv_model *base, kv_model *aux, kv_predictor *predictor,
                      kv_predictor *low_rank) {
    const kv_system systems[] = {
        {.base = base},
        {.base = base, .aux = aux, .predictor = predictor},
        {.base = base, .aux = aux, .predictor = low_rank},
        {.base = base, .pruning = {.kind = KV_PRUNE_RANDOM, .keep = 0.5}},
        {.base = base, .pruning = {.kind = KV_PRUNE_STATIC, .keep = 0.25}},
        {.base = base, .pruning = {.kind = KV_PRUNE_STATIC, .keep = 1}},
        {.base = base, .pruning = {.kind = KV_PRUNE_LAZY, .start = 0.75, .end = 0.25}},
        {.base = base, .pruning = {.kind = KV_PRUNE_LAZY, .start = 1, .end = 1}},
        {.base = base, .aux = aux, .pruning = {.kind = KV_PRUNE_SPECULATIVE, .keep = 0.25}},
        {.base = base, .aux = aux, .pruning = {.kind = KV_PRUNE_SPECULATIVE, .keep = 1, .lookahead = 40}},
    };
    static const char *const ways[] = {
        "alone",   "predicted", "predicted in low rank", "random", "static", "static 1", "lazy", "lazy 1",
        "drafted", "drafted 1"};
    for (size_t i = 0; i < sizeof systems / sizeof *systems; i++) {
        char what[96];
        snprintf(what, sizeof what, "%s, %s", name, ways[i]);
        check(what, &systems[i], all_cells, ALL_CELLS);
    }
}

static void test_tiny_models(void **state) {
    (void)state;
    kv_model_spec base = tiny_deep_base(9), aux = tiny_aux();
    base.context_length = aux.context_length = CONTEXT;
    kv_model *a = tiny_model(&base, 1), *b = tiny_model(&aux, 2);
    kv_predictor *full = tiny_predictor(&base, &aux, 3);
    kv_predictor *low = tiny_predictor_of(&base, &aux, NULL, (test_kind){.rank = 3, .aux_layers = 2}, 4);
    check_all("tiny", a, b, full, low);
    kv_model_free(a);
    kv_model_free(b);
    kv_predictor_free(full);
    kv_predictor_free(low);
}

// Without key norms, weights of 16 bits, a vocabulary that weighs.
static void test_wider_models(void **state) {
    (void)state;
    kv_model_spec base = tiny_deep_base(6), aux = tiny_aux();
    base.context_length = aux.context_length = CONTEXT;
    base.qk_norm = aux.qk_norm = false, base.tied_head = false;
    base.vocab_size = aux.vocab_size = 3000;
    base.model_dim = 96;
    kv_model *a = NULL, *b = NULL;
    kv_error err = {0};
    if (kv_model_create(&base, KV_BF16, true, &a, &err) || kv_model_create(&aux, KV_BF16, true, &b, &err))
        fail_msg("%s", err.message);
    kv_model_fill_random(a, 1, NULL, 0);
    kv_model_fill_random(b, 2, NULL, 0);
    kv_predictor *full = tiny_predictor(&base, &aux, 3);
    kv_predictor *low = tiny_predictor_of(&base, &aux, NULL, (test_kind){.rank = 4}, 4);
    check_all("wider", a, b, full, low);
    kv_model_free(a);
    kv_model_free(b);
    kv_predictor_free(full);
    kv_predictor_free(low);
}

// ---- Turns ---------------------------------------------------------------------------------------------

// Prompts, steps, and longer prompts behind them, for which the aux has something to read: what is kept for that and
// what is taken out of the rows that it reads are counted, too. Packs of other sizes leave gaps, as kv_answer_bytes has it.
static void check_turns(const char *name, const kv_system *system) {
    enum { BATCH = 3, FIRST = 90, STEPS = 5, SECOND = 100, ALL = FIRST + STEPS + SECOND };
    static const int64_t first[BATCH] = {FIRST, FIRST, FIRST}, second[BATCH] = {SECOND, SECOND, SECOND};
    kv_session *session;
    kv_error err = {0};
    int32_t *ids = malloc(BATCH * ALL * sizeof *ids);
    float *logits = malloc(BATCH * (size_t)system->base->spec.vocab_size * sizeof *logits);
    tiny_ids(ids, BATCH * ALL, kv_system_vocab_size(system), 1);
    const size_t before = heap.alive;
    heap.most = heap.alive;
    if (kv_session_create_turns(system, BATCH, ALL, &session, &err) != KV_OK) fail_msg("%s", err.message);
    if (kv_session_prefill(session, ids, first, logits, &err) != KV_OK) fail_msg("%s", err.message);
    for (int i = 0; i < STEPS; i++)
        if (kv_session_decode(session, ids, NULL, logits, &err) != KV_OK) fail_msg("%s", err.message);
    if (kv_session_append(session, ids, second, logits, &err) != KV_OK) fail_msg("%s", err.message);
    const double taken = (double)(heap.most - before + tape_peak(session)),
                 said = kv_turns_bytes(system, BATCH, SECOND + STEPS + 1, ALL);
    kv_session_free(session);
    assert_int_equal(heap.alive, before);
    free(ids);
    free(logits);
    if (!(said >= taken && said <= 3 * taken + 0.6e6))
        fail_msg("%s, turns: %.0f bytes estimated, %.0f taken (%.3f)", name, said, taken, said / taken);
}

// Nothing of a prefix is there twice, and its layers' caches are handed on as they are.
static void test_parts_of_predictors(void **state) {
    (void)state;
    for (int wide = 0; wide < 2; wide++) {
        kv_model_spec base = tiny_deep_base(wide ? 6 : 9), aux = tiny_aux();
        base.context_length = aux.context_length = CONTEXT;
        if (wide) base.qk_norm = aux.qk_norm = false, base.model_dim = 96;
        for (int p = 0; p < TEST_PARTS; p++) {
            char what[96];
            test_made m = test_part_make_of(&test_parts[p], &base, &aux);
            snprintf(what, sizeof what, "%s of %s", test_parts[p].name, wide ? "wider models" : "tiny ones");
            const kv_system system = {.base = m.base, .aux = m.aux, .predictor = m.predictor};
            check(what, &system, few_cells, FEW_CELLS);
            check_turns(what, &system);
            test_made_free(&m);
        }
    }
}

// ---- Documents -----------------------------------------------------------------------------------------

static kv_status look_at(void *context, int64_t number, const int32_t *ids, int64_t n, bool *enough,
                         kv_error *err) {
    (void)ids, (void)enough, (void)err, (void)number;
    *(int64_t *)context += n;
    return KV_OK;
}

static bool go_on(void *context, int64_t n_tokens) {
    (void)context, (void)n_tokens;
    return true;
}

// What the arena of a session holds that reads as many tokens, in the way that drawing reads them.
static size_t decoding_peak(kv_model *model, int64_t batch, int64_t n) {
    kv_session *session;
    int32_t *ids = test_alloc(batch, sizeof *ids);
    float *logits = test_alloc(batch * model->spec.vocab_size, sizeof *logits);
    const bool before = kv_gemm_batch_invariant(true);
    assert_int_equal(kv_session_create(&(kv_system){.base = model}, batch, n, &session, NULL), KV_OK);
    for (int64_t t = 0; t + 1 < n; t++)
        assert_int_equal(kv_session_decode(session, ids, NULL, logits, NULL), KV_OK);
    const size_t peak = tape_peak(session);
    kv_gemm_batch_invariant(before);
    kv_session_free(session);
    free(ids);
    free(logits);
    return peak;
}

// On one thread: what is added up here is no thread's own. Documents that go on to the end, and short ones, of which
// many wait for their turn.
static void check_documents(kv_model *model, int64_t batch, int64_t max_tokens, bool end) {
    const int32_t bos = 1;
    const kv_document_plan plan = {.model = model,
                                   .sampling = {.temperature = 1, .top_p = 1, .seed = 1},
                                   .opening = &bos,
                                   .n_opening = 1,
                                   .max_tokens = max_tokens,
                                   .n_ids = model->spec.vocab_size,
                                   .next = end ? bos : -1,
                                   .closing = -1};
    int64_t tokens = 0;
    model->spec.eos_id = end ? 2 : -1;
    const size_t before = heap.alive;
    heap.most = heap.alive;
    assert_int_equal(kv_draw_documents(&plan, 0, 1, 2 * batch, batch, look_at, go_on, &tokens, NULL), KV_OK);
    const double taken = (double)(heap.most - before + decoding_peak(model, batch, max_tokens));
    const double said = kv_document_bytes(&plan, batch, 1);
    assert_int_equal(heap.alive, before);
    if (!end) assert_int_equal(tokens, 2 * batch * max_tokens);
    if (!(said >= taken && said <= 1.1 * taken + 0.6e6))
        fail_msg("%d documents of %d tokens: %.0f bytes estimated, %.0f taken (%.3f)", (int)batch,
                 (int)max_tokens, said, taken, said / taken);
}

static void test_documents(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {{1, 4}, {16, 40}, {64, 100}, {3, 400}, {40, 33}};
    kv_model_spec tiny = tiny_deep_base(9), wide = tiny_deep_base(6);
    tiny.context_length = wide.context_length = CONTEXT;
    wide.vocab_size = 3000, wide.model_dim = 96, wide.tied_head = false;
    kv_model *models[2] = {tiny_model(&tiny, 1)};
    assert_int_equal(kv_model_create(&wide, KV_BF16, true, &models[1], NULL), KV_OK);
    kv_model_fill_random(models[1], 1, NULL, 0);
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    for (int m = 0; m < 2; m++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int end = 0; end < 2; end++) check_documents(models[m], sizes[i][0], sizes[i][1], end);
        kv_model_free(models[m]);
    }
    omp_set_num_threads(threads);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_models), cmocka_unit_test(test_wider_models),
        cmocka_unit_test(test_parts_of_predictors), cmocka_unit_test(test_documents)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
