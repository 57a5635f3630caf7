/* SPDX-License-Identifier: Apache-2.0 */
/* The spool lets in whom the socket lets in. */
#include "testing.h"

#include "numbers.h"
#include "scratch.h"
#include "spool_access.h"
#include "spool_format.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUP 4711

TEST(the_directory_has_the_sockets_group_and_a_mode_that_fits)
{
    static const struct {
        uint32_t socket, directory;
    } cases[] = {{0600, 03700}, {0660, 03730}, {0666, 03733}, {0662, 03733},
                 {0606, 03703}, {0777, 03733}, {0640, 03700}};
    char scratch[SCRATCH_BYTES];
    struct config *const config = calloc(1, sizeof(*config));
    const struct log log = {.fd = -1, .least = LOG_ERROR};
    struct stat st;

    scratch_make(scratch);
    snprintf(config->socket_path, sizeof(config->socket_path), "%s/etagd.sock", scratch);
    const int fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_int_equal(spool_dir_mode(cases[i].socket), cases[i].directory);
        config->socket_mode = cases[i].socket; /* where none is there yet */
        assert_int_equal(spool_access_set(fd, config, &log), 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, cases[i].directory);
    }
    if (geteuid() == 0) {
        /* What a service manager made counts, not what the configuration says. */
        const int there = open(config->socket_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(there >= 0 && fchown(there, 0, GROUP) == 0 && fchmod(there, 0660) == 0);
        close(there);
        config->socket_mode = 0666;
        assert_int_equal(spool_access_set(fd, config, &log), 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 03730);
        assert_int_equal(st.st_gid, GROUP);
    }
    close(fd);
    free(config);
    scratch_remove(scratch);
}
