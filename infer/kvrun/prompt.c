// The four ways a prompt may come in, and what each of them means as token ids.
#include "infer/kvrun/kvrun.h"

#include "data/file/mistaken.h"
#include "data/file/plain.h"
#include "data/system/buffers.h"
#include "data/system/number.h"
#include "data/system/warning.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t max_prompt_bytes = (size_t)256 << 20;

// ---- Text ----------------------------------------------------------------------------------------------

// All of standard input, NUL-terminated.
static kv_status read_input(char **text, size_t *length, kv_error *err) {
    kv_bytes all = {0};
    kv_status status = KV_OK;
    ssize_t n = 1;
    while (!status && n > 0) {
        status = kv_bytes_reserve(&all, 4096, err);
        if (!status) status = kvrun_wait_for_input(err);
        if (status) break;
        n = read(STDIN_FILENO, all.data + all.length, all.capacity - all.length - 1);
        if (n < 0) status = kv_fail(err, KV_ERR_IO, "standard input: %s", strerror(errno));
        if (n > 0) all.length += (size_t)n;
        if (all.length > max_prompt_bytes)
            status = kv_fail(err, KV_ERR_RANGE, "standard input: a prompt of more than %zu bytes",
                             max_prompt_bytes);
    }
    if (status) {
        kv_bytes_free(&all);
        return status;
    }
    const char *wide = all.length ? kv_wide_encoding(all.data, all.length) : NULL;
    if (wide) {
        kv_bytes_free(&all);
        return kv_fail(err, KV_ERR_FORMAT, "standard input: found " KV_WIDE_ADVICE, wide, wide);
    }
    if (all.length) all.length = kv_mend_text(all.data, all.length);
    all.data[all.length] = '\0';
    *text = all.data, *length = all.length;
    return KV_OK;
}

static kv_status join_words(const kvrun_options *o, char **text, size_t *length, kv_error *err) {
    size_t size = 1;
    for (int i = 0; i < o->n_words; i++) size += strlen(o->words[i]) + 1;
    char *all = calloc(1, size), *end = all;
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
    for (int i = 0; i < o->n_words; i++) {
        if (i > 0) *end++ = ' ';
        end = stpcpy(end, o->words[i]);
    }
    *text = all, *length = (size_t)(end - all);
    return KV_OK;
}

static kv_status read_text(const kvrun_options *o, char **text, size_t *length, kv_error *err) {
    if (o->n_words > 0) return join_words(o, text, length, err);
    kv_status status =
        o->file ? kv_mistaken(o->file, KV_FILE_TEXT,
                              kv_read_input_text(o->file, max_prompt_bytes, text, length, err), err)
                : read_input(text, length, err);
    if (status == KV_OK && *length > 0 && (*text)[*length - 1] == '\n') (*text)[--*length] = '\0';
    return status;
}

kv_status kvrun_prompt_encode(const kvrun *run, const char *text, size_t length, int32_t **ids, int64_t *n,
                              kv_error *err) {
    const int32_t bos = run->options.no_bos ? -1 : kv_tokenizer_bos(run->tokenizer);
    kv_status status = kv_tokenizer_encode(run->tokenizer, text, length, ids, n, err);
    if (status != KV_OK || bos < 0) return status;
    int32_t *longer = realloc(*ids, (size_t)(*n + 1) * sizeof **ids);
    if (!longer) {
        free(*ids);
        *ids = NULL;
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt of %lld tokens", (long long)*n);
    }
    *ids = longer;
    memmove(longer + 1, longer, (size_t)*n * sizeof *longer);
    longer[0] = bos;
    *n += 1;
    return KV_OK;
}

static kv_status encode_message(const kvrun *run, const char *text, size_t length, int32_t **ids, int64_t *n,
                                kv_error *err) {
    if (strlen(text) != length)
        return kv_fail(err, KV_ERR_ARGUMENT, "--chat: the message has a NUL in it, expected text");
    const char *system = run->options.system;
    const kv_chat_message messages[] = {{KV_CHAT_SYSTEM, system}, {KV_CHAT_USER, text}};
    return kv_chat_encode(&run->chat, run->tokenizer, system ? messages : messages + 1, system ? 2 : 1, ids,
                          n, err);
}

