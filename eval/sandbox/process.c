// How bwrap is called, and how a process inside is told apart from bwrap itself, so that whatever it does it
// can be ended with all that it has started.
#include "eval/sandbox/process.h"

#include "data/file/path.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// Where programs inside look for others, and Python is looked for from outside.
static const char inner_path[] = "/usr/local/bin:/usr/bin:/bin";
// So that the order of a set of strings, on which a program may depend, is the same in every run.
static char hash_seed[] = "PYTHONHASHSEED=0";

// Descriptors of the child.
// FD_HELD, the other end of FD_INFO: when we are killed while a sandbox is being built, bwrap must not fail
// on telling us, or what it has started waits for it for ever. So it goes on, and the bootstrap fails.
enum { FD_SOURCE, FD_OUT, FD_ERROR, FD_RESULT, FD_INFO, FD_FILTER, FD_GO, FD_HELD, N_FDS };

// Runs first in the interpreter: takes the word and the program out of standard input, which is nobody's
// afterwards, sets the limits, and brings the word back when the program has run to its end. The kernel is
// told to end this process first where memory is short. While the program runs no variable holds the word, which is
// an argument of a call that waits for its second one: whoever looks through the frames above does not find it.
static const char bootstrap[] =
    "import posix, resource, sys\n"
    "def run():\n"
    "    write, leave = posix.write, posix._exit\n"
    "    data = b''.join(iter(lambda: posix.read(0, 1 << 20), b''))\n"
    "    posix.closerange(4, 64)\n"
    "    null = posix.open('/dev/null', posix.O_RDWR)\n"
    "    posix.dup2(null, 0)\n"
    "    posix.close(null)\n"
    "    try:\n"
    "        score = posix.open('/proc/self/oom_score_adj', posix.O_WRONLY)\n"
    "        write(score, b'1000')\n"
    "        posix.close(score)\n"
    "    except OSError:\n"
    "        pass\n"
    "    for limit in sys.argv[1].split(','):\n"
    "        name, soft, hard = limit.split(':')\n"
    "        kind = getattr(resource, 'RLIMIT_' + name)\n"
    "        most = resource.getrlimit(kind)[1]\n"
    "        most = int(hard) if most < 0 else min(int(hard), most)\n"
    "        resource.setrlimit(kind, (min(int(soft), most), most))\n"
    "    del sys.argv[1:]\n"
    "    module = sys.modules['program'] = type(sys)('program')\n"
    "    write(3, b'R')\n"
    "    parts = [data[32:], data[:32]]\n"
    "    del data\n"
    "    end = lambda word, done: write(3, word)\n"
    "    end(parts.pop(), exec(compile(parts.pop(), '<program>', 'exec', dont_inherit=True), module.__dict__))\n"
    "    leave(0)\n"
    "run()\n";

// ---- What is needed ------------------------------------------------------------------------------------

static bool find_in(const char *path, const char *name, char found[PATH_MAX]) {
    for (const char *at = path; at && *at;) {
        const size_t length = strcspn(at, ":");
        const int n = snprintf(found, PATH_MAX, "%.*s/%s", (int)length, at, name);
        if (length > 0 && n < PATH_MAX && access(found, X_OK) == 0) return true;
        at += length + (at[length] == ':');
    }
    found[0] = '\0';
    return false;
}

// An interpreter that is still there when nothing but /usr (and what is linked from it) can be seen.
static bool find_python(bool anywhere, char found[PATH_MAX]) {
    char candidate[PATH_MAX], real[PATH_MAX];
    const char *at = inner_path;
    while (*at) {
        char dir[64];
        const size_t length = strcspn(at, ":");
        snprintf(dir, sizeof dir, "%.*s", (int)length, at);
        at += length + (at[length] == ':');
        if (!find_in(dir, "python3", candidate) || !realpath(candidate, real)) continue;
        if (!anywhere && strncmp(real, "/usr/", 5) != 0 && strncmp(real, "/bin/", 5) != 0) continue;
        snprintf(found, PATH_MAX, "%s", real);
        return true;
    }
    return false;
}

