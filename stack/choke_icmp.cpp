// SPDX-License-Identifier: BSD-2-Clause
// ICMP between the choke layer and other hosts: errors about transit packets, and what routers say about path MTUs.
#include "stack/choke.hpp"

#include <algorithm>

namespace latchkey {

namespace {

constexpr unsigned icmp_errors_per_second = 100;  // RFC 1812 §4.3.2.8, RFC 4443 §2.4(f)
constexpr std::size_t smallest_v4_mtu = 576, smallest_v6_mtu = 1280;
constexpr std::uint8_t echo_reply = 0, echo_request = 8, first_v6_query = 128;
constexpr std::uint8_t v4_unreachable = 3, v4_fragmentation_needed = 4, v6_too_big = 2;

std::uint16_t icmp_checksum(Bytes message, const Address& source, const Address& destination)
{
    return source.is_v6() ? upper_checksum(message, source, destination, ip_proto::icmpv6) : plain_checksum(message);
}

Address quoted_source(Bytes quoted)
{
    return (quoted[0] >> 4) == 4 ? Address::v4(quoted.subspan<12, 4>()) : Address::v6(quoted.subspan<8, 16>());
}

Address quoted_destination(Bytes quoted)
{
    return (quoted[0] >> 4) == 4 ? Address::v4(quoted.subspan<16, 4>()) : Address::v6(quoted.subspan<24, 16>());
}

}  // namespace

// A quoted ESP, AH or IPComp packet, also in UDP, must be of an SA that exists.
bool Choke::knows_sa(Bytes quoted, const Address& destination) const
{
    const bool v4 = destination.is_v4();
    auto protocol = quoted[v4 ? 9 : 6];
    auto rest = quoted.subspan(v4 ? 20 : 40);
    if (protocol == ip_proto::udp && rest.size() >= 12 &&
        engine_.encapsulates(quoted_source(quoted), wire::field<std::uint16_t>(rest, 0)) &&
        wire::field<std::uint32_t>(rest, 8) != 0) {
        protocol = ip_proto::esp;
        rest = rest.subspan(8);
    }
    if (!is_transform(protocol))
        return true;
    const std::size_t spi_at = protocol == ip_proto::ah ? 4 : 0;
    if (rest.size() < spi_at + 4)
        return false;
    if (protocol == ip_proto::ipcomp)   // a well-known CPI names no SA
        return engine_.sad().any_between(protocol, quoted_source(quoted), destination) != nullptr;
    return engine_.inbound(protocol, destination, wire::field<std::uint32_t>(rest, spi_at)) != nullptr;
}

// Whatever is not known to be a query counts as one.
bool Choke::is_icmp_error(const Packet& packet)
{
    const auto type = packet.flow.source_port;
    return (packet.protocol == ip_proto::icmp && type != echo_request && type != echo_reply) ||
           (packet.protocol == ip_proto::icmpv6 && type < first_v6_query);
}

void Choke::send_icmp_error(const Queued& about, const Packet& packet, const IcmpError& error)
{
    // RFC 1122 §3.2.2 and RFC 4443 §2.4: not about an ICMP error, a later fragment, a group or an unspecified source.
    if (is_icmp_error(packet) || packet.fragment_offset != 0 || packet.destination.is_multicast() ||
        packet.source.is_multicast() || packet.source.is_unspecified() || !icmp_allowed())
        return;
    const Address* source = icmp_source(about, packet, error);
    if (source == nullptr)
        return;
    const bool v4 = packet.family == Family::v4;
    const std::size_t head = v4 ? 20 : 40;
    const std::size_t quoted = std::min(packet.total, (v4 ? smallest_v4_mtu : smallest_v6_mtu) - head - 8);
    auto p = pool_.allocate(head + 8 + quoted);
    if (!p)
        return;
    wire::Writer w(p.bytes());
    if (v4) {
        w.put<std::uint32_t>(0x45000000u | static_cast<std::uint32_t>(p.size()));
        w.put<std::uint32_t>((next_fragment_id_++ & 0xffffu) << 16);
        w.put<std::uint32_t>((64u << 24) | (std::uint32_t{ip_proto::icmp} << 16));
    } else {
        w.put<std::uint32_t>(0x60000000u);
        w.put<std::uint16_t>(static_cast<std::uint16_t>(8 + quoted));
        w.put<std::uint8_t>(ip_proto::icmpv6);
        w.put<std::uint8_t>(64);
    }
    w.put(source->bytes());
    w.put(packet.source.bytes());
    w.put<std::uint8_t>(v4 ? error.v4_type : error.v6_type);
    w.put<std::uint8_t>(v4 ? error.v4_code : error.v6_code);
    w.put<std::uint16_t>(0);
    w.put<std::uint32_t>(error.value);
    w.put(Bytes(about.packet.bytes()).first(quoted));

    const auto bytes = p.bytes();
    if (v4)
        set_ipv4_checksum(bytes.first(head));
    wire::set_field<std::uint16_t>(bytes, head + 2, icmp_checksum(bytes.subspan(head), *source, packet.source));
    const auto parsed = parse_packet(bytes);
    if (!parsed)
        return;
    Egress e;
    e.whole = p.get();
    e.only_protected = about.history.secured();
    if (const auto why = dispatch(e, *parsed); why != Drop::none)
        drop(why, *parsed);
}

// The interface that the packet came in by speaks (RFC 1812 §4.3.2.4). But the error quotes the packet: what came
// protected must not go back in clear, so then it is an address of ours from which policy protects it, or none.
const Address* Choke::icmp_source(const Queued& about, const Packet& packet, const IcmpError& error)
{
    if (!about.history.secured())
        return about.in->source_for(packet.family);
    const bool v4 = packet.family == Family::v4;
    Flow flow;
    flow.destination = packet.source;
    flow.source_port = v4 ? error.v4_type : error.v6_type;
    flow.destination_port = v4 ? error.v4_code : error.v6_code;
    flow.protocol = v4 ? ip_proto::icmp : ip_proto::icmpv6;
    flow.has_ports = true;
    for (const auto& interface : interfaces_)
        for (const auto& mine : interface->addresses) {
            flow.source = mine.address;
            if (interface->up() && !interface->loopback && mine.address.family() == packet.family &&
                !mine.address.is_link_local() && walk_.protection_of(flow, now) != nullptr)
                return &mine.address;
        }
    return nullptr;
}

bool Choke::icmp_allowed()
{
    if (now - icmp_window_ >= std::chrono::seconds(1)) {
        icmp_window_ = now;
        icmp_sent_ = 0;
    }
    return icmp_sent_++ < icmp_errors_per_second;
}

// Packet too big, and fragmentation needed (RFC 8201, RFC 1191): about a packet that this host has sent. Less than
// every link must carry is not believed, so a forged message costs little (RFC 4301 §8.2.1); one about a protected
// packet must know its SA.
void Choke::learn_path_mtu(const Interface& in, Bytes bytes, const Packet& packet)
{
    const bool v4 = packet.family == Family::v4;
    const auto type = packet.flow.source_port, code = packet.flow.destination_port;
    const std::size_t head = v4 ? 20 : 40;
    const bool too_big = v4 ? type == v4_unreachable && code == v4_fragmentation_needed : type == v6_too_big;
    if (!too_big || !packet.flow.has_ports || packet.total < packet.payload + 8 + head)
        return;
    const auto message = bytes.first(packet.total).subspan(packet.payload);
    const auto quoted = message.subspan(8);
    if ((quoted[0] >> 4) != (v4 ? 4 : 6) || icmp_checksum(message, packet.source, packet.destination) != 0)
        return;
    const auto source = quoted_source(quoted), destination = quoted_destination(quoted);
    if (!is_local(in, source) || destination.is_multicast())
        return;
    if (!knows_sa(quoted, destination))
        return;
    const auto told = v4 ? wire::field<std::uint16_t>(message, 6) : wire::field<std::uint32_t>(message, 4);
    if (path_mtus_.learn(destination, std::max<std::size_t>(told, v4 ? smallest_v4_mtu : smallest_v6_mtu), now))
        resize_segments();
}

}  // namespace latchkey
