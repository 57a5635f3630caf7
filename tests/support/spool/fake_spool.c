/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_spool.h"

void fake_spool_write(const struct fake_spool *spool, const char *name, const void *bytes,
                      size_t len, mode_t mode)
{
    char path[200];

    snprintf(path, sizeof(path), "%s/%s", spool->path, name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

void fake_spool_mark(const struct fake_spool *spool)
{
    static char text[SPOOL_MARK_BYTES_MAX];
    char from[200], to[200];

    fake_spool_write(spool, "new", text, spool_mark_format(&spool->mark, text), 0644);
    snprintf(from, sizeof(from), "%s/new", spool->path);
    snprintf(to, sizeof(to), "%s/mark", spool->path);
    assert_int_equal(rename(from, to), 0);
}

void fake_spool_make(struct fake_spool *spool, const char *dir, uint64_t lease_ns)
{
    snprintf(spool->path, sizeof(spool->path), "%.100s/spool", dir);
    assert_int_equal(mkdir(spool->path, 0700), 0);
    assert_int_equal(chmod(spool->path, SPOOL_DIR_MODE), 0);
    spool->mark = (struct spool_mark){.id = FAKE_SPOOL_ID,
                                      .socket = FAKE_SOCKET_NAME,
                                      .lease_ns = lease_ns,
                                      .linger_ns = UINT64_C(20000000000),
                                      .owner = (uint32_t)geteuid(),
                                      .nobody = 65534,
                                      .writers = {(uint32_t)geteuid()},
                                      .writer_count = 1};
    fake_spool_mark(spool);
}

void fake_spool_fill(const struct fake_spool *spool, uint32_t step)
{
    char name[SPOOL_NAME_BYTES], first[200], path[200];

    fake_spool_write(spool, "e000", "mine", 4, SPOOL_FILE_MODE);
    snprintf(first, sizeof(first), "%s/e000", spool->path);
    for (uint32_t i = step; i < SPOOL_SLOTS; i += step) {
        spool_name_make(SPOOL_NAME_EVENT, i, name);
        snprintf(path, sizeof(path), "%s/%s", spool->path, name);
        assert_int_equal(link(first, path), 0);
    }
}

int fake_spool_count(const struct fake_spool *spool, enum spool_name kind, char *last)
{
    DIR *dir = opendir(spool->path);
    uint32_t number;
    int count = 0;

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (spool_name_parse(entry->d_name, &number) == kind && entry->d_name[0] != '.') {
            count++;
            if (last)
                snprintf(last, SPOOL_NAME_BYTES, "%.15s", entry->d_name);
        }
    closedir(dir);
    return count;
}

void fake_spool_event(const struct fake_spool *spool, struct arena *arena, struct request *out)
{
    static char bytes[SPOOL_FILE_BYTES_MAX + 1];
    char name[SPOOL_NAME_BYTES], path[200];
    etag_str payload;

    assert_int_equal(fake_spool_count(spool, SPOOL_NAME_EVENT, name), 1);
    snprintf(path, sizeof(path), "%s/%s", spool->path, name);
    const int fd = open(path, O_RDONLY);
    const ssize_t len = read(fd, bytes, sizeof(bytes));
    close(fd);
    assert_in_range(len, 1, SPOOL_FILE_BYTES_MAX);
    assert_int_equal(frame_next((etag_str){bytes, (size_t)len}, &payload), 1);
    assert_int_equal(payload.len + FRAME_HEADER_BYTES, len);
    arena_init(arena, ARENA_BYTES_MAX);
    assert_null(request_decode(out, arena, payload));
}

static int fake_spool_remove_one(const char *path, const struct stat *status, int type,
                                 struct FTW *at)
{
    return remove(path);
}

void fake_spool_remove(struct fake_spool *spool)
{
    if (spool->path[0])
        (void)nftw(spool->path, fake_spool_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    spool->path[0] = '\0';
}
