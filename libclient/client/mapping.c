/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client trusts memory from another process only after these checks: a seal against shrinking
 * (else its owner could make our reads raise SIGBUS), the size in the hello, the geometry, the run
 * of the daemon.
 */
#include "mapping.h"

#include "numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static etag_status check_memory(int fd, uint64_t bytes, const char *what, struct fault *fault)
{
    struct stat st;
    const int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
        return fault_set(fault, ETAG_PROTOCOL, "the daemon's %s is not sealed memory", what);
    if (fstat(fd, &st) < 0)
        return fault_system(fault, -errno, "cannot look at the daemon's memory");
    if (st.st_size < 0 || (uint64_t)st.st_size != bytes)
        return fault_set(fault, ETAG_PROTOCOL,
                         "the daemon's %s has %lld bytes, its hello said %llu", what,
                         (long long)st.st_size, (unsigned long long)bytes);
    return ETAG_OK;
}

/* The daemon can write while we look, so what is followed is a copy, the one that was checked. */
const char *mapping_view(struct shm_view *out, void *base, size_t bytes, uint64_t incarnation_id)
{
    struct layout_header header = {0};

    memcpy(&header, base, min_of(bytes, sizeof(header)));
    const char *wrong = layout_validate(&header, bytes);
    if (!wrong && header.incarnation_id != incarnation_id)
        wrong = "it is of another run of the daemon than the hello";
    if (!wrong)
        *out = shm_view_of(base, &header);
    return wrong;
}

static etag_status open_index(struct mapping *out, const struct mapping_source *source,
                              struct fault *fault)
{
    etag_status status = check_memory(source->index_fd, source->index_bytes, "index", fault);

    if (status != ETAG_OK)
        return status;
    if (source->index_bytes < sizeof(struct layout_header) || source->index_bytes > SIZE_MAX / 2)
        return fault_set(fault, ETAG_PROTOCOL, "the daemon's index has an impossible size");
    void *base;
    const int r = shm_map(&base, source->index_fd, (size_t)source->index_bytes, PROT_READ);
    if (r < 0)
        return fault_system(fault, r, "cannot map the daemon's index");
    out->base = base;
    out->bytes = (size_t)source->index_bytes;
    const char *wrong = mapping_view(&out->view, base, out->bytes, source->incarnation_id);
    if (wrong)
        return fault_set(fault, ETAG_PROTOCOL, "the daemon's index cannot be used: %s", wrong);
    /* Its pages are everybody's: a core file of ours need not hold them. */
    madvise(base, out->bytes, MADV_DONTDUMP);
    return ETAG_OK;
}

static etag_status open_counters(struct mapping *out, const struct mapping_source *source,
                                 struct fault *fault)
{
    etag_status status = check_memory(source->counters_fd, source->counters_bytes,
                                      "page of counters", fault);

    if (status != ETAG_OK)
        return status;
    /* A newer daemon may have more of them, after ours. Without any the index serves all the
     * same. */
    if (source->counters_bytes < COUNTERS_BYTES)
        return ETAG_OK;
    void *page = mmap(NULL, COUNTERS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, source->counters_fd,
                      0);
    if (page == MAP_FAILED)
        return fault_system(fault, -errno, "cannot map the page of counters");
    out->counters = page;
    return ETAG_OK;
}

etag_status mapping_open(struct mapping *out, const struct mapping_source *source,
                         struct fault *fault)
{
    etag_status status = ETAG_OK;

    *out = (struct mapping){0};
    if (source->index_fd >= 0)
        status = open_index(out, source, fault);
    if (status == ETAG_OK && source->counters_fd >= 0)
        status = open_counters(out, source, fault);
    if (status != ETAG_OK)
        mapping_close(out);
    return status;
}

void mapping_close_index(struct mapping *mapping)
{
    if (mapping->base)
        munmap(mapping->base, mapping->bytes);
    mapping->base = NULL;
}

void mapping_close(struct mapping *mapping)
{
    mapping_close_index(mapping);
    if (mapping->counters)
        munmap(mapping->counters, COUNTERS_BYTES);
    *mapping = (struct mapping){0};
}

bool hello_clock_bracketed(uint64_t before_ns, uint64_t daemon_ns, uint64_t after_ns)
{
    return before_ns <= daemon_ns && daemon_ns <= after_ns;
}

bool lease_deadline_plausible(uint64_t deadline_ns, uint64_t lease_ns, uint64_t now_ns)
{
    return deadline_ns <= now_ns || deadline_ns - now_ns <= lease_ns;
}
