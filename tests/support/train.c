#include "tests/support/train.h"

#include "tests/support/numbers/rounding.h"

#include "data/corpus/shard.h"
#include "data/file/content.h"

#include <ftw.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGS = 24 };
static char dir[64], *program, *output;

// ---- Running the program -------------------------------------------------------------------------------

// Each process has a file of its own, as two may run at a time.
static void output_name(char name[64], pid_t pid) {
    snprintf(name, 64, "output-%ld.txt", (long)pid);
}

pid_t train_start(const char *const *args, rlim_t max_file_size) {
    const char *argv[MAX_ARGS] = {program};
    for (int i = 0; args[i]; i++) {
        assert_true(i + 2 < MAX_ARGS);
        argv[i + 1] = args[i];
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); // a test that failed waits for nobody
    const struct rlimit limit = {max_file_size, max_file_size};
    if (max_file_size && setrlimit(RLIMIT_FSIZE, &limit)) _exit(99);
    char name[64];
    output_name(name, getpid());
    if (!freopen(name, "w", stdout) || dup2(STDOUT_FILENO, STDERR_FILENO) < 0) _exit(99);
    execv(program, (char *const *)argv);
    _exit(99);
}

int train_finish(pid_t pid) {
    int status;
    size_t size;
    char name[64];
    output_name(name, pid);
    kv_error err = {0};
    assert_int_equal(waitpid(pid, &status, 0), pid);
    free(output);
    if (kv_read_file(name, 1 << 20, &output, &size, &err) != KV_OK) fail_msg("%s", err.message);
    unlink(name);
    if (!WIFEXITED(status)) fail_msg("ended by signal %d: %s", WTERMSIG(status), output);
    return WEXITSTATUS(status);
}

void train_wait_for_file(pid_t pid, const char *path, int64_t size) {
    struct stat info;
    bool there = false;
    for (bool alive = true; alive && !there; usleep(2000)) {
        alive = test_alive(pid); // first: what it wrote at its end counts
        there = stat(path, &info) == 0 && info.st_size >= size;
    }
    if (!there) fail_msg("ended before %s was there", path);
}

void train_wait_for_text(pid_t pid, const char *text) {
    char name[64], *printed = NULL;
    bool there = false;
    size_t size;
    output_name(name, pid);
    for (bool alive = true; alive && !there; usleep(2000)) {
        alive = test_alive(pid);
        there = kv_read_file(name, 1 << 20, &printed, &size, NULL) == KV_OK && strstr(printed, text);
        free(printed);
        printed = NULL;
    }
    if (!there) fail_msg("ended before it said '%s'", text);
}

const char *train_output(void) {
    return output;
}

void train_expect(int code, const char *const *args) {
    int found = train_finish(train_start(args, 0));
    if (found != code) fail_msg("exit status %d instead of %d: %s", found, code, output);
}

// Behind what may stand before the error.
static const char *after(const char *text, const char *beginning) {
    return strncmp(text, beginning, strlen(beginning)) == 0 ? strchr(text, '\n') + 1 : text;
}

