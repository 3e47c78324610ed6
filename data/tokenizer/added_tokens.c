// Contents are sorted, and the longest token at a place is found by narrowing a range byte by byte: models
// have thousands of added tokens, and each place in a text is looked at.
#include "data/tokenizer/added_tokens.h"

#include "data/text/unicode.h"

#include <stdlib.h>
#include <string.h>

struct kv_added_tokens {
    kv_added_token *tokens; // sorted by their bytes
    size_t n;
    struct range {
        size_t begin, end;
    } by_first[256]; // those that begin with a byte
};

static int compare(const void *a, const void *b) {
    const kv_added_token *one = a, *other = b;
    size_t common = one->length < other->length ? one->length : other->length;
    int order = memcmp(one->content, other->content, common);
    return order ? order : (one->length > other->length) - (one->length < other->length);
}

static bool copy_all(const kv_added_token *tokens, size_t n, kv_added_tokens *added) {
    added->tokens = calloc(n + 1, sizeof *added->tokens);
    if (!added->tokens) return false;
    for (; added->n < n; added->n++) {
        kv_added_token *token = &added->tokens[added->n];
        char *content = malloc(tokens[added->n].length);
        if (!content) return false;
        *token = tokens[added->n];
        memcpy(content, token->content, token->length);
        token->content = content;
    }
    return true;
}

kv_status kv_added_tokens_create(const kv_added_token *tokens, size_t n, kv_added_tokens **added,
                                 kv_error *err) {
    *added = calloc(1, sizeof **added);
    if (!*added || !copy_all(tokens, n, *added)) {
        kv_added_tokens_free(*added);
        *added = NULL;
        return kv_fail(err, KV_ERR_MEMORY, "out of memory for %zu added tokens", n);
    }
    qsort((*added)->tokens, n, sizeof *(*added)->tokens, compare);
    for (size_t i = 0; i < n; i++) {
        struct range *range = &(*added)->by_first[(unsigned char)(*added)->tokens[i].content[0]];
        if (range->end == 0) range->begin = i;
        range->end = i + 1;
    }
    return KV_OK;
}

void kv_added_tokens_free(kv_added_tokens *added) {
    if (!added) return;
    for (size_t i = 0; i < added->n; i++) free((void *)(uintptr_t)added->tokens[i].content);
    free(added->tokens);
    free(added);
}

// First of the sorted tokens in `range`, all equal in their first `depth` bytes, whose next byte is at least
// `byte`.
static size_t lower_bound(const kv_added_tokens *added, struct range range, size_t depth, int byte) {
    while (range.begin < range.end) {
        size_t middle = range.begin + (range.end - range.begin) / 2;
        const kv_added_token *token = &added->tokens[middle];
        int found = token->length > depth ? (unsigned char)token->content[depth] : -1;
        if (found < byte)
            range.begin = middle + 1;
        else
            range.end = middle;
    }
    return range.begin;
}

// The longest token that text[length] begins with: the range of tokens that agree with it narrows byte by
// byte.
static const kv_added_token *longest_at(const kv_added_tokens *added, const char *text, size_t length) {
    const kv_added_token *longest = NULL;
    struct range range = added->by_first[(unsigned char)text[0]];
    for (size_t depth = 1; range.begin < range.end; depth++) {
        if (added->tokens[range.begin].length == depth) longest = &added->tokens[range.begin];
        if (depth == length) break;
        int byte = (unsigned char)text[depth];
        range = (struct range){lower_bound(added, range, depth, byte),
                               lower_bound(added, range, depth, byte + 1)};
    }
    return longest;
}

static bool stands_alone(const char *text, size_t length, size_t start, size_t end) {
    int32_t point;
    if (kv_utf8_last(text, start, &point) && kv_is_word(point)) return false;
    return !(kv_utf8_next(text + end, length - end, &point) && kv_is_word(point));
}

int32_t kv_added_tokens_find(const kv_added_tokens *added, const char *text, size_t length, bool plain,
                             size_t *from, size_t *start, size_t *end) {
    const size_t taken = *from; // white space before belongs to the token before
    while (*from < length && added->n > 0) {
        const kv_added_token *token = longest_at(added, text + *from, length - *from);
        if (!token) {
            ++*from;
            continue;
        }
        *start = *from;
        *end = *from += token->length;
        if ((plain && token->special) || (token->single_word && !stands_alone(text, length, *start, *end)))
            continue;
        int32_t point;
        for (size_t n; token->left && *start > taken && (n = kv_utf8_last(text, *start, &point)) > 0;) {
            if (!kv_is_white_space(point)) break;
            *start -= n;
        }
        for (size_t n; token->right && (n = kv_utf8_next(text + *end, length - *end, &point)) > 0;) {
            if (!kv_is_white_space(point)) break;
            *end += n;
        }
        *from = *end;
        return token->id;
    }
    return -1;
}

const char *kv_added_tokens_content(const kv_added_tokens *added, int32_t id, size_t *length) {
    for (size_t i = 0; i < added->n; i++) {
        if (added->tokens[i].id != id) continue;
        *length = added->tokens[i].length;
        return added->tokens[i].content;
    }
    return NULL;
}
