/* SPDX-License-Identifier: Apache-2.0 */
#include "bounds.h"
#include "bytes.h"
#include "numbers.h"
#include "store.h"
#include "store_fixture.h"
#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MAP_BYTES (UINT64_C(64) << 20)

struct fixture {
    struct store_fixture at;
};

static int open_with(struct fixture *f, struct store **out, bool sync, uint64_t map_bytes)
{
    const struct store_options options = {
        .state_dir = f->at.dir, .map_bytes = map_bytes, .sync = sync};
    return store_open(out, &options, &f->at.why);
}

static int open_store(struct fixture *f)
{
    return open_with(f, &f->at.store, false, MAP_BYTES);
}

static struct store_meta some_meta(void)
{
    struct store_meta meta = {.incarnation = 7,
                              .clock_count = 4096,
                              .lease_ns = 1234567,
                              .boot_id = "0a1b2c3d-0000-1111-2222-333344445555",
                              .checkpoint_lsn = 99};
    memset(meta.hash_key, 0x5a, sizeof(meta.hash_key));
    return meta;
}

static int set_up_missing(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    store_fixture_place(&f->at);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    struct fixture *f;
    const struct store_meta meta = some_meta();
    set_up_missing(state);
    f = *state;
    assert_int_equal(open_store(f), 0);
    assert_int_equal(store_meta_write(f->at.store, &meta), 0);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    store_fixture_remove(&f->at);
    free(f);
    return 0;
}

static void reopen(struct fixture *f)
{
    f->at.store = store_close(f->at.store);
    assert_int_equal(open_store(f), 0);
}

static struct hash128 fingerprint_of(uint64_t number)
{
    return (struct hash128){random_mix(number), random_mix(number + 1000000)};
}

static struct store_txn *begin(struct fixture *f)
{
    struct store_txn *txn = NULL;
    assert_int_equal(store_begin(f->at.store, &txn), 0);
    return txn;
}

static void put_entry(struct fixture *f, uint64_t number, const char *name, const char *record)
{
    struct store_txn *txn = begin(f);
    assert_int_equal(store_put_entry(txn, fingerprint_of(number), str_of(name), str_of(record)), 0);
    assert_int_equal(store_commit(txn), 0);
}

/* What a walk or a look brought, as text: "record record ". */
struct seen {
    char text[1 << 16];
    size_t len;
    char cursor[600];
    size_t cursor_len;
    size_t stop_after; /* 0: never */
    size_t count;
};

static int seen_add(struct seen *seen, etag_str record)
{
    assert_true(record.len + 2 < sizeof(seen->text) - seen->len);
    if (record.len > 0)
        memcpy(seen->text + seen->len, record.data, record.len);
    seen->len += record.len;
    seen->text[seen->len++] = ' ';
    seen->text[seen->len] = '\0';
    return ++seen->count == seen->stop_after ? 4242 : 0;
}

static int see_entry(void *ctx, struct hash128 fingerprint, etag_str record)
{
    return seen_add(ctx, record);
}

static int see_event(void *ctx, uint64_t lsn, etag_str record)
{
    return seen_add(ctx, record);
}

static int see_listed(void *ctx, etag_str cursor, struct hash128 fingerprint, etag_str record)
{
    struct seen *seen = ctx;
    memcpy(seen->cursor, cursor.data, cursor.len);
    seen->cursor_len = cursor.len;
    return seen_add(seen, record);
}

static void assert_entry(struct fixture *f, uint64_t number, const char *record)
{
    static struct seen seen;
    char expected[256];
    seen = (struct seen){0};
    assert_int_equal(store_get_entry(f->at.store, fingerprint_of(number), see_entry, &seen), 0);
    (void)snprintf(expected, sizeof(expected), "%s ", record);
    assert_string_equal(seen.text, expected);
}

static void assert_list(struct fixture *f, const char *prefix, const char *expected)
{
    static struct seen seen;
    seen = (struct seen){0};
    assert_int_equal(store_list(f->at.store, str_of(prefix), (etag_str){0}, see_listed, &seen), 0);
    assert_string_equal(seen.text, expected);
}

/* ---- The directory ---- */

