// Reads the ISO code lists into all facts they give. Most of it is leaving out: a fact is of use only when
// its question has one answer.
#include "data/synthetic/atlas.h"

#include "core/text.h"
#include "data/file/content.h"
#include "data/file/hash.h"
#include "data/file/json.h"
#include "data/file/path.h"
#include "data/system/buffers.h"

#include <ctype.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

static const size_t max_file_bytes = (size_t)64 << 20;
enum {
    max_name_bytes = 40
}; // longer entries are descriptions ("Codes specifically reserved for ..."), not names

// ---- Reading the lists ---------------------------------------------------------------------------------

struct list {
    char path[PATH_MAX];
    json_t *root, *entries;
};

static kv_status open_list(const char *directory, const char *name, const char *key, kv_atlas *atlas,
                           int source, struct list *list, kv_error *err) {
    *list = (struct list){0};
    int length = snprintf(list->path, sizeof list->path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof list->path) return kv_path_too_long(directory, err);
    char *content = NULL;
    size_t size = 0;
    kv_status status = kv_read_file(list->path, max_file_bytes, &content, &size, err);
    if (status) {
        char found[sizeof err->message] = "";
        if (err) memcpy(found, err->message, sizeof found);
        return kv_fail(err, status, "%.*s (the ISO lists come with the package iso-codes)",
                       KV_HEAD(found, 700));
    }
    atlas->sources[source].name = name;
    kv_hash_text(kv_hash64(0, content, size), atlas->sources[source].hash);
    json_error_t fault;
    list->root = kv_json_parse(content, size, 0, &fault);
    free(content);
    if (!list->root)
        return kv_fail(err, KV_ERR_FORMAT, "%s:%d: not valid JSON (%s)", list->path, fault.line, fault.text);
    list->entries = json_object_get(list->root, key);
    if (!json_is_array(list->entries))
        return kv_fail(err, KV_ERR_FORMAT, "%s: expected a list \"%s\"", list->path, key);
    return KV_OK;
}

static const char *field(const json_t *entry, const char *key) {
    const char *value = json_string_value(json_object_get(entry, key));
    return value && *value ? value : NULL;
}

// Whether a name can stand in a question and be generated whole as an answer.
static bool tidy(const char *name) {
    size_t length = name ? strlen(name) : 0;
    if (length < 2 || length > max_name_bytes || !isalpha((unsigned char)name[0])) return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c >= 0x80 || !(isalnum(c) || strchr(" -'", c))) return false;
    }
    return name[length - 1] != ' ';
}

// ---- Adding a fact -------------------------------------------------------------------------------------

static kv_fact *new_fact(kv_atlas *atlas) {
    kv_fact *more = kv_room_for_one(atlas->facts, (size_t)atlas->n, sizeof *more);
    if (!more) return NULL;
    atlas->facts = more;
    kv_fact *fact = &more[atlas->n++];
    *fact = (kv_fact){0};
    return fact;
}

static bool is_known_answer(const kv_fact *fact, const char *name) {
    bool known = strcmp(fact->answer, name) == 0;
    for (int64_t i = 0; !known && i < fact->n_aliases; i++) known = strcmp(fact->aliases[i], name) == 0;
    return known;
}

static bool fill_aliases(kv_fact *fact, const char *const *aliases) {
    size_t n = 0;
    while (aliases[n]) n++;
    fact->aliases = calloc(n, sizeof *fact->aliases);
    for (size_t i = 0; fact->aliases && i < n; i++) {
        if (is_known_answer(fact, aliases[i])) continue;
        char *copy = strdup(aliases[i]);
        if (!copy) return false;
        fact->aliases[fact->n_aliases++] = copy;
    }
    return fact->aliases != NULL;
}

// aliases is NULL or ends in a NULL.
static kv_status add_fact(kv_atlas *atlas, kv_fact_kind kind, const char *subject, const char *answer,
                          const char *const *aliases, kv_error *err) {
    static const char *const before[KV_FACT_KINDS] = {
        "In which country is ",
        "Which country has the code ",
        "What is the ISO number of ",
        "Which currency has the code ",
        "What is the code of the currency ",
        "What is the ISO number of the currency ",
        "Which language has the code ",
    };
    kv_fact *fact = new_fact(atlas);
    if (!fact) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the facts");
    fact->kind = kind;
    size_t size = strlen(before[kind]) + strlen(subject) + 2;
    fact->question = malloc(size);
    fact->answer = strdup(answer);
    if (!fact->question || !fact->answer) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the facts");
    snprintf(fact->question, size, "%s%s?", before[kind], subject);
    if (aliases && aliases[0] && !fill_aliases(fact, aliases))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for the facts");
    return KV_OK;
}

