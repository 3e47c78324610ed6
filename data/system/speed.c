// Only the rate of products is measured, since no formula knows this machine.
#include "data/system/speed.h"

#include "core/gemm.h"
#include "data/system/blas.h"
#include "data/system/console.h"

#include <stdlib.h>

double kv_speed_measure(int64_t rows, int64_t dim) {
    enum { MOST = 4096 };
    const double seconds_wanted = 0.3;
    rows = rows > MOST ? MOST : rows;
    float *x = calloc((size_t)(rows * dim), sizeof *x);
    float *w = calloc((size_t)(dim * dim), sizeof *w);
    float *y = calloc((size_t)(rows * dim), sizeof *y);
    double rate = 0;
    if (x && w && y && kv_blas_reserve(NULL) == KV_OK) {
        kv_gemm_nt(rows, dim, dim, x, dim, w, dim, 0, y, dim); // threads start here
        double started = kv_now(), seconds;
        int64_t n = 0;
        do {
            kv_gemm_nt(rows, dim, dim, x, dim, w, dim, 0, y, dim);
            n++;
            seconds = kv_now() - started;
        } while (seconds < seconds_wanted && !kv_console_interrupted());
        rate = 2.0 * (double)n * (double)rows * (double)dim * (double)dim / seconds;
    }
    free(x);
    free(w);
    free(y);
    return rate;
}
