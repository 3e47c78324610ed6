// A conversation at the terminal.
//
// Every turn tokenizes the whole conversation anew and reads what the session has not read yet: it is taken back to
// where the ids differ, and what comes behind is read, with KV prediction predicted. A pruned prompt is read from its
// beginning, as it has been chosen from as a whole.
#include "infer/kvrun/kvrun.h"

#include "data/system/buffers.h"
#include "data/system/console.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct talk {
    const kvrun *run;
    kv_session *session;
    int32_t *read; // [n_read] what the session has read
    int64_t n_read;
    // Plain: everything in one text. Chat: messages, of which a system message is not one.
    char *text;
    kv_chat_message *messages;
    int64_t n_messages;
};

static const char help[] = "Type a message; the model goes on from all that was said.\n"
                           "  /reset  forget the conversation\n"
                           "  /save FILE, /load FILE  keep it; go on from a kept one\n"
                           "  /help   this\n"
                           "  /quit   end; so does Ctrl-D\n"
                           "  //...   a message that begins with a slash\n"
                           "  Ctrl-C  ends an answer, clears what is being typed, and\n"
                           "          ends the program where there is neither\n"
                           "Several lines: paste them, press Alt-Enter between them, or\n"
                           "end a line with \\. Up and Ctrl-R bring back what was typed\n"
                           "before; what begins with a blank is not kept.\n";

static const char *const commands[] = {"/help", "/load", "/quit", "/reset", "/save", NULL};

// ---- What has been said --------------------------------------------------------------------------------

static void drop_last(struct talk *t) {
    free((char *)t->messages[--t->n_messages].text);
}

static void forget(struct talk *t) {
    while (t->n_messages > 0) drop_last(t);
    if (t->text) *t->text = '\0';
    t->n_read = 0;
    kv_session_reset(t->session);
}

static kv_status add_message(struct talk *t, kv_chat_role role, const char *text, kv_error *err) {
    kv_chat_message *more = kv_room_for_one(t->messages, (size_t)t->n_messages, sizeof *more);
    if (more) t->messages = more;
    char *copy = more ? strdup(text) : NULL;
    if (!copy) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the conversation");
    t->messages[t->n_messages++] = (kv_chat_message){role, copy};
    return KV_OK;
}

static kv_status add_text(struct talk *t, const char *text, kv_error *err) {
    const size_t before = t->text ? strlen(t->text) : 0;
    char *longer = realloc(t->text, before + strlen(text) + 1);
    if (!longer) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the conversation");
    strcpy(longer + before, text);
    t->text = longer;
    return KV_OK;
}

// The user's words; in plain text a line of their own.
static kv_status say(struct talk *t, const char *line, kv_error *err) {
    if (t->run->options.chat) return add_message(t, KV_CHAT_USER, line, err);
    const size_t before = t->text ? strlen(t->text) : 0;
    kv_status status = before > 0 && t->text[before - 1] != '\n' ? add_text(t, "\n", err) : KV_OK;
    return status == KV_OK ? add_text(t, line, err) : status;
}

static kv_status encode(const struct talk *t, int32_t **ids, int64_t *n, kv_error *err) {
    const kvrun *run = t->run;
    if (!run->options.chat) return kvrun_prompt_encode(run, t->text, strlen(t->text), ids, n, err);
    kv_chat_message *all = malloc((size_t)(t->n_messages + 1) * sizeof *all);
    if (!all) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the conversation");
    const bool system = run->options.system != NULL;
    if (system) all[0] = (kv_chat_message){KV_CHAT_SYSTEM, run->options.system};
    memcpy(all + system, t->messages, (size_t)t->n_messages * sizeof *all);
    kv_status status = kv_chat_encode(&run->chat, run->tokenizer, all, t->n_messages + system, ids, n, err);
    free(all);
    return status;
}

// ---- Turns ---------------------------------------------------------------------------------------------

// Ids that the session has read already. The last one is always read, for its logits.
static int64_t known(const struct talk *t, const int32_t *ids, int64_t n) {
    int64_t same = 0;
    if (!kv_session_appends(t->session)) return 0;
    while (same < t->n_read && same < n - 1 && t->read[same] == ids[same]) same++;
    return same;
}

