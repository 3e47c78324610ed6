#include "data/system/console.h"

#include "core/text.h"
#include "data/system/help.h"
#include "data/system/limits.h"
#include "data/system/width.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const double redraw_seconds = 0.1;
static const double plain_line_seconds = 5.0;
enum { bar_width = 24 };

// The other way round: reading from a closed standard input stays an error, and so does writing to a closed
// output.
static void hold_streams(void) {
    static const int contrary[] = {O_WRONLY, O_RDONLY, O_RDONLY};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            open("/dev/null", contrary[fd]); // gets the lowest number, which is this one
}

// Where threads are bound to places (OMP_PROC_BIND), this one is bound to the first as the runtime starts, and whatever it
// starts would have that for all of the machine: it may go everywhere again.
void kv_console_leave_place(void) {
    cpu_set_t all;
    CPU_ZERO(&all);
    for (int place = 0; place < omp_get_num_places(); place++) {
        int ids[CPU_SETSIZE];
        const int n = omp_get_place_num_procs(place);
        if (n <= 0 || n > CPU_SETSIZE) return;
        omp_get_place_proc_ids(place, ids);
        for (int i = 0; i < n; i++)
            if (ids[i] >= 0 && ids[i] < CPU_SETSIZE) CPU_SET(ids[i], &all);
    }
    if (CPU_COUNT(&all) > 0) sched_setaffinity(0, sizeof all, &all);
}

// Whether there is a CPU for each of our threads beside what else wants to run just now.
static bool is_quiet(void) {
    int running = 0;
    FILE *file = fopen("/proc/loadavg", "r");
    if (!file) return false;
    const bool read = fscanf(file, "%*s %*s %*s %d/", &running) == 1;
    fclose(file);
    return read && running - 1 + omp_get_max_threads() <= omp_get_num_procs();
}

// The runtime reads its settings before main, so the program starts itself again, once.
static void calm_threads(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    // By the file's own path, so that ps and pkill know the program by its name. On failure: go on as we are.
    char path[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0 || setenv("GOMP_SPINCOUNT", is_quiet() ? "5000" : "1000", 1) != 0) return;
    path[n] = '\0';
    kv_console_leave_place();
    execv(path, argv);
}

// Lines reach a log whole, those of standard output in their order among those of standard error. On a terminal
// what is redrawn in place has to show at once.
static void write_whole_lines(void) {
    static char out[1 << 16], err[1 << 14];
    setvbuf(stdout, out, _IOLBF, sizeof out);
    if (!isatty(STDERR_FILENO)) setvbuf(stderr, err, _IOLBF, sizeof err);
}

// A printout that is lost is a failure, be it a page of help. Only with nobody to read it is there nobody to miss it:
// a reader that had enough, or a descriptor that was closed from the start.
static void check_output(int exit_status, void *unused) {
    (void)unused;
    if (exit_status != 0 || kv_console_flush() || errno == EBADF) return;
    fprintf(stderr, "%s: standard output: cannot write: %s\n", program_invocation_short_name,
            strerror(errno));
    fflush(stderr);
    _exit(1);
}

// A line longer than the terminal is wide would wrap, and could not be redrawn in place.
static int terminal_width(FILE *stream) {
    struct winsize size;
    return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : INT_MAX;
}

void kv_console_start(char **argv) {
    hold_streams();
    kv_limits_raise_stack();
    kv_limits_need_memory();
    calm_threads(argv);
    kv_console_survive_writes();
    kv_help_fit();
    write_whole_lines();
    on_exit(check_output, NULL);
    kv_help_make_room(argv);
}

bool kv_console_flush(void) {
    if (!ferror(stdout)) return fflush(stdout) == 0 || errno == EPIPE;
    // Why it failed was said when a line was written; one more gets to know it again.
    clearerr(stdout);
    errno = 0;
    if (fputc('\n', stdout) != EOF && fflush(stdout) == 0) errno = 0;
    if (!errno) errno = EIO;
    return errno == EPIPE;
}

double kv_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

char *kv_duration(double seconds, char text[32]) {
    if (!(seconds >= 0) || seconds > 1e9) {
        strcpy(text, "?");
        return text;
    }
    int64_t whole = llround(seconds);
    if (whole < 60)
        snprintf(text, 32, "%" PRIi64 " s", whole);
    else if (whole < 3600)
        snprintf(text, 32, "%" PRIi64 "m %02" PRIi64 "s", whole / 60, whole % 60);
    else
        snprintf(text, 32, "%" PRIi64 "h %02" PRIi64 "m", whole / 3600, whole % 3600 / 60);
    return text;
}

bool kv_console_redraws(int fd) {
    const char *term = getenv("TERM");
    return isatty(fd) == 1 && term && *term && strcmp(term, "dumb") != 0;
}

