#include "data/checkpoint/pair.h"

#include "core/text.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/random.h"
#include "data/system/warning.h"
#include "data/tokenizer/directory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BASE, AUX, N_MODELS };

struct model {
    const char *role, *dir; // dir NULL: there is none
    kv_pair_part part;
    kv_model_spec *known; // the caller's; NULL: it has no use for one
    kv_model_spec spec;
    kv_tokenizer *own;    // opened when it was needed
    kv_tokenizer_id said; // its tokenizer_hash.json: what it was trained with
    bool says;
    bool wordless; // its tokenizer cannot be opened, which does not matter
};

struct check {
    const kv_pair *pair;
    struct model models[N_MODELS];
    // The tokenizer that tells what ids mean, from one of the above or `opened` here; NULL: unknown.
    const kv_tokenizer *used;
    const char *used_path;
    char used_name[512]; // "base DIR", "tokenizer PATH"
    kv_tokenizer *opened;
    kv_error *err;
};

static kv_status blame(const struct check *c, kv_pair_part part, kv_status status) {
    if (c->pair->blamed) *c->pair->blamed = part;
    return status;
}

// ---- Tokenizers ----------------------------------------------------------------------------------------

static bool has_tokenizer(const struct model *m) {
    return m->dir && !m->wordless && !kv_is_random_model(m->dir) && kv_tokenizer_present(m->dir);
}

// The file that kv_tokenizer_open would read.
static bool tokenizer_file(const char *path, char out[PATH_MAX]) {
    struct stat info;
    if (stat(path, &info) != 0) return false;
    return S_ISDIR(info.st_mode) ? kv_tokenizer_file(path, out)
                                 : snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
}

static bool same_bytes(FILE *a, FILE *b) {
    char x[1 << 14], y[sizeof x];
    for (;;) {
        const size_t n = fread(x, 1, sizeof x, a), m = fread(y, 1, sizeof y, b);
        if (n != m || memcmp(x, y, n) != 0 || ferror(a) || ferror(b)) return false;
        if (n == 0) return true;
    }
}

// Models of a family ship the same file, which saves parsing it: megabytes of JSON.
static bool same_file(const char *path, const char *other) {
    char a[PATH_MAX], b[PATH_MAX];
    struct stat x, y;
    if (!tokenizer_file(path, a) || !tokenizer_file(other, b) || stat(a, &x) != 0 || stat(b, &y) != 0)
        return false;
    if (x.st_dev == y.st_dev && x.st_ino == y.st_ino) return true;
    if (x.st_size != y.st_size) return false;
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    const bool same = f && g && same_bytes(f, g);
    if (f) fclose(f);
    if (g) fclose(g);
    return same;
}

static kv_status open_own(struct check *c, struct model *m) {
    if (m->own || m->wordless) return KV_OK;
    kv_status status = kv_tokenizer_open(m->dir, &m->own, c->err);
    m->wordless = c->pair->ids_only && status == KV_ERR_FORMAT;
    if (m->wordless) {
        kv_warn("%s %s: its tokenizer is not compared: %s", m->role, m->dir, c->err ? c->err->message : "");
        return KV_OK;
    }
    return status ? blame(c, m->part, kv_fail_within(c->err, status, "%s", m->role)) : KV_OK;
}

static kv_status read_said(struct check *c, struct model *m) {
    if (!m->dir || kv_is_random_model(m->dir)) return KV_OK;
    kv_status status = kv_tokenizer_id_read(m->dir, &m->said, &m->says, c->err);
    return status ? blame(c, m->part, kv_fail_within(c->err, status, "%s", m->role)) : KV_OK;
}

static void use_own(struct check *c, const struct model *m) {
    c->used = m->own;
    c->used_path = m->dir;
    snprintf(c->used_name, sizeof c->used_name, "%s %s", m->role, m->dir);
}

static kv_tokenizer_id shard_id(const struct check *c) {
    const kv_shard_info *info = c->pair->shard_info;
    kv_tokenizer_id id = {.vocab_size = info->vocab_size};
    memcpy(id.hash, info->tokenizer, sizeof id.hash);
    memcpy(id.cuts, info->cuts, sizeof id.cuts);
    return id;
}

