/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A source as the BSDs have them: the headers, types and calls of a key daemon, of inetd's socket policies and of a
 * Solaris program that asks for algorithms. That it compiles as C11 without a warning is one half of the test;
 * bsd_source.sh runs it against a host.
 */
#include <sys/param.h>
#include <sys/types.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <arpa/inet.h>
#include <net/pfkeyv2.h>
#include <netdb.h>
#include <netinet6/ipsec.h>

#include "libpfkey.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "%s: %s (errno: %s)\n", what, ipsec_strerror(), strerror(errno));
    exit(1);
}

static void need(int holds, const char *what)
{
    if (!holds)
        die(what);
}

static struct sockaddr *name_of(struct sockaddr_in *sin, const char *text, u_int16_t port)
{
    memset(sin, 0, sizeof(*sin));
    sin->sin_family = AF_INET;
    sin->sin_port = htons(port);
    need(inet_aton(text, &sin->sin_addr), text);
    return (struct sockaddr *)sin;
}

/* As a key daemon's event loop does it: without waiting, first the header, then all. */
static struct sadb_msg *next_message(int so, caddr_t *mhp)
{
    struct sadb_msg header, *msg;

    need(recv(so, &header, sizeof(header), MSG_PEEK | MSG_DONTWAIT) == sizeof(header), "an answer at once");
    msg = pfkey_recv(so);
    need(msg != NULL, "pfkey_recv");
    need(PFKEY_UNUNIT64(msg->sadb_msg_len) == PFKEY_UNUNIT64(header.sadb_msg_len), "the same message");
    need(pfkey_align(msg, mhp) == 0, "pfkey_align");
    need(pfkey_check(mhp) == 0, "pfkey_check");
    return msg;
}

/* The answer to our own message; what the host tells everybody else about is skipped. */
static struct sadb_msg *answer(int so, u_int type, u_int32_t seq, caddr_t *mhp)
{
    for (;;) {
        struct sadb_msg *msg = next_message(so, mhp);

        if (msg->sadb_msg_type == type && msg->sadb_msg_seq == seq && msg->sadb_msg_pid == (u_int32_t)getpid()) {
            if (msg->sadb_msg_errno != 0)
                fprintf(stderr, "the host: %s\n", strerror(msg->sadb_msg_errno));
            need(msg->sadb_msg_errno == 0, "an answer without an error");
            return msg;
        }
        free(msg);
    }
}

static int open_and_register(void)
{
    static const u_int satypes[] = { SADB_SATYPE_AH, SADB_SATYPE_ESP, SADB_X_SATYPE_IPCOMP };
    struct sadb_alg alg;
    size_t i;
    int so = pfkey_open();

    need(so >= 0, "pfkey_open");
    need(pfkey_set_buffer_size(so, 256) > 0, "pfkey_set_buffer_size");
    need(ipsec_check_keylen(SADB_EXT_SUPPORTED_ENCRYPT, SADB_X_EALG_AESCBC, 128) < 0, "no list yet");
    for (i = 0; i < sizeof(satypes) / sizeof(satypes[0]); i++) {
        need(pfkey_send_register(so, satypes[i]) > 0, "pfkey_send_register");
        need(pfkey_recv_register(so) == 0, "pfkey_recv_register");
    }
    need(ipsec_check_keylen(SADB_EXT_SUPPORTED_ENCRYPT, SADB_X_EALG_AESCBC, 128) == 0, "AES-128");
    need(ipsec_check_keylen2(SADB_SATYPE_AH, SADB_AALG_SHA1HMAC, 160) == 0, "HMAC-SHA1");
    need(ipsec_check_keylen2(SADB_SATYPE_ESP, SADB_X_EALG_AESCBC, 100) < 0, "no AES-100");
    need(ipsec_get_keylen(SADB_EXT_SUPPORTED_ENCRYPT, SADB_X_EALG_AESCBC, &alg) == 0, "ipsec_get_keylen");
    need(alg.sadb_alg_minbits == 128 && alg.sadb_alg_maxbits == 256, "128 to 256 bits");
    return so;
}

