// Encoding with what json_read.c has read: added tokens are cut out first, what lies between is normalised
// and split, and words are merged.
#include "data/tokenizer/json.h"

#include "data/system/console.h"

#include <string.h>

static const char space_mark[] = "\xE2\x96\x81"; // U+2581, what SentencePiece writes for a space

// ---- Text to ids ---------------------------------------------------------------------------------------

struct encoder {
    const kv_json_tokenizer *tokenizer;
    kv_bpe_work *bpe;
    kv_pretokenizer_work *pretokenizer;
    kv_bytes normal;
    kv_ids *ids;
    bool plain;
    uint64_t n_words;
};

static kv_status encode_part(struct encoder *encoder, const char *word, size_t length, kv_error *err) {
    if (++encoder->n_words % 4096 == 0 && kv_console_interrupted())
        return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    return kv_bpe_encode(encoder->tokenizer->bpe, encoder->bpe, word, length, encoder->ids, err);
}

// What is split no further may be a whole text, of a million words. Where no merge leads across their ends
// they are encoded one by one, which is the same and faster: words come again.
static kv_status encode_word(void *context, const char *word, size_t length, kv_error *err) {
    struct encoder *encoder = context;
    const size_t mark = strlen(space_mark);
    kv_status status = KV_OK;
    size_t start = 0, from = 1; // a mark that the word begins with is behind nothing
    while (encoder->tokenizer->cuts_at_spaces && from + mark <= length && !status) {
        const char *next = memmem(word + from, length - from, space_mark, mark);
        if (!next) break;
        size_t at = (size_t)(next - word);
        from = at + mark;
        if (at >= mark && memcmp(next - mark, space_mark, mark) == 0) continue;
        status = encode_part(encoder, word + start, at - start, err);
        start = at;
    }
    return status ? status : encode_part(encoder, word + start, length - start, err);
}

static kv_status encode_normalized(struct encoder *encoder, const char *text, size_t length, bool at_start,
                                   kv_error *err) {
    const kv_json_tokenizer *tokenizer = encoder->tokenizer;
    kv_status status = kv_normalize(tokenizer->normalizer, text, length, &encoder->normal, err);
    const char *normal = encoder->normal.data;
    for (size_t from = 0, done = 0; done < encoder->normal.length && !status;) {
        size_t start = encoder->normal.length, end = start;
        int32_t id = kv_added_tokens_find(tokenizer->added_normalized, normal, encoder->normal.length,
                                          encoder->plain, &from, &start, &end);
        if (id < 0) start = end = encoder->normal.length;
        if (start > done)
            status = kv_pretokenize(tokenizer->pretokenizer, encoder->pretokenizer, normal + done,
                                    start - done, at_start && done == 0, encode_word, encoder, err);
        if (id >= 0 && !status) status = kv_ids_add(encoder->ids, id, err);
        done = end;
    }
    return status;
}

static kv_status encode_all(struct encoder *encoder, const char *text, size_t length, kv_error *err) {
    kv_status status = KV_OK;
    for (size_t from = 0, done = 0; done < length && !status;) {
        size_t start = length, end = length;
        int32_t id = kv_added_tokens_find(encoder->tokenizer->added, text, length, encoder->plain, &from,
                                          &start, &end);
        if (id < 0) start = end = length;
        if (start > done) status = encode_normalized(encoder, text + done, start - done, done == 0, err);
        if (id >= 0 && !status) status = kv_ids_add(encoder->ids, id, err);
        done = end;
    }
    return status;
}

kv_status kv_json_tokenizer_encode(const kv_json_tokenizer *tokenizer, const char *text, size_t length,
                                   bool plain, kv_ids *ids, kv_error *err) {
    struct encoder encoder = {.tokenizer = tokenizer,
                              .bpe = kv_bpe_work_create(),
                              .pretokenizer = kv_pretokenizer_work_create(),
                              .ids = ids,
                              .plain = plain};
    kv_status status = encoder.bpe && encoder.pretokenizer
                           ? encode_all(&encoder, text, length, err)
                           : kv_fail(err, KV_ERR_MEMORY, "out of memory for a text of %zu bytes", length);
    kv_bytes_free(&encoder.normal);
    kv_bpe_work_free(encoder.bpe);
    kv_pretokenizer_work_free(encoder.pretokenizer);
    return status;
}

// ---- Ids to text ---------------------------------------------------------------------------------------

// A piece as the decoder wants it: an added token that is found in normalised text is spelt as it stood
// there, with the space that a normalizer has put in front, say.
static kv_status add_piece(const kv_json_tokenizer *tokenizer, int32_t id, kv_pieces *pieces, kv_error *err) {
    const bool is_added = tokenizer->is_added[id];
    const char *piece = kv_vocabulary_piece(tokenizer->vocabulary, id);
    size_t length = piece ? strlen(piece) : 0;
    const char *form = is_added ? kv_added_tokens_content(tokenizer->added_normalized, id, &length) : NULL;
    return piece ? kv_pieces_add(pieces, form ? form : piece, length, is_added, err) : KV_OK;
}

kv_status kv_json_tokenizer_decode(const kv_json_tokenizer *tokenizer, const int32_t *ids, int64_t n,
                                   kv_bytes *text, kv_error *err) {
    kv_pieces pieces = {0};
    if (!tokenizer->detokenizer) return kv_fail(err, KV_ERR_FORMAT, "%s", tokenizer->no_decoder);
    kv_status status = KV_OK;
    for (int64_t i = 0; i < n && !status; i++) status = add_piece(tokenizer, ids[i], &pieces, err);
    if (!status) status = kv_detokenize(tokenizer->detokenizer, &pieces, err);
    if (!status) status = kv_bytes_add(text, pieces.text.data, pieces.text.length, err);
    kv_pieces_free(&pieces);
    return status;
}
