// Steps run one after the other over all pieces, as Hugging Face's library runs them: Fuse and Strip see what
// came before, so the order is part of the result.
#include "data/tokenizer/detokenizer.h"

#include "data/tokenizer/pretokenizer.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 32 };

enum step_kind { STEP_BYTE_LEVEL, STEP_METASPACE, STEP_REPLACE, STEP_BYTE_FALLBACK, STEP_FUSE, STEP_STRIP };
static const char *const kind_names[] = {"ByteLevel",    "Metaspace", "Replace",
                                         "ByteFallback", "Fuse",      "Strip"};

struct step {
    enum step_kind kind;
    char *pattern,
        *content; // of Replace; what stands for a space and a space for Metaspace; what Strip cuts off
    int64_t n_first,
        n_last; // up to so many of it at a piece's ends; Metaspace: at the first piece's beginning
};

struct kv_detokenizer {
    struct step steps[MAX_STEPS];
    int n;
};

// ---- From the file -------------------------------------------------------------------------------------

static kv_status read_count(const kv_json_part *part, const char *key, int64_t *count, kv_error *err) {
    kv_json_part member = kv_json_member(part, key);
    *count = json_integer_value(member.value);
    bool fine = json_is_integer(member.value) && *count >= 0 && *count <= INT32_MAX;
    return fine ? KV_OK : kv_json_part_wrong(&member, "a whole number from 0 on", err);
}

static kv_status read_step(const kv_json_part *part, struct step *step, const char **pattern,
                           const char **content, kv_error *err) {
    bool is_regex = false;
    kv_prepend prepend = KV_PREPEND_NEVER;
    kv_status status = KV_OK;
    switch (step->kind) {
    case STEP_BYTE_LEVEL:
    case STEP_BYTE_FALLBACK:
    case STEP_FUSE: return KV_OK;
    case STEP_METASPACE:
        *content = " ";
        status = kv_metaspace_read(part, pattern, &prepend, err);
        step->n_first = prepend != KV_PREPEND_NEVER;
        return status;
    case STEP_STRIP:
        status = kv_json_string(part, "content", pattern, err);
        if (!status && !**pattern) status = kv_fail(err, KV_ERR_FORMAT, "%s.content is empty", part->where);
        if (!status) status = read_count(part, "start", &step->n_first, err);
        return status ? status : read_count(part, "stop", &step->n_last, err);
    case STEP_REPLACE: break;
    }
    status = kv_json_pattern(part, "pattern", pattern, &is_regex, err);
    if (!status) status = kv_json_string(part, "content", content, err);
    if (!status && is_regex)
        status = kv_fail(err, KV_ERR_FORMAT, "%s replaces a Regex, expected a String", part->where);
    return status;
}

static kv_status add_step(void *context, const kv_json_part *part, kv_error *err) {
    kv_detokenizer *detokenizer = context;
    int kind = 0;
    const char *pattern = "", *content = "";
    if (detokenizer->n == MAX_STEPS)
        return kv_fail(err, KV_ERR_FORMAT, "%s is one step too many, expected at most %d", part->where,
                       MAX_STEPS);
    kv_status status = kv_json_choice(part, "type", kind_names, 6, &kind, err);
    if (status) return status;
    struct step *step = &detokenizer->steps[detokenizer->n++];
    *step = (struct step){.kind = (enum step_kind)kind};
    status = read_step(part, step, &pattern, &content, err);
    if (status) return status;
    step->pattern = strdup(pattern);
    step->content = strdup(content);
    return step->pattern && step->content ? KV_OK
                                          : kv_fail(err, KV_ERR_MEMORY, "out of memory for a decoder");
}

kv_status kv_detokenizer_create(const kv_json_part *part, kv_detokenizer **detokenizer, kv_error *err) {
    *detokenizer = calloc(1, sizeof **detokenizer);
    if (!*detokenizer) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a decoder");
    kv_status status = kv_json_sequence(part, "decoders", add_step, *detokenizer, err);
    if (!status) return KV_OK;
    kv_detokenizer_free(*detokenizer);
    *detokenizer = NULL;
    return status;
}

void kv_detokenizer_free(kv_detokenizer *detokenizer) {
    if (!detokenizer) return;
    for (int i = 0; i < detokenizer->n; i++) {
        free(detokenizer->steps[i].pattern);
        free(detokenizer->steps[i].content);
    }
    free(detokenizer);
}

