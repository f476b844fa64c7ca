/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sockets of a Latchkey host. The calls are those of <sys/socket.h> with the prefix latchkey_ and the host in front;
 * arguments, results and errno are the same. The differences, and why there are few:
 *
 *   - A socket is a real descriptor of the kernel (of AF_UNIX, the host holds the other end). So poll, select, epoll,
 *     fcntl, dup, fork, exec, close and passing it to another process are the kernel's own and need no wrapper.
 *     A descriptor that came from elsewhere works with any handle of the same host.
 *   - TCP: the descriptor carries the bytes: read, write, sendfile, splice and the rest work on it. To close it is
 *     close(2).
 *   - UDP and ICMP: a record on the descriptor has a header of its own, so use the functions below, not read and
 *     write. What the network says against a datagram that was sent earlier is told by SO_ERROR.
 *   - PF_KEY: sending returns when the host has decided and its answers can be received (recv(2) at once, without
 *     poll). A descriptor may also be written to with plain write(2); then the answers come a little later.
 *   - When the host ends, calls fail with ENETDOWN, and the descriptors report end of file.
 *   - No call raises SIGPIPE.
 */
#ifndef LATCHKEY_SOCKET_H
#define LATCHKEY_SOCKET_H

#include <latchkey/host.h>

#include <sys/socket.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A new socket: AF_INET or AF_INET6 with SOCK_STREAM or SOCK_DGRAM (IPPROTO_ICMP, IPPROTO_ICMPV6: for echo requests),
 * PF_KEY with SOCK_RAW and PF_KEY_V2. `type` may carry SOCK_NONBLOCK and SOCK_CLOEXEC. Who asks is noted now: a
 * socket keeps its privilege when the process gives its own up.
 *
 * AF_UNSPEC with SOCK_SEQPACKET: a descriptor of change events. Each recv(2) or read(2) takes one line of text, such as
 * "address add 10.0.0.1/24 dev net0", "route delete 10.1.0.0/16", "link net0 down". A reader that falls behind by more
 * than the descriptor's buffer loses events.
 */
int latchkey_socket(latchkey_host *host, int domain, int type, int protocol);

/* latchkey_socket(host, PF_KEY, SOCK_RAW | SOCK_CLOEXEC, PF_KEY_V2). */
int latchkey_pfkey_open(latchkey_host *host);

/*
 * Why the host refused the latest message on this PF_KEY socket that it refused: send() said only EINVAL, or an answer
 * only sadb_msg_errno. Text of one line, copied, cut to `room` bytes with its NUL; empty if none was refused yet.
 * Returns its length, or -1 and errno.
 */
int latchkey_pfkey_reason(latchkey_host *host, int fd, char *text, size_t room);

int latchkey_bind(latchkey_host *host, int fd, const struct sockaddr *address, socklen_t size);

/*
 * On a descriptor with O_NONBLOCK: EINPROGRESS; it is writable when the connection is up or has failed, which
 * latchkey_getsockopt(SO_ERROR) tells. AF_UNSPEC dissolves. After EINTR the connection goes on being made.
 */
int latchkey_connect(latchkey_host *host, int fd, const struct sockaddr *address, socklen_t size);

int latchkey_listen(latchkey_host *host, int fd, int backlog);

/* The listening descriptor is readable when a connection waits. `flags` as for accept4(2). */
int latchkey_accept(latchkey_host *host, int fd, struct sockaddr *address, socklen_t *size);
int latchkey_accept4(latchkey_host *host, int fd, struct sockaddr *address, socklen_t *size, int flags);

int latchkey_getsockname(latchkey_host *host, int fd, struct sockaddr *address, socklen_t *size);
int latchkey_getpeername(latchkey_host *host, int fd, struct sockaddr *address, socklen_t *size);

/*
 * SO_RCVTIMEO and SO_SNDTIMEO act on the calls of this process, and for PF_KEY all of SOL_SOCKET's buffer and timeout
 * options do; everything else is the host's.
 */
int latchkey_setsockopt(latchkey_host *host, int fd, int level, int name, const void *value, socklen_t size);
int latchkey_getsockopt(latchkey_host *host, int fd, int level, int name, void *value, socklen_t *size);

int latchkey_shutdown(latchkey_host *host, int fd, int how);

/*
 * A UDP datagram of more than 60,000 bytes is decided before the call returns, so that EMSGSIZE (it does not fit with
 * what IPsec adds) is told by this call. Control messages (msg_control) are not used yet: none is taken (EINVAL if
 * given), none is delivered.
 */
ssize_t latchkey_send(latchkey_host *host, int fd, const void *data, size_t size, int flags);
ssize_t latchkey_sendto(latchkey_host *host, int fd, const void *data, size_t size, int flags,
                        const struct sockaddr *address, socklen_t address_size);
ssize_t latchkey_sendmsg(latchkey_host *host, int fd, const struct msghdr *message, int flags);

ssize_t latchkey_recv(latchkey_host *host, int fd, void *data, size_t size, int flags);
ssize_t latchkey_recvfrom(latchkey_host *host, int fd, void *data, size_t size, int flags, struct sockaddr *address,
                          socklen_t *address_size);
ssize_t latchkey_recvmsg(latchkey_host *host, int fd, struct msghdr *message, int flags);

#ifdef __cplusplus
}
#endif

#endif
