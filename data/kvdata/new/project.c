// Makes the project in a directory that appears at the end: what is not finished is never seen.
#include "core/text.h"
#include "data/benchmark/triviaqa.h"
#include "data/corpus/shard.h"
#include "data/file/content.h"
#include "data/file/embedded.h"
#include "data/file/path.h"
#include "data/file/whole_set.h"
#include "data/kvdata/new/new.h"
#include "data/kvdata/tokenize/tokenize.h"
#include "data/system/buffers.h"
#include "data/system/console.h"
#include "data/tokenizer/train.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern const kv_embedded kv_project_files[];

// With less there are too few sequences to train on and too few windows to measure with; more than so much is not needed
// to choose a tokenizer's pieces.
enum { LEAST_BYTES = 10000, TOKENIZER_BYTES = 20 << 20, MOST_QUESTIONS = 200 };

struct making {
    const new_options *options;
    const char *dir; // where to write now
    new_text *text;
    new_sizes *sizes;
};

static kv_status place(const struct making *m, const char *name, char path[PATH_MAX], kv_error *err) {
    return kv_path_join(m->dir, name, path, err);
}

// ---- Templates -----------------------------------------------------------------------------------------

// A value of nothing is one that is not there, for `@if NAME`.
struct value {
    const char *name;
    char text[96];
};

enum { MOST_VALUES = 64 };

struct values {
    struct value items[MOST_VALUES];
    int n;
};

static void set_text(struct values *v, const char *name, const char *text) {
    struct value *value = &v->items[v->n++];
    value->name = name;
    snprintf(value->text, sizeof value->text, "%s", text);
}

static void set(struct values *v, const char *name, int64_t number) {
    char text[32];
    snprintf(text, sizeof text, "%" PRIi64, number);
    set_text(v, name, text);
}

static void set_real(struct values *v, const char *name, const char *format, double number) {
    char text[48];
    snprintf(text, sizeof text, format, number);
    set_text(v, name, text);
}

static const char *find(const struct values *v, const char *name, size_t length) {
    for (int i = 0; i < v->n; i++)
        if (strlen(v->items[i].name) == length && strncmp(v->items[i].name, name, length) == 0)
            return v->items[i].text;
    return NULL;
}

enum { COMMENT_COLUMN = 36 };

// Whatever the values' lengths, comments behind them stand one below the other.
static kv_status align_comment(kv_bytes *out, size_t line, kv_error *err) {
    char *comment = memmem(out->data + line, out->length - line, "  # ", 4);
    if (!comment) return KV_OK;
    while (comment > out->data + line && comment[-1] == ' ') comment--;
    const size_t content = (size_t)(comment - out->data) - line, blanks = strspn(comment, " ");
    if (content == 0 || content + 2 > COMMENT_COLUMN) return KV_OK;
    char *text = strndup(comment + blanks, out->length - line - content - blanks);
    if (!text) return kv_fail(err, KV_ERR_MEMORY, "out of memory");
    out->length = line + content;
    kv_status status = KV_OK;
    while (!status && out->length < line + COMMENT_COLUMN) status = kv_bytes_add(out, " ", 1, err);
    if (!status) status = kv_bytes_add(out, text, strlen(text), err);
    free(text);
    return status;
}

