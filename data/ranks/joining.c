// As the witness of a run (witness.c), and for the same reason a process of its own, in the kernel's order of events.
#include "data/ranks/joining.h"

#include "data/ranks/launch.h"
#include "data/ranks/link.h"
#include "data/ranks/witness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 1024, LISTENER = MOST };

static struct {
    int link;    // -1: none
    pid_t child; // that this process has started; -1: none
} here = {-1, -1};

// ---- The process that watches --------------------------------------------------------------------------

struct joiner {
    int fd; // -1: none
    kv_word hello;
};

static void end_all(const struct joiner *all, int n) {
    for (int i = 0; i < n; i++)
        if (all[i].fd >= 0) kill(all[i].hello.process, SIGKILL);
    _exit(1);
}

// One has said what there was to say, or nothing: then it has died.
static void hear(struct joiner *all, int n, int i) {
    kv_word word;
    const bool left = kv_link_receive(all[i].fd, &word, 1);
    close(all[i].fd);
    all[i].fd = -1;
    if (left) return;
    // One that had not come yet may have died before, and the launcher have killed this one.
    if (n < kv_launch_local_size())
        kv_witness_say("a rank of this machine (%s) has died before all had started; the others end, too",
                       kv_own_host());
    else
        kv_witness_say(
            "rank %d (host %s, process %d) has died before all ranks had joined; the others end, too",
            all[i].hello.rank, kv_own_host(), all[i].hello.process);
    end_all(all, n);
}

static void take_in(struct joiner *all, int *n, int listener, int epoll) {
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = *n};
    struct ucred who = {0};
    socklen_t size = sizeof who;
    if (fd < 0) return;
    // It has said its rank as it connected; who it is the kernel says.
    if (*n == MOST || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.uid != getuid() ||
        !kv_link_receive(fd, &all[*n].hello, 1)) {
        close(fd);
        return;
    }
    all[*n].fd = fd;
    all[*n].hello.process = who.pid;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    ++*n;
}

static bool anybody_left(const struct joiner *all, int n) {
    for (int i = 0; i < n; i++)
        if (all[i].fd >= 0) return true;
    return n == 0;
}

// Ends when all have left; no rank leaves before the last one has come.
_Noreturn static void watch(int listener) {
    static struct joiner all[MOST];
    int n = 0;
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = LISTENER};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    while (anybody_left(all, n)) {
        if (epoll_wait(epoll, &event, 1, 10000) <= 0 && n == 0) break;
        if (event.data.fd == LISTENER)
            take_in(all, &n, listener, epoll);
        else if (all[event.data.fd].fd >= 0)
            hear(all, n, event.data.fd);
    }
    _exit(0);
}

// ---- Ranks ---------------------------------------------------------------------------------------------

static void start_watching(int listener) {
    here.child = fork();
    if (here.child == 0) {
        kv_witness_part(&listener);
        watch(listener);
    }
    close(listener);
}

void kv_joining_begin(void) {
    const uint64_t meeting[2] = {(uint64_t)getppid(), (uint64_t)getuid()};
    kv_word hello = {.rank = kv_launch_rank(), .process = (int32_t)getpid()};
    if (hello.rank < 0 || getppid() == 1) return;
    const int listener = kv_link_listen_here(meeting);
    if (listener >= 0) start_watching(listener);
    here.link = kv_link_connect_here(meeting);
    if (here.link >= 0) here.link = kv_link_move_up(here.link);
    if (here.link >= 0 && !kv_link_send(here.link, &hello)) kv_joining_end();
}

void kv_joining_end(void) {
    const kv_word done = {0};
    if (here.link >= 0) {
        kv_link_send(here.link, &done);
        close(here.link);
    }
    while (here.child > 0 && waitpid(here.child, NULL, 0) < 0 && errno == EINTR) continue;
    here.link = here.child = -1;
}