static void the_directory_is_made_for_us_alone(void **state)
{
    struct fixture *f = *state;
    struct stat status;
    assert_int_equal(open_store(f), 0);
    assert_int_equal(stat(f->at.dir, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    assert_int_equal(store_still_owned(f->at.store), 0);
}

static void a_missing_parent_is_told(void **state)
{
    struct fixture *f = *state;
    char path[3 * SCRATCH_BYTES];
    (void)snprintf(path, sizeof(path), "%s/no/state", f->at.scratch);
    const struct store_options options = {.state_dir = path, .map_bytes = MAP_BYTES};
    assert_int_equal(store_open(&f->at.store, &options, &f->at.why), -ENOENT);
    assert_null(f->at.store);
    assert_non_null(strstr(f->at.why.text, path));
    assert_non_null(strstr(f->at.why.text, "No such file"));
}

static void a_path_that_is_too_long_is_told(void **state)
{
    struct fixture *f = *state;
    static char path[PATH_BYTES_MAX + 10];
    memset(path, '/', sizeof(path) - 1);
    const struct store_options options = {.state_dir = path, .map_bytes = MAP_BYTES};
    assert_int_equal(store_open(&f->at.store, &options, &f->at.why), -ENAMETOOLONG);
}

static void a_directory_that_others_can_write_is_refused(void **state)
{
    struct fixture *f = *state;
    static const mode_t modes[] = {0720, 0702, 0777};
    assert_int_equal(mkdir(f->at.dir, 0700), 0);
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        assert_int_equal(chmod(f->at.dir, modes[i]), 0);
        assert_int_equal(open_store(f), STORE_E_OWNER);
        assert_null(f->at.store);
        assert_non_null(strstr(f->at.why.text, "chmod go-w"));
    }
    assert_int_equal(chmod(f->at.dir, 0755), 0);
    assert_int_equal(open_store(f), 0);
}

static void anothers_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    if (geteuid() != 0)
        skip(); /* only root can give a directory away */
    assert_int_equal(mkdir(f->at.dir, 0700), 0);
    assert_int_equal(chown(f->at.dir, 12345, (gid_t)-1), 0);
    assert_int_equal(open_store(f), STORE_E_OWNER);
    assert_non_null(strstr(f->at.why.text, "belongs to uid 12345"));
    assert_non_null(strstr(f->at.why.text, f->at.dir));
}

static void a_second_store_on_one_directory_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store *second;
    assert_int_equal(open_with(f, &second, false, MAP_BYTES), STORE_E_IN_USE);
    assert_null(second);
    assert_non_null(strstr(f->at.why.text, f->at.dir));
    assert_non_null(strstr(f->at.why.text, "in use by another daemon"));

    const pid_t child = fork();
    if (child ==
        0) { /* keeps nothing of ours, as after exec: both descriptors of the lock are closed */
        for (int fd = 3; fd < 64; fd++)
            close(fd);
        _exit(open_with(f, &second, false, MAP_BYTES) == STORE_E_IN_USE ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    reopen(f);
}

static void a_lost_place_is_noticed(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"lock", "data.mdb"};
    char path[2 * SCRATCH_BYTES + 32];
    char aside[2 * SCRATCH_BYTES + 32];
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", f->at.dir, names[i]);
        (void)snprintf(aside, sizeof(aside), "%s/aside", f->at.dir);
        assert_int_equal(store_still_owned(f->at.store), 0);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(store_still_owned(f->at.store), -ESTALE);
        const int other = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(other >= 0);
        close(other);
        assert_int_equal(store_still_owned(f->at.store), -ESTALE);
        assert_int_equal(rename(aside, path), 0);
    }
    (void)snprintf(aside, sizeof(aside), "%s/aside", f->at.scratch);
    assert_int_equal(rename(f->at.dir, aside), 0);
    assert_int_equal(mkdir(f->at.dir, 0700), 0);
    assert_int_equal(store_still_owned(f->at.store), -ESTALE);
}

static void the_warm_mark_comes_goes_and_stays(void **state)
{
    struct fixture *f = *state;
    for (int sync = 0; sync < 2; sync++) {
        f->at.store = store_close(f->at.store);
        assert_int_equal(open_with(f, &f->at.store, sync, MAP_BYTES), 0);
        assert_false(store_warm_mark(f->at.store));
        assert_int_equal(store_warm_mark_clear(f->at.store), 0);
        assert_int_equal(store_warm_mark_set(f->at.store), 0);
        assert_int_equal(store_warm_mark_set(f->at.store), 0);
        assert_true(store_warm_mark(f->at.store));
        reopen(f);
        assert_true(store_warm_mark(f->at.store));
        assert_int_equal(store_warm_mark_clear(f->at.store), 0);
        assert_false(store_warm_mark(f->at.store));
    }
}

