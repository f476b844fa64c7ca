// SPDX-License-Identifier: BSD-2-Clause
// Ping sockets as on Linux (SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6): they send echo requests, whose identifier
// is the socket's "port", and receive the replies. One receiver serves them all, and tells connected UDP sockets of
// ports that are closed at the other end.
#include "stack/lwip_address.hpp"
#include "stack/packet.hpp"
#include "stack/socket.hpp"

#include "lwip/inet_chksum.h"
#include "lwip/ip.h"
#include "lwip/raw.h"

#include <netinet/in.h>

namespace latchkey {

namespace {

constexpr std::size_t icmp_header_size = 8;
constexpr std::uint8_t echo_request_v4 = 8, echo_reply_v4 = 0, unreachable_v4 = 3, unreachable_port_v4 = 3;
constexpr std::uint8_t echo_request_v6 = 128, echo_reply_v6 = 129, unreachable_v6 = 1, unreachable_port_v6 = 4;

std::uint32_t ping_key(std::uint8_t protocol, std::uint16_t identifier)
{
    return (std::uint32_t{protocol} << 16) | identifier;
}

}  // namespace

class IcmpSocket final : public Socket {
public:
    IcmpSocket(SocketContext& host, SocketId id, int domain, const Credentials& by);
    ~IcmpSocket() override;

    SysResult<> bind(const Endpoint& local) override;
    SysResult<> connect(const Endpoint& remote) override;
    SysResult<> shutdown(int) override
    {
        return remote_.address.family() == Family::none ? sys_error(ENOTCONN) : SysResult<>{};
    }
    SysResult<Endpoint> local() const override;
    SysResult<Endpoint> remote() const override;
    SysResult<> send_datagram(const Endpoint& to, Bytes payload) override;
    bool front_datagram(DatagramView& view) const override { return rx_.front(view); }
    void pop_datagram() override { rx_.pop(); }
    void apply_options() override;
    bool bound() const override { return bound_local.port != 0; }

    void receive(const pbuf* p, std::size_t offset, const Address& from);

private:
    SysResult<> take_identifier(const Endpoint& local);

