// A signal handler can do little but write and end, so what it looks up is a table of fixed size without locks.
#include "data/system/mapped.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

// Files beyond that are not named.
enum { MOST_FILES = 512 };

static struct {
    atomic_uintptr_t begin; // 0: free
    size_t size;
    const char *path;
} files[MOST_FILES];
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

static void (*teller)(const char *message, int exit_status);

static void say(const char *text) {
    const ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

static const char *path_at(uintptr_t address) {
    for (int i = 0; i < MOST_FILES; i++) {
        const uintptr_t begin = atomic_load(&files[i].begin);
        if (begin && address >= begin && address - begin < files[i].size) return files[i].path;
    }
    return NULL;
}

static void on_lost_page(int number, siginfo_t *info, void *context) {
    (void)context;
    const char *path = info->si_code > 0 ? path_at((uintptr_t)info->si_addr) : NULL;
    if (!path) { // not one of these: the fault comes again, and ends the program
        signal(number, SIG_DFL);
        return;
    }
    static const char reason[] =
        ": cannot be read any more: another program shortened it while it was in use, or its disk failed";
    if (teller) {
        char line[512] = "";
        strncat(line, path, sizeof line - sizeof reason);
        strcat(line, reason);
        teller(line, 1);
    }
    say(program_invocation_short_name);
    say(": ");
    say(path);
    say(reason);
    say("\n");
    _exit(1);
}

void kv_mapped_tell(void (*tell)(const char *message, int exit_status)) {
    teller = tell;
}

void kv_mapped_note(const void *at, size_t size, const char *path) {
    const struct sigaction action = {.sa_sigaction = on_lost_page, .sa_flags = SA_SIGINFO};
    pthread_mutex_lock(&changing);
    sigaction(SIGBUS, &action, NULL);
    for (int i = 0; i < MOST_FILES; i++) {
        if (atomic_load(&files[i].begin)) continue;
        files[i].size = size;
        files[i].path = path;
        atomic_store(&files[i].begin, (uintptr_t)at);
        break;
    }
    pthread_mutex_unlock(&changing);
}

void kv_mapped_forget(const void *at) {
    pthread_mutex_lock(&changing);
    for (int i = 0; at && i < MOST_FILES; i++)
        if (atomic_load(&files[i].begin) == (uintptr_t)at) atomic_store(&files[i].begin, 0);
    pthread_mutex_unlock(&changing);
}