// Fine-tuned models come with files that were saved anew, and slow and fast tokenizers are two files of one: other
// files alone are no fault. Other ids for the same text may be one, but not one that is certain; unless there are more
// tokens on one side, which then are not only added ones: a vocabulary of more merges begins as one of fewer does.
static kv_status judge_cuts(const struct check *c, kv_pair_part part, const kv_tokenizer_id *a,
                            const kv_tokenizer_id *b, const char *name, const char *whose) {
    if (!kv_tokenizer_cuts_differ(a, b)) return KV_OK;
    if (a->vocab_size != b->vocab_size)
        return blame(
            c, part,
            kv_fail(c->err, KV_ERR_MISMATCH,
                    "%s: its tokenizer of %lld tokens begins as that of the %s, of %lld, but cuts text into "
                    "others: expected the same one, or one with added tokens alone",
                    name, (long long)a->vocab_size, whose, (long long)b->vocab_size));
    kv_warn(
        "%s: its tokenizer has the same tokens as that of the %s, but cuts text into others (other merges, "
        "normalisation or splitting); a model that reads other tokens than it was trained on answers worse: use "
        "one tokenizer for all",
        name, whose);
    return KV_OK;
}

static kv_status judge_models(const struct check *c, const struct model *m, const kv_tokenizer_id *its,
                              const kv_tokenizer_id *used, const char *whose) {
    char name[512];
    snprintf(name, sizeof name, "%s %s", m->role, m->dir);
    return judge_cuts(c, m->part, its, used, name, whose);
}

static kv_status other_shard(struct check *c, const char *expected, const char *whose) {
    return blame(c, KV_PAIR_SHARD,
                 kv_fail(c->err, KV_ERR_MISMATCH,
                         "shard %s was made with another tokenizer, %s; expected %s, that of the %s",
                         c->pair->shard, c->pair->shard_info->tokenizer, expected, whose));
}

// Of the models' own tokenizers the one the shard was made with.
static kv_status use_shards(struct check *c) {
    const kv_tokenizer_id id = shard_id(c);
    const struct model *first = NULL;
    char whose[512];
    for (int i = 0; i < N_MODELS && !c->used; i++) {
        struct model *m = &c->models[i];
        if (!has_tokenizer(m)) continue;
        kv_status status = open_own(c, m);
        if (status) return status;
        if (!first) first = m;
        if (strcmp(kv_tokenizer_hash(m->own), id.hash) == 0) use_own(c, m);
    }
    if (c->used || !first) return KV_OK;
    snprintf(whose, sizeof whose, "%s %s", first->role, first->dir);
    return other_shard(c, kv_tokenizer_hash(first->own), whose);
}

static kv_status use_given(struct check *c) {
    const kv_pair *p = c->pair;
    kv_status status = KV_OK;
    if (!p->opened) status = kv_tokenizer_open(p->tokenizer, &c->opened, c->err);
    if (status) return blame(c, KV_PAIR_TOKENIZER, kv_fail_within(c->err, status, "tokenizer"));
    c->used = p->opened ? p->opened : c->opened;
    c->used_path = p->tokenizer;
    snprintf(c->used_name, sizeof c->used_name, "tokenizer %s", p->tokenizer);
    if (!p->shard_info) return KV_OK;
    const kv_tokenizer_id id = shard_id(c);
    if (strcmp(kv_tokenizer_hash(c->used), id.hash) == 0) return KV_OK;
    return other_shard(c, kv_tokenizer_hash(c->used), c->used_name);
}

static kv_status compare_cuts(const struct check *c, const struct model *m) {
    kv_tokenizer_id own, used;
    kv_tokenizer_identify(m->own, &own);
    kv_tokenizer_identify(c->used, &used);
    return judge_models(c, m, &own, &used, c->used_name);
}

static kv_status find_used(struct check *c) {
    if (c->pair->tokenizer) return use_given(c);
    if (c->pair->shard_info) return use_shards(c);
    struct model *base = &c->models[BASE];
    if (!has_tokenizer(base)) return KV_OK;
    kv_status status = open_own(c, base);
    if (base->own) use_own(c, base);
    return status;
}