static void find_links(kv_sandbox_setup *setup) {
    static const char *const names[KV_SANDBOX_LINKS] = {"/bin",   "/sbin",  "/lib",
                                                        "/lib32", "/lib64", "/libx32"};
    for (int i = 0; i < KV_SANDBOX_LINKS; i++) {
        struct stat info;
        if (lstat(names[i], &info) != 0) continue;
        char target[sizeof setup->links[0].target] = "";
        if (S_ISLNK(info.st_mode) && readlink(names[i], target, sizeof target - 1) < 1) continue;
        snprintf(setup->links[setup->n_links].path, sizeof setup->links[0].path, "%s", names[i]);
        memcpy(setup->links[setup->n_links++].target, target, sizeof target);
    }
}

// Whether [first, first + n) are users (groups) of this user namespace.
static bool ids_exist(const char *map, uid_t first, unsigned n) {
    FILE *file = fopen(map, "r");
    bool found = false;
    unsigned long inside, outside, count;
    while (file && !found && fscanf(file, "%lu %lu %lu", &inside, &outside, &count) == 3)
        found = first >= inside && (unsigned long)first + n <= inside + count;
    if (file) fclose(file);
    return found;
}

// Numbers that no user has: far beyond all others and apart from those of other runs; where a container gives
// us no such numbers, from the range that systemd sets aside for services without a user.
static uid_t free_users(void) {
    const uid_t candidates[] = {0x50000000u + ((uid_t)getpid() & 0xFFFFFF) * KV_MAX_WORKERS, 61184};
    for (int i = 0; i < 2; i++)
        if (ids_exist("/proc/self/uid_map", candidates[i], KV_MAX_WORKERS) &&
            ids_exist("/proc/self/gid_map", candidates[i], KV_MAX_WORKERS))
            return candidates[i];
    return 0;
}

kv_status kv_sandbox_setup_find(const kv_sandbox_options *options, kv_sandbox_setup *setup, kv_error *err) {
    *setup = (kv_sandbox_setup){.options = *options};
    if (!options->unsafe && !find_in(getenv("PATH"), "bwrap", setup->bwrap))
        return kv_fail(
            err, KV_ERR_IO,
            "programs run in a sandbox made by bubblewrap, but there is no bwrap on PATH: install the "
            "package bubblewrap, or give --unsafe-execution to run them without one");
    if (!find_python(options->unsafe, setup->python))
        return kv_fail(
            err, KV_ERR_IO,
            "found no python3 in %s that lies in /usr, needed to run programs: install the package "
            "python3",
            inner_path);
    if (geteuid() == 0) setup->first_user = free_users();
    if (setup->first_user && !find_in("/usr/bin:/bin:/usr/sbin:/sbin", "setpriv", setup->setpriv))
        return kv_fail(err, KV_ERR_IO,
                       "found no setpriv, with which root runs programs as another user: install the package "
                       "util-linux");
    find_links(setup);
    return kv_sandbox_filter(options->limits.processes, setup->filter, &setup->filter_size, err);
}

// ---- The command line ----------------------------------------------------------------------------------

enum { MAX_ARGUMENTS = 128, NUMBER = 24 };

struct command {
    const char *argv[MAX_ARGUMENTS + 1];
    int n;
    char numbers[12][NUMBER];
    int n_numbers;
    char user[2][32], limits[256], mark[32];
};

static void add(struct command *c, const char *argument) {
    if (c->n < MAX_ARGUMENTS) c->argv[c->n++] = argument;
}

static void add_all(struct command *c, const char *const *arguments) {
    for (; *arguments; arguments++) add(c, *arguments);
}