// n_unread: of the turns before, what an aux had not read.
static void show_turn(const struct talk *t, const kvrun_answer *a, int64_t n, int64_t n_new,
                      int64_t n_unread) {
    char ttft[32];
    if (t->run->options.quiet) return;
    fprintf(stderr, "[first token after %s, %lld of %lld tokens read", kvrun_seconds(a->ttft, ttft),
            (long long)n_new, (long long)n);
    if (n_unread > 0 && n_new > 1) fprintf(stderr, ", by the aux %lld before them", (long long)n_unread);
    fprintf(stderr, "; %lld tokens", (long long)a->n);
    if (a->tokens_per_second > 0) fprintf(stderr, ", %.1f a second", a->tokens_per_second);
    fprintf(stderr, "; ended by %s; context %lld of %lld]\n", a->finish, (long long)(n + a->n),
            (long long)t->run->context);
}

// What the session holds now: the prompt, and of what was generated all that went through it.
static kv_status remember(struct talk *t, const int32_t *ids, int64_t n, const kvrun_answer *a,
                          kv_error *err) {
    int64_t length = kv_session_length(t->session, 0);
    int32_t *longer = realloc(t->read, (size_t)(n + a->n) * sizeof *longer + 1);
    if (!longer) return kv_fail(err, KV_ERR_MEMORY, "out of memory for the conversation");
    t->read = longer;
    memcpy(longer, ids, (size_t)n * sizeof *ids);
    if (a->n > 0) memcpy(longer + n, a->ids, (size_t)a->n * sizeof *longer);
    t->n_read = length < n + a->n ? length : n + a->n;
    return KV_OK;
}

static kv_status answer(struct talk *t, const int32_t *ids, int64_t n, kv_error *err) {
    const int64_t same = known(t, ids, n);
    kvrun_answer a;
    kv_session_rewind(t->session, same);
    const int64_t n_unread = kv_session_unread(t->session, 0);
    t->n_read = 0; // nothing is sure if this fails
    kv_status status = kvrun_answer_make(t->run, t->session, ids + same, n - same, same > 0, stdout, &a, err);
    if (a.n > 0 || status == KV_OK) fputc('\n', stdout);
    if (status == KV_OK) status = kvrun_flush(stdout, err);
    if (status == KV_OK) show_turn(t, &a, n, n - same, n_unread);
    if (status == KV_OK) status = remember(t, ids, n, &a, err);
    if (status == KV_OK)
        status =
            t->run->options.chat ? add_message(t, KV_CHAT_ASSISTANT, a.text, err) : add_text(t, a.text, err);
    kvrun_answer_free(&a);
    return status;
}

// Says what does not fit, and takes the user's words back.
static void refuse(struct talk *t, size_t text_before, int64_t n) {
    fprintf(
        stderr,
        "[the conversation would have %lld tokens, the context holds %lld: say it shorter, or /reset to begin "
        "anew]\n",
        (long long)n, (long long)t->run->context);
    if (t->run->options.chat) drop_last(t);
    if (t->text) t->text[text_before] = '\0';
}

