// The memory that OpenBLAS works in, asked for where a failure can be seen.
//
// OpenBLAS packs matrices into buffers of a fixed size (128 MB of address space in Debian's build, of which little is
// ever touched): one for each thread that helps with a product, and one for each thread of ours that asks for a product
// at the same time. It takes them with mmap when they are first needed and keeps them. When mmap fails it asks again,
// for ever [OpenBLAS issue 5289]. A program that links this file does better:
//   - while libraries are loaded no buffer is taken: what multiplies nothing needs none (with OpenBLAS's build for
//     OpenMP; one with threads of its own takes its helpers' there, and can fail there);
//   - kv_blas_reserve takes all that can ever be needed, or says what is missing;
//   - should OpenBLAS's mmap fail at any other time, the program ends with the same words and status 1.
// Its ways into OpenBLAS (blas_memory_alloc) and the C library (mmap) go through functions of these names in blas.c. They
// are part of every program that calls kv_blas_reserve. Of the shared library they are not: what OpenBLAS asks for
// later is its own then.
#pragma once

#include "core/api.h"
#include "core/status.h"

KV_API_BEGIN

// To be called before the first product, and before there is anything that must not be left half done. Takes the kernels
// that KV_ISA names (data/system/isa.h), and starts OpenMP's threads: KV_ERR_MEMORY where there can be no OMP_NUM_THREADS of them. Of more than OpenBLAS can serve (some
// hundreds) only so many are used, with a warning. When the address space does not hold the
// buffers it does not return, since there is no way back out of OpenBLAS: the program ends with a line on stderr and status
// 1.
kv_status kv_blas_reserve(kv_error *err);

KV_API_END
