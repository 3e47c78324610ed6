// What lies in a file's place is named by every reader: downloads that failed, other programs' formats, our own files
// one for the other, other versions, what is cut off, links, pipes, locks. And the reader's own message stays where the
// file is of the right kind.
#include "data/benchmark/triviaqa.h"
#include "data/cache/cache.h"
#include "data/chat/chat.h"
#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/safetensors.h"
#include "data/config/config.h"
#include "data/corpus/corpus.h"
#include "data/corpus/shard.h"
#include "data/file/csv.h"
#include "data/file/h5.h"
#include "data/file/json.h"
#include "data/file/metrics.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/text/documents.h"
#include "tests/support/tokenizer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static kv_error err;
static const char *path; // of the file that is read

static void put(const char *bytes, size_t size) {
    test_write_bytes(path, bytes, size);
}

static void says(kv_status status, const char *words) {
    if (status == KV_OK) fail_msg("accepted, expected '%s'", words);
    if (!strstr(err.message, words)) fail_msg("'%s' does not say '%s'", err.message, words);
    if (strncmp(err.message, path, strlen(path)) != 0) fail_msg("'%s' does not name its file", err.message);
    assert_null(strchr(err.message, '\n'));
}

// ---- Readers -------------------------------------------------------------------------------------------

static kv_status as_safetensors(void) {
    kv_safetensors *file;
    return kv_safetensors_open(path, &file, &err);
}

static kv_status as_shard(void) {
    kv_shard *shard;
    return kv_shard_open(path, &shard, &err);
}

static kv_status as_summary(void) {
    kv_shard_summary summary;
    return kv_shard_read_summary(path, &summary, &err);
}

static kv_status as_cache(void) {
    static kv_cache_info info;
    return kv_cache_read_info(path, &info, &err);
}

static kv_status as_tokenizer(void) {
    kv_tokenizer *tokenizer;
    return kv_tokenizer_open(path, &tokenizer, &err);
}

static kv_status as_json(void) {
    kv_json_file file;
    kv_status status = kv_json_open(test_dir, strrchr(path, '/') + 1, &file, &err);
    kv_json_close(&file);
    return status;
}

static kv_status as_metrics(void) {
    kv_metrics metrics;
    kv_status status = kv_metrics_read(path, &metrics, &err);
    kv_metrics_free(&metrics);
    return status;
}

static kv_status as_questions(void) {
    kv_questions questions;
    return kv_triviaqa_read(path, &questions, &err);
}

static const struct {
    kv_status (*read)(void);
    const char *expected;
    bool text;
} readers[] = {
    {as_safetensors, "expected a safetensors file", false}, {as_shard, "expected a token shard", false},
    {as_summary, "expected a token shard", false},          {as_cache, "expected a frozen cache", false},
    {as_tokenizer, "expected a tokenizer", false},          {as_json, "expected a JSON file", true},
    {as_questions, "expected a task's questions", true}};
enum { N_READERS = sizeof readers / sizeof *readers };

// ---- What others write ---------------------------------------------------------------------------------

#define BYTES(text) text, sizeof(text) - 1

static const char lfs[] =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

