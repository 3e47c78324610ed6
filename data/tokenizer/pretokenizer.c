// Pieces travel depth first through the steps, so that memory does not grow with a text; what each step does
// at the ends of pieces follows Hugging Face's library to the letter.
#include "data/tokenizer/pretokenizer.h"

#include "data/text/unicode.h"
#include "data/tokenizer/regex.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 32 };

enum step_kind { STEP_SPLIT, STEP_PREFIX_SPACE, STEP_BYTE_ALPHABET, STEP_METASPACE };
enum matcher { MATCH_REGEX, MATCH_STRING, MATCH_NUMBER };
enum behavior { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };
static const char *const behavior_names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
                                             "Contiguous"};

struct step {
    enum step_kind kind;
    enum matcher matcher;
    enum behavior behavior;
    bool invert; // what does not match is what matches
    kv_regex *regex;
    char *text; // of MATCH_STRING; what STEP_METASPACE puts in a space's place
    kv_prepend prepend;
};

struct kv_pretokenizer {
    struct step steps[MAX_STEPS];
    int n;
};

struct kv_pretokenizer_work {
    kv_regex_work *regex;
    kv_bytes changed[MAX_STEPS]; // text as a step leaves it; later steps split it where it lies
};

// ---- From the file -------------------------------------------------------------------------------------

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static struct step *add_step(kv_pretokenizer *pretokenizer, enum step_kind kind) {
    struct step *step = &pretokenizer->steps[pretokenizer->n++];
    *step = (struct step){.kind = kind, .behavior = ISOLATED};
    return step;
}

static kv_status add_byte_level(kv_pretokenizer *pretokenizer, const kv_json_part *part, kv_error *err) {
    bool prefix = true, use_regex = true;
    kv_status status = kv_json_flag(part, "add_prefix_space", &prefix, err);
    if (!status) status = kv_json_flag(part, "use_regex", &use_regex, err);
    if (status) return status;
    if (prefix) add_step(pretokenizer, STEP_PREFIX_SPACE);
    if (use_regex) status = kv_regex_compile(gpt2_pattern, &add_step(pretokenizer, STEP_SPLIT)->regex, err);
    add_step(pretokenizer, STEP_BYTE_ALPHABET);
    return status;
}

static kv_status add_split(kv_pretokenizer *pretokenizer, const kv_json_part *part, kv_error *err) {
    struct step *step = add_step(pretokenizer, STEP_SPLIT);
    int behavior = 0;
    const char *pattern = NULL;
    bool is_regex = false;
    kv_status status = kv_json_choice(part, "behavior", behavior_names, 5, &behavior, err);
    if (!status) status = kv_json_flag(part, "invert", &step->invert, err);
    if (!status) status = kv_json_pattern(part, "pattern", &pattern, &is_regex, err);
    if (status) return status;
    step->behavior = (enum behavior)behavior;
    step->matcher = is_regex ? MATCH_REGEX : MATCH_STRING;
    if (is_regex) {
        status = kv_regex_compile(pattern, &step->regex, err);
        return status ? kv_fail_within(err, status, "%s", part->where) : KV_OK;
    }
    step->text = strdup(pattern);
    return step->text ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for a pattern");
}

static kv_status add_digits(kv_pretokenizer *pretokenizer, const kv_json_part *part, kv_error *err) {
    bool individual = false;
    kv_status status = kv_json_flag(part, "individual_digits", &individual, err);
    struct step *step = add_step(pretokenizer, STEP_SPLIT);
    step->matcher = MATCH_NUMBER;
    step->behavior = individual ? ISOLATED : CONTIGUOUS;
    return status;
}

