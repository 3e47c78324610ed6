// kvrun at a terminal: conversations, Ctrl-C, Ctrl-D, and answers side by side. The test is the terminal, a dumb one: what an able one
// shows is for test_kvrun_edit.c.
#include "tests/support/kvrun.h"
#include "tests/support/spoil.h"
#include "tests/support/terminal.h"

#include "data/chat/chat.h"
#include "data/checkpoint/checkpoint.h"
#include "data/system/width.h"
#include "data/tokenizer/tokenizer.h"
#include "infer/generate.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- A terminal ----------------------------------------------------------------------------------------

static const char *term = "dumb";

// Lines (unless `raw`: everything as it comes) and signals as usual, but no echo, and new lines left alone.
static void start(const char *const *arguments, bool raw) {
    const char *all[32] = {getenv("KVRUN")};
    for (int i = 0; arguments[i]; i++) all[i + 1] = arguments[i];
    struct termios settings = {.c_iflag = ICRNL, .c_cflag = CREAD | CS8, .c_lflag = ICANON | ISIG};
    if (raw) settings.c_lflag = ISIG;
    settings.c_cc[VINTR] = 3, settings.c_cc[VEOF] = 4, settings.c_cc[VMIN] = 1;
    terminal_start(all, term, &settings);
}
#define kvrun_at_terminal(...) start((const char *const[]){__VA_ARGS__, NULL}, false)

// What comes up to the next prompt, which ends in a line of its own; lasts until the next call.
static char *until_prompt(void) {
    static char shown[1 << 16];
    terminal.text[terminal.length] = '\0';
    while (terminal.length < 2 || strcmp(terminal.text + terminal.length - 2, "> ") != 0)
        if (!terminal_more()) fail_msg("no prompt behind '%s'", terminal.text);
    memcpy(shown, terminal.text, terminal.length - 2);
    shown[terminal.length - 2] = '\0';
    terminal.length = 0;
    return shown;
}

// A turn's answer, without the line of figures behind it, which goes to *figures.
static char *ask(const char *line, const char **figures) {
    terminal_type(line);
    terminal_type("\n");
    char *shown = until_prompt();
    char *bracket = strstr(shown, "\n[first token after ");
    if (!bracket) fail_msg("no figures in '%s'", shown);
    *bracket = '\0';
    *figures = bracket + 1;
    return shown;
}

// ---- What the answers should be ------------------------------------------------------------------------

static kv_tokenizer *tokenizer;
static kv_system systems[2]; // base, KVP

// Answers as many tokens as `n` to ids, all read anew.
static char *answer_to(const kv_system *system, const int32_t *ids, int64_t n_ids, int64_t n) {
    kv_error error = {0};
    kv_session *session;
    int32_t generated[CONTEXT];
    int64_t n_generated;
    char *decoded;
    size_t length;
    const kv_generation how = {.max_tokens = n};
    assert_int_equal(kv_session_create(system, 1, CONTEXT, &session, &error), KV_OK);
    if (kv_generate(session, ids, &n_ids, &how, generated, &n_generated, &error))
        fail_msg("%s", error.message);
    kv_session_free(session);
    for (int64_t i = 0; i < n_generated; i++)
        if (generated[i] == system->base->spec.eos_id) n_generated = i;
    assert_int_equal(kv_decode_continuation(tokenizer, generated, n_generated, &decoded, &length, &error),
                     KV_OK);
    char *text = test_repaired(decoded, length, NULL);
    free(decoded);
    return text;
}

static char *answer_to_text(const kv_system *system, const char *text, int64_t n, int64_t *n_ids) {
    kv_error error = {0};
    int32_t *ids, all[CONTEXT] = {1};
    assert_int_equal(kv_tokenizer_encode(tokenizer, text, strlen(text), &ids, n_ids, &error), KV_OK);
    memcpy(all + 1, ids, (size_t)*n_ids * sizeof *ids);
    *n_ids += 1;
    free(ids);
    return answer_to(system, all, *n_ids, n);
}

// ---- Conversations -------------------------------------------------------------------------------------

// A conversation as a session for turns has it: each turn behind as much of the one before as the text's ids share.
struct turns {
    kv_session *session;
    int32_t ids[CONTEXT];
    int64_t n; // read
};

