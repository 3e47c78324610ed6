// Files that are text. Most of what lies in a file's place after a download that failed is: a page, or the answer of a
// server.
#include "core/text.h"
#include "data/file/identify_content.h"
#include "data/file/json_value.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

static const char again[] = "a download that failed leaves such a file: fetch it again";

const char *kv_excerpt(const char *text, size_t length, size_t most, char out[KV_EXCERPT]) {
    size_t n = 0, i = 0;
    if (most > KV_EXCERPT - 8) most = KV_EXCERPT - 8;
    while (i < length && n < most) {
        const unsigned char c = (unsigned char)text[i++];
        if (c <= ' ' || c == 127) {
            while (i < length && ((unsigned char)text[i] <= ' ' || text[i] == 127)) i++;
            if (n > 0 && i < length) out[n++] = ' ';
        } else {
            out[n++] = (char)c;
        }
    }
    out[n] = '\0';
    out[n = kv_text_whole(out, n)] = '\0';
    if (i < length) strcpy(out + n, "...");
    return out;
}

// UTF-8 without control characters; the head may end within a character.
static bool is_text(const unsigned char *bytes, size_t size, bool whole) {
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t character;
        const utf8proc_ssize_t n = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(size - i), &character);
        if (n <= 0) return !whole && size - i < 4;
        if (character == 127 || (character < ' ' && !strchr("\t\n\r\f\v\x1B", (int)character)) ||
            character == 0)
            return false;
        i += (size_t)n;
    }
    return size > 0;
}

// ---- Other encodings -----------------------------------------------------------------------------------

// As Windows writes text: of most letters every second byte is zero. `zero`: which of two it is.
static bool alternates(const unsigned char *bytes, size_t size, size_t zero) {
    size_t n = 0, n_other = 0;
    if (size < 16) return false;
    for (size_t i = 0; i + 1 < size && i < 256; i += 2, n++) {
        const unsigned char letter = bytes[i + 1 - zero];
        if (bytes[i + zero] != 0)
            n_other++;
        else if (letter == 127 || (letter < ' ' && !isspace(letter)))
            return false;
    }
    return 8 * n_other < n;
}

// The readers of text say what helps, each in its own words.
static bool other_encoding(const kv_head *head, kv_identity *identity) {
    const unsigned char *b = head->bytes;
    const bool four = head->size >= 4, two = head->size >= 2;
    const char *name = NULL;
    if (four && (memcmp(b, "\xFF\xFE\0\0", 4) == 0 || memcmp(b, "\0\0\xFE\xFF", 4) == 0))
        name = "UTF-32";
    else if (two && (memcmp(b, "\xFF\xFE", 2) == 0 || memcmp(b, "\xFE\xFF", 2) == 0))
        name = "UTF-16";
    else if (alternates(b, head->size, 1) || alternates(b, head->size, 0))
        name = "UTF-16";
    if (!name) return false;
    identity->kind = KV_FILE_TEXT;
    snprintf(identity->what, sizeof identity->what, "%s text", name);
    return true;
}

// ---- Pages and answers ---------------------------------------------------------------------------------

// Behind what may stand before the first element: a byte order mark, white space, comments, declarations.
static const char *first_element(const char *at) {
    if (strncmp(at, "\xEF\xBB\xBF", 3) == 0) at += 3;
    for (;;) {
        at += strspn(at, " \t\r\n\f");
        const char *end = strncmp(at, "<!--", 4) == 0 ? "-->" : strncmp(at, "<?xml", 5) == 0 ? "?>" : NULL;
        const char *next = end ? strstr(at, end) : NULL;
        if (!next) return at;
        at = next + strlen(end);
    }
}

static bool begins(const char *text, const char *with) {
    const size_t n = strlen(with);
    return strncasecmp(text, with, n) == 0 && !isalnum((unsigned char)text[n]);
}