// ---- Pieces --------------------------------------------------------------------------------------------

// Ends a piece where the text ends now.
static kv_status end_piece(kv_pieces *pieces, bool is_text, kv_error *err) {
    if (pieces->n == pieces->capacity) {
        size_t wanted = 2 * pieces->capacity + 64;
        struct kv_piece *larger = realloc(pieces->pieces, wanted * sizeof *larger);
        if (!larger) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu pieces", wanted);
        pieces->pieces = larger;
        pieces->capacity = wanted;
    }
    pieces->pieces[pieces->n++] = (struct kv_piece){pieces->text.length, is_text};
    return KV_OK;
}

kv_status kv_pieces_add(kv_pieces *pieces, const char *piece, size_t length, bool is_text, kv_error *err) {
    kv_status status = kv_bytes_add(&pieces->text, piece, length, err);
    return status ? status : end_piece(pieces, is_text, err);
}

void kv_pieces_free(kv_pieces *pieces) {
    kv_bytes_free(&pieces->text);
    free(pieces->pieces);
    *pieces = (kv_pieces){0};
}

// ---- Steps ---------------------------------------------------------------------------------------------

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

// The byte that "<0x0A>" stands for; -1: it is no such piece.
static int byte_piece(const char *text, size_t length) {
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// Cuts up to n_first and n_last times the step's pattern off the ends.
static void strip(const struct step *step, const char **text, size_t *length, int64_t n_first,
                  int64_t n_last) {
    size_t n = strlen(step->pattern);
    for (; n_first > 0 && *length >= n && memcmp(*text, step->pattern, n) == 0; n_first--)
        *text += n, *length -= n;
    for (; n_last > 0 && *length >= n && memcmp(*text + *length - n, step->pattern, n) == 0; n_last--)
        *length -= n;
}

static kv_status run_on_piece(const struct step *step, const char *text, size_t length, bool first,
                              kv_bytes *out, kv_error *err) {
    int byte = -1;
    switch (step->kind) {
    case STEP_BYTE_LEVEL: return kv_byte_alphabet_decode(text, length, out, err);
    case STEP_METASPACE:
        strip(step, &text, &length, first ? step->n_first : 0, 0);
        return kv_bytes_add_replaced(out, text, length, step->pattern, step->content, err);
    case STEP_REPLACE: return kv_bytes_add_replaced(out, text, length, step->pattern, step->content, err);
    case STEP_STRIP: strip(step, &text, &length, step->n_first, step->n_last); break;
    case STEP_BYTE_FALLBACK: byte = byte_piece(text, length); break;
    case STEP_FUSE: break;
    }
    char c = (char)byte;
    return byte >= 0 ? kv_bytes_add(out, &c, 1, err) : kv_bytes_add(out, text, length, err);
}

static kv_status run_step(const struct step *step, const kv_pieces *from, kv_pieces *to, kv_error *err) {
    kv_status status = KV_OK;
    to->text.length = to->n = 0;
    for (size_t i = 0, start = 0; i < from->n && !status; start = from->pieces[i++].end) {
        const struct kv_piece *piece = &from->pieces[i];
        const char *text = from->text.data + start;
        if (piece->is_text && step->kind == STEP_BYTE_LEVEL)
            status = kv_bytes_add(&to->text, text, piece->end - start, err);
        else
            status = run_on_piece(step, text, piece->end - start, i == 0, &to->text, err);
        if (!status) status = end_piece(to, piece->is_text || step->kind == STEP_BYTE_LEVEL, err);
    }
    return status;
}

kv_status kv_detokenize(const kv_detokenizer *detokenizer, kv_pieces *pieces, kv_error *err) {
    kv_pieces other = {0};
    kv_status status = KV_OK;
    for (int i = 0; i < detokenizer->n && !status; i++) {
        if (detokenizer->steps[i].kind == STEP_FUSE) {
            if (pieces->n > 0) pieces->pieces[0] = (struct kv_piece){pieces->text.length, false};
            if (pieces->n > 0) pieces->n = 1;
            continue;
        }
        status = run_step(&detokenizer->steps[i], pieces, &other, err);
        kv_pieces swapped = *pieces;
        *pieces = other;
        other = swapped;
    }
    kv_pieces_free(&other);
    return status;
}
