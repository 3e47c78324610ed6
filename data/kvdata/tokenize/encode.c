// One document to ids, on whichever thread. What is wrong with a document is noted in it and judged when
// it is written, in order.
#include "data/kvdata/tokenize/tokenize.h"

#include "data/text/unicode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// BOS and EOS, of those that the tokenizer has, around ids[n].
static kv_status frame(const kv_tokenizer *tokenizer, tokenize_document *document, int32_t *ids, int64_t n,
                       kv_error *err) {
    const int32_t bos = kv_tokenizer_bos(tokenizer), eos = kv_tokenizer_eos(tokenizer);
    int32_t *framed = realloc(ids, (size_t)(n + 2) * sizeof *framed);
    document->ids = framed ? framed : ids;
    if (!framed) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a document of %" PRIi64 " tokens", n);
    if (bos >= 0) {
        memmove(framed + 1, framed, (size_t)n * sizeof *framed);
        framed[0] = bos;
        n++;
    }
    if (eos >= 0) framed[n++] = eos;
    document->n_ids = n;
    return KV_OK;
}

// What the tokenizer has no pieces for is the document's fault, not the run's.
static kv_status blame(tokenize_document *document, kv_status status, kv_error *err) {
    if (status != KV_ERR_FORMAT) return status;
    document->outcome = TOKENIZE_BAD;
    document->why = strdup(err->message);
    return document->why ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory");
}

static kv_status encode(const tokenize_options *options, const kv_tokenizer *tokenizer, kv_bytes *normal,
                        const char *text, tokenize_document *document, kv_error *err) {
    if (options->nfc) {
        normal->length = 0;
        kv_status status = kv_nfc(text, document->length, normal, err);
        if (status) return blame(document, status, err);
        text = normal->data;
        document->length = normal->length;
    }
    if (document->length == 0 || kv_utf8_count(text, document->length) < options->min_chars) {
        document->outcome = TOKENIZE_CHARS;
        return KV_OK;
    }
    int32_t *ids = NULL;
    int64_t n = 0;
    kv_status status = kv_tokenizer_encode(tokenizer, text, document->length, &ids, &n, err);
    if (status) {
        free(ids);
        return blame(document, status, err);
    }
    if (n >= options->min_tokens) return frame(tokenizer, document, ids, n, err);
    free(ids);
    document->outcome = TOKENIZE_TOKENS;
    return KV_OK;
}

kv_status tokenize_encode(const tokenize_options *options, const kv_tokenizer *tokenizer,
                          tokenize_block *block, int64_t first, int64_t last, kv_error *err) {
    kv_status status = KV_OK;
    kv_bytes normal = {0}; // a document in normalisation form C
    for (int64_t i = first; !status && i < last; i++) {
        tokenize_document *document = &block->documents[i];
        if (document->outcome != TOKENIZE_KEPT) continue;
        status = encode(options, tokenizer, &normal, block->text.data + document->start, document, err);
    }
    kv_bytes_free(&normal);
    return status;
}
