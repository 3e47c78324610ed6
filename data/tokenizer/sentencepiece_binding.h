// The few calls of the C++ library sentencepiece that the project needs, for C. No exception crosses this
// line. Functions that can fail give 0, or a negative number with one line in message[message_size].
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kv_spm kv_spm;

enum { KV_SPM_NO_MEMORY = -2 }; // which is nobody's fault; any other: the model's or the text's

// A model from the bytes of its file, which are copied. Fails, with *spm NULL, when they are not one.
int kv_spm_load(const void *bytes, size_t size, kv_spm **spm, char *message, size_t message_size);
void kv_spm_free(kv_spm *spm);

int kv_spm_vocab_size(const kv_spm *spm);
int kv_spm_bos(const kv_spm *spm); // -1: none
int kv_spm_eos(const kv_spm *spm);
const char *kv_spm_piece(const kv_spm *spm, int id);   // valid as long as spm; NULL: no such id
int kv_spm_is_byte(const kv_spm *spm, int id);         // 1: the piece stands for one byte; 0: for text
int kv_spm_find(const kv_spm *spm, const char *piece); // -1: no such piece

// *ids and *text are malloc'ed here and freed by the caller with free().
int kv_spm_encode(const kv_spm *spm, const char *text, size_t length, int32_t **ids, size_t *n, char *message,
                  size_t message_size);
int kv_spm_decode(const kv_spm *spm, const int32_t *ids, size_t n, char **text, size_t *length, char *message,
                  size_t message_size);

#ifdef __cplusplus
}
#endif