static void add_number(struct command *c, const char *option, int64_t value) {
    char *text = c->numbers[c->n_numbers++];
    snprintf(text, NUMBER, "%lld", (long long)value);
    add(c, option);
    add(c, text);
}

static void add_tmp(struct command *c, const char *path, int64_t bytes) {
    add_number(c, "--size", bytes);
    add(c, "--tmpfs");
    add(c, path);
}

static void add_bwrap(struct command *c, const kv_sandbox_setup *setup) {
    static const char *const alone[] = {"--unshare-user",
                                        "--uid",
                                        "65534",
                                        "--gid",
                                        "65534",
                                        "--unshare-ipc",
                                        "--unshare-pid",
                                        "--unshare-net",
                                        "--unshare-uts",
                                        "--hostname",
                                        "sandbox",
                                        "--unshare-cgroup",
                                        "--new-session",
                                        "--die-with-parent",
                                        "--clearenv",
                                        "--ro-bind",
                                        "/usr",
                                        "/usr",
                                        "--ro-bind-try",
                                        "/etc/ld.so.cache",
                                        "/etc/ld.so.cache",
                                        "--proc",
                                        "/proc",
                                        "--dev",
                                        "/dev",
                                        "--setenv",
                                        "PATH",
                                        inner_path,
                                        "--setenv",
                                        "HOME",
                                        "/tmp",
                                        "--setenv",
                                        "LANG",
                                        "C.UTF-8",
                                        "--setenv",
                                        "PYTHONHASHSEED",
                                        "0",
                                        NULL};
    static const char *const shut[] = {"--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp", NULL};
    add(c, setup->bwrap);
    add_all(c, alone);
    for (int i = 0; i < setup->n_links; i++) {
        const bool link = *setup->links[i].target;
        add(c, link ? "--symlink" : "--ro-bind");
        add(c, link ? setup->links[i].target : setup->links[i].path);
        add(c, setup->links[i].path);
    }
    add_tmp(c, "/tmp", setup->options.limits.tmp_bytes);
    add_tmp(c, "/dev/shm", setup->options.limits.tmp_bytes);
    add_all(c, shut);
    add_number(c, "--info-fd", FD_INFO);
    add_number(c, "--block-fd", FD_GO);
    if (setup->filter_size) add_number(c, "--seccomp", FD_FILTER);
    add(c, "--");
}

static void add_python(struct command *c, const kv_sandbox_setup *setup) {
    const kv_sandbox_limits *l = &setup->options.limits;
    const long long cpu = (long long)ceil(l->seconds);
    // Without the filter nothing but the number of tasks keeps processes out.
    const bool alone = setup->options.unsafe && !l->processes;
    const long long tasks = alone ? 1 : (long long)l->tasks;
    snprintf(c->limits, sizeof c->limits,
             "CPU:%lld:%lld,AS:%lld:%lld,FSIZE:%lld:%lld,NOFILE:%lld:%lld,NPROC:%lld:%lld,CORE:0:0,"
             "MSGQUEUE:0:0,MEMLOCK:65536:65536",
             cpu, cpu + 1, (long long)l->memory_bytes, (long long)l->memory_bytes, (long long)l->file_bytes,
             (long long)l->file_bytes, (long long)l->descriptors, (long long)l->descriptors, tasks, tasks);
    snprintf(c->mark, sizeof c->mark, "kv-program-of-%lld", (long long)getpid());
    add(c, setup->python);
    // No site packages, nobody's own ones either, no byte code left behind.
    const char *const rest[] = {"-s", "-S", "-B", "-c", bootstrap, c->limits, c->mark, NULL};
    add_all(c, rest);
}

