/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IPsec policy constants under their KAME names (numbers as in <linux/ipsec.h>),
 * and the socket options that carry per-socket policy on this platform.
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

#ifdef __cplusplus
}
#endif
#endif