static const struct {
    const char *bytes;
    size_t size;
    const char *words;
    bool text; // to readers of text it is one, of which they say more themselves
} foreign[] = {
    {lfs, sizeof lfs - 1, ": a git-lfs pointer, not the 12345 bytes it stands for, ", false},
    {BYTES("/annex/objects/SHA256E-s5--0123.safetensors\n"), ": a git-annex pointer, not the file itself, ",
     false},
    {BYTES("<!DOCTYPE html>\n<html><head><title>404\n Not Found</title>"),
     ": an HTML page (\"404 Not Found\"), ", false},
    {BYTES("\xEF\xBB\xBF \n<!-- a > b -->\n<HTML lang=\"en\"><body>"), ": an HTML page, ", false},
    {BYTES("<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>"), "(<Error>: AccessDenied)",
     false},
    {BYTES("{\"error\": \"Repository\\u0020not found\"}"), ": nothing but {\"error\": \"Repository", true},
    {BYTES("GGUF\3\0\0\0\0\0\0\0\0\0\0\0"), ": a GGUF model (llama.cpp), ", false},
    {BYTES("PK\3\4\x14\0\0\0\0\0\0\0\0\0archive/data.pkl"), ": a file of PyTorch's torch.save, ", false},
    {BYTES("PK\3\4\x14\0\0\0\0\0\0\0\0\0arr_0.npy"), ": an archive of NumPy arrays (.npz), ", false},
    {BYTES("PK\3\4\x14\0\0\0\0\0\0\0\0\0readme.txt"), ": a ZIP archive, ", false},
    {BYTES("\x80\2}q\0X\1\0\0\0aq\1K\1s."), ": a Python pickle, ", false},
    {BYTES("PAR1\x15\4\x15\0\x15\2PAR1"), ": a Parquet file, ", false},
    {BYTES("ARROW1\0\0\xFF\xFF\xFF\xFF\0\0\0\0"), ": an Arrow file, ", false},
    {BYTES("BZh91AY&SY\0\0\0"), ": bzip2 data, ", false},
    {BYTES("\xFD\x37zXZ\0\0\4\xE6\xD6"), ": xz data, ", false},
    {BYTES("\x28\xB5\x2F\xFD\4\x58\1\0\0"), ": zstd data, ", false},
    {BYTES("\x04\x22\x4D\x18\x64\x40\xA7"), ": lz4 data, ", false},
    {BYTES("%PDF-1.4\n\xE2\xE3\xCF\xD3\n"), ": what libmagic calls \"PDF document\", ", false},
    {BYTES("\x7F"
           "ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0\x3E\0\1\0\0\0"),
     "libmagic calls \"ELF 64-bit", false},
    {BYTES("SQLite format 3\0\x10\0\1\1\0\x40\x20\x20"), "libmagic calls \"SQLite 3.x database\"", false},
    {BYTES("\xFF\xFE{\0\"\0a\0\"\0"), ": UTF-16 text", true},
    {BYTES("\0{\0\"\0a\0\"\0:\0 \0 \0 \0 \0\"\0b\0\"\0}"), ": UTF-16 text", true},
    {BYTES("\0\xD6\0l\0 \0i\0s\0 \0o\0i\0l\0,\0 \0\xE9\x20\x14"), ": UTF-16 text", true}, // beyond ASCII
    {BYTES("\xFF\xFE\0\0{\0\0\0"), ": UTF-32 text", true},
    {BYTES(""), ": an empty file, ", false},
    {BYTES("\0\0\0\0\0\0\0\0\0\0\0\0"), ": nothing but zeros (12 bytes), ", false},
    {BYTES("Entry not found"), ": nothing but the text \"Entry not found\", ", false},
    {BYTES("#!/bin/sh\necho hello\n"), ": a text that begins with \"#!/bin/sh\", ", false},
};

static void foreign_files_are_named_by_every_reader(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        for (int r = 0; r < N_READERS; r++) {
            if (readers[r].text && foreign[i].text) continue;
            put(foreign[i].bytes, foreign[i].size);
            const kv_status status = readers[r].read();
            says(status, foreign[i].words);
            says(status, readers[r].expected);
        }
}

static void metrics_too(void **state) {
    (void)state;
    put(lfs, sizeof lfs - 1);
    says(as_metrics(),
         ": a git-lfs pointer, not the 12345 bytes it stands for, expected kvtrain's metrics.jsonl");
}

// A text that is none is refused as a whole, not line by line: a pointer or a page would be learnt.
static void streams_of_documents(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *words;
    } cases[] = {
        {lfs, sizeof lfs - 1, ": a git-lfs pointer, not the 12345 bytes it stands for, expected a text"},
        {BYTES("\x28\xB5\x2F\xFD\4\0\1\0\0\n\0"), ": zstd data, expected a text in UTF-8"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_documents *documents;
        const char *text;
        size_t length;
        put(cases[i].bytes, cases[i].size);
        kv_status status = kv_documents_open(path, &documents, &err); // which may look at the beginning
        if (status == KV_OK) status = kv_documents_next(documents, &text, &length, &err);
        says(status, cases[i].words);
        kv_documents_close(documents);
    }
}

// Gzip is unpacked by readers of text, and what is in it is named.
static void gzip_is_looked_into(void **state) {
    (void)state;
    static const unsigned char zipped[] = {31,  139, 8,   0,   0,   0,   0,  0,   2,  3,   179,
                                           201, 40,  201, 205, 177, 179, 73, 202, 79, 169, 180,
                                           3,   0,   59,  90,  58,  46,  12, 0,   0,  0};
    put((const char *)zipped, sizeof zipped); // "<html><body>"
    says(as_safetensors(), ": gzip data, expected a safetensors file (gunzip unpacks it)");
    says(as_questions(), ": gzip data of an HTML page, expected a task's questions");
    put((const char *)zipped, 20);
    says(as_questions(), "gzip data that is cut off or damaged, expected a task's questions");
}

