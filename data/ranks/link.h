// The links between the ranks and the process that watches them (witness.h): words of one size over stream sockets, which the
// kernel closes when a process dies, however it dies.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

typedef enum kv_word_kind {
    KV_WORD_WATCH = 1, // rank 0 to its witness: `number` ranks are going to connect
    KV_WORD_PORT,      // its answer: at port `number`; 0: on this machine only
    KV_WORD_NOT,       // rank 0 to its witness: not all could connect, nothing is watched
    KV_WORD_HELLO,     // a rank that connects, and the answer to it
    KV_WORD_GOODBYE, // all is done as far as this rank is concerned, exit status `number`; it waits for LEAVE
    KV_WORD_EXIT,    // exit() was called on this rank; it waits for LEAVE
    KV_WORD_FAILED,  // this rank has failed, with exit status `number`; it waits for END
    KV_WORD_BROKEN,  // the same, but what failed is MPI, which may be because another rank has died
    KV_WORD_LEAVE,   // to all: none is at work any more
    KV_WORD_END,     // to all: end at once, with exit status `number`
} kv_word_kind;

enum { KV_HOST_SIZE = 64, KV_WORD_TEXT = 1024 };

typedef struct kv_word {
    uint64_t token[2]; // known to the ranks of one run only
    int32_t kind, rank, number, process;
    char host[KV_HOST_SIZE], text[KV_WORD_TEXT];
} kv_word;

// Name of this machine.
const char *kv_own_host(void);

// Without waiting for who does not read; false where the other side has gone. Allowed in a signal handler.
bool kv_link_send(int link, const kv_word *word);
// Waits for a word; false where the other side has gone, or after so many seconds (negative: without end).
bool kv_link_receive(int link, kv_word *word, double seconds);
// Has the kernel find out, of a link over a network, within 10 seconds that the other side's machine has vanished, without a word from its program.
void kv_link_keep_alive(int link);

// Where a machine can be reached by others.
typedef struct kv_addresses {
    int n;
    struct sockaddr_storage at[16];
} kv_addresses;
void kv_link_find_addresses(kv_addresses *found);

// Sockets that listen, without blocking: on a free port of all addresses, and for this machine, where the kernel tells of a death
// without going through a network, under a name made of the token. -1: impossible, and *port is 0.
int kv_link_listen(int *port);
int kv_link_listen_here(const uint64_t token[2]);
// Connects to a socket of this machine alone, at once or not at all.
int kv_link_connect_here(const uint64_t token[2]);
// What Linux closes first of all that a dying process has open: it goes from the highest number down. The link under a high number, or
// as it is; launchers watch sockets of low numbers, and kill the others once these are closed.
int kv_link_move_up(int link);
// Connects to one that answers `hello`, which is overwritten with the answer: here, or (port > 0) at one of the addresses; -1: none
// does.
int kv_link_connect(const kv_addresses *addresses, int port, kv_word *hello);
