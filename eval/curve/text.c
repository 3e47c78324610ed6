// Tokens are read once, into memory: a curve takes a hundred thousand of them, not a corpus.
#include "eval/curve/text.h"

#include "core/text.h"
#include "data/corpus/shard.h"
#include "data/file/hash.h"
#include "data/system/warning.h"
#include "data/tokenizer/files.h"
#include "eval/benchmark/text_tokens.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What each part is to have.
struct wanted {
    int64_t fit, held_out;
};

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory for the text");
}

static kv_status want(const kv_curve_options *o, int64_t n, struct wanted *wanted, kv_error *err) {
    *wanted = (struct wanted){o->tokens, o->held_out ? 0 : o->windows * o->window};
    if (n >= wanted->fit + wanted->held_out) return KV_OK;
    if (!o->held_out && wanted->held_out > n / 4) wanted->held_out = n / 4 / o->window * o->window;
    if (!o->held_out && wanted->held_out < 2 * o->window) wanted->held_out = 2 * o->window;
    if (wanted->fit > n - wanted->held_out) wanted->fit = n - wanted->held_out;
    const int64_t least = o->held_out ? o->window : 3 * o->window;
    if (n < least)
        return kv_fail(
            err, KV_ERR_RANGE,
            "%s: found %lld tokens, expected at least %lld: one window of %lld to fit on%s; a longer text, or "
            "a smaller --window",
            o->text, (long long)n, (long long)least, (long long)o->window,
            o->held_out ? "" : " and two to judge on");
    kv_warn("%s: found %lld tokens, so that maps are fitted on %lld (of --tokens %lld)%s", o->text,
            (long long)n, (long long)wanted->fit, (long long)o->tokens,
            o->held_out ? "" : ", and the others are held out");
    return KV_OK;
}

static bool make_room(kv_curve_text *t, const kv_text_tokens *all) {
    t->fit = malloc((size_t)all->n * sizeof *t->fit + 1);
    t->held_out = malloc((size_t)all->n * sizeof *t->held_out + 1);
    t->documents = malloc((size_t)(all->n_documents + 1) * sizeof *t->documents);
    return t->fit && t->held_out && t->documents;
}

static void add(int32_t *to, int64_t *n, int64_t most, const int32_t *ids, int64_t length, int64_t *taken) {
    *taken = length < most - *n ? length : most - *n;
    memcpy(to + *n, ids, (size_t)*taken * sizeof *ids);
    *n += *taken;
}

// Whole documents by turns; the last one of a part is cut, and the rest of it left out.
static void take_documents(kv_curve_text *t, const kv_text_tokens *all, const struct wanted *wanted) {
    for (int64_t d = 0; d < all->n_documents; d++) {
        const int32_t *ids = all->ids + all->documents[d];
        const int64_t length = all->documents[d + 1] - all->documents[d];
        int64_t taken;
        if (length < 1 || (t->n_fit >= wanted->fit && t->n_held_out >= wanted->held_out)) continue;
        // n_fit / fit against n_held_out / held_out
        if ((double)t->n_fit * (double)wanted->held_out <= (double)t->n_held_out * (double)wanted->fit) {
            add(t->fit, &t->n_fit, wanted->fit, ids, length, &taken);
            t->fit_documents += taken > 0;
        } else {
            add(t->held_out, &t->n_held_out, wanted->held_out, ids, length, &taken);
            if (taken > 0) t->documents[t->n_documents++] = taken;
        }
    }
}

static void cut(kv_curve_text *t, const kv_text_tokens *all, const struct wanted *wanted) {
    const int64_t from = all->n - wanted->held_out;
    t->n_fit = t->n_held_out = t->n_documents = 0, t->fit_documents = 0, t->cut = true;
    for (int64_t d = 0; d < all->n_documents; d++) {
        const int64_t begin = all->documents[d], end = all->documents[d + 1];
        if (begin < from && begin < wanted->fit) t->fit_documents++;
        if (end > from) t->documents[t->n_documents++] = end - (begin > from ? begin : from);
    }
    add(t->fit, &t->n_fit, wanted->fit, all->ids, from, &(int64_t){0});
    add(t->held_out, &t->n_held_out, wanted->held_out, all->ids + from, wanted->held_out, &(int64_t){0});
}

