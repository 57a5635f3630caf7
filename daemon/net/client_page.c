/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each client has a page of its own, which only it writes. So counting shares no cache line, and a
 * client that writes nonsense spoils only its own numbers.
 */
#include "client_page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>

int client_page_open(struct client_page *page, int *fd)
{
    page->counters = NULL;
    CLEANUP(cleanup_fd) int made = memfd_create("etagd-counters", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made < 0)
        return -errno;
    if (ftruncate(made, COUNTERS_BYTES) < 0 || fallocate(made, 0, 0, COUNTERS_BYTES) < 0 ||
        fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return -errno;
    void *mapped = mmap(NULL, COUNTERS_BYTES, PROT_READ, MAP_SHARED, made, 0);
    if (mapped == MAP_FAILED)
        return -errno;
    page->counters = mapped;
    *fd = take_fd(&made);
    return 0;
}

void client_page_close(struct client_page *page)
{
    if (page->counters)
        munmap((void *)(uintptr_t)page->counters, COUNTERS_BYTES);
    page->counters = NULL;
}

void client_page_add(const struct client_page *page, struct counters *sum)
{
    if (!page->counters)
        return;
#define ADD(name, text) sum->name += counter_get(&page->counters->name);
    CLIENT_COUNTERS(ADD)
#undef ADD
}
