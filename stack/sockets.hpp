// SPDX-License-Identifier: BSD-2-Clause
// The socket manager of one host: TCP, UDP, ping and key sockets by id, over lwIP's raw API and the key engine. It
// holds no file descriptor and no clock. The door calls it for its clients, the host directly when it runs inside a
// program.
//
// A SocketId is also the handle that the walk sees (SocketIndex). It stays in the index as long as one packet may still
// belong to it: a closed TCP socket keeps its id through FIN_WAIT, LAST_ACK and TIME_WAIT, a connection that is
// still being set up has the id of its listener, and gets one of its own when it is up. Ids are not used again while
// they can be seen; the event `released` tells when whatever was kept for an id can go.
#pragma once

#include "pfkey/engine.hpp"
#include "stack/client/protocol.hpp"
#include "stack/drops.hpp"
#include "stack/socket_index.hpp"

#include <expected>
#include <functional>
#include <memory>

namespace latchkey {

using SocketId = SocketHandle;

// Whoever asked for the socket, as the kernel vouched for it at that moment.
struct Credentials {
    std::int32_t pid = 0;
    std::uint32_t uid = 0xffffffff;
    std::uint32_t gid = 0xffffffff;
};

// The error of a socket call is an errno, as Linux would give it.
template <class T = void> using SysResult = std::expected<T, int>;

namespace socket_event {
inline constexpr unsigned readable = 1;    // data, a datagram, a PF_KEY record or the end of the stream
inline constexpr unsigned writable = 2;    // a stream that was full takes data again
inline constexpr unsigned connected = 4;
inline constexpr unsigned acceptable = 8;
inline constexpr unsigned failed = 16;     // SO_ERROR has the reason; a TCP connection is gone
inline constexpr unsigned released = 32;   // no packet can carry this id any more
}  // namespace socket_event

struct SocketLimits {
    std::size_t sockets = 8192;
    std::size_t memberships = 64;                  // multicast groups per socket
    int backlog = 255;                             // lwIP counts it in one byte
    int default_buffer = 212992;                   // SO_RCVBUF and SO_SNDBUF
    int max_buffer = 4 * 1024 * 1024;
};

struct SocketCounters {
    std::uint64_t opened = 0;
    std::uint64_t refused = 0;                     // the limit on sockets was reached
    std::uint64_t datagrams_sent = 0, datagrams_refused = 0;
    std::uint64_t datagrams_received = 0, datagrams_dropped = 0;   // dropped: the receive buffer was full
    std::uint64_t connections_accepted = 0, connections_overflowed = 0;
    std::uint64_t icmp_errors = 0;                 // reported to a connected socket
};

// A received datagram where it lies; valid until pop_datagram().
struct DatagramView {
    control::DataHeader header;
    std::array<Bytes, 2> payload;
    std::size_t size() const { return payload[0].size() + payload[1].size(); }
};

class Sockets {
public:
    // owner: the user who runs the host; he and root may open key sockets and bind ports below 1024.
    // lwIP has globals, so there is one Sockets per copy of lwIP.
    Sockets(SocketIndex& index, Engine& engine, std::uint32_t owner, SocketLimits limits = {});
    ~Sockets();
    Sockets(const Sockets&) = delete;
    Sockets& operator=(const Sockets&) = delete;

    // Called in the middle of packet input and of the calls below: note it, act later.
    std::function<void(SocketId, unsigned events)> on_event;
    // Why the last datagram was not sent; the question also forgets it (Choke::take_last_drop). Unset: never dropped.
    std::function<Drop()> last_drop;
    // May a socket be bound to this address? Unset: if it is one of lwIP's netifs'.
    std::function<bool(const Address&)> owns_address;

    SysResult<SocketId> open(int domain, int type, int protocol, const Credentials& by);
    void close(SocketId id);   // queued data is sent first; with unread data the connection is reset, as on BSD

    SysResult<> bind(SocketId id, const Endpoint& local);
    SysResult<> connect(SocketId id, const Endpoint& remote);   // EINPROGRESS: `connected` or `failed` follows
    SysResult<> listen(SocketId id, int backlog);
    SysResult<SocketId> accept(SocketId id);                    // EAGAIN: none is waiting
    SysResult<> shutdown(SocketId id, int how);
    SysResult<Endpoint> local(SocketId id) const;
    SysResult<Endpoint> remote(SocketId id) const;
    SysResult<> set_option(SocketId id, int level, int name, Bytes value);
    SysResult<std::size_t> get_option(SocketId id, int level, int name, MutableBytes room);   // bytes written

    // TCP. write takes what fits, at least one byte, or EAGAIN (then `writable` follows).
    SysResult<std::size_t> write(SocketId id, Bytes data);
    SysResult<std::size_t> read(SocketId id, MutableBytes room);   // 0: the peer has finished
    std::size_t writable_bytes(SocketId id) const;
    void await_writable(SocketId id);                              // `writable` follows when there is room
    std::array<Bytes, 2> peek(SocketId id) const;                  // all that is queued; consume() opens the window
    void consume(SocketId id, std::size_t n);
    bool finished(SocketId id) const;                              // the peer has finished and nothing is queued

    // UDP and ping. to: family none for a connected socket.
    SysResult<> send_datagram(SocketId id, const Endpoint& to, Bytes payload);
    bool front_datagram(SocketId id, DatagramView& view) const;
    void pop_datagram(SocketId id);
    void note_error(SocketId id, int error);   // what send_datagram said when nobody could be told; for SO_ERROR

    // PF_KEY: Engine's calls by socket. supervised: the caller reports the error to the client.
    SysResult<> key_send(SocketId id, Bytes record, bool supervised, Time now);
    SysResult<std::string_view> key_reason(SocketId id) const;   // why its latest refused message was refused
    Bytes key_front(SocketId id) const;
    void key_pop(SocketId id, Time now);

    std::size_t size() const;
    const SocketCounters& counters() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
