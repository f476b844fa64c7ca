// SPDX-License-Identifier: BSD-2-Clause
#include "stack/sockets.hpp"

#include "stack/lwip_address.hpp"
#include "stack/socket.hpp"

#include "lwip/netif.h"

#include <net/pfkeyv2.h>
#include <netinet/in.h>

namespace latchkey {

namespace {

// Which sockets can be made: RFC 3493's two domains, and the key domain. Protocol 0 is the first row's.
struct KindRow {
    int domain, type, protocol;
    std::unique_ptr<Socket> (*make)(SocketContext&, SocketId, int domain, const Credentials&);
};
constexpr KindRow kinds[] = {
    {AF_INET, SOCK_STREAM, IPPROTO_TCP, make_tcp_socket},    {AF_INET6, SOCK_STREAM, IPPROTO_TCP, make_tcp_socket},
    {AF_INET, SOCK_DGRAM, IPPROTO_UDP, make_udp_socket},     {AF_INET6, SOCK_DGRAM, IPPROTO_UDP, make_udp_socket},
    {AF_INET, SOCK_DGRAM, IPPROTO_ICMP, make_icmp_socket},   {AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6, make_icmp_socket},
    {AF_KEY, SOCK_RAW, PF_KEY_V2, nullptr},
};

// Linux' order of checks: domain, then type, then protocol.
SysResult<const KindRow*> find_kind(int domain, int type, int protocol)
{
    int error = EAFNOSUPPORT;
    for (const auto& row : kinds) {
        if (row.domain != domain)
            continue;
        if (row.type != type) {
            error = error == EAFNOSUPPORT ? ESOCKTNOSUPPORT : error;
            continue;
        }
        if (row.protocol == protocol || (protocol == 0 && domain != AF_KEY))
            return &row;
        error = EPROTONOSUPPORT;
    }
    return sys_error(error);
}

}  // namespace

struct Sockets::Impl {
    SocketContext host;
    IcmpReceiver icmp{host};
};

Sockets::Sockets(SocketIndex& index, Engine& engine, std::uint32_t owner, SocketLimits limits)
    : impl_(new Impl{{index, engine, owner, limits, on_event, last_drop, owns_address, {}, {}, {}, {}, {}, {}, {}, 0}})
{
    engine.on_readable = [this](KeySocketId key) {
        const auto& keys = impl_->host.key_sockets;
        if (const auto at = keys.find(key); at != keys.end())
            impl_->host.event(at->second, socket_event::readable);
    };
}

Sockets::~Sockets()
{
    on_event = nullptr;
    while (!impl_->host.sockets.empty())
        close(impl_->host.sockets.begin()->first);
    abort_all_connections(impl_->host);
    impl_->host.engine.on_readable = nullptr;
}

SysResult<SocketId> Sockets::open(int domain, int type, int protocol, const Credentials& by)
{
    auto& host = impl_->host;
    const bool privileged = by.uid == 0 || by.uid == host.owner;
    if (domain == AF_KEY && !privileged)
        return sys_error(EPERM);
    const auto kind = find_kind(domain, type, protocol);
    if (!kind)
        return sys_error(kind.error());
    const auto id = host.next_id();
    if (!id)
        return id;
    std::unique_ptr<Socket> made;
    if (domain == AF_KEY) {
        const auto key = host.engine.open_key_socket();
        if (!key)
            return sys_error(key.error().number());
        made = std::make_unique<PfKeySocket>(host, *id, *key, by);
    } else {
        made = (*kind)->make(host, *id, domain, by);
    }
    host.sockets.emplace(*id, std::move(made));
    ++host.counters.opened;
    return id;
}

void Sockets::close(SocketId id)
{
    auto& host = impl_->host;
    const bool connected = host.connections.contains(id);
    auto node = host.sockets.extract(id);
    if (!node)
        return;
    node.mapped().reset();
    if (!connected)   // otherwise the last PCB tells
        host.event(id, socket_event::released);
}

SysResult<> Sockets::bind(SocketId id, const Endpoint& local)
{
    auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->bind(local) : sys_error(EBADF);
}

SysResult<> Sockets::connect(SocketId id, const Endpoint& remote)
{
    auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->connect(remote) : sys_error(EBADF);
}

SysResult<> Sockets::listen(SocketId id, int backlog)
{
    auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->listen(backlog) : sys_error(EBADF);
}

SysResult<SocketId> Sockets::accept(SocketId id)
{
    auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->accept() : sys_error(EBADF);
}

SysResult<> Sockets::shutdown(SocketId id, int how)
{
    auto* socket = impl_->host.find(id);
    if (socket == nullptr)
        return sys_error(EBADF);
    return how == SHUT_RD || how == SHUT_WR || how == SHUT_RDWR ? socket->shutdown(how) : sys_error(EINVAL);
}

SysResult<Endpoint> Sockets::local(SocketId id) const
{
    const auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->local() : sys_error(EBADF);
}

SysResult<Endpoint> Sockets::remote(SocketId id) const
{
    const auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->remote() : sys_error(EBADF);
}

SysResult<> Sockets::set_option(SocketId id, int level, int name, Bytes value)
{
    auto* socket = impl_->host.find(id);
    return socket != nullptr ? set_socket_option(*socket, level, name, value) : sys_error(EBADF);
}

SysResult<std::size_t> Sockets::get_option(SocketId id, int level, int name, MutableBytes room)
{
    auto* socket = impl_->host.find(id);
    return socket != nullptr ? get_socket_option(*socket, level, name, room) : sys_error(EBADF);
}

SysResult<std::size_t> Sockets::write(SocketId id, Bytes data)
{
    auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->write(data) : sys_error(EBADF);
}

SysResult<std::size_t> Sockets::read(SocketId id, MutableBytes room)
{
    auto* socket = impl_->host.find(id);
    if (socket == nullptr)
        return sys_error(EBADF);
    std::size_t done = 0;
    for (const auto piece : socket->peek()) {
        const auto n = std::min(piece.size(), room.size() - done);
        if (n != 0)
            std::memcpy(room.data() + done, piece.data(), n);
        done += n;
    }
    if (done != 0) {
        socket->consume(done);
        return done;
    }
    if (room.empty())
        return std::size_t{0};
    if (const int error = socket->take_error(); error != 0)
        return sys_error(error);
    if (!socket->finished())
        return sys_error(socket->remote() ? EAGAIN : ENOTCONN);
    return std::size_t{0};
}

std::size_t Sockets::writable_bytes(SocketId id) const
{
    const auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->writable_bytes() : 0;
}

void Sockets::await_writable(SocketId id)
{
    if (auto* socket = impl_->host.find(id))
        socket->await_writable();
}

std::array<Bytes, 2> Sockets::peek(SocketId id) const
{
    const auto* socket = impl_->host.find(id);
    return socket != nullptr ? socket->peek() : std::array<Bytes, 2>{};
}

void Sockets::consume(SocketId id, std::size_t n)
{
    if (auto* socket = impl_->host.find(id))
        socket->consume(n);
}

bool Sockets::finished(SocketId id) const
{
    const auto* socket = impl_->host.find(id);
    return socket == nullptr || socket->finished();
}

SysResult<> Sockets::send_datagram(SocketId id, const Endpoint& to, Bytes payload)
{
    auto* socket = impl_->host.find(id);
    if (socket == nullptr)
        return sys_error(EBADF);
    const auto sent = socket->send_datagram(to, payload);
    ++(sent ? impl_->host.counters.datagrams_sent : impl_->host.counters.datagrams_refused);
    return sent;
}

bool Sockets::front_datagram(SocketId id, DatagramView& view) const
{
    const auto* socket = impl_->host.find(id);
    return socket != nullptr && socket->front_datagram(view);
}

void Sockets::pop_datagram(SocketId id)
{
    if (auto* socket = impl_->host.find(id))
        socket->pop_datagram();
}

void Sockets::note_error(SocketId id, int error)
{
    if (auto* socket = impl_->host.find(id))
        socket->note_error(error);
}

SysResult<> Sockets::key_send(SocketId id, Bytes record, bool supervised, Time now)
{
    auto* socket = impl_->host.find(id);
    if (socket == nullptr)
        return sys_error(EBADF);
    return socket->domain() == AF_KEY ? static_cast<PfKeySocket*>(socket)->send(record, supervised, now)
                                      : sys_error(EOPNOTSUPP);
}

SysResult<std::string_view> Sockets::key_reason(SocketId id) const
{
    const auto* socket = impl_->host.find(id);
    if (socket == nullptr || socket->domain() != AF_KEY)
        return sys_error(socket == nullptr ? EBADF : EOPNOTSUPP);
    return static_cast<const PfKeySocket*>(socket)->reason();
}

Bytes Sockets::key_front(SocketId id) const
{
    const auto* socket = impl_->host.find(id);
    return socket != nullptr && socket->domain() == AF_KEY ? static_cast<const PfKeySocket*>(socket)->front() : Bytes{};
}

void Sockets::key_pop(SocketId id, Time now)
{
    if (auto* socket = impl_->host.find(id); socket != nullptr && socket->domain() == AF_KEY)
        static_cast<PfKeySocket*>(socket)->pop(now);
}

std::size_t Sockets::size() const
{
    return impl_->host.sockets.size();
}

const SocketCounters& Sockets::counters() const
{
    return impl_->host.counters;
}

// ---- what all sockets share ----------------------------------------------------------------------------------------

SysResult<SocketId> SocketContext::next_id()
{
    if (sockets.size() >= limits.sockets) {
        ++counters.refused;
        return sys_error(ENFILE);
    }
    do
        ++last_id;
    while (last_id == 0 || sockets.contains(last_id) || connections.contains(last_id));
    return last_id;
}

void SocketContext::add_tuple(std::uint8_t protocol, const Endpoint& local, const Endpoint& remote, bool dual,
                              SocketId id)
{
    index.add_tuple(protocol, local, remote, id);
    if (dual && local.address.is_v6() && local.address.is_unspecified() && remote.address.family() == Family::none)
        index.add_tuple(protocol, {Address::any(Family::v4), local.port}, remote, id);
}

void SocketContext::remove_tuple(std::uint8_t protocol, const Endpoint& local, const Endpoint& remote, bool dual,
                                 SocketId id)
{
    index.remove_tuple(protocol, local, remote, id);
    if (dual && local.address.is_v6() && local.address.is_unspecified() && remote.address.family() == Family::none)
        index.remove_tuple(protocol, {Address::any(Family::v4), local.port}, remote, id);
}

Socket::Socket(SocketContext& host, SocketId id, int domain, int type, std::uint8_t protocol, const Credentials& by)
    : host_(host), id_(id), domain_(domain), type_(type), protocol_(protocol), credentials_(by)
{
    options.receive_buffer = options.send_buffer = host.limits.default_buffer;
}

namespace {

constexpr std::array<std::uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};   // RFC 4291 §2.5.5.2

bool is_mapped(const Address& a)
{
    return a.is_v6() && std::ranges::equal(a.bytes().first(12), mapped_prefix);
}

Address unmapped(const Address& a)
{
    return is_mapped(a) ? Address::v4(a.bytes().subspan<12, 4>()) : a;
}

bool netif_has(const Address& a)
{
    netif* n = nullptr;
    NETIF_FOREACH(n)
    {
        if (a.is_v4() && from_lwip(*netif_ip4_addr(n)) == a)
            return true;
        for (s8_t i = 0; a.is_v6() && i < LWIP_IPV6_NUM_ADDRESSES; ++i)
            if (ip6_addr_isvalid(netif_ip6_addr_state(n, i)) && from_lwip(*netif_ip6_addr(n, i)) == a)
                return true;
    }
    return false;
}

bool overlap(const Socket& a, const Endpoint& a_local, const Endpoint& b_local)
{
    if (a_local.address.family() == b_local.address.family())
        return a_local.address.is_unspecified() || b_local.address.is_unspecified() ||
               a_local.address == b_local.address;
    return a_local.address.is_v6() && a_local.address.is_unspecified() && a.options.v6_only == 0;
}

}  // namespace

