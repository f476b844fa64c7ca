/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PF_KEY messages by function call, with the names and signatures of ipsec-tools' libipsec, so that sources written for
 * it compile unchanged. Link with latchkey-ipsec. The key socket is one of the default Latchkey host ($LATCHKEY, see
 * <latchkey/host.h>).
 *
 * Functions that send return the number of bytes sent, or -1; ipsec_strerror() then has the reason, and errno is
 * EINVAL or what the system call said. When they return, the host has decided and its answer can be received at once.
 *
 * SPIs are in network byte order, ports of NAT traversal in host byte order, lengths of keys in bytes, prefix lengths in
 * bits.
 */
#ifndef LATCHKEY_LIBPFKEY_H
#define LATCHKEY_LIBPFKEY_H

#include <net/pfkeyv2.h>
#include <netinet6/ipsec.h>

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bases of policy priorities (lower values come first), and how far from them an offset may reach. */
#define PRIORITY_LOW 0xC0000000
#define PRIORITY_DEFAULT 0x80000000
#define PRIORITY_HIGH 0x40000000
#define PRIORITY_OFFSET_POSITIVE_MAX 0x3fffffff
#define PRIORITY_OFFSET_NEGATIVE_MAX 0x40000000

#ifndef IPPROTO_IPV4
#define IPPROTO_IPV4 IPPROTO_IPIP
#endif
#ifndef IPPROTO_IPCOMP
#define IPPROTO_IPCOMP IPPROTO_COMP
#endif
#ifndef IPPROTO_MH
#define IPPROTO_MH 135
#endif

/* What pfkey_send_add2() and pfkey_send_update2() send. Zero means "not given". */
struct pfkey_send_sa_args {
    int so;
    unsigned int type;   /* set by the two functions */
    unsigned int satype; /* SADB_SATYPE_* */
    unsigned int mode;   /* IPSEC_MODE_* */
    struct sockaddr *src;
    struct sockaddr *dst;
    uint32_t spi; /* network byte order */
    uint32_t reqid;
    unsigned int wsize;             /* replay window, packets; beyond 255 it goes into SADB_X_EXT_SA_REPLAY */
    char *keymat;                   /* the encryption key, then the authentication key */
    unsigned int e_type, e_keylen;  /* for IPComp the compression algorithm */
    unsigned int a_type, a_keylen;
    unsigned int flags;             /* sadb_sa_flags */
    uint32_t l_alloc;               /* the hard lifetime; see pfkey_set_softrate() for the soft one */
    uint32_t l_bytes;
    uint32_t l_addtime;
    uint32_t l_usetime;
    uint32_t seq;
    uint8_t l_natt_type;            /* 2: ESP in UDP (RFC 3948) */
    uint16_t l_natt_sport, l_natt_dport;
    struct sockaddr *l_natt_oa;
    uint16_t l_natt_frag;
    uint8_t ctxdoi, ctxalg;
    char *ctxstr;
    uint16_t ctxstrlen;
};

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* What this library can send. */
extern int libipsec_opt;
#define LIBIPSEC_OPT_NATT 0x01
#define LIBIPSEC_OPT_FRAG 0x02
#define LIBIPSEC_OPT_SEC_CTX 0x04

/* ---- the socket ---- */

/* A key socket with large buffers; -1 and errno EAFNOSUPPORT if there is no host. */
int pfkey_open(void);
void pfkey_close(int so);

/* Enlarges the receive buffer to `kib` KiB if it is smaller; returns its size in KiB, -1 on failure. */
int pfkey_set_buffer_size(int so, int kib);

int pfkey_send(int so, struct sadb_msg *msg, int len);

/* The next message, to be freed with free(3). It waits, unless the socket is non-blocking. NULL on failure. */
struct sadb_msg *pfkey_recv(int so);

/* ---- reading messages ---- */

/*
 * Fills mhp[0 to SADB_EXT_MAX] with the message and its extensions, NULL where there is none. Private extensions of
 * <net/pfkeyv2.h> have no place there and are passed over. -1: it is malformed, or has an extension twice, or one that
 * is unknown. As many bytes as sadb_msg_len says must be readable.
 */