    // Never on lwIP's list of raw PCBs, which every packet would have to walk: only what raw_sendto() reads.
    raw_pcb pcb_{};
    Endpoint remote_;
    DatagramQueue rx_;
};

IcmpSocket::IcmpSocket(SocketContext& host, SocketId id, int domain, const Credentials& by)
    : Socket(host, id, domain, SOCK_DGRAM, domain == AF_INET6 ? ip_proto::icmpv6 : ip_proto::icmp, by)
{
    pcb_.protocol = protocol();
    const auto type = static_cast<u8_t>(is_v6() ? IPADDR_TYPE_V6 : IPADDR_TYPE_V4);
    IP_SET_TYPE_VAL(pcb_.local_ip, type);
    IP_SET_TYPE_VAL(pcb_.remote_ip, type);
    pcb_.chksum_reqd = is_v6() ? 1 : 0;   // lwIP fills it in once it knows the source address
    pcb_.chksum_offset = 2;
    host_.index.add_pcb(&pcb_, id_);
    apply_options();
}

IcmpSocket::~IcmpSocket()
{
    host_.index.remove_pcb(&pcb_);
    if (bound_local.port != 0) {
        host_.pings.erase(ping_key(protocol(), bound_local.port));
        release_port();
    }
}

SysResult<> IcmpSocket::bind(const Endpoint& local)
{
    const auto wanted = check_local(local);
    return wanted ? take_identifier(*wanted) : sys_error(wanted.error());
}

SysResult<> IcmpSocket::take_identifier(const Endpoint& local)
{
    auto identifier = local.port;
    const auto taken = [&] { return host_.pings.contains(ping_key(protocol(), identifier)); };
    if (identifier != 0 && taken())
        return sys_error(EADDRINUSE);
    for (unsigned tries = 0; identifier == 0 || (local.port == 0 && taken()); ++tries) {
        if (tries == 0x10000)
            return sys_error(EADDRINUSE);
        identifier = static_cast<std::uint16_t>(id_ + tries);
    }
    host_.pings.emplace(ping_key(protocol(), identifier), this);
    claim_port({local.address, identifier, local.scope});
    if (!local.address.is_unspecified())
        pcb_.local_ip = to_lwip(local.address, local.scope);
    return {};
}

SysResult<> IcmpSocket::connect(const Endpoint& remote)
{
    if (remote.address.family() == Family::none) {
        remote_ = {};
        return {};
    }
    const auto to = check_remote(remote);
    if (!to)
        return sys_error(to.error());
    const auto address = to_lwip(to->address, to->scope);
    if (ip_route(&pcb_.local_ip, &address) == nullptr)
        return sys_error(ENETUNREACH);
    if (bound_local.port == 0)
        if (const auto done = take_identifier({Address::any(to->address.family())}); !done)
            return done;
    remote_ = *to;
    return {};
}

SysResult<Endpoint> IcmpSocket::local() const
{
    return bound_local.port != 0 ? bound_local : Endpoint{Address::any(is_v6() ? Family::v6 : Family::v4)};
}

SysResult<Endpoint> IcmpSocket::remote() const
{
    return remote_.address.family() != Family::none ? SysResult<Endpoint>(remote_) : sys_error(ENOTCONN);
}

SysResult<> IcmpSocket::send_datagram(const Endpoint& to, Bytes payload)
{
    auto target = remote_;
    if (to.address.family() != Family::none) {
        const auto checked = check_remote(to);
        if (!checked)
            return sys_error(checked.error());
        target = *checked;
    } else if (target.address.family() == Family::none) {
        return sys_error(EDESTADDRREQ);
    }
    if (payload.size() > 65535u - (is_v6() ? 40u : 20u))
        return sys_error(EMSGSIZE);
    if (payload.size() < icmp_header_size || payload[0] != (is_v6() ? echo_request_v6 : echo_request_v4) ||
        payload[1] != 0)
        return sys_error(EINVAL);
    if (bound_local.port == 0)
        if (const auto done = take_identifier({Address::any(target.address.family())}); !done)
            return done;
    const auto address = to_lwip(target.address, target.scope);
    auto* out = ip_route(&pcb_.local_ip, &address);
    if (out == nullptr)
        return sys_error(ENETUNREACH);
    if (options.broadcast == 0 && target.address.is_v4() && ip4_addr_isbroadcast(ip_2_ip4(&address), out))
        return sys_error(EACCES);
    pbuf* p = pbuf_alloc(PBUF_IP, static_cast<u16_t>(payload.size()), PBUF_RAM);
    if (p == nullptr)
        return sys_error(ENOBUFS);
    const MutableBytes message(static_cast<std::uint8_t*>(p->payload), payload.size());
    std::ranges::copy(payload, message.begin());
    wire::set_field<std::uint16_t>(message, 2, 0);
    wire::set_field<std::uint16_t>(message, 4, bound_local.port);
    if (!is_v6()) {
        const u16_t sum = inet_chksum(message.data(), static_cast<u16_t>(message.size()));
        std::memcpy(message.data() + 2, &sum, sizeof(sum));   // lwIP's sums are in memory order
    }
    forget_drop();
    const int error = send_failure(raw_sendto(&pcb_, p, &address));
    pbuf_free(p);
    return error == 0 ? SysResult<>{} : sys_error(error);
}

void IcmpSocket::receive(const pbuf* p, std::size_t offset, const Address& from)
{
    if (remote_.address.family() != Family::none && remote_.address != from)
        return;
    control::DataHeader header;
    header.remote.address = from;
    header.remote.scope = is_v6() && from.is_link_local() ? ip6_addr_zone(ip6_current_src_addr()) : 0u;
    header.tos = is_v6() ? IP6H_TC(ip6_current_header()) : IPH_TOS(ip4_current_header());
    header.ttl = is_v6() ? IP6H_HOPLIM(ip6_current_header()) : IPH_TTL(ip4_current_header());
    std::array<MutableBytes, 2> room;
    const auto size = p->tot_len - offset;
    if (!rx_.push(header, size, static_cast<std::size_t>(options.receive_buffer), room)) {
        ++host_.counters.datagrams_dropped;
        return;
    }
    pbuf_copy_partial(p, room[0].data(), static_cast<u16_t>(room[0].size()), static_cast<u16_t>(offset));
    if (!room[1].empty())
        pbuf_copy_partial(p, room[1].data(), static_cast<u16_t>(room[1].size()),
                          static_cast<u16_t>(offset + room[0].size()));
    ++host_.counters.datagrams_received;
    host_.event(id_, socket_event::readable);
}

void IcmpSocket::apply_options()
{
    const int ttl = is_v6() ? options.hops : options.ttl;
    pcb_.ttl = static_cast<u8_t>(ttl < 0 ? RAW_TTL : ttl);
    pcb_.tos = static_cast<u8_t>(is_v6() ? options.traffic_class : options.tos);
    raw_set_multicast_ttl(&pcb_, static_cast<u8_t>(is_v6() ? options.multicast_hops : options.multicast_ttl));
    ip_set_option(&pcb_, SOF_BROADCAST);
}

std::unique_ptr<Socket> make_icmp_socket(SocketContext& host, SocketId id, int domain, const Credentials& by)
{
    return std::make_unique<IcmpSocket>(host, id, domain, by);
}

// ---- the receiver -------------------------------------------------------------------------------------------

struct IcmpReceiver::Impl {
    SocketContext& host;
    raw_pcb* v4;
    raw_pcb* v6;

