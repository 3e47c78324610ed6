// spm_train is run as a program rather than linked: training can fail or eat all memory, and then takes down
// only itself. It works in a directory of its own, since its file names end up in the model.
#include "data/tokenizer/train.h"

#include "core/text.h"
#include "data/file/path.h"
#include "data/file/whole_file.h"
#include "data/system/console.h"
#include "data/text/documents.h"
#include "data/tokenizer/tokenizer.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

// What spm_train said last; its reason for failing is there.
struct tail {
    char text[2048];
    size_t used;
};

// ---- Its input -----------------------------------------------------------------------------------------

// The letters and digits of the corpus. In a small one some are so rare that spm_train would spell them as
// bytes; required to have pieces of their own they must also occur, or it fails.
struct alphabet {
    bool present[128];
};

static void note_characters(struct alphabet *alphabet, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x80 && isalnum(c)) alphabet->present[c] = true;
    }
}

// What spm_train would pass over without a word: lines longer than this, and those with U+2585, which it has a use of
// its own for.
enum { MOST_LINE = 1 << 20 };
static const char reserved[] = "\xE2\x96\x85";

// Where a line of text[length] is to end at the latest: behind a blank, or at least not within a character.
static size_t line_end(const char *text, size_t length) {
    if (length <= MOST_LINE) return length;
    size_t end = MOST_LINE;
    while (end > MOST_LINE / 2 && text[end - 1] != ' ') end--;
    if (end > MOST_LINE / 2) return end;
    for (end = MOST_LINE; end > MOST_LINE - 4 && ((unsigned char)text[end] & 0xC0) == 0x80;) end--;
    return end;
}

// A document in lines that are read; what little the breaks change is no piece of it.
static void write_lines(const char *text, size_t length, FILE *corpus) {
    for (const char *end = text + length; text < end;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = memmem(text, (size_t)((newline ? newline : end) - text), reserved, 3);
        const size_t n = line_end(text, (size_t)((stop ? stop : newline ? newline : end) - text));
        fwrite(text, 1, n, corpus);
        text += n;
        if (text == stop)
            text += 3;
        else if (text == newline)
            text++;
        else if (text == end)
            break;
        putc('\n', corpus);
    }
}

// spm_train wants one sentence a line.
static kv_status copy_documents(const char *input, const kv_documents_options *options, FILE *corpus,
                                const char *path, struct alphabet *alphabet, kv_error *err) {
    kv_documents *documents = NULL;
    kv_status status = kv_documents_open_as(input, options, &documents, err);
    while (!status) {
        const char *text = NULL;
        size_t length = 0;
        status = kv_documents_next(documents, &text, &length, err);
        if (status || !text) break;
        note_characters(alphabet, text, length);
        write_lines(text, length, corpus);
        if (fputc('\n', corpus) == EOF)
            status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
        if (!status && kv_console_interrupted()) status = kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    }
    kv_documents_close(documents);
    return status;
}

static kv_status write_corpus(const char *const *inputs, size_t n_inputs, const kv_documents_options *text,
                              const char *path, struct alphabet *alphabet, kv_error *err) {
    FILE *corpus = fopen(path, "wb");
    if (!corpus) return kv_fail(err, KV_ERR_IO, "%s: %s", path, strerror(errno));
    kv_status status = KV_OK;
    for (size_t i = 0; !status && i < n_inputs; i++)
        status = copy_documents(inputs[i], text, corpus, path, alphabet, err);
    bool failed = ferror(corpus) != 0;
    if ((fclose(corpus) != 0 || failed) && !status)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return status;
}

// ---- Running it ----------------------------------------------------------------------------------------