// "@NAME@" becomes its value; an @ that begins no name stays.
static kv_status fill_line(const struct values *v, const char *line, size_t length, kv_bytes *out,
                           kv_error *err) {
    const size_t begin = out->length;
    kv_status status = KV_OK;
    for (const char *end = line + length; !status && line < end;) {
        const char *at = memchr(line, '@', (size_t)(end - line));
        const size_t n = at ? strspn(at + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") : 0;
        const bool named = n > 0 && at[n + 1] == '@';
        const char *value = named ? find(v, at + 1, n) : NULL;
        if (named && !value)
            return kv_fail(err, KV_ERR_ARGUMENT, "a template asks for %.*s, which nobody sets", (int)n,
                           at + 1);
        status = kv_bytes_add(out, line, (size_t)((at ? at : end) - line), err);
        if (!status && value) status = kv_bytes_add(out, value, strlen(value), err);
        if (!status && at && !named) status = kv_bytes_add(out, "@", 1, err);
        line = !at ? end : named ? at + n + 2 : at + 1;
    }
    if (!status) status = align_comment(out, begin, err);
    return status ? status : kv_bytes_add(out, "\n", 1, err);
}

// Lines from "@if NAME" to "@end" are there where NAME has a value.
static kv_status fill(const struct values *v, const char *template, kv_bytes *out, kv_error *err) {
    kv_status status = KV_OK;
    bool shown = true;
    for (const char *line = template; !status && *line;) {
        const size_t length = strcspn(line, "\n");
        const char *value = "";
        if (strncmp(line, "@if ", 4) == 0) {
            value = find(v, line + 4, length - 4);
            if (!value)
                return kv_fail(err, KV_ERR_ARGUMENT, "a template asks for %.*s", (int)length - 4, line + 4);
            shown = *value != '\0';
        } else if (length == 4 && strncmp(line, "@end", 4) == 0) {
            shown = true;
        } else if (shown) {
            status = fill_line(v, line, length, out, err);
        }
        line += length + (line[length] == '\n');
    }
    return status;
}

static void set_model(struct values *v, const char *const names[8], const new_model *m, double seconds) {
    set(v, names[0], m->layers);
    set(v, names[1], m->dim);
    set(v, names[2], m->head_dim);
    set(v, names[3], m->heads);
    set(v, names[4], m->kv_heads);
    set(v, names[5], m->ffn);
    set(v, names[6], m->steps);
    char text[32];
    set_text(v, names[7], kv_duration(seconds, text));
}

static void set_values(const struct making *m, struct values *v) {
    static const char *const base[] = {"BASE_LAYERS",   "BASE_DIM", "BASE_HEAD_DIM", "BASE_HEADS",
                                       "BASE_KV_HEADS", "BASE_FFN", "BASE_STEPS",    "BASE_TIME"},
                             *const aux[] = {"AUX_LAYERS",   "AUX_DIM", "AUX_HEAD_DIM", "AUX_HEADS",
                                             "AUX_KV_HEADS", "AUX_FFN", "AUX_STEPS",    "AUX_TIME"};
    const new_sizes *s = m->sizes;
    const new_text *t = m->text;
    const double a_step = (double)(s->batch * s->seq_len), there = (double)s->train_tokens;
    const int64_t rows = (s->held_out_tokens - 1) / s->seq_len;
    char text[32];
    set_model(v, base, &s->base, s->base.flops / NEW_SLOW);
    set_model(v, aux, &s->aux, s->aux.flops / NEW_SLOW);
    set_real(v, "BASE_LR", "%g", s->base.lr);
    set_real(v, "AUX_LR", "%g", s->aux.lr);
    set_text(v, "KVP_TIME", kv_duration(s->kvp_flops / NEW_SLOW, text));
    set(v, "KVP_STEPS", s->kvp_steps);
    set(v, "KVP_CHECKS", s->kvp_steps / 4);
    set(v, "BASE_CHECKS", s->base.steps / 4);
    set(v, "AUX_CHECKS", s->aux.steps / 4);
    set_real(v, "BASE_EPOCHS", "%.3g", a_step * (double)s->base.steps / there);
    set_real(v, "AUX_EPOCHS", "%.3g", a_step * (double)s->aux.steps / there);
    set_real(v, "KVP_EPOCHS", "%.3g", a_step * (double)s->kvp_steps / there);
    set(v, "VOCABULARY", s->vocab_size);
    set(v, "TRAIN_TOKENS", s->train_tokens);
    set(v, "HELD_OUT_TOKENS", s->held_out_tokens);
    set(v, "PIECES", t->n);
    set(v, "HELD_OUT_PIECES", t->held_out);
    set(v, "TRAIN_PIECES", t->n - t->held_out);
    set(v, "DOCUMENTS", t->documents - t->copies);
    set(v, "COPIES", t->copies);
    set(v, "SEQ_LEN", s->seq_len);
    set(v, "BATCH", s->batch);
    set(v, "STEP_TOKENS", s->batch * s->seq_len);
    set(v, "CONTEXT", s->context);
    set(v, "WINDOW", s->window);
    set(v, "PROMPT", s->prompt);
    set(v, "TAIL", s->window - s->prompt);
    set(v, "WINDOWS", s->windows);
    set(v, "QUESTIONS", s->questions);
    set(v, "SEQUENCES", rows < 16 ? rows : 16);
    set(v, "HALF_CONTEXT", s->context / 2);
    set(v, "VALIDATION_TOKENS", s->validation_tokens);
    set(v, "FIT_TOKENS", s->fit_tokens);
    set_text(v, "OPENING", t->opening);
    set_text(v, "questions", m->options->questions ? "yes" : "");
    set_text(v, "tokenizer", m->options->tokenizer ? "" : "yes");
    set_text(v, "large", s->large_vocabulary ? "yes" : "");
    set_text(v, "small", s->large_vocabulary ? "" : "yes");
    set_text(v, "little", s->train_tokens < 200000 ? "yes" : "");
}

static kv_status write_files(const struct making *m, kv_error *err) {
    struct values values = {0};
    kv_status status = KV_OK;
    set_values(m, &values);
    for (const kv_embedded *file = kv_project_files; !status && file->name; file++) {
        const bool about = strcmp(file->name, "project") == 0;
        char name[64], path[PATH_MAX];
        kv_bytes text = {0};
        snprintf(name, sizeof name, "%s%s", about ? "README" : file->name, about ? ".md" : ".yaml");
        status = place(m, name, path, err);
        if (!status) status = fill(&values, file->text, &text, err);
        if (!status) status = kv_write_file(path, text.data, text.length, err);
        kv_bytes_free(&text);
    }
    return status;
}

// ---- Tokens --------------------------------------------------------------------------------------------

// A text has only so many pieces in it: a size that nobody asked for becomes that.
static kv_status train_to_fit(const struct making *m, const char *from, const char *path, kv_error *err) {
    int64_t size = m->options->vocab_size ? m->options->vocab_size : new_vocab_size(m->text);
    for (;;) {
        fprintf(stderr, "tokenizer: spm_train chooses %" PRIi64 " pieces\n", size);
        const kv_status status = kv_tokenizer_train(&from, 1, size, path, err);
        if (status != KV_ERR_ARGUMENT || m->options->vocab_size) return status;
        // It says how many there are; a text of so few would be a strange one.
        const char *most = strstr(err->message, "to a value <= ");
        const int64_t there = most ? strtoll(most + strlen("to a value <= "), NULL, 10) : 0;
        if (there < 260 || there >= size) return status;
        size = there;
    }
}

static kv_status train_tokenizer(const struct making *m, const char *train, const char *path, kv_error *err) {
    const int64_t bytes = m->text->bytes - m->text->held_out_bytes, every = 1 + bytes / TOKENIZER_BYTES;
    char sample[PATH_MAX];
    if (every == 1) return train_to_fit(m, train, path, err);
    kv_status status = place(m, "sample.jsonl", sample, err);
    if (!status) status = new_text_write(m->text, false, every, sample, err);
    if (!status) status = train_to_fit(m, sample, path, err);
    unlink(sample);
    return status;
}

static kv_status tokenize(const struct making *m, const char *name, const char *from, const char *tokenizer,
                          int64_t *n_tokens, kv_error *err) {
    char to[PATH_MAX], shard[32], input[PATH_MAX], source[32];
    char *inputs[] = {input};
    snprintf(shard, sizeof shard, "%s.h5", name);
    snprintf(source, sizeof source, "%s.jsonl", name);
    snprintf(input, sizeof input, "%s", from);
    kv_status status = place(m, shard, to, err);
    if (status) return status;
    const tokenize_options options = {.tokenizer = tokenizer,
                                      .out = to,
                                      .source = source,
                                      .inputs = inputs,
                                      .n_inputs = 1,
                                      .text.format = KV_TEXT_JSONL,
                                      .max_bad = 0};
    tokenize_result result;
    kv_shard_summary summary;
    status = tokenize_run(&options, &result, err);
    if (!status) status = kv_shard_read_summary(to, &summary, err);
    if (status) return status;
    *n_tokens = summary.n_tokens;
    m->sizes->vocab_size = summary.info.vocab_size;
    return KV_OK;
}

static kv_status make_tokens(const struct making *m, kv_error *err) {
    char train[PATH_MAX], held_out[PATH_MAX], trained[PATH_MAX];
    const char *tokenizer = m->options->tokenizer ? m->options->tokenizer : trained;
    kv_status status = place(m, "train.jsonl", train, err);
    if (!status) status = place(m, "held_out.jsonl", held_out, err);
    if (!status) status = place(m, "tokenizer.model", trained, err);
    if (!status) status = new_text_write(m->text, false, 1, train, err);
    if (!status) status = new_text_write(m->text, true, 1, held_out, err);
    if (!status && !m->options->tokenizer) status = train_tokenizer(m, train, trained, err);
    if (!status) status = tokenize(m, "train", train, tokenizer, &m->sizes->train_tokens, err);
    if (!status) status = tokenize(m, "held_out", held_out, tokenizer, &m->sizes->held_out_tokens, err);
    return status;
}

// ---- The whole -----------------------------------------------------------------------------------------

// A file of questions is looked at before it is taken along.
static kv_status copy_questions(const struct making *m, kv_error *err) {
    kv_questions questions = {0};
    char path[PATH_MAX], *content = NULL;
    size_t size = 0;
    if (!m->options->questions) return KV_OK;
    kv_status status = kv_triviaqa_read(m->options->questions, &questions, err);
    m->sizes->questions = questions.n < MOST_QUESTIONS ? questions.n : MOST_QUESTIONS;
    kv_questions_free(&questions);
    if (!status) status = kv_read_file(m->options->questions, (size_t)1 << 30, &content, &size, err);
    if (!status) status = place(m, "questions.jsonl", path, err);
    if (!status) status = kv_write_file(path, content, size, err);
    free(content);
    return status;
}

static kv_status make(const struct making *m, FILE *spool, kv_error *err) {
    const new_options *o = m->options;
    char have[32], least[32];
    kv_status status = new_text_gather(o, spool, m->text, err);
    if (!status && m->text->bytes < LEAST_BYTES)
        status = kv_fail(err, KV_ERR_RANGE,
                         "%s%s: %sB of text in %" PRIi64
                         " documents, expected at least %sB: 100 kB make a first try, "
                         "some MB one that says something",
                         o->inputs[0], o->n_inputs > 1 ? " and the others" : "",
                         kv_count_text((double)m->text->bytes, have), m->text->documents - m->text->copies,
                         kv_count_text(LEAST_BYTES, least));
    if (!status) status = new_text_cut(m->text, o->held_out, err);
    if (!status) status = copy_questions(m, err);
    if (!status) status = make_tokens(m, err);
    if (!status) status = new_sizes_choose(m->sizes, err);
    return status ? status : write_files(m, err);
}

static kv_status check_directory(const char *dir, kv_error *err) {
    struct stat info;
    if (lstat(dir, &info) != 0) return KV_OK;
    DIR *open = opendir(dir);
    if (!open)
        return kv_fail(err, KV_ERR_ARGUMENT, "%s: %s, expected a new or empty directory", dir,
                       strerror(errno));
    kv_status status = KV_OK;
    for (const struct dirent *entry; !status && (entry = readdir(open));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = kv_fail(err, KV_ERR_ARGUMENT,
                             "%s: is not empty (found %.*s), expected a new or empty directory", dir,
                             KV_HEAD(entry->d_name, 100));
    closedir(open);
    return status;
}

kv_status new_project(const new_options *options, new_text *text, new_sizes *sizes, kv_error *err) {
    kv_whole_set set;
    char path[PATH_MAX];
    kv_status status = check_directory(options->dir, err);
    if (!status) status = kv_whole_set_begin(&set, options->dir, err);
    if (status) return status;
    const struct making m = {options, set.staged.path, text, sizes};
    FILE *spool = NULL;
    status = place(&m, "text", path, err);
    if (!status && !(spool = fopen(path, "w+b")))
        status = kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    if (!status) unlink(path); // it stays as long as it is open
    if (!status) status = make(&m, spool, err);
    if (spool) fclose(spool);
    return kv_whole_set_end(&set, NULL, 0, status, err);
}
