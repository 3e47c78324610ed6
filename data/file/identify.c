// What lies at a path, from its kind and its first bytes; contents are told apart in identify_content.c.
#include "data/file/identify.h"

#include "core/text.h"
#include "data/file/identify_content.h"
#include "data/file/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

// ---- Kinds ---------------------------------------------------------------------------------------------

// `wanted` where what is expected needs more words than what is found.
static const struct {
    kv_file_kind above;
    const char *found, *wanted, *usual;
} kinds[KV_FILE_KINDS] = {
    [KV_FILE_OTHER] = {KV_FILE_OTHER, "", NULL, NULL},
    [KV_FILE_TEXT] = {KV_FILE_OTHER, "a text", "a text in UTF-8", NULL},
    [KV_FILE_PLAIN] = {KV_FILE_TEXT, "a text", "a text in UTF-8", NULL},
    [KV_FILE_TABLE] = {KV_FILE_PLAIN, "a table", "a table of comma-separated values", NULL},
    [KV_FILE_CHAT_TEMPLATE] = {KV_FILE_PLAIN, "a chat template", NULL, NULL},
    [KV_FILE_YAML] = {KV_FILE_PLAIN, "a configuration", "a configuration (YAML)", NULL},
    [KV_FILE_TRAIN_CONFIG] = {KV_FILE_YAML, "a configuration of kvtrain", NULL, "config.yaml"},
    [KV_FILE_EVAL_CONFIG] = {KV_FILE_YAML, "a configuration of kveval", NULL, NULL},
    [KV_FILE_SWEEP] = {KV_FILE_YAML, "a sweep of kvtrain (for --sweep)", "a sweep of kvtrain", NULL},
    [KV_FILE_JSON] = {KV_FILE_TEXT, "a JSON file", NULL, NULL},
    [KV_FILE_JSON_LINES] = {KV_FILE_JSON, "JSON lines", NULL, NULL},
    [KV_FILE_MODEL_CONFIG] = {KV_FILE_JSON, "a model's config.json", NULL, NULL},
    [KV_FILE_TOKENIZER_JSON] = {KV_FILE_JSON, "a tokenizer.json", "a tokenizer (tokenizer.json)", NULL},
    [KV_FILE_TOKENIZER_CONFIG] = {KV_FILE_JSON, "a tokenizer_config.json", NULL, NULL},
    [KV_FILE_WEIGHTS_INDEX] = {KV_FILE_JSON, "an index of safetensors files", NULL, NULL},
    [KV_FILE_PREDICTOR_JSON] = {KV_FILE_JSON, "a predictor.json", NULL, NULL},
    [KV_FILE_CORPUS_INDEX] = {KV_FILE_JSON, "the index.json of a corpus",
                              "the index.json of a corpus (kvdata tokenize)", NULL},
    [KV_FILE_TOKENIZE_JOURNAL] = {KV_FILE_JSON, "kvdata tokenize's journal", NULL, NULL},
    [KV_FILE_SAMPLE_SETTINGS] = {KV_FILE_JSON, "settings of kvdata sample", NULL, NULL},
    [KV_FILE_RUN_STATE] = {KV_FILE_JSON, "the state.json of a run", NULL, NULL},
    [KV_FILE_METRICS] = {KV_FILE_JSON_LINES, "kvtrain's metrics.jsonl", NULL, NULL},
    [KV_FILE_SAMPLES] = {KV_FILE_JSON_LINES, "samples of kveval", NULL, NULL},
    [KV_FILE_QUESTIONS] = {KV_FILE_JSON_LINES, "a task's questions", "a task's questions (JSON)", NULL},
    [KV_FILE_HDF5] = {KV_FILE_OTHER, "an HDF5 file", NULL, NULL},
    [KV_FILE_SHARD] = {KV_FILE_HDF5, "a token shard", "a token shard (kvdata tokenize makes one)", NULL},
    [KV_FILE_CACHE] = {KV_FILE_HDF5, "a frozen cache", "a frozen cache (kvdata cache makes one)", NULL},
    [KV_FILE_PROMPT] = {KV_FILE_HDF5, "a saved prompt", "a saved prompt (kvrun --save-prompt makes one)",
                        NULL},
    [KV_FILE_RESULTS] = {KV_FILE_HDF5, "results of kveval", "results of kveval (results.h5)", "results.h5"},
    [KV_FILE_OPTIMIZER] = {KV_FILE_HDF5, "the state of an optimiser", NULL, NULL},
    [KV_FILE_SAFETENSORS] = {KV_FILE_OTHER, "a safetensors file", NULL, NULL},
    [KV_FILE_TOKENIZER_MODEL] = {KV_FILE_OTHER, "a SentencePiece model",
                                 "a tokenizer (tokenizer.model of SentencePiece, or tokenizer.json)", NULL},
};

const char *kv_file_kind_found(kv_file_kind kind) {
    return kinds[kind].found;
}

const char *kv_file_kind_usual(kv_file_kind kind) {
    return kinds[kind].usual;
}

const char *kv_file_kind_expected(kv_file_kind kind) {
    return kinds[kind].wanted ? kinds[kind].wanted : kinds[kind].found;
}

bool kv_file_kind_is(kv_file_kind kind, kv_file_kind other) {
    while (kind != other && kind != KV_FILE_OTHER) kind = kinds[kind].above;
    return kind == other || other == KV_FILE_OTHER;
}

// ---- What is no file -----------------------------------------------------------------------------------

static void identify_link(const char *path, kv_identity *identity) {
    char target[160];
    const ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) return;
    target[n] = '\0';
    char said[KV_EXCERPT];
    kv_identity_set(identity, NULL, "a symbolic link to %s, which is not there",
                    kv_excerpt(target, (size_t)n, 120, said));
}

