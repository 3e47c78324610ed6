#include "data/corpus/batches.h"

#include "data/corpus/batch_part.h"
#include "data/file/hash.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHARE_BITS = 32 };

struct kv_batches {
    int64_t n_parts, n_seq, seq_len;
    bool fixed;
    kv_part_rows **parts;
    uint64_t *shares; // [n_parts] of part i in what the parts before it leave, in units of 2^-32
    int32_t *row;     // [seq_len + 1]
};

// Whether a batch, and a row of INT64_MAX parts of it, can be counted.
static bool sizes_make_sense(int64_t n_seq, int64_t seq_len) {
    int64_t product;
    return n_seq > 0 && seq_len > 0 && seq_len < INT64_MAX / 8 &&
           !__builtin_mul_overflow(n_seq, seq_len, &product);
}

static kv_status check_weights(const kv_batches_args *args, kv_error *err) {
    for (int64_t i = 0; i < args->n_parts; i++)
        if (!(args->parts[i].weight > 0 && isfinite(args->parts[i].weight)))
            return kv_fail(err, KV_ERR_ARGUMENT, "part %" PRIi64 " has weight %g, expected a number above 0",
                           i, args->parts[i].weight);
    return args->n_parts > 0 ? KV_OK : kv_fail(err, KV_ERR_ARGUMENT, "there is no corpus to train on");
}

// Whole numbers, so that counts are exact however many rows there were.
static kv_status set_shares(kv_batches *batches, const kv_batch_part *parts, kv_error *err) {
    const uint64_t whole = (uint64_t)1 << SHARE_BITS;
    double rest = 0;
    for (int64_t i = batches->n_parts - 1; i >= 0; i--) {
        rest += parts[i].weight;
        batches->shares[i] = (uint64_t)llround(ldexp(parts[i].weight / rest, SHARE_BITS));
        if (batches->shares[i] == 0 || (batches->shares[i] == whole && i < batches->n_parts - 1))
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "part %" PRIi64
                           " has weight %g, which is too far from the others' to be drawn with them",
                           i, parts[i].weight);
    }
    return KV_OK;
}

// Parts draw independently of each other, even if they are the same corpus.
static uint64_t part_seed(uint64_t seed, int64_t part) {
    return part == 0 ? seed : kv_hash64(seed, &part, sizeof part);
}

static kv_status create_parts(kv_batches *batches, const kv_batches_args *args, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; !status && i < args->n_parts; i++) {
        status = kv_part_rows_create(args->parts[i].corpus, args->seq_len, part_seed(args->seed, i),
                                     args->fixed, &batches->parts[i], err);
        if (status && args->n_parts > 1) kv_fail_within(err, status, "part %" PRIi64, i);
    }
    return status;
}

kv_status kv_batches_create(const kv_batches_args *args, kv_batches **batches, kv_error *err) {
    *batches = NULL;
    if (!sizes_make_sense(args->n_seq, args->seq_len))
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a batch of %" PRIi64 " sequences of %" PRIi64
                       " tokens makes no sense, both must be at least 1",
                       args->n_seq, args->seq_len);
    kv_status status = check_weights(args, err);
    if (status) return status;
    kv_batches *made = calloc(1, sizeof *made);
    if (!made) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    *made = (kv_batches){
        .n_parts = args->n_parts, .n_seq = args->n_seq, .seq_len = args->seq_len, .fixed = args->fixed};
    made->parts = calloc((size_t)args->n_parts, sizeof(kv_part_rows *));
    made->shares = malloc((size_t)args->n_parts * sizeof *made->shares);
    made->row = malloc((size_t)(args->seq_len + 1) * sizeof *made->row);
    if (!made->parts || !made->shares || !made->row) {
        status = kv_fail(err, KV_ERR_MEMORY, "out of memory for rows of %" PRIi64 " tokens", args->seq_len);
    } else {
        status = set_shares(made, args->parts, err);
        if (!status) status = create_parts(made, args, err);
    }
    if (status)
        kv_batches_free(made);
    else
        *batches = made;
    return status;
}

void kv_batches_free(kv_batches *batches) {
    if (!batches) return;
    for (int64_t i = 0; batches->parts && i < batches->n_parts; i++) kv_part_rows_free(batches->parts[i]);
    free(batches->parts);
    free(batches->shares);
    free(batches->row);
    free(batches);
}

// ---- Mixture -------------------------------------------------------------------------------------------

// share · n, rounded: grows by 0 or 1 with n, as the share is at most 1. In halves, for 64 bits to do.
static int64_t share_of(uint64_t share, int64_t n) {
    const uint64_t high = (uint64_t)n >> 32, low = (uint64_t)n & UINT32_MAX, half = (uint64_t)1 << 31;
    return (int64_t)(share * high + ((share * low + half) >> SHARE_BITS));
}

// The part of row `row` of the mixture, and which of the part's rows it is: the first part takes its share of
// all rows, the second its share of the rows that leaves, and so on.
static int64_t part_of(const kv_batches *batches, int64_t row, int64_t *row_of_part) {
    int64_t part = 0;
    for (; part < batches->n_parts - 1; part++) {
        const int64_t before = share_of(batches->shares[part], row);
        if (share_of(batches->shares[part], row + 1) > before) {
            *row_of_part = before;
            return part;
        }
        row -= before;
    }
    *row_of_part = row;
    return part;
}

static kv_status first_row(const kv_batches *batches, int64_t step, int64_t *row, kv_error *err) {
    int64_t end, position;
    const bool fits = step >= 0 && !__builtin_mul_overflow(step, batches->n_seq, row) &&
                      !__builtin_add_overflow(*row, batches->n_seq, &end) &&
                      !__builtin_mul_overflow(end, batches->seq_len, &position) && position < INT64_MAX;
    return fits ? KV_OK : kv_fail(err, KV_ERR_RANGE, "there is no batch for step %" PRIi64, step);
}

kv_status kv_batches_get(kv_batches *batches, int64_t step, int32_t *input_ids, int32_t *target_ids,
                         kv_error *err) {
    const int64_t seq_len = batches->seq_len;
    int64_t first = 0;
    kv_status status = first_row(batches, step, &first, err);
    for (int64_t i = 0; !status && i < batches->n_seq; i++) {
        int64_t row, part = part_of(batches, first + i, &row);
        status = kv_part_rows_get(batches->parts[part], row, batches->row, err);
        if (status) break;
        memcpy(input_ids + i * seq_len, batches->row, (size_t)seq_len * sizeof *input_ids);
        memcpy(target_ids + i * seq_len, batches->row + 1, (size_t)seq_len * sizeof *target_ids);
    }
    return status;
}

kv_status kv_batches_rows(kv_batches *batches, int64_t step, kv_row_ref *rows, kv_error *err) {
    if (!batches->fixed)
        return kv_fail(err, KV_ERR_ARGUMENT, "only fixed packing has rows that can be named");
    int64_t first = 0;
    kv_status status = first_row(batches, step, &first, err);
    for (int64_t i = 0; !status && i < batches->n_seq; i++) {
        int64_t row;
        rows[i].part = part_of(batches, first + i, &row);
        kv_part_rows_find(batches->parts[rows[i].part], row, &rows[i].shard, &rows[i].row);
    }
    return status;
}

double kv_batches_epochs(const kv_batches *batches, int64_t part, int64_t steps) {
    int64_t row = steps * batches->n_seq;
    for (int64_t i = 0; i < part; i++) row -= share_of(batches->shares[i], row);
    if (part < batches->n_parts - 1) row = share_of(batches->shares[part], row);
    return kv_part_rows_epochs(batches->parts[part], row);
}
