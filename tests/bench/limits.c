// The best of some repeats each: what the machine can do when nobody is in the way.
#include "tests/bench/limits.h"

#include "core/arena.h"
#include "core/gemm.h"
#include "core/gemm/packed.h"
#include "data/system/console.h"
#include "tests/bench/bench.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

// What loops come to goes here, so that compilers do not leave them out.
static volatile float seen;

static const int64_t limit_rows[BENCH_LIMIT_ROWS] = {1, 2, 4, 8, 16, 32, 59, 128, 472, 1536};
static const int64_t quick_rows[] = {1, 8, 32};
static const char *const weights_names[] = {"ours, f32 in rows", "ours, f32", "ours, bf16"};
enum { REPEATS = 5, MAX_WEIGHTS = 64 };

// Never fewer than so many bytes are gone through before one is met again: more than caches hold.
static size_t beyond_caches(bool quick) {
    if (quick) return (size_t)1 << 21;
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const size_t least = (size_t)256 << 20, most = (size_t)1 << 30,
                 wanted = cache > 0 ? 4 * (size_t)cache : 0;
    return wanted < least ? least : wanted > most ? most : wanted;
}

// ---- Products ------------------------------------------------------------------------------------------

// Weights of one type that products take in turn, as those of a model's layers are.
struct bench_products {
    int64_t dim, n;
    int64_t next;
    kv_param weights[BENCH_WEIGHTS][MAX_WEIGHTS];
    float *x, *y; // [most rows, dim]
};

static void *pages(size_t size) {
    void *memory = aligned_alloc((size_t)1 << 21, (size + ((size_t)1 << 21) - 1) >> 21 << 21);
    if (!memory) bench_out_of_memory();
    kv_prefer_huge_pages(memory, size);
    return memory;
}

static void make_weight(kv_param *w, int64_t dim, bench_weights kind) {
    const kv_dtype type = kind == BENCH_BF16 ? KV_BF16 : KV_F32;
    const int64_t n = dim * dim;
    *w = (kv_param){.name = "limit", .rows = dim, .cols = dim, .dtype = type};
    w->data = pages((size_t)n * kv_dtype_size(type));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float value = (float)(i % 13 - 6) / 64;
        kv_narrow((char *)w->data + (size_t)i * kv_dtype_size(type), &value, type, 1);
    }
    if (kind != BENCH_F32_ROWS && !kv_pack(w)) bench_out_of_memory();
}

static struct bench_products *make_products(bool quick) {
    struct bench_products *p = calloc(1, sizeof *p);
    if (!p) bench_out_of_memory();
    p->dim = quick ? 128 : 2048;
    const size_t one = (size_t)(p->dim * p->dim) * sizeof(float), wanted = beyond_caches(quick);
    p->n = (int64_t)((wanted + one - 1) / one);
    if (p->n > MAX_WEIGHTS) p->n = MAX_WEIGHTS;
    for (int t = 0; t < BENCH_WEIGHTS; t++)
        for (int64_t i = 0; i < p->n; i++) make_weight(&p->weights[t][i], p->dim, (bench_weights)t);
    const int64_t most = limit_rows[BENCH_LIMIT_ROWS - 1];
    p->x = pages((size_t)(most * p->dim) * sizeof *p->x),
    p->y = pages((size_t)(most * p->dim) * sizeof *p->y);
    for (int64_t i = 0; i < most * p->dim; i++) p->x[i] = (float)(i % 7) - 3, p->y[i] = 0;
    return p;
}

static void free_products(struct bench_products *p) {
    if (!p) return;
    for (int t = 0; t < BENCH_WEIGHTS; t++)
        for (int64_t i = 0; i < p->n; i++) free(p->weights[t][i].data);
    free(p->x), free(p->y);
    free(p);
}

static void multiply(struct bench_products *p, int type, int64_t rows, bool openblas) {
    const int64_t dim = p->dim;
    const kv_param *w = &p->weights[type][p->next++ % p->n];
    if (openblas)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)dim, (int)dim, 1, p->x, (int)dim,
                    w->data, (int)dim, 0, p->y, (int)dim);
    else
        kv_gemm_weight_t(rows, p->x, dim, w, 0, dim, 0, p->y, dim);
}

// GFLOP/s, the best of a few.
static double product_speed(struct bench_products *p, int type, int64_t rows, bool openblas, int repeats) {
    const int64_t calls = rows <= 16 ? p->n : rows <= 128 ? (p->n + 3) / 4 : 1;
    double least = INFINITY;
    multiply(p, type, rows, openblas);
    for (int r = 0; r < repeats; r++) {
        bench_obey_signals();
        const double start = kv_now();
        for (int64_t i = 0; i < calls; i++) multiply(p, type, rows, openblas);
        least = fmin(least, (kv_now() - start) / (double)calls);
    }
    return 2.0 * (double)(rows * p->dim * p->dim) / least / 1e9;
}

