/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What operators do by hand where the hosts have etcd in common: the commands of
 * command_postgres.c, as far as they mean something there. No schema, no roles: setup writes one
 * key.
 */
#include "clocktime.h"
#include "command_parts.h"
#include "etcd.h"
#include "etcd_keys.h"
#include "numbers.h"
#include "text.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

#define ANSWER_BYTES_MAX (8u << 20)
#define LEASE_MS_NORMAL 2000
#define SETTING_STEPS_MAX 16

static const char setup_usage[] =
    "Usage: etag-relay [OPTION...] setup [--lease-ms N] [--restored]\n"
    "Writes the settings of all hosts into etcd, below the option prefix; what is there\n"
    "already is left as it is.\n"
    "\n"
    "      --lease-ms N     How long one poll makes a host fresh (default 2000), 100 to\n"
    "                       60000; where relays run already it is changed step by step\n"
    "      --restored       The cluster was restored from a backup, or made again from one\n"
    "                       member: all hosts purge everything once\n";
static const char status_usage[] = "Usage: etag-relay [OPTION...] status\n"
                                   "Shows the hosts, what they acknowledged, and the outbox.\n";
/* A command's connection. */
struct asking {
    struct etcd *etcd;
    const char *prefix;
    struct arena arena;
    struct etcd_reply reply;
    struct why why;
};

static void cleanup_asking(struct asking *asking)
{
    (void)etcd_close(asking->etcd);
    arena_deinit(&asking->arena);
}

static int asking_open(struct asking *asking, const struct options *options)
{
    const struct engine_options from = options_of_engine(options);
    const struct etcd_options given = {
        .endpoints = from.connection,
        .user = from.user,
        .password_file = from.password_file,
        .tls = {from.ca_file, from.cert_file, from.key_file},
    };

    arena_init(&asking->arena, ANSWER_BYTES_MAX);
    asking->prefix = options->prefix;
    return etcd_open(&asking->etcd, &given, &asking->why);
}

/* Its answer is in asking->reply until the next question. */
static int ask(struct asking *asking, struct etcd_txn *txn)
{
    arena_reset(&asking->arena);
    const int r = etcd_ask_and_wait(asking->etcd, txn, &asking->arena, &asking->reply,
                                    COMMAND_ANSWER_MS_MAX, &asking->why);

    return r > 0 ? -EMSGSIZE : r;
}

static void get(const struct asking *asking, struct etcd_txn *txn, const char *name)
{
    const struct etcd_key key = etcd_key_of(asking->prefix, name);

    etcd_txn_get(txn, ETCD_THEN, &(struct etcd_get){.from = etcd_key_str(&key)});
}

static void get_folder(const struct asking *asking, struct etcd_txn *txn, const char *name,
                       bool count_only)
{
    const struct etcd_key first = etcd_key_of(asking->prefix, name);
    const struct etcd_key after = etcd_key_after_folder(first);

    etcd_txn_get(txn, ETCD_THEN,
                 &(struct etcd_get){.from = etcd_key_str(&first),
                                    .to = etcd_key_str(&after),
                                    .count_only = count_only});
}

/* The key of that result; NULL: it is not there. */
static const struct etcd_kv *got(const struct asking *asking, size_t number)
{
    const struct etcd_reply *const reply = &asking->reply;

    return number < reply->result_count && reply->results[number].kv_count > 0
               ? &reply->results[number].kvs[0]
               : NULL;
}

/* ---- Setup ----------------------------------------------------------------------------------- */

struct setting_there {
    struct etcd_setting setting;
    /* 0: none yet */
    uint64_t mod_revision;
};

static int setting_read(struct asking *asking, struct setting_there *out)
{
    struct etcd_txn txn = {0};

    get(asking, &txn, "setting");
    const int r = ask(asking, &txn);
    if (r != 0)
        return r;
    const struct etcd_kv *const kv = got(asking, 0);
    *out = (struct setting_there){.mod_revision = kv ? kv->mod_revision : 0};
    if (kv && !etcd_setting_read(&out->setting, kv->value))
        return why_set(&asking->why,
                       "the key %ssetting is not of etag-relay: take another prefix, or delete it",
                       asking->prefix),
               -EPROTO;
    if (kv && out->setting.version != ETCD_SETTING_VERSION)
        return why_set(&asking->why,
                       "the key %ssetting has version %" PRIu64 ", this etag-relay knows %d: it "
                       "was set up by a later release. Nothing was changed",
                       asking->prefix, out->setting.version, ETCD_SETTING_VERSION),
               -EPROTO;
    return 0;
}