void train_refuse(const char *message, const char *const *args) {
    train_expect(1, args);
    const char *line = output, *before;
    do {
        before = line;
        line = after(after(line, "kvtrain: resuming"), "kvtrain: warning: ");
    } while (line > before);
    if (!strstr(line, message)) fail_msg("expected %s\nfound    %s", message, output);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

// ---- Files ---------------------------------------------------------------------------------------------

void put_file(const char *name, const char *text) {
    kv_error err = {0};
    if (kv_write_file(name, text, strlen(text), &err) != KV_OK) fail_msg("%s", err.message);
}

bool same_file(const char *a, const char *b) {
    char *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    kv_error err = {0};
    if (kv_read_file(a, 1 << 24, &x, &n, &err) || kv_read_file(b, 1 << 24, &y, &m, &err))
        fail_msg("%s", err.message);
    bool same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

static int n_temporary;
static int count_temporary(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info;
    (void)type;
    (void)walk;
    n_temporary += strstr(path, ".tmp.") != NULL;
    return 0;
}

void assert_nothing_half_written(void) {
    n_temporary = 0;
    assert_int_equal(nftw(".", count_temporary, 8, FTW_PHYS), 0);
    assert_int_equal(n_temporary, 0);
}

double metric(const char *run, int64_t step, const char *key) {
    char path[PATH_MAX], line[2048];
    double value = (double)NAN;
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        json_t *root = json_loads(line, 0, NULL);
        assert_non_null(root);
        const json_t *found = json_object_get(root, key);
        if (json_integer_value(json_object_get(root, "step")) == step && found)
            value = json_number_value(found);
        json_decref(root);
    }
    fclose(file);
    return value;
}

// Documents that count upwards from a start: what comes next can be learned at once.
void make_shard(const char *path, int64_t vocab_size, int32_t bos) {
    const kv_shard_info info = {
        .tokenizer = "0123456789abcdef", .vocab_size = vocab_size, .bos_id = bos, .eos_id = 2};
    kv_shard_writer *writer;
    kv_error err = {0};
    assert_int_equal(kv_shard_writer_open(path, &info, &writer, &err), KV_OK);
    for (int64_t d = 0; d < 60; d++) {
        int32_t ids[14] = {bos};
        for (int64_t i = 1; i < 13; i++)
            ids[i] = (int32_t)(3 + (test_below(5, d, TEST_VOCAB - 3) + i) % (TEST_VOCAB - 3));
        ids[13] = 2;
        assert_int_equal(kv_shard_writer_add(writer, ids, 14, &err), KV_OK);
    }
    assert_int_equal(kv_shard_writer_finish(writer, &err), KV_OK);
    kv_shard_writer_free(writer);
}

void make_text(const char *path, int64_t n, uint64_t seed) {
    const kv_shard_info info = {
        .tokenizer = "0123456789abcdef", .vocab_size = TEST_VOCAB, .bos_id = 1, .eos_id = 2};
    kv_shard_writer *writer;
    assert_int_equal(kv_shard_writer_open(path, &info, &writer, NULL), KV_OK);
    for (int64_t d = 0; d < n; d++) {
        int32_t ids[14];
        for (int64_t i = 0; i < 14; i++) ids[i] = (int32_t)test_below(seed, 14 * d + i, TEST_VOCAB);
        assert_int_equal(kv_shard_writer_add(writer, ids, 14, NULL), KV_OK);
    }
    assert_int_equal(kv_shard_writer_finish(writer, NULL), KV_OK);
    kv_shard_writer_free(writer);
}

static const char base_yaml[] =
    "task: lm\n"
    "output: base\n"
    "data: {train: shard.h5, seq_len: 16, batch_size: 8}\n"
    "model: {n_layers: 3, model_dim: 16, head_dim: 8, n_heads: 2, n_kv_heads: 1,\n"
    "        ffn_dim: 32, context_length: 32}\n"
    "train: {steps: 40, lr: 1e-2, warmup_steps: 5, checkpoint_every: 15, log_every: 1}\n";
static const char aux_yaml[] = "extends: base.yaml\n"
                               "output: aux\n"
                               "model: {n_layers: 2, model_dim: 8, head_dim: 4}\n";
static const char kvp_yaml[] =
    "task: kvp\n"
    "output: kvp\n"
    "data: {train: shard.h5, seq_len: 16, batch_size: 8, micro_batch_size: 4}\n"
    "base: base/final/model\n"
    "aux: aux/final/model\n"
    "loss: {kl: 1, z_loss: 1e-4}\n"
    "train: {steps: 20, lr: 5e-3, warmup_steps: 5, checkpoint_every: 8, log_every: 1}\n";

double train_allowed(const char *run, int64_t step, double x) {
    static const char *const files[] = {"model/model", "aux/model", "predictor/predictor"};
    double n = 0;
    for (int i = 0; i < 3; i++) {
        char path[PATH_MAX];
        struct stat info;
        snprintf(path, sizeof path, "%s/final/%s.safetensors", run, files[i]);
        if (stat(path, &info) == 0) n += (double)info.st_size / sizeof(float);
    }
    assert_true(n > 0);
    // Rates of up to 1e-2, batches of 8 · 16 tokens.
    return rounding_of_training((double)(step - 1), 1e-2, n, 8 * 16, x);
}

int train_setup(void **state) {
    (void)state;
    program = getenv("KVTRAIN"); // set by meson
    if (!program) return -1;
    test_dir_make(dir);
    if (chdir(dir)) return -1;
    make_shard("shard.h5", TEST_VOCAB, 1);
    put_file("base.yaml", base_yaml);
    put_file("aux.yaml", aux_yaml);
    put_file("kvp.yaml", kvp_yaml);
    train_expect(0, ARGS("base.yaml"));
    train_expect(0, ARGS("aux.yaml"));
    return 0;
}

int train_shell_setup(void **state) {
    if (train_setup(state)) return -1;
    setenv("D", dir, 1);
    setenv("T", getenv("KVTRAIN"), 1);
    setenv("K", getenv("KVDATA"), 1);
    return 0;
}

int train_teardown(void **state) {
    (void)state;
    free(output);
    if (chdir("/")) return -1;
    test_dir_remove(dir);
    return 0;
}
