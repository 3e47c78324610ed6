// One loop over one set of links. Which of several deaths was the first, and so the cause of the others, the kernel knows: epoll
// hands out what has happened in the order in which it happened.
#include "data/ranks/witness.h"

#include "data/ranks/link.h"
#include "data/system/console.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

// How long it waits, in seconds: for ranks that have not begun; for them to connect; for others to exit, too, where one has; for
// to end, too, after a failure that was agreed on; to fail in the same way; for a death that would explain why MPI failed; for ranks
// to do as they are told.
static const double join_seconds = 120, connect_seconds = 60, exit_seconds = 5, agreed_seconds = 60,
                    failure_seconds = 0.3, broken_seconds = 2, end_seconds = 3;

enum { SPARE = 64, LISTENER = -1, N_LISTENERS = 2 };

struct peer {
    int fd, rank; // -1: free; nobody has said who this is
    bool leaves, exits, failed;
    int32_t process;
    char host[KV_HOST_SIZE];
    size_t n_read; // of `word`
    kv_word word, failure;
};

static struct {
    pid_t owner;
    int epoll, listeners[N_LISTENERS]; // of other machines and of this one
    int n_ranks, n_peers;              // 0: not told yet
    uint64_t token[2];
    struct peer *peers; // the first is rank 0
    int n_connected, n_leaving, n_failed;
    const struct peer *first_exit, *first_failure; // of those that have ended before others, that have failed
    bool ending;
    double deadline;
    void (*at_deadline)(void);
} w = {.listeners = {-1, -1}};

static void wait_for(void (*what)(void), double seconds) {
    w.at_deadline = what;
    w.deadline = what ? kv_now() + seconds : (double)INFINITY;
}

void kv_witness_say(const char *format, ...) {
    char line[KV_WORD_TEXT + 256];
    va_list arguments;
    va_start(arguments, format);
    int n = snprintf(line, sizeof line - 1, "%s: ", program_invocation_short_name);
    const size_t room = sizeof line - 1 - (size_t)n;
    const int m = vsnprintf(line + n, room, format, arguments);
    va_end(arguments);
    n += m < 0 ? 0 : (size_t)m < room ? m : (int)room - 1;
    line[n++] = '\n';
    const ssize_t ignored = write(STDERR_FILENO, line, (size_t)n);
    (void)ignored;
}

// ---- Ending --------------------------------------------------------------------------------------------

static void tell_all(kv_word_kind kind, int number) {
    const kv_word word = {.kind = (int32_t)kind, .number = number};
    for (int i = 0; i < w.n_peers; i++)
        if (w.peers[i].fd >= 0 && w.peers[i].rank >= 0) kv_link_send(w.peers[i].fd, &word);
}

// Processes of another container may have other numbers here.
static bool is_one_of_us(pid_t process) {
    char link[64], its[PATH_MAX], own[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%" PRIdMAX "/exe", (intmax_t)process);
    const ssize_t n = readlink(link, its, sizeof its), m = readlink("/proc/self/exe", own, sizeof own);
    return n > 0 && n == m && memcmp(its, own, (size_t)n) == 0;
}

// One that has been stopped (SIGSTOP) would not end before it goes on. Of other machines' the launcher takes care.
static void kill_the_rest(void) {
    for (int i = 0; i < w.n_peers; i++) {
        const struct peer *p = &w.peers[i];
        if (p->fd >= 0 && p->rank >= 0 && strcmp(p->host, kv_own_host()) == 0 && is_one_of_us(p->process))
            kill(p->process, SIGKILL);
    }
    _exit(1);
}

static void forget(struct peer *p) {
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

// Strangers have no place any more.
static void stop_listening(void) {
    for (int i = 0; i < N_LISTENERS; i++) {
        if (w.listeners[i] >= 0) close(w.listeners[i]);
        w.listeners[i] = -1;
    }
    for (int i = w.n_ranks; i < w.n_peers; i++) forget(&w.peers[i]);
}

static void end_all(int status) {
    w.ending = true;
    stop_listening();
    tell_all(KV_WORD_END, status);
    wait_for(kill_the_rest, end_seconds);
}

static void died(const struct peer *p, int failure) {
    if (failure == 0 || failure == ECONNRESET || failure == EPIPE)
        kv_witness_say("rank %d (host %s, process %d) has died; the others end, too", p->rank, p->host,
                       p->process);
    else
        kv_witness_say("rank %d (host %s, process %d) cannot be reached any more (%s); the others end, too",
                       p->rank, p->host, p->process, strerror(failure));
    end_all(1);
}

static void some_exited(void) {
    const struct peer *p = w.first_exit;
    kv_witness_say(
        "rank %d (host %s, process %d) has %s while others go on, who end, too (KV_RANKS_LOUD=1 shows what it "
        "said)",
        p->rank, p->host, p->process, p->exits ? "called exit()" : "ended with a failure");
    end_all(1);
}

static bool all_failed_alike(void) {
    for (int r = 0; r < w.n_ranks; r++)
        if (!w.peers[r].failed || strcmp(w.peers[r].failure.text, w.first_failure->failure.text) != 0)
            return false;
    return true;
}

static void some_failed(void) {
    const struct peer *p = w.first_failure;
    if (all_failed_alike())
        kv_witness_say("%s", p->failure.text);
    else
        kv_witness_say("rank %d (%s): %s", p->rank, p->host, p->failure.text);
    end_all(p->failure.number);
}

static void never_joined(void) {
    kv_witness_say("process %" PRIdMAX " on %s has waited %.0f seconds for other ranks to start; it ends",
                   (intmax_t)w.owner, kv_own_host(), join_seconds);
    kill(w.owner, SIGKILL);
    _exit(1);
}

static void never_connected(void) {
    for (int r = 0; r < w.n_ranks; r++)
        if (w.peers[r].rank < 0) {
            kv_witness_say("rank %d does not connect to rank 0 (host %s) within %.0f seconds; all end", r,
                           kv_own_host(), connect_seconds);
            break;
        }
    end_all(1);
}

// ---- What ranks say ------------------------------------------------------------------------------------

static void listen_to(int fd, int index) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = index};
    epoll_ctl(w.epoll, EPOLL_CTL_ADD, fd, &event);
}