/* Only over what was read; whoever was faster is read again. */
static int setting_write(struct asking *asking, const struct setting_there *over,
                         struct relay_setting next)
{
    const struct etcd_key key = etcd_key_of(asking->prefix, "setting");
    const struct etcd_setting setting = {ETCD_SETTING_VERSION, next.lease_ms, next.wait_ms};
    const struct etcd_value value = etcd_setting_write(&setting);
    struct etcd_txn txn = {0};

    etcd_txn_if(&txn, etcd_key_str(&key), over->mod_revision);
    etcd_txn_put(&txn, etcd_key_str(&key), str_of(value.text));
    const int r = ask(asking, &txn);
    if (r == 0 && asking->reply.succeeded)
        printf("lease_ms %u, wait_ms %u\n", next.lease_ms, next.wait_ms);
    return r;
}

static int setting_make(struct asking *asking, const struct setting_there *there, uint32_t lease_ms)
{
    const uint32_t made_ms = lease_ms > 0 ? lease_ms : LEASE_MS_NORMAL;

    return setting_write(asking, there,
                         (struct relay_setting){made_ms, (uint32_t)setting_wait_ms(made_ms)});
}

struct setting_asking {
    struct asking *asking;
    /* as it was read last */
    struct setting_there there;
};

static int setting_place_read(void *ctx, struct relay_setting *now, struct why *why)
{
    struct setting_asking *const of = ctx;
    const int r = setting_read(of->asking, &of->there);

    (void)why; /* asking has it */
    *now = (struct relay_setting){of->there.setting.lease_ms, of->there.setting.wait_ms};
    return r;
}

static int setting_place_write(void *ctx, struct relay_setting now, struct relay_setting next,
                               struct why *why)
{
    struct setting_asking *const of = ctx;

    (void)now;
    (void)why;
    return setting_write(of->asking, &of->there, next);
}

static int lease_change(struct asking *asking, uint32_t lease_ms)
{
    struct setting_asking of = {.asking = asking};
    const struct setting_place place = {&of, setting_place_read, setting_place_write,
                                        SETTING_STEPS_MAX};

    return command_lease_change(&place, lease_ms, &asking->why);
}

/* Without a witness the next host that joins makes one, and all raise everything. */
static int witness_end(struct asking *asking)
{
    const struct etcd_key key = etcd_key_of(asking->prefix, "witness");
    struct etcd_txn txn = {0};

    etcd_txn_delete(&txn, etcd_key_str(&key), (etag_str){0});
    const int r = ask(asking, &txn);
    if (r == 0)
        printf("all hosts purge everything with their next poll\n");
    return r;
}

static int setup_run(struct asking *asking, uint32_t lease_ms, bool restored)
{
    struct setting_there there = {.mod_revision = 0};
    int r = setting_read(asking, &there);

    if (r == 0 && there.mod_revision == 0)
        r = setting_make(asking, &there, lease_ms);
    else if (r == 0 && lease_ms > 0)
        r = lease_change(asking, lease_ms);
    if (r == 0 && restored)
        r = witness_end(asking);
    return r;
}

