#include "eval/sandbox/filter.h"

#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#if defined __x86_64__
#define MACHINE AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define MACHINE AUDIT_ARCH_AARCH64
#endif

#ifdef MACHINE

static const int never[] = {
    // Memory beside the address space.
    SYS_shmget,
    SYS_msgget,
    SYS_semget,
    SYS_mq_open,
    SYS_memfd_create,
#ifdef SYS_memfd_secret
    SYS_memfd_secret,
#endif
    // Other views of the file system, and the rights of a new user namespace.
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
#ifdef SYS_fsopen
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_move_mount,
    SYS_open_tree,
#endif
#ifdef SYS_mount_setattr
    SYS_mount_setattr,
#endif
    // Large parts of the kernel.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_init_module,
    SYS_finit_module,
    SYS_kexec_load,
#ifdef SYS_io_uring_setup
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
#endif
};

static const int of_processes[] = {
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
#endif
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
#ifdef SYS_pidfd_send_signal
    SYS_pidfd_send_signal,
#endif
};

enum { MAX_INSTRUCTIONS = KV_FILTER_BYTES / sizeof(struct sock_filter) };

struct assembly {
    struct sock_filter code[MAX_INSTRUCTIONS];
    size_t n;
};

static void emit(struct assembly *a, uint16_t code, uint8_t if_true, uint8_t if_false, uint32_t k) {
    assert(a->n < MAX_INSTRUCTIONS);
    a->code[a->n++] = (struct sock_filter){code, if_true, if_false, k};
}

static void load(struct assembly *a, size_t offset) {
    emit(a, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

static void give(struct assembly *a, uint32_t action) {
    emit(a, BPF_RET | BPF_K, 0, 0, action);
}

static void refuse(struct assembly *a, int call, int error) {
    emit(a, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (uint32_t)call);
    give(a, SECCOMP_RET_ERRNO | (uint32_t)error);
}

// Flags are the first argument of clone on both machines, in the low half of a little-endian word.
static void filter_clone(struct assembly *a, bool processes) {
    const uint32_t spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                            CLONE_NEWPID | CLONE_NEWNET;
    emit(a, BPF_JMP | BPF_JEQ | BPF_K, 0, processes ? 4 : 6, SYS_clone);
    load(a, offsetof(struct seccomp_data, args[0]));
    emit(a, BPF_JMP | BPF_JSET | BPF_K, 0, 1, spaces);
    give(a, SECCOMP_RET_ERRNO | EPERM);
    if (!processes) {
        emit(a, BPF_JMP | BPF_JSET | BPF_K, 1, 0, CLONE_THREAD);
        give(a, SECCOMP_RET_ERRNO | EPERM);
    }
    give(a, SECCOMP_RET_ALLOW);
}

size_t kv_sandbox_filter(bool processes, unsigned char program[KV_FILTER_BYTES]) {
    struct assembly a = {.n = 0};
    load(&a, offsetof(struct seccomp_data, arch));
    emit(&a, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, MACHINE);
    give(&a, SECCOMP_RET_KILL_PROCESS); // calls of another machine have other numbers
    load(&a, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    emit(&a, BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x40000000); // and so do those of the x32 kind
    give(&a, SECCOMP_RET_ERRNO | ENOSYS);
#endif
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) refuse(&a, never[i], EPERM);
    for (size_t i = 0; !processes && i < sizeof of_processes / sizeof *of_processes; i++)
        refuse(&a, of_processes[i], EPERM);
#ifdef SYS_clone3
    refuse(&a, SYS_clone3, ENOSYS); // its flags lie out of reach; who finds it missing uses clone
#endif
    filter_clone(&a, processes);
    give(&a, SECCOMP_RET_ALLOW);
    memcpy(program, a.code, a.n * sizeof *a.code);
    return a.n * sizeof *a.code;
}

#else

size_t kv_sandbox_filter(bool processes, unsigned char program[KV_FILTER_BYTES]) {
    (void)processes, (void)program;
    return 0;
}

#endif
