#include "tests/bench/peers.h"

#include "data/file/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct bench_peers {
    pid_t child;
    FILE *to, *from;
    char version[128];
};

// ---- PyTorch -------------------------------------------------------------------------------------------

// Its next line, a new object; NULL when it has ended.
static json_t *answer(bench_peers *p) {
    char *line = NULL;
    size_t room = 0;
    json_error_t why;
    const ssize_t n = getline(&line, &room, p->from);
    json_t *value = n > 0 ? kv_json_parse(line, (size_t)n, 0, &why) : NULL;
    free(line);
    return value;
}

static bool spawn(const char *const *words, int in, int out, pid_t *child) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (in >= 0) posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    const int failed = posix_spawnp(child, words[0], &actions, NULL, (char *const *)words, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) fprintf(stderr, "kvbench: %s: %s\n", words[0], strerror(failed));
    return !failed;
}

bench_peers *bench_peers_start(const char *python, const char *script, int threads) {
    int to[2], from[2];
    char count[16];
    snprintf(count, sizeof count, "%d", threads);
    bench_peers *p = calloc(1, sizeof *p);
    if (!p || pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC)) {
        free(p);
        return NULL;
    }
    const bool started = spawn((const char *const[]){python, script, count, NULL}, to[0], from[1], &p->child);
    close(to[0]), close(from[1]);
    p->to = fdopen(to[1], "w"), p->from = fdopen(from[0], "r");
    json_t *hello = started ? answer(p) : NULL;
    const char *version = json_string_value(json_object_get(hello, "version"));
    snprintf(p->version, sizeof p->version, "%s", version ? version : "");
    json_decref(hello);
    if (version) return p;
    bench_peers_stop(p);
    return NULL;
}

void bench_peers_stop(bench_peers *p) {
    int status;
    if (!p) return;
    if (p->to) fclose(p->to);
    if (p->from) fclose(p->from);
    if (p->child) waitpid(p->child, &status, 0);
    free(p);
}

const char *bench_peers_version(const bench_peers *p) {
    return p->version;
}

static double seconds_of(bench_peers *p) {
    json_t *said = answer(p);
    const json_t *seconds = json_object_get(said, "seconds");
    const char *error = json_string_value(json_object_get(said, "error"));
    const double value = json_is_number(seconds) ? json_number_value(seconds) : NAN;
    if (isnan(value)) fprintf(stderr, "kvbench: PyTorch: %s\n", error ? error : "peers.py has ended");
    json_decref(said);
    return value;
}

double bench_peers_prepare(bench_peers *p, const json_t *request) {
    kv_json_put(p->to, json_deep_copy(request), JSON_COMPACT);
    if (fflush(p->to)) return NAN;
    return seconds_of(p);
}

double bench_peers_run(bench_peers *p) {
    fputs("\"run\"\n", p->to);
    if (fflush(p->to)) return NAN;
    return seconds_of(p);
}

// ---- llama.cpp -----------------------------------------------------------------------------------------

// All that a program prints on standard output; NULL, and why on stderr, when it failed. Caller frees.
static char *printed(const char *const *words, size_t *size) {
    int from[2], status;
    char *text = NULL, block[4096];
    pid_t child;
    if (pipe2(from, O_CLOEXEC)) return NULL;
    const bool started = spawn(words, -1, from[1], &child);
    close(from[1]);
    FILE *memory = open_memstream(&text, size);
    for (ssize_t n; started && memory && (n = read(from[0], block, sizeof block)) > 0;)
        fwrite(block, 1, (size_t)n, memory);
    close(from[0]);
    if (memory) fclose(memory);
    if (!started || waitpid(child, &status, 0) < 0 || status != 0) {
        if (started) fprintf(stderr, "kvbench: %s failed\n", words[0]);
        free(text);
        return NULL;
    }
    return text;
}

static json_t *test_of(const json_t *said) {
    const json_int_t prompt = json_integer_value(json_object_get(said, "n_prompt"));
    const json_int_t decoded = json_integer_value(json_object_get(said, "n_gen"));
    const double ns = json_number_value(json_object_get(said, "avg_ns"));
    const char *model = json_string_value(json_object_get(said, "model_type"));
    if (prompt + decoded <= 0 || ns <= 0) return NULL;
    return json_pack("{s:s,s:s,s:I,s:f}", "model", model ? model : "?", "what", prompt ? "prefill" : "decode",
                     "tokens", prompt + decoded, "seconds", ns * 1e-9);
}

json_t *bench_llama(const char *program, const char *gguf, const int *prompts, int n, int threads) {
    char sizes[128] = "", count[16];
    size_t size = 0, i;
    json_error_t why;
    for (int p = 0; p < n; p++)
        snprintf(sizes + strlen(sizes), sizeof sizes - strlen(sizes), "%s%d", p ? "," : "", prompts[p]);
    snprintf(count, sizeof count, "%d", threads);
    char *text = printed((const char *const[]){program, "-m", gguf, "-p", sizes, "-n", "16", "-t", count,
                                               "-r", "3", "-o", "json", NULL},
                         &size);
    json_t *all = text ? kv_json_parse(text, size, 0, &why) : NULL, *tests = json_array(), *entry;
    json_array_foreach(all, i, entry) {
        json_t *test = test_of(entry);
        if (test) json_array_append_new(tests, test);
    }
    if (text && json_array_size(tests) == 0)
        fprintf(stderr, "kvbench: %s: expected a list of tests in JSON (-o json)\n", program);
    json_decref(all);
    free(text);
    if (json_array_size(tests) > 0) return tests;
    json_decref(tests);
    return NULL;
}
