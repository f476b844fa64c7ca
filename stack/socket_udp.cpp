// SPDX-License-Identifier: BSD-2-Clause
// UDP sockets over lwIP's raw API.
#include "stack/lwip_address.hpp"
#include "stack/socket.hpp"

#include "lwip/igmp.h"
#include "lwip/mld6.h"
#include "lwip/netif.h"
#include "lwip/udp.h"

namespace latchkey {

namespace {

constexpr std::size_t max_payload_v4 = 65535 - 20 - 8;
constexpr std::size_t max_payload_v6 = 65535 - 40 - 8;   // lwIP's buffers count the IPv6 header in their 16 bits

struct Membership {
    Address group;
    Address interface;   // IPv4: by address; IPv6: none
    std::uint32_t zone = 0;
    bool operator==(const Membership&) const = default;
};

class UdpSocket final : public Socket {
public:
    using Socket::Socket;
    ~UdpSocket() override;

    SysResult<> bind(const Endpoint& local) override;
    SysResult<> connect(const Endpoint& remote) override;
    SysResult<> shutdown(int how) override;
    SysResult<Endpoint> local() const override;
    SysResult<Endpoint> remote() const override;
    SysResult<> send_datagram(const Endpoint& to, Bytes payload) override;
    bool front_datagram(DatagramView& view) const override { return rx_.front(view); }
    void pop_datagram() override { rx_.pop(); }
    void apply_options() override;
    SysResult<> join(const Endpoint& group, const Address& interface, bool enter) override;
    bool bound() const override { return bound_local.port != 0; }

private:
    static void on_receive(void* arg, udp_pcb* pcb, pbuf* p, const ip_addr_t* from, u16_t port);

    SysResult<> bind_pcb(const Endpoint& local);
    void receive(const pbuf* p, const ip_addr_t& from, u16_t port);
    void drop_pcb();
    void enter_tuple(const Endpoint& local, const Endpoint& remote);
    void leave_tuple();
    Endpoint any() const { return {Address::any(is_v6() ? Family::v6 : Family::v4)}; }