static int setup_command(const struct options *options, int argc, char **argv)
{
    static const struct option flags[] = {{"lease-ms", required_argument, NULL, 'l'},
                                          {"restored", no_argument, NULL, 'r'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    CLEANUP(cleanup_asking) struct asking asking = {0};
    uint32_t lease_ms = 0;
    bool restored = false;
    int flag;

    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        if (flag == 'h')
            return fputs(setup_usage, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        if (flag == 'r')
            restored = true;
        else if (flag != 'l')
            return command_usage_wrong(setup_usage, "setup: no such option with the engine etcd");
        else if (!command_lease_read(optarg, &lease_ms))
            return command_usage_wrong(setup_usage, "setup: --lease-ms is a number, 100 to 60000");
    }
    if (optind != argc)
        return command_usage_wrong(setup_usage, "setup takes no arguments");
    if (asking_open(&asking, options) != 0 || setup_run(&asking, lease_ms, restored) != 0)
        return command_failed(&asking.why);
    printf("etcd at %s is set up below %s, version %d\n", etcd_endpoint(asking.etcd), asking.prefix,
           ETCD_SETTING_VERSION);
    return EXIT_SUCCESS;
}

/* ---- Status ---------------------------------------------------------------------------------- */

static void summary_print(const struct asking *asking)
{
    const struct etcd_reply *const reply = &asking->reply;
    const struct etcd_kv *const setting_kv = got(asking, 0), *const witness_kv = got(asking, 1);
    struct etcd_setting setting;
    struct etcd_witness witness;

    printf("cluster %" PRIu64 ", revision %" PRIu64 ", term %" PRIu64, reply->cluster_id,
           reply->revision, reply->raft_term);
    if (setting_kv && etcd_setting_read(&setting, setting_kv->value))
        printf("; lease %u ms, wait %u ms\n", setting.lease_ms, setting.wait_ms);
    else
        printf("; not set up: etag-relay setup\n");
    if (!witness_kv || !etcd_witness_read(&witness, witness_kv->value))
        printf("no witness: no relay has joined since setup\n");
    else if (witness.cluster != reply->cluster_id || witness.term > reply->raft_term)
        printf("the witness is of another cluster, or of before a restore: no relay has joined "
               "since\n");
    else
        printf("witness since term %" PRIu64 "\n", witness.term);
    printf("outbox: %" PRIu64 " rows\n", reply->results[2].count);
}

/* The acknowledgement of that host; absent: none. */
static etag_str ack_of(const struct asking *asking, etag_str host)
{
    const struct etcd_key folder = etcd_key_of(asking->prefix, "ack/");
    const struct etcd_result *const acks = &asking->reply.results[4];

    for (size_t i = 0; i < acks->kv_count; i++)
        if (str_equal(etcd_key_name(acks->kvs[i].key, etcd_key_str(&folder)), host))
            return acks->kvs[i].value;
    return (etag_str){0};
}

/* A name may be anything, and goes to a terminal. */
static void name_print(etag_str name)
{
    for (size_t i = 0; i < name.len; i++)
        (void)putchar(name.data[i] < ' ' || name.data[i] > '~' ? '?' : name.data[i]);
}

static void host_print(const struct asking *asking, const struct etcd_kv *kv)
{
    const struct etcd_key folder = etcd_key_of(asking->prefix, "host/");
    const etag_str name = etcd_key_name(kv->key, etcd_key_str(&folder));
    const etag_str value = ack_of(asking, name);
    struct etcd_host host;
    struct etcd_ack ack;

    name_print(name);
    if (!etcd_host_read(&host, kv->value)) {
        printf("  unreadable\n");
        return;
    }
    printf("  %s", host.membership == ENGINE_LEAVING ? "leaving" : "member");
    if (!value.data || !etcd_ack_read(&ack, value))
        printf(", never acknowledged\n");
    else if (memcmp(&ack.nonce, &host.nonce, sizeof(ack.nonce)) != 0)
        printf(", acknowledged under a former registration only\n");
    else
        printf(", acknowledged up to revision %" PRIu64 ", %" PRIu64 " before now\n", ack.revision,
               asking->reply.revision - min_of(ack.revision, asking->reply.revision));
}

static int status_command(const struct options *options, int argc, char **argv)
{
    CLEANUP(cleanup_asking) struct asking asking = {0};
    struct etcd_txn txn = {0};
    int status;

    if (!command_is_plain(argc, argv, status_usage, &status))
        return status;
    if (asking_open(&asking, options) != 0)
        return command_failed(&asking.why);
    get(&asking, &txn, "setting");
    get(&asking, &txn, "witness");
    get_folder(&asking, &txn, "outbox/", true);
    get_folder(&asking, &txn, "host/", false);
    get_folder(&asking, &txn, "ack/", false);
    if (ask(&asking, &txn) != 0)
        return command_failed(&asking.why);
    if (asking.reply.result_count != 5) {
        why_set(&asking.why, "etcd answered %zu operations of 5", asking.reply.result_count);
        return command_failed(&asking.why);
    }
    summary_print(&asking);
    const struct etcd_result *const hosts = &asking.reply.results[3];
    for (size_t i = 0; i < hosts->kv_count; i++)
        host_print(&asking, &hosts->kvs[i]);
    if (hosts->kv_count == 0)
        printf("no host has joined\n");
    return EXIT_SUCCESS;
}

/* ---- Leave: what the relay does with a former registration, by the same engine --------------- */

struct by_hand {
    struct engine *engine;
    struct arena arena;
    struct why why;
};

static void cleanup_by_hand(struct by_hand *hand)
{
    if (hand->engine)
        hand->engine = hand->engine->kind->close(hand->engine);
    arena_deinit(&hand->arena);
}

static int hand_wait(struct by_hand *hand)
{
    const struct engine_kind *const kind = hand->engine->kind;
    struct pollfd polled = {kind->fd(hand->engine), kind->events(hand->engine), 0};
    const int timeout_ms = kind->timeout_ms(hand->engine);

    (void)poll(&polled, 1, timeout_ms < 0 || timeout_ms > 100 ? 100 : timeout_ms);
    return kind->dispatch(hand->engine, &hand->why);
}

static int hand_ask(struct by_hand *hand, const struct engine_request *request,
                    struct engine_answer *answer)
{
    const struct engine_kind *const kind = hand->engine->kind;
    const uint64_t end_ns = time_ns_of(CLOCK_MONOTONIC) + COMMAND_ANSWER_MS_MAX * NS_PER_MS;
    int r = 0;

    while (r == 0 && !kind->ready(hand->engine) && time_ns_of(CLOCK_MONOTONIC) < end_ns)
        r = hand_wait(hand);
    if (r == 0)
        r = kind->ready(hand->engine) ? kind->start(hand->engine, request, &hand->why)
                                      : why_set(&hand->why, "no answer from etcd");
    while (r == 0) {
        r = kind->finish(hand->engine, &hand->arena, answer, &hand->why);
        if (r != ENGINE_E_AGAIN)
            return r;
        r = time_ns_of(CLOCK_MONOTONIC) < end_ns ? hand_wait(hand)
                                                 : why_set(&hand->why, "no answer from etcd");
    }
    return r;
}

static int leave_run(struct by_hand *hand, etag_str host)
{
    struct engine_request request = {.op = ENGINE_LEAVE, .leave.host = host};
    struct engine_answer answer;
    int r = hand_ask(hand, &request, &answer);
    const uint64_t committed_ns = time_coarse_ns();

    if (r != 0)
        return r;
    if (!answer.leave.found)
        return why_set(&hand->why, "no host %.*s has joined: see etag-relay status", (int)host.len,
                       host.data);
    command_say_leaving(host, answer.leave.wait_ms);
    command_wait_for_lease(committed_ns, answer.leave.wait_ms);
    request.op = ENGINE_GONE;
    request.leave.nonce = answer.leave.nonce;
    r = hand_ask(hand, &request, &answer);
    if (r != 0 || answer.leave.found)
        return r;
    return why_set(&hand->why,
                   "the host has joined again meanwhile, or is out already: stop its etag-relay, "
                   "see etag-relay status");
}

static int leave_command(const struct options *options, int argc, char **argv)
{
    const struct engine_options given = options_of_engine(options);
    CLEANUP(cleanup_by_hand) struct by_hand hand = {0};
    etag_str host;
    int status;

    if (!command_host_read(argc, argv, &host, &status))
        return status;
    arena_init(&hand.arena, ANSWER_BYTES_MAX);
    if (engine_etcd.open(&hand.engine, &given, &hand.why) != 0 || leave_run(&hand, host) != 0)
        return command_failed(&hand.why);
    return command_say_out(host);
}

const struct command commands_etcd[] = {
    {"setup", setup_command}, {"status", status_command}, {"leave", leave_command}, {0}};
