// What the code under test warns of, kept instead of shown: for tests that are linked with --wrap=kv_warn.
#include "tests/support/warnings.h"

#include "data/system/warning.h"

#include <stdarg.h>
#include <stdio.h>

int test_n_warnings;
char test_warned[2048];

void __wrap_kv_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void __wrap_kv_warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(test_warned, sizeof test_warned, format, arguments);
    va_end(arguments);
    test_n_warnings++;
}
