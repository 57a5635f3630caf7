# SPDX-License-Identifier: Apache-2.0
# Warnings, sanitizers, coverage: on one interface target that every target of ours links privately.
add_library(etag_flags INTERFACE)
target_compile_options(etag_flags INTERFACE
    -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wcast-qual
    -Wformat=2 -Wundef -Wvla -Wno-missing-field-initializers -Wno-unused-parameter
    -fno-common -fno-strict-aliasing)
target_compile_definitions(etag_flags INTERFACE _GNU_SOURCE)
if(ETAGD_DEVELOPER)
    target_compile_options(etag_flags INTERFACE -Werror)
endif()
if(ETAGD_SANITIZE STREQUAL "address")
    set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(ETAGD_SANITIZE STREQUAL "thread")
    set(sanitizers -fsanitize=thread -fno-omit-frame-pointer)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
        # The fences of shm.c: every word they order is itself atomic, which is all that TSan needs.
        list(APPEND sanitizers -Wno-tsan)
    endif()
elseif(ETAGD_SANITIZE STREQUAL "fuzzer")
    set(sanitizers -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(NOT ETAGD_SANITIZE STREQUAL "")
    message(FATAL_ERROR "ETAGD_SANITIZE=${ETAGD_SANITIZE}: use address, thread, fuzzer or nothing")
endif()
target_compile_options(etag_flags INTERFACE ${sanitizers})
target_link_options(etag_flags INTERFACE ${sanitizers})
if(ETAGD_COVERAGE)
    target_compile_options(etag_flags INTERFACE --coverage -O0)
    target_link_options(etag_flags INTERFACE --coverage)
endif()
# Assertions state our own invariants, and stay on in every build.
foreach(config RELEASE RELWITHDEBINFO MINSIZEREL)
    string(REGEX REPLACE "(^| )-DNDEBUG( |$)" " " CMAKE_C_FLAGS_${config} "${CMAKE_C_FLAGS_${config}}")
endforeach()
if(ETAGD_DELAYS)
    target_compile_definitions(etag_flags INTERFACE ETAGD_DELAY_POINTS)
endif()
