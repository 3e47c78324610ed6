// What can be known of a chat template from its source.
#include "data/chat/chat.h"

#include "data/file/json.h"
#include "data/file/mistaken.h"
#include "data/file/path.h"
#include "data/file/plain.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { max_template_bytes = 1 << 20 };

static bool has(const char *source, const char *marker) {
    return strstr(source, marker) != NULL;
}

// A literal's text: \n, \t, \' and the like become what they stand for. NULL when out of memory.
static char *unescape(const char *from, size_t n) {
    char *text = malloc(n + 1), *to = text;
    if (!text) return NULL;
    for (size_t i = 0; i < n; i++) {
        if (from[i] == '\\' && i + 1 < n) {
            i++;
            *to++ = from[i] == 'n' ? '\n' : from[i] == 't' ? '\t' : from[i];
        } else {
            *to++ = from[i];
        }
    }
    *to = '\0';
    return text;
}

// What stands between `before` and the first `end` behind it, if it is all of one literal: no quote, no
// expression. NULL in *text: not found, or false: out of memory.
static bool literal_between(const char *source, const char *before, const char *end, char **text) {
    *text = NULL;
    for (const char *at = source; (at = strstr(at, before)) != NULL;) {
        at += strlen(before);
        const char *stop = strstr(at, end);
        if (!stop) return true;
        // A backslash in front makes a quote part of the literal.
        const char *quote = at;
        while (quote < stop && *quote != '"' && *quote != '\'' &&
               !(quote[0] == '{' && strchr("{%", quote[1])))
            quote += 1 + (*quote == '\\');
        if (quote < stop || stop == at) continue;
        *text = unescape(at, (size_t)(stop - at));
        return *text != NULL;
    }
    return true;
}

// `{% set NAME = 'literal' %}`, where NAME is what stands behind the role: what LLaMA-Factory writes.
static bool find_named_system(const char *source, const char *name, kv_chat_template *chat) {
    char before[128];
    const size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz_");
    if (n == 0 || n > 64) return true;
    for (int i = 0; i < 2; i++) {
        const char quote = "'\""[i];
        snprintf(before, sizeof before, "set %.*s = %c", (int)n, name, quote);
        const char *at = strstr(source, before), *stop;
        if (!at) continue;
        at += strlen(before);
        for (stop = at; *stop && *stop != quote; stop++) stop += *stop == '\\' && stop[1];
        if (!*stop || stop == at) continue;
        chat->system = unescape(at, (size_t)(stop - at));
        return chat->system != NULL;
    }
    return true;
}

// The newline behind the role is an escape in most sources, and itself in others.
static bool find_system(const char *source, kv_chat_template *chat) {
    const char *before[] = {"<|im_start|>system\\n", "<|im_start|>system\n"};
    for (int i = 0; i < 2 && !chat->system; i++) {
        if (!literal_between(source, before[i], "<|im_end|>", &chat->system)) return false;
        const char *name = chat->system ? NULL : strstr(source, before[i]);
        if (!name) continue;
        name += strlen(before[i]);
        name += strspn(name, "'\" +");
        if (!find_named_system(source, name, chat)) return false;
    }
    return true;
}

// Whether the answer begins with a <think> that the template writes: a literal in its last part that ends so.
static bool opens_thought(const char *source) {
    static const char *const ends[] = {"<think>\\n'", "<think>\\n\"", "<think>\n'", "<think>\n\""};
    const char *last = NULL;
    for (const char *at = source; (at = strstr(at, "add_generation_prompt")) != NULL; at++) last = at;
    for (size_t i = 0; last && i < sizeof ends / sizeof *ends; i++) {
        const char *end = strstr(last, ends[i]);
        if (!end) continue;
        end += strlen(ends[i]);
        end += strspn(end, " ");
        if (strncmp(end, "}}", 2) == 0 || strncmp(end, "-}}", 3) == 0) return true;
    }
    return false;
}

// Some templates have ChatML around what users and assistants say only, and write system messages bare in
// front.
static bool leaves_system_bare(const char *source) {
    return has(source, "<|im_start|>user") && !has(source, "<|im_start|>system") &&
           !has(source, "<|im_start|>' +") && !has(source, "<|im_start|>\" +") &&
           !has(source, "<|im_start|>{{");
}

// Llama 3.1 and later: two lines in front of the system message, there even without one.
static bool find_preface(const char *source, kv_chat_template *chat) {
    char *knowledge, *date;
    if (!literal_between(source, "Cutting Knowledge Date: ", "\\n", &knowledge)) return false;
    if (!knowledge && !literal_between(source, "Cutting Knowledge Date: ", "\n", &knowledge)) return false;
    if (!knowledge) return true;
    bool ok = literal_between(source, "date_string = \"", "\"", &date);
    if (ok && !date) ok = literal_between(source, "date_string = '", "'", &date);
    if (ok && date)
        ok = asprintf(&chat->preface, "Cutting Knowledge Date: %s\nToday Date: %s\n\n", knowledge, date) >= 0;
    free(knowledge);
    free(date);
    return ok;
}

