// product_sums SET: products of many shapes by the kernels of one instruction set, held against double precision; prints a
// checksum of their bits. Needs nothing but the products themselves, so that it can be compiled for another kind of CPU.
#include "core/gemm/isa.h"
#include "core/gemm/product.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_M = 40, MAX_N = 80, MAX_K = 600, SHAPES = 300 };

static uint64_t state = 1;

static uint64_t draw(uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u; // Knuth's generator
    return (state >> 33) % below;
}

static float draw_value(void) {
    return (float)draw(1 << 24) * 0x1p-23f - 1;
}

typedef struct shape {
    int64_t m, n, k, first;
    kv_right_kind kind;
    kv_dtype dtype;
    float beta;
} shape;

static float x[MAX_M * MAX_K], y[MAX_M * MAX_N], old[MAX_M * MAX_N];
static float wide[MAX_N * MAX_K]; // W(c, j) at wide[j * k + c]
static char w[MAX_N * MAX_K * 4];

static shape draw_shape(void) {
    shape s = {.m = 1 + (int64_t)draw(MAX_M), .k = 1 + (int64_t)draw(draw(3) ? 60 : MAX_K)};
    s.kind = (kv_right_kind)draw(3), s.dtype = (kv_dtype)draw(3), s.beta = 0.5f * (float)draw(3);
    s.first = (int64_t)draw(MAX_N / 2), s.n = 1 + (int64_t)draw((uint64_t)(MAX_N - s.first));
    if (s.kind != KV_RIGHT_PANELS) s.first = 0;
    return s;
}

static int64_t place(const shape *s, int64_t j, int64_t c) {
    if (s->kind == KV_RIGHT_PANELS) return (j / KV_PANEL * s->k + c) * KV_PANEL + j % KV_PANEL;
    return s->kind == KV_RIGHT_TURNED ? j * s->k + c : c * MAX_N + j;
}

static void draw_numbers(const shape *s) {
    for (int64_t i = 0; i < s->m * s->k; i++) x[i] = draw_value();
    for (int64_t i = 0; i < s->m * MAX_N; i++) y[i] = old[i] = draw_value();
    for (int64_t j = 0; j < MAX_N; j++)
        for (int64_t c = 0; c < s->k; c++) {
            const float value = draw_value();
            char *to = w + (size_t)place(s, j, c) * kv_dtype_size(s->dtype);
            kv_narrow(to, &value, s->dtype, 1);
            kv_widen(&wide[j * s->k + c], to, s->dtype, 1);
        }
}

// Any order of k + 2 additions: γ of their sizes.                       [Higham 2002, section 3.1]
static int is_off(const shape *s, int64_t i, int64_t j) {
    const float before = old[i * MAX_N + j];
    double sum = (double)(s->beta * before), sizes = fabs(sum);
    for (int64_t c = 0; c < s->k; c++) {
        const double product = (double)x[i * s->k + c] * (double)wide[(s->first + j) * s->k + c];
        sum += product, sizes += fabs(product);
    }
    const double u = (double)(s->k + 2) * 0x1p-24, found = (double)y[i * MAX_N + j];
    return j < s->n ? !(fabs(found - sum) <= u / (1 - u) * sizes) : y[i * MAX_N + j] != before;
}

static int count_off(const shape *s) {
    int off = 0;
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < MAX_N - s->first; j++) off += is_off(s, i, j);
    if (off)
        printf("%d of [%ld, %ld] are off: k %ld, kind %d, %s, beta %g\n", off, (long)s->m, (long)s->n,
               (long)s->k, (int)s->kind, kv_dtype_name(s->dtype), (double)s->beta);
    return off;
}

int main(int argc, char **argv) {
    const kv_kernels *kernels = argc == 2 ? kv_isa_find(argv[1]) : NULL;
    if (!kernels) return 77;
    kv_isa_set(kernels);
    uint64_t checksum = 0;
    int off = 0;
    for (int i = 0; i < SHAPES; i++) {
        shape s = draw_shape();
        draw_numbers(&s);
        const kv_product p = {.w = w,
                              .kind = s.kind,
                              .dtype = s.dtype,
                              .ld = s.kind == KV_RIGHT_TURNED ? s.k : MAX_N,
                              .first = s.first,
                              .n = s.n,
                              .beta = s.beta,
                              .y = y,
                              .ldy = MAX_N};
        kv_products(s.m, s.k, (kv_left){x, s.k, 1}, &p, 1);
        off += count_off(&s);
        for (int64_t e = 0; e < s.m * MAX_N; e++) {
            uint32_t bits;
            memcpy(&bits, &y[e], sizeof bits);
            checksum = checksum * 31 + bits;
        }
        if (s.kind != KV_RIGHT_TURNED) continue;
        s.m = 1; // a single row, in an order that each set has for itself
        memcpy(y, old, MAX_N * sizeof *y);
        kv_product_of_row(s.k, x, &p);
        off += count_off(&s);
    }
    printf("%016llx\n", (unsigned long long)checksum);
    return off != 0;
}