int pfkey_align(struct sadb_msg *msg, char **mhp);

/* Whether the message that pfkey_align() took apart has a version, type, SA type and addresses that go together. */
int pfkey_check(char **mhp);

/* ---- algorithms that the host has, as SADB_REGISTER told ---- */

/* Receives the answer to pfkey_send_register() and keeps its lists for the functions below. */
int pfkey_recv_register(int so);
/* The same for a message that was received already, with its length in bytes. */
int pfkey_set_supported(struct sadb_msg *msg, int len);

/* Key lengths in bits. The first takes SADB_EXT_SUPPORTED_AUTH or _ENCRYPT, the second an SA type. */
int ipsec_check_keylen(unsigned int supported, unsigned int alg_id, unsigned int keylen);
int ipsec_check_keylen2(unsigned int satype, unsigned int alg_id, unsigned int keylen);
int ipsec_get_keylen(unsigned int supported, unsigned int alg_id, struct sadb_alg *alg);

/* ---- security associations ---- */

/*
 * Soft lifetimes are sent as a share of the hard ones, in per cent, 80 at first. `type` is SADB_X_LIFETIME_*; a rate of
 * 0 or above 100 means 100. The first returns 0 on success, the second the rate, or ~0.
 */
unsigned int pfkey_set_softrate(unsigned int type, unsigned int rate);
unsigned int pfkey_get_softrate(unsigned int type);

int pfkey_send_getspi(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst,
                      uint32_t min, uint32_t max, uint32_t reqid, uint32_t seq);
int pfkey_send_getspi_nat(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst,
                          uint8_t natt_type, uint16_t sport, uint16_t dport, uint32_t min, uint32_t max,
                          uint32_t reqid, uint32_t seq);
int pfkey_send_update2(struct pfkey_send_sa_args *args);
int pfkey_send_add2(struct pfkey_send_sa_args *args);
int pfkey_send_delete(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst,
                      uint32_t spi);
int pfkey_send_delete_all(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst);
int pfkey_send_get(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst,
                   uint32_t spi);
int pfkey_send_register(int so, unsigned int satype);
int pfkey_send_flush(int so, unsigned int satype);
int pfkey_send_dump(int so, unsigned int satype);
int pfkey_send_promisc_toggle(int so, int flag);

/* Older forms of the add2 and update2 functions. */
int pfkey_send_update(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst,
                      uint32_t spi, uint32_t reqid, unsigned int wsize, char *keymat, unsigned int e_type,
                      unsigned int e_keylen, unsigned int a_type, unsigned int a_keylen, unsigned int flags,
                      uint32_t l_alloc, uint64_t l_bytes, uint64_t l_addtime, uint64_t l_usetime, uint32_t seq);
int pfkey_send_update_nat(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst,
                          uint32_t spi, uint32_t reqid, unsigned int wsize, char *keymat, unsigned int e_type,
                          unsigned int e_keylen, unsigned int a_type, unsigned int a_keylen, unsigned int flags,
                          uint32_t l_alloc, uint64_t l_bytes, uint64_t l_addtime, uint64_t l_usetime, uint32_t seq,
                          uint8_t l_natt_type, uint16_t l_natt_sport, uint16_t l_natt_dport,
                          struct sockaddr *l_natt_oa, uint16_t l_natt_frag);
int pfkey_send_add(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst,
                   uint32_t spi, uint32_t reqid, unsigned int wsize, char *keymat, unsigned int e_type,
                   unsigned int e_keylen, unsigned int a_type, unsigned int a_keylen, unsigned int flags,
                   uint32_t l_alloc, uint64_t l_bytes, uint64_t l_addtime, uint64_t l_usetime, uint32_t seq);
int pfkey_send_add_nat(int so, unsigned int satype, unsigned int mode, struct sockaddr *src, struct sockaddr *dst,
                       uint32_t spi, uint32_t reqid, unsigned int wsize, char *keymat, unsigned int e_type,
                       unsigned int e_keylen, unsigned int a_type, unsigned int a_keylen, unsigned int flags,
                       uint32_t l_alloc, uint64_t l_bytes, uint64_t l_addtime, uint64_t l_usetime, uint32_t seq,
                       uint8_t l_natt_type, uint16_t l_natt_sport, uint16_t l_natt_dport, struct sockaddr *l_natt_oa,
                       uint16_t l_natt_frag);

