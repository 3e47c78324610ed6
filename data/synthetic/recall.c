// Passages: what is drawn depends on names of streams alone, how much of it is used on what fits.
#include "data/synthetic/recall.h"

#include "core/rng.h"
#include "data/synthetic/recall_text.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- The frame -----------------------------------------------------------------------------------------

static kv_status put(kv_bytes *text, const char *const *parts, int n, kv_error *err) {
    kv_status status = KV_OK;
    for (int i = 0; i < n && !status; i++) status = kv_bytes_add(text, parts[i], strlen(parts[i]), err);
    if (!status) status = kv_bytes_add(text, "", 1, err);
    if (!status) text->length--;
    return status;
}

kv_status kv_recall_put_head(kv_bytes *text, kv_error *err) {
    return put(text, (const char *const[]){"Remember:"}, 1, err);
}

kv_status kv_recall_put_statement(kv_bytes *text, const char *key, const char *value, kv_error *err) {
    return put(text, (const char *const[]){" ", key, " is ", value, "."}, 5, err);
}

kv_status kv_recall_put_question(kv_bytes *text, const char *key, kv_error *err) {
    return put(text, (const char *const[]){"\nWhat is ", key, "?"}, 3, err);
}

kv_status kv_recall_put_key(kv_bytes *text, const char *key, kv_error *err) {
    return put(text, (const char *const[]){" ", key, " is"}, 3, err);
}

// ---- What is drawn -------------------------------------------------------------------------------------

// Of the words every other one, from the first on, is for keys, the others for values: n of each. Key i is the one at
// order[i mod n], with more keys than words and a second one behind it that makes it distinct.
struct draw {
    const kv_recall *recall;
    kv_rng values, questions;
    int64_t n, *order, *second; // [n]
    int key_words;
};

static kv_status draw_begin(struct draw *draw, const kv_recall *recall, const char *name, int key_words,
                            kv_error *err) {
    char stream[160];
    const int64_t n = recall->n_words / 2;
    *draw = (struct draw){.recall = recall, .n = n, .key_words = key_words};
    draw->order = calloc(2 * (size_t)n, sizeof *draw->order);
    if (!draw->order) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a passage");
    draw->second = draw->order + n;
    snprintf(stream, sizeof stream, "recall.keys.%s", name);
    kv_rng_permutation(kv_rng_stream(recall->seed, stream), n, draw->order);
    snprintf(stream, sizeof stream, "recall.second.%s", name);
    if (key_words == 2) kv_rng_permutation(kv_rng_stream(recall->seed, stream), n, draw->second);
    snprintf(stream, sizeof stream, "recall.values.%s", name);
    draw->values = kv_rng_stream(recall->seed, stream);
    snprintf(stream, sizeof stream, "recall.questions.%s", name);
    draw->questions = kv_rng_stream(recall->seed, stream);
    return KV_OK;
}

static void draw_end(struct draw *draw) {
    free(draw->order);
}

static int64_t first_word(const struct draw *draw, int64_t i) {
    return 2 * draw->order[i % draw->n];
}

static int64_t second_word(const struct draw *draw, int64_t i) {
    return 2 * draw->second[(i % draw->n + i / draw->n) % draw->n];
}

static int64_t value_word(const struct draw *draw, int64_t i) {
    return 2 * (int64_t)kv_rng_below(draw->values, (uint64_t)i, (uint64_t)draw->n) + 1;
}

static void key_text(const struct draw *draw, int64_t i, char *text, size_t size) {
    char *const *words = draw->recall->words;
    if (draw->key_words == 2)
        snprintf(text, size, "%s %s", words[first_word(draw, i)], words[second_word(draw, i)]);
    else
        snprintf(text, size, "%s", words[first_word(draw, i)]);
}

enum { KEY_SIZE = 64 };

static kv_status put_statement(const struct draw *draw, int64_t i, kv_bytes *text, kv_error *err) {
    char key[KEY_SIZE];
    key_text(draw, i, key, sizeof key);
    return kv_recall_put_statement(text, key, draw->recall->words[value_word(draw, i)], err);
}

