// A rank's side of it: a thread that reads its link to the witness, and can end the process whatever the others wait for.
#include "data/ranks/watch.h"

#include "core/api.h"
#include "data/ranks/joining.h"
#include "data/ranks/link.h"
#include "data/ranks/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct {
    const kv_transport *transport;
    int rank, own_stderr;
    pid_t process, witness; // -1: none
    int link;               // -1: none
    bool watched;           // all ranks are
    int speaker;            // the rank that says so when the witness itself cannot be reached
    kv_word watcher;        // who watches
    pthread_t thread;
} w = {.own_stderr = STDERR_FILENO, .witness = -1, .link = -1};

// ---- Words ---------------------------------------------------------------------------------------------

static void pause_for(time_t seconds) {
    struct timespec left = {.tv_sec = seconds};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

static bool tell(kv_word_kind kind, int number, const char *text) {
    kv_word word = {.kind = (int32_t)kind, .rank = w.rank, .number = number, .process = (int32_t)w.process};
    const size_t n = strnlen(text, sizeof word.text - 1);
    memcpy(word.text, text, n);
    return kv_link_send(w.link, &word);
}

// Beside rank 0 it may have been killed; from elsewhere there is no telling it from its machine.
_Noreturn static void lose_witness(void) {
    if (w.rank != 0) pause_for(1); // rank 0 would know better
    if (w.rank == 0)
        dprintf(w.own_stderr,
                "%s: the process that watches the ranks (host %s, process %d) has died; all end\n",
                program_invocation_short_name, w.watcher.host, w.watcher.process);
    else if (w.rank == w.speaker)
        dprintf(w.own_stderr, "%s: rank 0 (host %s) cannot be reached any more; the others end, too\n",
                program_invocation_short_name, w.watcher.host);
    _exit(1);
}

// Ends when all leave; whatever else happens ends the process, whatever its other threads wait for.
static void *follow(void *unused) {
    (void)unused;
    for (kv_word word;;) {
        if (!kv_link_receive(w.link, &word, -1)) lose_witness();
        if (word.kind == KV_WORD_LEAVE) return NULL;
        if (word.kind == KV_WORD_END) _exit(word.number);
    }
}

// ---- Starting ------------------------------------------------------------------------------------------

void kv_watch_prepare(void) {
    w.own_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    w.process = getpid();
    kv_joining_begin();
    w.witness = kv_witness_start(&w.link);
    if (w.link >= 0) w.link = kv_link_move_up(w.link);
}

static void dismiss(void) {
    if (w.link >= 0) close(w.link);
    w.link = -1;
    while (w.witness > 0 && waitpid(w.witness, NULL, 0) < 0 && errno == EINTR) continue;
    w.witness = -1;
}

// Where rank 0's witness listens.
struct invitation {
    uint64_t token[2];
    bool listens;
    int port; // of other machines
    char host[KV_HOST_SIZE];
    kv_addresses addresses;
};

// Rank 0.
static void invite(int n_ranks, struct invitation *invitation) {
    kv_word word = {.kind = KV_WORD_WATCH, .number = n_ranks}, answer;
    if (w.link < 0 || getrandom(word.token, sizeof word.token, 0) != sizeof word.token) return;
    if (!kv_link_send(w.link, &word) || !kv_link_receive(w.link, &answer, 10)) return;
    invitation->listens = true;
    invitation->port = answer.number;
    memcpy(invitation->token, word.token, sizeof word.token);
    snprintf(invitation->host, sizeof invitation->host, "%s", kv_own_host());
    kv_link_find_addresses(&invitation->addresses);
    w.watcher.process = (int32_t)w.witness;
    snprintf(w.watcher.host, sizeof w.watcher.host, "%s", kv_own_host());
}

// The others.
static void accept_invitation(const struct invitation *invitation) {
    kv_word hello = {.kind = KV_WORD_HELLO, .rank = w.rank, .process = (int32_t)w.process};
    if (!invitation->listens) return;
    memcpy(hello.token, invitation->token, sizeof hello.token);
    snprintf(hello.host, sizeof hello.host, "%s", kv_own_host());
    w.link = kv_link_connect(&invitation->addresses, invitation->port, &hello);
    if (w.link >= 0) w.link = kv_link_move_up(w.link);
    w.watcher = hello;
}

struct standing {
    bool connected, elsewhere;
    char host[KV_HOST_SIZE];
};

// Where one cannot be watched none is: who has left must be known of all.
static bool all_connected(const struct standing *all, int n_ranks) {
    for (int r = 0; r < n_ranks; r++) {
        if (all[r].connected) continue;
        if (w.rank == 0)
            dprintf(
                w.own_stderr,
                "%s: warning: rank %d (%s) cannot connect to rank 0 (%s): if a rank dies, the others may wait for it "
                "until the launcher ends them (a firewall between them?)\n",
                program_invocation_short_name, r, all[r].host, all[0].host);
        return false;
    }
    return true;
}

static int choose_speaker(const struct standing *all, int n_ranks) {
    for (int r = 1; r < n_ranks; r++)
        if (all[r].elsewhere) return r;
    return 1;
}

// MPI's libraries abort when they find another rank gone in the midst of a message: whose death it was, the witness gets to know.
static void on_abort(int number) {
    (void)number;
    kv_watch_fatal("a library has called abort() (KV_RANKS_LOUD=1 shows what it said)");
}

static void start_thread(void) {
    const struct sigaction action = {.sa_handler = on_abort};
    sigaction(SIGABRT, &action, NULL);
    sigset_t every, before;
    pthread_attr_t attributes;
    enum { STACK = 1 << 18 };
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    // Signals are for main's thread, whose waits they are to end.
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    const int failure = pthread_create(&w.thread, &attributes, follow, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failure) kv_watch_failed("cannot start a thread", 1);
    w.watched = true;
}

void kv_watch_start(const kv_transport *transport, const kv_ranks_place *place) {
    w.transport = transport;
    w.rank = place->rank;
    if (place->rank > 0 || place->n_ranks == 1) dismiss();
    if (place->n_ranks == 1) {
        kv_joining_end();
        return;
    }
    struct invitation invitation = {0};
    if (place->rank == 0) invite(place->n_ranks, &invitation);
    transport->broadcast(false, &invitation, sizeof invitation, 0);
    if (place->rank > 0) accept_invitation(&invitation);
    kv_joining_end(); // from here on the witness knows this rank
    struct standing mine = {.connected = w.link >= 0 && invitation.listens,
                            .elsewhere = strcmp(invitation.host, kv_own_host()) != 0},
                    *all = calloc((size_t)place->n_ranks, sizeof *all);
    if (!all) kv_watch_failed("out of memory", 1);
    snprintf(mine.host, sizeof mine.host, "%s", kv_own_host());
    transport->gather(&mine, sizeof mine, all);
    if (all_connected(all, place->n_ranks)) {
        w.speaker = choose_speaker(all, place->n_ranks);
        start_thread();
    } else {
        if (place->rank == 0 && w.link >= 0) tell(KV_WORD_NOT, 0, "");
        dismiss();
    }
    free(all);
}

// ---- Ending --------------------------------------------------------------------------------------------

static void wait_for_all(kv_word_kind kind, int code) {
    tell(kind, code, "");
    pthread_join(w.thread, NULL);
    w.watched = false;
    dismiss();
}

void kv_watch_end(int code) {
    if (w.watched) wait_for_all(KV_WORD_GOODBYE, code);
}

// A process that was forked from here has the same link.
bool kv_watch_exits(void) {
    if (!w.watched || getpid() != w.process) return false;
    wait_for_all(KV_WORD_EXIT, 0);
    return true;
}

_Noreturn static void fail(kv_word_kind kind, const char *message, int code) {
    if (w.watched && tell(kind, code, *message ? message : "failed")) pause_for(10);
    // Nobody has ended this process.
    dprintf(w.own_stderr, "%s: rank %d (%s): %s\n", program_invocation_short_name, w.rank, kv_own_host(),
            message);
    if (w.transport) w.transport->give_up(code);
    _exit(code);
}

_Noreturn void kv_watch_failed(const char *message, int code) {
    fail(KV_WORD_FAILED, message, code);
}

_Noreturn void kv_watch_fatal(const char *line) {
    fail(KV_WORD_BROKEN, line, 1);
}