static kv_status turn(struct talk *t, const char *line, kv_error *err) {
    int32_t *ids = NULL;
    int64_t n = 0;
    const size_t before = t->text ? strlen(t->text) : 0;
    kv_status status = say(t, line, err);
    if (status == KV_OK) status = encode(t, &ids, &n, err);
    const int64_t cut = status == KV_OK && t->run->options.cut ? kvrun_prompt_cut(t->run, ids, &n) : 0;
    if (cut > 0)
        fprintf(stderr, "[the first %lld tokens of the conversation are cut off: they no longer fit]\n",
                (long long)cut);
    if (status == KV_OK && n > t->run->context)
        refuse(t, before, n);
    else if (status == KV_OK && n > 0)
        status = answer(t, ids, n, err);
    free(ids);
    // Ctrl-C was meant for the answer.
    if (status == KV_OK) kv_console_forget_interrupt();
    if (status == KV_OK && kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    return status;
}

// ---- Kept conversations --------------------------------------------------------------------------------

static void save(struct talk *t, const char *path) {
    kv_error err = {0};
    if (t->n_read == 0 || t->n_read != kv_session_length(t->session, 0)) {
        fputs("[nothing to save: nothing has been said]\n", stderr);
        return;
    }
    if (kvrun_saved_put(t->run, path, t->session, t->read, t->n_read, t->text, strlen(t->text), &err) ==
        KV_OK)
        fprintf(stderr, "[%lld tokens saved in %s]\n", (long long)t->n_read, path);
    else
        fprintf(stderr, "[%s]\n", err.message);
}

// The conversation becomes the one that was saved; on failure it stays as it is.
static kv_status take(struct talk *t, const kv_saved_prompt *saved, kv_error *err) {
    char *text = strndup(saved->text, (size_t)saved->n_text);
    int32_t *read = malloc((size_t)saved->n_rows * sizeof *read);
    kv_status status = text && read ? kv_session_load(t->session, 0, saved, err)
                                    : kv_fail(err, KV_ERR_MEMORY, "out of memory for the conversation");
    if (status != KV_OK) {
        free(text);
        free(read);
        return status;
    }
    free(t->text);
    free(t->read);
    memcpy(read, saved->ids, (size_t)saved->n_rows * sizeof *read);
    t->text = text, t->read = read, t->n_read = saved->n_rows;
    return KV_OK;
}

static void load(struct talk *t, const char *path) {
    kv_error err = {0};
    kv_saved_prompt *saved = NULL;
    double seconds;
    char took[32];
    kv_status status = kvrun_saved_read(t->run, path, &saved, &seconds, &err);
    if (status == KV_OK && !saved->text)
        status = kv_fail(&err, KV_ERR_ARGUMENT, "%s: was not saved from a text as it is", path);
    if (status == KV_OK) status = take(t, saved, &err);
    if (status == KV_OK)
        fprintf(stderr, "[%lld tokens loaded in %s]\n", (long long)saved->n_rows,
                kvrun_seconds(seconds, took));
    else
        fprintf(stderr, "[%s]\n", err.message);
    kv_saved_prompt_free(saved);
}

// "/save FILE" and "/load FILE"; false: it is none of them. Messages of a chat are not kept, and what a pruned prompt
// leaves out hangs on all of it.
static bool keep(struct talk *t, const char *line) {
    const bool saves = !strncmp(line, "/save", 5), loads = !strncmp(line, "/load", 5);
    if ((!saves && !loads) || (line[5] && line[5] != ' ')) return false;
    const char *path = line + 5 + strspn(line + 5, " ");
    if (t->run->options.chat || !kv_session_appends(t->session))
        fprintf(stderr, "[%.5s is neither for --chat nor for --prune]\n", line);
    else if (!*path)
        fprintf(stderr, "[%.5s needs a file: %.5s FILE]\n", line, line);
    else
        (saves ? save : load)(t, path);
    return true;
}

// ---- The session ---------------------------------------------------------------------------------------

// A line that begins with a slash. *over: it ends the session.
static void command(struct talk *t, const char *line, bool *over) {
    if (!strcmp(line, "/quit") || !strcmp(line, "/exit"))
        *over = true;
    else if (!strcmp(line, "/reset"))
        forget(t), fputs("[forgotten]\n", stderr);
    else if (!strcmp(line, "/help"))
        fputs(help, stderr);
    else if (!keep(t, line))
        fprintf(stderr, "[there is no %s; /help tells what there is]\n", line);
}

static kv_status converse(struct talk *t, kvrun_line *line, kv_error *err) {
    for (bool over = false; !over;) {
        bool end;
        const char *text;
        kv_status status = kvrun_line_read(line, &text, &end, err);
        if (status != KV_OK || end) return status;
        if (text[0] == '/' && text[1] != '/')
            command(t, text, &over);
        else if (*text)
            status = turn(t, text + (*text == '/'), err);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

static void greet(const kvrun *run) {
    if (run->options.quiet) return;
    const bool again = run->system.pruning.kind != KV_PRUNE_NONE;
    fprintf(stderr, "[%s, context %lld tokens%s; /help tells more]\n", kvrun_system_name(&run->system),
            (long long)run->context, again ? ", read as a whole at every turn" : "");
}

kv_status kvrun_interact(const kvrun *run, kv_error *err) {
    struct talk t = {.run = run};
    kvrun_line line = {0};
    kv_status status = kvrun_line_open(&line, !run->options.no_history, commands, err);
    if (status == KV_OK) status = kvrun_session_turns(&run->system, run->context, &t.session, err);
    if (status == KV_OK) {
        greet(run);
        status = converse(&t, &line, err);
        forget(&t);
    }
    kvrun_line_close(&line);
    free(t.read);
    free(t.text);
    free(t.messages);
    kv_session_free(t.session);
    return status;
}