static void identify_special(mode_t mode, kv_identity *identity) {
    kv_identity_set(identity, NULL, "%s",
                    S_ISFIFO(mode)   ? "a pipe"
                    : S_ISSOCK(mode) ? "a socket"
                    : S_ISCHR(mode)  ? "a device"
                                     : "a block device");
}

// ---- Directories ---------------------------------------------------------------------------------------

static bool is_empty(const char *path) {
    DIR *dir = opendir(path);
    int n = 0;
    for (const struct dirent *entry; dir && (entry = readdir(dir));)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (dir) closedir(dir);
    return dir && n == 0;
}

void kv_identify_directory(const char *path, kv_identity *identity) {
    static const struct {
        const char *names[2]; // all of them
        const char *what, *advice;
    } known[] = {{{"config.yaml", "metrics.jsonl"}, "a run of kvtrain", NULL},
                 {{"config.yaml", "checkpoints"}, "a run of kvtrain", NULL},
                 {{"config.yaml", "final"}, "a run of kvtrain", NULL},
                 {{"state.json", NULL}, "what a run of kvtrain saved", NULL},
                 {{"predictor.json", NULL}, "a predictor", NULL},
                 {{"predictor.safetensors", NULL}, "a predictor", NULL},
                 {{"results.h5", NULL}, "results of kveval", NULL},
                 {{"cache-00000.h5", NULL}, "frozen caches", NULL},
                 {{"unfinished.json", NULL},
                  "a corpus that is not finished",
                  "kvdata tokenize with the same arguments goes on"},
                 {{"shard-00000.h5", NULL}, "a corpus", NULL},
                 {{"adapter_config.json", NULL}, "an adapter (LoRA)", "merge it into its base model"},
                 {{"config.json", NULL}, "a model", NULL},
                 {{"snapshots", "blobs"}, "a cache of the Hugging Face hub", NULL},
                 {{"tokenizer.json", NULL}, "a tokenizer", NULL},
                 {{"tokenizer.model", NULL}, "a tokenizer", NULL}};
    *identity = (kv_identity){0};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!kv_path_exists_in(path, known[i].names[0])) continue;
        if (known[i].names[1] && !kv_path_exists_in(path, known[i].names[1])) continue;
        kv_identity_set(identity, known[i].advice, "%s", known[i].what);
        return;
    }
    if (access(path, R_OK | X_OK) != 0)
        kv_identity_set(identity, NULL, "a directory that cannot be looked into (%s)", strerror(errno));
    else
        kv_identity_set(identity, NULL, is_empty(path) ? "an empty directory" : "a directory");
}

// ---- Files ---------------------------------------------------------------------------------------------

enum { HEAD_BYTES = 1 << 20 };

static size_t read_plain(int fd, unsigned char *bytes) {
    size_t n = 0;
    for (ssize_t got; n < HEAD_BYTES && (got = read(fd, bytes + n, HEAD_BYTES - n)) != 0;) {
        if (got < 0 && errno != EINTR) break;
        if (got > 0) n += (size_t)got;
    }
    return n;
}

// From the beginning again, through gzip; false where that data is cut off or damaged. Takes fd over.
static bool unpack(int fd, kv_head *head) {
    gzFile file = lseek(fd, 0, SEEK_SET) == 0 ? gzdopen(fd, "rb") : NULL;
    if (!file) {
        close(fd);
        return true;
    }
    const int n = gzread(file, head->bytes, HEAD_BYTES);
    head->size = n < 0 ? 0 : (size_t)n;
    head->file_size = -1;
    head->whole = n >= 0 && gzeof(file);
    int code = Z_OK;
    gzerror(file, &code);
    gzclose_r(file);
    return code == Z_OK || code == Z_STREAM_END;
}

static void identify_file(int fd, const char *path, int64_t file_size, bool unpacked, kv_identity *identity) {
    kv_head head = {.path = path, .bytes = malloc(HEAD_BYTES + 1), .file_size = file_size};
    if (!head.bytes) {
        close(fd);
        return;
    }
    head.size = read_plain(fd, head.bytes);
    head.whole = (int64_t)head.size == file_size;
    const bool gzip = unpacked && head.size >= 2 && memcmp(head.bytes, "\x1F\x8B", 2) == 0;
    bool intact = true;
    if (gzip)
        intact = unpack(fd, &head);
    else
        close(fd);
    head.bytes[head.size] = '\0';
    if (intact) kv_identify_content(&head, identity);
    if (gzip && identity->kind == KV_FILE_OTHER && *identity->what) {
        char inner[sizeof identity->what];
        memcpy(inner, identity->what, sizeof inner);
        kv_identity_set(identity, NULL, "gzip data of %.*s", KV_HEAD(inner, 200));
    }
    if (!intact) kv_identity_set(identity, NULL, "gzip data that is cut off or damaged");
    free(head.bytes);
}

void kv_identify(const char *path, bool unpacked, kv_identity *identity) {
    struct stat info;
    *identity = (kv_identity){0};
    if (stat(path, &info) != 0) {
        if (errno == ENOENT) identify_link(path, identity);
        return;
    }
    if (S_ISDIR(info.st_mode)) {
        kv_identity inside;
        kv_identify_directory(path, &inside);
        kv_identity_set(identity, NULL, strstr(inside.what, "directory") ? "%s" : "a directory (%s)",
                        inside.what);
        return;
    }
    if (!S_ISREG(info.st_mode)) {
        identify_special(info.st_mode, identity);
        return;
    }
    // It may have become a pipe meanwhile.
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) identify_file(fd, path, info.st_size, unpacked, identity);
}
