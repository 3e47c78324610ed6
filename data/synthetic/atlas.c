// Which facts are asked about. A question whose facts disagree is dropped, and the choice is made in each
// kind by its own shuffle, so that a smaller corpus with the same seed is a part of the larger one.
#include "data/synthetic/atlas.h"

#include "core/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

const char *kv_fact_kind_name(kv_fact_kind kind) {
    static const char *const names[KV_FACT_KINDS] = {"subdivision",   "country_code",  "country_number",
                                                     "currency_name", "currency_code", "currency_number",
                                                     "language_name"};
    return kind >= 0 && kind < KV_FACT_KINDS ? names[kind] : "unknown";
}

char *kv_fact_text(const kv_fact *fact) {
    char *text = NULL;
    return asprintf(&text, "Question: %s\nAnswer: %s\n", fact->question, fact->answer) < 0 ? NULL : text;
}

static void free_fact(kv_fact *fact) {
    for (int64_t i = 0; i < fact->n_aliases; i++) free(fact->aliases[i]);
    free(fact->aliases);
    free(fact->question);
    free(fact->answer);
    *fact = (kv_fact){0};
}

void kv_atlas_free(kv_atlas *atlas) {
    for (int64_t i = 0; i < atlas->n; i++) free_fact(&atlas->facts[i]);
    free(atlas->facts);
    *atlas = (kv_atlas){0};
}

// ---- One answer to every question ----------------------------------------------------------------------

struct asked {
    const char *question;
    int64_t first; // the fact that asks it first
    bool ambiguous;
    UT_hash_handle hh;
};

// Marks in `keep` the first fact of each question whose facts all give the same answer.
static bool mark_unambiguous(const kv_atlas *atlas, bool *keep) {
    struct asked *all = NULL, *entries = calloc((size_t)atlas->n + 1, sizeof *entries), *known;
    if (!entries) return false;
    for (int64_t i = 0; i < atlas->n; i++) {
        const kv_fact *fact = &atlas->facts[i];
        HASH_FIND_STR(all, fact->question, known);
        if (known) {
            known->ambiguous |= strcmp(atlas->facts[known->first].answer, fact->answer) != 0;
            continue;
        }
        entries[i] = (struct asked){.question = fact->question, .first = i};
        HASH_ADD_KEYPTR(hh, all, entries[i].question, strlen(entries[i].question), &entries[i]);
    }
    for (known = all; known; known = known->hh.next) keep[known->first] = !known->ambiguous;
    HASH_CLEAR(hh, all);
    free(entries);
    return true;
}

static kv_status drop_ambiguous(kv_atlas *atlas, kv_error *err) {
    bool *keep = calloc((size_t)atlas->n + 1, sizeof *keep);
    if (!keep || !mark_unambiguous(atlas, keep)) {
        free(keep);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the facts");
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < atlas->n; i++) {
        if (!keep[i]) {
            free_fact(&atlas->facts[i]);
            continue;
        }
        kv_fact fact = atlas->facts[i];
        fact.number = atlas->available[fact.kind]++;
        atlas->facts[kept++] = fact;
    }
    atlas->n = kept;
    free(keep);
    return KV_OK;
}

// ---- Choosing and splitting ----------------------------------------------------------------------------

// Splits `total` in proportion to weights (whose sum is at least total) by largest remainders; none gets more
// than its weight.
static void apportion(int64_t total, const int64_t weights[KV_FACT_KINDS], int64_t parts[KV_FACT_KINDS]) {
    int64_t sum = 0, left = total;
    double remainder[KV_FACT_KINDS];
    for (int k = 0; k < KV_FACT_KINDS; k++) sum += weights[k];
    for (int k = 0; k < KV_FACT_KINDS; k++) {
        double exact = sum ? (double)total * (double)weights[k] / (double)sum : 0;
        parts[k] = (int64_t)exact;
        remainder[k] = exact - (double)parts[k];
        left -= parts[k];
    }
    for (; left > 0; left--) {
        int best = -1;
        for (int k = 0; k < KV_FACT_KINDS; k++)
            if (parts[k] < weights[k] && (best < 0 || remainder[k] > remainder[best])) best = k;
        if (best < 0) return;
        parts[best]++;
        remainder[best] -= 1;
    }
}