double bench_square(bool openblas, bool quick) {
    const int n = quick ? 128 : 1536;
    const size_t size = (size_t)n * (size_t)n;
    float *a = pages(3 * size * sizeof *a);
    for (size_t i = 0; i < 3 * size; i++) a[i] = (float)(i % 7) - 3;
    double least = INFINITY;
    for (int r = 0; r < REPEATS; r++) {
        const double start = kv_now();
        if (openblas)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, n, 1, a, n, a + size, n, 0,
                        a + 2 * size, n);
        else
            kv_gemm_nt(n, n, n, a, n, a + size, n, 0, a + 2 * size, n);
        least = fmin(least, kv_now() - start);
    }
    free(a);
    return 2.0 * n * (double)size / least / 1e9;
}

// ---- Reading -------------------------------------------------------------------------------------------

struct bench_buffer {
    float *data;
    int64_t n;
};

typedef float lanes __attribute__((vector_size(64)));
enum { LANES = 16, SUMS = 4 };

static float read_part(const float *data, int64_t n) {
    lanes sums[SUMS] = {{0}};
    for (int64_t i = 0; i + SUMS * LANES <= n; i += SUMS * LANES)
        for (int s = 0; s < SUMS; s++) sums[s] += *(const lanes *)(data + i + s * LANES);
    float total = 0;
    for (int l = 0; l < LANES; l++) total += sums[0][l] + sums[1][l] + sums[2][l] + sums[3][l];
    return total;
}

// A thread's part of n floats begins where a page of 2 MB does, as far as there are so many.
static int64_t part_begin(int64_t n, int thread, int n_threads) {
    const int64_t unit = n >= (int64_t)n_threads << 19 ? (int64_t)1 << 19 : SUMS * LANES;
    return thread == n_threads ? n : n / unit * thread / n_threads * unit;
}

// GB/s, the best of a few.
static double read_speed(const float *data, int64_t n, int n_threads, int repeats) {
    double least = INFINITY;
    for (int r = 0; r < repeats; r++) {
        bench_obey_signals();
        float total = 0;
        const double start = kv_now();
#pragma omp parallel num_threads(n_threads) reduction(+ : total)
        {
            const int t = omp_get_thread_num(), all = omp_get_num_threads();
            const int64_t begin = part_begin(n, t, all);
            total += read_part(data + begin, part_begin(n, t + 1, all) - begin);
        }
        least = fmin(least, kv_now() - start);
        seen = total;
    }
    return (double)n * sizeof *data / least / 1e9;
}

static void touch(float *data, int64_t n, int n_threads) {
#pragma omp parallel num_threads(n_threads)
    {
        const int t = omp_get_thread_num(), all = omp_get_num_threads();
        const int64_t begin = part_begin(n, t, all);
        memset(data + begin, 0, (size_t)(part_begin(n, t + 1, all) - begin) * sizeof *data);
    }
}

static struct bench_buffer *make_buffer(bool quick) {
    struct bench_buffer *buffer = malloc(sizeof *buffer);
    if (!buffer) bench_out_of_memory();
    buffer->n = (int64_t)(beyond_caches(quick) / sizeof(float));
    buffer->data = pages((size_t)buffer->n * sizeof(float));
    touch(buffer->data, buffer->n, omp_get_max_threads());
    return buffer;
}

// Reading what one thread or all touched first, in pages of one kind.
static double paged_speed(int64_t n, int advice, int touching) {
    const size_t size = (size_t)n * sizeof(float);
    float *data = aligned_alloc((size_t)1 << 21, size);
    if (!data) bench_out_of_memory();
    madvise(data, size, advice);
    touch(data, n, touching);
    const double speed = read_speed(data, n, omp_get_max_threads(), REPEATS);
    free(data);
    return speed;
}

void bench_pages(bench_limits *limits, json_t *record) {
    const int64_t n = (int64_t)(beyond_caches(limits->quick) / sizeof(float));
    const int all = omp_get_max_threads();
    const double huge = paged_speed(n, MADV_HUGEPAGE, all), huge_one = paged_speed(n, MADV_HUGEPAGE, 1);
    const double small = paged_speed(n, MADV_NOHUGEPAGE, all), small_one = paged_speed(n, MADV_NOHUGEPAGE, 1);
    printf("reading, GB/s: huge pages %.1f (touched by one thread %.1f), small ones %.1f (%.1f)\n", huge,
           huge_one, small, small_one);
    json_object_set_new(record, "pages",
                        json_pack("{s:f,s:f,s:f,s:f}", "huge", huge, "huge_touched_by_one", huge_one, "small",
                                  small, "small_touched_by_one", small_one));
}

// ---- Parallel regions ----------------------------------------------------------------------------------

static double regions(int n) {
    const double start = kv_now();
    for (int i = 0; i < n; i++) {
#pragma omp parallel
        seen = (float)omp_get_thread_num();
    }
    return (kv_now() - start) / n;
}