// What stands between <NAME> and </NAME>; empty: no such element.
static void element(const char *text, const char *name, char out[KV_EXCERPT]) {
    char open[32], close[32];
    snprintf(open, sizeof open, "<%s>", name);
    snprintf(close, sizeof close, "</%s>", name);
    const char *from = strcasestr(text, open), *to = from ? strcasestr(from, close) : NULL;
    out[0] = '\0';
    if (!to) return;
    from += strlen(open);
    kv_excerpt(from, (size_t)(to - from), 80, out);
}

static bool page(const char *text, kv_identity *identity) {
    static const char *const html[] = {"<!doctype html", "<html", "<head", "<body", "<title"};
    char said[KV_EXCERPT];
    const char *at = first_element(text);
    for (size_t i = 0; i < sizeof html / sizeof *html; i++) {
        if (!begins(at, html[i])) continue;
        element(at, "title", said);
        if (!*said) element(at, "h1", said);
        kv_identity_set(identity, again, *said ? "an HTML page (\"%s\")" : "an HTML page%s", said);
        return true;
    }
    if (!begins(at, "<Error")) return false;
    element(at, "Code", said);
    kv_identity_set(identity, again, "the answer of a server, not a file (<Error>%s%s)", *said ? ": " : "",
                    said);
    return true;
}

// {"error": "Repository not found"}, and what such answers have beside it. Nothing else in it.
static bool is_answer(const json_t *root) {
    static const char *const keys[] = {"error",     "message",           "detail",     "status",
                                       "code",      "error_description", "statusCode", "request_id",
                                       "requestId", "documentation_url", "url",        "success"};
    const char *key;
    json_t *value;
    size_t n_text = 0;
    json_object_foreach((json_t *)(uintptr_t)root, key, value) {
        size_t i = 0;
        while (i < sizeof keys / sizeof *keys && strcmp(key, keys[i]) != 0) i++;
        if (i == sizeof keys / sizeof *keys) return false;
        n_text += i < 3 && !json_is_null(value);
    }
    return n_text > 0;
}

// ---- JSON ----------------------------------------------------------------------------------------------

static bool has(const json_t *object, const char *key) {
    return json_object_get(object, key) != NULL;
}

// A kind of ours (and of models' directories) by its keys.
static kv_file_kind json_kind(const json_t *root, bool whole) {
    static const struct {
        const char *keys[3];
        kv_file_kind kind;
    } known[] = {{{"weight_map"}, KV_FILE_WEIGHTS_INDEX},
                 {{"model_type"}, KV_FILE_MODEL_CONFIG},
                 {{"added_tokens", "model"}, KV_FILE_TOKENIZER_JSON},
                 {{"tokenizer_class"}, KV_FILE_TOKENIZER_CONFIG},
                 {{"added_tokens_decoder"}, KV_FILE_TOKENIZER_CONFIG},
                 {{"step", "shard_tokens"}, KV_FILE_RUN_STATE},
                 {{"step", "loss"}, KV_FILE_METRICS},
                 {{"step", "validation"}, KV_FILE_METRICS},
                 {{"unit", "run", "system"}, KV_FILE_SAMPLES}};
    static const struct {
        const char *format;
        kv_file_kind kind;
    } formats[] = {{"kv-predictor", KV_FILE_PREDICTOR_JSON},
                   {"kv-corpus", KV_FILE_CORPUS_INDEX},
                   {"kv-tokenize", KV_FILE_TOKENIZE_JOURNAL},
                   {"kv-sample", KV_FILE_SAMPLE_SETTINGS}};
    const char *format = json_string_value(json_object_get(root, "format"));
    for (size_t i = 0; format && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(format, formats[i].format) == 0) return formats[i].kind;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        bool all = true;
        for (int k = 0; k < 3 && known[i].keys[k]; k++) all = all && has(root, known[i].keys[k]);
        if (all) return known[i].kind;
    }
    return whole ? KV_FILE_JSON : KV_FILE_JSON_LINES;
}