static void advice_is_for_who_can_take_it(void **state) {
    (void)state;
    put(BYTES("GGUF\3\0\0\0\0\0\0\0\0\0\0\0"));
    says(as_safetensors(), "(transformers' save_pretrained writes safetensors)");
    as_json();
    assert_null(strstr(err.message, "save_pretrained"));
    put(BYTES("PAR1\x15\4\x15\0\x15\2PAR1"));
    says(as_questions(), "JSON lines)");
    as_safetensors();
    assert_null(strstr(err.message, "JSON lines"));
}

// Control characters and half characters of what is shown stay out of the line.
static void what_is_shown_is_harmless(void **state) {
    (void)state;
    put(BYTES(
        "<html><title>\x1B[2J\r\n\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4"
        "\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4"
        "\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4"
        "\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4</title>"));
    says(as_safetensors(), "an HTML page (\"[2J \xC3\xA4");
    says(as_safetensors(), "...\"), expected");
    assert_null(strchr(err.message, '\x1B'));
}

// What is of the right kind, or of no known one, keeps the reader's own words.
static void the_right_kind_keeps_its_message(void **state) {
    (void)state;
    setenv("MAGIC", "/nonexistent/magic", 1); // libmagic without its database says nothing
    put(BYTES("%PDF-1.4\n\xE2\xE3\xCF\xD3\n0123456789"));
    says(as_safetensors(), "not a safetensors file: a header of");
    unsetenv("MAGIC");
    put(BYTES("\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\""));
    says(as_safetensors(), "truncated: a header of 64 bytes in a file of");
    put(BYTES("{\"a\": [1, 2}"));
    says(as_json(), ":1: ");
    put(BYTES("{\"step\": 1, \"loss\": 2}\n{\"step\"\n{\"step\": 3, \"loss\": 2}\n"));
    says(as_metrics(), ":2: ");
    put(BYTES("{\"question\": \"a\", \"answer\": {\"value\": \"b\"}}\n{\"question\": 3}\n"));
    says(as_questions(), ":2: ");
    put(BYTES("\n \n"));
    says(as_questions(), ":");
    assert_null(strstr(err.message, "white space"));
}

// ---- Our own, one for the other ------------------------------------------------------------------------

// An HDF5 file that says it has this format, and a version.
static void put_h5(const char *format, int64_t version) {
    hid_t file;
    assert_int_equal(kv_h5_create(path, &file, &err), KV_OK);
    if (format) assert_int_equal(kv_h5_set_string(file, "/", "format", format, &err), KV_OK);
    assert_int_equal(kv_h5_set_i64(file, "/", "version", version, &err), KV_OK);
    assert_int_equal(kv_h5_close(&file, &err), KV_OK);
}

static void our_own_files_in_anothers_place(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *words;
    } texts[] = {{"task: lm\ndata: {train: x}\n", ": a configuration of kvtrain, "},
                 {"systems: []\ntasks: []\n", ": a configuration of kveval, "},
                 {"train: a.yaml\ngrid: {x: [1]}\n", ": a sweep of kvtrain (for --sweep), "},
                 {"{\"model_type\": \"llama\", \"vocab_size\": 1000000000000000000000000}",
                  ": a model's config.json, "},
                 {"{\"weight_map\": {}}", ": an index of safetensors files, "},
                 {"{\"format\": \"kv-predictor\"}", ": a predictor.json, "},
                 {"{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": 2}\n", ": kvtrain's metrics.jsonl, "},
                 {"{\"peft_type\": \"LORA\"}", ": the configuration of an adapter (LoRA)"},
                 {"[1, 2]", ": a JSON list, "}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        test_write_text(path, texts[i].bytes);
        says(as_safetensors(), texts[i].words);
        says(as_shard(), texts[i].words);
    }
    put_h5("kv-prompt", 1);
    says(as_cache(), ": a saved prompt, expected a frozen cache (kvdata cache makes one)");
    put_h5("kv-cache", 1);
    says(as_shard(), ": a frozen cache, expected a token shard (kvdata tokenize makes one)");
    says(as_tokenizer(), ": a frozen cache, expected a tokenizer");
    put_h5("kv-tokens", 1);
    says(as_cache(), ": a token shard, expected a frozen cache");
    says(as_questions(), ": a token shard, expected a task's questions");
    put_h5("kv-results", 3);
    says(as_shard(), ": results of kveval, expected a token shard");
    put_h5(NULL, 3);
    says(as_safetensors(), ": an HDF5 file, expected a safetensors file");
    says(as_shard(), "not a token shard");
    test_write_text(path, "A sentence.\ntask: this is prose\n");
    says(as_shard(), ": a text that begins with \"A sentence.\", ");
}

