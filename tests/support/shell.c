// Lines as at a terminal, run by a shell that knows where the programs are.
#include "tests/support/shell.h"

#include "tests/support/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char shell_out[SHELL_OUTPUT], shell_err[SHELL_OUTPUT];

void shell_set_up(void) {
    static const char *const names[][2] = {
        {"K", "KVDATA"}, {"T", "KVTRAIN"}, {"R", "KVRUN"}, {"E", "KVEVAL"}};
    test_dir_make(test_dir);
    setenv("D", test_dir, 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i][1])) setenv(names[i][0], getenv(names[i][1]), 1);
}

int shell(const char *command) {
    char all[8192];
    snprintf(all, sizeof all, "cd $D && %s", command);
    return test_run((const char *const[]){"/bin/sh", "-c", all, NULL}, -1, shell_out, shell_err,
                    sizeof shell_out);
}

void shell_succeed(const char *command) {
    if (shell(command)) fail_msg("%s\nsaid: %s", command, shell_err);
}

void shell_expect(const char *command, int status, const char *words) {
    const int found = shell(command);
    if (found != status || !strstr(shell_err, words))
        fail_msg("%s\nexit status %d, expected %d; '%s' expected in: %s", command, found, status, words,
                 shell_err);
}

void shell_printed(const char *words) {
    if (!strstr(shell_out, words)) fail_msg("'%s' expected in: %s", words, shell_out);
}
