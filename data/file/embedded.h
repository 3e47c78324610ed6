// Files that the build turns into a part of the program (data/file/embed.c), so that it needs no path to
// them.
#pragma once

typedef struct kv_embedded {
    const char *name, *text; // of the file: without directories and its last ending; its bytes
} kv_embedded;
