// Which words passages are made of, and what they cost in tokens: measured, since no tokenizer says how it splits.
#include "data/synthetic/recall.h"

#include "data/synthetic/recall_text.h"
#include "data/system/buffers.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const kv_recall_list[] = {
    "aunt",  "baby",  "bag",   "ball",  "band",  "bank",  "barn",  "bath",  "beam",  "bean",  "bear",
    "bed",   "bee",   "bell",  "belt",  "bench", "bike",  "bird",  "boat",  "body",  "bolt",  "bone",
    "book",  "boot",  "bowl",  "box",   "brick", "bus",   "bush",  "cage",  "cake",  "calf",  "camp",
    "cap",   "car",   "card",  "cart",  "case",  "cat",   "cave",  "chair", "chalk", "cheek", "chest",
    "chin",  "city",  "clay",  "clock", "cloth", "cloud", "club",  "coal",  "coast", "coat",  "coin",
    "cook",  "cord",  "corn",  "cow",   "crab",  "crown", "cup",   "dance", "dawn",  "day",   "deck",
    "deer",  "desk",  "dew",   "dish",  "dog",   "doll",  "door",  "dove",  "drum",  "duck",  "dust",
    "ear",   "earth", "edge",  "egg",   "elbow", "eye",   "face",  "fan",   "farm",  "fern",  "field",
    "film",  "fire",  "fish",  "flag",  "floor", "flour", "flute", "foam",  "fog",   "food",  "foot",
    "fork",  "fox",   "frame", "frog",  "fruit", "game",  "gate",  "gift",  "glass", "glove", "goat",
    "gold",  "goose", "grain", "grape", "grass", "guest", "hair",  "hall",  "hand",  "hat",   "hawk",
    "head",  "heart", "heel",  "hen",   "hill",  "hive",  "home",  "honey", "hook",  "horn",  "horse",
    "hotel", "house", "ice",   "ink",   "iron",  "jam",   "jar",   "jaw",   "jewel", "juice", "key",
    "king",  "kite",  "knee",  "knife", "knot",  "lake",  "lamb",  "lamp",  "land",  "leaf",  "leg",
    "lemon", "light", "lily",  "lime",  "lion",  "lip",   "lock",  "log",   "loom",  "map",   "mask",
    "meal",  "meat",  "milk",  "mill",  "mint",  "moon",  "moss",  "moth",  "mouse", "mouth", "mud",
    "music", "nail",  "neck",  "nest",  "net",   "night", "nose",  "note",  "nut",   "oak",   "ocean",
    "olive", "onion", "oven",  "owl",   "page",  "paint", "palm",  "paper", "park",  "path",  "pear",
    "pen",   "piano", "pig",   "pine",  "pipe",  "plane", "plant", "plate", "plum",  "pond",  "pony",
    "pot",   "queen", "rain",  "ring",  "river", "road",  "robe",  "rock",  "roof",  "room",  "root",
    "rope",  "rose",  "sail",  "salt",  "sand",  "sea",   "seed",  "shade", "ship",  "shoe",  "shop",
    "silk",  "skin",  "sky",   "snow",  "soap",  "sock",  "soup",  "star",  "sun",   "tail",  "tea",
    "tent",  "toad",  "town",  "tree",  "vase",  "wall",  "wave",  "wind",  "wine",  "wing",  "wolf",
    "wood",  "wool",  "yard",  NULL,
};
enum { N_LIST = sizeof kv_recall_list / sizeof *kv_recall_list - 1 };
static_assert(N_LIST == 256, "as many as the header says");

// Words of the frame are no keys.
static const char *const taken[] = {"remember", "what"};

enum { SHORTEST_WORD = 3, LONGEST_WORD = 24 };

// ---- Tokens --------------------------------------------------------------------------------------------