// rank[i]: place of fact i within its kind in that kind's seeded shuffle. Ranks below the kind's quota are
// chosen, so a smaller choice with the same seed is a part of the larger one.
static bool rank_facts(const kv_atlas *atlas, int64_t *rank) {
    int64_t *permutation = malloc((size_t)(atlas->n + 1) * sizeof *permutation);
    if (!permutation) return false;
    for (int kind = 0; kind < KV_FACT_KINDS; kind++) {
        char name[64];
        snprintf(name, sizeof name, "atlas %s", kv_fact_kind_name((kv_fact_kind)kind));
        kv_rng_permutation(kv_rng_stream(atlas->seed, name), atlas->available[kind], permutation);
        for (int64_t i = 0; i < atlas->n; i++)
            if (atlas->facts[i].kind == (kv_fact_kind)kind) rank[i] = permutation[atlas->facts[i].number];
    }
    free(permutation);
    return true;
}

static bool shuffle(kv_atlas *atlas) {
    int64_t *permutation = malloc((size_t)(atlas->n + 1) * sizeof *permutation);
    kv_fact *shuffled = malloc((size_t)(atlas->n + 1) * sizeof *shuffled);
    if (permutation && shuffled) {
        kv_rng_permutation(kv_rng_stream(atlas->seed, "atlas order"), atlas->n, permutation);
        for (int64_t i = 0; i < atlas->n; i++) shuffled[i] = atlas->facts[permutation[i]];
        memcpy(atlas->facts, shuffled, (size_t)atlas->n * sizeof *shuffled);
    }
    bool ok = permutation && shuffled;
    free(permutation);
    free(shuffled);
    return ok;
}

static kv_status choose(kv_atlas *atlas, int64_t n_facts, kv_error *err) {
    int64_t *rank = malloc((size_t)(atlas->n + 1) * sizeof *rank);
    if (!rank || !rank_facts(atlas, rank)) {
        free(rank);
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the facts");
    }
    apportion(n_facts, atlas->available, atlas->chosen);
    apportion(llround(atlas->held_out_fraction * (double)n_facts), atlas->chosen, atlas->held_out);
    int64_t kept = 0;
    for (int64_t i = 0; i < atlas->n; i++) {
        kv_fact fact = atlas->facts[i];
        if (rank[i] >= atlas->chosen[fact.kind]) {
            free_fact(&atlas->facts[i]);
            continue;
        }
        fact.held_out = rank[i] < atlas->held_out[fact.kind];
        atlas->facts[kept++] = fact;
    }
    atlas->n = kept;
    free(rank);
    return shuffle(atlas) ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the facts");
}

kv_status kv_atlas_build(const char *directory, int64_t n_facts, double held_out_fraction, uint64_t seed,
                         kv_atlas *atlas, kv_error *err) {
    *atlas = (kv_atlas){.seed = seed, .held_out_fraction = held_out_fraction};
    if (!(held_out_fraction >= 0 && held_out_fraction < 1))
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "the held-out fraction is %g, expected at least 0 and less than 1", held_out_fraction);
    if (n_facts < 1 && n_facts != -1)
        return kv_fail(err, KV_ERR_ARGUMENT, "%" PRIi64 " facts asked for, expected at least 1", n_facts);
    kv_status status = kv_atlas_read_facts(directory, atlas, err);
    if (!status) status = drop_ambiguous(atlas, err);
    if (!status && (n_facts > atlas->n || atlas->n == 0))
        status =
            kv_fail(err, KV_ERR_ARGUMENT, "%" PRIi64 " facts asked for, but the lists in %s give %" PRIi64,
                    n_facts, directory, atlas->n);
    if (!status) status = choose(atlas, n_facts == -1 ? atlas->n : n_facts, err);
    if (status) kv_atlas_free(atlas);
    return status;
}