static bool grow(int n_peers) {
    struct peer *peers = realloc(w.peers, (size_t)n_peers * sizeof *peers);
    if (!peers) return false;
    w.peers = peers;
    for (; w.n_peers < n_peers; w.n_peers++) peers[w.n_peers] = (struct peer){.fd = -1, .rank = -1};
    return true;
}

static void begin(struct peer *p) {
    kv_word answer = {.kind = KV_WORD_PORT};
    const kv_word told = p->word;
    const int fd = p->fd;
    if (!grow(told.number + SPARE)) _exit(1);
    p = NULL; // moved
    struct peer *first = &w.peers[0];
    first->rank = 0;
    first->process = (int32_t)w.owner;
    snprintf(first->host, sizeof first->host, "%s", kv_own_host());
    w.n_ranks = told.number;
    w.n_connected = 1;
    memcpy(w.token, told.token, sizeof w.token);
    int port = 0;
    w.listeners[0] = kv_link_listen(&port);
    w.listeners[1] = kv_link_listen_here(w.token);
    for (int i = 0; i < N_LISTENERS; i++)
        if (w.listeners[i] >= 0) listen_to(w.listeners[i], LISTENER - i);
    answer.number = port;
    if (!kv_link_send(fd, &answer)) _exit(0);
    wait_for(never_connected, connect_seconds);
}

// A rank has its number's place; until it has said its number it has one of the spare ones.
static void greet(struct peer *p) {
    const kv_word *hello = &p->word;
    const int r = hello->rank;
    if (memcmp(hello->token, w.token, sizeof w.token) != 0 || r <= 0 || r >= w.n_ranks ||
        w.peers[r].rank >= 0) {
        forget(p);
        return;
    }
    struct peer *place = &w.peers[r];
    *place = (struct peer){.fd = p->fd, .rank = r, .process = hello->process};
    snprintf(place->host, sizeof place->host, "%s", hello->host);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = r};
    epoll_ctl(w.epoll, EPOLL_CTL_MOD, place->fd, &event);
    p->fd = -1;
    kv_word answer = {.kind = KV_WORD_HELLO, .process = (int32_t)getpid()};
    memcpy(answer.token, w.token, sizeof w.token);
    snprintf(answer.host, sizeof answer.host, "%s", kv_own_host());
    kv_link_send(place->fd, &answer);
    if (++w.n_connected < w.n_ranks) return;
    stop_listening();
    wait_for(NULL, 0);
}

static void leave(struct peer *p, bool exits) {
    p->leaves = true;
    p->exits = exits;
    w.n_leaving++;
    if ((exits || p->word.number != 0) && !w.first_exit) {
        w.first_exit = p;
        wait_for(some_exited, exits ? exit_seconds : agreed_seconds);
    }
    if (w.n_leaving < w.n_ranks) return;
    tell_all(KV_WORD_LEAVE, 0);
    _exit(0);
}