    udp_pcb* pcb_ = nullptr;
    Endpoint tuple_local_, tuple_remote_;   // as the index has them; the remote one is also the peer
    DatagramQueue rx_;
    std::vector<Membership> memberships_;
    bool explicit_ = false;                 // by bind(), not by the first send
    bool read_shut_ = false, write_shut_ = false;
};

UdpSocket::~UdpSocket()
{
    for (const auto& m : std::vector(memberships_))
        (void)join({m.group, 0, m.zone}, m.interface, false);
    drop_pcb();
}

SysResult<> UdpSocket::bind(const Endpoint& local)
{
    const auto wanted = check_local(local);
    if (!wanted)
        return sys_error(wanted.error());
    const auto done = bind_pcb(*wanted);
    explicit_ = done.has_value();
    return done;
}

SysResult<> UdpSocket::bind_pcb(const Endpoint& local)
{
    pcb_ = udp_new_ip_type(!is_v6() ? IPADDR_TYPE_V4 : dual() ? IPADDR_TYPE_ANY : IPADDR_TYPE_V6);
    if (pcb_ == nullptr)
        return sys_error(ENOBUFS);
    host_.index.add_pcb(pcb_, id_);
    udp_recv(pcb_, on_receive, this);
    apply_options();
    auto address = to_lwip(local.address, local.scope);
    if (local.address.is_unspecified() && local.address.is_v6() && dual())
        IP_SET_TYPE_VAL(address, IPADDR_TYPE_ANY);
    if (udp_bind(pcb_, &address, local.port) != ERR_OK) {
        drop_pcb();
        return sys_error(local.port == 0 ? EAGAIN : EADDRINUSE);
    }
    claim_port({local.address, pcb_->local_port, local.scope});
    enter_tuple(bound_local, {});
    return {};
}

SysResult<> UdpSocket::connect(const Endpoint& remote)
{
    const auto bound_to = bound_local;
    if (remote.address.family() == Family::none) {
        drop_pcb();
        return explicit_ ? bind_pcb(bound_to) : SysResult<>{};
    }
    const auto to = check_remote(remote);
    if (!to)
        return sys_error(to.error());
    if (pcb_ == nullptr)
        if (const auto done = bind_pcb(any()); !done)
            return done;
    const auto address = to_lwip(to->address, to->scope);
    auto* out = ip_route(&pcb_->local_ip, &address);
    const ip_addr_t* source = out != nullptr ? ip_netif_get_local_ip(out, &address) : nullptr;
    if (source == nullptr)
        return sys_error(ENETUNREACH);
    if (bound_local.address.is_unspecified() && udp_bind(pcb_, source, pcb_->local_port) != ERR_OK)
        return sys_error(EADDRINUSE);
    if (udp_connect(pcb_, &address, to->port) != ERR_OK)
        return sys_error(EINVAL);
    leave_tuple();
    enter_tuple({from_lwip(pcb_->local_ip), pcb_->local_port, 0}, *to);
    apply_options();
    return {};
}

SysResult<> UdpSocket::shutdown(int how)
{
    if (tuple_remote_.port == 0)
        return sys_error(ENOTCONN);
    read_shut_ = read_shut_ || how != SHUT_WR;
    write_shut_ = write_shut_ || how != SHUT_RD;
    return {};
}

SysResult<Endpoint> UdpSocket::local() const
{
    return pcb_ == nullptr ? any() : shown(tuple_local_);
}

SysResult<Endpoint> UdpSocket::remote() const
{
    return tuple_remote_.port != 0 ? SysResult<Endpoint>(shown(tuple_remote_)) : sys_error(ENOTCONN);
}

SysResult<> UdpSocket::send_datagram(const Endpoint& to, Bytes payload)
{
    if (write_shut_)
        return sys_error(EPIPE);
    auto target = tuple_remote_;
    if (to.address.family() != Family::none) {
        const auto checked = check_remote(to);
        if (!checked)
            return sys_error(checked.error());
        target = *checked;
        if (target.port == 0)
            return sys_error(EINVAL);
    } else if (target.port == 0) {
        return sys_error(EDESTADDRREQ);
    }
    if (payload.size() > (target.address.is_v4() ? max_payload_v4 : max_payload_v6))
        return sys_error(EMSGSIZE);
    if (pcb_ == nullptr)
        if (const auto done = bind_pcb(any()); !done)
            return done;

    const auto address = to_lwip(target.address, target.scope);
    if (!IP_ADDR_PCB_VERSION_MATCH(pcb_, &address))
        return sys_error(ENETUNREACH);
    auto* out = ip_route(&pcb_->local_ip, &address);
    if (out == nullptr)
        return sys_error(ENETUNREACH);
    if (options.broadcast == 0 && target.address.is_v4() && ip4_addr_isbroadcast(ip_2_ip4(&address), out))
        return sys_error(EACCES);
    pbuf* p = pbuf_alloc(PBUF_TRANSPORT, static_cast<u16_t>(payload.size()), PBUF_RAM);
    if (p == nullptr)
        return sys_error(ENOBUFS);
    if (!payload.empty())
        std::memcpy(p->payload, payload.data(), payload.size());
    forget_drop();
    const int error = send_failure(udp_sendto(pcb_, p, &address, target.port));
    pbuf_free(p);
    return error == 0 ? SysResult<>{} : sys_error(error);
}

void UdpSocket::on_receive(void* arg, udp_pcb*, pbuf* p, const ip_addr_t* from, u16_t port)
{
    if (p == nullptr)
        return;
    static_cast<UdpSocket*>(arg)->receive(p, *from, port);
    pbuf_free(p);
}

void UdpSocket::receive(const pbuf* p, const ip_addr_t& from, u16_t port)
{
    if (read_shut_)
        return;
    const auto scope = IP_IS_V6_VAL(from) ? ip6_addr_zone(ip_2_ip6(&from)) : 0u;
    control::DataHeader header;
    header.remote = shown({from_lwip(from), port, scope});
    if (ip_current_is_v6()) {
        header.tos = IP6H_TC(ip6_current_header());
        header.ttl = IP6H_HOPLIM(ip6_current_header());
    } else {
        header.tos = IPH_TOS(ip4_current_header());
        header.ttl = IPH_TTL(ip4_current_header());
    }
    std::array<MutableBytes, 2> room;
    if (!rx_.push(header, p->tot_len, static_cast<std::size_t>(options.receive_buffer), room)) {
        ++host_.counters.datagrams_dropped;
        return;
    }
    pbuf_copy_partial(p, room[0].data(), static_cast<u16_t>(room[0].size()), 0);
    if (!room[1].empty())
        pbuf_copy_partial(p, room[1].data(), static_cast<u16_t>(room[1].size()), static_cast<u16_t>(room[0].size()));
    ++host_.counters.datagrams_received;
    host_.event(id_, socket_event::readable);
}

void UdpSocket::drop_pcb()
{
    if (pcb_ == nullptr)
        return;
    if (bound_local.port != 0)
        release_port();
    leave_tuple();
    host_.index.remove_pcb(pcb_);
    udp_remove(std::exchange(pcb_, nullptr));
}

void UdpSocket::enter_tuple(const Endpoint& local, const Endpoint& remote)
{
    tuple_local_ = local;
    tuple_remote_ = remote;
    host_.add_tuple(ip_proto::udp, local, remote, dual(), id_);
}

void UdpSocket::leave_tuple()
{
    if (tuple_local_.port != 0)
        host_.remove_tuple(ip_proto::udp, tuple_local_, tuple_remote_, dual(), id_);
    tuple_local_ = tuple_remote_ = {};
}

void UdpSocket::apply_options()
{
    if (pcb_ == nullptr)
        return;
    if (options.reuse != 0)
        ip_set_option(pcb_, SOF_REUSEADDR);
    else
        ip_reset_option(pcb_, SOF_REUSEADDR);
    ip_set_option(pcb_, SOF_BROADCAST);   // SO_BROADCAST is checked above, with the right errno
    const bool v6 = is_v6() && !tuple_remote_.address.is_v4();
    const int ttl = v6 ? options.hops : options.ttl;
    pcb_->ttl = static_cast<u8_t>(ttl < 0 ? UDP_TTL : ttl);
    pcb_->tos = static_cast<u8_t>(v6 ? options.traffic_class : options.tos);
    udp_set_multicast_ttl(pcb_, static_cast<u8_t>(v6 ? options.multicast_hops : options.multicast_ttl));
    const bool loop = v6 ? options.multicast_loop_v6 != 0 : options.multicast_loop != 0;
    udp_set_flags(pcb_, loop ? UDP_FLAGS_MULTICAST_LOOP : 0);
    if (!loop)
        udp_clear_flags(pcb_, UDP_FLAGS_MULTICAST_LOOP);
}

// group.scope: the IPv6 interface index, 0 for the one that a route leads to. interface: IPv4, unspecified likewise.
SysResult<> UdpSocket::join(const Endpoint& group, const Address& interface, bool enter)
{
    if (!group.address.is_multicast())
        return sys_error(EINVAL);
    const Membership wanted{group.address, interface, group.scope};
    const auto at = std::ranges::find(memberships_, wanted);
    if (enter && at != memberships_.end())
        return sys_error(EADDRINUSE);
    if (!enter && at == memberships_.end())
        return sys_error(EADDRNOTAVAIL);
    if (enter && memberships_.size() >= host_.limits.memberships)
        return sys_error(ENOBUFS);

    const auto address = to_lwip(group.address, group.scope);
    err_t error = ERR_OK;
    if (group.address.is_v4()) {
        ip4_addr_t on{};
        if (interface.is_v4())
            on = to_lwip4(interface);
        error = enter ? igmp_joingroup(&on, ip_2_ip4(&address)) : igmp_leavegroup(&on, ip_2_ip4(&address));
    } else {
        auto* on =
            group.scope != 0 ? netif_get_by_index(static_cast<u8_t>(group.scope)) : ip_route(IP6_ADDR_ANY, &address);
        if (on == nullptr && enter)
            return sys_error(ENODEV);
        if (on != nullptr)
            error =
                enter ? mld6_joingroup_netif(on, ip_2_ip6(&address)) : mld6_leavegroup_netif(on, ip_2_ip6(&address));
    }
    if (enter && error != ERR_OK)
        return sys_error(error == ERR_MEM ? ENOBUFS : ENODEV);
    if (enter)
        memberships_.push_back(wanted);
    else
        memberships_.erase(at);
    return {};
}

}  // namespace

std::unique_ptr<Socket> make_udp_socket(SocketContext& host, SocketId id, int domain, const Credentials& by)
{
    return std::make_unique<UdpSocket>(host, id, domain, SOCK_DGRAM, ip_proto::udp, by);
}

}  // namespace latchkey
