// A module that kvrun loads when it is asked to save or to load a prompt: HDF5 and the thirty libraries it brings cost
// every start more time than all others together, and no other use of kvrun needs them.
#include "infer/kvrun/saved_file.h"

const kvrun_saved_file kvrun_saved_file_functions = {kv_saved_prompt_write, kv_saved_prompt_read};
