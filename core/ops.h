// The operators of the tape. Each lives in core/ops/<name>.c, forward, backward and formula together.
// All: outputs belong to the tape's arena; NULL in, NULL out; shapes are the caller's contract (asserted).
#pragma once

#include "core/api.h"
#include "core/tape.h"

KV_API_BEGIN

// y[n, dim] = table[ids[i], :].  `ids` must stay valid until backward. An id outside [0, table->rows) fails
// with KV_ERR_RANGE naming its index.
kv_tensor *kv_embedding(kv_tape *tape, kv_param *table, const int32_t *ids, int64_t n);

// y[m, out] = x[m, in] · wᵀ + bias.  bias [1, out] or NULL.
kv_tensor *kv_linear(kv_tape *tape, kv_tensor *x, kv_param *w, kv_param *bias);

// The same block by block: w [out, in / n_blocks], and block b of its rows reads block b of x's columns.
kv_tensor *kv_linear_blocks(kv_tape *tape, kv_tensor *x, kv_param *w, kv_param *bias, int64_t n_blocks);

// y[i] = x · w[i]ᵀ + bias[i] for n weights that read the same x, which is prepared once for all of them. bias, or any
// of it, may be NULL. False, with y[0 .. n) NULL, when that failed.
enum { KV_LINEAR_MANY = 4 }; // at most
bool kv_linear_many(kv_tape *tape, kv_tensor *x, kv_param *const *w, kv_param *const *bias, int n,
                    kv_tensor **y);

// y = residual + x · wᵀ.  residual [m, out].
kv_tensor *kv_linear_onto(kv_tape *tape, kv_tensor *residual, kv_tensor *x, kv_param *w);

// y = x · rsqrt(mean(x²) + eps) · w, over groups of w->cols columns. x [m, g · w->cols]: g = 1 is the usual
// norm, g = number of heads the per-head form (q_norm, k_norm).
//                                                                          [Zhang & Sennrich 2019, eq. 4]
kv_tensor *kv_rmsnorm(kv_tape *tape, kv_tensor *x, kv_param *w, float eps);

// y = silu(gate) ⊙ up, silu(a) = a / (1 + e^-a).
//                                                                                   [Shazeer 2020, eq. 6]
kv_tensor *kv_swiglu(kv_tape *tape, kv_tensor *gate, kv_tensor *up);

// y = silu(x), silu(a) = a / (1 + e^-a).
//                                                    [Hendrycks & Gimpel 2016; Ramachandran et al. 2017]
kv_tensor *kv_silu(kv_tape *tape, kv_tensor *x);

// y = a + b.
kv_tensor *kv_add(kv_tape *tape, kv_tensor *a, kv_tensor *b);

// y = parts[0 .. n) side by side, all of as many rows; a single one is handed on as it is. With n_blocks > 1
// every part falls into so many blocks of columns, and y has the first blocks of all, then the second, ….
kv_tensor *kv_concat(kv_tape *tape, kv_tensor *const *parts, int64_t n, int64_t n_blocks);

// y[i, :] = x[rows[i], :].  `rows` must stay valid until backward; rows may repeat.
kv_tensor *kv_gather_rows(kv_tape *tape, kv_tensor *x, const int64_t *rows, int64_t n);

// ---- Rotary positions ----------------------------------------------------------------------------------

// cos and sin of position · inverse frequency, in the rotate-half layout: features i and i + head_dim/2 form
// the pair that turns by position · theta^(-2i/head_dim).
//                                               [Su et al. 2021, section 3.4.2; core/README.md §2, eq. 7]
typedef struct kv_rope {
    int64_t head_dim, n_positions; // positions there may be
    int64_t n_ready;               // positions the tables hold, the first ones
    float *cos, *sin;              // [n_ready, head_dim / 2]
    double *inv_freq;              // [head_dim / 2]
} kv_rope;

// inv_freq[head_dim / 2] as given (which is where scaling rules such as llama3's enter). NULL when out of
// memory.
kv_rope *kv_rope_create(int64_t head_dim, int64_t n_positions, const double *inv_freq);
void kv_rope_free(kv_rope *rope);

