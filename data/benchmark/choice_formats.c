// Prompts, choices and metrics as the EleutherAI evaluation harness has them (tasks arc, super_glue/boolq,
// hellaswag, piqa, sciq, winogrande), so that numbers can be compared with published ones.
#include "data/benchmark/choices.h"

#include "data/text/unicode.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef kv_status row_fn(const kv_json_file *row, kv_choice_item *item, kv_error *err);

// ---- Text ----------------------------------------------------------------------------------------------

static const char *skip_blank(const char *text) {
    kv_strip(&text, strlen(text));
    return text;
}

static void strip(char *text) {
    const char *start = text;
    const size_t length = kv_strip(&start, strlen(text));
    memmove(text, start, length);
    text[length] = '\0';
}

// Every `from`, left to right, becomes the no longer `to`, in place.
static void replace(char *text, const char *from, const char *to) {
    const size_t from_length = strlen(from), to_length = strlen(to);
    char *out = text;
    for (const char *in = text; *in;) {
        const bool found = strncmp(in, from, from_length) == 0;
        const size_t n = found ? to_length : 1;
        memmove(out, found ? to : in, n);
        in += found ? from_length : 1;
        out += n;
    }
    *out = '\0';
}

// Removes "[...]", each up to the first "]" of its line, in place.
static void remove_brackets(char *text) {
    char *out = text;
    for (const char *in = text; *in; in++) {
        const char *end = *in == '[' ? in + strcspn(in, "]\n") : NULL;
        if (end && *end == ']')
            in = end;
        else
            *out++ = *in;
    }
    *out = '\0';
}

void kv_hellaswag_clean(char *text) {
    strip(text);
    replace(text, " [title]", ". ");
    remove_brackets(text);
    replace(text, "  ", " ");
}

// ---- Fields --------------------------------------------------------------------------------------------

static kv_status out_of_memory(const kv_json_file *row, kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", row->path);
}

static kv_status get_text(const kv_json_file *row, const char *key, const char **text, kv_error *err) {
    *text = json_string_value(json_object_get(row->root, key));
    return *text ? KV_OK : kv_json_wrong(row, key, -1, "a string", err);
}

// The texts of keys[n], in order.
static kv_status get_texts(const kv_json_file *row, const char *const *keys, int n, const char **texts,
                           kv_error *err) {
    kv_status status = KV_OK;
    for (int i = 0; i < n && status == KV_OK; i++) status = get_text(row, keys[i], &texts[i], err);
    return status;
}

// Which of n answers is right: a number that starts at `first`, or the same as a string.
static kv_status get_gold(const kv_json_file *row, const char *key, int64_t first, int64_t n, int64_t *gold,
                          kv_error *err) {
    const json_t *value = json_object_get(row->root, key);
    const char *text = json_string_value(value);
    int64_t number = json_is_integer(value) ? json_integer_value(value) : first - 1;
    if (text && strlen(text) == 1 && isdigit((unsigned char)*text)) number = *text - '0';
    *gold = number - first;
    if (*gold >= 0 && *gold < n) return KV_OK;
    char expected[96];
    snprintf(expected, sizeof expected, "the right answer, a number from %lld to %lld (a split with answers)",
             (long long)first, (long long)(first + n - 1));
    return kv_json_wrong(row, key, -1, expected, err);
}

static bool set_choices(kv_choice_item *item, const char *const *texts, int64_t n) {
    item->choices = calloc((size_t)n, sizeof *item->choices);
    for (int64_t i = 0; item->choices && i < n; i++) {
        item->choices[i] = strdup(texts[i]);
        if (!item->choices[i]) return false;
        item->n_choices = i + 1;
    }
    return item->choices != NULL;
}

static char *join(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *join(const char *format, ...) {
    va_list args;
    char *text;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) text = NULL;
    va_end(args);
    return text;
}

// ---- Formats -------------------------------------------------------------------------------------------

// {"text": [...], "label": [...]}, lists of strings of one length.
static kv_status check_arc_choices(const kv_json_file *row, kv_json_file *choices, kv_error *err) {
    static const char *const keys[] = {"text", "label"};
    *choices = (kv_json_file){.root = json_object_get(row->root, "choices")};
    if (snprintf(choices->path, sizeof choices->path, "%s: 'choices'", row->path) < 0 ||
        !json_is_object(choices->root))
        return kv_json_wrong(row, "choices", -1, "an object with lists 'text' and 'label'", err);
    const size_t n = json_array_size(json_object_get(choices->root, "text"));
    for (int k = 0; k < 2; k++) {
        const json_t *list = json_object_get(choices->root, keys[k]);
        if (!json_is_array(list) || n < 2 || json_array_size(list) != n)
            return kv_json_wrong(choices, keys[k], -1,
                                 k ? "a list of as many labels as texts" : "a list of at least two strings",
                                 err);
        for (size_t i = 0; i < n; i++)
            if (!json_is_string(json_array_get(list, i)))
                return kv_json_wrong(choices, keys[k], (int64_t)i, "a string", err);
    }
    return KV_OK;
}

