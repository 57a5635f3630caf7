/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clients: who is connected, and what each of them counts. The daemon knows pid, uid and roles from
 * the kernel; the names of command and user are looked up here, where they can be: a process in
 * another pid namespace shows none, or another's.
 */
#include "clocktime.h"
#include "ctl_daemon.h"
#include "ctl_output.h"
#include "ctl_stats_show.h"
#include "text.h"

#include <inttypes.h>
#include <pwd.h>
#include <string.h>

#define COMMAND_BYTES 64

/* "" where it cannot be read. */
static const char *command_of(uint32_t pid, char out[COMMAND_BYTES])
{
    char path[40];

    out[0] = '\0';
    snprintf(path, sizeof(path), "/proc/%" PRIu32 "/comm", pid);
    CLEANUP(cleanup_file) FILE *file = fopen(path, "re");
    if (file && fgets(out, COMMAND_BYTES, file))
        out[strcspn(out, "\n")] = '\0';
    return out;
}

static const char *user_of(uint32_t uid)
{
    const struct passwd *user = getpwuid(uid);

    return user ? user->pw_name : NULL;
}

static uint64_t count_of(const struct client_view *client, const char *name)
{
    for (size_t i = 0; i < client->count_count; i++)
        if (str_equal(client->counts[i].name, str_of(name)))
            return client->counts[i].number;
    return 0;
}

static uint64_t unknown_of(const struct client_view *client)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < client->count_count; i++)
        if (str_starts_with(client->counts[i].name, ETAG_LIT("unknown_")))
            sum += client->counts[i].number;
    return sum;
}

/* ---- For people ---- */

static void print_cut(etag_str text, size_t width)
{
    if (text.len > width - 1)
        text.len = width - 1;
    output_text_padded(text, (int)width);
}

static void print_count(const struct client_view *client, uint64_t count, int width)
{
    char text[SHORT_TEXT_BYTES];

    printf(" %*s", width, client->counts_itself ? short_text((double)count, text) : "-");
}

static const char *version_of(etag_str software)
{
    return str_starts_with(software, ETAG_LIT("libetag ")) ? software.data + strlen("libetag ")
                                                           : software.data;
}

static void print_client(const struct client_view *client)
{
    char command[COMMAND_BYTES], age[SHORT_TEXT_BYTES], roles[5], number[16];
    const char *user = user_of(client->uid);
    const char *version = version_of(client->software);
    const uint64_t lost = count_of(client, "fills_dropped") + count_of(client, "fills_refused");

    snprintf(number, sizeof(number), "%" PRIu32, client->uid);
    for (size_t i = 0; i < 4; i++)
        roles[i] = client->roles & (1u << i) ? "rfma"[i] : '-';
    roles[4] = '\0';
    printf("%7" PRIu32 " ", client->pid);
    print_cut(command_of(client->pid, command)[0] ? str_of(command) : ETAG_LIT("?"), 11);
    print_cut(str_of(user ? user : number), 9);
    printf("%s ", roles);
    print_cut((etag_str){version, client->software.len - (size_t)(version - client->software.data)},
              7);
    printf("%4s", age_text(client->age_ms, age));
    print_count(client, count_of(client, "checks"), 6);
    print_count(client, count_of(client, "not_modified"), 5);
    print_count(client, unknown_of(client), 5);
    print_count(client, count_of(client, "fills_sent"), 5);
    print_count(client, lost, 4);
    print_count(client, count_of(client, "invalidations") + count_of(client, "guards_begun"), 5);
    putchar('\n');
}

/* ---- For programs ---- */

static doc *doc_client(const struct client_view *client)
{
    char command[COMMAND_BYTES];
    doc *out = doc_object(), *roles = doc_array(), *counts = doc_object();

    command_of(client->pid, command);
    doc_number(out, "id", client->id);
    doc_number(out, "pid", client->pid);
    doc_text(out, "command", command[0] ? str_of(command) : (etag_str){0});
    doc_number(out, "uid", client->uid);
    doc_text(out, "user", str_of(user_of(client->uid)));
    for (size_t i = 0; i < ROLE_WORD_COUNT; i++)
        if (client->roles & (1u << i))
            doc_append_text(roles, str_of(role_words[i]));
    doc_add(out, "roles", roles);
    doc_text(out, "software", client->software);
    doc_number(out, "connected_ms", client->age_ms);
    doc_number(out, "idle_ms", client->idle_ms);
    doc_bool(out, "watching", client->watching);
    doc_number(out, "pending", client->pending);
    for (size_t i = 0; i < client->count_count; i++) {
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)client->counts[i].name.len,
                 client->counts[i].name.data);
        doc_number(counts, name, client->counts[i].number);
    }
    if (client->counts_itself)
        doc_add(out, "counts", counts);
    else
        doc_free(counts);
    return out;
}

/* ---- The command ---- */

static void client_print(const struct ctl *ctl, const struct client_view *client, bool first)
{
    if (ctl->json) {
        printf("%s", first ? "" : ",\n");
        output_json_line(doc_client(client), "");
    } else {
        print_client(client);
    }
}

static int clients_run(struct ctl *ctl)
{
    CLEANUP(cleanup_daemon) struct ctl_daemon daemon = {0};
    struct request request = {.kind = REQUEST_CLIENTS};
    struct reply reply;
    uint64_t printed = 0;

    if (!ctl_no_options(ctl) || !ctl_daemon_open(&daemon, ctl))
        return ctl->exit_status;
    do {
        if (!ctl_daemon_ask(&daemon, &request, REPLY_CLIENTS, &reply))
            return daemon.ctl->exit_status;
        if (request.clients.after == 0)
            fputs(ctl->json ? "{\"clients\": [\n"
                            : "    PID COMMAND    USER     ROLE VERSION AGE CHECKS   304 UNKN. "
                              "FILLS LOST WRITE\n",
                  stdout);
        ctl_daemon_plain(&daemon);
        for (size_t i = 0; i < reply.clients.client_count; i++)
            client_print(ctl, &reply.clients.clients[i], printed++ == 0);
        request.clients.after = reply.clients.next;
    } while (reply.clients.next != 0);
    if (ctl->json)
        printf("\n], \"count\": %" PRIu64 "}\n", printed);
    return CTL_DONE;
}

const struct ctl_command ctl_clients = {
    "clients",
    "",
    "Lists who is connected, and what each of them counts",
    "ROLE: read, fill, mutate, admin. CHECKS: lookups, and of these 304 and UNKN.\n"
    "(unknown: rendered). FILLS: sent. LOST: not sent, since there was no connection\n"
    "or they must not be stored. WRITE: invalidations and guards. \"-\": may not read,\n"
    "so it counts nothing. --json says more. This needs the role 'admin'.",
    NULL,
    false,
    clients_run};
