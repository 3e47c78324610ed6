// Files that are no text: rows for what lies in the place of weights, corpora and results in practice; libmagic for
// the rest, since it knows hundreds of formats.
#include "data/file/identify_content.h"

#include <ctype.h>
#include <magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kv_identity_set(kv_identity *identity, const char *advice, const char *what, ...) {
    va_list args;
    va_start(args, what);
    vsnprintf(identity->what, sizeof identity->what, what, args);
    va_end(args);
    snprintf(identity->advice, sizeof identity->advice, "%s", advice ? advice : "");
}

void kv_identity_kind(kv_identity *identity, kv_file_kind kind) {
    identity->kind = kind;
    kv_identity_set(identity, NULL, "%s", kv_file_kind_found(kind));
}

static bool begins(const kv_head *head, const char *with, size_t n) {
    return head->size >= n && memcmp(head->bytes, with, n) == 0;
}

// ---- Pointers ------------------------------------------------------------------------------------------

static const char lfs[] = "version https://git-lfs.github.com/spec/", annex[] = "/annex/objects/";

bool kv_is_pointer(const void *bytes, size_t size) {
    return (size > sizeof lfs && memcmp(bytes, lfs, sizeof lfs - 1) == 0) ||
           (size > sizeof annex && memcmp(bytes, annex, sizeof annex - 1) == 0);
}

static bool pointer(const kv_head *head, kv_identity *identity) {
    if (!head->whole || !kv_is_pointer(head->bytes, head->size)) return false;
    const char *size = strstr((const char *)head->bytes, "\nsize ");
    const long long bytes = size ? strtoll(size + strlen("\nsize "), NULL, 10) : 0;
    if (begins(head, annex, sizeof annex - 1))
        kv_identity_set(identity, "git annex get fetches it", "a git-annex pointer, not the file itself");
    else if (bytes > 0)
        kv_identity_set(identity, "git lfs pull fetches them",
                        "a git-lfs pointer, not the %lld bytes it stands for", bytes);
    else
        kv_identity_set(identity, "git lfs pull fetches it", "a git-lfs pointer, not the file itself");
    return true;
}

// ---- Formats of ours, and weights ----------------------------------------------------------------------

static const char signature[] = "\x89HDF\r\n\x1A\n";

static bool contains(const kv_head *head, const char *bytes, size_t n) {
    return memmem(head->bytes, head->size, bytes, n) != NULL;
}

// Which of our HDF5 files it is, by the bytes of its first attribute or of its names, which stand at its beginning: a
// program that reads no HDF5 need not load that library and the thirty it brings, and a damaged file has a name too.
static kv_file_kind hdf5_kind(const kv_head *head) {
    static const struct {
        const char *format;
        kv_file_kind kind;
    } known[] = {{"kv-tokens", KV_FILE_SHARD},
                 {"kv-cache", KV_FILE_CACHE},
                 {"kv-prompt", KV_FILE_PROMPT},
                 {"kv-results", KV_FILE_RESULTS}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (contains(head, known[i].format, strlen(known[i].format) + 1)) return known[i].kind;
    static const char moments[] = "\0m\0\0\0\0\0\0\0v\0\0\0\0\0\0\0", step[] = "step";
    const bool state = contains(head, moments, sizeof moments - 1) && contains(head, step, sizeof step);
    return state ? KV_FILE_OPTIMIZER : KV_FILE_HDF5;
}

static uint64_t little_endian(const unsigned char *bytes) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = (value << 8) | bytes[i];
    return value;
}

static bool is_safetensors(const kv_head *head) {
    return head->size > 9 && head->bytes[8] == '{' && (head->bytes[9] == '"' || head->bytes[9] == '}') &&
           little_endian(head->bytes) <= 100000000;
}

// The first piece of a model's list: field 1 of a protocol buffer, in it its text, field 1 again.
static bool is_tokenizer_model(const kv_head *head) {
    const unsigned char *b = head->bytes;
    return head->size > 16 && b[0] == 0x0A && b[1] < 0x80 && b[2] == 0x0A && b[3] > 0 && b[3] + 2 <= b[1] &&
           (size_t)b[1] + 2 < head->size && b[b[1] + 2] == 0x0A;
}

static bool ours(const kv_head *head, kv_identity *identity) {
    if (begins(head, signature, sizeof signature - 1))
        kv_identity_kind(identity, hdf5_kind(head));
    else if (is_safetensors(head))
        kv_identity_kind(identity, KV_FILE_SAFETENSORS);
    else if (is_tokenizer_model(head))
        kv_identity_kind(identity, KV_FILE_TOKENIZER_MODEL);
    return *identity->what != '\0';
}

// ---- What others write ---------------------------------------------------------------------------------

static const char save[] = "transformers' save_pretrained writes safetensors",
                  rows_of_data[] = "to_json() of pandas and datasets writes JSON lines";