static void measure_regions(bench_limits *limits) {
    limits->region = limits->region_asleep = INFINITY;
    regions(10);
    for (int r = 0; r < REPEATS; r++) limits->region = fmin(limits->region, regions(200));
    for (int r = 0; r < (limits->quick ? 2 : 20); r++) {
        nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
        limits->region_asleep = fmin(limits->region_asleep, regions(1));
    }
}

// ---- All of them ---------------------------------------------------------------------------------------

void bench_limits_measure(bench_limits *limits, bool quick) {
    *limits = (bench_limits){.quick = quick, .n_rows = quick ? 3 : BENCH_LIMIT_ROWS};
    memcpy(limits->rows, quick ? quick_rows : limit_rows, (size_t)limits->n_rows * sizeof *limits->rows);
    limits->buffer = make_buffer(quick);
    limits->weights = make_products(quick);
    const float *data = limits->buffer->data;
    limits->reading = read_speed(data, limits->buffer->n, omp_get_max_threads(), REPEATS);
    limits->reading_one = read_speed(data, limits->buffer->n, 1, REPEATS);
    measure_regions(limits);
    limits->square = bench_square(false, quick), limits->openblas_square = bench_square(true, quick);
    for (int64_t i = 0; i < limits->n_rows; i++) {
        limits->openblas[i] = product_speed(limits->weights, 0, limits->rows[i], true, REPEATS);
        for (int t = 0; t < BENCH_WEIGHTS; t++)
            limits->products[t][i] = product_speed(limits->weights, t, limits->rows[i], false, REPEATS);
    }
}

void bench_limits_free(bench_limits *limits) {
    free_products(limits->weights);
    if (limits->buffer) free(limits->buffer->data);
    free(limits->buffer);
    limits->weights = NULL, limits->buffer = NULL;
}

void bench_limits_begin(bench_limits *limits) {
    memset(limits->round_products, 0, sizeof limits->round_products);
    limits->round_reading = 0;
}

void bench_limits_turn(bench_limits *limits) {
    limits->turn++;
}

static double products_now(bench_limits *limits, int kind, int64_t i) {
    double *best = &limits->round_products[kind][i];
    if (limits->products_turn[kind][i] == limits->turn) return *best;
    limits->products_turn[kind][i] = limits->turn;
    *best = fmax(*best, product_speed(limits->weights, kind, limits->rows[i], false, 1));
    return *best;
}

double bench_limit_products(bench_limits *limits, kv_dtype type, int64_t rows) {
    int64_t i = 0;
    while (i + 1 < limits->n_rows && limits->rows[i + 1] <= rows) i++;
    if (type != KV_F32) return products_now(limits, BENCH_BF16, i);
    return fmax(products_now(limits, BENCH_F32_ROWS, i), products_now(limits, BENCH_F32, i));
}

double bench_limit_reading(bench_limits *limits) {
    if (limits->reading_turn != limits->turn) {
        const double now = read_speed(limits->buffer->data, limits->buffer->n, omp_get_max_threads(), 1);
        limits->round_reading = fmax(limits->round_reading, now);
        limits->reading_turn = limits->turn;
    }
    return limits->round_reading;
}

json_t *bench_limits_json(const bench_limits *l) {
    json_t *products = json_array();
    for (int64_t i = 0; i < l->n_rows; i++)
        json_array_append_new(products,
                              json_pack("{s:I,s:f,s:f,s:f,s:f}", "rows", (json_int_t)l->rows[i], "f32_rows",
                                        l->products[BENCH_F32_ROWS][i], "f32", l->products[BENCH_F32][i],
                                        "bf16", l->products[BENCH_BF16][i], "openblas", l->openblas[i]));
    return json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:o}", "reading", l->reading, "reading_one_thread",
                     l->reading_one, "square", l->square, "openblas_square", l->openblas_square, "region_us",
                     1e6 * l->region, "region_asleep_us", 1e6 * l->region_asleep, "products", products);
}

void bench_limits_print(const bench_limits *l) {
    printf("reading %.1f GB/s (one thread %.1f); an empty parallel region %.1f us (after a pause %.0f)\n",
           l->reading, l->reading_one, 1e6 * l->region, 1e6 * l->region_asleep);
    printf("GFLOP/s of products with a large weight, by rows:\n  %-22s", "rows");
    for (int64_t i = 0; i < l->n_rows; i++) printf("%7lld", (long long)l->rows[i]);
    printf("   %s\n", l->quick ? "128^3" : "1536^3");
    for (int t = 0; t < BENCH_WEIGHTS; t++) {
        printf("  %-22s", weights_names[t]);
        for (int64_t i = 0; i < l->n_rows; i++) printf("%7.1f", l->products[t][i]);
        if (t == 0) printf("  %7.1f", l->square);
        putchar('\n');
    }
    printf("  %-22s", "OpenBLAS's sgemm");
    for (int64_t i = 0; i < l->n_rows; i++) printf("%7.1f", l->openblas[i]);
    printf("  %7.1f\n", l->openblas_square);
}
