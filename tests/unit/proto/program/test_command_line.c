/* SPDX-License-Identifier: Apache-2.0 */
/* What every program answers by itself, around flags of its own. */
#include "command_line.h"
#include "numbers.h"
#include "testing.h"

#include <errno.h>
#include <etag/etag.h>

enum { FLAG_SIZE = FLAG_FIRST };

struct seen {
    const char *size;
    /* place in argv; 0: none */
    int argument;
};

static error_t seen_parse(int key, char *value, struct argp_state *state)
{
    struct seen *const seen = state->input;

    switch (key) {
    case FLAG_SIZE:
        seen->size = value;
        return 0;
    case ARGP_KEY_ARG:
        seen->argument = state->next - 1;
        state->next = state->argc;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option own_flags[] = {{"size", FLAG_SIZE, "N", 0, "How large", 0}, {0}};

/* Reads the words; what was printed is in text. */
static bool read_words(struct command_line *line, struct seen *seen, char text[1024], size_t count,
                       char **words)
{
    CLEANUP(cleanup_file) FILE *printed = fmemopen(text, 1024, "w");
    FILE *const before_out = stdout, *const before_error = stderr;

    *seen = (struct seen){0};
    stdout = stderr = printed;
    const bool read = command_line_read(line, (int)count, words, seen);
    stdout = before_out;
    stderr = before_error;
    return read;
}

#define READ(line, seen, text, ...)                                                                \
    read_words(line, seen, text, COUNT_OF(((char *[]){"prog", __VA_ARGS__})),                      \
               (char *[]){"prog", __VA_ARGS__, NULL})

static struct command_line line_made(const char *args_doc)
{
    return (struct command_line){
        .program = "prog",
        .flags = {
            .options = own_flags, .parser = seen_parse, .args_doc = args_doc, .doc = "Does it."}};
}

TEST(help_and_version_are_answered)
{
    struct command_line line = line_made(NULL);
    struct seen seen;
    char text[1024] = "";

    assert_false(READ(&line, &seen, text, "--version"));
    assert_true(line.answered);
    assert_string_equal(text, "prog " ETAG_VERSION_STRING "\n");
    assert_false(READ(&line, &seen, text, "--size", "4", "--help"));
    assert_true(line.answered);
    const char *const own = strstr(text, "--size=N"), *const version = strstr(text, "--version");
    assert_true(own && version && own < version); /* the program's own first */
    assert_ptr_equal(strstr(strstr(text, "Does it.") + 1, "Does it."), NULL);
}

TEST(the_programs_own_flags_come_to_its_parser)
{
    struct command_line line = line_made(NULL);
    struct seen seen;
    char text[1024] = "";

    assert_true(READ(&line, &seen, text, "--size", "4"));
    assert_false(line.answered);
    assert_string_equal(seen.size, "4");
    assert_false(READ(&line, &seen, text, "--sizes", "4"));
    assert_false(line.answered);
}

TEST(an_argument_is_unexpected_where_none_is_taken)
{
    struct command_line line = line_made(NULL);
    struct seen seen;
    char text[1024] = "";

    assert_false(READ(&line, &seen, text, "file"));
    assert_false(line.answered);
    assert_int_equal(seen.argument, 0);
    assert_non_null(strstr(text, "unexpected argument \"file\""));
}

TEST(a_command_ends_the_flags)
{
    struct command_line line = line_made("[COMMAND]");
    struct seen seen;
    char text[1024] = "";

    assert_true(READ(&line, &seen, text, "--size", "4", "command", "--help"));
    assert_false(line.answered);
    assert_string_equal(seen.size, "4");
    assert_int_equal(seen.argument, 3);
}