static void other_versions_say_what_helps(void **state) {
    (void)state;
    put_h5("kv-tokens", 2);
    says(as_shard(),
         ": a token shard of version 2, expected version 1: written by a later release; kvdata tokenize");
    put_h5("kv-cache", 0);
    says(
        as_cache(),
        ": a frozen cache of version 0, expected versions 1 to 2: written by an earlier release; kvdata cache");
    assert_int_equal(kv_check_version(path, KV_FILE_RESULTS, 1, 2, 3, "kveval makes them again", &err),
                     KV_ERR_FORMAT);
    says(KV_ERR_FORMAT,
         "of version 1, expected versions 2 to 3: written by an earlier release; kveval makes");
}

static void what_is_cut_off_is_called_truncated(void **state) {
    (void)state;
    hid_t file;
    const int64_t shape[] = {1000};
    int32_t values[1000] = {0};
    assert_int_equal(kv_h5_create(path, &file, &err), KV_OK);
    assert_int_equal(kv_h5_write(file, "tokens", H5T_NATIVE_INT32, values, 1, shape, &err), KV_OK);
    assert_int_equal(kv_h5_close(&file, &err), KV_OK);
    assert_int_equal(truncate(path, 3000), 0);
    says(as_shard(), "truncated: 3000 bytes, expected the");
    test_small_corpus(test_dir);
    struct stat info;
    char *model = test_read_text(test_path(test_dir, "tokenizer.model"));
    assert_int_equal(stat(test_path(test_dir, "tokenizer.model"), &info), 0);
    put(model, (size_t)info.st_size - 3);
    free(model);
    says(as_tokenizer(), "truncated: its last part goes on behind the file's");
}

// ---- No files ------------------------------------------------------------------------------------------

// A watchdog: none of the readers may wait for a pipe's other end.
static void pipes_links_and_names_beside(void **state) {
    (void)state;
    alarm(120);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    for (int r = 0; r < N_READERS; r++)
        if (readers[r].read != as_questions) says(readers[r].read(), ": a pipe, expected ");
    unlink(path);
    alarm(0);
    assert_int_equal(symlink("nowhere", path), 0);
    for (int r = 0; r < N_READERS; r++)
        says(readers[r].read(), ": a symbolic link to nowhere, which is not there, expected ");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int r = 0; r < N_READERS; r++)
        if (readers[r].read != as_tokenizer) says(readers[r].read(), ": an empty directory, expected ");
    rmdir(path);
    static const char *const near[] = {"x.part", "X", "x.gz"};
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        char words[64];
        const char *beside = test_path(test_dir, near[i]);
        test_write_bytes(beside, "a", 1);
        snprintf(words, sizeof words, "No such file or directory (there is %s)", near[i]);
        for (int r = 0; r < N_READERS; r++) says(readers[r].read(), words);
        unlink(beside);
    }
    says(as_shard(), "No such file or directory");
    assert_null(strstr(err.message, "there is"));
}

static void directories_say_where_it_lies(void **state) {
    (void)state;
    char dir[96], below[128], file[160], words[512];
    kv_model_spec spec;
    snprintf(dir, sizeof dir, "%s/run", test_dir);
    snprintf(below, sizeof below, "%s/final/model", dir);
    assert_int_equal(kv_make_dirs(below, &err), KV_OK);
    test_write_text(test_path(dir, "config.yaml"), "task: lm\n");
    test_write_text(test_path(below, "config.json"), "{}");
    path = dir;
    snprintf(words, sizeof words,
             ": a run of kvtrain, expected a model's directory (config.json, model.safetensors): "
             "there is one in %s",
             below);
    says(kv_checkpoint_spec(dir, &spec, &err), words);
    kv_corpus *corpus;
    says(kv_corpus_open(dir, &corpus, &err), ": a run of kvtrain, expected a corpus (index.json");
    kv_cache_dir *cache;
    says(kv_cache_dir_open(dir, &cache, &err), ": a run of kvtrain, expected a directory of frozen caches");
    snprintf(file, sizeof file, "%s/config.json", below);
    path = file;
    snprintf(words, sizeof words,
             "expected a model's directory (config.json, model.safetensors): it lies in one, %s", below);
    says(kv_checkpoint_spec(file, &spec, &err), words);
    path = test_path(test_dir, "rum");
    says(kv_checkpoint_spec(path, &spec, &err), "No such file or directory, expected a model's directory");
    says(kv_checkpoint_spec(path, &spec, &err), "(there is run)");
    path = dir;
    assert_int_equal(kv_remove_tree(dir, &err), KV_OK);
}