/* ---- policies: `policy` is what ipsec_set_policy() made, `policylen` what ipsec_get_policylen() says ---- */

int pfkey_send_spdadd(int so, struct sockaddr *src, unsigned int prefs, struct sockaddr *dst, unsigned int prefd,
                      unsigned int proto, char *policy, int policylen, uint32_t seq);
int pfkey_send_spdadd2(int so, struct sockaddr *src, unsigned int prefs, struct sockaddr *dst, unsigned int prefd,
                       unsigned int proto, uint64_t ltime, uint64_t vtime, char *policy, int policylen, uint32_t seq);
int pfkey_send_spdupdate(int so, struct sockaddr *src, unsigned int prefs, struct sockaddr *dst, unsigned int prefd,
                         unsigned int proto, char *policy, int policylen, uint32_t seq);
int pfkey_send_spdupdate2(int so, struct sockaddr *src, unsigned int prefs, struct sockaddr *dst, unsigned int prefd,
                          unsigned int proto, uint64_t ltime, uint64_t vtime, char *policy, int policylen,
                          uint32_t seq);
/* These two take a policy without requests. */
int pfkey_send_spddelete(int so, struct sockaddr *src, unsigned int prefs, struct sockaddr *dst, unsigned int prefd,
                         unsigned int proto, char *policy, int policylen, uint32_t seq);
int pfkey_send_spdsetidx(int so, struct sockaddr *src, unsigned int prefs, struct sockaddr *dst, unsigned int prefd,
                         unsigned int proto, char *policy, int policylen, uint32_t seq);
int pfkey_send_spddelete2(int so, uint32_t spid);
int pfkey_send_spdget(int so, uint32_t spid);
int pfkey_send_spdflush(int so);
int pfkey_send_spddump(int so);
/* `local` and `remote`: the key manager's own end points; `policy` has pairs of requests, the old and the new one. */
int pfkey_send_migrate(int so, struct sockaddr *local, struct sockaddr *remote, struct sockaddr *src,
                       unsigned int prefs, struct sockaddr *dst, unsigned int prefd, unsigned int proto, char *policy,
                       int policylen, uint32_t seq);

/* ---- printing, on standard output ---- */

/* An SA or a policy of a dump, as setkey(8) -D and -DP show them; with the ports as with -p. */
void pfkey_sadump(struct sadb_msg *msg);
void pfkey_sadump_withports(struct sadb_msg *msg);
void pfkey_spdump(struct sadb_msg *msg);
void pfkey_spdump_withports(struct sadb_msg *msg);

/* Every field of a message, as setkey(8) -v does. */
void kdebug_sadb(struct sadb_msg *msg);

/* In hexadecimal: groups of 4 bytes, 32 to a line. */
void ipsec_hexdump(const void *buf, int len);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

/* ---- small helpers that sources for libipsec rely on ---- */

static inline unsigned int latchkey_natt_port(const void *ext)
{
    const unsigned char *port = (const unsigned char *)&((const struct sadb_x_nat_t_port *)ext)->sadb_x_nat_t_port_port;

    return (unsigned int)port[0] << 8 | port[1];
}

/* The port of a NAT_T_SPORT or _DPORT extension in host byte order; the type of a NAT_T_TYPE extension, 0 for NULL. */
#define PFKEY_ADDR_X_PORT(ext) (latchkey_natt_port(ext))
#define PFKEY_ADDR_X_NATTYPE(ext) \
    ((ext) != NULL && ((const struct sadb_x_nat_t_type *)(const void *)(ext))->sadb_x_nat_t_type_type)

#ifndef __SYSDEP_SA_LEN__
#define __SYSDEP_SA_LEN__
static inline uint8_t sysdep_sa_len(const struct sockaddr *sa)
{
    return sa->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}
#endif

#ifdef __cplusplus
}
#endif

#endif