static char *answer_in_turn(struct turns *t, const char *text, int64_t n_answer, int64_t *n_new) {
    kv_error error = {0};
    int32_t *ids, all[CONTEXT] = {1}, generated[CONTEXT];
    int64_t n, same = 0, n_generated;
    char *decoded;
    size_t length;
    assert_int_equal(kv_tokenizer_encode(tokenizer, text, strlen(text), &ids, &n, &error), KV_OK);
    memcpy(all + 1, ids, (size_t)n++ * sizeof *ids);
    free(ids);
    while (same < t->n && same < n - 1 && t->ids[same] == all[same]) same++;
    kv_session_rewind(t->session, same);
    const kv_generation how = {.max_tokens = n_answer, .append = true};
    *n_new = n - same;
    if (kv_generate(t->session, all + same, n_new, &how, generated, &n_generated, &error))
        fail_msg("%s", error.message);
    memcpy(all + n, generated, (size_t)n_generated * sizeof *all);
    t->n = kv_session_length(t->session, 0);
    memcpy(t->ids, all, sizeof all);
    for (int64_t i = 0; i < n_generated; i++)
        if (generated[i] == systems[0].base->spec.eos_id) n_generated = i;
    assert_int_equal(kv_decode_continuation(tokenizer, generated, n_generated, &decoded, &length, &error),
                     KV_OK);
    char *repaired = test_repaired(decoded, length, NULL);
    free(decoded);
    return repaired;
}

// With KV prediction: the base keeps what it has read and written.
static void turns_are_predicted_behind_turns(void **state) {
    (void)state;
    static const char *const lines[] = {"In which country is Chaco?", "And Fiji?", "Which code has it?",
                                        "Why?"};
    kv_error error = {0};
    struct turns t = {0};
    char said[1024] = "";
    bool caught_up = false;
    assert_int_equal(kv_session_create_turns(&systems[1], 1, CONTEXT, &t.session, &error), KV_OK);
    kvrun_at_terminal(KVP, "-n", "6");
    assert_non_null(strstr(until_prompt(), "[KVP, context 96 tokens; /help"));
    for (int turn = 0; turn < 4; turn++) {
        const char *figures;
        int64_t n_new;
        long long n_read;
        char *got = ask(lines[turn], &figures);
        if (turn > 0 && said[strlen(said) - 1] != '\n') strcat(said, "\n");
        strcat(said, lines[turn]);
        char *wanted = answer_in_turn(&t, said, 6, &n_new);
        assert_string_equal(got, wanted);
        strcat(said, wanted);
        free(wanted);
        assert_int_equal(sscanf(strchr(figures, ','), ", %lld of", &n_read), 1);
        assert_int_equal(n_read, n_new);
        caught_up |= strstr(figures, ", by the aux ") != NULL;
    }
    assert_true(caught_up);
    kv_session_free(t.session);
    terminal_type("/quit\n");
    terminal_expect_end(0);
}

// Three turns of a base alone and of one that prunes: each answer is what the whole text up to there, read anew, gives.
static void history_is_kept(void **state) {
    (void)state;
    static const char *const lines[] = {"In which country is Chaco?", "And Fiji?", "Which code has it?"};
    const kv_system how[2] = {systems[0],
                              {.base = systems[0].base, .pruning = {.kind = KV_PRUNE_STATIC, .keep = 0.5}}};
    for (int pruned = 0; pruned < 2; pruned++) {
        char said[1024] = "";
        int64_t length_before = 0;
        if (pruned)
            kvrun_at_terminal(BASE, "--prune", "static:0.5", "-n", "6");
        else
            kvrun_at_terminal(BASE, "-n", "6");
        assert_non_null(
            strstr(until_prompt(), pruned ? "[pruned, context 96 tokens, read as a whole at every turn;"
                                          : "[base, context 96 tokens; /help"));
        for (int turn = 0; turn < 3; turn++) {
            const char *figures;
            int64_t n;
            long long n_read, n_whole, used;
            char *got = ask(lines[turn], &figures);
            if (turn > 0 && said[strlen(said) - 1] != '\n') strcat(said, "\n");
            strcat(said, lines[turn]);
            char *wanted = answer_to_text(&how[pruned], said, 6, &n);
            assert_string_equal(got, wanted);
            strcat(said, wanted);
            free(wanted);
            assert_int_equal(sscanf(strchr(figures, ','), ", %lld of %lld tokens read;", &n_read, &n_whole),
                             2);
            assert_int_equal(n_whole, n);
            // The base alone reads only what is new: this turn, and the answer before it as far as its text
            // makes other tokens than the model did.
            if (pruned || turn == 0)
                assert_int_equal(n_read, n);
            else
                assert_true(n_read <= n - length_before + 2);
            assert_int_equal(sscanf(strstr(figures, "context "), "context %lld of 96]", &used), 1);
            assert_true(used > n);
            length_before = n;
        }
        terminal_type("/quit\n");
        terminal_expect_end(0);
    }
}

