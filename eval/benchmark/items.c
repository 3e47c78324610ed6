// Systems are compared on the same items, so that what is too long for one of them is left out, or cut, for all. Which
// they are is known from tokens and contexts alone, before any weights are read.
#include "eval/benchmark/items.h"

#include "data/file/hash.h"
#include "data/system/warning.h"
#include "eval/benchmark/benchmark.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- One item ------------------------------------------------------------------------------------------

void kv_item_free(kv_item *item) {
    free(item->ids);
    free(item->lengths);
    free(item->n_scored);
    *item = (kv_item){0};
}

static kv_status out_of_memory(const char *where, kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where ? where : "an item");
}

kv_status kv_item_add(kv_item *item, const int32_t *ids, int64_t n, int64_t n_scored, kv_error *err) {
    const size_t n_seq = (size_t)item->n_seq + 1;
    int64_t *lengths = realloc(item->lengths, n_seq * sizeof *lengths);
    if (lengths) item->lengths = lengths;
    int64_t *scored = realloc(item->n_scored, n_seq * sizeof *scored);
    if (scored) item->n_scored = scored;
    int32_t *more = realloc(item->ids, (size_t)(item->n_ids + n) * sizeof *more + 1);
    if (more) item->ids = more;
    if (!lengths || !scored || !more) return out_of_memory(item->where, err);
    memcpy(more + item->n_ids, ids, (size_t)n * sizeof *ids);
    lengths[item->n_seq] = n, scored[item->n_seq] = n_scored;
    item->n_ids += n, item->n_seq++;
    return KV_OK;
}

kv_status kv_item_add_prompt(kv_item *item, const kv_prompting *prompting, const char *text, kv_error *err) {
    int32_t *ids;
    int64_t n;
    kv_status status = kv_prompt_ids(prompting, text, &ids, &n, err);
    if (status != KV_OK) return kv_fail_within(err, status, "%s", item->where);
    status = kv_item_add(item, ids, n, 0, err);
    free(ids);
    return status;
}

kv_status kv_item_add_begun(kv_item *item, const kv_prompting *prompting, const char *text, const char *asked,
                            const char *begun, kv_error *err) {
    if (!prompting->chat) return kv_item_add_prompt(item, prompting, text, err);
    int32_t *ids = NULL, *alone = NULL;
    int64_t n = 0, n_alone = 0;
    kv_status status = kv_prompt_answer_ids(prompting, asked, begun, &ids, &n, err);
    if (status == KV_OK) status = kv_prompt_ids(prompting, asked, &alone, &n_alone, err);
    if (status != KV_OK) kv_fail_within(err, status, "%s", item->where);
    if (status == KV_OK) status = kv_item_add(item, ids, n, 0, err);
    item->begun = n - n_alone;
    free(alone);
    free(ids);
    return status;
}

int64_t kv_item_prompt(const kv_item *item) {
    int64_t most = 0;
    for (int64_t s = 0; s < item->n_seq; s++)
        if (item->lengths[s] - item->n_scored[s] > most) most = item->lengths[s] - item->n_scored[s];
    return most;
}

int64_t kv_item_longest(const kv_item *item) {
    int64_t most = 0;
    for (int64_t s = 0; s < item->n_seq; s++)
        if (item->lengths[s] > most) most = item->lengths[s];
    return most;
}

// Tokens that may go from every sequence with at least one of each prompt's text left.
static int64_t dispensable(const kv_benchmark *b, const kv_item *item) {
    int64_t least = INT64_MAX;
    for (int64_t s = 0; s < item->n_seq; s++) {
        const int64_t prompt = item->lengths[s] - item->n_scored[s] - item->begun - b->front - b->back - 1;
        if (prompt < least) least = prompt;
    }
    return least;
}

// `front` tokens stay before those that go.
static void cut(kv_item *item, int64_t n, int64_t front) {
    int32_t *from = item->ids, *to = item->ids;
    for (int64_t s = 0; s < item->n_seq; s++) {
        const int64_t length = item->lengths[s];
        memmove(to, from, (size_t)front * sizeof *to);
        memmove(to + front, from + front + n, (size_t)(length - n - front) * sizeof *to);
        from += length, to += length - n;
        item->lengths[s] -= n, item->n_ids -= n;
    }
    item->cut = n;
}

bool kv_record_cut(json_t *record, const kv_item *item) {
    return item->cut == 0 || json_object_set_new(record, "cut", json_integer(item->cut)) == 0;
}

// ---- All of a benchmark --------------------------------------------------------------------------------