/* ---- Meta ---- */

static void meta_is_absent_at_first_and_then_kept(void **state)
{
    struct fixture *f = *state;
    struct store_meta meta = some_meta();
    struct store_meta read;
    assert_int_equal(open_store(f), 0);
    assert_int_equal(store_meta_read(f->at.store, &read), STORE_E_NOT_FOUND);
    assert_int_equal(store_meta_write(f->at.store, &meta), 0);
    reopen(f);
    memset(&read, 0xff, sizeof(read));
    assert_int_equal(store_meta_read(f->at.store, &read), 0);
    assert_int_equal(read.incarnation, 7);
    assert_memory_equal(read.hash_key, meta.hash_key, SIPHASH_KEY_BYTES);
    assert_int_equal(read.clock_count, 4096);
    assert_int_equal(read.lease_ns, 1234567);
    assert_string_equal(read.boot_id, meta.boot_id);
    assert_int_equal(read.checkpoint_lsn, 99);
}

/* Flips bits of the byte at 'at' of every place in the closed database where some bytes stand. */
static void patch_data(struct fixture *f, const void *find, size_t len, size_t at, uint8_t mask)
{
    char path[2 * SCRATCH_BYTES + 32];
    (void)snprintf(path, sizeof(path), "%s/data.mdb", f->at.dir);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    static uint8_t bytes[4 << 20];
    const size_t size = fread(bytes, 1, sizeof(bytes), file);
    size_t hits = 0;
    const uint8_t *hit = bytes;
    while ((hit = memmem(hit, size - (size_t)(hit - bytes), find, len)) != NULL) {
        const size_t offset = (size_t)(hit - bytes) + at;
        const uint8_t changed = bytes[offset] ^ mask;
        assert_int_equal(fseek(file, (long)offset, SEEK_SET), 0);
        assert_int_equal(fwrite(&changed, 1, 1, file), 1);
        hit += len;
        hits++;
    }
    fclose(file);
    assert_true(hits > 0);
}

static void damaged_meta_is_told_and_can_be_set_aside(void **state)
{
    struct fixture *f = *state;
    const struct store_meta meta = some_meta();
    assert_int_equal(store_warm_mark_set(f->at.store), 0);
    put_entry(f, 1, "/a", "A");
    f->at.store = store_close(f->at.store);
    patch_data(f, meta.boot_id, 36, 3, 1);

    assert_int_equal(open_store(f), STORE_E_DAMAGED);
    assert_non_null(f->at.store);
    assert_non_null(strstr(f->at.why.text, "damaged"));
    struct store *second;
    assert_int_equal(open_with(f, &second, false, MAP_BYTES), STORE_E_IN_USE);

    struct store_meta read;
    assert_int_equal(store_set_aside(f->at.store, &f->at.why), 0);
    assert_false(store_warm_mark(f->at.store));
    assert_int_equal(store_meta_read(f->at.store, &read), STORE_E_NOT_FOUND);
    assert_int_equal(store_still_owned(f->at.store), 0);
    assert_int_equal(store_meta_write(f->at.store, &meta), 0);
    assert_int_equal(store_entry_count(f->at.store), 0);
    reopen(f);

    size_t damaged_files = 0;
    DIR *dir = opendir(f->at.dir);
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
        damaged_files += strncmp(e->d_name, "damaged-", 8) == 0;
    closedir(dir);
    assert_int_equal(damaged_files, 1);
}

static void patch_format(struct fixture *f, uint32_t format)
{
    const struct store_meta meta = some_meta();
    uint8_t format_and_incarnation[12];
    store_u32(format_and_incarnation, STORE_FORMAT);
    store_u64(format_and_incarnation + 4, meta.incarnation);
    f->at.store = store_close(f->at.store);
    patch_data(f, format_and_incarnation, sizeof(format_and_incarnation), 0,
               (uint8_t)(STORE_FORMAT ^ format));
}

