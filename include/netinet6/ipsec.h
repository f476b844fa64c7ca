/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IPsec policy constants under their KAME names (numbers as in <linux/ipsec.h>), the socket options that carry
 * per-socket policy on this platform, and the functions that turn policies from text into what those options take
 * (ipsec_set_policy(3)). Link with latchkey-ipsec.
 */
#ifndef LATCHKEY_NETINET6_IPSEC_H
#define LATCHKEY_NETINET6_IPSEC_H

#include <net/pfkeyv2.h>

#ifdef __cplusplus
extern "C" {
#endif

/* sadb_x_ipsecrequest_mode, sadb_x_sa2_mode */
#define IPSEC_MODE_ANY 0
#define IPSEC_MODE_TRANSPORT 1
#define IPSEC_MODE_TUNNEL 2
#define IPSEC_MODE_BEET 3 /* known by name only */

/* sadb_x_policy_dir */
#define IPSEC_DIR_ANY 0
#define IPSEC_DIR_INBOUND 1
#define IPSEC_DIR_OUTBOUND 2
#define IPSEC_DIR_FWD 3
#define IPSEC_DIR_MAX 4
#define IPSEC_DIR_INVALID 5

/* sadb_x_policy_type */
#define IPSEC_POLICY_DISCARD 0
#define IPSEC_POLICY_NONE 1
#define IPSEC_POLICY_IPSEC 2
#define IPSEC_POLICY_ENTRUST 3 /* per-socket only: consult the SPD */
#define IPSEC_POLICY_BYPASS 4  /* per-socket only: needs privilege */

/* sadb_x_ipsecrequest_level */
#define IPSEC_LEVEL_DEFAULT 0
#define IPSEC_LEVEL_USE 1
#define IPSEC_LEVEL_REQUIRE 2
#define IPSEC_LEVEL_UNIQUE 3

#define IPSEC_MANUAL_REQID_MAX 0x3fff
#define IPSEC_PORT_ANY 0
#define IPSEC_ULPROTO_ANY 255
#define IPSEC_PROTO_ANY 255
#define IPSEC_REPLAYWSIZE 32

/* setsockopt(2) at IPPROTO_IP and IPPROTO_IPV6: Linux' numbers, as <netinet/in.h> has them. */
#ifndef IP_IPSEC_POLICY
#define IP_IPSEC_POLICY 16
#endif
#ifndef IPV6_IPSEC_POLICY
#define IPV6_IPSEC_POLICY 34
#endif

/* What the functions here and those of <libpfkey.h> say no with; 0 to 27 are KAME's numbers. */
#define EIPSEC_NO_ERROR 0
#define EIPSEC_NOT_SUPPORTED 1
#define EIPSEC_INVAL_ARGUMENT 2
#define EIPSEC_INVAL_SADBMSG 3
#define EIPSEC_INVAL_VERSION 4
#define EIPSEC_INVAL_POLICY 5
#define EIPSEC_INVAL_ADDRESS 6
#define EIPSEC_INVAL_PROTO 7
#define EIPSEC_INVAL_MODE 8
#define EIPSEC_INVAL_LEVEL 9
#define EIPSEC_INVAL_SATYPE 10
#define EIPSEC_INVAL_MSGTYPE 11
#define EIPSEC_INVAL_EXTTYPE 12
#define EIPSEC_INVAL_ALGS 13
#define EIPSEC_INVAL_KEYLEN 14
#define EIPSEC_INVAL_FAMILY 15
#define EIPSEC_INVAL_PREFIXLEN 16
#define EIPSEC_INVAL_DIR 17
#define EIPSEC_INVAL_SPI 18
#define EIPSEC_NO_PROTO 19
#define EIPSEC_NO_ALGS 20
#define EIPSEC_NO_BUFS 21
#define EIPSEC_DO_GET_SUPP_LIST 22
#define EIPSEC_PROTO_MISMATCH 23
#define EIPSEC_FAMILY_MISMATCH 24
#define EIPSEC_FEW_ARGUMENTS 25
#define EIPSEC_SYSTEM_ERROR 26
#define EIPSEC_MAX 27
#define EIPSEC_INVAL_PRIORITY_OFFSET 28
#define EIPSEC_INVAL_PRIORITY_BASE_OFFSET 29

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

#define HAVE_IPSEC_POLICY_T 1
typedef char *ipsec_policy_t; /* a struct sadb_x_policy with its requests, from malloc(3) */

/*
 * The policy that the `len` bytes of `policy` describe (they end early at a NUL), to be freed with free(3). NULL: the
 * text is not understood; ipsec_strerror() and latchkey_ipsec_detail() say why.
 */
ipsec_policy_t ipsec_set_policy(const char *policy, int len);

/* Its size in bytes, as setsockopt(2) wants it; -1 for NULL. */
int ipsec_get_policylen(ipsec_policy_t policy);

/*
 * The text of a policy, to be freed with free(3); `delimiter` (NULL: a blank) stands before each request. NULL if it is
 * no policy. The second form shows the ports of tunnel end points, too.
 */
char *ipsec_dump_policy(ipsec_policy_t policy, const char *delimiter);
char *ipsec_dump_policy_withports(void *policy, const char *delimiter);

/* The verdict of the latest call of this thread to a function of this header or of <libpfkey.h>, in words. */
const char *ipsec_strerror(void);

/* Latchkey's own: its EIPSEC_ number, and what was expected and what came (an empty string if no more is known). */
int latchkey_ipsec_error(void);
const char *latchkey_ipsec_detail(void);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif
#endif
