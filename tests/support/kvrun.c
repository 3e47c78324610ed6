#include "tests/support/kvrun.h"

#include <stdlib.h>
#include <string.h>

char kvrun_out[1 << 16], kvrun_err[1 << 16];

const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

int kvrun_list(const char *const *arguments) {
    const char *all[40] = {getenv("KVRUN")};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, -1, kvrun_out, kvrun_err, sizeof kvrun_out);
}

void expect_one_line(int status, const char *part) {
    const char *newline = strchr(kvrun_err, '\n');
    if (status != 1 || !newline || newline[1] != '\0' || strncmp(kvrun_err, "kvrun: ", 7) != 0 ||
        !strstr(kvrun_err, part))
        fail_msg("expected status 1 and one line with '%s', found %d: %s", part, status, kvrun_err);
    assert_string_equal(kvrun_out, "");
}
