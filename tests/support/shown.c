// Tables as a user reads them, for tests that look at what is in them.
#include "tests/support/shown.h"

#include "tests/support/support.h"

#include <stdlib.h>

char *test_shown(kv_tables *tables) {
    char *text = NULL;
    size_t size;
    kv_error err = {0};
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    if (kv_tables_write(tables, &kv_format_text, stream, &err)) fail_msg("%s", err.message);
    fclose(stream);
    kv_tables_free(tables);
    return text;
}