// Makes the tables hold the first n <= n_positions positions: long contexts are declared more often than
// used. The operators see to it themselves; before a model runs in two threads at once this has to be done for both, but for
// the first KV_ROPE_AT_ONCE positions, which are there from the start. False when out of memory; the tables then are what
// they were.
enum { KV_ROPE_AT_ONCE = 4096 };
bool kv_rope_reach(kv_rope *rope, int64_t n);

// dst[head_dim] = src turned to `position` < n_ready, or back from it when inverse. dst may be src.
void kv_rope_turn(const kv_rope *rope, int64_t position, bool inverse, const float *src, float *dst);

// ---- Attention -----------------------------------------------------------------------------------------

// One sequence: its queries are the q_len rows of q from q_row on, its keys and values the k_len rows of k
// and v from k_row on. Query t sees keys 0 .. k_len - q_len + t, so the queries are the newest tokens of the
// key sequence (unless `visible` says otherwise).
typedef struct kv_sequence {
    int64_t q_row, q_len;
    int64_t k_row, k_len; // k_len >= q_len
} kv_sequence;

typedef struct kv_attention_args {
    int64_t n_heads, n_kv_heads; // head h reads KV head h / (n_heads / n_kv_heads), which divides evenly
    int64_t head_dim;
    kv_rope *rope;                // NULL: no rotation
    const kv_sequence *sequences; // copied when the operator records
    int64_t n_sequences;
    // Rotary position of every row of q and of k; NULL: a key's index in its sequence, a query's likewise.
    // Must stay valid until backward, as must `visible`.
    const int32_t *q_positions, *k_positions;
    // How many of its sequence's keys (>= 1, the first ones) each row of q sees, never falling within a
    // sequence: for queries in the middle of it. NULL: as said at kv_sequence.
    const int32_t *visible;
} kv_attention_args;

// y = softmax(turn(q) · turn(k)ᵀ / sqrt(head_dim), causal) · v, per sequence and head, grouped queries.
//                                                  [Vaswani et al. 2017, eq. 1; core/README.md §2, eq. 4]
// q [m, n_heads · head_dim] and k, v [n, n_kv_heads · head_dim] come without rotation; it is applied as they
// are read. Tiled with a running softmax, so no [m, n] matrix is ever in memory. What a query gets has the same bits
// whatever other queries are there, on any number of threads.
//                                                                          [Dao et al. 2022, algorithm 1]
kv_tensor *kv_attention(kv_tape *tape, kv_tensor *q, kv_tensor *k, kv_tensor *v,
                        const kv_attention_args *args);

// Operations of the products kv_attention executes for one sequence, 2 per multiply-add: as many queries as make 24
// rows with all heads of a KV head (one at least) meet the keys that the last of them sees.
uint64_t kv_attention_flops(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                            int64_t k_len);
// The same with visible[q_len] given.
uint64_t kv_attention_flops_visible(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                                    const int32_t *visible);

// Bytes of the tiles that the threads of kv_attention work on for a moment, and those of its backward where the longest
// sequence has so many queries.
size_t kv_attention_scratch(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim);
size_t kv_attention_backward_scratch(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t longest);

typedef enum kv_pooling { KV_POOL_MEAN, KV_POOL_MAX } kv_pooling;

// What each key gets of the attention, p = softmax(turn(q) · turn(k)ᵀ / sqrt(head_dim), causal); for ranking
// tokens, without gradient. importance[s][k_len] belongs to the key rows of sequence s and is what was there
//   KV_POOL_MEAN: plus the sum over its queries of the mean over heads of p;
//   KV_POOL_MAX:  or the largest p over its queries and heads, whichever is larger.
// Memory for a block of queries × k_len, never [q_len, k_len]. The result of a sequence does not depend on
// the others or on threads. false when the tape failed.
bool kv_attention_importance(kv_tape *tape, const kv_tensor *q, const kv_tensor *k,
                             const kv_attention_args *args, kv_pooling pooling, float *const *importance);

// Bytes that its threads work on, as above, where the longest sequence has so many keys.
size_t kv_attention_importance_scratch(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim,
                                       int64_t longest);