static kv_status understand(const char *where, const char *source, kv_chat_template *chat, kv_error *err) {
    bool ok = true;
    if (has(source, "<|im_start|>") && has(source, "<|im_end|>") && !has(source, "<|im_sep|>") &&
        !leaves_system_bare(source)) {
        chat->kind = KV_CHAT_CHATML;
        chat->opens_thought = opens_thought(source);
        chat->begins = has(source, "bos_token");
        ok = find_system(source, chat);
    } else if (has(source, "<|start_header_id|>")) {
        chat->kind = KV_CHAT_LLAMA3;
        ok = find_preface(source, chat);
    } else if (has(source, "[INST]") && has(source, "<<SYS>>")) {
        chat->kind = KV_CHAT_LLAMA2;
    } else {
        return kv_fail(err, KV_ERR_FORMAT,
                       "%s: a chat template of an unknown kind, expected ChatML (<|im_start|>), Llama-3 "
                       "(<|start_header_id|>) or Llama-2 ([INST] and <<SYS>>)",
                       where);
    }
    chat->thinks = has(source, "</think>");
    if (ok) return KV_OK;
    kv_chat_template_free(chat);
    return kv_fail(err, KV_ERR_MEMORY, "%s: out of memory", where);
}

// "chat_template": a string, or a list of {"name", "template"}.
static kv_status from_config(const kv_json_file *file, kv_chat_template *chat, bool *found, kv_error *err) {
    const json_t *value = json_object_get(file->root, "chat_template"), *entry;
    size_t i;
    if (!value || json_is_null(value)) return KV_OK;
    if (json_is_array(value)) {
        const json_t *chosen = NULL;
        json_array_foreach(value, i, entry) {
            const char *name = json_string_value(json_object_get(entry, "name"));
            if (name && strcmp(name, "default") == 0) chosen = json_object_get(entry, "template");
        }
        if (!json_is_string(chosen))
            return kv_json_wrong(file, "chat_template", -1,
                                 "a template, or a list of them with one called default", err);
        value = chosen;
    }
    if (!json_is_string(value)) return kv_json_wrong(file, "chat_template", -1, "a template", err);
    *found = true;
    return understand(file->path, json_string_value(value), chat, err);
}

kv_status kv_chat_template_read(const char *dir, kv_chat_template *chat, bool *found, kv_error *err) {
    *chat = (kv_chat_template){0};
    *found = false;
    kv_status status = KV_OK;
    if (kv_path_exists_in(dir, "chat_template.jinja")) {
        char path[PATH_MAX], *source;
        size_t size;
        snprintf(path, sizeof path, "%s/chat_template.jinja", dir);
        status = kv_read_text(path, max_template_bytes, &source, &size, err);
        if (status == KV_OK) {
            *found = true;
            status = understand(path, source, chat, err);
            free(source);
        }
        status = kv_mistaken(path, KV_FILE_CHAT_TEMPLATE, status, err);
    } else if (kv_path_exists_in(dir, "tokenizer_config.json")) {
        kv_json_file file;
        status = kv_json_open(dir, "tokenizer_config.json", &file, err);
        if (status == KV_OK) status = from_config(&file, chat, found, err);
        kv_json_close(&file);
    }
    return status;
}

// The directory that a tokenizer lies in.
static void folder_of(const char *tokenizer, char folder[PATH_MAX]) {
    struct stat info;
    snprintf(folder, PATH_MAX, "%s", tokenizer);
    if (stat(folder, &info) == 0 && S_ISDIR(info.st_mode)) return;
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    if (!slash) strcpy(folder, ".");
}

kv_status kv_chat_template_find(const char *tokenizer, const kv_tokenizer *opened, const char *model,
                                kv_chat_template *chat, kv_error *err) {
    char folder[PATH_MAX];
    bool found;
    folder_of(tokenizer, folder);
    kv_status status = kv_chat_template_read(folder, chat, &found, err);
    if (status == KV_OK && !found) status = kv_chat_template_read(model, chat, &found, err);
    if (status != KV_OK) return status;
    if (!found)
        return kv_fail(err, KV_ERR_ARGUMENT,
                       "there is no chat template (chat_template.jinja, or chat_template in "
                       "tokenizer_config.json), neither in %s nor with the model, %s",
                       folder, model);
    if (kv_tokenizer_find(opened, kv_chat_end(chat)) >= 0) return KV_OK;
    status = kv_fail(err, KV_ERR_MISMATCH,
                     "the template ends answers with %s, the tokenizer has no such token", kv_chat_end(chat));
    kv_chat_template_free(chat);
    return status;
}

void kv_chat_template_free(kv_chat_template *chat) {
    free(chat->system);
    free(chat->preface);
    *chat = (kv_chat_template){0};
}