static bool json(const kv_head *head, const char *text, kv_identity *identity) {
    const size_t size = head->size - (size_t)(text - (const char *)head->bytes);
    const size_t line = strcspn(text, "\n");
    json_t *root = head->whole ? kv_json_parse(text, size, 0, NULL) : NULL;
    const bool whole = root != NULL; // else its first line
    if (!root && line < size) root = kv_json_parse(text, line, 0, NULL);
    char said[KV_EXCERPT];
    if (json_is_object(root) && head->whole && is_answer(root))
        kv_identity_set(identity, again, "nothing but %s", kv_excerpt(text, size, 120, said));
    else if (has(root, "peft_type"))
        kv_identity_set(identity, "merge it into its base model",
                        "the configuration of an adapter (LoRA), not of a model");
    else if (json_is_object(root))
        kv_identity_kind(identity, json_kind(root, whole));
    else if (json_is_array(root))
        kv_identity_kind(identity, KV_FILE_JSON), strcpy(identity->what, "a JSON list");
    json_decref(root);
    return *identity->what != '\0';
}

// ---- Configurations ------------------------------------------------------------------------------------

static const char *const train_keys[] = {
    "task:", "model:", "data:", "loss:", "predictor:", "base:", "aux:", NULL};
static const char *const eval_keys[] = {
    "systems:", "tasks:", "ttft:", "budgets:", "picture:", "bootstrap:", NULL};
static const char *const sweep_keys[] = {"grid:", "arms:", "prepare:", NULL};

// How many of the keys begin a line.
static int count_keys(const char *text, const char *const *keys) {
    int n = 0;
    for (; *keys; keys++)
        for (const char *at = text; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
            if (strncmp(at, *keys, strlen(*keys)) == 0) {
                n++;
                break;
            }
    return n;
}

// A line of prose may begin with such a word, so one alone says nothing; and keys of two programs in one file are
// somebody's mistake, not for us to guess about.
static kv_file_kind config_kind(const char *text) {
    static const char *const train[] = {"train:", NULL};
    const int n_train = count_keys(text, train_keys), n_eval = count_keys(text, eval_keys);
    const int n_sweep = count_keys(text, sweep_keys), trains = count_keys(text, train);
    if ((n_train > 0) + (n_eval > 0) + (n_sweep > 0) != 1) return KV_FILE_OTHER;
    if (n_train + (n_train > 0 ? trains : 0) >= 2) return KV_FILE_TRAIN_CONFIG;
    if (n_eval >= 2) return KV_FILE_EVAL_CONFIG;
    return n_sweep + trains >= 2 ? KV_FILE_SWEEP : KV_FILE_OTHER;
}

// ---- All of it -----------------------------------------------------------------------------------------

// What servers say instead of a file, in a line of their own.
static bool sounds_like_an_answer(const char *text) {
    static const char *const words[] = {"not found",    "denied", "forbidden",
                                        "unauthorized", "error",  "rate limit"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasestr(text, words[i])) return true;
    return false;
}

static void plain(const kv_head *head, const char *text, kv_identity *identity) {
    char said[KV_EXCERPT];
    const size_t length = strlen(text), line = strcspn(text, "\r\n");
    const bool all = head->whole && strspn(text + line, " \t\r\n") == length - line && line <= 120;
    kv_identity_kind(identity, !*text || *text == '{' || *text == '[' ? KV_FILE_TEXT : KV_FILE_PLAIN);
    if (!*text) {
        strcpy(identity->what, "nothing but white space");
        return;
    }
    kv_excerpt(text, line, all ? 120 : 40, said);
    snprintf(identity->what, sizeof identity->what, "%s \"%s\"",
             all ? "nothing but the text" : "a text that begins with", said);
    if (all && sounds_like_an_answer(text)) snprintf(identity->advice, sizeof identity->advice, "%s", again);
}

bool kv_identify_text(const kv_head *head, kv_identity *identity) {
    if (other_encoding(head, identity)) return true;
    if (!is_text(head->bytes, head->size, head->whole)) return false;
    const char *text = (const char *)head->bytes;
    if (page(text, identity)) return true;
    if (strncmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3;
    text += strspn(text, " \t\r\n");
    if ((*text == '{' || *text == '[') && json(head, text, identity)) return true;
    const kv_file_kind config = config_kind(text);
    if (config != KV_FILE_OTHER)
        kv_identity_kind(identity, config);
    else
        plain(head, text, identity);
    return true;
}
