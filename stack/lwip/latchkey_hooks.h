/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions that lwIP asks the host, and the functions that stand in for lwIP's own where calls are redirected at
 * compile time (the list of redirects is in CMakeLists.txt). lwIP includes this as LWIP_HOOK_FILENAME, the glue to
 * define them. Everything here runs on the host's one thread. */
#ifndef LATCHKEY_HOOKS_H
#define LATCHKEY_HOOKS_H

#include "lwip/ethip6.h"
#include "lwip/icmp.h"
#include "lwip/ip_addr.h"
#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/raw_priv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Routes. NULL means no opinion: lwIP goes on to its own subnets and default netif. src may be NULL (IPv4: then lwIP
 * has tried its own subnets first) or the unspecified address.
 * lwIP asks for IPv6 only when it has two netifs or more, and never for link-local destinations. */
struct netif *latchkey_ip4_route(const ip4_addr_t *src, const ip4_addr_t *dest);
struct netif *latchkey_ip6_route(const ip6_addr_t *src, const ip6_addr_t *dest);

/* The next hop on netif; the result must live until the next call. NULL: lwIP's own gateway or, without one, none.
 * Asked only for destinations outside the subnets of netif. */
const ip4_addr_t *latchkey_etharp_gateway(struct netif *netif, const ip4_addr_t *dest);
const ip6_addr_t *latchkey_nd6_gateway(struct netif *netif, const ip6_addr_t *dest);

/* 1: forward, 0: drop, -1: lwIP's own tests decide (no broadcast, multicast, class E, loopback). dest in host order. */
int latchkey_ip4_canforward(struct pbuf *p, u32_t dest);

/* An initial sequence number that an outsider cannot predict (RFC 6528). */
u32_t latchkey_tcp_isn(const ip_addr_t *local_ip, u16_t local_port, const ip_addr_t *remote_ip, u16_t remote_port);

/* For the host: changes the segment size of a live connection, whose queue is cut to fit. */
struct tcp_pcb;
void latchkey_tcp_set_mss(struct tcp_pcb *pcb, u16_t mss);

/* Redirected calls. In the redirected files lwIP's own headers declare these names too, so a difference in type stops
 * the build. */
err_t latchkey_ip4_frag(struct pbuf *p, struct netif *netif, const ip4_addr_t *dest);
err_t latchkey_ip6_frag(struct pbuf *p, struct netif *netif, const ip6_addr_t *dest);
struct pbuf *latchkey_ip4_reass(struct pbuf *p);
struct pbuf *latchkey_ip6_reass(struct pbuf *p);
raw_input_state_t latchkey_raw_input(struct pbuf *p, struct netif *inp);
err_t latchkey_netif_loop_output(struct netif *netif, struct pbuf *p);
void latchkey_icmp_dest_unreach(struct pbuf *p, enum icmp_dur_type t);
u16_t latchkey_tcp_eff_send_mss_netif(u16_t sendmss, struct netif *outif, const ip_addr_t *dest); /* tcp_in.c */
u16_t latchkey_tcp_announced_mss(u16_t sendmss, struct netif *outif, const ip_addr_t *dest);      /* tcp_out.c */

#ifdef __cplusplus
}
#endif

/* Neighbour discovery sends a packet that waited for an address through netif->output_ip6 again. Such a packet has been
 * through the choke layer already; a second pass would protect it twice. It goes straight to Ethernet instead. */
#ifdef LATCHKEY_IN_ND6
#define output_ip6(netif, p, dest) output_ip6, (void)ethip6_output((netif), (p), (dest))
#endif

#endif