bool Socket::collide(const Socket& a, const Endpoint& a_local, const Socket& b, const Endpoint& b_local)
{
    if (!overlap(a, a_local, b_local) && !overlap(b, b_local, a_local))
        return false;
    return a.options.reuse == 0 || b.options.reuse == 0 || a.listening() || b.listening();
}

SysResult<Endpoint> Socket::check_local(const Endpoint& local) const
{
    if (local.address.family() != (is_v6() ? Family::v6 : Family::v4))
        return sys_error(EAFNOSUPPORT);
    if (bound())
        return sys_error(EINVAL);
    if (is_mapped(local.address) && options.v6_only != 0)
        return sys_error(EINVAL);
    const Endpoint wanted{unmapped(local.address), local.port, local.scope};
    if (wanted.address.is_v6() && wanted.address.is_link_local() && wanted.scope == 0)
        return sys_error(EINVAL);
    const bool privileged = credentials_.uid == 0 || credentials_.uid == host_.owner;
    if (wanted.port != 0 && wanted.port < 1024 && !privileged && type_ != SOCK_RAW && protocol_ != IPPROTO_ICMP &&
        protocol_ != IPPROTO_ICMPV6)
        return sys_error(EACCES);
    const bool group = wanted.address.is_multicast() && type_ == SOCK_DGRAM;
    if (!wanted.address.is_unspecified() && !group &&
        !(host_.owns_address ? host_.owns_address(wanted.address) : netif_has(wanted.address)))
        return sys_error(EADDRNOTAVAIL);
    const auto [first, last] = host_.ports.equal_range((std::uint32_t{protocol_} << 16) | wanted.port);
    for (auto at = first; wanted.port != 0 && at != last; ++at) {
        const auto* other = host_.find(at->second);
        if (other != nullptr && other != this && collide(*this, wanted, *other, other->bound_local))
            return sys_error(EADDRINUSE);
    }
    return wanted;
}