kv_status kv_items_make(kv_benchmark *b, const kv_prompting *prompting, int64_t answer_tokens,
                        kv_error *err) {
    b->answer_tokens = answer_tokens;
    b->prompting = *prompting;
    b->items = calloc((size_t)b->n_items + 1, sizeof *b->items);
    b->prompt_tokens = calloc((size_t)b->n_items + 1, sizeof *b->prompt_tokens);
    if (!b->items || !b->prompt_tokens) return out_of_memory(b->config->file, err);
    for (int64_t i = 0; i < b->n_items; i++) b->items[i].row = i;
    kv_status status = kv_prompt_hash(prompting, &b->chat, err);
    return status == KV_OK ? kv_prompt_frame(prompting, &b->front, &b->back, err) : status;
}

void kv_items_measure(kv_benchmark *b) {
    b->longest = 0;
    for (int64_t i = 0; i < b->n_items; i++) {
        const int64_t needed = kv_item_longest(&b->items[i]) + b->answer_tokens;
        b->prompt_tokens[i] = kv_item_prompt(&b->items[i]);
        if (needed > b->longest) b->longest = needed;
    }
}

void kv_items_hash(kv_benchmark *b, uint64_t way, kv_item_hash_fn *item) {
    if (b->chat) way = kv_hash64(way, &b->chat, sizeof b->chat);
    uint64_t all = way;
    for (int64_t i = 0; i < b->n_items; i++) {
        all = item(b, i, all);
        b->items[i].hash = item(b, i, way);
    }
    b->way = way;
    kv_hash_text(all, b->hash);
}

uint64_t kv_item_key(const kv_item *item) {
    return item->cut ? kv_hash64(item->hash, &item->cut, sizeof item->cut) : item->hash;
}

void kv_items_free(kv_benchmark *b) {
    for (int64_t i = 0; b->items && i < b->n_items; i++) kv_item_free(&b->items[i]);
    free(b->items);
    free(b->prompt_tokens);
    json_decref(b->skipped);
}

// ---- What does not fit ---------------------------------------------------------------------------------

// The items that are too long, and of all of them what must be said.
struct excess {
    int64_t n, n_uncut;   // items; of them those of which cutting would leave nothing
    const kv_item *worst; // the longest
    const kv_item *uncut; // the first that cannot be cut
};

static int64_t over(const kv_benchmark *b, const kv_fit *fit, const kv_item *item) {
    return kv_item_longest(item) + b->answer_tokens - fit->context;
}

static struct excess find_excess(const kv_benchmark *b, const kv_fit *fit) {
    struct excess e = {0};
    for (int64_t i = 0; i < b->n_items; i++) {
        const kv_item *item = &b->items[i];
        if (over(b, fit, item) <= 0) continue;
        e.n++;
        if (!e.worst || kv_item_longest(item) > kv_item_longest(e.worst)) e.worst = item;
        if (dispensable(b, item) >= over(b, fit, item)) continue;
        e.n_uncut++;
        if (!e.uncut) e.uncut = item;
    }
    return e;
}

// "FILE:LINE: prompt and answer of 90 tokens (86 + 4) do not fit the context of 64 tokens of `base`".
static int say_excess(char *text, size_t size, const kv_benchmark *b, const kv_fit *fit,
                      const kv_item *item) {
    int64_t s = 0;
    while (item->lengths[s] < kv_item_longest(item)) s++;
    const int64_t answer = item->n_scored[s] + b->answer_tokens,
                  prompt = item->lengths[s] - item->n_scored[s];
    return snprintf(text, size,
                    "%s: %s of %lld tokens (%lld + %lld) do not fit the context of %lld tokens of %s",
                    item->where, b->answer_tokens ? "prompt and answer" : "context and choice",
                    (long long)(prompt + answer), (long long)prompt, (long long)answer,
                    (long long)(fit->context > 0 ? fit->context : 0), fit->whose);
}

static const char *shorter(const kv_benchmark *b) {
    return b->answer_tokens ? "a smaller `max_tokens`" : "shorter choices";
}

// What else could be done: of shorter answers or choices is said only where there is room for them.
static const char *other_way(const kv_benchmark *b, const kv_fit *fit) {
    bool room = false;
    for (int64_t i = 0; i < b->n_items; i++) room = room || kv_item_prompt(&b->items[i]) < fit->context;
    if (room) return shorter(b);
    return b->config->shots ? "fewer `shots`" : "a model with a longer context";
}

static kv_status refuse(const kv_benchmark *b, const kv_fit *fit, const struct excess *e, kv_error *err) {
    const bool can_skip = e->n < b->n_items, can_cut = e->n_uncut == 0;
    char text[700], ways[200];
    say_excess(text, sizeof text, b, fit, e->worst);
    if (!can_skip && !can_cut)
        return kv_fail(err, KV_ERR_RANGE, "%s, and so it is with all %lld items: expected %s", text,
                       (long long)b->n_items, other_way(b, fit));
    snprintf(ways, sizeof ways, "%s%s%s", can_skip ? "`too_long: skip` leaves them out" : "",
             can_skip && can_cut ? ", " : "", can_cut ? "`too_long: cut` cuts prompts from the left" : "");
    return kv_fail(err, KV_ERR_RANGE, "%s; so it is with %lld of %lld items: %s, as in -s '%s.too_long=%s'",
                   text, (long long)e->n, (long long)b->n_items, ways, fit->key, can_skip ? "skip" : "cut");
}

