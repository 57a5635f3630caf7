/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DELAY_POINT("name"): a place where the torture test (tests/system/torture) may make a thread
 * sleep, so that interleavings with a window of nanoseconds happen often. Shipped builds have no
 * code for it; with the CMake option ETAGD_DELAYS it reads the environment of the process:
 *
 *   ETAGD_DELAY_POINTS=NAME:MAX_US:ONE_IN[,...]   at NAME ("*": at each without an entry of its
 *                                                 own), once in ONE_IN times, up to MAX_US
 *                                                 microseconds
 *   ETAGD_DELAY_SEED=N                            makes the choice the same in each run
 */
#ifndef ETAG_PROTO_DELAY_POINT_H
#define ETAG_PROTO_DELAY_POINT_H

#ifdef ETAGD_DELAY_POINTS
void delay_point(const char *name);
#define DELAY_POINT(name) delay_point(name)
#else
#define DELAY_POINT(name) ((void)0)
#endif

#endif
