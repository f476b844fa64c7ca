/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * UDP between Latchkey hosts.
 *
 *   udp_echo serve PORT              sends every datagram back; for ever
 *   udp_echo send ADDRESS PORT TEXT  sends TEXT, prints what comes back; exit status 1 after a second of silence
 *
 * Each runs on the host that $LATCHKEY names (its control socket).
 */
#include <latchkey/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { largest = 65535 };

static int stop(const char *what)
{
    perror(what);
    return 1;
}

/* "10.0.0.1" or "fd00::1", and a port, as a socket address. Its size; 0 if there is no such address. */
static socklen_t parse(const char *address, const char *port, struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};

    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        memcpy(out, &v4, sizeof v4);
        return sizeof v4;
    }
    if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1) {
        memcpy(out, &v6, sizeof v6);
        return sizeof v6;
    }
    return 0;
}

static int serve(latchkey_host *host, const char *port)
{
    struct sockaddr_storage name, peer;
    socklen_t size = parse("::", port, &name); /* an IPv6 socket takes IPv4, too */
    static char data[largest];
    int fd = latchkey_socket(host, AF_INET6, SOCK_DGRAM, 0);

    if (fd < 0 || latchkey_bind(host, fd, (struct sockaddr *)&name, size) < 0)
        return stop("udp_echo: bind");
    for (;;) {
        ssize_t got;

        size = sizeof peer;
        got = latchkey_recvfrom(host, fd, data, sizeof data, 0, (struct sockaddr *)&peer, &size);
        if (got < 0)
            return stop("udp_echo: recvfrom");
        if (latchkey_sendto(host, fd, data, (size_t)got, 0, (struct sockaddr *)&peer, size) < 0)
            perror("udp_echo: sendto"); /* one that cannot be sent is no reason to stop */
    }
}

static int send_text(latchkey_host *host, const char *address, const char *port, const char *text)
{
    const struct timeval patience = {.tv_sec = 1};
    struct sockaddr_storage name;
    socklen_t size = parse(address, port, &name);
    static char data[largest];
    ssize_t got;
    int fd;

    if (size == 0) {
        fprintf(stderr, "udp_echo: %s is not an address\n", address);
        return 2;
    }
    fd = latchkey_socket(host, name.ss_family, SOCK_DGRAM, 0);
    if (fd < 0 || latchkey_connect(host, fd, (struct sockaddr *)&name, size) < 0)
        return stop("udp_echo: connect");
    if (latchkey_setsockopt(host, fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
        return stop("udp_echo: setsockopt");
    if (latchkey_send(host, fd, text, strlen(text), 0) < 0)
        return stop("udp_echo: send");
    got = latchkey_recv(host, fd, data, sizeof data, 0);
    if (got < 0)
        return stop("udp_echo: recv");
    printf("%.*s\n", (int)got, data);
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    int serves = argc == 3 && strcmp(argv[1], "serve") == 0;
    latchkey_host *host;
    int status;

    if (!serves && (argc != 5 || strcmp(argv[1], "send") != 0)) {
        fprintf(stderr, "usage: udp_echo serve PORT | udp_echo send ADDRESS PORT TEXT\n");
        return 2;
    }
    host = latchkey_host_open(NULL);
    if (host == NULL)
        return stop("udp_echo: no host ($LATCHKEY)");
    status = serves ? serve(host, argv[2]) : send_text(host, argv[2], argv[3], argv[4]);
    latchkey_host_close(host);
    return status;
}
