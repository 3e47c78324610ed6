// Two buffers take turns as input and output of the steps, so that a document is copied once a step and no
// more.
#include "data/tokenizer/normalizer.h"

#include "data/text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 32 };
enum step_kind { STEP_NFC, STEP_PREPEND, STEP_REPLACE };
static const char *const kind_names[] = {"NFC", "Prepend", "Replace"};

struct step {
    enum step_kind kind;
    char *pattern, *content;
};

struct kv_normalizer {
    struct step steps[MAX_STEPS];
    int n;
};

// ---- From the file -------------------------------------------------------------------------------------

static kv_status add_step(void *context, const kv_json_part *part, kv_error *err) {
    kv_normalizer *normalizer = context;
    int kind = 0;
    const char *pattern = "", *content = "";
    bool is_regex = false;
    kv_status status = kv_json_choice(part, "type", kind_names, 3, &kind, err);
    if (!status && kind == STEP_PREPEND) status = kv_json_string(part, "prepend", &content, err);
    if (!status && kind == STEP_REPLACE) status = kv_json_pattern(part, "pattern", &pattern, &is_regex, err);
    if (!status && kind == STEP_REPLACE) status = kv_json_string(part, "content", &content, err);
    if (status) return status;
    if (is_regex) return kv_fail(err, KV_ERR_FORMAT, "%s replaces a Regex, expected a String", part->where);
    if (normalizer->n == MAX_STEPS)
        return kv_fail(err, KV_ERR_FORMAT, "%s is one step too many, expected at most %d", part->where,
                       MAX_STEPS);
    struct step *step = &normalizer->steps[normalizer->n++];
    *step =
        (struct step){.kind = (enum step_kind)kind, .pattern = strdup(pattern), .content = strdup(content)};
    return step->pattern && step->content ? KV_OK
                                          : kv_fail(err, KV_ERR_MEMORY, "out of memory for a normalizer");
}

kv_status kv_normalizer_create(const kv_json_part *part, kv_normalizer **normalizer, kv_error *err) {
    *normalizer = calloc(1, sizeof **normalizer);
    if (!*normalizer) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a normalizer");
    kv_status status = kv_json_sequence(part, "normalizers", add_step, *normalizer, err);
    if (!status) return KV_OK;
    kv_normalizer_free(*normalizer);
    *normalizer = NULL;
    return status;
}

void kv_normalizer_free(kv_normalizer *normalizer) {
    if (!normalizer) return;
    for (int i = 0; i < normalizer->n; i++) {
        free(normalizer->steps[i].pattern);
        free(normalizer->steps[i].content);
    }
    free(normalizer);
}

// ---- On text -------------------------------------------------------------------------------------------

static kv_status run_step(const struct step *step, const char *text, size_t length, kv_bytes *out,
                          kv_error *err) {
    out->length = 0;
    if (length == 0) return KV_OK;
    if (step->kind == STEP_NFC) return kv_nfc(text, length, out, err);
    // A pattern is made of whole characters, so bytes that equal it are those characters.
    if (step->kind == STEP_REPLACE)
        return kv_bytes_add_replaced(out, text, length, step->pattern, step->content, err);
    kv_status status = kv_bytes_add(out, step->content, strlen(step->content), err);
    return status ? status : kv_bytes_add(out, text, length, err);
}

kv_status kv_normalize(const kv_normalizer *normalizer, const char *text, size_t length, kv_bytes *out,
                       kv_error *err) {
    out->length = 0;
    if (normalizer->n == 0) return kv_bytes_add(out, text, length, err);
    kv_bytes before = {0};
    kv_status status = KV_OK;
    for (int i = 0; i < normalizer->n && !status; i++) {
        if (i > 0) {
            kv_bytes swapped = before;
            before = *out;
            *out = swapped;
        }
        const char *from = i > 0 ? before.data : text;
        status = run_step(&normalizer->steps[i], from, i > 0 ? before.length : length, out, err);
    }
    kv_bytes_free(&before);
    return status;
}