// A word, a mark and a line end are one each.
static int64_t count_marks(const char *text) {
    int64_t n = 0;
    bool within = false;
    for (; *text; text++) {
        const bool letter = *text >= 'A' && *text <= 'z';
        n += letter ? !within : *text != ' ';
        within = letter;
    }
    return n;
}

kv_status kv_recall_count(const kv_recall *recall, const char *text, int64_t *n, kv_error *err) {
    if (!recall->tokenizer) {
        *n = count_marks(text) + 1;
        return KV_OK;
    }
    int32_t *ids;
    kv_status status = kv_tokenizer_encode(recall->tokenizer, text, strlen(text), &ids, n, err);
    if (status) return status;
    free(ids);
    *n += kv_tokenizer_bos(recall->tokenizer) >= 0;
    return KV_OK;
}

// A passage of one word alone: n statements, and a question; with its answer, if `answered`.
static kv_status count_frame(const kv_recall *recall, const char *word, int key_words, int n, bool answered,
                             int64_t *tokens, kv_error *err) {
    kv_bytes text = {0};
    char key[2 * LONGEST_WORD + 2];
    snprintf(key, sizeof key, key_words == 2 ? "%s %s" : "%s", word, word);
    kv_status status = kv_recall_put_head(&text, err);
    for (int i = 0; i < n && !status; i++) status = kv_recall_put_statement(&text, key, word, err);
    if (!status) status = kv_recall_put_question(&text, key, err);
    if (!status)
        status =
            answered ? kv_recall_put_statement(&text, key, word, err) : kv_recall_put_key(&text, key, err);
    if (!status) status = kv_recall_count(recall, text.data, tokens, err);
    kv_bytes_free(&text);
    return status;
}

static kv_status measure_frame(kv_recall *recall, int key_words, kv_error *err) {
    const char *word = recall->words[0];
    const bool eos = !recall->tokenizer || kv_tokenizer_eos(recall->tokenizer) >= 0;
    kv_recall_costs *costs = &recall->costs[key_words - 1];
    kv_bytes head = {0};
    int64_t longer, text;
    kv_status status = count_frame(recall, word, key_words, 1, false, &costs->prompt, err);
    if (!status) status = count_frame(recall, word, key_words, 2, false, &longer, err);
    if (!status) status = count_frame(recall, word, key_words, 1, true, &text, err);
    if (!status) status = kv_recall_put_head(&head, err);
    if (!status) status = kv_recall_count(recall, head.data, &costs->head, err);
    kv_bytes_free(&head);
    if (status) return status;
    costs->statement = longer - costs->prompt;
    costs->question = text - costs->head - costs->statement;
    costs->head += eos;
    return KV_OK;
}

// What a word takes beyond the first one, by the difference it makes to a passage.
static kv_status measure_words(kv_recall *recall, kv_error *err) {
    recall->extra = calloc((size_t)recall->n_words, sizeof *recall->extra);
    if (!recall->extra) return kv_fail(err, KV_ERR_MEMORY, "out of memory for words");
    enum { PLACES = 4 }; // key and value of a statement, twice the key of the question
    for (int64_t i = 0; !recall->from_vocabulary && i < recall->n_words; i++) {
        int64_t first, tokens;
        kv_status status = count_frame(recall, recall->words[0], 1, 1, false, &first, err);
        if (!status) status = count_frame(recall, recall->words[i], 1, 1, false, &tokens, err);
        if (status) return status;
        const int64_t extra = (tokens - first) / PLACES;
        recall->extra[i] = extra;
        if (extra > recall->most_extra) recall->most_extra = extra;
        if (extra < recall->least_extra) recall->least_extra = extra;
    }
    return KV_OK;
}

// ---- Words ---------------------------------------------------------------------------------------------

static kv_status add_word(kv_recall *recall, const char *word, size_t length, kv_error *err) {
    char **more = kv_room_for_one(recall->words, (size_t)recall->n_words, sizeof *more);
    if (more) recall->words = more;
    char *copy = more ? strndup(word, length) : NULL;
    if (!copy) return kv_fail(err, KV_ERR_MEMORY, "out of memory for words");
    more[recall->n_words++] = copy;
    return KV_OK;
}

