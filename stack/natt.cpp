// SPDX-License-Identifier: BSD-2-Clause
#include "stack/natt.hpp"

#include <algorithm>

namespace latchkey::natt {

namespace {

constexpr std::size_t length_at = 4, checksum_at = 6;
constexpr std::size_t marker_size = 4;

// Where a protocol keeps the checksum that covers the addresses; 0: it has none.
constexpr std::size_t checksum_place(std::uint8_t protocol)
{
    switch (protocol) {
    case ip_proto::tcp:
        return 16;
    case ip_proto::udp:
        return 6;
    case ip_proto::icmpv6:
        return 2;
    default:
        return 0;
    }
}

bool right_between(Bytes message, const Address& source, const Address& destination, std::uint8_t protocol)
{
    return source.family() == destination.family() && upper_checksum(message, source, destination, protocol) == 0;
}

// NAT-OA names the two ends as initiator and responder, an SA does not say which of them sent: either way is tried.
bool right_before_nat(Bytes message, const Packet& packet, const NatTraversal& natt)
{
    const Address first = natt.original.value_or(packet.source),
                  second = natt.original_remote.value_or(packet.destination);
    const Address first_back = natt.original.value_or(packet.destination),
                  second_back = natt.original_remote.value_or(packet.source);
    return right_between(message, first, second, packet.protocol) ||
           right_between(message, second_back, first_back, packet.protocol);
}

}   // namespace

Kind kind_of(Bytes udp)
{
    constexpr std::uint8_t keepalive = 0xff;
    if (udp.size() <= udp_header)
        return Kind::other;
    const auto payload = udp.subspan(udp_header);
    if (payload.size() == 1 && payload[0] == keepalive)
        return Kind::keepalive;
    const auto marker = payload.first(std::min(payload.size(), marker_size));
    return std::ranges::all_of(marker, [](std::uint8_t byte) { return byte == 0; }) ? Kind::other : Kind::esp;
}

bool sound(Bytes udp, const Address& source, const Address& destination)
{
    return wire::field<std::uint16_t>(udp, length_at) == udp.size() &&
           (wire::field<std::uint16_t>(udp, checksum_at) == 0 ||
            upper_checksum(udp, source, destination, ip_proto::udp) == 0);
}

void write_header(MutableBytes udp, const NatTraversal& natt, const Address& source, const Address& destination)
{
    wire::Writer w(udp);
    w.put<std::uint16_t>(natt.source_port);
    w.put<std::uint16_t>(natt.destination_port);
    w.put<std::uint16_t>(static_cast<std::uint16_t>(udp.size()));
    w.put<std::uint16_t>(0);
    if (destination.is_v4())
        return;
    const auto checksum = upper_checksum(udp, source, destination, ip_proto::udp);
    wire::set_field<std::uint16_t>(udp, checksum_at, checksum == 0 ? 0xffff : checksum);
}

void repair_checksum(MutableBytes datagram, const NatTraversal& natt, bool trust)
{
    const auto packet = parse_packet(datagram);
    if (!packet || packet->is_fragment)
        return;
    const std::size_t at = checksum_place(packet->protocol);
    const auto message = datagram.first(packet->total).subspan(packet->payload);
    if (at == 0 || message.size() < at + 2)
        return;
    if (packet->protocol == ip_proto::udp && wire::field<std::uint16_t>(message, at) == 0)
        return;   // sent without one
    if (right_between(message, packet->source, packet->destination, packet->protocol))
        return;
    const bool known = natt.original || natt.original_remote;
    if (known && !trust && !right_before_nat(message, *packet, natt))
        return;
    wire::set_field<std::uint16_t>(message, at, 0);
    const auto checksum = upper_checksum(message, packet->source, packet->destination, packet->protocol);
    wire::set_field<std::uint16_t>(message, at, checksum == 0 && packet->protocol == ip_proto::udp ? 0xffff : checksum);
}

}   // namespace latchkey::natt