static void expect_format_refused(struct fixture *f, uint32_t format)
{
    struct store_meta read;
    patch_format(f, format);
    assert_int_equal(open_store(f), STORE_E_FORMAT);
    assert_non_null(f->at.store);
    assert_non_null(strstr(f->at.why.text, "another version of etagd"));
    assert_non_null(strstr(f->at.why.text, f->at.dir));
    assert_int_equal(store_set_aside(f->at.store, &f->at.why), 0);
    assert_int_equal(store_meta_read(f->at.store, &read), STORE_E_NOT_FOUND);
}

static void a_newer_format_is_told_and_can_be_set_aside(void **state)
{
    expect_format_refused(*state, STORE_FORMAT + 1);
}

static void an_older_format_is_told_and_can_be_set_aside(void **state)
{
    expect_format_refused(*state, STORE_FORMAT - 1);
}

static void a_file_that_is_no_database_is_damage(void **state)
{
    struct fixture *f = *state;
    char path[2 * SCRATCH_BYTES + 32];
    assert_int_equal(mkdir(f->at.dir, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/data.mdb", f->at.dir);
    static const size_t sizes[] = {1, 100, 5000, 100000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        for (size_t n = 0; n < sizes[i]; n++)
            fputc('x', file);
        fclose(file);
        assert_int_equal(open_store(f), STORE_E_DAMAGED);
        assert_int_equal(store_set_aside(f->at.store, &f->at.why), 0);
        f->at.store = store_close(f->at.store);
    }
}

/* ---- Entries ---- */

static void entries_are_found_replaced_and_erased(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    put_entry(f, 1, "/a", "A");
    put_entry(f, 2, "/b", "B");
    assert_entry(f, 1, "A");
    put_entry(f, 1, "/a", "AA");
    reopen(f);
    assert_entry(f, 1, "AA");
    assert_entry(f, 2, "B");
    assert_int_equal(store_entry_count(f->at.store), 2);
    assert_int_equal(store_get_entry(f->at.store, fingerprint_of(3), see_entry, &seen),
                     STORE_E_NOT_FOUND);

    struct store_txn *txn = begin(f);
    assert_int_equal(store_erase_entry(txn, fingerprint_of(1)), 0);
    assert_int_equal(store_erase_entry(txn, fingerprint_of(3)), 0);
    assert_int_equal(store_commit(txn), 0);
    assert_int_equal(store_get_entry(f->at.store, fingerprint_of(1), see_entry, &seen),
                     STORE_E_NOT_FOUND);
    assert_list(f, "", "B ");
    assert_true(store_used_bytes(f->at.store) >= 4096);
}

static void an_aborted_transaction_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_txn *txn = begin(f);
    assert_int_equal(store_put_entry(txn, fingerprint_of(1), str_of("/a"), str_of("A")), 0);
    store_abort(txn);
    assert_int_equal(store_entry_count(f->at.store), 0);
    assert_list(f, "", "");
}

static void an_entry_has_one_name_whatever_it_was_called(void **state)
{
    struct fixture *f = *state;
    put_entry(f, 1, "/old", "A");
    put_entry(f, 1, "/new", "B");
    assert_list(f, "", "B ");
    assert_list(f, "/old", "");
}

static int compare_record(void *ctx, uint64_t lsn, etag_str record)
{
    const etag_str *expected = ctx;
    assert_int_equal(record.len, expected->len);
    if (record.len > 0)
        assert_memory_equal(record.data, expected->data, record.len);
    return 0;
}

static void records_of_any_size_are_kept(void **state)
{
    struct fixture *f = *state;
    static const size_t sizes[] = {0, 1, 511, 2000, 4072, 4096, 30000, 1 << 20};
    static char bytes[1 << 20];
    for (size_t n = 0; n < sizeof(bytes); n++)
        bytes[n] = (char)random_mix(n);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct store_txn *txn = begin(f);
        assert_int_equal(store_put_event(txn, i + 1, (etag_str){bytes, sizes[i]}), 0);
        assert_int_equal(store_commit(txn), 0);
    }
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        etag_str expected = {bytes, sizes[i]};
        assert_int_equal(store_get_event(f->at.store, i + 1, compare_record, &expected), 0);
    }
}

