// Every thread turns panels of its own, by way of a copy.
#include "core/gemm/packed.h"

#include "core/gemm/isa.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

bool kv_can_pack(const kv_param *param) {
    return param->rows % KV_PANEL == 0 && param->rows > 0 && param->cols > 0;
}

bool kv_pack(kv_param *param) {
    if (param->layout == KV_IN_PANELS || !kv_can_pack(param)) return true;
    const kv_kernels *kernels = kv_isa();
    const int threads = omp_get_max_threads();
    const size_t size = (size_t)(KV_PANEL * param->cols) * kv_dtype_size(param->dtype);
    char *copies = malloc((size_t)threads * size);
    if (!copies) return false;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t p = 0; p < param->rows / KV_PANEL; p++) {
        char *copy = copies + (size_t)omp_get_thread_num() * size,
             *panel = (char *)param->data + (size_t)p * size;
        memcpy(copy, panel, size);
        kernels->turn(panel, KV_PANEL, copy, param->dtype, param->cols, KV_PANEL, param->cols);
    }
    free(copies);
    param->layout = KV_IN_PANELS;
    return true;
}

void kv_pack_into(kv_param *param, void *place) {
    const kv_kernels *kernels = kv_isa();
    const size_t size = (size_t)(KV_PANEL * param->cols) * kv_dtype_size(param->dtype);
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < param->rows / KV_PANEL; p++)
        kernels->turn((char *)place + (size_t)p * size, KV_PANEL,
                      (const char *)param->data + (size_t)p * size, param->dtype, param->cols, KV_PANEL,
                      param->cols);
    param->data = place;
    param->layout = KV_IN_PANELS;
}

// n numbers of one row, from column c on.
static void gather(const kv_param *param, int64_t row, int64_t c, int64_t n, float *dst) {
    const int64_t place = row / KV_PANEL * KV_PANEL * param->cols + c * KV_PANEL + row % KV_PANEL;
    const float *wide = (const float *)param->data + place;
    const uint16_t *halves = (const uint16_t *)param->data + place;
    for (int64_t i = 0; i < n; i++)
        if (param->dtype == KV_F32)
            dst[i] = wide[i * KV_PANEL];
        else
            kv_widen(dst + i, halves + i * KV_PANEL, param->dtype, 1);
}

void kv_param_values(const kv_param *param, int64_t first, int64_t n, float *dst) {
    if (param->layout == KV_IN_ROWS) {
        kv_widen(dst, (const char *)param->data + (size_t)first * kv_dtype_size(param->dtype), param->dtype,
                 n);
        return;
    }
    for (int64_t done = 0; done < n;) {
        const int64_t c = (first + done) % param->cols, rest = param->cols - c;
        const int64_t length = rest < n - done ? rest : n - done;
        gather(param, (first + done) / param->cols, c, length, dst + done);
        done += length;
    }
}