// Another run goes on as if it were this one; and so does a prompt behind it.
static void conversations_are_kept(void **state) {
    (void)state;
    const char *figures, *third = "Which code has it?";
    char save[256], load[256], file[128], behind[64], wanted[256];
    snprintf(file, sizeof file, "%s/talk.h5", test_dir);
    snprintf(save, sizeof save, "/save %s\n", file);
    snprintf(load, sizeof load, "/load %s\n", file);
    kvrun_at_terminal(KVP, "-n", "6");
    until_prompt();
    terminal_type(save);
    assert_string_equal(until_prompt(), "[nothing to save: nothing has been said]\n");
    terminal_type("/save\n");
    assert_string_equal(until_prompt(), "[/save needs a file: /save FILE]\n");
    terminal_type("/load /nowhere/x.h5\n");
    assert_non_null(strstr(until_prompt(), "[/nowhere/x.h5: cannot open: No such file or directory"));
    ask("In which country is Chaco?", &figures);
    ask("And Fiji?", &figures);
    terminal_type(save);
    assert_non_null(strstr(until_prompt(), " tokens saved in "));
    char *answer = strdup(ask(third, &figures));
    terminal_type("\4");
    terminal_expect_end(0);
    kvrun_at_terminal(KVP, "-n", "6");
    until_prompt();
    terminal_type(load);
    assert_non_null(strstr(until_prompt(), " tokens loaded in "));
    assert_string_equal(ask(third, &figures), answer);
    terminal_type("\4");
    terminal_expect_end(0);
    snprintf(behind, sizeof behind, "\n%s", third);
    snprintf(wanted, sizeof wanted, "%s\n", answer);
    assert_int_equal(kvrun(KVP, "-n", "6", "--load-prompt", file, behind), 0);
    assert_string_equal(kvrun_out, wanted);
    kvrun_at_terminal(BASE, "-n", "6"); // others have no use for it
    until_prompt();
    terminal_type(load);
    assert_non_null(strstr(until_prompt(), "talk.h5: a prompt that was saved with another model: the aux "));
    terminal_type("\4");
    terminal_expect_end(0);
    free(answer);
}

static void commands(void **state) {
    (void)state;
    const char *figures;
    kvrun_at_terminal(BASE, "-n", "5");
    until_prompt();
    char *first = strdup(ask("Which country?", &figures));
    char *second = strdup(ask("Which country?", &figures));
    terminal_type("/reset\n");
    assert_string_equal(until_prompt(), "[forgotten]\n");
    assert_string_equal(ask("Which country?", &figures), first);
    terminal_type("/help\n");
    assert_non_null(strstr(until_prompt(), "/reset"));
    terminal_type("/nonsense\n");
    assert_string_equal(until_prompt(), "[there is no /nonsense; /help tells what there is]\n");
    terminal_type("\n"); // nothing said
    assert_string_equal(until_prompt(), "");
    assert_string_equal(ask("Which country?", &figures), second);
    // A slash can be said.
    terminal_type("/reset\n");
    until_prompt();
    int64_t n;
    char *slash = answer_to_text(&systems[0], "/x", 5, &n);
    assert_string_equal(ask("//x", &figures), slash);
    terminal_type("\4");
    terminal_expect_end(0);
    free(slash);
    free(first);
    free(second);
}

// Lines that come together, as from a terminal that does not keep them apart, are turns one after the other.
static void several_lines_at_once(void **state) {
    (void)state;
    int status;
    start((const char *const[]){BASE, "-n", "5", NULL}, true);
    until_prompt();
    terminal_type("/nonsense\n/reset\n\n/oth");
    while (!strstr(terminal.text, "[forgotten]\n> > ")) assert_true(terminal_more());
    terminal_type("er\n/quit\n");
    const char *shown = terminal_until_end(&status);
    assert_string_equal(shown, "[there is no /nonsense; /help tells what there is]\n> [forgotten]\n> > "
                               "[there is no /other; /help tells what there is]\n> ");
    assert_int_equal(status, 0);
}

static void a_full_context(void **state) {
    (void)state;
    const char *figures;
    kvrun_at_terminal(BASE, "-n", "6", "--context", "20");
    until_prompt();
    ask("Which?", &figures);
    terminal_type("A very long message indeed, which certainly does not fit it\n");
    const char *refusal = until_prompt();
    assert_non_null(strstr(refusal, "the context holds 20: say it shorter, or /reset"));
    char *got = strdup(ask("And?", &figures)); // the long one was not said
    terminal_type("/reset\n");
    until_prompt();
    ask("Which?", &figures);
    assert_string_equal(ask("And?", &figures), got);
    free(got);
    terminal_type("\4");
    terminal_expect_end(0);
}

