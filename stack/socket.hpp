// SPDX-License-Identifier: BSD-2-Clause
// What the kinds of socket have in common, inside the socket manager (sockets.cpp, socket_*.cpp). One Socket per id;
// the base answers every call that a kind does not have with the errno that Linux gives for it.
#pragma once

#include "stack/byte_queue.hpp"
#include "stack/sockets.hpp"

#include <cerrno>
#include <sys/socket.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

struct ip_pcb;
struct tcp_pcb;

namespace latchkey {

class Socket;
class IcmpSocket;

inline std::unexpected<int> sys_error(int number)
{
    return std::unexpected(number);
}

// Option values that live as long as the socket, while lwIP's PCBs come and go.
struct SocketOptions {
    int reuse = 0, broadcast = 0, keepalive = 0, linger_on = 0, linger_seconds = 0;
    int receive_buffer = 0, send_buffer = 0;
    int ttl = -1, hops = -1, tos = 0, traffic_class = 0;   // -1: the default
    int v6_only = 0;
    int multicast_ttl = 1, multicast_hops = 1, multicast_loop = 1, multicast_loop_v6 = 1;
    int no_delay = 0, keep_idle = 7200, keep_interval = 75, keep_count = 9;
};

// What all sockets of a host share.
struct SocketContext {
    SocketIndex& index;
    Engine& engine;
    const std::uint32_t owner;
    const SocketLimits limits;
    const std::function<void(SocketId, unsigned)>& on_event;
    const std::function<Drop()>& last_drop;
    const std::function<bool(const Address&)>& owns_address;
    SocketCounters counters;

    std::unordered_map<SocketId, std::unique_ptr<Socket>> sockets;
    std::unordered_multimap<std::uint32_t, SocketId> ports;  // (protocol << 16 | port) -> bound by bind() or a send
    std::unordered_map<std::uint32_t, IcmpSocket*> pings;          // (protocol << 16 | identifier)
    std::unordered_map<SocketId, std::size_t> connections;         // how many TCP PCBs carry the id
    std::unordered_set<tcp_pcb*> pcbs;                             // those PCBs
    std::unordered_map<KeySocketId, SocketId> key_sockets;
    SocketId last_id = 0;

    Socket* find(SocketId id) const
    {
        const auto at = sockets.find(id);
        return at == sockets.end() ? nullptr : at->second.get();
    }
    void event(SocketId id, unsigned events) const
    {
        if ((events & socket_event::released) != 0)
            index.forget_bypass(id);
        if (on_event)
            on_event(id, events);
    }
    SysResult<SocketId> next_id();   // ENFILE: too many sockets
    // One tuple, or two for a local :: that takes IPv4 as well.
    void add_tuple(std::uint8_t protocol, const Endpoint& local, const Endpoint& remote, bool dual, SocketId id);
    void remove_tuple(std::uint8_t protocol, const Endpoint& local, const Endpoint& remote, bool dual, SocketId id);
};

class Socket {
public:
    Socket(SocketContext& host, SocketId id, int domain, int type, std::uint8_t protocol, const Credentials& by);
    virtual ~Socket() = default;
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    virtual SysResult<> bind(const Endpoint&) { return sys_error(EOPNOTSUPP); }
    virtual SysResult<> connect(const Endpoint&) { return sys_error(EOPNOTSUPP); }
    virtual SysResult<> listen(int) { return sys_error(EOPNOTSUPP); }
    virtual SysResult<SocketId> accept() { return sys_error(EOPNOTSUPP); }
    virtual SysResult<> shutdown(int) { return sys_error(EOPNOTSUPP); }
    virtual SysResult<Endpoint> local() const { return sys_error(EOPNOTSUPP); }
    virtual SysResult<Endpoint> remote() const { return sys_error(EOPNOTSUPP); }

    virtual SysResult<std::size_t> write(Bytes) { return sys_error(EOPNOTSUPP); }
    virtual std::size_t writable_bytes() const { return 0; }
    virtual void await_writable() {}
    virtual std::array<Bytes, 2> peek() const { return {}; }
    virtual void consume(std::size_t) {}
    virtual bool finished() const { return false; }
    virtual SysResult<> send_datagram(const Endpoint&, Bytes) { return sys_error(EOPNOTSUPP); }
    virtual bool front_datagram(DatagramView&) const { return false; }
    virtual void pop_datagram() {}

