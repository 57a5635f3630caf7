/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The word has a page of its own, since the kernel zeroes whole pages. It is cheaper than getpid()
 * in every lookup, and unlike pthread_atfork() handlers it also works if fork was called without
 * libc.
 */
#include "forkword.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int fork_word_open(struct fork_word *fork_word)
{
    fork_word->word = NULL;
    void *page = mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                      0);
    if (page == MAP_FAILED)
        return -errno;
    if (madvise(page, page_bytes(), MADV_WIPEONFORK) < 0) {
        const int r = -errno;
        munmap(page, page_bytes());
        return r;
    }
    fork_word->word = page;
    fork_word_raise(fork_word);
    return 0;
}

void fork_word_close(struct fork_word *fork_word)
{
    if (fork_word->word)
        munmap(fork_word->word, page_bytes());
    fork_word->word = NULL;
}

void fork_word_raise(struct fork_word *fork_word)
{
    __atomic_store_n(fork_word->word, 1, __ATOMIC_RELAXED);
}