static void split(kv_curve_text *t, const kv_curve_options *o, const kv_text_tokens *all,
                  const struct wanted *wanted) {
    take_documents(t, all, wanted);
    if (o->held_out) return;
    // A part that documents leave far from what it is to have.
    if (t->n_held_out < wanted->held_out * 3 / 4 || t->n_held_out < 2 * o->window ||
        t->n_fit < wanted->fit * 3 / 4)
        cut(t, all, wanted);
}

kv_status kv_curve_text_read(const kv_curve_options *o, const kv_tokenizer *tokenizer, kv_curve_text *text,
                             kv_error *err) {
    kv_text_tokens all;
    struct wanted wanted;
    *text = (kv_curve_text){0};
    // Documents are not as long as one would have them: of some a part is left out.
    const int64_t most = o->held_out ? o->tokens : 2 * (o->tokens + o->windows * o->window);
    kv_status status = kv_text_tokens_read(o->text, tokenizer, most, &all, err);
    if (status == KV_OK) status = want(o, all.n, &wanted, err);
    if (status == KV_OK && !make_room(text, &all)) status = out_of_memory(err);
    if (status == KV_OK) {
        split(text, o, &all, &wanted);
        uint64_t hash = kv_hash64(0, text->fit, (size_t)text->n_fit * sizeof *text->fit);
        hash = kv_hash64(hash, text->held_out, (size_t)text->n_held_out * sizeof *text->held_out);
        kv_hash_text(hash, text->hash);
    }
    kv_text_tokens_free(&all);
    return status;
}

void kv_curve_text_free(kv_curve_text *text) {
    free(text->fit);
    free(text->held_out);
    free(text->documents);
    *text = (kv_curve_text){0};
}

static kv_status add_all(kv_shard_writer *writer, const kv_curve_text *text, const char *tokenizer_path,
                         kv_error *err) {
    kv_bundle files = {0};
    kv_status status = kv_tokenizer_gather(tokenizer_path, &files, err);
    if (status == KV_OK && files.n > 0) status = kv_shard_writer_add_tokenizer(writer, &files, err);
    const int32_t *ids = text->held_out;
    for (int64_t d = 0; d < text->n_documents && status == KV_OK; ids += text->documents[d++])
        status = kv_shard_writer_add(writer, ids, text->documents[d], err);
    kv_bundle_free(&files);
    return status == KV_OK ? kv_shard_writer_finish(writer, err) : status;
}

kv_status kv_curve_text_write(const kv_curve_text *text, const kv_curve_options *o,
                              const kv_tokenizer *tokenizer, const char *tokenizer_path, const char *path,
                              kv_error *err) {
    kv_tokenizer_id id;
    kv_tokenizer_identify(tokenizer, &id);
    kv_shard_info info = {.vocab_size = id.vocab_size,
                          .bos_id = kv_tokenizer_bos(tokenizer),
                          .eos_id = kv_tokenizer_eos(tokenizer)};
    memcpy(info.tokenizer, id.hash, sizeof info.tokenizer);
    memcpy(info.cuts, id.cuts, sizeof info.cuts);
    snprintf(info.source, sizeof info.source, "%.*s (held out by kveval curve)", KV_HEAD(o->text, 200));
    kv_shard_writer *writer;
    kv_status status = kv_shard_writer_open(path, &info, &writer, err);
    if (status != KV_OK) return status;
    status = add_all(writer, text, tokenizer_path, err);
    kv_shard_writer_free(writer);
    return status;
}