// With --too-long cut a conversation loses its beginning instead, turn by turn.
static void a_full_context_that_is_cut(void **state) {
    (void)state;
    const char *figures, *line = "In which country is Chaco, and which code has it?";
    int n_cut = 0;
    kvrun_at_terminal(BASE, "-n", "6", "--too-long", "cut");
    until_prompt();
    for (int turn = 0; turn < 8; turn++) {
        const bool cut = strstr(ask(line, &figures), " tokens of the conversation are cut off") != NULL;
        if (cut) assert_non_null(strstr(figures, " of 90 tokens read"));
        assert_true(cut || n_cut == 0);
        n_cut += cut;
    }
    assert_true(n_cut > 2 && n_cut < 8);
    terminal_type("\4");
    terminal_expect_end(0);
}

static void chats(void **state) {
    (void)state;
    kv_error error = {0};
    test_write_text(in_dir("chat_template.jinja"), "{{ '[INST]' }} <<SYS>>");
    const kv_chat_template chat = {.kind = KV_CHAT_LLAMA2};
    kv_chat_message messages[5] = {{KV_CHAT_SYSTEM, "Be kind."}};
    static const char *const lines[] = {"Hi </s>", "Who?"};
    char *answers[2];
    kvrun_at_terminal(BASE, "-n", "6", "--chat", "--system", "Be kind.");
    until_prompt();
    for (int turn = 0; turn < 2; turn++) {
        const char *figures;
        int32_t *ids;
        int64_t n;
        messages[2 * turn + 1] = (kv_chat_message){KV_CHAT_USER, lines[turn]};
        assert_int_equal(kv_chat_encode(&chat, tokenizer, messages, 2 * turn + 2, &ids, &n, &error), KV_OK);
        answers[turn] = answer_to(&systems[0], ids, n, 6);
        assert_string_equal(ask(lines[turn], &figures), answers[turn]);
        messages[2 * turn + 2] = (kv_chat_message){KV_CHAT_ASSISTANT, answers[turn]};
        free(ids);
    }
    terminal_type("\4");
    terminal_expect_end(0);
    free(answers[0]);
    free(answers[1]);
    unlink(in_dir("chat_template.jinja"));
}

// ---- Signals -------------------------------------------------------------------------------------------

// Ctrl-C ends the answer, at the prompt the session. A model this slow is not over before.
static void ctrl_c(void **state) {
    (void)state;
    const char *figures = NULL;
    kvrun_at_terminal("-b", "random:openelm-270m-lp-0.25:bf16", "-t", in_dir("tokenizer.model"), "-n",
                      "2000");
    until_prompt();
    for (int again = 0; again < 2; again++) {
        terminal_type("Hello\n");
        while (terminal.length < 8) assert_true(terminal_more()); // it answers
        terminal_type("\3");
        figures = strstr(until_prompt(), "[first token after");
        assert_non_null(figures);
        assert_non_null(strstr(figures, "; ended by interrupted; "));
    }
    terminal_type("half a line");
    terminal_type("\3");
    terminal_expect_end(128 + SIGINT);
}

static void sigterm_ends_the_session(void **state) {
    (void)state;
    kvrun_at_terminal("-b", "random:openelm-270m-lp-0.25:bf16", "-t", in_dir("tokenizer.model"), "-n",
                      "2000");
    until_prompt();
    terminal_type("Hello\n");
    while (terminal.length < 8) assert_true(terminal_more());
    kill(terminal.child, SIGTERM);
    terminal_expect_end(128 + SIGTERM);
    kvrun_at_terminal(BASE);
    until_prompt();
    kill(terminal.child, SIGTERM);
    terminal_expect_end(128 + SIGTERM);
}

static void a_terminal_that_goes_away(void **state) {
    (void)state;
    int status;
    kvrun_at_terminal(BASE);
    until_prompt();
    close(terminal.control);
    assert_int_equal(waitpid(terminal.child, &status, 0), terminal.child);
    // The kernel wakes a reader with the end of the file first and sends the signal then: either may win.
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 128 + SIGHUP);
}

// ---- Elsewhere at a terminal ---------------------------------------------------------------------------

