/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file over TCP between Latchkey hosts, with ordinary read(2) and write(2).
 *
 *   tcp_transfer receive PORT          takes one connection, writes what it carries to standard output
 *   tcp_transfer send ADDRESS PORT     sends standard input, then waits until the peer has taken all
 *
 * Each runs on the host that $LATCHKEY names (its control socket).
 */
#include <latchkey/socket.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { block = 65536 };

static int stop(const char *what)
{
    perror(what);
    return 1;
}

/* Copies until the end of `from`. 0, or -1 with errno. */
static int copy(int from, int to)
{
    static char data[block];
    ssize_t got, put, done;

    while ((got = read(from, data, sizeof data)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        for (done = 0; done < got; done += put) {
            put = write(to, data + done, (size_t)(got - done));
            if (put < 0 && errno != EINTR)
                return -1;
            if (put < 0)
                put = 0;
        }
    }
    return 0;
}

static int receive(latchkey_host *host, const char *port)
{
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
    const int on = 1;
    int listener = latchkey_socket(host, AF_INET6, SOCK_STREAM, 0), fd; /* takes IPv4, too */

    if (listener < 0 || latchkey_setsockopt(host, listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
        || latchkey_bind(host, listener, (struct sockaddr *)&name, sizeof name) < 0
        || latchkey_listen(host, listener, 1) < 0)
        return stop("tcp_transfer: listen");
    fd = latchkey_accept(host, listener, NULL, NULL);
    close(listener);
    if (fd < 0)
        return stop("tcp_transfer: accept");
    if (copy(fd, STDOUT_FILENO) < 0)
        return stop("tcp_transfer: receive");
    close(fd);
    return 0;
}

static int send_input(latchkey_host *host, const char *address, const char *port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
    int is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
    char byte;
    int fd;

    if (!is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) {
        fprintf(stderr, "tcp_transfer: %s is not an address\n", address);
        return 2;
    }
    fd = latchkey_socket(host, is_v4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    if (fd < 0)
        return stop("tcp_transfer: socket");
    if (latchkey_connect(host, fd, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
                         is_v4 ? sizeof v4 : sizeof v6) < 0)
        return stop("tcp_transfer: connect");
    if (copy(STDIN_FILENO, fd) < 0 || latchkey_shutdown(host, fd, SHUT_WR) < 0)
        return stop("tcp_transfer: send");
    /* The peer ends its side when it has everything. */
    if (read(fd, &byte, 1) < 0)
        return stop("tcp_transfer: the connection was lost");
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    int receives = argc == 3 && strcmp(argv[1], "receive") == 0;
    latchkey_host *host;
    int status;

    if (!receives && (argc != 4 || strcmp(argv[1], "send") != 0)) {
        fprintf(stderr, "usage: tcp_transfer receive PORT > FILE | tcp_transfer send ADDRESS PORT < FILE\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* write(2) on a lost connection is an error to report */
    host = latchkey_host_open(NULL);
    if (host == NULL)
        return stop("tcp_transfer: no host ($LATCHKEY)");
    status = receives ? receive(host, argv[2]) : send_input(host, argv[2], argv[3]);
    latchkey_host_close(host);
    return status;
}
