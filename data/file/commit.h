// The commit that a program was built from: "b5356ac", with "-dirty" behind it where tracked files were changed since; "unknown"
// without git. Only a program's own file includes this: a library would be linked anew into everything at each commit.
#pragma once

extern const char kv_commit[];