static void make_command(struct command *c, const kv_sandbox_setup *setup, int64_t worker) {
    *c = (struct command){.n = 0};
    if (setup->first_user) {
        const unsigned user = (unsigned)(setup->first_user + (uid_t)worker);
        snprintf(c->user[0], sizeof c->user[0], "--reuid=%u", user);
        snprintf(c->user[1], sizeof c->user[1], "--regid=%u", user);
        const char *const front[] = {setup->setpriv, c->user[0], c->user[1], "--clear-groups", "--", NULL};
        add_all(c, front);
    }
    if (!setup->options.unsafe) add_bwrap(c, setup);
    add_python(c, setup);
}

// ---- Descriptors ---------------------------------------------------------------------------------------

static void shut(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

// Out of the way of the numbers that the child's descriptors get.
static int move_up(int fd) {
    if (fd < 0) return -1;
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, 2 * N_FDS);
    close(fd);
    return moved;
}

// ours: the end that stays here, does not block; theirs: the child's.
static bool open_pipe(int *ours, int *theirs, bool we_read) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    *ours = move_up(ends[we_read ? 0 : 1]);
    *theirs = move_up(ends[we_read ? 1 : 0]);
    return *ours >= 0 && *theirs >= 0 && fcntl(*ours, F_SETFL, O_NONBLOCK) == 0;
}

static bool write_all(int fd, const void *bytes, size_t size) {
    for (const char *at = bytes; size > 0;) {
        const ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n, size -= (size_t)n;
    }
    return true;
}

