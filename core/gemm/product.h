// Our own matrix products, out of the tiles of core/gemm/kernels.h. Internal to core/gemm.c, which counts
// operations and chooses between these and OpenBLAS.
//
// An element of a result is a sum whose order k alone decides: it has the same bits in whatever company it is
// computed, on any number of threads.
#pragma once

#include "core/gemm/kernels.h"

// How the matrix on the right lies in memory.
typedef enum kv_right_kind {
    KV_RIGHT_AS_IT_IS, // [k, n], `ld` elements from one row to the next
    KV_RIGHT_TURNED,   // [n, k], likewise
    KV_RIGHT_PANELS    // [n / 16, k, 16] (core/gemm/packed.h)
} kv_right_kind;

// One product of several that have the matrix on the left in common.
typedef struct kv_product {
    const void *w;
    kv_right_kind kind;
    kv_dtype dtype;
    int64_t ld;
    int64_t first, n; // columns first .. first + n of W
    float beta;
    float *y; // [m, n]
    int64_t ldy;
} kv_product;

// X[m, k], element (i, c) at x[i · row + c · column]; one of the two is 1.
typedef struct kv_left {
    const float *x;
    int64_t row, column;
} kv_left;

enum { KV_MAX_PRODUCTS = 4 }; // at once

// Y = X · W + beta · Y for each of them. k may be 0.
void kv_products(int64_t m, int64_t k, kv_left x, const kv_product *products, int n_products);

// Floats that the thread which asks for a product of such an X keeps to prepare it in, at most. Without memory for them
// X is read as it lies.
int64_t kv_products_room(int64_t m, int64_t k);

// The same by the unit that the kernels have for bfloat16 (kv_unit). Only products with W in panels of that type; false,
// and nothing done, when one is not, or there is no unit or no memory. The order of additions is another; k alone
// decides on it here as well. X's columns are contiguous.
bool kv_products_by_unit(int64_t m, int64_t k, kv_left x, const kv_product *products, int n_products);
int64_t kv_products_by_unit_room(int64_t m, int64_t k); // likewise; the two share it

// That room, for so many floats, in lines of 64 bytes; NULL: no memory. The thread's own, until it asks again.
void *kv_products_kept(int64_t floats);

// The same for one row x[k] against a W of kind KV_RIGHT_TURNED, which is read once, as it lies. The order of additions
// is another; it does not depend on threads.
void kv_product_of_row(int64_t k, const float *x, const kv_product *product);
