// The options of a picture, as kveval report and kveval seeds have them.
#include "eval/report/picture_options.h"

#include <string.h>

static const struct argp_option option_list[] = {
    {"x", 'x', "exact|paper|clock", 0,
     "reduction of FLOPs, or of the measured time, in the picture (default exact)", 0},
    {"y", 'y', "accuracy|retention", 0, "height in the picture (default accuracy)", 0},
    {"line", 'l', "SYSTEM", 0, "draw a dashed line through all of a panel at the height of this system", 0},
    {"published", 'p', "NAME", 0,
     "draw these figures of the paper faintly and copy them to published.csv, e.g. triviaqa-openelm-1.1b", 0},
    {0},
};

static char *one_of(struct argp_state *state, const char *option, char *text, const char *const *words) {
    char known[64] = "";
    for (int i = 0; words[i]; i++) {
        if (!strcmp(text, words[i])) return text;
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s",
                 i == 0         ? ""
                 : words[i + 1] ? ", "
                                : " or ",
                 words[i]);
    }
    argp_error(state, "--%s: '%s', expected %s", option, text, known);
    return text;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    static const char *const counts[] = {"exact", "paper", "clock", NULL};
    static const char *const heights[] = {"accuracy", "retention", NULL};
    static char exact[] = "exact", accuracy[] = "accuracy";
    kv_eval_picture *picture = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        *picture = (kv_eval_picture){.x = exact, .y = accuracy, .draw_published = true};
        return 0;
    case 'x': picture->x = one_of(state, "x", text, counts); return 0;
    case 'y': picture->y = one_of(state, "y", text, heights); return 0;
    case 'l': picture->line = text; return 0;
    case 'p': picture->published = text; return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp kv_picture_argp = {option_list, parse, NULL, NULL, NULL, NULL, NULL};