    static u8_t on_packet(void* arg, raw_pcb* pcb, pbuf* p, const ip_addr_t* from);
    void unreachable(Bytes quoted);
};

IcmpReceiver::IcmpReceiver(SocketContext& host)
    : impl_(new Impl{host, raw_new_ip_type(IPADDR_TYPE_V4, ip_proto::icmp),
                     raw_new_ip_type(IPADDR_TYPE_V6, ip_proto::icmpv6)})
{
    for (auto* pcb : {impl_->v4, impl_->v6})
        if (pcb != nullptr)
            raw_recv(pcb, Impl::on_packet, impl_.get());
}

IcmpReceiver::~IcmpReceiver()
{
    for (auto* pcb : {impl_->v4, impl_->v6})
        if (pcb != nullptr)
            raw_remove(pcb);
}

namespace {

// lwIP checks the sum of ICMP messages only after raw sockets have seen them.
bool sum_is_right(pbuf* p, std::size_t offset)
{
    if (pbuf_remove_header(p, offset) != 0)
        return false;
    const auto sum = ip_current_is_v6() ? ip6_chksum_pseudo(p, ip_proto::icmpv6, p->tot_len, ip6_current_src_addr(),
                                                            ip6_current_dest_addr())
                                        : inet_chksum_pbuf(p);
    pbuf_add_header_force(p, offset);
    return sum == 0;
}

}  // namespace

// Returns 0 always: lwIP's own ICMP goes on with the packet.
u8_t IcmpReceiver::Impl::on_packet(void* arg, raw_pcb*, pbuf* p, const ip_addr_t* from)
{
    auto& self = *static_cast<Impl*>(arg);
    const std::size_t offset = ip_current_header_tot_len();
    const bool v6 = ip_current_is_v6() != 0;
    std::array<std::uint8_t, icmp_header_size> header;
    if (pbuf_copy_partial(p, header.data(), icmp_header_size, static_cast<u16_t>(offset)) != icmp_header_size)
        return 0;
    const bool reply = header[0] == (v6 ? echo_reply_v6 : echo_reply_v4);
    const bool closed_port = v6 ? header[0] == unreachable_v6 && header[1] == unreachable_port_v6
                                : header[0] == unreachable_v4 && header[1] == unreachable_port_v4;
    if ((!reply && !closed_port) || !sum_is_right(p, offset))
        return 0;
    if (reply) {
        const auto protocol = v6 ? ip_proto::icmpv6 : ip_proto::icmp;
        const auto at = self.host.pings.find(ping_key(protocol, wire::field<std::uint16_t>(header, 4)));
        if (at != self.host.pings.end())
            at->second->receive(p, offset, from_lwip(*from));
        return 0;
    }
    std::array<std::uint8_t, 128> quoted;
    const auto n = pbuf_copy_partial(p, quoted.data(), quoted.size(), static_cast<u16_t>(offset + icmp_header_size));
    self.unreachable(Bytes(quoted).first(n));
    return 0;
}

// RFC 1122 §4.1.3.3, for connected sockets only: the quoted header must be of a datagram that this socket could have
// sent.
void IcmpReceiver::Impl::unreachable(Bytes quoted)
{
    Flow flow;
    std::size_t ports = 0;
    if (quoted.size() >= 28 && quoted[0] >> 4 == 4) {
        flow.protocol = quoted[9];
        flow.source = Address::v4(quoted.subspan<12, 4>());
        flow.destination = Address::v4(quoted.subspan<16, 4>());
        ports = std::size_t{quoted[0] & 0xfu} * 4;
    } else if (quoted.size() >= 48 && quoted[0] >> 4 == 6) {
        flow.protocol = quoted[6];
        flow.source = Address::v6(quoted.subspan<8, 16>());
        flow.destination = Address::v6(quoted.subspan<24, 16>());
        ports = 40;
    }
    if (flow.protocol != ip_proto::udp || ports < 20 || quoted.size() < ports + 4)
        return;
    // The index is asked as for a datagram from the peer.
    std::swap(flow.source, flow.destination);
    flow.destination_port = wire::field<std::uint16_t>(quoted, ports);
    flow.source_port = wire::field<std::uint16_t>(quoted, ports + 2);
    flow.has_ports = true;
    auto* socket = host.find(host.index.inbound(flow));
    if (socket == nullptr || !socket->remote())
        return;
    ++host.counters.icmp_errors;
    socket->note_error(ECONNREFUSED);
}

}  // namespace latchkey