/* What a key daemon does when a negotiation is over: the inbound SA from its larval one, then the outbound one. */
static void negotiate(int so, struct sockaddr *us, struct sockaddr *peer, u_int32_t seq)
{
    caddr_t mhp[SADB_EXT_MAX + 1];
    char keymat[16 + 20];
    struct pfkey_send_sa_args sa_args;
    struct sadb_msg *msg;
    u_int32_t spi;
    size_t i;

    for (i = 0; i < sizeof(keymat); i++)
        keymat[i] = (char)(i + 1);
    need(pfkey_send_getspi(so, SADB_SATYPE_ESP, IPSEC_MODE_TRANSPORT, peer, us, 0, 0, 0, seq) > 0,
         "pfkey_send_getspi");
    msg = answer(so, SADB_GETSPI, seq, mhp);
    spi = ((struct sadb_sa *)(void *)mhp[SADB_EXT_SA])->sadb_sa_spi;
    need(ntohl(spi) > 255, "an SPI");
    free(msg);

    memset(&sa_args, 0, sizeof(sa_args));
    sa_args.so = so;
    sa_args.satype = SADB_SATYPE_ESP;
    sa_args.mode = IPSEC_MODE_TRANSPORT;
    sa_args.src = peer;
    sa_args.dst = us;
    sa_args.spi = spi;
    sa_args.wsize = 4;
    sa_args.keymat = (caddr_t)keymat;
    sa_args.e_type = SADB_X_EALG_AESCBC;
    sa_args.e_keylen = 16;
    sa_args.a_type = SADB_AALG_SHA1HMAC;
    sa_args.a_keylen = 20;
    sa_args.flags = SADB_X_EXT_CYCSEQ;
    sa_args.l_addtime = 3600;
    sa_args.seq = seq;
    need(pfkey_send_update2(&sa_args) > 0, "pfkey_send_update2");
    free(answer(so, SADB_UPDATE, seq, mhp));

    sa_args.src = us;
    sa_args.dst = peer;
    sa_args.spi = htonl(0x2000);
    need(pfkey_send_add2(&sa_args) > 0, "pfkey_send_add2");
    free(answer(so, SADB_ADD, seq, mhp));

    need(pfkey_send_get(so, SADB_SATYPE_ESP, IPSEC_MODE_TRANSPORT, us, peer, htonl(0x2000)) > 0, "pfkey_send_get");
    msg = answer(so, SADB_GET, 0, mhp);
    need(((struct sadb_lifetime *)(void *)mhp[SADB_EXT_LIFETIME_SOFT])->sadb_lifetime_addtime == 2880, "80 per cent");
    need(PFKEY_ADDR_SADDR(mhp[SADB_EXT_ADDRESS_SRC])->sa_family == AF_INET, "an address");
    free(msg);
}

static void add_policies(int so, struct sockaddr *us, struct sockaddr *peer)
{
    static char *const texts[] = { "out ipsec esp/transport//require", "in ipsec esp/transport//require" };
    caddr_t mhp[SADB_EXT_MAX + 1];
    u_int32_t i;

    for (i = 0; i < 2; i++) {
        ipsec_policy_t policy = ipsec_set_policy(texts[i], (int)strlen(texts[i]));

        need(policy != NULL, texts[i]);
        need(pfkey_send_spdadd(so, i == 0 ? us : peer, 32, i == 0 ? peer : us, 32, IPSEC_ULPROTO_ANY, policy,
                               ipsec_get_policylen(policy), 50 + i) > 0,
             "pfkey_send_spdadd");
        free(answer(so, SADB_X_SPDADD, 50 + i, mhp));
        free(policy);
    }
}

static void dump(int so, int policies)
{
    caddr_t mhp[SADB_EXT_MAX + 1];
    u_int32_t seq = 1;

    need((policies ? pfkey_send_spddump(so) : pfkey_send_dump(so, SADB_SATYPE_UNSPEC)) > 0, "dump");
    while (seq != 0) {
        struct sadb_msg *msg = next_message(so, mhp);

        need(msg->sadb_msg_errno == 0, "an entry");
        if (policies)
            pfkey_spdump(msg);
        else
            pfkey_sadump(msg);
        seq = msg->sadb_msg_seq;
        free(msg);
    }
}