static void a_changed_byte_is_told_and_nothing_is_handed_out(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    put_entry(f, 1, "/a", "record-of-entry-one");
    put_entry(f, 2, "/b", "record-of-entry-two");
    struct store_txn *txn = begin(f);
    assert_int_equal(store_put_event(txn, 5, str_of("record-of-event")), 0);
    assert_int_equal(store_commit(txn), 0);
    f->at.store = store_close(f->at.store);
    patch_data(f, "record-of-entry-one", 19, 7, 0x40);
    assert_int_equal(open_store(f), 0);

    seen = (struct seen){0};
    assert_int_equal(store_get_entry(f->at.store, fingerprint_of(1), see_entry, &seen),
                     STORE_E_DAMAGED);
    assert_int_equal(seen.count, 0);
    assert_int_equal(store_each_entry(f->at.store, (struct hash128){0}, see_entry, &seen), 0);
    assert_int_equal(seen.count, 2);
    assert_null(strstr(seen.text, "one"));
    assert_entry(f, 2, "record-of-entry-two");

    put_entry(f, 1, "/a", "good again");
    assert_entry(f, 1, "good again");
    assert_list(f, "", "good again record-of-entry-two ");
    txn = begin(f);
    assert_int_equal(store_erase_entry(txn, fingerprint_of(1)), 0);
    assert_int_equal(store_commit(txn), 0);

    f->at.store = store_close(f->at.store);
    patch_data(f, "record-of-event", 15, 0, 1);
    assert_int_equal(open_store(f), STORE_E_DAMAGED);
    assert_non_null(strstr(f->at.why.text, "checksum"));
}

static void a_record_under_another_key_is_damage(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    const struct hash128 fingerprint = fingerprint_of(1);
    put_entry(f, 1, "/a", "A");
    f->at.store = store_close(f->at.store);
    patch_data(f, &fingerprint, sizeof(fingerprint), 15, 1); /* in entries and in names */
    assert_int_equal(open_store(f), 0);
    assert_int_equal(store_each_entry(f->at.store, (struct hash128){0}, see_entry, &seen), 0);
    assert_string_equal(seen.text, " ");
}

/* ---- Listing ---- */

static void a_list_is_in_the_order_of_the_text(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"/b", "/a/x", "/a", "//host/z", "/ab", "/a?q", "/a/"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        put_entry(f, i, names[i], names[i]);
    put_entry(f, 100, "/a", "/a:scope");
    for (uint64_t i = 200; i < 240; i++)
        put_entry(f, i, "/a", "x");
    struct store_txn *txn = begin(f);
    for (uint64_t i = 200; i < 240; i++)
        assert_int_equal(store_erase_entry(txn, fingerprint_of(i)), 0);
    assert_int_equal(store_commit(txn), 0);

    static struct seen seen;
    seen = (struct seen){0};
    assert_int_equal(store_list(f->at.store, (etag_str){0}, (etag_str){0}, see_listed, &seen), 0);
    assert_true(strcmp(seen.text, "//host/z /a /a:scope /a/ /a/x /a?q /ab /b ") == 0 ||
                strcmp(seen.text, "//host/z /a:scope /a /a/ /a/x /a?q /ab /b ") == 0);
    assert_list(f, "/a/", "/a/ /a/x ");
    assert_list(f, "/b", "/b ");
    assert_list(f, "/bb", "");
    assert_list(f, "/zzz", "");
}

static void the_bytes_behind_a_name_are_not_part_of_it(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    for (uint64_t i = 0; i < 300; i++)
        put_entry(f, i, "/p", "p");
    put_entry(f, 1000, "/pq", "pq");
    assert_list(f, "/pq", "pq ");
    for (int byte = 0; byte < 256; byte++) {
        const char prefix[] = {'/', 'p', '\0', (char)byte};
        for (size_t len = 3; len <= 4; len++)
            assert_int_equal(
                store_list(f->at.store, (etag_str){prefix, len}, (etag_str){0}, see_listed, &seen),
                0);
    }
    assert_int_equal(seen.count, 0);
}

static void a_list_goes_on_behind_its_cursor(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    char name[32];
    char all[4096] = "";
    char paged[4096] = "";
    for (uint64_t i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof(name), "/%02d", (int)(i / 2));
        put_entry(f, i, name, name);
        if (i % 2)
            (void)snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s %s ", name, name);
    }
    char cursor[600];
    size_t cursor_len = 0;
    int result;
    do {
        seen = (struct seen){.stop_after = 7};
        result = store_list(f->at.store, str_of("/"), (etag_str){cursor, cursor_len}, see_listed,
                            &seen);
        strcat(paged, seen.text);
        memcpy(cursor, seen.cursor, seen.cursor_len);
        cursor_len = seen.cursor_len;
    } while (result == 4242);
    assert_int_equal(result, 0);
    assert_string_equal(paged, all);
}