void kv_progress_begin(kv_progress *progress, FILE *stream, const char *title, int64_t total) {
    double now = kv_now();
    *progress = (kv_progress){.stream = stream,
                              .terminal = kv_console_redraws(fileno(stream)),
                              .title = title,
                              .total = total,
                              .last_shown = -1,
                              .started = now,
                              .last_time = now};
}

static double fraction_done(const kv_progress *progress, int64_t done) {
    if (progress->total <= 0) return 0;
    double fraction = (double)done / (double)progress->total;
    return fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
}

// Titles and notes have names in them that others chose; a name may neither move the cursor nor begin a line.
static void print_safe(FILE *stream, const char *text, int columns) {
    char *safe = kv_text_printable(text, false);
    if (safe) fprintf(stream, "%.*s", (int)kv_text_fit(safe, columns), safe);
    free(safe);
}

// Parts of a note, two blanks between them, as long as the line is too wide: whole ones.
static void drop_parts(char *line, int columns) {
    const char *first = strstr(line, " left  ");
    for (char *end; first && kv_text_width(line) > columns; *end = '\0') {
        end = line + strlen(line);
        while (end > first + 7 && !(end[-1] == ' ' && end[-2] == ' ')) end--;
        if (end <= first + 7) return; // the first part is cut where it ends
        while (end[-1] == ' ') end--;
    }
}

static void draw_bar(const kv_progress *progress, int64_t done, const char *note, double now) {
    double fraction = fraction_done(progress, done);
    char bar[bar_width + 1] = "", left[32] = "?", line[512];
    // The note says more than the bar, which gets what is left of a narrow terminal.
    const int columns = terminal_width(progress->stream), least = 4,
              others = kv_text_width(progress->title) + kv_text_width(note ? note : "") + 26;
    const int room = columns - others, n = room >= bar_width ? bar_width : room < least ? 0 : room;
    for (int i = 0; i < n; i++) bar[i] = i < (int)(fraction * n) ? '#' : '-';
    if (progress->left > 0)
        kv_duration(progress->left, left);
    else if (fraction > 0)
        kv_duration((now - progress->started) * (1 - fraction) / fraction, left);
    snprintf(line, sizeof line, "%s %s%s%s%3.0f %%  %s left  %s", progress->title, n ? "[" : "", bar,
             n ? "] " : "", 100 * fraction, left, note ? note : "");
    line[kv_text_whole(line, strlen(line))] = '\0'; // where it did not fit
    drop_parts(line, columns);
    fputs("\r\033[K", progress->stream);
    print_safe(progress->stream, line, terminal_width(progress->stream));
    fflush(progress->stream);
}

static void print_line(const kv_progress *progress, int64_t done, const char *note, double now) {
    char spent[32];
    kv_duration(now - progress->started, spent);
    print_safe(progress->stream, progress->title, INT_MAX);
    fprintf(progress->stream, ": %" PRIi64, done);
    if (progress->total > 0)
        fprintf(progress->stream, "/%" PRIi64 " (%.0f %%)", progress->total,
                100 * fraction_done(progress, done));
    fprintf(progress->stream, "  %s%s", spent, note && *note ? "  " : "");
    print_safe(progress->stream, note ? note : "", INT_MAX);
    fputc('\n', progress->stream);
    fflush(progress->stream);
}

void kv_progress_show(kv_progress *progress, int64_t done, const char *note) {
    double now = kv_now();
    double since = now - progress->last_time;
    bool first = progress->last_shown < 0;
    progress->last_shown = done;
    if (progress->terminal ? !first && since < redraw_seconds : since < plain_line_seconds) return;
    progress->last_time = now;
    if (progress->terminal)
        draw_bar(progress, done, note, now);
    else
        print_line(progress, done, note, now);
}

void kv_progress_line(kv_progress *progress, const char *text) {
    if (progress->terminal) fputs("\r\033[K", progress->stream);
    print_safe(progress->stream, progress->title, INT_MAX);
    fputs(": ", progress->stream);
    print_safe(progress->stream, text, INT_MAX);
    fputc('\n', progress->stream);
    fflush(progress->stream);
    progress->last_time -=
        progress->terminal ? redraw_seconds : 0; // the bar is gone: drawn at the next chance
}

void kv_progress_end(kv_progress *progress, const char *note) {
    double now = kv_now();
    if (progress->terminal) fputs("\r\033[K", progress->stream);
    print_line(progress, progress->last_shown < 0 ? 0 : progress->last_shown, note, now);
}

char *kv_count_text(double count, char text[32]) {
    static const struct {
        double unit;
        const char *suffix;
    } units[] = {{1e15, " P"}, {1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e3, " k"}, {1, ""}};
    size_t i = 0;
    while (i + 1 < sizeof units / sizeof *units && count < units[i].unit) i++;
    snprintf(text, 32, "%.3g%s", count / units[i].unit, units[i].suffix);
    return text;
}