SysResult<Endpoint> Socket::check_remote(const Endpoint& remote) const
{
    const auto family = remote.address.family();
    if (!is_v6() && family != Family::v4)
        return sys_error(EAFNOSUPPORT);
    const Endpoint to{unmapped(remote.address), remote.port, remote.scope};
    if (is_v6() && to.address.is_v4() && (options.v6_only != 0 || protocol_ == IPPROTO_ICMPV6))
        return sys_error(ENETUNREACH);
    if (to.address.is_unspecified())
        return Endpoint{to.address.is_v4() ? Address::v4(127, 0, 0, 1) : *Address::parse("::1"), to.port, 0};
    if (to.address.is_v6() && to.address.is_link_local() && to.scope == 0)
        return sys_error(EINVAL);
    return to;
}

Endpoint Socket::shown(const Endpoint& e) const
{
    if (!is_v6() || !e.address.is_v4())
        return e;
    std::array<std::uint8_t, 16> raw{};
    if (!e.address.is_unspecified()) {
        std::ranges::copy(mapped_prefix, raw.begin());
        std::ranges::copy(e.address.bytes(), raw.begin() + 12);
    }
    return {Address::v6(raw), e.port, 0};
}

void Socket::claim_port(const Endpoint& local)
{
    bound_local = local;
    host_.ports.emplace((std::uint32_t{protocol_} << 16) | local.port, id_);
}