// "What is wolf? wolf is", with the value behind it or without.
static kv_status put_question(const struct draw *draw, int64_t i, bool answered, kv_bytes *text,
                              kv_error *err) {
    char key[KEY_SIZE];
    key_text(draw, i, key, sizeof key);
    kv_status status = kv_recall_put_question(text, key, err);
    if (status) return status;
    return answered ? put_statement(draw, i, text, err) : kv_recall_put_key(text, key, err);
}

static kv_status put_passage(const struct draw *draw, int64_t n, kv_bytes *text, kv_error *err) {
    text->length = 0;
    kv_status status = kv_recall_put_head(text, err);
    for (int64_t i = 0; i < n && !status; i++) status = put_statement(draw, i, text, err);
    return status;
}

// ---- What fits -----------------------------------------------------------------------------------------

static int64_t key_extra(const struct draw *draw, int64_t i) {
    const int64_t *extra = draw->recall->extra;
    return extra[first_word(draw, i)] + (draw->key_words == 2 ? extra[second_word(draw, i)] : 0);
}

static int64_t statement_cost(const struct draw *draw, int64_t i) {
    const kv_recall *recall = draw->recall;
    return recall->costs[draw->key_words - 1].statement + key_extra(draw, i) +
           recall->extra[value_word(draw, i)];
}

// The question says its key twice.
static int64_t question_cost(const struct draw *draw, int64_t i) {
    const kv_recall *recall = draw->recall;
    return recall->costs[draw->key_words - 1].question + 2 * key_extra(draw, i) +
           recall->extra[value_word(draw, i)];
}

int64_t kv_recall_shortest(const kv_recall *recall) {
    return recall->costs[0].prompt + 4 * recall->most_extra;
}

int64_t kv_recall_shortest_text(const kv_recall *recall) {
    const kv_recall_costs *costs = &recall->costs[1];
    return costs->head + costs->statement + costs->question + 7 * recall->most_extra;
}

// Keys of one word are distinct as long as there are no more of them than words.
static int key_words_for(const kv_recall *recall, int64_t length) {
    const int64_t cheapest = recall->costs[0].statement + 2 * recall->least_extra;
    const int64_t most = (length - recall->costs[0].prompt) / (cheapest > 1 ? cheapest : 1) + 1;
    return most > recall->n_words / 2 ? 2 : 1;
}

static int64_t asked_of(int64_t n, double depth) {
    return llround(depth * (double)(n - 1));
}

// By the costs of words the most statements that fit, at least one.
static int64_t statements_for(const struct draw *draw, int64_t length, double depth) {
    const kv_recall_costs *costs = &draw->recall->costs[draw->key_words - 1];
    const int64_t head = costs->prompt - costs->statement;
    int64_t n = 0, tokens = head, best = 1;
    // Behind the first that does not fit one more may: by its question, which is about another word.
    const int64_t slack = 4 * (draw->recall->most_extra - draw->recall->least_extra);
    while (tokens <= length + slack) {
        tokens += statement_cost(draw, n++);
        if (tokens + 2 * key_extra(draw, asked_of(n, depth)) <= length) best = n;
    }
    return best;
}

static kv_status try_statements(const struct draw *draw, int64_t n, double depth, kv_bytes *text,
                                int64_t *tokens, kv_error *err) {
    kv_status status = put_passage(draw, n, text, err);
    if (!status) status = put_question(draw, asked_of(n, depth), false, text, err);
    return status ? status : kv_recall_count(draw->recall, text->data, tokens, err);
}

// The tokenizer has the last word: costs of words add up in most, but nothing makes them.
static kv_status fill(const struct draw *draw, int64_t length, double depth, kv_bytes *text, int64_t *n,
                      int64_t *tokens, kv_error *err) {
    *n = statements_for(draw, length, depth);
    kv_status status = try_statements(draw, *n, depth, text, tokens, err);
    while (!status && *tokens + statement_cost(draw, *n) <= length)
        status = try_statements(draw, ++*n, depth, text, tokens, err);
    while (!status && *tokens > length && *n > 1)
        status = try_statements(draw, --*n, depth, text, tokens, err);
    if (!status && *tokens > length)
        status = kv_fail(err, KV_ERR_RANGE,
                         "length %" PRIi64 ": one statement and its question are %" PRIi64 " tokens", length,
                         *tokens);
    return status;
}

