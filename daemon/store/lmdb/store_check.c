/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child process reads the whole database before the daemon opens it: reading a truncated database
 * raises SIGBUS, and reading a changed one may do anything. How the child ends is the verdict.
 *
 * The child inherits no descriptor, so that it holds no lock if the daemon is killed during the
 * check, and it dies with the daemon. It has a limit of processor time, not of elapsed time: a
 * database that makes its reader loop is damaged, one on a slow disk is not.
 */
#include "store_check.h"

#include "numbers.h"
#include "store_record.h"

#include <assert.h>
#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define STARTING_FDS_MAX                                                                           \
    255 /* a daemon that starts has fewer; what watches it (valgrind) has its own above */
#define PROCESSOR_S_MAX 600
/* LMDB's layout of a meta page: the records of the free list and the table of tables, the number of
 * the transaction. */
#define META_TREES_OFFSET 40
#define META_TXN_OFFSET 144

/* ---- What the child does ---- */

/* Each record once, in order, as many as the table says. */
static int verify_table(struct store *store, MDB_txn *txn, enum table table,
                        const struct store_pages *pages)
{
    CLEANUP(stored_cursor_cleanup) MDB_cursor *cursor = NULL;
    const MDB_dbi dbi = store->tables[table];
    MDB_stat stat;
    MDB_val key;
    MDB_val value;
    MDB_val former = {0};
    etag_str record;
    size_t count = 0;
    int code = mdb_stat(txn, dbi, &stat);

    if (!code)
        code = mdb_cursor_open(txn, dbi, &cursor);
    while (!code && !(code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))) {
        if (count++ >= stat.ms_entries || key.mv_size > KEY_MAX ||
            (former.mv_size > 0 && mdb_cmp(txn, dbi, &former, &key) >= 0))
            return STORE_E_DAMAGED;
        if (store_pages_is_free(pages, store_pages_of(pages, key.mv_data)))
            return STORE_E_DAMAGED;
        if (stored_check(store, table, key, value, &record))
            return STORE_E_DAMAGED;
        former = key;
    }
    if (code != MDB_NOTFOUND)
        return stored_error(code);
    return count == stat.ms_entries ? 0 : STORE_E_DAMAGED;
}

/* LMDB writes its two meta pages in turn, each with the number of its transaction. Where they are
 * not neighbours one of them was changed, and which one is the newer is not known: the other may
 * lack the last transaction. */
static int verify_meta_pages(const struct store_pages *pages)
{
    assert(pages->bytes);
    const uint64_t first = load_u64(pages->bytes + META_TXN_OFFSET);
    const uint64_t second = load_u64(pages->bytes + pages->page_bytes + META_TXN_OFFSET);
    const bool neighbours = first + 1 == second || second + 1 == first;
    return neighbours && first % 2 == 0 ? 0 : STORE_E_DAMAGED;
}

/* The newer meta page's records of the free list and of the table of tables. */
static const uint8_t *root_records(const struct store_pages *pages)
{
    const uint8_t *second = pages->bytes + pages->page_bytes;
    const bool second_is_newer = load_u64(second + META_TXN_OFFSET) >
                                 load_u64(pages->bytes + META_TXN_OFFSET);

    return (second_is_newer ? second : pages->bytes) + META_TREES_OFFSET;
}

static int verify_tree(struct store_pages *pages, const void *record, struct store_tree *sum)
{
    const struct store_tree tree = store_tree_of(record);

    sum->branches += tree.branches;
    sum->leaves += tree.leaves;
    sum->overflows += tree.overflows;
    return store_pages_tree(pages, &tree);
}

/* Each page is one table's or free: else some table is not the newest of its name, or a page will
 * be given to two. */
static int verify_trees(MDB_txn *txn, struct store_pages *pages)
{
    CLEANUP(stored_cursor_cleanup) MDB_cursor *cursor = NULL;
    const uint8_t *records = root_records(pages);
    struct store_tree sum = {0};
    size_t tables = 0;
    MDB_dbi main_table;
    MDB_val name;
    MDB_val record;
    int r = verify_tree(pages, records, &sum);

    if (!r)
        r = verify_tree(pages, records + STORE_TREE_BYTES, &sum);
    if (r)
        return r;
    int code = mdb_dbi_open(txn, NULL, 0, &main_table);
    if (!code)
        code = mdb_cursor_open(txn, main_table, &cursor);
    while (!code && !(code = mdb_cursor_get(cursor, &name, &record, MDB_NEXT))) {
        tables++;
        r = record.mv_size == STORE_TREE_BYTES ? verify_tree(pages, record.mv_data, &sum)
                                               : STORE_E_DAMAGED;
        if (r)
            return r;
    }
    if (code != MDB_NOTFOUND)
        return stored_error(code);
    return tables == pages->tables && sum.branches == pages->branches &&
                   sum.leaves == pages->leaves && sum.overflows == pages->overflows
               ? 0
               : STORE_E_DAMAGED;
}