// Starts spm_train in `directory`, where its relative file names lead: they end up inside the model, and a
// comma in a path would split it in two.
static int spawn(const char *directory, int64_t vocab_size, const struct alphabet *alphabet, int out,
                 pid_t *child) {
    char vocab_option[48], required_option[160] = "--required_chars=";
    snprintf(vocab_option, sizeof vocab_option, "--vocab_size=%" PRIi64, vocab_size);
    for (size_t c = 0, used = strlen(required_option); c < 128; c++)
        if (alphabet->present[c]) required_option[used++] = (char)c;
    // clang-format off
    char *arguments[] = {"spm_train", "--input=corpus.txt", "--model_prefix=tokenizer",
                         vocab_option, required_option, "--model_type=bpe", "--byte_fallback=true",
                         "--split_digits=true", "--normalization_rule_name=identity",
                         "--add_dummy_prefix=false", "--remove_extra_whitespaces=false",
                         "--allow_whitespace_only_pieces=true",
                         "--unk_id=0", "--bos_id=1", "--eos_id=2", "--pad_id=-1",
                         "--max_sentence_length=1048576", "--minloglevel=2", NULL};
    // clang-format on
    // It does not check its writes: at `ulimit -f` it is better killed, as by default, than silently cut short.
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    int error = posix_spawn_file_actions_addchdir_np(&files, directory);
    if (!error) error = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    if (!error) error = posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
    kv_console_leave_place();
    if (!error) error = posix_spawnp(child, arguments[0], &files, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

static void keep_tail(struct tail *tail, const char *text, size_t length) {
    const size_t capacity = sizeof tail->text - 1;
    if (length > capacity) {
        text += length - capacity;
        length = capacity;
    }
    if (tail->used + length > capacity) {
        size_t dropped = tail->used + length - capacity;
        memmove(tail->text, tail->text + dropped, tail->used - dropped);
        tail->used -= dropped;
    }
    memcpy(tail->text + tail->used, text, length);
    tail->used += length;
    tail->text[tail->used] = '\0';
}

// Until the child closes its end. SIGTERM reaches us alone, so it is passed on.
static void follow(pid_t child, int from, struct tail *tail) {
    for (;;) {
        struct pollfd wait = {.fd = from, .events = POLLIN};
        int ready = poll(&wait, 1, 100);
        if (kv_console_interrupted()) kill(child, SIGTERM);
        if (ready <= 0) continue;
        char text[1024];
        ssize_t n = read(from, text, sizeof text);
        if (n == 0 || (n < 0 && errno != EINTR)) return;
        if (n > 0) keep_tail(tail, text, (size_t)n);
    }
}

// The line that tells why, without the source location that sentencepiece puts in front: the last one that
// has such a location ("trainer_interface.cc(660) [...] Vocabulary size too high"), or else the last one.
static const char *reason(struct tail *tail) {
    const char *found = NULL, *last = tail->text;
    char *rest = NULL;
    for (char *line = strtok_r(tail->text, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        last = line;
        for (const char *location = strstr(line, "] "); location && location[2];
             location = strstr(location + 2, "] "))
            found = location + 2;
    }
    return found ? found : last;
}

static kv_status run_spm_train(const char *directory, int64_t vocab_size, const struct alphabet *alphabet,
                               kv_error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return kv_fail(err, KV_ERR_IO, "cannot make a pipe: %s", strerror(errno));
    pid_t child = 0;
    int error = spawn(directory, vocab_size, alphabet, ends[1], &child);
    close(ends[1]);
    struct tail tail = {0};
    if (!error) follow(child, ends[0], &tail);
    close(ends[0]);
    if (error == ENOENT)
        return kv_fail(err, KV_ERR_IO,
                       "cannot find the program spm_train; install the package sentencepiece");
    if (error) return kv_fail(err, KV_ERR_IO, "cannot start spm_train: %s", strerror(error));
    int result = 0;
    while (waitpid(child, &result, 0) < 0 && errno == EINTR) {
    }
    if (kv_console_interrupted()) return kv_fail(err, KV_ERR_INTERRUPTED, "interrupted");
    if (WIFSIGNALED(result))
        return kv_fail(err, KV_ERR_IO, "spm_train was ended by signal %d (%s)", WTERMSIG(result),
                       strsignal(WTERMSIG(result)));
    if (WEXITSTATUS(result) == 0) return KV_OK;
    const char *why = tail.used ? reason(&tail) : "it gave no reason";
    return kv_fail(err, KV_ERR_ARGUMENT, "spm_train failed: %.*s", KV_HEAD(why, 600));
}

// ---- The whole -----------------------------------------------------------------------------------------

static kv_status check_model(const char *path, int64_t vocab_size, kv_error *err) {
    kv_tokenizer *tokenizer = NULL;
    kv_status status = kv_tokenizer_open(path, &tokenizer, err);
    if (status) return status;
    int64_t found = kv_tokenizer_vocab_size(tokenizer);
    if (found != vocab_size || kv_tokenizer_bos(tokenizer) != 1 || kv_tokenizer_eos(tokenizer) != 2)
        status = kv_fail(err, KV_ERR_FORMAT,
                         "spm_train made a tokenizer of %" PRIi64 " pieces, BOS %" PRIi32 ", EOS %" PRIi32
                         "; expected %" PRIi64 ", 1 and 2",
                         found, kv_tokenizer_bos(tokenizer), kv_tokenizer_eos(tokenizer), vocab_size);
    kv_tokenizer_free(tokenizer);
    return status;
}

static kv_status train_in(const char *directory, const char *const *inputs, size_t n_inputs,
                          const kv_documents_options *text, int64_t vocab_size, const char *path,
                          kv_error *err) {
    char corpus[PATH_MAX + 16], model[PATH_MAX + 24];
    snprintf(corpus, sizeof corpus, "%s/corpus.txt", directory);
    snprintf(model, sizeof model, "%s/tokenizer.model", directory);
    struct alphabet alphabet = {0};
    kv_status status = write_corpus(inputs, n_inputs, text, corpus, &alphabet, err);
    if (!status) status = run_spm_train(directory, vocab_size, &alphabet, err);
    if (!status) status = check_model(model, vocab_size, err);
    if (status) return status;
    kv_whole_file target;
    status = kv_whole_file_begin(&target, path, err);
    if (status) return status;
    if (rename(model, target.path) != 0)
        status = kv_fail(err, KV_ERR_IO, "%s: cannot put the tokenizer there: %s", path, strerror(errno));
    return kv_whole_file_end(&target, status, err);
}

kv_status kv_tokenizer_train_as(const char *const *inputs, size_t n_inputs, const kv_documents_options *text,
                                int64_t vocab_size, const char *path, kv_error *err) {
    static const kv_documents_options by_content = {KV_TEXT_BY_CONTENT, NULL};
    // 3 special pieces and 256 bytes are always there.
    if (vocab_size < 260 || vocab_size > INT32_MAX)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "a vocabulary of %" PRIi64
                       " pieces, expected at least 260 (3 special ones, 256 bytes, text)",
                       vocab_size);
    char name[PATH_MAX];
    if (snprintf(name, sizeof name, "%s.training", path) >= (int)sizeof name)
        return kv_path_too_long(path, err);
    kv_whole_file workspace; // never committed: it only has to go away
    kv_status status = kv_whole_dir_begin(&workspace, name, err);
    if (status) return status;
    status = train_in(workspace.path, inputs, n_inputs, text ? text : &by_content, vocab_size, path, err);
    if (status) return kv_whole_file_end(&workspace, status, err);
    kv_whole_file_abandon(&workspace);
    return KV_OK;
}

kv_status kv_tokenizer_train(const char *const *inputs, size_t n_inputs, int64_t vocab_size, const char *path,
                             kv_error *err) {
    return kv_tokenizer_train_as(inputs, n_inputs, NULL, vocab_size, path, err);
}
