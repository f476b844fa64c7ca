/* SPDX-License-Identifier: BSD-2-Clause */
/* What lwIP asks of its platform. Included by every lwIP file and by ours that use lwIP. */
#ifndef LATCHKEY_ARCH_CC_H
#define LATCHKEY_ARCH_CC_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

uint32_t latchkey_random32(void); /* the host: from its random source */
#if defined(__GNUC__)
__attribute__((noreturn, cold))
#endif
void latchkey_lwip_panic(const char *message, const char *file, int line); /* port.c */

#ifdef __cplusplus
}
#endif

#define LWIP_RAND() latchkey_random32()
#define LWIP_PLATFORM_DIAG(x) do { printf x; } while (0)
/* A broken invariant of the stack ends the host: going on could send or accept what policy forbids. */
#define LWIP_PLATFORM_ASSERT(x) latchkey_lwip_panic((x), __FILE__, __LINE__)

#endif