    virtual bool listening() const { return false; }
    virtual int segment_size() const { return 0; }
    virtual void apply_options() {}             // options changed: tell the PCB, if there is one
    virtual SysResult<> join(const Endpoint&, const Address&, bool) { return sys_error(ENOPROTOOPT); }
    virtual bool bound() const { return false; }

    SocketId id() const { return id_; }
    int domain() const { return domain_; }
    int type() const { return type_; }
    std::uint8_t protocol() const { return protocol_; }
    const Credentials& credentials() const { return credentials_; }
    bool privileged() const { return credentials_.uid == 0 || credentials_.uid == host_.owner; }
    SocketIndex& index() const { return host_.index; }
    int take_error() { return std::exchange(error_, 0); }
    void note_error(int error)
    {
        error_ = error;
        host_.event(id_, socket_event::failed);
    }
    int buffer_limit() const { return host_.limits.max_buffer; }
    SocketOptions options;

    // Could both be bound to the same port? (Linux: unless both say SO_REUSEADDR and no TCP one of them listens.)
    static bool collide(const Socket& a, const Endpoint& a_local, const Socket& b, const Endpoint& b_local);
    Endpoint bound_local;                       // by bind() or the first send; port 0: not bound

protected:
    bool is_v6() const { return domain_ == AF_INET6; }
    bool dual() const { return is_v6() && options.v6_only == 0; }
    // The local address to bind as lwIP takes it (a mapped one as IPv4), or why it can't be had.
    SysResult<Endpoint> check_local(const Endpoint& local) const;
    // A remote address as lwIP takes it: mapped as IPv4, unspecified as loopback.
    SysResult<Endpoint> check_remote(const Endpoint& remote) const;
    Endpoint shown(const Endpoint& e) const;    // to the client: IPv4 as mapped on an IPv6 socket
    void claim_port(const Endpoint& local);     // into and out of SocketContext::ports
    void release_port();
    void forget_drop() const;                  // of an earlier datagram, before sending one
    int send_failure(int lwip_error) const;     // errno of a failed datagram; 0: counts as sent

    SocketContext& host_;
    const SocketId id_;

private:
    const int domain_;
    const int type_;
    const std::uint8_t protocol_;
    const Credentials credentials_;
    int error_ = 0;
};

// Received datagrams of one socket in a ring: each is a DataHeader and its payload.
class DatagramQueue {
public:
    // False: the queue holds `limit` bytes already. The pieces to fill with the payload come back in `room`.
    bool push(const control::DataHeader& header, std::size_t size, std::size_t limit,
              std::array<MutableBytes, 2>& room);
    bool front(DatagramView& view) const;
    void pop();

private:
    struct Head {
        std::size_t size;
        control::DataHeader header;
    };
    ByteQueue ring_;
};

void abort_all_connections(SocketContext& host);   // also those that have lost their socket
std::unique_ptr<Socket> make_tcp_socket(SocketContext& host, SocketId id, int domain, const Credentials& by);
std::unique_ptr<Socket> make_udp_socket(SocketContext& host, SocketId id, int domain, const Credentials& by);
std::unique_ptr<Socket> make_icmp_socket(SocketContext& host, SocketId id, int domain, const Credentials& by);

// Key sockets have calls of their own.
class PfKeySocket final : public Socket {
public:
    PfKeySocket(SocketContext& host, SocketId id, KeySocketId key, const Credentials& by);
    ~PfKeySocket() override;
    SysResult<> send(Bytes record, bool supervised, Time now);
    Bytes front() const;
    void pop(Time now);
    std::string_view reason() const;
    SysResult<> shutdown(int) override { return {}; }

private:
    const KeySocketId key_;
};

// Listens for echo replies and for errors about UDP sockets, for all sockets of the host.
class IcmpReceiver {
public:
    explicit IcmpReceiver(SocketContext& host);
    ~IcmpReceiver();
    IcmpReceiver(const IcmpReceiver&) = delete;
    IcmpReceiver& operator=(const IcmpReceiver&) = delete;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// socket_options.cpp: the table of options.
SysResult<> set_socket_option(Socket& socket, int level, int name, Bytes value);
SysResult<std::size_t> get_socket_option(Socket& socket, int level, int name, MutableBytes room);

}  // namespace latchkey
