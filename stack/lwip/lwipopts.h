/* SPDX-License-Identifier: BSD-2-Clause */
/* How lwIP is built into a Latchkey host. lwIP reads this before its own defaults; everything not named here is lwIP's
 * default on purpose. Times are real milliseconds unless a comment says ticks. */
#ifndef LATCHKEY_LWIPOPTS_H
#define LATCHKEY_LWIPOPTS_H

/* ---- One thread, raw API. The socket manager is ours, so lwIP's sequential API is left out. ---- */
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
/* <netinet/in.h> has htons() and its kin; two definitions do not go together in one file. */
#define LWIP_DONT_PROVIDE_BYTEORDER_FUNCTIONS 1
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
/* Must stay 0: with it lwIP includes <netinet/tcp.h>, whose TCP_MSS (512) silently replaces ours. */
#define LWIP_SOCKET_EXTERNAL_HEADERS 0

/* ---- Memory: libc malloc. lwIP's own heap is first-fit and collapses at large windows. ---- */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
/* With malloc lwIP ignores its pool sizes; port.c makes them limits again (latchkey_memp_malloc), so that no peer can
 * make a host grow without bound. A full TCP_PCB pool recycles the oldest TIME-WAIT connection, as lwIP intends. */
#define MEMP_NUM_TCP_PCB 8192
#define MEMP_NUM_TCP_PCB_LISTEN 1024
#define MEMP_NUM_TCP_SEG 262144
#define MEMP_NUM_UDP_PCB 4096
#define MEMP_NUM_RAW_PCB 1024
#define MEMP_NUM_PBUF 262144
#define MEMP_NUM_ARP_QUEUE 1024
#define MEMP_NUM_ND6_QUEUE 512 /* all neighbours together; lwIP has no limit per neighbour, the pool is the only one */
#define MEMP_NUM_IGMP_GROUP 256
#define MEMP_NUM_MLD6_GROUP 256
#define MEMP_NUM_SYS_TIMEOUT 64
/* A literal: lwIP's default is derived from TCP_MSS. Received frames never come from this pool. */
#define PBUF_POOL_BUFSIZE 2048
#define PBUF_POOL_SIZE 1024
/* ESP copies and encrypts into a fresh buffer in one pass, so head room in front of a packet would buy nothing. */
#define PBUF_LINK_ENCAPSULATION_HLEN 0

/* ---- Link layer ---- */
#define LWIP_ETHERNET 1
#define LWIP_ARP 1
#define ARP_TABLE_SIZE 256
#define ARP_QUEUEING 1
#define ARP_QUEUE_LEN 32 /* per neighbour: a large fragmented datagram survives the first resolution */
#define LWIP_NETIF_HWADDRHINT 1 /* shows the sending PCB to netif->output (netif->hints), and caches its ARP entry */
#define LWIP_NETIF_TX_SINGLE_PBUF 1 /* TCP segments are contiguous: a transform reads one span */
#define LWIP_NETIF_EXT_STATUS_CALLBACK 1
#define LWIP_NUM_NETIF_CLIENT_DATA 2
/* The loopback interface is a netif of ours with policy on it; lwIP's own would send around the choke layer. */
#define LWIP_HAVE_LOOPIF 0
#define LWIP_NETIF_LOOPBACK 1
#define LWIP_LOOPBACK_MAX_PBUFS 1024

/* ---- IPv4 ---- */
#define LWIP_IPV4 1
#define LWIP_ICMP 1
#define LWIP_IGMP 1
#define LWIP_MULTICAST_TX_OPTIONS 1
#define LWIP_BROADCAST_PING 0 /* RFC 1122 §3.2.2.6 leaves it open; answering is an amplifier */
#define LWIP_MULTICAST_PING 0
#define LWIP_DHCP 0
#define LWIP_AUTOIP 0
#define LWIP_DNS 0
#define IP_DEFAULT_TTL 64
/* Forwarding is compiled in and switched at run time by latchkey_ip4_canforward. A one-armed gateway sends a
 * decapsulated packet out of the interface it came in by. */
#define IP_FORWARD 1
#define IP_FORWARD_ALLOW_TX_ON_RX_NETIF 1
/* Both must be on for the redirected calls to exist; the code behind them is our fragmenter and reassembly, so lwIP's
 * limits on reassembly are never reached. */
#define IP_REASSEMBLY 1
#define IP_FRAG 1
/* SO_BROADCAST is needed to send to a broadcast address, as on every BSD. */
#define IP_SOF_BROADCAST 1