// Which failure is told waits for a moment: all may have the same.
static void note_failure(struct peer *p) {
    p->failed = true;
    p->failure = p->word;
    w.n_failed++;
    const bool broken = p->word.kind == KV_WORD_BROKEN;
    if (!w.first_failure || (w.first_failure->failure.kind == KV_WORD_BROKEN && !broken)) {
        w.first_failure = p;
        wait_for(some_failed, broken ? broken_seconds : failure_seconds);
    }
    if (w.n_failed == w.n_ranks) some_failed();
}

static void hear(struct peer *p) {
    if (p->rank < 0) {
        if (w.n_ranks == 0 && p->word.kind == KV_WORD_WATCH)
            begin(p);
        else
            greet(p);
        return;
    }
    switch ((kv_word_kind)p->word.kind) {
    case KV_WORD_NOT: _exit(0);
    case KV_WORD_GOODBYE: leave(p, false); return;
    case KV_WORD_EXIT: leave(p, true); return;
    case KV_WORD_FAILED:
    case KV_WORD_BROKEN: note_failure(p); return;
    default: return;
    }
}

// ---- The loop ------------------------------------------------------------------------------------------

static void lose(struct peer *p, int failure) {
    if (w.n_ranks == 0) _exit(0); // it was not needed, or its owner has gone before there were others
    const bool known = p->rank >= 0;
    forget(p);
    if (known && !w.ending) died(p, failure);
}

static void read_from(struct peer *p) {
    char *at = (char *)&p->word + p->n_read;
    const ssize_t n = recv(p->fd, at, sizeof p->word - p->n_read, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n <= 0) {
        lose(p, n < 0 ? errno : 0);
        return;
    }
    p->n_read += (size_t)n;
    if (p->n_read < sizeof p->word) return;
    p->n_read = 0;
    p->word.text[KV_WORD_TEXT - 1] = p->word.host[KV_HOST_SIZE - 1] = '\0';
    if (!w.ending) hear(p);
}

static void take_in(int listener) {
    if (listener < 0) return;
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int i = w.n_ranks;
    while (i < w.n_peers && w.peers[i].fd >= 0) i++;
    if (fd < 0) return;
    if (i == w.n_peers) { // strangers; ranks try again
        close(fd);
        return;
    }
    w.peers[i] = (struct peer){.fd = fd, .rank = -1};
    kv_link_keep_alive(fd);
    listen_to(fd, i);
}

static bool anybody_left(void) {
    for (int i = 0; i < w.n_peers; i++)
        if (w.peers[i].fd >= 0) return true;
    return false;
}

_Noreturn static void watch(void) {
    wait_for(never_joined, join_seconds);
    while (!w.ending || anybody_left()) {
        struct epoll_event events[16];
        const double left = w.deadline - kv_now();
        const int n = epoll_wait(w.epoll, events, 16,
                                 isinf(left) ? -1
                                 : left > 0  ? (int)ceil(1e3 * left)
                                             : 0);
        for (int i = 0; i < n; i++) {
            const int index = events[i].data.fd;
            if (index < 0)
                take_in(w.listeners[LISTENER - index]);
            else if (w.peers[index].fd >= 0)
                read_from(&w.peers[index]);
        }
        if (kv_now() >= w.deadline) w.at_deadline();
    }
    _exit(1);
}

// ---- Starting ------------------------------------------------------------------------------------------

// A link for every rank.
static void raise_limit(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

// It holds none of what its owner has open but standard error, and no terminal or launcher stops it: those stop the ranks.
void kv_witness_part(int *link) {
    static const int ignored[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGUSR1,
                                  SIGUSR2, SIGPIPE, SIGTSTP, SIGXCPU};
    setsid();
    prctl(PR_SET_NAME, "kv-witness");
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
    const int nowhere = open("/dev/null", O_RDWR);
    if (nowhere >= 0) dup2(nowhere, STDIN_FILENO), dup2(nowhere, STDOUT_FILENO);
    enum { FIRST = 3 };
    if (*link != FIRST) dup2(*link, FIRST);
    *link = FIRST;
    close_range(FIRST + 1, ~0U, 0);
}

pid_t kv_witness_start(int *link) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return -1;
    const pid_t owner = getpid(), child = fork();
    if (child != 0) {
        close(pair[1]);
        if (child > 0)
            *link = pair[0];
        else
            close(pair[0]);
        return child;
    }
    kv_witness_part(&pair[1]);
    raise_limit();
    w.owner = owner;
    w.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (w.epoll < 0 || !grow(1)) _exit(1);
    w.peers[0].fd = pair[1];
    listen_to(pair[1], 0);
    watch();
}