// A name for a token that no text holds.
static bool is_hole(const char *piece) {
    static const char reserved[] = "<|reserved_special_token_";
    return !piece || strncmp(piece, reserved, sizeof reserved - 1) == 0;
}

// A piece in a line of text: short, nothing that moves the cursor.
static const char *show(const char *piece, char out[64]) {
    enum { LONGEST = 48 };
    const size_t n = strlen(piece), cut = (size_t)kv_text_head(piece, LONGEST);
    for (size_t i = 0; i < cut; i++) {
        const unsigned char byte = (unsigned char)piece[i];
        out[i] = byte < ' ' || byte == 127 ? '?' : piece[i];
    }
    strcpy(out + cut, cut < n ? "..." : "");
    return out;
}

// The pieces of the model's own tokenizer against those of the one that is used.
static kv_status compare_tokenizers(struct check *c, struct model *m) {
    if (m->own == c->used || same_file(m->dir, c->used_path)) return KV_OK;
    kv_status status = open_own(c, m);
    if (status || !m->own) return status;
    const int64_t n = kv_tokenizer_vocab_size(m->own), n_used = kv_tokenizer_vocab_size(c->used);
    for (int32_t id = 0; id < n && id < n_used; id++) {
        const char *found = kv_tokenizer_piece(m->own, id), *expected = kv_tokenizer_piece(c->used, id);
        char a[64], b[64];
        if (is_hole(found) || is_hole(expected) || strcmp(found, expected) == 0) continue;
        return blame(c, m->part,
                     kv_fail(c->err, KV_ERR_MISMATCH, "%s %s: token %d is '%s', expected '%s' as in the %s",
                             m->role, m->dir, (int)id, show(found, a), show(expected, b), c->used_name));
    }
    return compare_cuts(c, m);
}

static kv_status other_said(struct check *c, const struct model *m, const kv_tokenizer_id *found,
                            const char *whose) {
    return blame(
        c, m->part,
        kv_fail(
            c->err, KV_ERR_MISMATCH,
            "%s %s was trained with another tokenizer: found %s of %lld tokens, that of the %s; expected %s "
            "of %lld, as its tokenizer_hash.json says",
            m->role, m->dir, found->hash, (long long)found->vocab_size, whose, m->said.hash,
            (long long)m->said.vocab_size));
}

// What a model says that it was trained with, against the tokenizer that it has got, or that is used.
static kv_status compare_with(struct check *c, const struct model *m, const kv_tokenizer *tokenizer,
                              const char *whose) {
    kv_tokenizer_id found;
    kv_tokenizer_identify(tokenizer, &found);
    if (!kv_tokenizer_is(tokenizer, &m->said)) return other_said(c, m, &found, whose);
    return judge_models(c, m, &m->said, &found, whose);
}

// Where no tokenizer is at hand: against that of the shard, or what the base says.
static kv_status compare_saids(struct check *c, const struct model *m) {
    const struct model *base = &c->models[BASE];
    const bool shard = c->pair->shard_info != NULL;
    char whose[512];
    if (!shard && (m == base || !base->says)) return KV_OK;
    const kv_tokenizer_id found = shard ? shard_id(c) : base->said;
    snprintf(whose, sizeof whose, "%s %s", shard ? "shard" : base->role, shard ? c->pair->shard : base->dir);
    if (strcmp(found.hash, m->said.hash) != 0) return other_said(c, m, &found, whose);
    return judge_models(c, m, &m->said, &found, whose);
}

// An aux with a tokenizer beside a base that only says which one it was trained with.
static kv_status compare_auxs(struct check *c, struct model *aux) {
    char whose[512];
    kv_status status = open_own(c, aux);
    if (status || !aux->own) return status;
    snprintf(whose, sizeof whose, "%s %s", aux->role, aux->dir);
    return compare_with(c, &c->models[BASE], aux->own, whose);
}

static kv_status check_model(struct check *c, struct model *m) {
    const bool has = has_tokenizer(m);
    kv_status status = KV_OK;
    if (has && c->used)
        status = compare_tokenizers(c, m);
    else if (has && c->models[BASE].says)
        status = compare_auxs(c, m);
    if (!status) status = read_said(c, m);
    if (status || !m->says) return status;
    if (has && m->own) return KV_OK; // it said so as it was opened
    return c->used ? compare_with(c, m, c->used, c->used_name) : compare_saids(c, m);
}

