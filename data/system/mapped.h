// Files that are read through memory (mmap) while another program may shorten them: a page that is gone is a signal
// (SIGBUS) where a read would have failed. The program then ends with a line that names the file, and exit status 1.
#pragma once

#include <stddef.h>

// path: borrowed until the range is forgotten, which has to be before it is unmapped. Sets the handler.
void kv_mapped_note(const void *at, size_t size, const char *path);
void kv_mapped_forget(const void *at);
// Has the line said by `tell`, which ends the program and is allowed in a signal handler, instead of on standard error.
void kv_mapped_tell(void (*tell)(const char *message, int exit_status));