// ---- Countries and their parts -------------------------------------------------------------------------

struct country {
    char code[3];
    const char *name, *formal, *official; // in the JSON; name is the common one where there is one
};

struct countries {
    struct list list;
    struct country *items;
    size_t n;
};

// A name, lower case, and the country it belongs to; "" where several countries share it.
struct place {
    char *name;
    char code[3];
    UT_hash_handle hh;
};

static kv_status read_countries(const char *directory, kv_atlas *atlas, struct countries *countries,
                                kv_error *err) {
    kv_status status = open_list(directory, "iso_3166-1.json", "3166-1", atlas, 0, &countries->list, err);
    if (status) return status;
    size_t n = json_array_size(countries->list.entries);
    countries->items = calloc(n + 1, sizeof *countries->items);
    if (!countries->items) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the countries");
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(countries->list.entries, i);
        const char *code = field(entry, "alpha_2"), *name = field(entry, "name"),
                   *number = field(entry, "numeric");
        if (!code || strlen(code) != 2 || !name || !number)
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s: entry %zu: expected \"alpha_2\", \"name\" and \"numeric\"",
                           countries->list.path, i);
        struct country *country = &countries->items[countries->n++];
        const char *common = field(entry, "common_name");
        memcpy(country->code, code, 3);
        country->name = common ? common : name;
        country->formal = name;
        country->official = field(entry, "official_name");
    }
    return KV_OK;
}

static kv_status add_country_answer(kv_atlas *atlas, kv_fact_kind kind, const char *subject,
                                    const struct country *country, kv_error *err) {
    const char *aliases[3] = {country->formal, country->official, NULL};
    return add_fact(atlas, kind, subject, country->name, aliases, err);
}

static kv_status add_countries(kv_atlas *atlas, const struct countries *countries, kv_error *err) {
    kv_status status = KV_OK;
    for (size_t i = 0; !status && i < countries->n; i++) {
        const struct country *country = &countries->items[i];
        if (!tidy(country->name)) continue;
        const char *number = field(json_array_get(countries->list.entries, i), "numeric");
        status = add_country_answer(atlas, KV_FACT_COUNTRY_CODE, country->code, country, err);
        if (!status) status = add_fact(atlas, KV_FACT_COUNTRY_NUMBER, country->name, number, NULL, err);
    }
    return status;
}

static const struct country *find_country(const struct countries *countries, const char *subdivision_code) {
    for (size_t i = 0; i < countries->n; i++)
        if (strncmp(countries->items[i].code, subdivision_code, 2) == 0 && subdivision_code[2] == '-')
            return &countries->items[i];
    return NULL;
}

// Notes that `name` is a place in country `code`; with code "" it is no good for a question at all.
static bool note_place(struct place **places, const char *name, const char *code) {
    char *key = strdup(name);
    if (!key) return false;
    for (char *c = key; *c; c++) *c = (char)tolower((unsigned char)*c);
    struct place *place;
    HASH_FIND_STR(*places, key, place);
    if (place) {
        free(key);
        if (strcmp(place->code, code) != 0) place->code[0] = '\0';
        return true;
    }
    place = calloc(1, sizeof *place);
    if (!place) {
        free(key);
        return false;
    }
    place->name = key;
    snprintf(place->code, sizeof place->code, "%.2s", code);
    HASH_ADD_KEYPTR(hh, *places, place->name, strlen(place->name), place);
    return true;
}

static bool has_one_country(struct place *places, const char *name) {
    char key[max_name_bytes + 1];
    size_t length = strlen(name);
    for (size_t i = 0; i <= length; i++) key[i] = (char)tolower((unsigned char)name[i]);
    struct place *place;
    HASH_FIND_STR(places, key, place);
    return place && place->code[0];
}

static void free_places(struct place **places) {
    struct place *place, *next;
    HASH_ITER(hh, *places, place, next) {
        HASH_DEL(*places, place);
        free(place->name);
        free(place);
    }
}

// Names of countries are noted too: "In which country is Georgia?" has no good answer.
static kv_status note_places(const struct countries *countries, const struct list *parts,
                             struct place **places, kv_error *err) {
    bool ok = true;
    for (size_t i = 0; ok && i < countries->n; i++)
        ok = note_place(places, countries->items[i].name, "") &&
             note_place(places, countries->items[i].formal, "");
    for (size_t i = 0; ok && i < json_array_size(parts->entries); i++) {
        const json_t *entry = json_array_get(parts->entries, i);
        const char *code = field(entry, "code"), *name = field(entry, "name");
        if (!code || !name || !find_country(countries, code))
            return kv_fail(err, KV_ERR_FORMAT,
                           "%s: entry %zu: expected a \"name\" and a \"code\" of a known country",
                           parts->path, i);
        char country[3] = {code[0], code[1], '\0'};
        ok = note_place(places, name, country);
    }
    return ok ? KV_OK : kv_fail(err, KV_ERR_MEMORY, "out of memory for the subdivisions");
}

