// Plain sockets: MPI tells nobody that a process has gone.
#include "data/ranks/link.h"

#include "data/system/console.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <math.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

const char *kv_own_host(void) {
    static char host[KV_HOST_SIZE];
    if (!host[0] && gethostname(host, sizeof host - 1) != 0) strcpy(host, "?");
    return host;
}

// ---- Words ---------------------------------------------------------------------------------------------

bool kv_link_send(int link, const kv_word *word) {
    const int saved = errno;
    ssize_t sent;
    do sent = send(link, word, sizeof *word, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    errno = saved;
    return sent == sizeof *word;
}

// Whether there is something to read (or to write) before `end`.
static bool ready_before(int link, short events, double end) {
    struct pollfd one = {.fd = link, .events = events};
    for (;;) {
        const double left = end - kv_now();
        const int n = poll(&one, 1, isinf(end) ? -1 : left > 0 ? (int)ceil(1e3 * left) : 0);
        if (n > 0) return true;
        if (n == 0 || errno != EINTR) return false;
    }
}

bool kv_link_receive(int link, kv_word *word, double seconds) {
    const double end = seconds < 0 ? (double)INFINITY : kv_now() + seconds;
    char *at = (char *)word;
    for (size_t left = sizeof *word; left > 0;) {
        if (!ready_before(link, POLLIN, end)) return false;
        const ssize_t n = recv(link, at, left, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return false;
        at += n, left -= (size_t)n;
    }
    return true;
}

static void set(int link, int level, int option, int value) {
    setsockopt(link, level, option, &value, sizeof value);
}

// A probe a second after three seconds of silence, four of them. What was sent and is not acknowledged has as long.
void kv_link_keep_alive(int link) {
    set(link, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(link, IPPROTO_TCP, TCP_KEEPIDLE, 3);
    set(link, IPPROTO_TCP, TCP_KEEPINTVL, 1);
    set(link, IPPROTO_TCP, TCP_KEEPCNT, 4);
    set(link, IPPROTO_TCP, TCP_USER_TIMEOUT, 7000);
    set(link, IPPROTO_TCP, TCP_NODELAY, 1);
}

// ---- Listening -----------------------------------------------------------------------------------------

static int listen_on(int family) {
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    struct sockaddr_storage any = {.ss_family = (sa_family_t)family};
    if (family == AF_INET6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    const socklen_t size = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (bind(fd, (struct sockaddr *)&any, size) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    close(fd);
    return -1;
}

int kv_link_listen(int *port) {
    *port = 0;
    int fd = listen_on(AF_INET6); // takes IPv4, too
    if (fd < 0) fd = listen_on(AF_INET);
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&name, &size) != 0) return -1;
    *port = ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
                                             : ((struct sockaddr_in *)&name)->sin_port);
    return fd;
}

// No file: the name is the kernel's, and gone with the socket.
static socklen_t name_here(const uint64_t token[2], struct sockaddr_un *name) {
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    const int n = snprintf(name->sun_path + 1, sizeof name->sun_path - 1,
                           "kv-ranks-%016" PRIx64 "%016" PRIx64, token[0], token[1]);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

int kv_link_listen_here(const uint64_t token[2]) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un name;
    const socklen_t size = name_here(token, &name);
    if (fd < 0) return -1;
    if (bind(fd, (struct sockaddr *)&name, size) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
    close(fd);
    return -1;
}

// ---- Addresses -----------------------------------------------------------------------------------------

static socklen_t size_of(const struct sockaddr *address) {
    return address->sa_family == AF_INET    ? sizeof(struct sockaddr_in)
           : address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                            : 0;
}

// Addresses that mean something else on another machine.
static bool is_link_local(const struct sockaddr *address) {
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static void add(kv_addresses *found, const struct sockaddr *address) {
    if (found->n == sizeof found->at / sizeof found->at[0]) return;
    memcpy(&found->at[found->n++], address, size_of(address));
}

void kv_link_find_addresses(kv_addresses *found) {
    struct ifaddrs *all = NULL;
    memset(found, 0, sizeof *found);
    if (getifaddrs(&all) != 0) return;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next)
        if (i->ifa_addr && size_of(i->ifa_addr) > 0 && i->ifa_flags & IFF_UP &&
            !(i->ifa_flags & IFF_LOOPBACK) && !is_link_local(i->ifa_addr))
            add(found, i->ifa_addr);
    freeifaddrs(all);
}

// ---- Connecting ----------------------------------------------------------------------------------------

static void set_port(struct sockaddr_storage *address, int port) {
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
}

static bool connects(int fd, const struct sockaddr *to, socklen_t size) {
    int failure = 0;
    socklen_t failure_size = sizeof failure;
    if (connect(fd, to, size) == 0) return true;
    return errno == EINPROGRESS && ready_before(fd, POLLOUT, kv_now() + 2) &&
           getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &failure_size) == 0 && failure == 0;
}

static int connect_to(const struct sockaddr *to, socklen_t size, const kv_word *hello, kv_word *answer) {
    const int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    // Another machine may have this address, and something else at this port: only the right one knows the token.
    if (connects(fd, to, size) && kv_link_send(fd, hello) && kv_link_receive(fd, answer, 5) &&
        memcmp(answer->token, hello->token, sizeof hello->token) == 0)
        return fd;
    close(fd);
    return -1;
}

int kv_link_connect_here(const uint64_t token[2]) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un name;
    const socklen_t size = name_here(token, &name);
    if (fd < 0 || connect(fd, (struct sockaddr *)&name, size) == 0) return fd;
    close(fd);
    return -1;
}

int kv_link_move_up(int link) {
    enum { BEHIND_ALL = 1000 };
    const int moved = fcntl(link, F_DUPFD_CLOEXEC, BEHIND_ALL);
    if (moved < 0) return link;
    close(link);
    return moved;
}

int kv_link_connect(const kv_addresses *addresses, int port, kv_word *hello) {
    const kv_word mine = *hello;
    struct sockaddr_un here;
    const socklen_t size = name_here(mine.token, &here);
    int fd = connect_to((struct sockaddr *)&here, size, &mine, hello);
    for (int i = 0; fd < 0 && port > 0 && i < addresses->n; i++) {
        struct sockaddr_storage to = addresses->at[i];
        set_port(&to, port);
        fd = connect_to((struct sockaddr *)&to, size_of((struct sockaddr *)&to), &mine, hello);
        if (fd >= 0) kv_link_keep_alive(fd);
    }
    return fd;
}
