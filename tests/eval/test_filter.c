// The sandbox's filter of system calls, run here as the kernel would: what it says of every call, of the same
// number on another kind of machine, and of numbers that nobody knows.
#include "tests/support/support.h"

#include "eval/sandbox/filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>

#if defined __x86_64__
#define MACHINE AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define MACHINE AUDIT_ARCH_AARCH64
#else
#define MACHINE 0
#endif

struct filter {
    struct sock_filter code[KV_FILTER_BYTES / sizeof(struct sock_filter)];
    size_t n;
};

static struct filter filter_of(bool processes) {
    struct filter f;
    unsigned char bytes[KV_FILTER_BYTES];
    size_t size;
    kv_error err = {0};
    if (kv_sandbox_filter(processes, bytes, &size, &err)) fail_msg("%s", err.message);
    assert_true(size > 0 && size % sizeof *f.code == 0);
    memcpy(f.code, bytes, size);
    f.n = size / sizeof *f.code;
    return f;
}

static bool compare(uint16_t how, uint32_t a, uint32_t k) {
    switch (how) {
    case BPF_JEQ: return a == k;
    case BPF_JGT: return a > k;
    case BPF_JGE: return a >= k;
    case BPF_JSET: return (a & k) != 0;
    default: fail_msg("jump %u", how); return false;
    }
}

// The few instructions that seccomp programs are made of.
static uint32_t run(const struct filter *f, const struct seccomp_data *call) {
    uint32_t a = 0;
    for (size_t i = 0; i < f->n; i++) {
        const struct sock_filter *c = &f->code[i];
        switch (BPF_CLASS(c->code)) {
        case BPF_LD:
            assert_int_equal(c->code, BPF_LD | BPF_W | BPF_ABS);
            assert_true(c->k % 4 == 0 && c->k + 4 <= sizeof *call);
            memcpy(&a, (const char *)call + c->k, 4);
            break;
        case BPF_ALU:
            assert_int_equal(c->code, BPF_ALU | BPF_AND | BPF_K);
            a &= c->k;
            break;
        case BPF_JMP:
            if (BPF_OP(c->code) == BPF_JA)
                i += c->k;
            else
                i += compare(BPF_OP(c->code), a, c->k) ? c->jt : c->jf;
            break;
        case BPF_RET: return c->k;
        default: fail_msg("instruction %u", c->code);
        }
    }
    fail_msg("no verdict");
    return 0;
}

static uint32_t verdict(const struct filter *f, uint32_t machine, uint32_t number, uint64_t first) {
    struct seccomp_data call = {.nr = (int)number, .arch = machine};
    for (int i = 0; i < 6; i++) call.args[i] = i ? (uint64_t)-1 : first;
    return run(f, &call);
}

enum { REFUSED = SECCOMP_RET_ERRNO | EPERM, MISSING = SECCOMP_RET_ERRNO | ENOSYS };

static const uint32_t never[] = {
    SYS_shmget,
    SYS_msgget,
    SYS_semget,
    SYS_mq_open,
    SYS_memfd_create,
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
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
#ifdef SYS_memfd_secret
    SYS_memfd_secret,
#endif
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
#ifdef SYS_io_uring_setup
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
#endif
};

static const uint32_t of_processes[] = {
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
#endif
#ifdef SYS_pidfd_send_signal
    SYS_pidfd_send_signal,
#endif
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo};

static bool among(const uint32_t *numbers, size_t n, uint32_t number) {
    for (size_t i = 0; i < n; i++)
        if (numbers[i] == number) return true;
    return false;
}

// All numbers there are and many that there are not: what is on the lists and nothing else.
static void every_number(void **state) {
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        const struct filter f = filter_of(processes);
        for (uint32_t number = 0; number < 5000; number++) {
            if (number == SYS_clone || number == SYS_clone3) continue;
            const bool refused =
                among(never, sizeof never / sizeof *never, number) ||
                (!processes && among(of_processes, sizeof of_processes / sizeof *of_processes, number));
            const uint32_t found = verdict(&f, MACHINE, number, 0);
            if (found != (refused ? (uint32_t)REFUSED : (uint32_t)SECCOMP_RET_ALLOW))
                fail_msg("call %u: %#x", number, found);
        }
        assert_int_equal(verdict(&f, MACHINE, SYS_clone3, 0), MISSING);
    }
}

static void clone_by_its_flags(void **state) {
    (void)state;
    static const uint64_t spaces[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                      CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
    const uint64_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS;
    for (int processes = 0; processes < 2; processes++) {
        const struct filter f = filter_of(processes);
        assert_int_equal(verdict(&f, MACHINE, SYS_clone, thread), SECCOMP_RET_ALLOW);
        assert_int_equal(verdict(&f, MACHINE, SYS_clone, 17),
                         processes ? SECCOMP_RET_ALLOW : (uint32_t)REFUSED);
        for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
            assert_int_equal(verdict(&f, MACHINE, SYS_clone, thread | spaces[i]), REFUSED);
            assert_int_equal(verdict(&f, MACHINE, SYS_clone, 17 | spaces[i]), REFUSED);
            // The upper half of the register is no flag, and hides none.
            assert_int_equal(verdict(&f, MACHINE, SYS_clone, spaces[i] | (uint64_t)1 << 40), REFUSED);
        }
        assert_int_equal(verdict(&f, MACHINE, SYS_clone, thread | (uint64_t)1 << 40), SECCOMP_RET_ALLOW);
    }
}

// Number 39 is getpid here, mkdir on i386, and getpid of the x32 kind with bit 30 set.
static void other_machines(void **state) {
    (void)state;
    const uint32_t machines[] = {AUDIT_ARCH_I386, AUDIT_ARCH_ARM, AUDIT_ARCH_PPC64LE, 0,
                                 MACHINE == AUDIT_ARCH_X86_64 ? AUDIT_ARCH_AARCH64 : AUDIT_ARCH_X86_64};
    for (int processes = 0; processes < 2; processes++) {
        const struct filter f = filter_of(processes);
        for (size_t i = 0; i < sizeof machines / sizeof *machines; i++)
            for (uint32_t number = 0; number < 600; number++)
                assert_int_equal(verdict(&f, machines[i], number, CLONE_THREAD), SECCOMP_RET_KILL_PROCESS);
#ifdef __x86_64__
        for (uint32_t number = 0; number < 600; number++)
            assert_int_equal(verdict(&f, MACHINE, 0x40000000 | number, CLONE_THREAD),
                             SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(verdict(&f, MACHINE, 0x3FFFFFFF, 0), SECCOMP_RET_ALLOW);
#endif
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number),
        cmocka_unit_test(clone_by_its_flags),
        cmocka_unit_test(other_machines),
    };
    if (!MACHINE) return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