// ---- Ids -----------------------------------------------------------------------------------------------

static kv_status parse_ids(const char *text, int32_t **ids, int64_t *n, kv_error *err) {
    int32_t *all = malloc((strlen(text) / 2 + 1) * sizeof *all);
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
    *n = 0;
    for (const char *at = text;;) {
        at += strspn(at, " \t\r\n,");
        if (!*at) break;
        const char *end = at;
        int64_t id;
        if (!kv_take_whole(&end, &id) || id < 0 || id > INT32_MAX || !strchr(" \t\r\n,", *end)) {
            free(all);
            return kv_fail(err, KV_ERR_ARGUMENT,
                           "--prompt-ids: '%.*s' is no token id, expected whole numbers",
                           (int)strcspn(at, " \t\r\n,"), at);
        }
        all[(*n)++] = (int32_t)id;
        at = end;
    }
    *ids = all;
    return KV_OK;
}

// Whose context it is that the prompt does not fit. The room is smaller than every number in the models' files where
// an aux has to look ahead.
static void say_whose(const kvrun *run, char *text, size_t size) {
    const kvrun_options *o = &run->options;
    const int64_t ahead = kv_pruning_lookahead(&o->pruning);
    if (ahead > 0 && run->context + ahead == run->specs[1].context_length)
        snprintf(text, size, ", the aux's %lld less %lld to look ahead",
                 (long long)run->specs[1].context_length, (long long)ahead);
    else if (run->context == o->context)
        snprintf(text, size, " of --context");
    else
        snprintf(text, size, " of the %s (%s)", run->context == run->specs[0].context_length ? "base" : "aux",
                 run->context == run->specs[0].context_length ? o->base : o->aux);
}

static kv_status too_long(const kvrun *run, int64_t n, kv_error *err) {
    const kvrun_options *o = &run->options;
    char whose[600];
    say_whose(run, whose, sizeof whose);
    if (o->cut)
        return kv_fail(
            err, KV_ERR_RANGE,
            "a prompt of %lld tokens and an answer of up to %lld (--max-tokens) do not fit the context of "
            "%lld%s, and cut from the left nothing of the prompt would be left: expected a smaller "
            "--max-tokens",
            (long long)n, (long long)o->max_tokens, (long long)run->context, whose);
    return kv_fail(
        err, KV_ERR_RANGE,
        "a prompt of %lld tokens does not fit the context of %lld%s, in which an answer of up to %lld "
        "(--max-tokens) comes behind it: shorten it%s",
        (long long)n, (long long)run->context, whose, (long long)o->max_tokens,
        o->chat ? "" : ", or let its beginning be cut off by --too-long cut");
}

int64_t kvrun_prompt_cut(const kvrun *run, int32_t *ids, int64_t *n) {
    const int64_t room = run->context - run->options.max_tokens, over = *n - room;
    const int32_t bos = run->tokenizer ? kv_tokenizer_bos(run->tokenizer) : -1;
    const int64_t front = *n > 0 && bos >= 0 && ids[0] == bos;
    if (over <= 0) return 0;
    if (room < front + 1) return *n <= run->context ? 0 : -1; // an answer of all the context may end sooner
    memmove(ids + front, ids + front + over, (size_t)(room - front) * sizeof *ids);
    *n = room;
    return over;
}

static kv_status cut(const kvrun *run, int32_t *ids, int64_t *n, kv_error *err) {
    const int64_t before = *n, taken = kvrun_prompt_cut(run, ids, n);
    char whose[600];
    if (taken < 0) return too_long(run, before, err);
    say_whose(run, whose, sizeof whose);
    if (taken > 0)
        kv_warn(
            "%lld of the prompt's %lld tokens are cut off on its left, so that the other %lld and an answer of up to "
            "%lld fit the context of %lld%s: the model does not see the beginning",
            (long long)taken, (long long)before, (long long)*n, (long long)run->options.max_tokens,
            (long long)run->context, whose);
    return KV_OK;
}

