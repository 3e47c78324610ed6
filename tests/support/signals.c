// Tests send signals to themselves and to programs, whatever the shell that started them ignores: one in the
// background ignores SIGINT, nohup SIGHUP. Part of every test, which need not call it.
#include <signal.h>
#include <stddef.h>

static __attribute__((constructor)) void as_from_a_terminal(void) {
    static const int numbers[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGPIPE, SIGTERM,
                                  SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) signal(numbers[i], SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}