kv_status kv_metaspace_read(const kv_json_part *part, const char **replacement, kv_prepend *prepend,
                            kv_error *err) {
    static const char *const names[] = {"always", "first", "never"};
    int scheme = KV_PREPEND_ALWAYS;
    bool prefix = true;
    kv_json_part given = kv_json_member(part, "prepend_scheme");
    kv_status status = kv_json_string(part, "replacement", replacement, err);
    if (!status && !kv_json_absent(&given))
        status = kv_json_choice(part, "prepend_scheme", names, 3, &scheme, err);
    if (!status) status = kv_json_flag(part, "add_prefix_space", &prefix, err); // how older files say it
    if (status) return status;
    int32_t point;
    kv_json_part member = kv_json_member(part, "replacement");
    if (kv_utf8_next(*replacement, strlen(*replacement), &point) != strlen(*replacement) || !**replacement)
        return kv_json_part_wrong(&member, "one character", err);
    if (!prefix && !kv_json_absent(&given) && scheme != KV_PREPEND_NEVER)
        return kv_json_part_wrong(&given, "never, since add_prefix_space is false", err);
    *prepend = prefix ? (kv_prepend)scheme : KV_PREPEND_NEVER;
    return KV_OK;
}

static kv_status add_metaspace(kv_pretokenizer *pretokenizer, const kv_json_part *part, kv_error *err) {
    const char *replacement = NULL;
    bool split = true;
    struct step *step = add_step(pretokenizer, STEP_METASPACE);
    kv_status status = kv_metaspace_read(part, &replacement, &step->prepend, err);
    if (!status) status = kv_json_flag(part, "split", &split, err);
    if (status) return status;
    step->text = strdup(replacement);
    bool copied = step->text != NULL;
    if (split && copied) {
        struct step *cut = add_step(pretokenizer, STEP_SPLIT);
        cut->matcher = MATCH_STRING;
        cut->behavior = MERGED_WITH_NEXT;
        cut->text = strdup(replacement);
        copied = cut->text != NULL;
    }
    return copied ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for a pre-tokenizer");
}

static kv_status add_part(void *context, const kv_json_part *part, kv_error *err) {
    static const char *const names[] = {"ByteLevel", "Split", "Digits", "Metaspace"};
    static kv_status (*const adders[])(kv_pretokenizer *, const kv_json_part *,
                                       kv_error *) = {add_byte_level, add_split, add_digits, add_metaspace};
    kv_pretokenizer *pretokenizer = context;
    int type = 0;
    kv_status status = kv_json_choice(part, "type", names, 4, &type, err);
    if (status) return status;
    if (pretokenizer->n + 3 > MAX_STEPS) // as many as one part can add
        return kv_fail(err, KV_ERR_FORMAT, "%s is one step too many, expected at most %d", part->where,
                       MAX_STEPS);
    return adders[type](pretokenizer, part, err);
}

kv_status kv_pretokenizer_create(const kv_json_part *part, kv_pretokenizer **pretokenizer, kv_error *err) {
    *pretokenizer = calloc(1, sizeof **pretokenizer);
    if (!*pretokenizer) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a pre-tokenizer");
    kv_status status = kv_json_sequence(part, "pretokenizers", add_part, *pretokenizer, err);
    if (!status) return KV_OK;
    kv_pretokenizer_free(*pretokenizer);
    *pretokenizer = NULL;
    return status;
}

void kv_pretokenizer_free(kv_pretokenizer *pretokenizer) {
    if (!pretokenizer) return;
    for (int i = 0; i < pretokenizer->n; i++) {
        kv_regex_free(pretokenizer->steps[i].regex);
        free(pretokenizer->steps[i].text);
    }
    free(pretokenizer);
}

bool kv_pretokenizer_spells_bytes(const kv_pretokenizer *pretokenizer) {
    for (int i = 0; i < pretokenizer->n; i++)
        if (pretokenizer->steps[i].kind == STEP_BYTE_ALPHABET) return true;
    return false;
}

kv_pretokenizer_work *kv_pretokenizer_work_create(void) {
    kv_pretokenizer_work *work = calloc(1, sizeof *work);
    if (work) work->regex = kv_regex_work_create();
    if (work && work->regex) return work;
    free(work);
    return NULL;
}

void kv_pretokenizer_work_free(kv_pretokenizer_work *work) {
    if (!work) return;
    for (int i = 0; i < MAX_STEPS; i++) kv_bytes_free(&work->changed[i]);
    kv_regex_work_free(work->regex);
    free(work);
}

// ---- Matches and what lies between them ----------------------------------------------------------------

