/* SPDX-License-Identifier: BSD-2-Clause */
/* FreeBSD and NetBSD name of <netinet6/ipsec.h>. */
#ifndef LATCHKEY_NETIPSEC_IPSEC_H
#define LATCHKEY_NETIPSEC_IPSEC_H
#include <netinet6/ipsec.h>
#endif