static void cursors_may_be_any_bytes(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    static char cursor[2000];
    put_entry(f, 1, "/a", "A");
    memset(cursor, 0, sizeof(cursor));
    for (size_t len = 1; len < sizeof(cursor); len += 37) {
        seen = (struct seen){0};
        assert_int_equal(
            store_list(f->at.store, (etag_str){0}, (etag_str){cursor, len}, see_listed, &seen), 0);
        assert_string_equal(seen.text, "A ");
    }
    memset(cursor, 0xff, sizeof(cursor));
    for (size_t len = 1; len < sizeof(cursor); len += 37) {
        seen = (struct seen){0};
        assert_int_equal(
            store_list(f->at.store, (etag_str){0}, (etag_str){cursor, len}, see_listed, &seen), 0);
        assert_string_equal(seen.text, "");
    }
}

static void long_names_are_cut_and_still_erased(void **state)
{
    struct fixture *f = *state;
    char name[600];
    for (uint64_t i = 0; i < 10; i++) {
        const size_t len = 490 + i;
        memset(name, 'n', len);
        name[len] = '\0';
        name[0] = '/';
        put_entry(f, i, name, "N");
    }
    put_entry(f, 20, name, "N");
    assert_list(f, "", "N N N N N N N N N N N ");
    assert_list(f, name, "N N N N N N N "); /* those of 494 bytes and more look alike */
    struct store_txn *txn = begin(f);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(store_erase_entry(txn, fingerprint_of(i)), 0);
    assert_int_equal(store_erase_entry(txn, fingerprint_of(20)), 0);
    assert_int_equal(store_commit(txn), 0);
    assert_list(f, "", "");
    assert_int_equal(store_entry_count(f->at.store), 0);
}

/* ---- Events, clocks, checkpoints ---- */

static void put_events(struct fixture *f, uint64_t from, uint64_t to)
{
    char record[32];
    struct store_txn *txn = begin(f);
    for (uint64_t lsn = from; lsn <= to; lsn++) {
        (void)snprintf(record, sizeof(record), "%llu", (unsigned long long)lsn);
        assert_int_equal(store_put_event(txn, lsn, str_of(record)), 0);
    }
    assert_int_equal(store_commit(txn), 0);
}

static void assert_events(struct fixture *f, uint64_t from, const char *expected)
{
    static struct seen seen;
    seen = (struct seen){0};
    assert_int_equal(store_each_event(f->at.store, from, see_event, &seen), 0);
    assert_string_equal(seen.text, expected);
}

static void trim(struct fixture *f, uint64_t below, size_t keep)
{
    struct store_txn *txn = begin(f);
    const struct store_trim bounds = {.below_lsn = below, .keep = keep, .most = SIZE_MAX};
    size_t cut;
    assert_int_equal(store_trim_events(txn, &bounds, &cut), 0);
    assert_int_equal(store_commit(txn), 0);
}

static void events_come_in_the_order_of_their_lsn(void **state)
{
    struct fixture *f = *state;
    put_events(f, 1000000, 1000001);
    put_events(f, 255, 257);
    put_events(f, 3, 3);
    assert_events(f, 0, "3 255 256 257 1000000 1000001 ");
    assert_events(f, 256, "256 257 1000000 1000001 ");
    assert_events(f, 258, "1000000 1000001 ");
    assert_events(f, UINT64_MAX, "");
    static struct seen seen;
    seen = (struct seen){.stop_after = 2};
    assert_int_equal(store_each_event(f->at.store, 0, see_event, &seen), 4242);
    assert_string_equal(seen.text, "3 255 ");
    assert_int_equal(store_get_event(f->at.store, 4, see_event, &seen), STORE_E_NOT_FOUND);
}