static void forget(int so, struct sockaddr *us, struct sockaddr *peer)
{
    caddr_t mhp[SADB_EXT_MAX + 1];

    need(pfkey_send_delete(so, SADB_SATYPE_ESP, IPSEC_MODE_TRANSPORT, us, peer, htonl(0x2000)) > 0,
         "pfkey_send_delete");
    free(answer(so, SADB_DELETE, 0, mhp));
    need(pfkey_send_delete_all(so, SADB_SATYPE_ESP, IPSEC_MODE_ANY, peer, us) > 0, "pfkey_send_delete_all");
    free(answer(so, SADB_DELETE, 0, mhp));
    need(pfkey_send_spdflush(so) > 0, "pfkey_send_spdflush");
    free(answer(so, SADB_X_SPDFLUSH, 0, mhp));
    need(pfkey_send_flush(so, SADB_SATYPE_UNSPEC) > 0, "pfkey_send_flush");
    free(answer(so, SADB_FLUSH, 0, mhp));
}

/* What the host refuses at once is the call's failure. */
static void be_refused(int so)
{
    struct sadb_msg broken;

    memset(&broken, 0, sizeof(broken));
    broken.sadb_msg_version = PF_KEY_V2;
    broken.sadb_msg_type = SADB_DUMP;
    broken.sadb_msg_len = 3;
    need(pfkey_send(so, &broken, sizeof(broken)) < 0 && errno == EINVAL, "EINVAL");
    need(strcmp(ipsec_strerror(), strerror(EINVAL)) == 0, "the system's words");
}

/* inetd(8) and telnetd(8): a policy for a socket. */
static void setpolicy(int so, int family, const char *text)
{
    ipsec_policy_t policy = ipsec_set_policy(text, (int)strlen(text));

    need(policy != NULL, text);
    if (family == AF_INET)
        need(setsockopt(so, IPPROTO_IP, IP_IPSEC_POLICY, policy, (socklen_t)ipsec_get_policylen(policy)) == 0,
             "setsockopt(IP_IPSEC_POLICY)");
    else
        need(setsockopt(so, IPPROTO_IPV6, IPV6_IPSEC_POLICY, policy, (socklen_t)ipsec_get_policylen(policy)) == 0,
             "setsockopt(IPV6_IPSEC_POLICY)");
    free(policy);
}

static void set_socket_policies(void)
{
    static const int families[] = { AF_INET, AF_INET6 };
    size_t i;

    for (i = 0; i < 2; i++) {
        int so = socket(families[i], SOCK_DGRAM, 0);

        need(so >= 0, "socket");
        setpolicy(so, families[i], "in bypass");
        setpolicy(so, families[i], "out bypass");
        close(so);
    }
}

static void look_up_algorithms(void)
{
    int err = -1;
    struct ipsecalgent *aes = getipsecalgbyname("aes", IPSEC_PROTO_ESP, &err);

    need(aes != NULL && err == 0 && aes->a_alg_num == SADB_X_EALG_AES, "getipsecalgbyname");
    freeipsecalgent(aes);
    need(getipsecalgbynum(200, getipsecprotobyname("AH"), &err) == NULL && err == ENOENT, "getipsecalgbynum");
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "all";
    struct sockaddr_in us, peer;
    int so;

    if (strcmp(mode, "nohost") == 0) {
        need(pfkey_open() < 0 && errno == EAFNOSUPPORT, "no host");
        puts(ipsec_strerror());
        return 0;
    }
    so = open_and_register();
    if (strcmp(mode, "sadump") == 0 || strcmp(mode, "spdump") == 0) {
        dump(so, mode[1] == 'p');
        return 0;
    }
    /* Ports in addresses of SAs mean nothing without NAT traversal: a key daemon leaves its own in. */
    negotiate(so, name_of(&us, "10.0.0.1", 500), name_of(&peer, "10.0.0.2", 500), 77);
    name_of(&us, "10.0.0.1", 0);
    name_of(&peer, "10.0.0.2", 0);
    add_policies(so, (struct sockaddr *)&us, (struct sockaddr *)&peer);
    be_refused(so);
    look_up_algorithms();
    if (strcmp(mode, "sockets") == 0)
        set_socket_policies();
    if (strcmp(mode, "keep") != 0)
        forget(so, (struct sockaddr *)&us, (struct sockaddr *)&peer);
    pfkey_close(so);
    return 0;
}