static kv_status check_tokenizers(struct check *c) {
    kv_status status = find_used(c);
    for (int i = 0; i < N_MODELS && !status; i++) status = check_model(c, &c->models[i]);
    if (status || !c->used || !c->pair->shard_info) return status;
    const kv_tokenizer_id shard = shard_id(c);
    kv_tokenizer_id used;
    kv_tokenizer_identify(c->used, &used);
    char name[512];
    snprintf(name, sizeof name, "shard %s", c->pair->shard);
    return judge_cuts(c, KV_PAIR_SHARD, &shard, &used, name, c->used_name);
}

// ---- Vocabularies --------------------------------------------------------------------------------------

static kv_status check_table(struct check *c, const struct model *m, int64_t n_ids, const char *whose) {
    if (m->spec.vocab_size >= n_ids) return KV_OK;
    return blame(c, m->part,
                 kv_fail(c->err, KV_ERR_MISMATCH,
                         "%s %s: vocabulary of %lld tokens, expected at least the %lld of the %s", m->role,
                         m->dir, (long long)m->spec.vocab_size, (long long)n_ids, whose));
}

static kv_status check_vocabularies(struct check *c) {
    const struct model *base = &c->models[BASE], *aux = &c->models[AUX];
    const kv_pair *p = c->pair;
    char shard[512];
    kv_status status = KV_OK;
    const bool of_used =
        c->used && p->shard_info && strcmp(kv_tokenizer_hash(c->used), p->shard_info->tokenizer) == 0;
    snprintf(shard, sizeof shard, "shard %s", p->shard);
    for (int i = 0; i < N_MODELS && !status && c->models[i].dir; i++) {
        if (c->used) status = check_table(c, &c->models[i], kv_tokenizer_words(c->used), c->used_name);
        if (!status && p->shard_info && !of_used)
            status = check_table(c, &c->models[i], p->shard_info->vocab_size, shard);
    }
    if (status || c->used || p->shard_info || !aux->dir || aux->spec.vocab_size == base->spec.vocab_size)
        return status;
    return blame(
        c, KV_PAIR_AUX,
        kv_fail(c->err, KV_ERR_MISMATCH,
                "aux %s: vocabulary of %lld tokens, expected %lld as in the base %s (no tokenizer is "
                "known that would say what is padding)",
                aux->dir, (long long)aux->spec.vocab_size, (long long)base->spec.vocab_size, base->dir));
}

// What begins and ends the shard's documents against what does for the model. Either may have none.
static kv_status check_special(struct check *c, const struct model *m) {
    const kv_shard_info *shard = c->pair->shard_info;
    const kv_model_spec *spec = &m->spec;
    const char *name = NULL;
    int32_t found = -1, expected = -1;
    if (shard->bos_id >= 0 && spec->bos_id >= 0 && shard->bos_id != spec->bos_id)
        name = "bos_id", found = spec->bos_id, expected = shard->bos_id;
    else if (shard->eos_id >= 0 && spec->eos_id >= 0 && !kv_spec_ends(spec, shard->eos_id))
        name = "eos_id", found = spec->eos_id, expected = shard->eos_id;
    if (!name) return KV_OK;
    return blame(c, m->part,
                 kv_fail(c->err, KV_ERR_MISMATCH, "%s %s: %s %d, expected %d as in the shard %s", m->role,
                         m->dir, name, (int)found, (int)expected, c->pair->shard));
}

// ---- Shapes --------------------------------------------------------------------------------------------

static kv_status check_context(struct check *c, const struct model *m) {
    if (c->pair->n_tokens <= m->spec.context_length) return KV_OK;
    return blame(c, KV_PAIR_CONTEXT,
                 kv_fail(c->err, KV_ERR_MISMATCH,
                         "found %lld tokens, expected at most the context of the %s %s, %lld",
                         (long long)c->pair->n_tokens, m->role, m->dir, (long long)m->spec.context_length));
}