static void trimming_keeps_the_newest_and_what_no_checkpoint_covers(void **state)
{
    struct fixture *f = *state;
    trim(f, 10, 0);
    put_events(f, 1, 9);
    trim(f, 1, 0);
    assert_events(f, 0, "1 2 3 4 5 6 7 8 9 ");
    trim(f, 3, 0);
    assert_events(f, 0, "3 4 5 6 7 8 9 ");
    trim(f, 9, 5);
    assert_events(f, 0, "5 6 7 8 9 ");
    trim(f, 100, 5);
    assert_events(f, 0, "5 6 7 8 9 ");
    trim(f, 100, 1);
    assert_events(f, 0, "9 ");
    trim(f, 100, 0);
    assert_events(f, 0, "");
}

static int see_chunk(void *ctx, uint32_t chunk, const uint64_t *words, size_t count)
{
    char text[64];
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += words[i];
    (void)snprintf(text, sizeof(text), "%u:%zu:%llu", chunk, count, (unsigned long long)sum);
    return seen_add(ctx, str_of(text));
}

static void clocks_and_checkpoint_come_back(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    uint64_t words[CLOCK_CHUNK_WORDS];
    struct store_meta meta;
    for (size_t i = 0; i < CLOCK_CHUNK_WORDS; i++)
        words[i] = i;
    struct store_txn *txn = begin(f);
    assert_int_equal(store_put_clocks(txn, 256, words, 3), 0);
    assert_int_equal(store_put_clocks(txn, 1, words, CLOCK_CHUNK_WORDS), 0);
    assert_int_equal(store_put_clocks(txn, 0, words + 5, 1), 0);
    assert_int_equal(store_put_checkpoint_lsn(txn, 12345), 0);
    assert_int_equal(store_commit(txn), 0);
    reopen(f);
    seen = (struct seen){0};
    assert_int_equal(store_each_clock_chunk(f->at.store, see_chunk, &seen), 0);
    assert_string_equal(seen.text, "0:1:5 1:512:130816 256:3:3 ");
    assert_int_equal(store_meta_read(f->at.store, &meta), 0);
    assert_int_equal(meta.checkpoint_lsn, 12345);
    assert_int_equal(meta.incarnation, 7);
}

static int see_guard(void *ctx, struct guard_id id, uint64_t lsn, etag_str record)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%llx-%llx@%llu:%.*s", (unsigned long long)id.high,
                   (unsigned long long)id.low, (unsigned long long)lsn, (int)record.len,
                   record.data);
    return seen_add(ctx, str_of(text));
}

static void assert_guards(struct fixture *f, const char *expected)
{
    static struct seen seen;
    seen = (struct seen){0};
    assert_int_equal(store_each_guard(f->at.store, see_guard, &seen), 0);
    assert_string_equal(seen.text, expected);
}

static void guards_are_put_replaced_and_erased(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    struct store_txn *txn = begin(f);
    assert_int_equal(store_put_guard(txn, (struct guard_id){0xff00, 1}, 5, str_of("five")), 0);
    assert_int_equal(store_put_guard(txn, (struct guard_id){0x1, 0xff}, 6, str_of("six")), 0);
    assert_int_equal(store_put_guard(txn, (struct guard_id){0, 7}, 7, str_of("")), 0);
    assert_int_equal(store_commit(txn), 0);
    reopen(f);
    assert_guards(f, "0-7@7: 1-ff@6:six ff00-1@5:five ");
    txn = begin(f);
    assert_int_equal(store_put_guard(txn, (struct guard_id){0x1, 0xff}, 9, str_of("nine")), 0);
    assert_int_equal(store_erase_guard(txn, (struct guard_id){0, 7}), 0);
    assert_int_equal(store_erase_guard(txn, (struct guard_id){0, 8}), 0);
    assert_int_equal(store_commit(txn), 0);
    assert_guards(f, "1-ff@9:nine ff00-1@5:five ");
    seen = (struct seen){.stop_after = 1};
    assert_int_equal(store_each_guard(f->at.store, see_guard, &seen), 4242);
    assert_int_equal(store_clear(f->at.store), 0);
    assert_guards(f, "");
}

