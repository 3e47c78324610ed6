// Cuts text into pieces that can be held out or trained on, each as a whole.
#include "data/file/hash.h"
#include "data/file/json.h"
#include "data/kvdata/new/new.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/text/unicode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Bytes of a piece of plain text: some hundred of them in a text, each of a few sequences.
enum { LEAST_PIECE = 1000, MOST_PIECE = 16000, WANTED_PIECES = 64, MOST_OPENING = 40 };

static kv_status out_of_memory(kv_error *err) {
    return kv_fail(err, KV_ERR_MEMORY, "out of memory");
}

// Bytes begin to begin + length of the spool into *content, with a NUL behind them; the caller frees.
static kv_status read_spool(const new_text *text, int64_t begin, int64_t length, char **content,
                            kv_error *err) {
    *content = malloc((size_t)length + 1);
    if (!*content) return out_of_memory(err);
    int64_t done = 0;
    while (done < length) {
        const ssize_t n = pread(fileno(text->spool), *content + done, (size_t)(length - done), begin + done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += n;
    }
    (*content)[done] = '\0';
    if (done == length) return KV_OK;
    free(*content);
    *content = NULL;
    return kv_fail(err, KV_ERR_IO, "cannot read back the text: %s", strerror(errno));
}

// ---- Pieces --------------------------------------------------------------------------------------------

struct cutting {
    const new_text *text;
    new_piece *pieces;
    int64_t n, size;
};

static kv_status add(struct cutting *c, int64_t begin, int64_t length, const new_piece *of, kv_error *err) {
    new_piece *more = kv_room_for_one(c->pieces, (size_t)c->n, sizeof *more);
    if (!more) return out_of_memory(err);
    c->pieces = more;
    more[c->n++] = (new_piece){.begin = begin, .length = length, .file = of->file, .joins = of->joins};
    return KV_OK;
}

// Where a piece of text[length] that is to have about `size` bytes ends: behind a blank line, a line, a blank or a
// character, whichever is found first in its second half.
static int64_t piece_end(const char *text, int64_t length, int64_t size) {
    if (length <= size + size / 2) return length;
    for (int64_t i = size; i > size / 2; i--)
        if (text[i - 1] == '\n' && text[i] == '\n') return i + 1;
    for (int64_t i = size; i > size / 2; i--)
        if (text[i - 1] == '\n') return i;
    for (int64_t i = size; i > size / 2; i--)
        if (text[i - 1] == ' ') return i;
    int64_t end = size;
    while (end < length && ((unsigned char)text[end] & 0xC0) == 0x80) end++;
    return end;
}

static kv_status cut(struct cutting *c, const new_piece *whole, kv_error *err) {
    char *content;
    kv_status status = read_spool(c->text, whole->begin, whole->length, &content, err);
    for (int64_t at = 0; !status && at < whole->length;) {
        const int64_t n = piece_end(content + at, whole->length - at, c->size);
        status = add(c, whole->begin + at, n, whole, err);
        at += n;
    }
    free(content);
    return status;
}

// The run of paragraphs from `first` on that makes a piece.
static int64_t join(const struct cutting *c, int64_t first, new_piece *piece) {
    const new_text *t = c->text;
    int64_t next = first + 1;
    *piece = t->pieces[first];
    if (!piece->joins) return next;
    while (next < t->n && t->pieces[next].joins && t->pieces[next].file == piece->file &&
           piece->length + t->pieces[next].length <= c->size + c->size / 2 && piece->length < c->size)
        piece->length += t->pieces[next++].length;
    return next;
}

// A document is cut where it is a large part of all text, a paragraph where it is longer than a piece is to be.
static bool is_huge(const new_text *t, const struct cutting *c, const new_piece *piece) {
    return piece->joins ? piece->length > 2 * c->size
                        : piece->length > 4 * c->size && piece->length > t->bytes / 20;
}

static kv_status cut_all(new_text *t, struct cutting *c, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; !status && i < t->n;) {
        new_piece piece;
        i = join(c, i, &piece);
        const bool huge = is_huge(t, c, &piece);
        t->cut += huge;
        status = huge ? cut(c, &piece, err) : add(c, piece.begin, piece.length, &piece, err);
        if (!status && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    }
    return status;
}

// ---- Which are held out --------------------------------------------------------------------------------

static kv_status hash_pieces(new_text *t, kv_error *err) {
    kv_status status = KV_OK;
    for (int64_t i = 0; !status && i < t->n; i++) {
        char *content;
        status = read_spool(t, t->pieces[i].begin, t->pieces[i].length, &content, err);
        if (!status) t->pieces[i].hash = kv_hash64(1, content, (size_t)t->pieces[i].length);
        free(content);
    }
    return status;
}

static int by_hash(const void *a, const void *b) {
    const new_piece *x = *(const new_piece *const *)a, *y = *(const new_piece *const *)b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

// Equal pieces stay together. One that would make the share much too large is passed over.
static void choose(new_text *t, new_piece **order, double share) {
    const double wanted = share * (double)t->bytes;
    for (int64_t i = 0; i < t->n && t->held_out + 1 < t->n; i++) {
        const bool again = i > 0 && order[i]->hash == order[i - 1]->hash;
        const double with = (double)(t->held_out_bytes + order[i]->length);
        if (again ? !order[i - 1]->held_out : (double)t->held_out_bytes >= wanted) continue;
        if (!again && t->held_out > 0 && with > 1.5 * wanted) continue;
        order[i]->held_out = true;
        t->held_out++;
        t->held_out_bytes += order[i]->length;
    }
}

// A few plain words to ask with.
static kv_status find_opening(new_text *t, const new_piece *piece, kv_error *err) {
    char *content;
    kv_status status = read_spool(t, piece->begin, piece->length < 400 ? piece->length : 400, &content, err);
    if (status) return status;
    // From the beginning of a line to the first character that a shell or a reader might stumble over, or to a word's end.
    for (const char *line = content; line && !t->opening[0];) {
        size_t n = strspn(line, " ,.:?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
        const bool long_enough = n >= 12 && *line != ' ';
        if (n >= MOST_OPENING)
            for (n = MOST_OPENING; n > 0 && line[n] != ' ';) n--;
        while (n > 0 && line[n - 1] == ' ') n--;
        if (long_enough) snprintf(t->opening, sizeof t->opening, "%.*s", (int)n, line);
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    if (!t->opening[0]) strcpy(t->opening, "The");
    free(content);
    return KV_OK;
}

kv_status new_text_cut(new_text *text, double held_out, kv_error *err) {
    struct cutting c = {.text = text, .size = text->bytes / WANTED_PIECES};
    if (c.size < LEAST_PIECE) c.size = LEAST_PIECE;
    if (c.size > MOST_PIECE) c.size = MOST_PIECE;
    kv_status status = cut_all(text, &c, err);
    free(text->pieces);
    text->pieces = c.pieces;
    text->n = c.n;
    if (!status) status = hash_pieces(text, err);
    new_piece **order = status ? NULL : malloc(((size_t)text->n + 1) * sizeof(new_piece *));
    if (!status && !order) status = out_of_memory(err);
    if (!status) {
        for (int64_t i = 0; i < text->n; i++) order[i] = &text->pieces[i];
        qsort(order, (size_t)text->n, sizeof(new_piece *), by_hash);
        choose(text, order, held_out);
        status = find_opening(text, order[0], err);
    }
    free(order);
    return status;
}

// ---- Writing -------------------------------------------------------------------------------------------

kv_status new_text_write(const new_text *text, bool held_out, int64_t every, const char *path,
                         kv_error *err) {
    FILE *file = fopen(path, "wb");
    if (!file) return kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    kv_status status = KV_OK;
    for (int64_t i = 0, k = 0; !status && i < text->n; i++) {
        const new_piece *piece = &text->pieces[i];
        if (piece->held_out != held_out || k++ % every != 0) continue;
        char *content;
        status = read_spool(text, piece->begin, piece->length, &content, err);
        size_t length = (size_t)piece->length;
        // The blank line to the paragraph that begins the next piece.
        while (!status && piece->joins && length > 1 && content[length - 1] == '\n' &&
               content[length - 2] == '\n')
            length--;
        if (!status && !kv_json_put(file, json_pack("{s:s%}", "text", content, length), 0))
            status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
        free(content);
        if (!status && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    }
    if (fclose(file) != 0 && !status)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return status;
}
