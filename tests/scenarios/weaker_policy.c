/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * weaker_policy ADDRESS PORT COUNT: on one UDP socket, COUNT times: send under the host's policy, then at once let the
 * socket bypass policy, then take that back. No datagram of these may leave in clear: what was sent before a call is
 * decided under the state before the call. At the end one datagram is sent under the bypass, to show that it works.
 */
#include <latchkey/socket.h>
#include <netinet6/ipsec.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int set(latchkey_host *host, int fd, uint16_t type)
{
    const struct sadb_x_policy policy = {.sadb_x_policy_len = sizeof policy / 8,
                                         .sadb_x_policy_exttype = SADB_X_EXT_POLICY,
                                         .sadb_x_policy_type = type,
                                         .sadb_x_policy_dir = IPSEC_DIR_OUTBOUND};

    return latchkey_setsockopt(host, fd, IPPROTO_IP, IP_IPSEC_POLICY, &policy, sizeof policy);
}

static int stop(const char *what)
{
    perror(what);
    return 1;
}

int main(int argc, char **argv)
{
    static const char secret[] = "CLEARTEXT-MARKER protected", open_text[] = "sent under bypass";
    struct sockaddr_in peer = {.sin_family = AF_INET};
    latchkey_host *host = latchkey_host_open(NULL);
    long count;
    int fd;

    if (argc != 4 || inet_pton(AF_INET, argv[1], &peer.sin_addr) != 1)
        return 2;
    peer.sin_port = htons((uint16_t)atoi(argv[2]));
    if (host == NULL)
        return stop("host");
    fd = latchkey_socket(host, AF_INET, SOCK_DGRAM, 0);
    if (fd < 0)
        return stop("socket");
    for (count = atol(argv[3]); count > 0; --count) {
        if (latchkey_sendto(host, fd, secret, sizeof secret, 0, (struct sockaddr *)&peer, sizeof peer) < 0)
            return stop("sendto");
        if (set(host, fd, IPSEC_POLICY_BYPASS) < 0)
            return stop("bypass");
        if (set(host, fd, IPSEC_POLICY_ENTRUST) < 0)
            return stop("entrust");
    }
    if (set(host, fd, IPSEC_POLICY_BYPASS) < 0
        || latchkey_sendto(host, fd, open_text, sizeof open_text, 0, (struct sockaddr *)&peer, sizeof peer) < 0)
        return stop("last");
    close(fd);
    latchkey_host_close(host);
    return 0;
}
