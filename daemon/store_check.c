/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child reads first: a database that was truncated kills whoever reads it (SIGBUS), one that was changed may do anything
 * to it. So before the daemon opens it, a child process reads it as a whole; what becomes of the child is the verdict.
 *
 * The child has nothing of the daemon but its memory: no descriptor, so that it holds no lock of a daemon that is killed
 * meanwhile, and it dies with it. It has a limit of processor time, not of time: a database that leads its reader in
 * circles is damaged, one on a slow disk is not.
 */
#include "store_check.h"

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
#define META_TXN_OFFSET 144 /* LMDB's layout: the number of the transaction in a meta page */

/* ---- What the child does ---- */

/* Each record once, in order, as many as the table says; a damaged entry is dropped later, other damage is final. */
static int verify_table(struct store *store, MDB_txn *txn, enum table table,
                        const struct store_pages *pages)
{
    MDB_cursor *cursor CLEANUP(stored_cursor_cleanup) = NULL;
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
        if (table != TABLE_NAMES && stored_check(store, table, key, value, &record) &&
            table != TABLE_ENTRIES)
            return STORE_E_DAMAGED;
        former = key;
    }
    if (code != MDB_NOTFOUND)
        return stored_error(code);
    return count == stat.ms_entries ? 0 : STORE_E_DAMAGED;
}

/* LMDB writes its two meta pages in turn, each with the number of its transaction. Where they are not neighbours one of them
 * was changed, and which one is the newer is not known: the other may lack the last transaction. */
static int verify_meta_pages(const struct store_pages *pages)
{
    assert(pages->bytes);
    const uint64_t first = load_u64(pages->bytes + META_TXN_OFFSET);
    const uint64_t second = load_u64(pages->bytes + pages->page_bytes + META_TXN_OFFSET);
    const bool neighbours = first + 1 == second || second + 1 == first;
    return neighbours && first % 2 == 0 ? 0 : STORE_E_DAMAGED;
}

/* Each page is a table's or free: else some table is not the newest of its name, or a page will be given to two. */
static int verify_page_counts(struct store *store, MDB_txn *txn, const struct store_pages *pages)
{
    size_t branches = 0;
    size_t leaves = 0;
    size_t overflows = 0;
    for (int i = -2; i < TABLE_COUNT; i++) {
        MDB_stat stat;
        const int code = i == -2   ? mdb_env_stat(store->env, &stat)
                         : i == -1 ? mdb_stat(txn, FREE_LIST, &stat)
                                   : mdb_stat(txn, store->tables[i], &stat);
        if (code)
            return stored_error(code);
        branches += stat.ms_branch_pages;
        leaves += stat.ms_leaf_pages;
        overflows += stat.ms_overflow_pages;
    }
    return branches == pages->branches && leaves == pages->leaves && overflows == pages->overflows
               ? 0
               : STORE_E_DAMAGED;
}

/* The pages are left mapped: the child ends soon. free_pages: the caller's to free. */
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
    pages->free_pages = (uint8_t *)calloc(pages->page_count / 8 + 1, 1);
    if (map == MAP_FAILED || !pages->free_pages)
        return -ENOMEM;
    return stored_free_pages(txn, info.me_last_pgno, pages, &count);
}

static int verify_tables(struct store *store, MDB_txn *txn, const struct store_pages *pages)
{
    struct store_meta meta;
    int code = 0;
    for (int table = 0; !code && table < TABLE_COUNT; table++)
        code = mdb_dbi_open(txn, stored_table_names[table], 0, &store->tables[table]);
    int error = code ? stored_error(code) : stored_meta_get(store, txn, &meta);
    /* New, or of another version: whoever opens it says so. */
    if (error == STORE_E_NOT_FOUND || error == STORE_E_FORMAT || error == STORE_E_OLDER)
        return 0;
    memcpy(store->hash_key, meta.hash_key, SIPHASH_KEY_BYTES);
    store->has_key = error == 0;
    if (!error)
        error = verify_page_counts(store, txn, pages);
    for (int table = 0; !error && table < TABLE_COUNT; table++)
        error = verify_table(store, txn, (enum table)table, pages);
    return error;
}

static int verify_environment(struct store *store, const char *path)
{
    MDB_txn *txn CLEANUP(stored_txn_cleanup) = NULL;
    struct store_pages pages = {0};
    int code = stored_env_open(store, path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK);
    if (!code)
        code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);
    int error = code ? stored_error(code) : pages_map(&pages, store->env, txn);
    if (!error)
        error = verify_meta_pages(&pages);
    if (!error)
        error = store_pages_verify(&pages);
    if (!error)
        error = verify_tables(store, txn, &pages);
    free(pages.free_pages);
    return error;
}

/* In the child. What it says by its exit status is damage or not; the daemon itself tells why a sound file cannot be
 * opened. */
static int verify_database(const struct store *given)
{
    struct store store = {.map_bytes = given->map_bytes};
    struct stat status;
    char path[PATH_BYTES_MAX];
    state_dir_path(&given->dir, DATA_NAME, path);
    if (stat(path, &status) < 0 || status.st_size == 0)
        return 0;
    const int error = verify_environment(&store, path);
    if (store.env)
        mdb_env_close(store.env);
    /* LMDB has no code for most of what it stumbles over. */
    if (error != -ENOMEM)
        return error == STORE_E_DAMAGED || error == -EIO || error == -EINVAL ? STORE_E_DAMAGED : 0;
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
    for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++)
        (void)signal(deaths[i], SIG_DFL);
}

static void run_child(pid_t parent, int (*check)(const void *ctx), const void *ctx)
{
    const struct rlimit no_core = {0};
    const struct rlimit processor = {PROCESSOR_S_MAX, PROCESSOR_S_MAX};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0); /* nobody asks any more */
    /* LMDB's last words are no log lines, and locks are not the child's. */
    (void)close_range(STDERR_FILENO, STARTING_FDS_MAX, 0);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)setrlimit(RLIMIT_CPU, &processor);
    die_as_default();
    _exit(check(ctx));
}

int store_check_run(int (*check)(const void *ctx), const void *ctx, char *found, size_t found_bytes)
{
    int status;
    pid_t ended;
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0)
        run_child(parent, check, ctx);
    do
        ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    if (ended < 0)
        return -errno;
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    (void)snprintf(found, found_bytes, "reading it ends with signal %d, %s", WTERMSIG(status),
                   sigdescr_np(WTERMSIG(status)));
    return STORE_E_DAMAGED;
}

int store_check_read(const struct store *store)
{
    return verify_database(store);
}

static int check_as_child(const void *ctx)
{
    return verify_database((const struct store *)ctx);
}

int store_check(const struct store *store, char *found, size_t found_bytes)
{
    (void)snprintf(found, found_bytes, "LMDB or a checksum says so");
    const int error = store_check_run(check_as_child, store, found, found_bytes);
    return error > 0 ? STORE_E_DAMAGED : error;
}
