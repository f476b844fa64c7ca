/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tunables of a Latchkey host (net.inet.ipsec.*, net.inet6.ipsec6.*, net.key.* and a few more; `latchkey sysctl -d`
 * describes them), as the BSDs' sysctlbyname(3) gives them. Programs that call sysctlbyname() itself find it in
 * include/compat/sys/sysctl.h.
 */
#ifndef LATCHKEY_SYSCTL_H
#define LATCHKEY_SYSCTL_H

#include <latchkey/host.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Reads a tunable into `oldp`, then sets it from `newp`; either may be NULL. Every value is an int; where the range
 * goes up to 0xffffffff (SPIs) it is the unsigned int of the same bits. `host` NULL: the default host, opened for this call.
 *
 * *oldlenp is the room at `oldp`; it becomes the number of bytes that are there, or with `oldp` NULL the number that
 * there would be. Returns 0, or -1 with errno: ENOENT (no such tunable), ENOMEM (too little room: as much as fits is
 * there, and nothing is set), EINVAL (newlen is not sizeof(int), or the value is outside the range), EPERM (it can only
 * be read, or the caller is neither root nor the host's owner), EFAULT, ENETDOWN and those of latchkey_host_open().
 */
int latchkey_sysctlbyname(latchkey_host *host, const char *name, void *oldp, size_t *oldlenp, const void *newp,
                          size_t newlen);

#ifdef __cplusplus
}
#endif

#endif
