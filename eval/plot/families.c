// Few families are looked up, once a picture: the table is read anew each time, and nothing is kept.
#include "eval/plot/families.h"

#include "data/file/csv.h"
#include "data/file/embedded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const kv_embedded kv_plot_family_files[]; // families.csv, from the build

enum { MAX_LINES = 64, NAME = 64, MAX_FAMILIES = 512 };

// Colours and markers as the table has them, each once, in the order of their first lines.
struct table {
    int n;
    struct {
        char key[NAME];
        int colour, marker;
    } lines[MAX_LINES];
    char colours[MAX_LINES][8], markers[MAX_LINES][24];
    int n_colours, n_markers;
    int own[MAX_LINES], n_own; // colours of the lines without a name
};

// A place in the pictures: which colour, which marker.
struct look {
    int colour, marker;
};

static int number_of(char *texts, size_t size, int *n, const char *text) {
    int i = 0;
    while (i < *n && strcmp(texts + (size_t)i * size, text) != 0) i++;
    if (i == *n) snprintf(texts + (size_t)(*n)++ * size, size, "%s", text);
    return i;
}

// "KVP-C (ours)" and "kvp_c Ours" are one family: letters in lower case, without what only sets words apart. As in
// notebooks/kvdraw.py.
static void key_of(const char *name, char key[NAME]) {
    static const char apostrophe[] = "’";
    size_t n = 0;
    while (*name && n < NAME - 1) {
        if (!strncmp(name, apostrophe, sizeof apostrophe - 1)) {
            name += sizeof apostrophe - 1;
            continue;
        }
        const char c = *name++;
        if (!strchr(" -_()'\"", c)) key[n++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    key[n] = '\0';
}

// Whoever edits the file learns from the tests that it cannot be read; here it leaves the table empty.
static void read_table(struct table *table) {
    static const char *const names[] = {"family", "colour", "marker"};
    kv_csv_table csv;
    memset(table, 0, sizeof *table);
    if (kv_csv_parse("families.csv", kv_plot_family_files[0].text, &csv, NULL) != KV_OK) return;
    const char *cells[3];
    for (int64_t row = 0; row < csv.n_rows && row < MAX_LINES; row++) {
        for (int i = 0; i < 3; i++) cells[i] = kv_csv_cell(&csv, row, kv_csv_column(&csv, names[i]));
        const int colour = number_of(table->colours[0], 8, &table->n_colours, cells[1]);
        if (!*cells[0]) {
            table->own[table->n_own++] = colour;
            continue;
        }
        key_of(cells[0], table->lines[table->n].key);
        table->lines[table->n].colour = colour;
        table->lines[table->n].marker = number_of(table->markers[0], 24, &table->n_markers, cells[2]);
        table->n++;
    }
    kv_csv_table_free(&csv);
}

// ---- Families that are not in it -----------------------------------------------------------------------

// FNV-1a, which is three lines in Python, too.
static uint32_t hash_name(const char *name) {
    uint32_t hash = 2166136261u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}

static bool taken(const struct look *looks, const bool *done, int64_t n, struct look look) {
    for (int64_t i = 0; i < n; i++)
        if (done[i] && looks[i].colour == look.colour && looks[i].marker == look.marker) return true;
    return false;
}

// In colours that no line with a name has.
static struct look free_look(const struct table *table, const struct look *looks, const bool *done, int64_t n,
                             const char *key) {
    const uint32_t n_colours = (uint32_t)table->n_own, n_looks = n_colours * (uint32_t)table->n_markers;
    struct look look = {0};
    for (uint32_t step = 0; step < n_looks; step++) {
        const uint32_t place = (hash_name(key) + step) % n_looks;
        look = (struct look){table->own[place % n_colours], (int)(place / n_colours)};
        if (!taken(looks, done, n, look)) return look;
    }
    return look; // more families than looks
}

static int64_t first_left(char (*keys)[NAME], const bool *done, int64_t n) {
    int64_t first = -1;
    for (int64_t i = 0; i < n; i++)
        if (!done[i] && (first < 0 || strcmp(keys[i], keys[first]) < 0)) first = i;
    return first;
}

// ---- Looks ---------------------------------------------------------------------------------------------

static kv_plot_style style_of(const struct table *table, struct look look) {
    static const struct {
        const char *name;
        int filled, hollow;
    } markers[] = {{"circle", 7, 6},    {"square", 5, 4},  {"triangle", 9, 8},
                   {"diamond", 13, 12}, {"wedge", 11, 10}, {"pentagon", 15, 14},
                   {"cross", 2, 2},     {"plus", 1, 1},    {"star", 3, 3}};
    static const char dotted[] = "dotted ";
    const char *marker = table->markers[look.marker];
    kv_plot_style style = {.filled = 7, .hollow = 6};
    snprintf(style.colour, sizeof style.colour, "%s", table->n ? table->colours[look.colour] : "#333333");
    style.dotted = !strncmp(marker, dotted, sizeof dotted - 1);
    if (style.dotted) marker += sizeof dotted - 1;
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++)
        if (!strcmp(markers[i].name, marker))
            style.filled = markers[i].filled, style.hollow = markers[i].hollow;
    return style;
}

// The look of one that is spelled otherwise, if that has one already.
static bool same_family(char (*keys)[NAME], const bool *done, int64_t n, int64_t i, struct look *looks) {
    for (int64_t j = 0; j < n; j++)
        if (done[j] && !strcmp(keys[j], keys[i])) {
            looks[i] = looks[j];
            return true;
        }
    return false;
}

void kv_plot_family_styles(const char *const *families, int64_t n, kv_plot_style *styles) {
    struct table table;
    struct look looks[MAX_FAMILIES] = {{0}};
    bool done[MAX_FAMILIES] = {false};
    char keys[MAX_FAMILIES][NAME];
    read_table(&table);
    if (n > MAX_FAMILIES) n = MAX_FAMILIES;
    for (int64_t i = 0; i < n; i++) {
        key_of(families[i], keys[i]);
        for (int line = 0; line < table.n && !done[i]; line++)
            if (!strcmp(table.lines[line].key, keys[i])) {
                looks[i] = (struct look){table.lines[line].colour, table.lines[line].marker};
                done[i] = true;
            }
    }
    for (int64_t i; (i = first_left(keys, done, n)) >= 0; done[i] = true)
        if (!same_family(keys, done, n, i, looks)) looks[i] = free_look(&table, looks, done, n, keys[i]);
    for (int64_t i = 0; i < n; i++) styles[i] = style_of(&table, looks[i]);
}
