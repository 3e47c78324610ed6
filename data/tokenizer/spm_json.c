// Both merge pairs of neighbours; but SentencePiece takes the pair that makes the piece of the highest score, wherever the
// piece is cut in two, and the leftmost of equal ones, while a tokenizer.json has a rank for every pair of pieces. So each
// piece gives a merge for every place where it can be cut, in the order of scores.
#include "data/tokenizer/spm_json.h"

#include "core/text.h"
#include "data/tokenizer/spm_proto.h"
#include "data/tokenizer/vocabulary.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char space_mark[] = "\xE2\x96\x81"; // U+2581

struct model {
    int64_t n;
    kv_spm_piece_info *pieces; // [n]
    kv_vocabulary *normal;     // those that text is merged into, by id
    kv_spm_settings settings;
    int32_t bos, unknown; // -1: none
};

static bool is_type(const struct model *m, int64_t id, kv_spm_type type) {
    return m->pieces[id].type == type;
}

static bool holds_mark(const kv_spm_piece_info *piece) {
    return memmem(piece->spelling, piece->length, space_mark, strlen(space_mark)) != NULL;
}

// ---- Reading it ----------------------------------------------------------------------------------------

static kv_status cannot_say(kv_error *err, const char *what) {
    return kv_fail(err, KV_ERR_ARGUMENT, "%s", what);
}

static kv_status check_settings(const struct model *m, kv_error *err) {
    const kv_spm_settings *s = &m->settings;
    if (!s->is_bpe) return cannot_say(err, "it is not a BPE model");
    if (s->rewrites) return cannot_say(err, "it rewrites text by rules of its own");
    if (s->strips_spaces) return cannot_say(err, "it removes white space");
    if (s->space_behind || !s->escapes_spaces) return cannot_say(err, "it has spaces in another place");
    for (int64_t id = 0; id < m->n; id++) {
        if (is_type(m, id, KV_SPM_UNUSED)) return cannot_say(err, "it has unused pieces");
        if (is_type(m, id, KV_SPM_USER_DEFINED) && s->dummy_prefix)
            return cannot_say(err, "it has pieces of the user's and puts a space in front of text");
    }
    return KV_OK;
}

static kv_status read_pieces(struct model *m, const char *bytes, size_t size, kv_error *err) {
    const char *at = bytes, *end = bytes + size;
    kv_spm_piece_info piece;
    while (kv_spm_next_piece(&at, end, &piece)) m->n++;
    m->pieces = calloc((size_t)m->n + 1, sizeof *m->pieces);
    if (!m->pieces) return kv_fail(err, KV_ERR_MEMORY, "out of memory for %lld pieces", (long long)m->n);
    at = bytes;
    for (int64_t id = 0; id < m->n; id++) kv_spm_next_piece(&at, end, &m->pieces[id]);
    kv_status status = kv_vocabulary_create(m->n, &m->normal, err);
    for (int64_t id = 0; id < m->n && !status; id++) {
        const kv_spm_piece_info *p = &m->pieces[id];
        if (p->type == KV_SPM_UNKNOWN) m->unknown = (int32_t)id;
        if (p->type == KV_SPM_NORMAL && p->length > 0)
            status = kv_vocabulary_add(m->normal, (int32_t)id, p->spelling, p->length, err);
    }
    return status;
}

// ---- Merges --------------------------------------------------------------------------------------------

static int by_score(const void *a, const void *b, void *pieces) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    const kv_spm_piece_info *p = pieces;
    const float s = p[x].score, t = p[y].score;
    return s != t ? (s < t) - (s > t) : (x > y) - (x < y);
}

// Whether the piece ends as it begins, over n bytes.
static bool has_border(const kv_spm_piece_info *p, size_t n) {
    return memcmp(p->spelling, p->spelling + p->length - n, n) == 0;
}

// Where the piece is cut for its i-th merge, 0 < i < length, counted in bytes. Cuts at a and length - a may overlap in a
// text, x y z with both xy and yz this piece: then SentencePiece takes xy, which is at length - a where y has a bytes.
// Where it could be either, as in runs of one character, what is left over lies to the right.
static size_t cut_at(const kv_spm_piece_info *p, size_t i) {
    const size_t shorter = i < p->length - i ? i : p->length - i;
    return has_border(p, shorter) ? p->length - i : i;
}

static bool is_boundary(const kv_spm_piece_info *p, size_t at) {
    return ((unsigned char)p->spelling[at] & 0xC0) != 0x80;
}

static bool add_merge(json_t *merges, const kv_spm_piece_info *p, size_t cut) {
    char text[2 * 1024];
    if (p->length + 2 > sizeof text) return false;
    memcpy(text, p->spelling, cut);
    text[cut] = ' ';
    memcpy(text + cut + 1, p->spelling + cut, p->length - cut);
    return json_array_append_new(merges, json_stringn(text, p->length + 1)) == 0;
}

static bool add_merges(const struct model *m, int32_t id, json_t *merges) {
    const kv_spm_piece_info *p = &m->pieces[id];
    bool ok = true;
    for (size_t i = 1; i < p->length && ok; i++) {
        const size_t cut = cut_at(p, i);
        if (!is_boundary(p, cut) || kv_vocabulary_find(m->normal, p->spelling, cut) < 0 ||
            kv_vocabulary_find(m->normal, p->spelling + cut, p->length - cut) < 0)
            continue;
        ok = add_merge(merges, p, cut);
    }
    return ok;
}

