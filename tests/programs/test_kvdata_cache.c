// kvdata cache, the program: what it writes, keeps, goes on with and refuses; how inspect shows it.
#include "data/cache/parts.h"
#include "tests/support/spoil.h"
#include "tests/support/train.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char printed[1 << 16];

// "kvdata ARGUMENTS" in the test's directory; what it printed is in `printed`.
static int kvdata(const char *arguments) {
    char command[2048];
    const char *program = getenv("KVDATA"); // set by meson
    assert_non_null(program);
    snprintf(command, sizeof command, "%s %s > printed.txt 2>&1", program, arguments);
    const int status = system(command);
    FILE *file = fopen("printed.txt", "r");
    assert_non_null(file);
    printed[fread(printed, 1, sizeof printed - 1, file)] = '\0';
    fclose(file);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect(const char *text, int code, const char *arguments) {
    const int found = kvdata(arguments);
    if (found != code)
        fail_msg("kvdata %s: exit status %d instead of %d: %s", arguments, found, code, printed);
    if (!strstr(printed, text)) fail_msg("kvdata %s: expected %s\nfound    %s", arguments, text, printed);
}

#define MODELS "--base base/final/model --aux aux/final/model "

// 840 tokens of 60 documents: 52 rows of 16; two shards more.
static int setup(void **state) {
    if (train_setup(state)) return -1;
    make_text("second.h5", 60, 1);
    make_text("third.h5", 60, 2);
    make_text("tiny.h5", 1, 3);
    return 0;
}

static void test_writes_a_file_a_shard(void **state) {
    (void)state;
    expect("rows             156 of 16 tokens", 0,
           "cache " MODELS "--seq-len 16 --out all --top-k 4 shard.h5 second.h5 third.h5");
    assert_non_null(strstr(printed, "156 rows of 16 tokens, at most "));
    assert_null(strstr(printed, "warning"));
    make_text("two.h5", 2, 3); // 28 tokens
    expect("warning: 12 of 28 tokens (42.9 %) fill no row of 16 and are left out; a smaller --seq-len", 0,
           "cache " MODELS "--seq-len 16 --out two two.h5");
    assert_int_equal(test_dir_count("all"), 3);
    static kv_cache_info info;
    assert_int_equal(kv_cache_read_info("all/cache-00002.h5", &info, NULL), KV_OK);
    assert_int_equal(info.n_rows, 52);
    assert_int_equal(info.top_k, 4);
    assert_int_equal(info.dtype, KV_BF16);
    assert_string_equal(info.source, "third.h5");
    assert_string_equal(info.base.source, "base/final/model");
    assert_int_equal(info.aux.spec.n_layers, 2);
    // Shown by inspect, file and directory, also as JSON.
    expect("frozen cache all/cache-00001.h5", 0, "inspect all/cache-00001.h5");
    assert_non_null(strstr(printed, "52 of 16 tokens, 832 in all"));
    assert_non_null(strstr(printed, "the base's 4 largest of a token, for a temperature of 1\n"));
    expect("frozen caches all\n  files        3", 0, "inspect all");
    assert_non_null(strstr(printed, "156 of 16 tokens"));
    expect("\"tokens\": 2496", 0, "inspect --json all");
    assert_non_null(strstr(printed, "\"fingerprint\""));
}

static void test_goes_on(void **state) {
    (void)state;
    const char *command = "cache " MODELS "--seq-len 16 --out on shard.h5 second.h5 third.h5";
    struct stat before, after;
    expect("written to on", 0, command);
    assert_null(strstr(printed, "kept"));
    assert_int_equal(stat("on/cache-00000.h5", &before), 0);
    assert_int_equal(rename("on/cache-00001.h5", "copy.h5"), 0);
    expect("kept             2 files", 0, command);
    assert_int_equal(stat("on/cache-00000.h5", &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_mtime == after.st_mtime);
    assert_true(kv_path_exists("on/cache-00001.h5"));
    expect("kept             3 files", 0, command);
    // A damaged one is not taken for one that is done.
    assert_int_equal(truncate("on/cache-00001.h5", 1000), 0);
    expect("on/cache-00001.h5", 1, command);
    assert_non_null(strstr(printed, "--force replaces it"));
    char forced[256];
    snprintf(forced, sizeof forced, "%s --force", command);
    expect("kept             2 files", 0, forced);
    expect("kept             3 files", 0, command);
}

static void test_other_content_is_refused(void **state) {
    (void)state;
    expect("written to", 0, "cache " MODELS "--seq-len 16 --out one shard.h5 second.h5");
    static const struct {
        const char *arguments, *named;
    } others[] = {
        {MODELS "--seq-len 15 --out one shard.h5 second.h5", "made with seq_len 16, expected 15"},
        {MODELS "--seq-len 16 --dtype f16 --out one shard.h5 second.h5",
         "made with dtype bf16, expected f16"},
        {MODELS "--seq-len 16 --top-k 2 --out one shard.h5 second.h5", "made with top_k 0, expected 2"},
        {"--base base/final/model --seq-len 16 --out one shard.h5 second.h5", "expected (none)"},
        {"--base aux/final/model --aux aux/final/model --seq-len 16 --out one shard.h5 second.h5",
         "made with a base of fingerprint"},
        {"--base base/final/model --keep 0.5 --seq-len 16 --out one shard.h5 second.h5",
         "made with an aux of fingerprint"},
        {MODELS "--seq-len 16 --out one second.h5 shard.h5", "made of a shard of content"},
        {MODELS "--seq-len 16 --out one shard.h5", "one more than the shards"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char command[512];
        snprintf(command, sizeof command, "cache %s", others[i].arguments);
        expect(others[i].named, 1, command);
        assert_non_null(strstr(printed, "--force replaces it"));
        assert_int_equal(test_dir_count("one"), 2);
    }
    expect("kept             2 files", 0, "cache " MODELS "--seq-len 16 --out one shard.h5 second.h5");
    expect("rows             55 of 15 tokens", 0, "cache " MODELS "--seq-len 15 --out one --force shard.h5");
    assert_int_equal(test_dir_count("one"), 1);
}

static void test_layers_of_the_base(void **state) {
    (void)state;
    expect("written to kept", 0, "cache --base base/final/model --keep 0.5 --seq-len 16 --out kept shard.h5");
    static kv_cache_info info;
    assert_int_equal(kv_cache_read_info("kept/cache-00000.h5", &info, NULL), KV_OK);
    assert_int_equal(info.aux.spec.n_layers, 2);
    assert_string_equal(info.aux.source, "0.50 of the layers of base/final/model");
}

static void test_wrong_arguments(void **state) {
    (void)state;
    expect("--base DIR is needed", 2, "cache --seq-len 16 --out x shard.h5");
    expect("--out DIR is needed", 2, "cache --base base/final/model --seq-len 16 shard.h5");
    expect("--seq-len N is needed", 2, "cache --base base/final/model --out x shard.h5");
    expect("a CORPUS is needed", 2, "cache --base base/final/model --seq-len 16 --out x");
    expect("exclude each other", 2, "cache " MODELS "--keep 0.5 --seq-len 16 --out x shard.h5");
    expect("expected 0.25, 0.50 or 0.75", 2, "cache --base b --keep 0.4 --seq-len 16 --out x shard.h5");
    expect("expected bf16, f16 or f32", 2, "cache --base b --seq-len 16 --dtype f64 --out x shard.h5");
    expect("--temperature: 2 has no effect without --top-k", 2,
           "cache --base b --seq-len 16 --temperature 2 --out x shard.h5");
    expect("--temperature: '0', expected a number from 0.01 to 100", 2,
           "cache --base b --seq-len 16 --temperature 0 --out x shard.h5");
    expect("--seq-len: '0'", 2, "cache --base b --seq-len 0 --out x shard.h5");
    expect("none.h5: No such file", 1, "cache " MODELS "--seq-len 16 --out x none.h5");
    expect("nowhere", 1, "cache --base nowhere --seq-len 16 --out x shard.h5");
    expect("expected at most the vocabulary, 32", 1,
           "cache " MODELS "--seq-len 16 --top-k 33 --out x shard.h5");
    expect("do not fill one row of --seq-len 32", 1, "cache " MODELS "--seq-len 32 --out x tiny.h5");
    expect("--seq-len: found 33 tokens, expected at most the context of the base base/final/model, 32", 1,
           "cache " MODELS "--seq-len 33 --out x shard.h5");
    assert_false(kv_path_exists("x"));
    assert_nothing_half_written();
}

// Said before any weights are read: these are too large to be.
static void test_pairs_that_do_not_fit(void **state) {
    (void)state;
    make_shard("wide.h5", 40000, 1);
    expect("wide.h5", 1, "cache --base random:openelm-3b --seq-len 16 --out x wide.h5");
    make_shard("other.h5", TEST_VOCAB + 1, 1);
    expect("33", 1, "cache " MODELS "--seq-len 16 --out x other.h5");
    assert_false(kv_path_exists("x"));
}

// A teacher whose last norm is NaN has finite keys and values, and logits that are none.
static void test_teachers_that_are_not_finite(void **state) {
    (void)state;
    assert_int_equal(
        system("cp -r base/final/model nan && cp -r base/final/model inf && cp -r aux/final/model nan_aux"),
        0);
    test_spoil("nan", "model.safetensors", "model.norm.weight", 1, NAN);
    test_spoil("inf", "model.safetensors", "layers.1.self_attn.q_proj.weight", 0, INFINITY);
    test_spoil("nan_aux", "model.safetensors", "layers.0.input_layernorm.weight", 0, NAN);
    expect("x/cache-00000.h5: row 1 of shard.h5: /logits/logsumexp has the value ", 1,
           "cache --base nan --aux aux/final/model --seq-len 16 --top-k 4 --out x shard.h5");
    assert_non_null(strstr(printed, "which is not finite"));
    expect("row 1 of shard.h5: /base/key/2 has the value ", 1,
           "cache --base inf --seq-len 16 --dtype f32 --out x shard.h5");
    expect("row 1 of shard.h5: /aux/key/0 has the value ", 1,
           "cache --base base/final/model --aux nan_aux --seq-len 16 --out x shard.h5");
    assert_int_equal(test_dir_count("x"), 0);
    assert_nothing_half_written();
    // Without logits nothing of it reads that norm.
    expect("written to", 0, "cache --base nan --seq-len 16 --out sound shard.h5");
}

static void test_full_disk(void **state) {
    (void)state;
    char command[1024];
    snprintf(command, sizeof command,
             "sh -c 'trap \"\" XFSZ; ulimit -f 16; exec %s cache " MODELS
             "--seq-len 16 --dtype f32 --top-k 16 --out full shard.h5' > printed.txt 2>&1",
             getenv("KVDATA"));
    const int status = system(command);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_int_equal(test_dir_count("full"), 0);
    assert_nothing_half_written();
}

// ---- Stopped in the middle of a shard ------------------------------------------------------------------

// 21000 tokens: 1312 rows of 16.
#define LONG "cache " MODELS "--seq-len 16 --top-k 4 --batch 4 "

static void make_long(void) {
    if (kv_path_exists("long.h5")) return;
    make_text("long.h5", 1500, 5);
    expect("written to whole", 0, LONG "--out whole long.h5");
}

static void expect_whole(const char *dir) {
    char path[64];
    snprintf(path, sizeof path, "%s/cache-00000.h5", dir);
    assert_true(same_file("whole/cache-00000.h5", path));
    assert_int_equal(test_dir_count(dir), 1);
}

// Names in the directory of parts that have this in them.
static int64_t count_names(const char *dir, const char *part) {
    char path[64];
    int64_t n = 0;
    snprintf(path, sizeof path, "%s/cache-00000.h5" KV_CACHE_UNFINISHED, dir);
    DIR *open = opendir(path);
    if (!open) return 0;
    for (const struct dirent *entry; (entry = readdir(open));) n += strstr(entry->d_name, part) != NULL;
    closedir(open);
    return n;
}

static pid_t start(const char *arguments) {
    char command[1024];
    snprintf(command, sizeof command, "exec %s %s > printed.txt 2>&1", getenv("KVDATA"), arguments);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0) return child;
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

// Waits until so many of these are there, then sends the signal; the exit status, -1 where the signal killed it.
static int stop(const char *arguments, const char *dir, const char *part, int64_t n, int signal) {
    const pid_t child = start(arguments);
    int status;
    while (count_names(dir, part) < n && test_alive(child)) usleep(200);
    kill(child, signal);
    assert_int_equal(waitpid(child, &status, 0), child);
    FILE *file = fopen("printed.txt", "r");
    assert_non_null(file);
    printed[fread(printed, 1, sizeof printed - 1, file)] = '\0';
    fclose(file);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// While a part is written, and when some are complete.
static void test_killed(void **state) {
    (void)state;
    make_long();
    int64_t kept = 0;
    int killed = 0;
    for (int i = 0; i < 6 && !kv_path_exists("killed/cache-00000.h5"); i++) {
        if (i % 2 == 0)
            killed += stop(LONG "--out killed --save-every 0 long.h5", "killed", ".tmp.", 1, SIGKILL) < 0;
        else
            killed +=
                stop(LONG "--out killed --save-every 0 long.h5", "killed", ".h5", kept + 12, SIGKILL) < 0;
        const int64_t now = count_names("killed", ".h5") - count_names("killed", ".tmp.");
        assert_true(now >= kept || kv_path_exists("killed/cache-00000.h5"));
        kept = now;
    }
    assert_true(killed >= 3);
    if (!kv_path_exists("killed/cache-00000.h5")) {
        char words[64];
        // What was half put together when a kill came.
        put_file("killed/cache-00000.h5.tmp.77.1", "half");
        expect("written to killed", 0, LONG "--out killed --save-every 0.5 long.h5");
        snprintf(words, sizeof words, "kept             %d rows of files that were not complete",
                 (int)(4 * kept));
        if (!strstr(printed, words)) fail_msg("%s: %s", words, printed);
        snprintf(words, sizeof words, "going on behind %d of 1312 rows", (int)(4 * kept));
        if (!strstr(printed, words)) fail_msg("%s: %s", words, printed);
    }
    expect_whole("killed");
}

static void test_asked_to_stop(void **state) {
    (void)state;
    make_long();
    static const int signals[] = {SIGTERM, SIGINT};
    int stopped = 0;
    for (int i = 0; i < 2 && !kv_path_exists("asked/cache-00000.h5"); i++) {
        const int64_t before = count_names("asked", ".h5");
        const int code = stop(LONG "--out asked long.h5", "asked", ".tmp.", 1, signals[i]);
        if (code == 0) break; // on a busy machine
        assert_int_equal(code, 1);
        assert_int_equal(count_names("asked", ".h5"), before + 1);
        assert_int_equal(count_names("asked", ".tmp."), 0);
        int rows = 0;
        const char *words = strstr(printed, "interrupted: 0 of 1 files are complete, ");
        if (!words ||
            sscanf(words, "interrupted: 0 of 1 files are complete, %d of 1312 rows are kept", &rows) != 1 ||
            rows < 4)
            fail_msg("%s", printed);
        stopped++;
    }
    assert_true(stopped > 0);
    if (!kv_path_exists("asked/cache-00000.h5"))
        expect("rows of files that were not complete", 0, LONG "--out asked long.h5");
    expect_whole("asked");
}

// Some rows of long.h5 in parts, as a run left them.
static void leave_parts(const char *dir) {
    char command[256];
    snprintf(command, sizeof command, LONG "--out %s --save-every 0 long.h5", dir);
    for (int i = 0; i < 5 && !kv_path_exists("parts"); i++) {
        if (stop(LONG "--out parts --save-every 0 long.h5", "parts", ".h5", 4, SIGKILL) == 0)
            kv_remove_tree("parts", NULL);
    }
    snprintf(command, sizeof command, "rm -rf %s && cp -r parts %s && rm -f %s/*/*.tmp.*", dir, dir, dir);
    assert_int_equal(system(command), 0);
    assert_true(count_names(dir, ".h5") >= 3);
}

// A byte of what only shows when rows are read.
static void spoil_a_value(const char *path) {
    struct stat info;
    static kv_cache_info read;
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(stat(path, &info), 0);
    for (long at = (long)info.st_size / 2; at < (long)info.st_size; at += 41) {
        fseek(file, at, SEEK_SET);
        const int byte = fgetc(file);
        for (int spoiled = 1; spoiled >= 0; spoiled--) {
            fseek(file, at, SEEK_SET);
            fputc(spoiled ? byte ^ 0x10 : byte, file);
            fflush(file);
            if (!spoiled || kv_cache_read_info(path, &read, NULL) != KV_OK ||
                kv_cache_verify(path, NULL) == KV_OK)
                continue;
            fclose(file);
            return;
        }
    }
    fail_msg("nothing in %s is worth reading", path);
}

static void test_parts_that_are_not_sound(void **state) {
    (void)state;
    make_long();
    leave_parts("unsound");
#define PART(n) "unsound/cache-00000.h5.unfinished/rows-000000000" n ".h5"
    // A tail that is cut off, a value that is not what the checksum says.
    struct stat info;
    assert_int_equal(stat(PART("0"), &info), 0);
    assert_int_equal(truncate(PART("0"), info.st_size - 1), 0);
    spoil_a_value(PART("4"));
    expect("warning: ", 0, LONG "--out unsound long.h5");
    assert_non_null(strstr(printed, "rows-0000000000.h5"));
    assert_non_null(strstr(printed, "rows-0000000004.h5"));
    assert_non_null(strstr(printed, "its rows are made again"));
    expect_whole("unsound");
}

static void test_parts_of_something_else(void **state) {
    (void)state;
    make_long();
    leave_parts("else");
    make_text("longer.h5", 1600, 6);
    static const struct {
        const char *arguments, *named;
    } others[] = {{MODELS "--seq-len 15 --top-k 4 --out else long.h5", "made with seq_len 16, expected 15"},
                  {MODELS "--seq-len 16 --top-k 5 --out else long.h5", "made with top_k 4, expected 5"},
                  {"--base base/final/model --seq-len 16 --top-k 4 --out else long.h5", "expected (none)"},
                  {MODELS "--seq-len 16 --top-k 4 --out else longer.h5", "made of a shard of content"}};
    const int64_t n = count_names("else", ".h5");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char command[512];
        snprintf(command, sizeof command, "cache %s", others[i].arguments);
        expect(others[i].named, 1, command);
        assert_non_null(strstr(printed, "cache-00000.h5.unfinished/rows-0000000000.h5: "));
        assert_non_null(strstr(printed, "--force replaces it"));
        assert_int_equal(count_names("else", ".h5"), n);
    }
    expect("rows             1399 of 16 tokens", 0,
           "cache " MODELS "--seq-len 16 --top-k 4 --out else --force longer.h5");
    assert_null(strstr(printed, "kept"));
    assert_int_equal(test_dir_count("else"), 1);
    // Parts of a file that is complete, and of one more than there are shards.
    assert_int_equal(system("cp -r parts/cache-00000.h5.unfinished whole && "
                            "cp -r parts/cache-00000.h5.unfinished else/cache-00001.h5.unfinished"),
                     0);
    expect("kept             1 files", 0, LONG "--out whole long.h5");
    assert_int_equal(test_dir_count("whole"), 1);
    expect("else/cache-00001.h5.unfinished: one more than the shards", 1,
           "cache " MODELS "--seq-len 16 --top-k 4 --out else longer.h5");
    expect("kept             1 files", 0,
           "cache " MODELS "--seq-len 16 --top-k 4 --out else --force longer.h5");
    assert_int_equal(test_dir_count("else"), 1);
}

// Two runs would write the same parts.
static void test_another_at_work(void **state) {
    (void)state;
    make_long();
    const pid_t child = start(LONG "--out busy --save-every 0 long.h5");
    while (count_names("busy", ".h5") < 1 && test_alive(child)) usleep(200);
    kill(child, SIGSTOP);
    if (count_names("busy", ".h5") > 0)
        expect("busy: another kvdata cache is at work in it", 1, LONG "--out busy long.h5");
    kill(child, SIGCONT);
    assert_int_equal(waitpid(child, NULL, 0), child);
    expect_whole("busy");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_a_file_a_shard),
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_other_content_is_refused),
        cmocka_unit_test(test_layers_of_the_base),
        cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_pairs_that_do_not_fit),
        cmocka_unit_test(test_teachers_that_are_not_finite),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_asked_to_stop),
        cmocka_unit_test(test_parts_that_are_not_sound),
        cmocka_unit_test(test_parts_of_something_else),
        cmocka_unit_test(test_another_at_work),
    };
    return cmocka_run_group_tests(tests, setup, train_teardown);
}
