// SPDX-License-Identifier: BSD-2-Clause
// Socket calls on a Host, in C++: the C API, the preload library and the tool are thin edges around these. Results are
// values or -errno; nothing throws.
#pragma once

#include "stack/client/channel.hpp"

#include <sys/uio.h>

#include <span>
#include <string>

namespace latchkey::client {

using Pieces = std::span<const iovec>;

// A new socket: a descriptor of this process. `type` may carry SOCK_NONBLOCK and SOCK_CLOEXEC.
int open_socket(Host& host, int domain, int type, int protocol);

// A request about `fd` whose answer is a number only.
int simple_call(Host& host, int fd, const control::Request& request);

// Connects; waits unless the descriptor is non-blocking (-EINPROGRESS then).
int connect_socket(Host& host, int fd, Bytes address);

// The next connection of a listening socket. `flags` of accept4(2).
int accept_socket(Host& host, int fd, int flags, Endpoint& peer);

int shutdown_socket(Host& host, int fd, int how);

// Op::send: decided by the host when it returns. `reached` (may be null) tells whether the host has the message.
ssize_t send_decided(Host& host, int fd, Bytes address, Pieces pieces, bool* reached);

// UDP and ICMP. Large datagrams are decided at once (EMSGSIZE), others are queued.
ssize_t send_datagram(Host& host, int fd, Bytes address, Pieces pieces, int flags);

struct Datagram {
    control::DataHeader header;
    bool truncated = false;
};
ssize_t receive_datagram(int fd, Pieces pieces, int flags, Datagram& datagram);

// Op::stat (verb: the style), address, route, link, sysctl: text in, text out. 0 or -errno; on failure `text` may hold
// the reason in words.
int text_call(Host& host, control::Op op, int verb, std::string_view request, std::string& text);

std::size_t total_size(Pieces pieces);

}  // namespace latchkey::client
