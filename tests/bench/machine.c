#include "tests/bench/machine.h"

#include "data/file/made_by.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Of the sources, "-dirty" behind it where they were changed; "unknown" without git.
static json_t *commit(const char *folder) {
    char command[4200], text[64] = "";
    if (strchr(folder, '\'')) return json_string("unknown");
    snprintf(command, sizeof command, "git -C '%s' describe --always --dirty --exclude '*' 2>/dev/null",
             folder);
    FILE *git = popen(command, "r");
    if (git && !fgets(text, sizeof text, git)) *text = '\0';
    if (git) pclose(git);
    text[strcspn(text, "\n")] = '\0';
    return json_string(*text ? text : "unknown");
}

json_t *bench_machine(const char *folder) {
    double load = -1;
    json_t *machine = kv_made_by(false);
    getloadavg(&load, 1);
    if (!machine) return NULL;
    json_object_set_new(machine, "commit", commit(folder));
    json_object_set_new(machine, "load", json_real(load));
    return machine;
}
