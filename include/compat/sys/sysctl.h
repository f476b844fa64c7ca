/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For BSD sources, with include/compat in front of the system's directories: sysctlbyname() for the tunables of the
 * default Latchkey host ($LATCHKEY and so on, see <latchkey/host.h>). It is in the client library.
 */
#ifndef LATCHKEY_COMPAT_SYS_SYSCTL_H
#define LATCHKEY_COMPAT_SYS_SYSCTL_H

#if defined(__has_include_next)
#if __has_include_next(<sys/sysctl.h>)
#include_next <sys/sysctl.h>
#endif
#endif

#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* latchkey_sysctlbyname() of <latchkey/sysctl.h> on the default host. */
int sysctlbyname(const char *name, void *oldp, size_t *oldlenp, const void *newp, size_t newlen);

#ifdef __cplusplus
}
#endif

#endif