// Nothing can be said with such a model: the conversation ends as a single question does.
static void a_model_that_is_not_finite(void **state) {
    (void)state;
    char command[512];
    int status;
    snprintf(command, sizeof command, "cp -r %s %s", in_dir("base"), in_dir("nan"));
    assert_int_equal(system(command), 0);
    test_spoil(in_dir("nan"), "model.safetensors", "transformer.norm.weight", 0, NAN);
    kvrun_at_terminal("--base", in_dir("nan"), "--tokenizer", in_dir("tokenizer.model"), "-n", "8");
    until_prompt();
    terminal_type("hello\n");
    const char *text = terminal_until_end(&status);
    assert_int_equal(status, 1);
    // In two lines, as the terminal is narrower than what is said.
    if (!strstr(text, "kvrun: base: the first token of the answer: the logits are not finite") ||
        !strstr(text, "\n  (id 0 has "))
        fail_msg("%s", text);
}

static void side_by_side(void **state) {
    (void)state;
    int status;
    kvrun_at_terminal(KVP, "-n", "12", "--compare", "Hello");
    const char *shown = terminal_until_end(&status);
    assert_int_equal(status, 0);
    const char *line = strstr(shown, "base                               | KVP\n");
    assert_non_null(line);
    assert_non_null(strstr(line, "-+-"));
    assert_non_null(strstr(line, "time to first token"));
}

// What there is by then has a spread, and is shown.
static void comparing_that_is_interrupted(void **state) {
    (void)state;
    int status;
    term = "xterm"; // where progress is redrawn
    kvrun_at_terminal(KVP, "-n", "4", "--compare", "--repeats", "100000", "Hello");
    term = "dumb";
    while (!strstr(terminal.text, "comparing [")) assert_true(terminal_more());
    terminal.length = 0;
    terminal_more();
    terminal_type("\3");
    const char *shown = terminal_until_end(&status);
    assert_int_equal(status, 128 + SIGINT);
    assert_non_null(strstr(shown, "time to first token"));
    long long turns;
    assert_int_equal(sscanf(strstr(shown, "quartiles, of "), "quartiles, of %lld turns", &turns), 1);
    assert_true(turns > 1 && turns < 100000);
    // No row is wider than the terminal.
    for (const char *at = strstr(shown, "\ntime to") + 1; *at; at += strcspn(at, "\n") + 1) {
        char row[128];
        snprintf(row, sizeof row, "%.*s", (int)strcspn(at, "\r\n"), at);
        assert_true(kv_text_width(row) <= TERMINAL_WIDTH);
    }
}

static void scripts_need_a_prompt(void **state) {
    (void)state;
    int status;
    kvrun_at_terminal(BASE, "--json");
    assert_non_null(strstr(terminal_until_end(&status), "--compare, --json and --ids need a prompt"));
    assert_int_equal(status, 2);
}

// ---- The family ----------------------------------------------------------------------------------------

static int set_up(void **state) {
    kv_error error = {0};
    test_dir_set_up(state);
    test_make_family(test_dir, CONTEXT);
    if (kv_tokenizer_open(in_dir("tokenizer.model"), &tokenizer, &error) ||
        kv_checkpoint_load(in_dir("base"), &systems[0].base, &error) ||
        kv_checkpoint_load(in_dir("aux"), &systems[1].aux, &error))
        fail_msg("%s", error.message);
    systems[1].base = systems[0].base;
    if (kv_predictor_load(in_dir("predictor"), &systems[1].base->spec, &systems[1].aux->spec, NULL, NULL,
                          &systems[1].predictor, &error))
        fail_msg("%s", error.message);
    return 0;
}

static int tear_down(void **state) {
    kv_predictor_free(systems[1].predictor);
    kv_model_free(systems[1].aux);
    kv_model_free(systems[0].base);
    kv_tokenizer_free(tokenizer);
    return test_dir_tear_down(state);
}

int main(void) {
    enum { SKIPPED = 77 }; // to meson
    if (!terminal_exists()) {
        perror("skipped: this system gives out no pseudo-terminal");
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_predicted_behind_turns),
        cmocka_unit_test(history_is_kept),
        cmocka_unit_test(conversations_are_kept),
        cmocka_unit_test(commands),
        cmocka_unit_test(several_lines_at_once),
        cmocka_unit_test(a_full_context),
        cmocka_unit_test(a_full_context_that_is_cut),
        cmocka_unit_test(chats),
        cmocka_unit_test(ctrl_c),
        cmocka_unit_test(sigterm_ends_the_session),
        cmocka_unit_test(a_terminal_that_goes_away),
        cmocka_unit_test(a_model_that_is_not_finite),
        cmocka_unit_test(side_by_side),
        cmocka_unit_test(comparing_that_is_interrupted),
        cmocka_unit_test(scripts_need_a_prompt),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
