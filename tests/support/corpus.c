#include "tests/support/corpus.h"

#include "data/file/content.h"
#include "data/synthetic/atlas.h"
#include "data/text/unicode.h"
#include "data/tokenizer/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

const char *test_fixture(const char *name) {
    const char *root = getenv("KV_TEST_DIR");
    return test_path(root ? root : "tests", name);
}

void test_write_text(const char *path, const char *text) {
    kv_error err = {0};
    assert_int_equal(kv_write_file(path, text, strlen(text), &err), KV_OK);
}

void test_put_config(FILE *file, const char *text) {
    for (const char *c = text; *c; c++)
        if (*c == '@')
            fputs(test_dir, file);
        else if (*c == '%')
            fprintf(file, "%s/fixtures", getenv("KV_TEST_DIR"));
        else
            fputc(*c, file);
}

void test_write_config(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    test_put_config(file, text);
    assert_int_equal(fclose(file), 0);
}

char *test_read_text(const char *path) {
    kv_error err = {0};
    char *text = NULL;
    size_t size = 0;
    if (kv_read_file(path, (size_t)1 << 30, &text, &size, &err)) fail_msg("%s", err.message);
    return text;
}

void test_small_corpus(const char *dir) {
    kv_error err = {0};
    kv_atlas atlas;
    const char *text = test_path(dir, "train.jsonl");
    if (kv_atlas_build("/usr/share/iso-codes/json", 300, 0.2, 1, &atlas, &err)) fail_msg("%s", err.message);
    if (kv_atlas_write(&atlas, dir, &err)) fail_msg("%s", err.message);
    kv_atlas_free(&atlas);
    if (kv_tokenizer_train(&text, 1, 400, test_path(dir, "tokenizer.model"), &err))
        fail_msg("%s", err.message);
}

char *test_repaired(const char *text, size_t length, size_t *n) {
    char *out = test_alloc((int64_t)(3 * length + 1), 1), *end = out;
    while (length > 0) {
        const int whole = kv_utf8_character(text, length);
        const size_t used = whole > 0 ? (size_t)whole : 1;
        end = whole > 0 ? mempcpy(end, text, used) : stpcpy(end, "\xEF\xBF\xBD");
        text += used, length -= used;
    }
    if (n) *n = (size_t)(end - out);
    return out;
}

static void read_back(FILE *file, char *text, size_t size) {
    rewind(file);
    size_t n = fread(text, 1, size - 1, file);
    text[n] = '\0';
    fclose(file);
}

int test_run(const char *const *arguments, int64_t max_file_bytes, char *out, char *err, size_t size) {
    FILE *out_file = tmpfile(), *err_file = tmpfile();
    assert_true(out_file && err_file);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(fileno(out_file), STDOUT_FILENO);
        dup2(fileno(err_file), STDERR_FILENO);
        struct rlimit limit = {(rlim_t)max_file_bytes, (rlim_t)max_file_bytes};
        if (max_file_bytes >= 0) setrlimit(RLIMIT_FSIZE, &limit);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    read_back(out_file, out, size);
    read_back(err_file, err, size);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void test_expect_run(const char *variable, int status, const char *const *arguments, char *out, char *err,
                     size_t size) {
    const char *all[32] = {getenv(variable)};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    const int found = test_run(all, -1, out, err, size);
    if (found != status) fail_msg("exit status %d instead of %d: %s", found, status, err);
}
