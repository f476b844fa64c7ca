/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The algorithms that Latchkey knows, by name and by number, as the <netdb.h> of Solaris offers them; sources that
 * include <netdb.h> for them find them there with include/compat in front. Link with latchkey-ipsec. That an
 * algorithm is known does not mean that a host can run it: SADB_REGISTER, or `latchkey algs`, tells.
 */
#ifndef LATCHKEY_ALGORITHMS_H
#define LATCHKEY_ALGORITHMS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Name spaces, "protocols" in the words of Solaris: authentication and encryption; compression is Latchkey's own. */
#define IPSEC_PROTO_AH 2
#define IPSEC_PROTO_ESP 3
#define IPSEC_PROTO_IPCOMP 9

#define ALG_FLAG_VALID 0x01 /* Latchkey has the transform */
#define ALG_FLAG_COUNTERMODE 0x02
#define ALG_FLAG_COMBINED 0x04 /* encrypts and authenticates */
#define ALG_FLAG_CCM 0x08
#define ALG_FLAG_GCM 0x10

typedef struct ipsecalgent {
    char **a_names;      /* the name, then its aliases, then NULL */
    int a_proto_num;     /* IPSEC_PROTO_* */
    int a_alg_num;       /* SADB_AALG_*, SADB_EALG_*, SADB_X_CALG_* */
    char *a_mech_name;   /* the mechanism's name in PKCS #11; "" if it has none */
    int *a_block_sizes;  /* bytes, then 0 */
    int *a_key_sizes;    /* bits, without salt; with an increment: default, smallest, largest; then 0 */
    int a_key_increment; /* bits; 0: a_key_sizes is a list */
    int *a_mech_params;  /* bytes of IV, of ICV and of salt, then 0 */
    int a_alg_flags;     /* ALG_FLAG_* */
} ipsecalgent_t;

#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/*
 * Names are compared without regard to case. NULL: *errnop (unless errnop is NULL) is ENOENT (no such algorithm),
 * EINVAL (no such protocol) or ENOMEM. The entry is the caller's, to be given back with freeipsecalgent().
 */
struct ipsecalgent *getipsecalgbyname(const char *alg_name, int protocol_num, int *errnop);
struct ipsecalgent *getipsecalgbynum(int alg_num, int protocol_num, int *errnop);
void freeipsecalgent(struct ipsecalgent *entry);

/* "AH", "ESP", "IPCOMP" to a number and back. -1, NULL: unknown. The name is the caller's, to be freed with free(3). */
int getipsecprotobyname(const char *proto_name);
char *getipsecprotobynum(int proto_num);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