// One text on its way through the steps. Steps are run depth first: a piece goes through all later steps
// before the next one is looked for, so that no list of pieces is ever kept.
struct journey {
    const kv_pretokenizer *pretokenizer;
    kv_pretokenizer_work *work;
    kv_word_fn *each;
    void *context;
};

struct piece {
    const char *text;
    size_t length;
    bool at_start;   // begins what the user gave
    bool continuing; // follows invalid bytes: never put a space in front
};

static kv_status travel(const struct journey *journey, int step, struct piece piece, kv_error *err);

struct match {
    bool found;
    size_t start, end;
};

static kv_status find_number(const struct piece *piece, size_t from, struct match *match) {
    match->found = false;
    for (size_t i = from; i < piece->length && !match->found;) {
        int32_t point;
        size_t n = kv_utf8_next(piece->text + i, piece->length - i, &point);
        *match = (struct match){kv_is_number(point), i, i + n};
        i += n;
    }
    return KV_OK;
}

static kv_status find_string(const struct step *step, const struct piece *piece, size_t from,
                             struct match *match) {
    size_t length = strlen(step->text);
    const char *at = memmem(piece->text + from, piece->length - from, step->text, length);
    match->found = at != NULL;
    if (at) match->start = (size_t)(at - piece->text), match->end = match->start + length;
    return KV_OK;
}

// The first match from `from` on; an empty one not where the last match ended.
static kv_status find_regex(const struct step *step, kv_regex_work *work, const struct piece *piece,
                            size_t from, struct match *match, kv_error *err) {
    size_t last_end = match->found ? match->end : SIZE_MAX;
    for (;;) {
        kv_status status = kv_regex_find(step->regex, work, piece->text, piece->length, from, &match->found,
                                         &match->start, &match->end, err);
        if (status || !match->found) return status;
        if (match->start < from || match->end < match->start) // \K can do that
            return kv_fail(err, KV_ERR_FORMAT, "a regular expression's match ends before its start");
        if (match->start != match->end || match->end != last_end) return KV_OK;
        int32_t point;
        from += from < piece->length ? kv_utf8_next(piece->text + from, piece->length - from, &point) : 1;
        if (from > piece->length) {
            match->found = false;
            return KV_OK;
        }
    }
}

static kv_status find(const struct step *step, kv_pretokenizer_work *work, const struct piece *piece,
                      size_t from, struct match *match, kv_error *err) {
    switch (step->matcher) {
    case MATCH_NUMBER: return find_number(piece, from, match);
    case MATCH_STRING: return find_string(step, piece, from, match);
    case MATCH_REGEX: break;
    }
    return find_regex(step, work->regex, piece, from, match, err);
}

// ---- Steps ---------------------------------------------------------------------------------------------

// A part of a piece that is being put together, and whether what it was last made of matched.
struct part {
    bool any, match;
    size_t start, end;
};

static kv_status send(const struct journey *journey, int step, const struct piece *whole,
                      const struct part *part, kv_error *err) {
    if (!part->any || part->start == part->end) return KV_OK;
    bool first = part->start == 0;
    struct piece piece = {whole->text + part->start, part->end - part->start, whole->at_start && first,
                          whole->continuing && first};
    return travel(journey, step + 1, piece, err);
}

// Takes the next part, a match or what lies between two, and sends on what is complete with it.
static kv_status take(const struct journey *journey, int step, const struct piece *whole, struct part *open,
                      struct part next, kv_error *err) {
    switch (journey->pretokenizer->steps[step].behavior) {
    case REMOVED: return next.match ? KV_OK : send(journey, step, whole, &next, err);
    case ISOLATED: return send(journey, step, whole, &next, err);
    case CONTIGUOUS:
        if (open->any && open->match == next.match) {
            open->end = next.end;
            return KV_OK;
        }
        break;
    case MERGED_WITH_PREVIOUS:
        if (open->any && !open->match && next.match) {
            open->end = next.end;
            open->match = true;
            return KV_OK;
        }
        break;
    case MERGED_WITH_NEXT:
        if (open->any && open->match && !next.match) {
            open->end = next.end;
            open->match = false;
            return KV_OK;
        }
        break;
    }
    kv_status status = send(journey, step, whole, open, err);
    *open = next;
    return status;
}