// What is read from the beginning, with nobody to feed it.
static int open_text(const char *front, const void *bytes, size_t size) {
    const int fd = move_up(memfd_create("kv-program", MFD_CLOEXEC));
    if (fd >= 0 && write_all(fd, front, strlen(front)) && write_all(fd, bytes, size) &&
        lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static bool draw_word(char word[KV_SANDBOX_WORD + 1]) {
    unsigned char bytes[KV_SANDBOX_WORD / 2];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) return false;
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(word + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

static bool open_descriptors(const kv_sandbox_setup *setup, const kv_program *program, kv_sandbox_process *p,
                             int theirs[N_FDS]) {
    if (!draw_word(p->word)) return false;
    theirs[FD_SOURCE] = open_text(p->word, program->source, program->length);
    if (theirs[FD_SOURCE] < 0 || !open_pipe(&p->out, &theirs[FD_OUT], true) ||
        !open_pipe(&p->error, &theirs[FD_ERROR], true) || !open_pipe(&p->result, &theirs[FD_RESULT], true))
        return false;
    if (setup->options.unsafe) return true;
    theirs[FD_FILTER] = open_text("", setup->filter, setup->filter_size);
    if (theirs[FD_FILTER] < 0 || !open_pipe(&p->info, &theirs[FD_INFO], true) ||
        !open_pipe(&p->go, &theirs[FD_GO], false))
        return false;
    theirs[FD_HELD] = fcntl(p->info, F_DUPFD_CLOEXEC, 2 * N_FDS);
    return theirs[FD_HELD] >= 0;
}

// ---- Start and end -------------------------------------------------------------------------------------

// 0 or an errno value.
static int spawn(const kv_sandbox_setup *setup, int64_t worker, const int theirs[N_FDS],
                 kv_sandbox_process *p) {
    static char path[sizeof "PATH=" + sizeof inner_path], language[] = "LANG=C.UTF-8";
    snprintf(path, sizeof path, "PATH=%s", inner_path);
    char home[sizeof p->dir + 8];
    snprintf(home, sizeof home, "HOME=%s", *p->dir ? p->dir : "/tmp");
    char *const environment[] = {path, home, language, hash_seed, NULL};
    struct command command;
    make_command(&command, setup, worker);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (posix_spawn_file_actions_init(&actions) != 0) return ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    int failure = 0;
    for (int i = 0; i < N_FDS && !failure; i++)
        if (theirs[i] >= 0) failure = posix_spawn_file_actions_adddup2(&actions, theirs[i], i);
    const int last = setup->options.unsafe ? FD_RESULT : FD_HELD;
    if (!failure) failure = posix_spawn_file_actions_addclosefrom_np(&actions, last + 1);
    if (!failure) failure = posix_spawn_file_actions_addchdir_np(&actions, *p->dir ? p->dir : "/");
    // A session of its own, so that Ctrl-C reaches us alone, who end the programs in good order.
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    if (!failure)
        failure = posix_spawn(&p->pid, command.argv[0], &actions, &attributes, (char *const *)command.argv,
                              environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return failure;
}

static bool make_dir(const kv_sandbox_setup *setup, int64_t worker, kv_sandbox_process *p) {
    const char *parent = getenv("TMPDIR");
    const int n =
        snprintf(p->dir, sizeof p->dir, "%s/kv-program-XXXXXX", parent && *parent ? parent : "/tmp");
    if (n >= (int)sizeof p->dir) errno = ENAMETOOLONG;
    if (n >= (int)sizeof p->dir || !mkdtemp(p->dir)) {
        p->dir[0] = '\0';
        return false;
    }
    const uid_t user = setup->first_user + (uid_t)worker;
    return !setup->first_user || chown(p->dir, user, (gid_t)user) == 0;
}

static void close_all(kv_sandbox_process *p) {
    int *const all[] = {&p->self, &p->inner, &p->info, &p->go, &p->out, &p->error, &p->result};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) shut(all[i]);
    if (*p->dir) kv_remove_tree(p->dir, NULL);
    p->dir[0] = '\0';
}

kv_status kv_sandbox_process_start(const kv_sandbox_setup *setup, int64_t worker, const kv_program *program,
                                   kv_sandbox_process *p, kv_error *err) {
    *p = (kv_sandbox_process){
        .self = -1, .inner = -1, .info = -1, .go = -1, .out = -1, .error = -1, .result = -1};
    int theirs[N_FDS], failure = 0;
    for (int i = 0; i < N_FDS; i++) theirs[i] = -1;
    if ((setup->options.unsafe && !make_dir(setup, worker, p)) ||
        !open_descriptors(setup, program, p, theirs))
        failure = errno ? errno : EIO;
    if (!failure) failure = spawn(setup, worker, theirs, p);
    for (int i = 0; i < N_FDS; i++) shut(&theirs[i]);
    if (!failure) {
        p->self = move_up(pidfd_open(p->pid, 0));
        if (p->self >= 0) return KV_OK;
        failure = errno;
        kill(p->pid, SIGKILL);
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    close_all(p);
    return kv_fail(err, KV_ERR_IO, "cannot start a program: %s", strerror(failure));
}

void kv_sandbox_process_told(kv_sandbox_process *p, const char *info) {
    const char *key = strstr(info, "\"child-pid\"");
    const char *colon = key ? strchr(key, ':') : NULL;
    const char *comma = colon ? strpbrk(colon, ",}\n") : NULL; // the number is whole
    if (!comma || p->go < 0) return;
    // It waits for `go`, so that the number cannot be another's already.
    p->inner = move_up(pidfd_open((pid_t)strtol(colon + 1, NULL, 10), 0));
    shut(&p->go);
}

void kv_sandbox_process_kill(const kv_sandbox_process *p) {
    if (p->inner >= 0)
        pidfd_send_signal(p->inner, SIGKILL, NULL, 0);
    else
        kill(-p->pid, SIGKILL); // a session of its own: its group has its number until we have waited for it
}

int kv_sandbox_process_finish(kv_sandbox_process *p) {
    int status = 0;
    if (p->inner < 0) kill(-p->pid, SIGKILL);
    while (waitpid(p->pid, &status, 0) < 0)
        if (errno != EINTR) break;
    // bwrap may leave before whom it started, whose parent is then the caller (a subreaper).
    siginfo_t info;
    if (p->inner >= 0) waitid(P_PIDFD, (id_t)p->inner, &info, WEXITED | WNOHANG);
    close_all(p);
    return status;
}
