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

void kv_param_row(const kv_param *param, int64_t row, float *dst) {
    const size_t element = kv_dtype_size(param->dtype);
    if (param->layout == KV_IN_ROWS) {
        kv_widen(dst, (const char *)param->data + (size_t)(row * param->cols) * element, param->dtype,
                 param->cols);
        return;
    }
    const char *panel =
        (const char *)param->data + (size_t)(row / KV_PANEL * KV_PANEL * param->cols) * element;
    for (int64_t c = 0; c < param->cols; c++)
        kv_widen(dst + c, panel + (size_t)(c * KV_PANEL + row % KV_PANEL) * element, param->dtype, 1);
}