// Where what a directory is called begins as what was expected does, the reader's own message has to be there.
static void directories_that_are_nearly_it(void **state) {
    (void)state;
    char dir[96];
    kv_corpus *corpus;
    kv_cache_dir *cache;
    snprintf(dir, sizeof dir, "%s/nearly", test_dir);
    assert_int_equal(kv_make_dirs(dir, &err), KV_OK);
    path = dir;
    test_write_text(test_path(dir, "something.bin"), "x");
    err = (kv_error){0};
    says(kv_cache_dir_open(dir, &cache, &err), ": no cache in the directory");
    test_write_text(test_path(dir, "shard-00000.h5"), "x");
    err = (kv_error){0};
    says(kv_corpus_open(dir, &corpus, &err), ": no index.json");
    assert_int_equal(kv_remove_tree(dir, &err), KV_OK);
}

// Root may look everywhere, so a child that is nobody asks.
static void what_may_not_be_read(void **state) {
    (void)state;
    char dir[96], words[256];
    kv_model_spec spec;
    snprintf(dir, sizeof dir, "%s/closed", test_dir);
    assert_int_equal(kv_make_dirs(dir, &err), KV_OK);
    test_write_text(test_path(dir, "config.json"), "{}");
    assert_int_equal(chmod(test_dir, 0755), 0);
    put("{}", 2);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(dir, 0), 0);
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && setuid(65534) != 0) _exit(2);
        for (int i = 0; i < N_READERS; i++)
            if (readers[i].read() == KV_OK || !strstr(err.message, "Permission denied")) _exit(3);
        snprintf(words, sizeof words,
                 "%s: a directory that cannot be looked into (Permission denied), expected", dir);
        _exit(kv_checkpoint_spec(dir, &spec, &err) == KV_OK ||
              strncmp(err.message, words, strlen(words)) != 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(kv_remove_tree(dir, &err), KV_OK);
    unlink(path);
}

// ---- Locks ---------------------------------------------------------------------------------------------

// A second program that has the file open for writing, until `stop` is closed.
static pid_t hold(const char *file, int ready, const int stop[2]) {
    const pid_t child = fork();
    if (child != 0) return child;
    char byte = 0;
    close(stop[1]);
    const hid_t held = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT);
    if (write(ready, held >= 0 ? "y" : "n", 1) != 1 || read(stop[0], &byte, 1) < 0) _exit(1);
    _exit(held >= 0 ? 0 : 1);
}

static void another_programs_lock_is_no_damage(void **state) {
    (void)state;
    int ready[2], stop[2], status = 0;
    char byte = 0;
    unsetenv("HDF5_USE_FILE_LOCKING");
    put_h5("kv-tokens", 1);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(stop), 0);
    const pid_t child = hold(path, ready[1], stop);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    says(as_shard(), ": another program has it open for writing");
    says(as_summary(), "HDF5_USE_FILE_LOCKING=FALSE reads it all the same");
    assert_null(strstr(err.message, "damaged"));
    says(as_cache(), ": a token shard, expected a frozen cache"); // which waiting would not change
    close(stop[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(stop[0]), close(ready[0]), close(ready[1]);
}

static int set_up_path(void **state) {
    (void)state;
    static char name[128];
    snprintf(name, sizeof name, "%s/x", test_dir);
    path = name;
    return kv_remove_tree(path, NULL) != KV_OK;
}

#define TEST(name) cmocka_unit_test_setup(name, set_up_path)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(foreign_files_are_named_by_every_reader),
        TEST(metrics_too),
        TEST(streams_of_documents),
        TEST(gzip_is_looked_into),
        TEST(advice_is_for_who_can_take_it),
        TEST(what_is_shown_is_harmless),
        TEST(the_right_kind_keeps_its_message),
        TEST(our_own_files_in_anothers_place),
        TEST(other_versions_say_what_helps),
        TEST(what_is_cut_off_is_called_truncated),
        TEST(pipes_links_and_names_beside),
        TEST(directories_say_where_it_lies),
        TEST(directories_that_are_nearly_it),
        TEST(what_may_not_be_read),
        TEST(another_programs_lock_is_no_damage),
    };
    return cmocka_run_group_tests(tests, test_dir_set_up, test_dir_tear_down);
}