static json_t *merges_json(const struct model *m) {
    int32_t *order = malloc((size_t)m->n * sizeof *order + 1);
    json_t *merges = json_array();
    int64_t n = 0;
    bool ok = order && merges;
    for (int32_t id = 0; id < m->n && ok; id++)
        if (is_type(m, id, KV_SPM_NORMAL)) order[n++] = id;
    if (ok) qsort_r(order, (size_t)n, sizeof *order, by_score, m->pieces);
    for (int64_t i = 0; i < n && ok; i++) ok = add_merges(m, order[i], merges);
    free(order);
    if (ok) return merges;
    json_decref(merges);
    return NULL;
}

// ---- The rest ------------------------------------------------------------------------------------------

static json_t *spelling_json(const struct model *m, int32_t id) {
    return id < 0 ? json_null() : json_stringn(m->pieces[id].spelling, m->pieces[id].length);
}

static json_t *vocab_json(const struct model *m) {
    json_t *vocab = json_object();
    bool ok = vocab != NULL;
    for (int64_t id = 0; id < m->n && ok; id++)
        ok = json_object_setn_new(vocab, m->pieces[id].spelling, m->pieces[id].length, json_integer(id)) == 0;
    if (ok && (int64_t)json_object_size(vocab) == m->n) return vocab;
    json_decref(vocab);
    return NULL;
}

// Special ones, and those of the user's that text is never cut within. One that holds a space is found in text in which
// spaces are marked.
static json_t *added_json(const struct model *m) {
    json_t *added = json_array();
    for (int64_t id = 0; id < m->n; id++) {
        const bool special = is_type(m, id, KV_SPM_CONTROL) || is_type(m, id, KV_SPM_UNKNOWN);
        if (!special && !is_type(m, id, KV_SPM_USER_DEFINED)) continue;
        json_array_append_new(added, json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id,
                                               "content", spelling_json(m, (int32_t)id), "single_word", 0,
                                               "lstrip", 0, "rstrip", 0, "normalized",
                                               !special && holds_mark(&m->pieces[id]), "special", special));
    }
    return added;
}

static json_t *step_json(const char *from, const char *to) {
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", from, "content", to);
}

static json_t *normalizer_json(const struct model *m) {
    json_t *mark = step_json(" ", space_mark);
    if (!m->settings.dummy_prefix) return mark;
    return json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence", "normalizers", "type", "Prepend",
                     "prepend", space_mark, mark);
}

static json_t *decoder_json(const struct model *m) {
    json_t *steps =
        json_pack("[o, {s:s}, {s:s}]", step_json(space_mark, " "), "type", "ByteFallback", "type", "Fuse");
    if (m->settings.dummy_prefix)
        json_array_append_new(
            steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return json_pack("{s:s, s:o}", "type", "Sequence", "decoders", steps);
}

static json_t *sequence_json(const char *name, int type) {
    return json_pack("{s:{s:s, s:i}}", "Sequence", "id", name, "type_id", type);
}

static json_t *special_json(const struct model *m, int type) {
    return json_pack("{s:{s:o, s:i}}", "SpecialToken", "id", spelling_json(m, m->bos), "type_id", type);
}

static json_t *processor_json(const struct model *m) {
    if (m->bos < 0) return json_null();
    json_t *token = json_pack("{s:o, s:[i], s:[o]}", "id", spelling_json(m, m->bos), "ids", (int)m->bos,
                              "tokens", spelling_json(m, m->bos));
    json_t *tokens = json_object();
    json_object_setn_new(tokens, m->pieces[m->bos].spelling, m->pieces[m->bos].length, token);
    return json_pack("{s:s, s:[o, o], s:[o, o, o, o], s:o}", "type", "TemplateProcessing", "single",
                     special_json(m, 0), sequence_json("A", 0), "pair", special_json(m, 0),
                     sequence_json("A", 0), special_json(m, 1), sequence_json("B", 1), "special_tokens",
                     tokens);
}

static json_t *model_json(const struct model *m) {
    return json_pack("{s:s, s:n, s:o, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                     "unk_token", spelling_json(m, m->unknown), "continuing_subword_prefix",
                     "end_of_word_suffix", "fuse_unk", 1, "byte_fallback", m->settings.byte_fallback,
                     "ignore_merges", 0, "vocab", vocab_json(m), "merges", merges_json(m));
}

kv_status kv_spm_to_json(const char *bytes, size_t size, int32_t bos, json_t **root, kv_error *err) {
    struct model m = {.bos = bos, .unknown = -1};
    *root = NULL;
    kv_status status = kv_spm_read_settings(bytes, size, &m.settings)
                           ? KV_OK
                           : cannot_say(err, "it is not a SentencePiece model");
    if (!status) status = read_pieces(&m, bytes, size, err);
    if (!status && bos >= m.n) status = cannot_say(err, "its BOS is none of its pieces");
    if (!status) status = check_settings(&m, err);
    if (!status)
        *root = json_pack("{s:s, s:n, s:n, s:o, s:o, s:n, s:o, s:o, s:o}", "version", "1.0", "truncation",
                          "padding", "added_tokens", added_json(&m), "normalizer", normalizer_json(&m),
                          "pre_tokenizer", "post_processor", processor_json(&m), "decoder", decoder_json(&m),
                          "model", model_json(&m));
    if (!status && !*root) status = cannot_say(err, "it has a piece that is no text, or too long, or twice");
    free(m.pieces);
    kv_vocabulary_free(m.normal);
    return status;
}