void Socket::release_port()
{
    const auto [first, last] = host_.ports.equal_range((std::uint32_t{protocol_} << 16) | bound_local.port);
    for (auto at = first; at != last; ++at)
        if (at->second == id_) {
            host_.ports.erase(at);
            break;
        }
    bound_local = {};
}

void Socket::forget_drop() const
{
    if (host_.last_drop)
        (void)host_.last_drop();
}

int Socket::send_failure(int lwip_error) const
{
    if (lwip_error == ERR_OK)
        return 0;
    switch (host_.last_drop ? host_.last_drop() : Drop::none) {
    case Drop::out_no_sa: return 0;   // as KAME: the packet is lost, the caller need not know
    case Drop::out_too_big: return EMSGSIZE;
    case Drop::out_discard: return EPERM;
    case Drop::out_hold_full:
    case Drop::out_no_buffer: return ENOBUFS;
    case Drop::out_no_route: return ENETUNREACH;
    case Drop::none: break;
    default: return EIO;
    }
    switch (lwip_error) {
    case ERR_RTE: return ENETUNREACH;
    case ERR_VAL: return EINVAL;
    default: return ENOBUFS;
    }
}

bool DatagramQueue::push(const control::DataHeader& header, std::size_t size, std::size_t limit,
                         std::array<MutableBytes, 2>& room)
{
    if (ring_.size() + sizeof(Head) + size > limit)
        return false;
    static_assert(std::is_trivially_copyable_v<Head>);
    const Head head{size, header};
    std::array<std::uint8_t, sizeof(Head)> raw;
    std::memcpy(raw.data(), &head, sizeof(head));
    ring_.push(raw);
    room = ring_.extend(size);
    return true;
}

bool DatagramQueue::front(DatagramView& view) const
{
    if (ring_.empty())
        return false;
    std::array<std::uint8_t, sizeof(Head)> raw;
    ring_.peek(0, raw);
    const auto head = std::bit_cast<Head>(raw);
    view.header = head.header;
    view.payload = ring_.view(sizeof(Head), head.size);
    return true;
}

void DatagramQueue::pop()
{
    if (DatagramView view; front(view))
        ring_.pop(sizeof(Head) + view.size());
}

}  // namespace latchkey