static kv_status split(const struct journey *journey, int step, const struct piece *piece, kv_error *err) {
    const struct step *how = &journey->pretokenizer->steps[step];
    struct part open = {0};
    struct match match = {0};
    size_t done = 0;
    for (;;) {
        kv_status status = find(how, journey->work, piece, done, &match, err);
        size_t gap_end = match.found ? match.start : piece->length;
        if (!status && gap_end > done)
            status = take(journey, step, piece, &open, (struct part){true, how->invert, done, gap_end}, err);
        if (!status && match.found)
            status = take(journey, step, piece, &open,
                          (struct part){true, !how->invert, match.start, match.end}, err);
        if (status) return status;
        if (!match.found) return send(journey, step, piece, &open, err);
        done = match.end;
    }
}

static bool begins_with(const struct piece *piece, const char *text) {
    size_t length = strlen(text);
    return piece->length >= length && memcmp(piece->text, text, length) == 0;
}

static kv_status change(const struct step *step, const struct piece *piece, kv_bytes *out, kv_error *err) {
    kv_status status = KV_OK;
    out->length = 0;
    switch (step->kind) {
    case STEP_SPLIT: break;
    case STEP_BYTE_ALPHABET: return kv_byte_alphabet_encode(piece->text, piece->length, out, err);
    case STEP_PREFIX_SPACE:
        if (!piece->continuing && !begins_with(piece, " ")) status = kv_bytes_add(out, " ", 1, err);
        return status ? status : kv_bytes_add(out, piece->text, piece->length, err);
    case STEP_METASPACE: {
        bool wanted =
            step->prepend == KV_PREPEND_ALWAYS || (step->prepend == KV_PREPEND_FIRST && piece->at_start);
        if (wanted && !piece->continuing && !begins_with(piece, " ") && !begins_with(piece, step->text))
            status = kv_bytes_add(out, step->text, strlen(step->text), err);
        return status ? status : kv_bytes_add_replaced(out, piece->text, piece->length, " ", step->text, err);
    }
    }
    return status;
}

static kv_status travel(const struct journey *journey, int step, struct piece piece, kv_error *err) {
    if (step == journey->pretokenizer->n)
        return journey->each(journey->context, piece.text, piece.length, err);
    const struct step *how = &journey->pretokenizer->steps[step];
    if (how->kind == STEP_SPLIT) return split(journey, step, &piece, err);
    kv_bytes *changed = &journey->work->changed[step];
    kv_status status = change(how, &piece, changed, err);
    piece.text = changed->data;
    piece.length = changed->length;
    return status ? status : travel(journey, step + 1, piece, err);
}

// Invalid bytes are only spelt in the byte alphabet, where there is one.
static kv_status pass_invalid(const struct journey *journey, const char *text, size_t length, kv_error *err) {
    struct piece piece = {text, length, false, true};
    for (int i = 0; i < journey->pretokenizer->n; i++) {
        if (journey->pretokenizer->steps[i].kind != STEP_BYTE_ALPHABET) continue;
        kv_bytes *changed = &journey->work->changed[i];
        kv_status status = change(&journey->pretokenizer->steps[i], &piece, changed, err);
        if (status) return status;
        piece.text = changed->data;
        piece.length = changed->length;
        break;
    }
    return journey->each(journey->context, piece.text, piece.length, err);
}

kv_status kv_pretokenize(const kv_pretokenizer *pretokenizer, kv_pretokenizer_work *work, const char *text,
                         size_t length, bool at_start, kv_word_fn *each, void *context, kv_error *err) {
    const struct journey journey = {pretokenizer, work, each, context};
    kv_status status = KV_OK;
    for (size_t done = 0; done < length && !status;) {
        struct piece piece = {text + done, kv_utf8_valid(text + done, length - done), at_start && done == 0,
                              done > 0};
        if (piece.length) status = travel(&journey, 0, piece, err);
        done += piece.length;
        size_t invalid = kv_utf8_invalid(text + done, length - done);
        if (invalid && !status) status = pass_invalid(&journey, text + done, invalid, err);
        done += invalid;
    }
    return status;
}