// A predictor has an aux, unless the base's own first layers are what it reads.
static kv_status check_aux(const struct check *c) {
    const kv_pair *p = c->pair;
    int64_t prefix = 0;
    kv_status status = p->predictor ? kv_predictor_prefix(p->predictor, &prefix, c->err) : KV_OK;
    if (status &&
        !p->aux) // with an aux, kv_predictor_check says it, unless a mapping makes up for what is not there
        return blame(c, KV_PAIR_PREDICTOR, kv_fail_within(c->err, status, "predictor"));
    if (p->aux && prefix > 0)
        return blame(c, KV_PAIR_AUX,
                     kv_fail(c->err, KV_ERR_MISMATCH,
                             "aux %s: found beside the predictor %s, which reads the base's own first %lld "
                             "layers (prefix_layers), expected no aux",
                             p->aux, p->predictor, (long long)prefix));
    if (p->aux || (!p->predictor && !p->mapping) || (prefix > 0 && !p->mapping)) return KV_OK;
    if (prefix > 0)
        return blame(c, KV_PAIR_MAPPING,
                     kv_fail(c->err, KV_ERR_ARGUMENT,
                             "mapping: found beside the predictor %s, which reads the base's own first "
                             "layers, expected none",
                             p->predictor));
    if (!p->predictor)
        return blame(c, KV_PAIR_AUX,
                     kv_fail(c->err, KV_ERR_ARGUMENT, "a mapping needs an aux beside the model %s", p->base));
    return blame(c, KV_PAIR_AUX,
                 kv_fail(c->err, KV_ERR_ARGUMENT,
                         "the predictor %s needs an aux beside the base %s: only those of the base's own "
                         "first layers (prefix_layers in predictor.json) need none",
                         p->predictor, p->base));
}

static kv_status check_predictor(struct check *c) {
    const kv_pair *p = c->pair;
    const kv_model_spec *base = &c->models[BASE].spec, *aux = p->aux ? &c->models[AUX].spec : NULL;
    kv_status status = check_aux(c);
    if (status) return status;
    if (p->mapping)
        status = kv_mapping_check(p->mapping, p->n_mapping, base->n_layers, aux->n_layers, c->err);
    if (status) return blame(c, KV_PAIR_MAPPING, kv_fail_within(c->err, status, "mapping"));
    if (p->predictor) status = kv_predictor_check(p->predictor, base, aux, p->mapping, c->err);
    return status ? blame(c, KV_PAIR_PREDICTOR, kv_fail_within(c->err, status, "predictor")) : KV_OK;
}

static kv_status read_spec(struct check *c, struct model *m) {
    if (m->known && m->known->n_layers > 0) {
        m->spec = *m->known;
        return KV_OK;
    }
    kv_status status = kv_checkpoint_spec(m->dir, &m->spec, c->err);
    if (!status) status = kv_model_spec_check(&m->spec, c->err);
    if (status) return blame(c, m->part, kv_fail_within(c->err, status, "%s", m->role));
    if (m->known) *m->known = m->spec;
    return KV_OK;
}

kv_status kv_pair_check(const kv_pair *pair, kv_error *err) {
    struct check *c = calloc(1, sizeof *c);
    if (!c) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    c->pair = pair, c->err = err;
    c->models[BASE] = (struct model){
        .role = pair->aux || pair->predictor ? "base" : "model", .dir = pair->base, .known = pair->base_spec};
    c->models[AUX] =
        (struct model){.role = "aux", .dir = pair->aux, .part = KV_PAIR_AUX, .known = pair->aux_spec};
    kv_status status = KV_OK;
    for (int i = 0; i < N_MODELS && !status; i++)
        if (c->models[i].dir) status = read_spec(c, &c->models[i]);
    if (!status) status = check_tokenizers(c);
    if (!status) status = check_vocabularies(c);
    for (int i = 0; i < N_MODELS && !status; i++) {
        if (!c->models[i].dir) continue;
        status = check_context(c, &c->models[i]);
        if (!status && pair->shard_info) status = check_special(c, &c->models[i]);
    }
    if (!status) status = check_predictor(c);
    for (int i = 0; i < N_MODELS; i++) kv_tokenizer_free(c->models[i].own);
    kv_tokenizer_free(c->opened);
    free(c);
    return status;
}
