// The options of a picture that is drawn of results that are there: --x, --y, --line, --published.
#pragma once

#include "eval/report/pictures.h"

#include <argp.h>

// An argp child: the program's parser sets state->child_inputs[…] to its kv_eval_picture at ARGP_KEY_INIT, which gives it
// what applies without options: exact against accuracy.
extern const struct argp kv_picture_argp;