/* The pages are left mapped: the child ends soon. */
static int pages_map(struct store_pages *pages, MDB_env *env, MDB_txn *txn)
{
    MDB_envinfo info;
    MDB_stat stat;
    int fd;
    size_t count;
    int code = mdb_env_info(env, &info);

    if (!code)
        code = mdb_env_stat(env, &stat);
    if (!code)
        code = mdb_env_get_fd(env, &fd);
    if (code)
        return stored_error(code);
    *pages = (struct store_pages){.page_bytes = stat.ms_psize, .page_count = info.me_last_pgno + 1};
    void *map = mmap(NULL, pages->page_count * pages->page_bytes, PROT_READ, MAP_SHARED, fd, 0);
    pages->bytes = (const uint8_t *)map;
    const int r = map == MAP_FAILED ? -ENOMEM : store_pages_init(pages);
    if (r)
        return r;
    return stored_free_pages(txn, info.me_last_pgno, pages, &count);
}

/* What decides whether an entry is current: it is complete, or nothing of the state is used.
 * Entries and names prove themselves one by one when they are read: an entry by its checksum, a
 * name by its entry. */
static const enum table whole_tables[] = {TABLE_META, TABLE_EVENTS, TABLE_CLOCKS, TABLE_GUARDS};

static int verify_tables(struct store *store, MDB_txn *txn, struct store_pages *pages)
{
    struct store_meta meta;
    int code = 0;

    for (int table = 0; !code && table < TABLE_COUNT; table++)
        code = mdb_dbi_open(txn, stored_table_names[table], 0, &store->tables[table]);
    int r = code ? stored_error(code) : stored_meta_get(store, txn, &meta);
    /* New, or of another version: whoever opens it says so. */
    if (r == STORE_E_NOT_FOUND || r == STORE_E_FORMAT)
        return 0;
    memcpy(store->hash_key, meta.hash_key, SIPHASH_KEY_BYTES);
    store->has_key = r == 0;
    if (!r)
        r = verify_trees(txn, pages);
    for (size_t i = 0; !r && i < COUNT_OF(whole_tables); i++)
        r = verify_table(store, txn, whole_tables[i], pages);
    return r;
}

static int verify_environment(struct store *store, const char *path)
{
    CLEANUP(stored_txn_cleanup) MDB_txn *txn = NULL;
    struct store_pages pages = {0};
    int code = stored_env_open(store, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK);

    if (!code)
        code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    int r = code ? stored_error(code) : pages_map(&pages, store->env, txn);
    if (!r)
        r = verify_meta_pages(&pages);
    if (!r)
        r = store_pages_verify(&pages);
    if (!r)
        r = verify_tables(store, txn, &pages);
    store_pages_deinit(&pages);
    return r;
}

/* In the child. What it says by its exit status is damage or not; the daemon itself tells why a
 * sound file cannot be opened. */
static int verify_database(const struct store *given)
{
    struct store store = {.map_bytes = given->map_bytes};
    struct stat status;
    char path[PATH_BYTES_MAX];

    state_dir_path(&given->dir, DATA_NAME, path);
    if (stat(path, &status) < 0 || status.st_size == 0)
        return 0;
    const int r = verify_environment(&store, path);
    if (store.env)
        mdb_env_close(store.env);
    /* LMDB has no code for most of what it stumbles over. */
    if (r != -ENOMEM)
        return r == STORE_E_DAMAGED || r == -EIO || r == -EINVAL ? STORE_E_DAMAGED : 0;
    /* A file may say that it is larger than any memory. */
    return mmap(NULL, store.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0) == MAP_FAILED
               ? 0
               : STORE_E_DAMAGED;
}

/* ---- Parent and child ---- */

static void die_as_default(void)
{
    static const int deaths[] = {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGXCPU};

    for (size_t i = 0; i < COUNT_OF(deaths); i++)
        (void)signal(deaths[i], SIG_DFL);
}

static void run_child(pid_t parent, const struct store *store)
{
    const struct rlimit no_core = {0};
    const struct rlimit processor = {PROCESSOR_S_MAX, PROCESSOR_S_MAX};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0); /* no parent is left to ask */
    /* LMDB's last words are no log lines, and locks are not the child's. */
    (void)close_range(STDERR_FILENO, STARTING_FDS_MAX, 0);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)setrlimit(RLIMIT_CPU, &processor);
    die_as_default();
    _exit(verify_database(store));
}

int store_check(const struct store *store, char *found, size_t found_bytes)
{
    int status;
    pid_t ended;

    (void)snprintf(found, found_bytes, "LMDB or a checksum says so");
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0)
        run_child(parent, store);
    do
        ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    if (ended < 0)
        return -errno;
    if (WIFEXITED(status))
        return WEXITSTATUS(status) ? STORE_E_DAMAGED : 0;
    (void)snprintf(found, found_bytes, "reading it ends with signal %d, %s", WTERMSIG(status),
                   sigdescr_np(WTERMSIG(status)));
    return STORE_E_DAMAGED;
}
