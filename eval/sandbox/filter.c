// bubblewrap hides files and networks; what is left is the kernel itself. A list of what is refused, not of
// what is allowed: programs are ordinary Python, and what Python needs changes with its version.
#include "eval/sandbox/filter.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// By name, since a kind of machine has not all of them, and an older libseccomp does not know the newest.
static const char *const never[] = {
    // Memory beside the address space.
    "shmget", "msgget", "semget", "mq_open", "memfd_create", "memfd_secret",
    // Other views of the file system, and the rights of a new user namespace.
    "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick",
    "move_mount", "open_tree", "mount_setattr",
    // Large parts of the kernel.
    "bpf", "perf_event_open", "userfaultfd", "ptrace", "process_vm_readv", "process_vm_writev", "keyctl",
    "add_key", "request_key", "init_module", "finit_module", "kexec_load", "io_uring_setup", "io_uring_enter",
    "io_uring_register"};

static const char *const of_processes[] = {
    "fork", "vfork", "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"};

static const uint64_t namespaces[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                      CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};

static int refuse(scmp_filter_ctx filter, const char *name, int error) {
    const int call = seccomp_syscall_resolve_name(name);
    return call == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ERRNO((uint32_t)error), call, 0);
}

static int refuse_all(scmp_filter_ctx filter, const char *const *names, size_t n) {
    int failure = 0;
    for (size_t i = 0; i < n && failure == 0; i++) failure = refuse(filter, names[i], EPERM);
    return failure;
}

// Flags are the first argument of clone on all machines but s390, where they are the second.
#if defined __s390__ || defined __s390x__
#define FLAGS(...) SCMP_A1(__VA_ARGS__)
#else
#define FLAGS(...) SCMP_A0(__VA_ARGS__)
#endif

static int filter_clone(scmp_filter_ctx filter, bool processes) {
    const uint32_t no = SCMP_ACT_ERRNO(EPERM);
    int failure = 0;
    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces && failure == 0; i++)
        failure = seccomp_rule_add(filter, no, SCMP_SYS(clone), 1,
                                   FLAGS(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
    if (failure == 0 && !processes)
        failure =
            seccomp_rule_add(filter, no, SCMP_SYS(clone), 1, FLAGS(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
    // clone3's flags lie out of reach; who finds it missing uses clone.
    return failure == 0 ? refuse(filter, "clone3", ENOSYS) : failure;
}

static int add_rules(scmp_filter_ctx filter, bool processes) {
    int failure = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (failure == 0) failure = refuse_all(filter, never, sizeof never / sizeof *never);
    if (failure == 0 && !processes)
        failure = refuse_all(filter, of_processes, sizeof of_processes / sizeof *of_processes);
    return failure == 0 ? filter_clone(filter, processes) : failure;
}

// libseccomp 2.5 writes its program to a descriptor only.
static int export(scmp_filter_ctx filter, unsigned char program[KV_FILTER_BYTES], size_t *size) {
    const int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0) return -errno;
    int failure = seccomp_export_bpf(filter, fd);
    if (failure == 0) {
        const ssize_t n = pread(fd, program, KV_FILTER_BYTES, 0);
        unsigned char more;
        if (n <= 0 || pread(fd, &more, 1, n) != 0)
            failure = -E2BIG;
        else
            *size = (size_t)n;
    }
    close(fd);
    return failure;
}

kv_status kv_sandbox_filter(bool processes, unsigned char program[KV_FILTER_BYTES], size_t *size,
                            kv_error *err) {
    *size = 0;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter) return KV_OK;
    int failure = add_rules(filter, processes);
    if (failure == 0) failure = export(filter, program, size);
    seccomp_release(filter);
    if (failure == 0) return KV_OK;
    return kv_fail(err, KV_ERR_IO, "cannot make the sandbox's filter of system calls: %s",
                   strerror(-failure));
}
