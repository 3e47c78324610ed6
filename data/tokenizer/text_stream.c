// Two places hold something back. The window holds the tokens whose text a later token may still change: a
// tokenizer with byte pieces writes U+FFFD for bytes that are no character yet. `bytes` holds the first bytes
// of a character of tokenizers that hand out bytes as they are. What comes through both are whole characters;
// they go past the stop strings.
#include "data/tokenizer/text_stream.h"

#include "data/system/buffers.h"
#include "data/text/unicode.h"
#include "data/tokenizer/stop_filter.h"

#include <stdlib.h>
#include <string.h>

enum {
    longest_character = 4,
    // So many tokens may wait. Only bytes that are no text come in such numbers; all but the last three of
    // them, which may begin a character, are settled then.
    longest_window = 16,
};
static const char replacement[] = "\xEF\xBF\xBD";
enum { replacement_length = sizeof replacement - 1 };

struct kv_text_stream {
    const kv_tokenizer *tokenizer;
    int32_t window[longest_window];
    int64_t n_window;
    size_t n_given; // bytes of the window's text that went on to `bytes`
    char bytes[longest_character];
    size_t n_bytes;
    kv_bytes out; // whole characters on their way to the filter
    kv_stop_filter *filter;
};

kv_text_stream *kv_text_stream_create(const kv_tokenizer *tokenizer, const char *const *stops,
                                      size_t n_stops) {
    kv_text_stream *stream = calloc(1, sizeof *stream);
    if (!stream) return NULL;
    stream->tokenizer = tokenizer;
    stream->filter = kv_stop_filter_create(stops, n_stops);
    if (stream->filter) return stream;
    free(stream);
    return NULL;
}

void kv_text_stream_free(kv_text_stream *stream) {
    if (!stream) return;
    kv_stop_filter_free(stream->filter);
    kv_bytes_free(&stream->out);
    free(stream);
}

// ---- Bytes to characters -------------------------------------------------------------------------------

// Into room that is there.
static void put(kv_text_stream *stream, const char *text, size_t length) {
    memcpy(stream->out.data + stream->out.length, text, length);
    stream->out.length += length;
}

// text[length] behind the bytes that wait; last: nothing comes behind it.
static kv_status give(kv_text_stream *stream, const char *text, size_t length, bool last, kv_error *err) {
    kv_status status =
        kv_bytes_reserve(&stream->out, (stream->n_bytes + length) * replacement_length + 1, err);
    for (size_t i = 0; i < length + last && status == KV_OK; i++) {
        if (i < length) stream->bytes[stream->n_bytes++] = text[i];
        int whole;
        while ((whole = kv_utf8_character(stream->bytes, stream->n_bytes)) != 0 ||
               (i == length && stream->n_bytes)) {
            const size_t used = whole > 0 ? (size_t)whole : 1;
            if (whole > 0)
                put(stream, stream->bytes, used);
            else
                put(stream, replacement, replacement_length);
            stream->n_bytes -= used;
            memmove(stream->bytes, stream->bytes + used, stream->n_bytes);
        }
    }
    return status;
}

// ---- Tokens to bytes -----------------------------------------------------------------------------------

// Bytes of text[length] that no later token can change: all but up to three U+FFFD at its end, which may
// stand for the first bytes of a character.
static size_t settled(const char *text, size_t length) {
    for (int i = 1; i < longest_character; i++) {
        if (length < replacement_length) return length;
        if (memcmp(text + length - replacement_length, replacement, replacement_length) != 0) return length;
        length -= replacement_length;
    }
    return length;
}

static kv_status give_window(kv_text_stream *stream, const char *text, size_t upto, kv_error *err) {
    if (upto <= stream->n_given) return KV_OK;
    kv_status status = give(stream, text + stream->n_given, upto - stream->n_given, false, err);
    stream->n_given = upto;
    return status;
}

// The window is full: all but its last tokens leave it. Their text is settled.
static kv_status slide(kv_text_stream *stream, kv_error *err) {
    const int64_t kept = longest_character - 1, gone = stream->n_window - kept;
    char *text;
    size_t length;
    kv_status status = kv_decode_continuation(stream->tokenizer, stream->window, gone, &text, &length, err);
    if (status != KV_OK) return status;
    status = give_window(stream, text, length, err);
    free(text);
    memmove(stream->window, stream->window + gone, (size_t)kept * sizeof *stream->window);
    stream->n_window = kept;
    stream->n_given -= length;
    return status;
}

kv_status kv_text_stream_push(kv_text_stream *stream, int32_t id, const char **text, size_t *length,
                              bool *stopped, kv_error *err) {
    stream->out.length = 0;
    kv_status status = kv_bytes_reserve(&stream->out, 1, err);
    if (status == KV_OK && stream->n_window == longest_window) status = slide(stream, err);
    if (status != KV_OK) return status;
    char *decoded;
    size_t n;
    stream->window[stream->n_window++] = id;
    status = kv_decode_continuation(stream->tokenizer, stream->window, stream->n_window, &decoded, &n, err);
    if (status != KV_OK) {
        stream->n_window--; // as if it had not come
        return status;
    }
    const size_t upto = settled(decoded, n);
    status = give_window(stream, decoded, upto, err);
    free(decoded);
    if (upto == n) stream->n_window = 0, stream->n_given = 0;
    if (status != KV_OK) return status;
    return kv_stop_filter_push(stream->filter, stream->out.data, stream->out.length, text, length, stopped,
                               err);
}

kv_status kv_text_stream_finish(kv_text_stream *stream, const char **text, size_t *length, bool *stopped,
                                kv_error *err) {
    stream->out.length = 0;
    char *decoded = NULL;
    size_t n = 0;
    kv_status status = kv_bytes_reserve(&stream->out, 1, err);
    if (status == KV_OK && stream->n_window > 0)
        status =
            kv_decode_continuation(stream->tokenizer, stream->window, stream->n_window, &decoded, &n, err);
    if (status == KV_OK && decoded) status = give_window(stream, decoded, n, err);
    if (status == KV_OK) status = give(stream, NULL, 0, true, err);
    free(decoded);
    stream->n_window = 0, stream->n_given = 0, stream->n_bytes = 0;
    if (status != KV_OK) return status;
    return kv_stop_filter_finish(stream->filter, stream->out.data, stream->out.length, text, length, stopped,
                                 err);
}
