// SPDX-License-Identifier: BSD-2-Clause
// What client and host say to each other over AF_UNIX. Host byte order; addresses are raw struct sockaddr_in/in6.
//
// A *channel* is a SOCK_SEQPACKET connection to the host: one record is one Request or Reply. The host's path leads to
// a listening socket; every accepted connection is a channel. A process shares its first channel with its children,
// so on it only Op::new_channel is sent (a record that carries the host's end of a fresh socketpair and has no
// reply); requests and replies use a channel that belongs to one thread of one process. Thus replies cannot mix, and
// nothing needs the path again after chroot or setuid. The host takes SCM_CREDENTIALS of each request (SO_PASSCRED).
//
// A request about a socket carries the socket's own fd (SCM_RIGHTS): the capability. The host knows it by SO_COOKIE.
// The data side of a socket is the fd itself: TCP a SOCK_STREAM of bytes, PF_KEY a SOCK_SEQPACKET with one PF_KEY message
// per record, UDP and ICMP a SOCK_SEQPACKET whose records begin with a DataHeader. On a listening TCP fd the host sends one
// DataHeader (the peer's address) with the new connection's fd per connection. The host's end of every socket is bound to
// the abstract name socket_name_prefix + kind letter + ':' + random, which the client's getpeername() shows.
#pragma once

#include "pfkey/address.hpp"

#include <array>
#include <optional>
#include <string_view>
#include <vector>

namespace latchkey::control {

inline constexpr std::uint16_t protocol_version = 1;
inline constexpr std::size_t max_record = 72 * 1024;      // a full UDP datagram with its header fits
inline constexpr std::size_t data_header_size = 32;
inline constexpr std::string_view socket_name_prefix = "latchkey/";   // after the leading NUL
enum class SocketKind : char { key = 'k', tcp = 't', udp = 'u', icmp = 'i', event = 'e' };

enum class Op : std::uint16_t {
    new_channel = 1,   // fd: the host's end of the new channel; no reply
    hello,             // arg0 protocol_version -> payload: the host's name; EPROTO if the versions differ
    socket,            // arg0 domain, arg1 type (flags SOCK_* ignored), arg2 protocol -> fd of the socket; domain AF_UNSPEC:
                       //   a descriptor of change events (SOCK_SEQPACKET), one line per record: "address add 10.0.0.1/24 dev net0"
    bind,              // fd, address
    connect,           // fd, address (AF_UNSPEC dissolves), arg0 bit 0: do not wait -> 0, -EINPROGRESS or -errno;
                       //   otherwise the reply comes when the connection is up or has failed
    listen,            // fd, arg0 backlog
    getsockname,       // fd -> address
    getpeername,       // fd -> address
    setsockopt,        // fd, arg0 level, arg1 name, payload: value
    getsockopt,        // fd, arg0 level, arg1 name, arg2 room -> payload: value
    shutdown,          // fd, arg0 SHUT_RD, SHUT_WR, SHUT_RDWR
    send,              // fd, address or none, payload: one PF_KEY message or datagram; the reply comes when it is decided
                       //   (PF_KEY: when the answers are queued on the fd) -> number of payload bytes or -errno
    stat,              // arg0: 0 text for people, 1 "name value" lines -> payload (may take several: arg1 = offset);
                       //   the result is the size of the whole text, as it was when offset 0 was asked on this channel;
                       //   so for the lists below
    address,           // arg0: 0 list, 1 add, 2 delete; payload "PREFIX [dev IF]" -> payload lines
    route,             // arg0: 0 list, 1 add, 2 delete; payload "PREFIX|default via ADDR [dev IF] | dev IF" -> payload lines
    link,              // arg0: 0 list, 1 set; payload "IF up|down" or "IF mtu N" -> payload lines
    sysctl,            // arg0: 0 list: every tunable, one line "NAME=VALUE"; 1 get: payload NAME -> "VALUE"; 2 set: payload
                       //   "NAME=VALUE"; 3 describe: payload NAME, or none for all -> lines "NAME\tTYPE\tDEFAULT\tMIN\tMAX\tHELP"
    reason,            // fd of a key socket -> payload: why its latest refused message was refused; empty: none was
};

struct Request {
    Op op{};
    std::uint32_t id = 0;                    // echoed in the reply
    std::array<std::int32_t, 3> arg{};
    Bytes address{};                         // struct sockaddr, at most 128 bytes; empty: none
    Bytes payload{};

    static Result<Request> parse(Bytes record);
    std::size_t size() const;
    void emit(wire::Writer& out) const;
};

struct Reply {
    std::uint32_t id = 0;
    std::int32_t result = 0;                 // >= 0, or -errno
    Bytes address{};
    Bytes payload{};

    static Result<Reply> parse(Bytes record);
    std::size_t size() const;
    void emit(wire::Writer& out) const;
};

// Leads every datagram on a UDP or ICMP fd, both ways: the remote address (to a connected socket: family none).
struct DataHeader {
    Endpoint remote;
    std::uint16_t flags = 0;                 // host to client: 1 = payload was truncated
    std::uint8_t tos = 0, ttl = 0;           // host to client: as received
    bool operator==(const DataHeader&) const = default;

    static Result<DataHeader> parse(wire::Reader& in);
    void emit(wire::Writer& out) const;      // exactly data_header_size bytes
};

// struct sockaddr_in / sockaddr_in6 <-> Endpoint (AF_UNSPEC: family none).
Result<Endpoint> parse_socket_address(Bytes raw);
std::vector<std::uint8_t> socket_address(const Endpoint& endpoint);
// The same without allocation; the number of bytes used.
inline constexpr std::size_t max_socket_address = 28;
std::size_t put_socket_address(std::span<std::uint8_t, max_socket_address> raw, const Endpoint& endpoint);

}  // namespace latchkey::control
