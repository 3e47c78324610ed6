// The only C++ of the project, because sentencepiece has no other interface.
#include "data/tokenizer/sentencepiece_binding.h"

#include <sentencepiece_processor.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct kv_spm {
    sentencepiece::SentencePieceProcessor processor;
};

namespace {

// Library messages may hold newlines; an error of ours is one line.
void say(char *message, size_t size, const char *text) {
    if (size == 0) return;
    std::snprintf(message, size, "%s", text);
    for (char *c = message; *c; c++)
        if (*c == '\n' || *c == '\r') *c = ' ';
}

// Runs `body`, which returns a sentencepiece status, and turns all ways to fail into a number and a message.
template <typename Body> int guarded(char *message, size_t size, Body body) noexcept {
    try {
        const sentencepiece::util::Status status = body();
        if (status.ok()) return 0;
        say(message, size, status.ToString().c_str());
    } catch (const std::bad_alloc &) {
        say(message, size, "out of memory");
        return KV_SPM_NO_MEMORY;
    } catch (const std::exception &error) {
        say(message, size, error.what());
    } catch (...) {
        say(message, size, "unknown error in libsentencepiece");
    }
    return -1;
}

} // namespace

extern "C" int kv_spm_load(const void *bytes, size_t size, kv_spm **spm, char *message, size_t message_size) {
    *spm = nullptr;
    return guarded(message, message_size, [&] {
        auto made = std::make_unique<kv_spm>();
        const auto status = made->processor.LoadFromSerializedProto({static_cast<const char *>(bytes), size});
        if (status.ok()) *spm = made.release();
        return status;
    });
}

extern "C" void kv_spm_free(kv_spm *spm) {
    delete spm;
}

extern "C" int kv_spm_vocab_size(const kv_spm *spm) {
    return spm->processor.GetPieceSize();
}
extern "C" int kv_spm_bos(const kv_spm *spm) {
    return spm->processor.bos_id();
}
extern "C" int kv_spm_eos(const kv_spm *spm) {
    return spm->processor.eos_id();
}

extern "C" const char *kv_spm_piece(const kv_spm *spm, int id) {
    return id < 0 || id >= spm->processor.GetPieceSize() ? nullptr : spm->processor.IdToPiece(id).c_str();
}
extern "C" int kv_spm_is_byte(const kv_spm *spm, int id) {
    return spm->processor.IsByte(id) ? 1 : 0;
}
extern "C" int kv_spm_find(const kv_spm *spm, const char *piece) {
    // The library gives the unknown piece's id for all it does not know.
    const int id = spm->processor.PieceToId(piece);
    const char *found = kv_spm_piece(spm, id);
    return found && std::strcmp(found, piece) == 0 ? id : -1;
}

extern "C" int kv_spm_encode(const kv_spm *spm, const char *text, size_t length, int32_t **ids, size_t *n,
                             char *message, size_t message_size) {
    *ids = nullptr;
    *n = 0;
    return guarded(message, message_size, [&] {
        std::vector<int> found;
        const auto status = spm->processor.Encode({text, length}, &found);
        if (!status.ok()) return status;
        static_assert(sizeof(int) == sizeof(int32_t), "token ids are handed over as they are");
        *ids = static_cast<int32_t *>(std::malloc((found.size() + 1) * sizeof(int32_t)));
        if (!*ids) throw std::bad_alloc();
        if (!found.empty()) std::memcpy(*ids, found.data(), found.size() * sizeof(int32_t));
        *n = found.size();
        return status;
    });
}

extern "C" int kv_spm_decode(const kv_spm *spm, const int32_t *ids, size_t n, char **text, size_t *length,
                             char *message, size_t message_size) {
    *text = nullptr;
    *length = 0;
    return guarded(message, message_size, [&] {
        const std::vector<int> wanted(ids, ids + n);
        std::string found;
        const auto status = spm->processor.Decode(wanted, &found);
        if (!status.ok()) return status;
        *text = static_cast<char *>(std::malloc(found.size() + 1));
        if (!*text) throw std::bad_alloc();
        std::memcpy(*text, found.data(), found.size());
        (*text)[found.size()] = '\0';
        *length = found.size();
        return status;
    });
}
