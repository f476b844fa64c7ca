// SPDX-License-Identifier: BSD-2-Clause
// The socket options of the host in one table. Most are numbers that the socket keeps and applies to its PCB.
#include "stack/socket.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>

#ifndef IPV6_IPSEC_POLICY
#define IPV6_IPSEC_POLICY 34   // <linux/in6.h>, which does not go together with <netinet/in.h>
#endif

namespace latchkey {

namespace {

// Which sockets know an option.
constexpr unsigned v4 = 1, v6 = 2, tcp = 4, udp = 8, icmp = 16, key = 32;
constexpr unsigned every = v4 | v6 | tcp | udp | icmp | key, internet = v4 | v6 | tcp | udp | icmp;

struct OptionRow {
    int level, name;
    unsigned kinds;                          // the socket's domain and protocol must both be in it
    int SocketOptions::*value;               // null: `read`, and it cannot be set
    int low, high;                           // accepted; for a switch everything but 0 counts as 1
    int (*read)(Socket&) = nullptr;
};



constexpr OptionRow rows[] = {
    {SOL_SOCKET, SO_ERROR, every, nullptr, 0, 0, [](Socket& s) { return s.take_error(); }},
    {SOL_SOCKET, SO_TYPE, every, nullptr, 0, 0, [](Socket& s) { return s.type(); }},
    {SOL_SOCKET, SO_DOMAIN, every, nullptr, 0, 0, [](Socket& s) { return s.domain(); }},
    {SOL_SOCKET, SO_PROTOCOL, every, nullptr, 0, 0, [](Socket& s) { return int{s.protocol()}; }},
    {SOL_SOCKET, SO_ACCEPTCONN, every, nullptr, 0, 0, [](Socket& s) { return s.listening() ? 1 : 0; }},
    {SOL_SOCKET, SO_REUSEADDR, internet, &SocketOptions::reuse, 0, 1},
    {SOL_SOCKET, SO_BROADCAST, internet, &SocketOptions::broadcast, 0, 1},
    {SOL_SOCKET, SO_KEEPALIVE, internet, &SocketOptions::keepalive, 0, 1},
    {IPPROTO_TCP, TCP_NODELAY, v4 | v6 | tcp, &SocketOptions::no_delay, 0, 1},
    {IPPROTO_TCP, TCP_MAXSEG, v4 | v6 | tcp, nullptr, 0, 0, [](Socket& s) { return s.segment_size(); }},
    {IPPROTO_TCP, TCP_KEEPIDLE, v4 | v6 | tcp, &SocketOptions::keep_idle, 1, 32767},
    {IPPROTO_TCP, TCP_KEEPINTVL, v4 | v6 | tcp, &SocketOptions::keep_interval, 1, 32767},
    {IPPROTO_TCP, TCP_KEEPCNT, v4 | v6 | tcp, &SocketOptions::keep_count, 1, 127},
    {IPPROTO_IP, IP_TTL, internet, &SocketOptions::ttl, -1, 255},
    {IPPROTO_IP, IP_TOS, internet, &SocketOptions::tos, 0, 255},
    {IPPROTO_IP, IP_MULTICAST_TTL, v4 | v6 | udp | icmp, &SocketOptions::multicast_ttl, 0, 255},
    {IPPROTO_IP, IP_MULTICAST_LOOP, v4 | v6 | udp | icmp, &SocketOptions::multicast_loop, 0, 1},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, v6 | tcp | udp | icmp, &SocketOptions::hops, -1, 255},
    {IPPROTO_IPV6, IPV6_TCLASS, v6 | tcp | udp | icmp, &SocketOptions::traffic_class, 0, 255},
    {IPPROTO_IPV6, IPV6_V6ONLY, v6 | tcp | udp | icmp, &SocketOptions::v6_only, 0, 1},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, v6 | udp | icmp, &SocketOptions::multicast_hops, 0, 255},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, v6 | udp | icmp, &SocketOptions::multicast_loop_v6, 0, 1},
};

unsigned kinds_of(const Socket& socket)
{
    if (socket.domain() == AF_KEY)
        return key;
    const unsigned protocol = socket.protocol() == IPPROTO_TCP ? tcp : socket.protocol() == IPPROTO_UDP ? udp : icmp;
    return (socket.domain() == AF_INET6 ? v6 : v4) | protocol;
}

const OptionRow* find_row(const Socket& socket, int level, int name)
{
    const auto kinds = kinds_of(socket);
    for (const auto& row : rows)
        if (row.level == level && row.name == name && (row.kinds & kinds) == kinds)
            return &row;
    return nullptr;
}

template <class T> bool copy_from(Bytes value, T& out)
{
    if (value.size() < sizeof(T))
        return false;
    std::memcpy(&out, value.data(), sizeof(T));
    return true;
}

// Like the kernel: a longer value is cut to the room that there is.
template <class T> SysResult<std::size_t> copy_to(const T& value, MutableBytes room)
{
    const auto n = std::min(sizeof(T), room.size());
    std::memcpy(room.data(), &value, n);
    return n;
}

SysResult<> set_linger(Socket& socket, Bytes value)
{
    linger l{};
    if (!copy_from(value, l))
        return sys_error(EINVAL);
    socket.options.linger_on = l.l_onoff != 0 ? 1 : 0;
    socket.options.linger_seconds = l.l_linger;
    return {};
}