// " word": a space and letters alone.
static bool is_word(const char *text, size_t length) {
    if (length < 1 + SHORTEST_WORD || length > LONGEST_WORD || text[0] != ' ') return false;
    for (size_t i = 1; i < length; i++)
        if (text[i] < 'a' || text[i] > 'z') return false;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (strcmp(text + 1, taken[i]) == 0) return false;
    return true;
}

// Whether the word is this token at each of its places in a passage.
static kv_status is_one_token(const kv_recall *recall, const char *word, int32_t id, bool *one,
                              kv_error *err) {
    enum { PLACES = 4 };
    kv_bytes text = {0};
    int32_t *ids = NULL;
    int64_t n = 0, found = 0;
    kv_status status = kv_recall_put_head(&text, err);
    if (!status) status = kv_recall_put_statement(&text, word, word, err);
    if (!status) status = kv_recall_put_question(&text, word, err);
    if (!status) status = kv_recall_put_key(&text, word, err);
    if (!status) status = kv_tokenizer_encode(recall->tokenizer, text.data, text.length, &ids, &n, err);
    for (int64_t i = 0; i < n && !status; i++) found += ids[i] == id;
    *one = found == PLACES;
    free(ids);
    kv_bytes_free(&text);
    return status;
}

static kv_status take_vocabulary(kv_recall *recall, kv_error *err) {
    const int64_t n = kv_tokenizer_vocab_size(recall->tokenizer);
    for (int64_t id = 0; id < n; id++) {
        if (!kv_tokenizer_piece(recall->tokenizer, (int32_t)id)) continue;
        char *text;
        size_t length;
        bool one = false;
        kv_status status =
            kv_decode_continuation(recall->tokenizer, &(int32_t){(int32_t)id}, 1, &text, &length, err);
        if (status) return status;
        if (is_word(text, length)) status = is_one_token(recall, text + 1, (int32_t)id, &one, err);
        if (!status && one) status = add_word(recall, text + 1, length - 1, err);
        free(text);
        if (status) return status;
    }
    recall->from_vocabulary = recall->n_words >= KV_RECALL_MIN_WORDS;
    return KV_OK;
}

// All but the first n.
static void forget_words(kv_recall *recall, int64_t n) {
    while (recall->n_words > n) free(recall->words[--recall->n_words]);
}

static kv_status take_list(kv_recall *recall, kv_error *err) {
    kv_status status = KV_OK;
    forget_words(recall, 0);
    free(recall->words);
    recall->words = NULL; // kv_room_for_one counts from none
    for (int i = 0; i < N_LIST && !status; i++)
        status = add_word(recall, kv_recall_list[i], strlen(kv_recall_list[i]), err);
    return status;
}

kv_status kv_recall_open(const kv_tokenizer *tokenizer, int64_t most_words, uint64_t seed, kv_recall *recall,
                         kv_error *err) {
    *recall = (kv_recall){.tokenizer = tokenizer, .seed = seed};
    kv_status status = tokenizer ? kv_tokenizer_speaks(tokenizer, err) : KV_OK;
    if (!status && tokenizer) status = take_vocabulary(recall, err);
    if (!status && !recall->from_vocabulary) status = take_list(recall, err);
    if (!status && most_words > 0) forget_words(recall, most_words);
    for (int key_words = 1; key_words <= 2 && !status; key_words++)
        status = measure_frame(recall, key_words, err);
    if (!status) status = measure_words(recall, err);
    if (status) kv_recall_free(recall);
    return status;
}

void kv_recall_free(kv_recall *recall) {
    forget_words(recall, 0);
    free(recall->words);
    free(recall->extra);
    *recall = (kv_recall){0};
}
