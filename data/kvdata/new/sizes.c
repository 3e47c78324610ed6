// Numbers that work: found on texts of facts, code and prose with two slow cores in mind. Each is a default that a file of
// the project states and explains, so that whoever has more text or more time finds where to turn.
#include "data/kvdata/new/new.h"

#include <inttypes.h>

// FLOPs of a base's training: two minutes of two slow cores, which reach some 20 GFLOP/s. An aux gets a fifth.
static const double budget = 2.5e12;

// Beyond this a table of each token would have more rows than a small text ever shows.
enum { LARGE_VOCABULARY = 16384 };

static int64_t within(int64_t value, int64_t least, int64_t most) {
    return value < least ? least : value > most ? most : value;
}

int64_t new_vocab_size(const new_text *text) {
    const int64_t bytes = text->bytes - text->held_out_bytes;
    // 3 special pieces, 256 bytes, and half as many merges as there are characters.
    const int64_t least = 260 + text->characters + text->characters / 2;
    if (bytes < 64000) return least > 384 ? least : 384;
    int64_t size = 512;
    while (size < 16384 && (double)size * (double)size * 2 < (double)bytes) size *= 2;
    while (size < least) size *= 2;
    return size;
}

// Of the products with weights, the head's too, and of attention, forward and backward.
static double flops_a_token(const new_model *m, const new_sizes *s) {
    const double layer = (double)(2 * m->dim * m->heads * m->head_dim +
                                  2 * m->dim * m->kv_heads * m->head_dim + 3 * m->dim * m->ffn);
    const double attention = (double)(2 * m->heads * m->head_dim * s->seq_len);
    return 6 * ((double)m->layers * (layer + attention) + (double)(m->dim * s->vocab_size));
}

// As many steps as the budget has, at most a dozen times through the text; a few hundred in any case. To 50.
static int64_t steps_of(const new_sizes *s, const new_model *m, double flops) {
    const double a_step = (double)(s->batch * s->seq_len);
    const double most = 12 * (double)s->train_tokens / a_step;
    double steps = flops / (flops_a_token(m, s) * a_step);
    if (steps > most) steps = most;
    return within((int64_t)(steps / 50) * 50, s->large_vocabulary ? 150 : 400, 2000);
}

static void choose_models(new_sizes *s) {
    const bool tiny = s->train_tokens < 20000, small = s->train_tokens < 200000;
    s->base =
        tiny    ? (new_model){.layers = 4, .dim = 64, .head_dim = 16, .heads = 4, .kv_heads = 2, .ffn = 128}
        : small ? (new_model){.layers = 4, .dim = 96, .head_dim = 24, .heads = 4, .kv_heads = 2, .ffn = 192}
                : (new_model){.layers = 6, .dim = 96, .head_dim = 24, .heads = 4, .kv_heads = 2, .ffn = 192};
    s->aux = (new_model){.layers = 2, .dim = 32, .head_dim = 16, .heads = 2, .kv_heads = 1, .ffn = 96};
    s->base.lr = 4e-3, s->aux.lr = 6e-3;
    s->base.steps = steps_of(s, &s->base, budget);
    s->aux.steps = s->base.steps;
    s->kvp_steps = within(s->base.steps * 3 / 4 / 50 * 50, 100, 800);
    const double a_step = (double)(s->batch * s->seq_len), base = flops_a_token(&s->base, s),
                 aux = flops_a_token(&s->aux, s);
    s->base.flops = base * a_step * (double)s->base.steps;
    s->aux.flops = aux * a_step * (double)s->aux.steps;
    // The aux learns; the base reads forward for its logits, and forward and back through predicted caches.
    s->kvp_flops = (base + aux) * a_step * (double)s->kvp_steps;
}

kv_status new_sizes_choose(new_sizes *s, kv_error *err) {
    enum { LEAST_WINDOWS = 4 };
    // Within so few FLOPs small steps, and more of them, learn faster than large ones.
    s->seq_len = s->train_tokens < 20000 ? 64 : 128;
    // Of little held-out text smaller windows, so that there are enough to tell systems apart.
    while (s->seq_len > 64 && s->held_out_tokens < 24 * s->seq_len) s->seq_len /= 2;
    s->batch = 512 / s->seq_len;
    s->window = s->seq_len;
    s->prompt = s->window * 3 / 4;
    s->context = 4 * s->seq_len > 512 ? 4 * s->seq_len : 512;
    s->windows = within(s->held_out_tokens / s->window, 0, 100);
    if (s->windows < LEAST_WINDOWS || s->train_tokens < 8 * s->batch * s->seq_len)
        return kv_fail(
            err, KV_ERR_RANGE,
            "too little text: %" PRIi64 " tokens to train on and %" PRIi64
            " held out, expected at least %" PRIi64 " and %" PRIi64 ": more text, or a larger --held-out",
            s->train_tokens, s->held_out_tokens, 8 * s->batch * s->seq_len, LEAST_WINDOWS * s->window);
    s->validation_tokens = within((s->held_out_tokens - 1) / s->seq_len * s->seq_len, s->seq_len, 10 * 1024);
    s->fit_tokens = within(s->train_tokens, 1, 50000);
    s->large_vocabulary = s->vocab_size > LARGE_VOCABULARY;
    choose_models(s);
    return KV_OK;
}