kv_status kv_recall_make(const kv_recall *recall, int64_t length, double depth, int64_t number,
                         kv_recall_item *item, kv_error *err) {
    char name[96], key[KEY_SIZE];
    struct draw draw;
    kv_bytes text = {0};
    *item = (kv_recall_item){0};
    snprintf(name, sizeof name, "item.%" PRIi64 ".%.17g.%" PRIi64, length, depth, number);
    kv_status status = draw_begin(&draw, recall, name, key_words_for(recall, length), err);
    if (!status) status = fill(&draw, length, depth, &text, &item->n_statements, &item->tokens, err);
    if (!status) {
        item->asked = asked_of(item->n_statements, depth);
        key_text(&draw, item->asked, key, sizeof key);
        item->prompt = text.data, text = (kv_bytes){0};
        item->key = strdup(key);
        item->answer = strdup(recall->words[value_word(&draw, item->asked)]);
        if (!item->key || !item->answer) status = kv_fail(err, KV_ERR_MEMORY, "out of memory for a passage");
    }
    draw_end(&draw);
    kv_bytes_free(&text);
    if (status) kv_recall_item_free(item);
    return status;
}

void kv_recall_item_free(kv_recall_item *item) {
    free(item->prompt);
    free(item->answer);
    free(item->key);
    *item = (kv_recall_item){0};
}

// ---- Training texts ------------------------------------------------------------------------------------

// A text under way.
struct text {
    struct draw draw;
    kv_bytes written;
    int64_t left; // tokens
};

// From two, between which one can be mistaken, to what leaves room for a question; small numbers more often, whose answers
// are what is learnt first.
static int64_t choose_statements(const struct text *text) {
    const kv_recall_costs *costs = &text->draw.recall->costs[text->draw.key_words - 1];
    const int64_t most = (text->left - costs->question) / costs->statement;
    const double times = log((double)(most + 1) / 2);
    int64_t n = (int64_t)(2 * exp(kv_rng_uniform(text->draw.questions, 0) * times));
    if (n > text->draw.n) n = text->draw.n; // keys of one word
    return n > most ? most : n < 1 ? 1 : n;
}

// The beginning of a question: so many words, marks and line ends.
static void cut_behind(kv_bytes *text, size_t from, int64_t n) {
    size_t at = from;
    for (; at < text->length && n > 0; n--) {
        while (text->data[at] == ' ') at++;
        if (isalpha((unsigned char)text->data[at++]))
            while (isalpha((unsigned char)text->data[at])) at++;
    }
    text->data[at] = '\0', text->length = at;
}

// Questions about n statements in a random order, round after round; the last is cut off where the text is full.
static kv_status put_questions(struct text *text, int64_t n, kv_error *err) {
    int64_t *order = calloc((size_t)n, sizeof *order);
    kv_status status = order ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for a passage");
    for (int64_t q = 0; !status && text->left > 0; q++) {
        if (q % n == 0) {
            kv_rng round = text->draw.questions;
            round.stream += 1 + (uint64_t)(q / n);
            kv_rng_permutation(round, n, order);
        }
        const int64_t cost = question_cost(&text->draw, order[q % n]);
        const size_t before = text->written.length;
        status = put_question(&text->draw, order[q % n], true, &text->written, err);
        if (!status && cost > text->left) cut_behind(&text->written, before, text->left);
        text->left -= cost;
    }
    free(order);
    return status;
}

kv_status kv_recall_text(const kv_recall *recall, const char *stream, int64_t length, int64_t number,
                         char **text, kv_error *err) {
    char name[96];
    struct text t = {0};
    *text = NULL;
    snprintf(name, sizeof name, "%s.%" PRIi64 ".%" PRIi64, stream, length, number);
    kv_status status = draw_begin(&t.draw, recall, name, 1, err);
    if (!status) {
        t.left = length - recall->costs[t.draw.key_words - 1].head;
        const int64_t n = choose_statements(&t);
        for (int64_t i = 0; i < n; i++) t.left -= statement_cost(&t.draw, i);
        status = put_passage(&t.draw, n, &t.written, err);
        if (!status) status = put_questions(&t, n, err);
    }
    draw_end(&t.draw);
    if (status)
        kv_bytes_free(&t.written);
    else
        *text = t.written.data;
    return status;
}