static kv_status refuse_to_cut(const kv_benchmark *b, const kv_fit *fit, const struct excess *e,
                               kv_error *err) {
    char text[700];
    say_excess(text, sizeof text, b, fit, e->uncut);
    return kv_fail(err, KV_ERR_RANGE,
                   "%s, and cut from the left nothing of the prompt would be left (%lld of %lld items): "
                   "expected %s%s",
                   text, (long long)e->n_uncut, (long long)b->n_items, shorter(b),
                   e->n < b->n_items ? ", or `too_long: skip`" : "");
}

static kv_status skip_all(const kv_benchmark *b, const kv_fit *fit, const struct excess *e, kv_error *err) {
    char text[700];
    say_excess(text, sizeof text, b, fit, e->worst);
    return kv_fail(err, KV_ERR_RANGE,
                   "%s, and so it is with all %lld items: skipped, none is left; expected %s%s", text,
                   (long long)b->n_items, other_way(b, fit), e->n_uncut ? "" : ", or `too_long: cut`");
}

// What is known of an item that is left out.
static bool keep_note(kv_benchmark *b, const kv_item *item) {
    json_t *note = json_object();
    bool ok = json_object_set_new(note, "item", kv_record_text(item->where)) == 0;
    ok = ok &&
         json_object_set_new(note, "tokens", json_integer(kv_item_longest(item) + b->answer_tokens)) == 0;
    if (item->length > 0)
        ok = ok && json_object_set_new(note, "length", json_integer(item->length)) == 0 &&
             json_object_set_new(note, "depth", json_real(item->depth)) == 0;
    return json_array_append_new(b->skipped, note) == 0 && ok;
}

static kv_status skip(kv_benchmark *b, const kv_fit *fit, kv_error *err) {
    const int64_t units = b->n_units / b->n_items;
    int64_t kept = 0;
    bool noted = (b->skipped = json_array()) != NULL;
    for (int64_t i = 0; i < b->n_items; i++) {
        kv_item *item = &b->items[i];
        if (over(b, fit, item) > 0) {
            noted = keep_note(b, item) && noted;
            kv_item_free(item);
            b->n_skipped++;
        } else {
            b->items[kept++] = *item;
        }
    }
    b->n_items = kept, b->n_units = kept * units;
    return noted ? KV_OK : out_of_memory(b->config->file, err);
}

static void cut_all(kv_benchmark *b, const kv_fit *fit) {
    for (int64_t i = 0; i < b->n_items; i++) {
        const int64_t n = over(b, fit, &b->items[i]);
        if (n <= 0) continue;
        cut(&b->items[i], n, b->front);
        b->n_cut++;
    }
}

// Another choice of items, or prompts cut elsewhere, is another task.
static void hash_what_is_left(kv_benchmark *b) {
    uint64_t hash = kv_hash64(0, b->hash, strlen(b->hash));
    for (int64_t i = 0; i < b->n_items; i++) {
        const int64_t numbers[] = {b->items[i].row, b->items[i].cut};
        hash = kv_hash64(hash, numbers, sizeof numbers);
    }
    kv_hash_text(hash, b->hash);
}

kv_status kv_benchmark_fit(kv_benchmark *b, const kv_fit *fit, kv_error *err) {
    const struct excess e = find_excess(b, fit);
    const kv_too_long way = b->config->too_long;
    char text[700];
    if (b->ops->fit) return b->ops->fit(b, fit, err);
    if (e.n == 0) return KV_OK;
    if (way == KV_TOO_LONG_REFUSE) return refuse(b, fit, &e, err);
    if (way == KV_TOO_LONG_SKIP && e.n == b->n_items) return skip_all(b, fit, &e, err);
    if (way == KV_TOO_LONG_CUT && e.n_uncut > 0) return refuse_to_cut(b, fit, &e, err);
    say_excess(text, sizeof text, b, fit, e.worst);
    kv_warn("%s: %s; `too_long: %s` %s %lld of %lld items, for all systems", fit->key, text,
            way == KV_TOO_LONG_SKIP ? "skip" : "cut",
            way == KV_TOO_LONG_SKIP ? "leaves out" : "cuts from the left the prompts of", (long long)e.n,
            (long long)b->n_items);
    kv_status status = KV_OK;
    if (way == KV_TOO_LONG_SKIP)
        status = skip(b, fit, err);
    else
        cut_all(b, fit);
    kv_items_measure(b);
    hash_what_is_left(b);
    return status;
}
