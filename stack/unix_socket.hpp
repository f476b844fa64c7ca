// SPDX-License-Identifier: BSD-2-Clause
// AF_UNIX sockets as the door uses them: records with descriptors and credentials, named pairs, a listening path.
#pragma once

#include "pfkey/wire.hpp"
#include "stack/fd.hpp"
#include "stack/sockets.hpp"

#include <expected>
#include <string>
#include <sys/types.h>
#include <utility>

namespace latchkey {

// What identifies an open socket whatever its number is, in whichever process (SO_COOKIE); 0: not a socket.
std::uint64_t socket_cookie(int fd);
int native_option(int fd, int name);                    // a number at SOL_SOCKET, or -1
std::size_t unread_bytes(int fd);                       // in our receive queue
std::size_t undelivered_bytes(int fd);                  // sent by us and not yet read at the other end
bool is_host_end_name(int client_end);                  // is the other end, or was it, one of make_pair()'s?
std::string peer_path(int fd);                          // of the other end; empty: it has none

struct SocketPair {
    Fd host, client;
};
// type: SOCK_SEQPACKET or SOCK_STREAM; a stream has one byte in the host's queue already (see Link).
std::expected<SocketPair, int> make_pair(int type, control::SocketKind kind, int send_buffer);

struct Record {
    Bytes bytes;
    bool truncated = false;
    Credentials sender;
    Fd passed;                                          // the first descriptor; further ones are closed
};
// Without waiting. Errors: an errno; EAGAIN: nothing is there, EPIPE: the other end is closed.
std::expected<Record, int> receive_record(int fd, MutableBytes room);
std::expected<std::size_t, int> send_pieces(int fd, std::span<const Bytes> pieces, int passed = -1);

// Listens on a path; takes over one that nobody listens on any more. Errors in words.
std::expected<Fd, std::string> listen_on(const std::string& path, mode_t mode);

std::expected<Fd, int> connect_to_path(const std::string& path);

}  // namespace latchkey