static void advise(kv_identity *identity, kv_file_kind helps, const char *advice, const char *what) {
    kv_identity_set(identity, advice, "%s", what);
    identity->helps = helps;
}

static bool zip(const kv_head *head, kv_identity *identity) {
    if (!begins(head, "PK\3\4", 4)) return false;
    if (memmem(head->bytes, head->size, "/data.pkl", 9))
        advise(identity, KV_FILE_SAFETENSORS, save, "a file of PyTorch's torch.save");
    else if (memmem(head->bytes, head->size, ".npy", 4))
        advise(identity, KV_FILE_OTHER, NULL, "an archive of NumPy arrays (.npz)");
    else
        advise(identity, KV_FILE_OTHER, "unpack it first", "a ZIP archive");
    return true;
}

// Opcodes a pickle begins with: of a dictionary, list, tuple, class, text, number, frame.
static bool pickle(const kv_head *head, kv_identity *identity) {
    const unsigned char *b = head->bytes;
    if (head->size < 4 || b[0] != 0x80 || b[1] < 2 || b[1] > 5 || !memchr("}](cXKM\x8A\x8C\x95", b[2], 10))
        return false;
    advise(identity, KV_FILE_SAFETENSORS, save, "a Python pickle");
    return true;
}

static bool foreign(const kv_head *head, kv_identity *identity) {
    static const struct {
        size_t n; // bytes of magic
        const char *magic, *what, *advice;
        kv_file_kind helps;
    } rows[] = {{4, "GGUF", "a GGUF model (llama.cpp)", save, KV_FILE_SAFETENSORS},
                {4, "lmgg", "a GGML model (llama.cpp)", save, KV_FILE_SAFETENSORS},
                {4, "tjgg", "a GGML model (llama.cpp)", save, KV_FILE_SAFETENSORS},
                {4, "PAR1", "a Parquet file", rows_of_data, KV_FILE_TEXT},
                {8, "ARROW1\0\0", "an Arrow file", rows_of_data, KV_FILE_TEXT},
                {2, "\x1F\x8B", "gzip data", "gunzip unpacks it", KV_FILE_OTHER},
                {3, "BZh", "bzip2 data", "bunzip2 unpacks it", KV_FILE_OTHER},
                {6, "\xFD\x37zXZ\0", "xz data", "unxz unpacks it", KV_FILE_OTHER},
                {4, "\x28\xB5\x2F\xFD", "zstd data", "unzstd unpacks it", KV_FILE_OTHER},
                {4, "\x04\x22\x4D\x18", "lz4 data", "unlz4 unpacks it", KV_FILE_OTHER}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (begins(head, rows[i].magic, rows[i].n)) {
            advise(identity, rows[i].helps, rows[i].advice, rows[i].what);
            return true;
        }
    return zip(head, identity) || pickle(head, identity);
}

static bool zeros(const kv_head *head, kv_identity *identity) {
    for (size_t i = 0; i < head->size; i++)
        if (head->bytes[i] != 0) return false;
    static const char advice[] = "an interrupted download or copy leaves that: fetch it again";
    if (head->whole)
        kv_identity_set(identity, advice, "nothing but zeros (%zu bytes)", head->size);
    else
        kv_identity_set(identity, advice, "a file whose first %zu bytes are zero", head->size);
    return true;
}

// ---- The rest ------------------------------------------------------------------------------------------

// It has weak rows too, so its word is passed on as its word. Without its database it says nothing.
static void ask_libmagic(const kv_head *head, kv_identity *identity) {
    static const char *const empty[] = {"data", "very short file", "empty", "ASCII text", "UTF-8"};
    magic_t cookie = magic_open(MAGIC_NONE);
    const char *said =
        cookie && magic_load(cookie, NULL) == 0 ? magic_buffer(cookie, head->bytes, head->size) : NULL;
    for (size_t i = 0; said && i < sizeof empty / sizeof *empty; i++)
        if (strncmp(said, empty[i], strlen(empty[i])) == 0) said = NULL;
    char excerpt[KV_EXCERPT];
    if (said)
        kv_identity_set(identity, NULL, "what libmagic calls \"%s\"",
                        kv_excerpt(said, strcspn(said, ",("), 60, excerpt));
    // Of a text that is not UTF-8 throughout its reader says where.
    if (said && strstr(excerpt, "text")) identity->kind = KV_FILE_TEXT;
    if (cookie) magic_close(cookie);
}

void kv_identify_content(const kv_head *head, kv_identity *identity) {
    if (head->size == 0) {
        kv_identity_set(identity, NULL, "an empty file");
        return;
    }
    if (pointer(head, identity) || zeros(head, identity) || ours(head, identity) || foreign(head, identity) ||
        kv_identify_text(head, identity))
        return;
    ask_libmagic(head, identity);
}