static kv_status check_prompt(const kvrun *run, const int32_t *ids, int64_t n, kv_error *err) {
    if (n < 1)
        return kv_fail(err, KV_ERR_ARGUMENT, "the prompt is empty%s",
                       run->options.prompt_ids || run->options.no_bos
                           ? ""
                           : ", and the tokenizer has no BOS to begin with");
    if (n > run->context) return too_long(run, n, err);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] >= run->n_ids)
            return kv_fail(err, KV_ERR_RANGE,
                           "token %lld of the prompt has id %d, outside the vocabulary of %lld", (long long)i,
                           ids[i], (long long)run->n_ids);
    return KV_OK;
}

// ---- Behind a saved prompt -------------------------------------------------------------------------------

static kv_status prepend_ids(const kv_saved_prompt *saved, int32_t **ids, int64_t *n, kv_error *err) {
    int32_t *all = realloc(*ids, (size_t)(saved->n_ids + *n) * sizeof *all);
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
    memmove(all + saved->n_ids, all, (size_t)*n * sizeof *all);
    memcpy(all, saved->ids, (size_t)saved->n_ids * sizeof *all);
    *ids = all, *n += saved->n_ids;
    return KV_OK;
}

// Both texts are one: where tokens span the border between them they are others than the saved ones.
static kv_status prepend_text(const kvrun *run, char **text, size_t *length, kv_error *err) {
    const kv_saved_prompt *saved = run->saved;
    if (!saved->text)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "%s: was not saved from a text as it is: give what comes behind it as --prompt-ids",
                       run->options.load_prompt);
    const size_t before = (size_t)saved->n_text;
    char *all = realloc(*text, before + *length + 1);
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
    memmove(all + before, all, *length + 1);
    memcpy(all, saved->text, before);
    *text = all, *length += before;
    return KV_OK;
}

// ---- All of it -------------------------------------------------------------------------------------------

// As text, which stays with the run where the ids are all of it.
static kv_status read_words(kvrun *run, int32_t **ids, int64_t *n, kv_error *err) {
    const kvrun_options *o = &run->options;
    kv_status status = read_text(o, &run->text, &run->n_text, err);
    if (status == KV_OK && run->saved && !o->chat) status = prepend_text(run, &run->text, &run->n_text, err);
    if (status == KV_OK)
        status = (o->chat ? encode_message : kvrun_prompt_encode)(run, run->text, run->n_text, ids, n, err);
    if (status == KV_OK && !o->chat && !o->cut) return KV_OK;
    free(run->text);
    run->text = NULL, run->n_text = 0;
    return status;
}

// Nothing behind the saved prompt: it is the prompt.
static kv_status take_saved(kvrun *run, int32_t **ids, int64_t *n, kv_error *err) {
    const kv_saved_prompt *saved = run->saved;
    if (saved->text && !(run->text = strndup(saved->text, (size_t)saved->n_text)))
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for a prompt");
    run->n_text = (size_t)saved->n_text;
    return prepend_ids(saved, ids, n, err);
}

kv_status kvrun_prompt_read(kvrun *run, int32_t **ids, int64_t *n, kv_error *err) {
    const kvrun_options *o = &run->options;
    kv_status status;
    *ids = NULL, *n = 0;
    if (o->prompt_ids) {
        status = parse_ids(o->prompt_ids, ids, n, err);
        if (status == KV_OK && run->saved) status = prepend_ids(run->saved, ids, n, err);
    } else if (run->saved && !o->n_words && !o->file) {
        status = take_saved(run, ids, n, err);
    } else {
        status = read_words(run, ids, n, err);
    }
    if (status == KV_OK && o->cut) status = cut(run, *ids, n, err);
    if (status == KV_OK) status = check_prompt(run, *ids, *n, err);
    if (status == KV_OK) return KV_OK;
    free(*ids);
    *ids = NULL;
    return status;
}