static kv_status read_arc(const kv_json_file *row, kv_choice_item *item, kv_error *err) {
    static const char *const keys[] = {"question", "answerKey"};
    const char *fields[2], *texts[KV_MAX_CHOICES];
    kv_json_file choices;
    kv_status status = get_texts(row, keys, 2, fields, err);
    if (status == KV_OK) status = check_arc_choices(row, &choices, err);
    if (status != KV_OK) return status;
    const json_t *text = json_object_get(choices.root, "text"),
                 *label = json_object_get(choices.root, "label");
    const size_t n = json_array_size(text);
    if (n > KV_MAX_CHOICES)
        return kv_fail(err, KV_ERR_FORMAT, "%s: %zu choices, expected at most %d", row->path, n,
                       KV_MAX_CHOICES);
    item->gold = -1;
    for (size_t i = n; i-- > 0;) {
        texts[i] = json_string_value(json_array_get(text, i));
        if (strcmp(json_string_value(json_array_get(label, i)), fields[1]) == 0) item->gold = (int64_t)i;
    }
    if (item->gold < 0) return kv_json_wrong(row, "answerKey", -1, "one of the choices' labels", err);
    item->context = join("Question: %s\nAnswer:", fields[0]);
    return item->context && set_choices(item, texts, (int64_t)n) ? KV_OK : out_of_memory(row, err);
}

// google/boolq says {"answer": true}, super_glue {"label": 1}.
static kv_status read_boolq(const kv_json_file *row, kv_choice_item *item, kv_error *err) {
    static const char *const keys[] = {"passage", "question"}, *const choices[] = {"no", "yes"};
    const char *fields[2];
    kv_status status = get_texts(row, keys, 2, fields, err);
    if (status != KV_OK) return status;
    bool answer = false;
    status = kv_json_bool(row, "answer", &answer, err);
    item->gold = answer;
    if (!kv_json_has(row, "answer")) status = get_gold(row, "label", 0, 2, &item->gold, err);
    if (status != KV_OK) return status;
    item->context = join("%s\nQuestion: %s?\nAnswer:", fields[0], fields[1]);
    return item->context && set_choices(item, choices, 2) ? KV_OK : out_of_memory(row, err);
}

enum { ENDINGS = 4 };

static kv_status read_hellaswag(const kv_json_file *row, kv_choice_item *item, kv_error *err) {
    static const char *const keys[] = {"activity_label", "ctx_a", "ctx_b"};
    const char *fields[3], *texts[ENDINGS];
    kv_status status = get_texts(row, keys, 3, fields, err);
    if (status != KV_OK) return status;
    const json_t *endings = json_object_get(row->root, "endings");
    if (!json_is_array(endings) || json_array_size(endings) != ENDINGS)
        return kv_json_wrong(row, "endings", -1, "a list of four strings", err);
    for (size_t i = 0; i < ENDINGS; i++) {
        texts[i] = json_string_value(json_array_get(endings, i));
        if (!texts[i]) return kv_json_wrong(row, "endings", (int64_t)i, "a string", err);
    }
    status = get_gold(row, "label", 0, ENDINGS, &item->gold, err);
    if (status != KV_OK) return status;
    kv_bytes ctx_b = {0};
    status = kv_capitalize(fields[2], strlen(fields[2]), &ctx_b, err);
    if (status == KV_OK) status = kv_bytes_add(&ctx_b, "", 1, err);
    if (status == KV_OK) item->context = join("%s: %s %s", fields[0], fields[1], ctx_b.data);
    kv_bytes_free(&ctx_b);
    if (status != KV_OK) return status;
    if (!item->context || !set_choices(item, texts, ENDINGS)) return out_of_memory(row, err);
    kv_hellaswag_clean(item->context);
    for (int64_t i = 0; i < ENDINGS; i++) kv_hellaswag_clean(item->choices[i]);
    return KV_OK;
}

static kv_status read_piqa(const kv_json_file *row, kv_choice_item *item, kv_error *err) {
    static const char *const keys[] = {"goal", "sol1", "sol2"};
    const char *fields[3];
    kv_status status = get_texts(row, keys, 3, fields, err);
    if (status == KV_OK) status = get_gold(row, "label", 0, 2, &item->gold, err);
    if (status != KV_OK) return status;
    item->context = join("Question: %s\nAnswer:", fields[0]);
    return item->context && set_choices(item, fields + 1, 2) ? KV_OK : out_of_memory(row, err);
}