// Linux keeps twice of what is asked for, to pay for its own bookkeeping, and shows that.
SysResult<> set_buffer(Socket& socket, int SocketOptions::*which, Bytes value)
{
    int size = 0;
    if (!copy_from(value, size))
        return sys_error(EINVAL);
    socket.options.*which = std::clamp(size, 1152, socket.buffer_limit() / 2) * 2;
    return {};
}

SysResult<> set_membership(Socket& socket, Bytes value, bool enter)
{
    ip_mreqn full{};
    ip_mreq brief{};
    if (copy_from(value, full)) {   // an interface index is IPv6's way; IPv4 is told the address
        brief.imr_multiaddr = full.imr_multiaddr;
        brief.imr_interface = full.imr_address;
    } else if (!copy_from(value, brief)) {
        return sys_error(EINVAL);
    }
    const auto address = [](const in_addr& a) {
        std::array<std::uint8_t, 4> raw{};
        std::memcpy(raw.data(), &a, raw.size());
        return Address::v4(raw);
    };
    return socket.join({address(brief.imr_multiaddr)}, address(brief.imr_interface), enter);
}

SysResult<> set_membership_v6(Socket& socket, Bytes value, bool enter)
{
    ipv6_mreq request{};
    if (!copy_from(value, request))
        return sys_error(EINVAL);
    std::array<std::uint8_t, 16> raw{};
    std::memcpy(raw.data(), &request.ipv6mr_multiaddr, raw.size());
    return socket.join({Address::v6(raw), 0, request.ipv6mr_interface}, {}, enter);
}

// IP_IPSEC_POLICY, IPV6_IPSEC_POLICY: a struct sadb_x_policy. A socket may bypass the SPD, with privilege (an IKE
// daemon asks for that), or go back to it; policies of its own come with the per-socket policy API.
SysResult<> set_policy(Socket& socket, Bytes value)
{
    const auto policy = parse_policy(value);
    if (!policy || (policy->direction != IPSEC_DIR_INBOUND && policy->direction != IPSEC_DIR_OUTBOUND))
        return sys_error(EINVAL);
    if (policy->type == IPSEC_POLICY_IPSEC)
        return sys_error(EOPNOTSUPP);
    if (policy->type != IPSEC_POLICY_BYPASS && policy->type != IPSEC_POLICY_ENTRUST)
        return sys_error(EINVAL);
    const bool bypass = policy->type == IPSEC_POLICY_BYPASS;
    if (bypass && !socket.privileged())
        return sys_error(EACCES);
    socket.index().set_bypass(socket.id(), static_cast<Direction>(policy->direction), bypass);
    return {};
}

}  // namespace

SysResult<> set_socket_option(Socket& socket, int level, int name, Bytes value)
{
    if (level == SOL_SOCKET && name == SO_LINGER)
        return set_linger(socket, value);
    if (level == SOL_SOCKET && name == SO_RCVBUF)
        return set_buffer(socket, &SocketOptions::receive_buffer, value);
    if (level == SOL_SOCKET && name == SO_SNDBUF)
        return set_buffer(socket, &SocketOptions::send_buffer, value);
    if (socket.domain() != AF_KEY && level == IPPROTO_IP && (name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP))
        return set_membership(socket, value, name == IP_ADD_MEMBERSHIP);
    if (socket.domain() == AF_INET6 && level == IPPROTO_IPV6 && (name == IPV6_JOIN_GROUP || name == IPV6_LEAVE_GROUP))
        return set_membership_v6(socket, value, name == IPV6_JOIN_GROUP);

    if (socket.domain() != AF_KEY && level == IPPROTO_IP && name == IP_IPSEC_POLICY)
        return set_policy(socket, value);
    if (socket.domain() == AF_INET6 && level == IPPROTO_IPV6 && name == IPV6_IPSEC_POLICY)
        return set_policy(socket, value);

    const auto* row = find_row(socket, level, name);
    if (row == nullptr || row->value == nullptr)
        return sys_error(ENOPROTOOPT);
    int number = 0;
    if (!copy_from(value, number)) {
        if (level != IPPROTO_IP || value.empty())   // the IP level takes a single byte as well
            return sys_error(EINVAL);
        number = value[0];
    }
    if (row->low == 0 && row->high == 1)
        number = number != 0 ? 1 : 0;
    if (number < row->low || number > row->high || (name == IP_TTL && level == IPPROTO_IP && number == 0))
        return sys_error(EINVAL);
    if (row->value == &SocketOptions::v6_only && socket.bound())
        return sys_error(EINVAL);
    socket.options.*(row->value) = number;
    socket.apply_options();
    return {};
}

SysResult<std::size_t> get_socket_option(Socket& socket, int level, int name, MutableBytes room)
{
    if (level == SOL_SOCKET && name == SO_LINGER)
        return copy_to(linger{socket.options.linger_on, socket.options.linger_seconds}, room);
    if (level == SOL_SOCKET && name == SO_RCVBUF)
        return copy_to(socket.options.receive_buffer, room);
    if (level == SOL_SOCKET && name == SO_SNDBUF)
        return copy_to(socket.options.send_buffer, room);
    const auto* row = find_row(socket, level, name);
    if (row == nullptr)
        return sys_error(ENOPROTOOPT);
    int number = row->value != nullptr ? socket.options.*(row->value) : row->read(socket);
    if (number < 0)
        number = 64;   // the default of both TTL and hop limit
    return copy_to(number, room);
}

}  // namespace latchkey
