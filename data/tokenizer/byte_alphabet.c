// The alphabet is computed, not tabulated: 188 bytes stand for themselves and 68 take U+0100 and on, in
// order.
#include "data/tokenizer/pretokenizer.h"

#include "data/text/unicode.h"

static bool stands_for_itself(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The 68 others take U+0100 to U+0143.
enum { FIRST_STAND_IN = 0x100, N_STAND_INS = 68 };

static int32_t point_of(unsigned char byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte <= ' ') return FIRST_STAND_IN + byte;
    if (byte <= 0xA0) return FIRST_STAND_IN + 33 + byte - 0x7F;
    return FIRST_STAND_IN + N_STAND_INS - 1; // 0xAD
}

// -1: no stand-in.
static int byte_of(int32_t point) {
    if (point < FIRST_STAND_IN) return stands_for_itself(point) ? point : -1;
    int32_t order = point - FIRST_STAND_IN;
    if (order >= N_STAND_INS) return -1;
    return order <= ' ' ? order : order < N_STAND_INS - 1 ? order - 33 + 0x7F : 0xAD;
}

kv_status kv_byte_alphabet_encode(const char *text, size_t length, kv_bytes *out, kv_error *err) {
    kv_status status = kv_bytes_reserve(out, 2 * length, err);
    if (status) return status;
    char *to = out->data + out->length;
    for (size_t i = 0; i < length; i++) {
        int32_t point = point_of((unsigned char)text[i]);
        if (point >= 0x80) *to++ = (char)(0xC0 | point >> 6);
        *to++ = (char)(point >= 0x80 ? 0x80 | (point & 0x3F) : point);
    }
    out->length = (size_t)(to - out->data);
    return KV_OK;
}

kv_status kv_byte_alphabet_decode(const char *text, size_t length, kv_bytes *out, kv_error *err) {
    kv_status status = kv_bytes_reserve(out, length, err);
    size_t before = out->length;
    for (size_t i = 0; i < length && !status;) {
        int32_t point;
        size_t n = kv_utf8_next(text + i, length - i, &point);
        int byte = n ? byte_of(point) : -1;
        if (byte < 0) {
            out->length = before;
            return kv_bytes_add(out, text, length, err);
        }
        out->data[out->length++] = (char)byte;
        i += n;
    }
    return status;
}