// The right answer always comes last, so that a tie is never in its favour.
static kv_status read_sciq(const kv_json_file *row, kv_choice_item *item, kv_error *err) {
    static const char *const keys[] = {"support",     "question",    "distractor1",
                                       "distractor2", "distractor3", "correct_answer"};
    const char *fields[6];
    kv_status status = get_texts(row, keys, 6, fields, err);
    if (status != KV_OK) return status;
    item->gold = 3;
    item->context = join("%s\nQuestion: %s\nAnswer:", skip_blank(fields[0]), fields[1]);
    return item->context && set_choices(item, fields + 2, 4) ? KV_OK : out_of_memory(row, err);
}

// Partial evaluation: either option fills the blank, what follows it is scored.
//                                                                    [Trinh & Le 2018, section 3]
static kv_status read_winogrande(const kv_json_file *row, kv_choice_item *item, kv_error *err) {
    static const char *const keys[] = {"sentence", "option1", "option2"};
    const char *fields[3];
    kv_status status = get_texts(row, keys, 3, fields, err);
    if (status == KV_OK) status = get_gold(row, "answer", 1, 2, &item->gold, err);
    if (status != KV_OK) return status;
    const char *blank = strchr(fields[0], '_');
    if (!blank || !*skip_blank(blank + 1))
        return kv_json_wrong(row, "sentence", -1, "a sentence that goes on after a blank '_'", err);
    item->context = strndup(fields[0], (size_t)(blank - fields[0]));
    item->ending = strdup(blank + 1);
    if (!item->context || !item->ending || !set_choices(item, fields + 1, 2)) return out_of_memory(row, err);
    strip(item->ending);
    return KV_OK;
}

// ---- Kinds ---------------------------------------------------------------------------------------------

#define BY_ACC                                                                                               \
    { "acc", "acc_norm", "acc_bytes" }
#define BY_ACC_NORM                                                                                          \
    { "acc_norm", "acc", "acc_bytes" }
#define ONLY_ACC                                                                                             \
    { "acc" } // all choices are of one kind of length, or share what is scored

static const struct format {
    kv_choice_kind kind;
    row_fn *read;
    const char *id_key;
} formats[] = {
    {{"arc_challenge", BY_ACC_NORM}, read_arc, "id"}, {{"arc_easy", BY_ACC}, read_arc, "id"},
    {{"boolq", ONLY_ACC}, read_boolq, "idx"},         {{"hellaswag", BY_ACC_NORM}, read_hellaswag, "ind"},
    {{"piqa", BY_ACC_NORM}, read_piqa, "id"},         {{"sciq", BY_ACC}, read_sciq, "id"},
    {{"winogrande", ONLY_ACC}, read_winogrande, "id"}};
enum { N_FORMATS = sizeof formats / sizeof *formats };

const kv_choice_kind *kv_choice_kind_find(const char *name) {
    for (int i = 0; i < N_FORMATS; i++)
        if (strcmp(formats[i].kind.name, name) == 0) return &formats[i].kind;
    return NULL;
}

const kv_choice_kind *kv_choice_kind_at(int i) {
    return i < N_FORMATS ? &formats[i].kind : NULL;
}

// Ids are strings in some files, numbers in others, and missing in most.
static kv_status set_id(const kv_json_file *row, const char *key, kv_choice_item *item, kv_error *err) {
    const json_t *id = json_object_get(row->root, key);
    if (json_is_string(id))
        item->id = strdup(json_string_value(id));
    else if (json_is_integer(id))
        item->id = join("%" JSON_INTEGER_FORMAT, json_integer_value(id));
    else
        return KV_OK;
    return item->id ? KV_OK : out_of_memory(row, err);
}

kv_status kv_choice_row(const kv_choice_kind *kind, const kv_json_file *row, kv_choice_item *item,
                        kv_error *err) {
    const struct format *format = formats;
    while (&format->kind != kind) format++;
    kv_status status = format->read(row, item, err);
    return status == KV_OK ? set_id(row, format->id_key, item, err) : status;
}

void kv_choice_item_free(kv_choice_item *item) {
    for (int64_t i = 0; i < item->n_choices; i++) free(item->choices[i]);
    free(item->choices);
    free(item->where);
    free(item->id);
    free(item->preamble);
    free(item->context);
    free(item->ending);
    *item = (kv_choice_item){0};
}