static void clearing_leaves_meta_and_takes_another_key(void **state)
{
    struct fixture *f = *state;
    static struct seen seen;
    struct store_meta meta;
    uint64_t word = 1;
    put_entry(f, 1, "/a", "A");
    put_events(f, 1, 5);
    struct store_txn *txn = begin(f);
    assert_int_equal(store_put_clocks(txn, 0, &word, 1), 0);
    assert_int_equal(store_put_checkpoint_lsn(txn, 5), 0);
    assert_int_equal(store_commit(txn), 0);

    assert_int_equal(store_clear(f->at.store), 0);
    assert_int_equal(store_entry_count(f->at.store), 0);
    assert_list(f, "", "");
    assert_events(f, 0, "");
    seen = (struct seen){0};
    assert_int_equal(store_each_clock_chunk(f->at.store, see_chunk, &seen), 0);
    assert_string_equal(seen.text, "");
    assert_int_equal(store_meta_read(f->at.store, &meta), 0);
    assert_int_equal(meta.incarnation, 7);
    assert_int_equal(meta.checkpoint_lsn, 0);

    meta.hash_key[0] ^= 1;
    assert_int_equal(store_meta_write(f->at.store, &meta), 0);
    put_entry(f, 1, "/a", "B");
    reopen(f);
    assert_entry(f, 1, "B");
}

static void clearing_an_empty_store_works(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(open_store(f), 0);
    assert_int_equal(store_clear(f->at.store), 0);
    assert_int_equal(store_entry_count(f->at.store), 0);
    assert_list(f, "", "");
}

static void a_full_map_is_no_space_and_harms_nothing(void **state)
{
    struct fixture *f = *state;
    static char record[20000];
    const struct store_meta meta = some_meta();
    int error = 0;
    uint64_t stored = 0;
    memset(record, 'r', sizeof(record));
    assert_int_equal(open_with(f, &f->at.store, false, 1 << 20), 0);
    assert_int_equal(store_meta_write(f->at.store, &meta), 0);
    while (!error && stored < 1000) {
        struct store_txn *txn = begin(f);
        error = store_put_entry(txn, fingerprint_of(stored), str_of("/a"),
                                (etag_str){record, sizeof(record)});
        if (error)
            store_abort(txn);
        else
            error = store_commit(txn);
        stored += !error;
    }
    assert_int_equal(error, -ENOSPC);
    assert_in_range(stored, 5, 60);
    assert_int_equal(store_entry_count(f->at.store), stored);
    f->at.store = store_close(f->at.store);
    assert_int_equal(open_with(f, &f->at.store, true, MAP_BYTES), 0);
    assert_int_equal(store_entry_count(f->at.store), stored);
    put_entry(f, 5000, "/b", "B");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_UNOPENED(name) cmocka_unit_test_setup_teardown(name, set_up_missing, tear_down)
    const struct CMUnitTest tests[] = {
        TEST_UNOPENED(the_directory_is_made_for_us_alone),
        TEST_UNOPENED(a_missing_parent_is_told),
        TEST_UNOPENED(a_path_that_is_too_long_is_told),
        TEST_UNOPENED(a_directory_that_others_can_write_is_refused),
        TEST_UNOPENED(anothers_directory_is_refused),
        TEST(a_second_store_on_one_directory_is_refused),
        TEST(a_lost_place_is_noticed),
        TEST(the_warm_mark_comes_goes_and_stays),
        TEST_UNOPENED(meta_is_absent_at_first_and_then_kept),
        TEST(damaged_meta_is_told_and_can_be_set_aside),
        TEST(a_newer_format_is_told_and_can_be_set_aside),
        TEST(an_older_format_is_told_and_can_be_set_aside),
        TEST_UNOPENED(a_file_that_is_no_database_is_damage),
        TEST(entries_are_found_replaced_and_erased),
        TEST(an_aborted_transaction_leaves_nothing),
        TEST(an_entry_has_one_name_whatever_it_was_called),
        TEST(records_of_any_size_are_kept),
        TEST(a_changed_byte_is_told_and_nothing_is_handed_out),
        TEST(a_record_under_another_key_is_damage),
        TEST(a_list_is_in_the_order_of_the_text),
        TEST(the_bytes_behind_a_name_are_not_part_of_it),
        TEST(a_list_goes_on_behind_its_cursor),
        TEST(cursors_may_be_any_bytes),
        TEST(long_names_are_cut_and_still_erased),
        TEST(events_come_in_the_order_of_their_lsn),
        TEST(trimming_keeps_the_newest_and_what_no_checkpoint_covers),
        TEST(clocks_and_checkpoint_come_back),
        TEST(guards_are_put_replaced_and_erased),
        TEST(clearing_leaves_meta_and_takes_another_key),
        TEST_UNOPENED(clearing_an_empty_store_works),
        TEST_UNOPENED(a_full_map_is_no_space_and_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
