/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration file with any bytes, read as a start and a reload read it. What is refused is
 * said in one line that a terminal can show; what is taken is within its bounds, and printed as a
 * file that means the same.
 */
#include "bounds.h"
#include "config_option.h"
#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool config_of(int fd, const void *data, size_t size, struct config *config, struct why *why)
{
    char path[32];
    char *argv[] = {"etagd", "--config", path, NULL};
    bool answered;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    fuzz_require(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    const bool taken = config_read(config, 3, argv, &answered, why);
    fuzz_require(!answered);
    return taken;
}

static void mistake_check(const char *why)
{
    const size_t len = strnlen(why, WHY_BYTES);

    fuzz_require(len > 0 && len < WHY_BYTES);
    for (size_t i = 0; i < len; i++) {
        const unsigned char byte = (unsigned char)why[i];
        const bool is_c1 = i > 0 && why[i - 1] == '\xc2' && byte >= 0x80 && byte < 0xa0;
        fuzz_require(byte >= 0x20 && byte != 0x7f && !is_c1);
    }
}

static void bounds_check(const struct config *config)
{
    fuzz_require(config->capacity >= CAPACITY_MIN && config->capacity <= CAPACITY_MAX);
    fuzz_require(config->clock_count == 0 ||
                 ((config->clock_count & (config->clock_count - 1)) == 0 &&
                  config->clock_count >= CLOCKS_MIN && config->clock_count <= CLOCKS_MAX));
    fuzz_require(config->map_bytes > 0 && config->socket_mode <= 0777);
    fuzz_require(config->rule_count <= ROLE_RULES_MAX);
    fuzz_require(strnlen(config->socket_path, PATH_BYTES_MAX) < PATH_BYTES_MAX &&
                 strnlen(config->state_dir, PATH_BYTES_MAX) < PATH_BYTES_MAX);
}

static char *printed(const struct config *config, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    fuzz_require(out);
    config_print(config, out);
    fuzz_require(fclose(out) == 0);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config, again;
    static struct why why;
    static int fd = -1;
    size_t len, again_len;

    if (fd < 0)
        fuzz_require((fd = memfd_create("etagd.yaml", MFD_CLOEXEC)) >= 0);
    if (!config_of(fd, data, size, &config, &why)) {
        mistake_check(why.text);
        return 0;
    }
    bounds_check(&config);
    char *text = printed(&config, &len);
    fuzz_require(config_of(fd, text, len, &again, &why));
    char *text_again = printed(&again, &again_len);
    fuzz_require(len == again_len && memcmp(text, text_again, len) == 0);
    fuzz_require(strcmp(config.socket_path, again.socket_path) == 0 &&
                 strcmp(config.state_dir, again.state_dir) == 0);
    free(text);
    free(text_again);
    return 0;
}