/* ---- IPv6 ---- */
#define LWIP_IPV6 1
#define LWIP_ICMP6 1
#define LWIP_IPV6_MLD 1
#define LWIP_IPV6_FORWARD 1
#define LWIP_IPV6_REASS 1
#define LWIP_IPV6_FRAG 1
#define IPV6_FRAG_COPYHEADER 1 /* lwip_init() asserts without it on 64-bit machines */
#define LWIP_IPV6_NUM_ADDRESSES 8
/* Addresses are given by the operator or by IKE and must be usable at once: detection would leave each of them
 * tentative for a second, and the first datagrams of a tunnel would find no source address. */
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
/* Routes are ours. Router advertisements neither change the MTU nor fill tables (a table has one slot at least). */
#define LWIP_ND6_ALLOW_RA_UPDATES 0
#define LWIP_ND6_NUM_ROUTERS 1
#define LWIP_ND6_NUM_PREFIXES 1
#define LWIP_ND6_NUM_NEIGHBORS 120 /* at most 127: its loops count in signed 8-bit numbers and never end beyond that */
#define LWIP_ND6_NUM_DESTINATIONS 120 /* the same */
#define LWIP_ND6_QUEUEING 1
#define LWIP_ICMP6_HL 64

/* ---- UDP and raw ---- */
#define LWIP_UDP 1
#define UDP_TTL 64
#define LWIP_RAW 1
#define RAW_TTL 64
#define SO_REUSE 1
#define SO_REUSE_RXTOALL 1

/* ---- TCP ---- */
#define LWIP_TCP 1
#define TCP_TTL 64
/* For an MTU of 9000 less IPv4 and TCP headers. The size in use is the least of this, the interface's MTU and the
 * peer's offer, in tcp_eff_send_mss_netif, which is redirected to take IPsec's overhead off as well. */
#define TCP_MSS 8960
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 3
/* 256 KiB: at 1 MiB tcp_output's walk over the unacknowledged list costs more than half of the throughput. */
#define TCP_WND (256 * 1024)
#define TCP_SND_BUF (256 * 1024)
#define TCP_SND_QUEUELEN 1024 /* pbufs: twice a full send buffer in segments of 536 bytes */
#define TCP_SNDLOWAT 16384 /* lwIP demands < 65535 - 4 * TCP_MSS */
#define TCP_WND_UPDATE_THRESHOLD (TCP_WND / 8)
/* 0 bytes = no limit but the window itself; the pbuf limit stops a peer that fills the window with one-byte segments,
 * each of which pins a frame buffer. */
#define TCP_QUEUE_OOSEQ 1
#define TCP_OOSEQ_MAX_BYTES 0
#define TCP_OOSEQ_MAX_PBUFS 512
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_TIMESTAMPS 1
#define TCP_LISTEN_BACKLOG 1
#define TCP_DEFAULT_LISTEN_BACKLOG 0xff
#define LWIP_TCP_KEEPALIVE 1
#define LWIP_TCP_PCB_NUM_EXT_ARGS 3
#define LWIP_RANDOMIZE_INITIAL_LOCAL_PORTS 1
/* The fast timer runs every 50 ms (delayed ACK), the slow one every 100 ms, and RTO counts slow ticks. The first RTO
 * stays 3 s (lwIP computes it from the tick). The smallest becomes 200-300 ms instead of lwIP's 1.0-1.5 s, which is
 * what recovery from loss needs: measured 2 to 6 times the throughput at 1-3 % loss. Shorter ticks bring it too close
 * to the round trip. Keep-alive, TIME-WAIT, FIN-WAIT and SYN-RECEIVED are divided by the tick and keep their real time;
 * zero-window probes are in ticks: 0.3 s to 12 s. */
#define TCP_TMR_INTERVAL 50
#define TCP_MSL 30000 /* TIME-WAIT lasts 60 s, as on the BSDs and Linux, not RFC 9293's 4 minutes */
#define TCP_MAXRTX 12
#define TCP_SYNMAXRTX 6 /* SYNs are repeated without back-off: every 3 s for 21 s */

/* ---- Checksums in software. Compilers vectorise version 2 (50 ns for 1460 bytes); version 3 is slower. ---- */
#define LWIP_CHKSUM_ALGORITHM 2

/* ---- Statistics, which are also the counts behind the limits above ---- */
#define LWIP_STATS 1
#define LWIP_STATS_LARGE 1
#define MEMP_STATS 1
#define LWIP_STATS_DISPLAY 0
#define MIB2_STATS 0

/* ---- Our routes, gateways, initial sequence numbers (declared there, defined by the host) ---- */
#define LWIP_HOOK_FILENAME "latchkey_hooks.h"
#define LWIP_HOOK_IP4_ROUTE_SRC(src, dest) latchkey_ip4_route((src), (dest))
#define LWIP_HOOK_IP4_CANFORWARD(p, dest) latchkey_ip4_canforward((p), (dest))
#define LWIP_HOOK_ETHARP_GET_GW(netif, dest) latchkey_etharp_gateway((netif), (dest))
#define LWIP_HOOK_IP6_ROUTE(src, dest) latchkey_ip6_route((src), (dest))
#define LWIP_HOOK_ND6_GET_GW(netif, dest) latchkey_nd6_gateway((netif), (dest))
#define LWIP_HOOK_TCP_ISN(local_ip, local_port, remote_ip, remote_port) \
    latchkey_tcp_isn((local_ip), (local_port), (remote_ip), (remote_port))

#endif
