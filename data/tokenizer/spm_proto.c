// A protocol buffer is fields, each with a number and a type, of which some are fields again.
#include "data/tokenizer/spm_proto.h"

#include <string.h>

struct field {
    uint64_t number, value; // of a number, or the length of
    const char *bytes;      // this
};

static bool read_number(const char **at, const char *end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && *at < end; shift += 7) {
        const unsigned char byte = (unsigned char)*(*at)++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

// False: the end, or no protocol buffer.
static bool next_field(const char **at, const char *end, struct field *f) {
    uint64_t key;
    *f = (struct field){0};
    if (!read_number(at, end, &key)) return false;
    f->number = key >> 3;
    switch (key & 7) {
    case 0: return read_number(at, end, &f->value);
    case 1: f->value = 8; break;
    case 2:
        if (!read_number(at, end, &f->value)) return false;
        break;
    case 5: f->value = 4; break;
    default: return false;
    }
    if (f->value > (uint64_t)(end - *at)) return false;
    f->bytes = *at;
    *at += f->value;
    return true;
}

enum { PIECES = 1, TRAINER = 2, NORMALIZER = 3, DENORMALIZER = 5 };

bool kv_spm_next_piece(const char **at, const char *end, kv_spm_piece_info *piece) {
    struct field whole, f;
    *piece = (kv_spm_piece_info){.type = KV_SPM_NORMAL};
    if (!next_field(at, end, &whole) || whole.number != PIECES || !whole.bytes) return false;
    const char *inside = whole.bytes, *its_end = inside + whole.value;
    while (next_field(&inside, its_end, &f)) {
        if (f.number == 1 && f.bytes) piece->spelling = f.bytes, piece->length = f.value;
        if (f.number == 2 && f.bytes && f.value == sizeof(float))
            memcpy(&piece->score, f.bytes, sizeof(float));
        if (f.number == 3 && !f.bytes) piece->type = (kv_spm_type)f.value;
    }
    return piece->spelling != NULL;
}

static void read_trainer(const struct field *spec, kv_spm_settings *settings) {
    enum { MODEL_TYPE = 3, BPE = 2, WHITESPACE_AS_SUFFIX = 24, BYTE_FALLBACK = 35 };
    const char *at = spec->bytes, *end = at + spec->value;
    struct field f;
    while (next_field(&at, end, &f)) {
        if (f.number == MODEL_TYPE) settings->is_bpe = f.value == BPE;
        if (f.number == WHITESPACE_AS_SUFFIX) settings->space_behind = f.value != 0;
        if (f.number == BYTE_FALLBACK) settings->byte_fallback = f.value != 0;
    }
}

static void read_normalizer(const struct field *spec, bool back, kv_spm_settings *settings) {
    enum { CHARSMAP = 2, DUMMY_PREFIX = 3, REMOVE_EXTRA = 4, ESCAPE = 5 };
    const char *at = spec->bytes, *end = at + spec->value;
    struct field f;
    while (next_field(&at, end, &f)) {
        if (f.number == CHARSMAP && f.bytes && f.value > 0) settings->rewrites = true;
        if (back) continue;
        if (f.number == DUMMY_PREFIX) settings->dummy_prefix = f.value != 0;
        if (f.number == REMOVE_EXTRA) settings->strips_spaces = f.value != 0;
        if (f.number == ESCAPE) settings->escapes_spaces = f.value != 0;
    }
}

bool kv_spm_read_settings(const char *bytes, size_t size, kv_spm_settings *settings) {
    const char *at = bytes, *end = bytes + size;
    struct field f;
    *settings = (kv_spm_settings){.dummy_prefix = true, .strips_spaces = true, .escapes_spaces = true};
    while (at < end) {
        if (!next_field(&at, end, &f)) return false;
        if (f.number == TRAINER && f.bytes) read_trainer(&f, settings);
        if (f.number == NORMALIZER && f.bytes) read_normalizer(&f, false, settings);
        if (f.number == DENORMALIZER && f.bytes) read_normalizer(&f, true, settings);
    }
    return true;
}