static kv_status add_subdivisions(const char *directory, kv_atlas *atlas, const struct countries *countries,
                                  kv_error *err) {
    struct list parts;
    struct place *places = NULL;
    kv_status status = open_list(directory, "iso_3166-2.json", "3166-2", atlas, 1, &parts, err);
    if (!status) status = note_places(countries, &parts, &places, err);
    for (size_t i = 0; !status && i < json_array_size(parts.entries); i++) {
        const json_t *entry = json_array_get(parts.entries, i);
        const char *name = field(entry, "name");
        const struct country *country = find_country(countries, field(entry, "code"));
        if (tidy(name) && tidy(country->name) && has_one_country(places, name))
            status = add_country_answer(atlas, KV_FACT_SUBDIVISION, name, country, err);
    }
    free_places(&places);
    json_decref(parts.root);
    return status;
}

// ---- Currencies and languages --------------------------------------------------------------------------

static kv_status add_currencies(const char *directory, kv_atlas *atlas, kv_error *err) {
    struct list list;
    kv_status status = open_list(directory, "iso_4217.json", "4217", atlas, 2, &list, err);
    for (size_t i = 0; !status && i < json_array_size(list.entries); i++) {
        const json_t *entry = json_array_get(list.entries, i);
        const char *code = field(entry, "alpha_3"), *name = field(entry, "name"),
                   *number = field(entry, "numeric");
        if (!code || !name || !number) {
            status = kv_fail(err, KV_ERR_FORMAT,
                             "%s: entry %zu: expected \"alpha_3\", \"name\" and \"numeric\"", list.path, i);
            break;
        }
        if (!tidy(name) || !tidy(code)) continue;
        status = add_fact(atlas, KV_FACT_CURRENCY_NAME, code, name, NULL, err);
        if (!status) status = add_fact(atlas, KV_FACT_CURRENCY_CODE, name, code, NULL, err);
        if (!status) status = add_fact(atlas, KV_FACT_CURRENCY_NUMBER, name, number, NULL, err);
    }
    json_decref(list.root);
    return status;
}

// "Adyghe; Adygei" lists synonyms: the first is the answer, the others are aliases.
static kv_status add_language(kv_atlas *atlas, const char *code, const char *names, kv_error *err) {
    enum { max_synonyms = 8 };
    const char *synonyms[max_synonyms + 1] = {NULL};
    char *copy = strdup(names), *rest = NULL;
    if (!copy) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the languages");
    int n = 0;
    for (char *name = strtok_r(copy, ";", &rest); name && n < max_synonyms; name = strtok_r(NULL, ";", &rest))
        synonyms[n++] = name + strspn(name, " ");
    kv_status status = KV_OK;
    if (n > 0 && tidy(synonyms[0]) && strlen(code) == 3)
        status = add_fact(atlas, KV_FACT_LANGUAGE_NAME, code, synonyms[0], synonyms + 1, err);
    free(copy);
    return status;
}

static kv_status add_languages(const char *directory, kv_atlas *atlas, kv_error *err) {
    struct list list;
    kv_status status = open_list(directory, "iso_639-2.json", "639-2", atlas, 3, &list, err);
    for (size_t i = 0; !status && i < json_array_size(list.entries); i++) {
        const json_t *entry = json_array_get(list.entries, i);
        const char *code = field(entry, "alpha_3"), *name = field(entry, "name");
        const char *common = field(entry, "common_name");
        if (code && name)
            status = add_language(atlas, code, common ? common : name, err);
        else
            status =
                kv_fail(err, KV_ERR_FORMAT, "%s: entry %zu: expected \"alpha_3\" and \"name\"", list.path, i);
    }
    json_decref(list.root);
    return status;
}

kv_status kv_atlas_read_facts(const char *directory, kv_atlas *atlas, kv_error *err) {
    struct countries countries = {0};
    kv_status status = read_countries(directory, atlas, &countries, err);
    if (!status) status = add_subdivisions(directory, atlas, &countries, err);
    if (!status) status = add_countries(atlas, &countries, err);
    if (!status) status = add_currencies(directory, atlas, err);
    if (!status) status = add_languages(directory, atlas, err);
    free(countries.items);
    json_decref(countries.list.root);
    return status;
}