// Operations of its products for one sequence: half of kv_attention_flops.
uint64_t kv_attention_importance_flops(int64_t n_heads, int64_t n_kv_heads, int64_t head_dim, int64_t q_len,
                                       int64_t k_len);

// ---- Losses --------------------------------------------------------------------------------------------

// A teacher known by its k largest logits: what it gives all other ids together is what these leave of 1. That
// depends on the temperature T of the KL, and k logits do not tell it: logsumexp has to be that of z/T.
typedef struct kv_topk_teacher {
    int64_t k;              // 0: there is none; at most the vocabulary
    const int32_t *ids;     // [m, k], those of a row all different; valid until backward, as the next two
    const float *logits;    // [m, k], not divided by T
    const float *logsumexp; // [m], of logits / T over the whole vocabulary
} kv_topk_teacher;

// Weights of the terms of kv_lm_loss's scalar.
typedef struct kv_lm_loss_args {
    const int32_t *targets; // [m]; valid until backward
    int32_t ignore_index;   // rows with this target are left out
    double n_valid; // what the sums are divided by: the valid targets of the WHOLE step, not of a micro-batch
    float weight_ce;           // of the mean cross-entropy
    float weight_z;            // of mean logsumexp² (the paper's 1e-4 comes in here)
    float weight_kl;           // of mean KL(teacher ‖ student); needs one of the following two
    float kl_temperature;      // T > 0 of T² · KL(softmax(z'/T) ‖ softmax(z/T)); 0: 1
    kv_tensor *teacher_hidden; // [m, teacher_head->cols] or NULL; never receives a gradient
    const kv_param *teacher_head;
    // KL over k + 1 outcomes, at any temperature: its top k and one for all the rest. Never more than the KL of
    // the whole vocabulary, and equal to it where k is that.
    kv_topk_teacher topk;
} kv_lm_loss_args;

// The means (sums over valid rows / n_valid), unweighted; kl with its factor T².
typedef struct kv_lm_loss_terms {
    double cross_entropy, z, kl;
} kv_lm_loss_terms;

// loss [1, 1] = weight_ce · CE + weight_z · mean lse² + weight_kl · KL of logits = hidden · headᵀ, without
// ever holding [m, vocabulary] logits of a large vocabulary: blocks of rows × tiles of the vocabulary with a
// running logsumexp. hidden [m, dim] (after the final norm), head [vocabulary, dim]. *terms (may be NULL) is
// filled at once. A target outside the vocabulary that is not ignore_index fails with KV_ERR_RANGE, as do ids
// of a top-k teacher outside it or twice in a row.
kv_tensor *kv_lm_loss(kv_tape *tape, kv_tensor *hidden, kv_param *head, const kv_lm_loss_args *args,
                      kv_lm_loss_terms *terms);

// Operations of the products kv_lm_loss executes on m rows, forward and backward, 2 per multiply-add.
// teacher_dim is 0 without a teacher; hidden_wants, head_wants: which of the two get a gradient.
uint64_t kv_lm_loss_flops(int64_t m, int64_t vocabulary, int64_t dim, int64_t teacher_dim, bool hidden_wants,
                          bool head_wants);

// loss [1, 1] = Σ over rows with keep[row] of |x - target| / (n_kept · cols), a term of L_C.
//                                                                             [core/README.md §4, eq. 17]
// target [m, cols] receives no gradient. keep (one byte a row) must stay valid until backward; n_kept counts
// the whole step.
kv_tensor *kv_l1_loss(kv_tape *tape, kv_tensor *x, const kv_tensor *target, const uint8_t *keep,
                      double n_kept);

// loss [1, 1] = Σ over rows with keep[row] of (x - target)² / (n_kept · cols), L_H where x is a hidden state. As
// kv_l1_loss for the rest.
//                                                                             [core/README.md §9, eq. 36]
kv_tensor *kv_mse_loss(kv_tape *tape, kv_tensor *x, const kv_tensor *target, const uint8_t *keep,
                       double n_kept);

// y [1, 1] = Σ weights[i] · x[i], x[i] [1, 1]; NULL entries are skipped (NOT a failure: use it for optional
// terms).
kv_tensor *kv_weighted_sum(kv_tape *tape, kv_tensor *const *x, const float *weights, int64_t n);

KV_API_END
