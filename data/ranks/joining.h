// Deaths before the ranks have found each other. Until MPI has started nobody knows where rank 0 is; but the ranks of one machine
// have one parent, the launcher's process there, and meet under its number.
#pragma once

// To be called before MPI starts, as long as this process has one thread. The first of a machine starts a small process, to which
// all have a link: where one of them dies before all have joined, it says which, and ends those of this machine, for the launcher
// to end the rest.
void kv_joining_begin(void);
// All ranks have joined. Waits for nothing but those of this machine that are about to call it.
void kv_joining_end(void);
