#include "kvrun_support.h"

#include <stdlib.h>
#include <string.h>

char out[1 << 16], err[1 << 16];

const char *in_dir(const char *name) {
    return test_path(test_dir, name);
}

int kvrun_list(const char *const *arguments) {
    const char *all[40] = {getenv("KVRUN")};
    assert_non_null(all[0]);
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    return test_run(all, -1, out, err, sizeof out);
}

void expect_one_line(int status, const char *part) {
    const char *newline = strchr(err, '\n');
    if (status != 1 || !newline || newline[1] != '\0' || strncmp(err, "kvrun: ", 7) != 0 ||
        !strstr(err, part))
        fail_msg("expected status 1 and one line with '%s', found %d: %s", part, status, err);
    assert_string_equal(out, "");
}
