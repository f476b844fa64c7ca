// SPDX-License-Identifier: BSD-2-Clause
#include "stack/packet.hpp"

namespace latchkey {

namespace {

constexpr std::size_t v4_header = 20;
constexpr std::size_t v6_header = 40;
constexpr std::size_t v4_protocol_at = 9;
constexpr std::size_t v6_next_header_at = 6;

// A chain is bounded by the packet anyway; this bounds the work that one packet can ask for (RFC 8504 §5.3 allows it).
constexpr unsigned max_extension_headers = 16;

constexpr auto malformed = std::unexpected(Drop::in_malformed);

// How many bytes of the upper-layer header tell a flow: two ports, or type and code.
enum class FlowBytes : std::uint8_t { none, type_and_code, ports };

constexpr FlowBytes flow_bytes(std::uint8_t protocol)
{
    constexpr std::uint8_t dccp = 33, sctp = 132, udp_lite = 136;
    switch (protocol) {
    case ip_proto::tcp:
    case ip_proto::udp:
    case dccp:
    case sctp:
    case udp_lite: return FlowBytes::ports;
    case ip_proto::icmp:
    case ip_proto::icmpv6: return FlowBytes::type_and_code;
    default: return FlowBytes::none;
    }
}

// Extension headers that a host steps over to reach the upper layer. AH and ESP are not among them: what follows is not
// known, or not to be believed, before they are checked.
constexpr bool is_extension(std::uint8_t protocol)
{
    return protocol == ip_proto::hop_by_hop || protocol == ip_proto::routing || protocol == ip_proto::fragment ||
           protocol == ip_proto::dest_options;
}

void read_flow(Bytes packet, Packet& p)
{
    p.flow = {p.source, p.destination, 0, 0, p.protocol, false};
    if (p.fragment_offset != 0)
        return;
    const auto upper = packet.subspan(p.payload);
    switch (flow_bytes(p.protocol)) {
    case FlowBytes::none: return;
    case FlowBytes::type_and_code:
        if (upper.size() < 2)
            return;
        p.flow.source_port = upper[0];
        p.flow.destination_port = upper[1];
        break;
    case FlowBytes::ports:
        if (upper.size() < 4)
            return;
        p.flow.source_port = wire::field<std::uint16_t>(upper, 0);
        p.flow.destination_port = wire::field<std::uint16_t>(upper, 2);
        break;
    }
    p.flow.has_ports = true;
}

std::expected<Packet, Drop> parse_v4(Bytes view)
{
    if (view.size() < v4_header)
        return malformed;
    const std::size_t header = (view[0] & 0x0fu) * 4u;
    Packet p;
    p.family = Family::v4;
    p.total = wire::field<std::uint16_t>(view, 2);
    if (header < v4_header || p.total < header || p.total > view.size())
        return malformed;

    const auto flags_and_offset = wire::field<std::uint16_t>(view, 6);
    p.dont_fragment = (flags_and_offset & 0x4000u) != 0;
    p.more_fragments = (flags_and_offset & 0x2000u) != 0;
    p.fragment_offset = (flags_and_offset & 0x1fffu) * 8u;
    p.fragment_id = wire::field<std::uint16_t>(view, 4);
    p.is_fragment = p.more_fragments || p.fragment_offset != 0;

    p.traffic_class = view[1];
    p.hop_limit = view[8];
    p.source = Address::v4(view.subspan<12, 4>());
    p.destination = Address::v4(view.subspan<16, 4>());
    p.protocol = p.insert_protocol = view[v4_protocol_at];
    p.protocol_at = p.insert_at = v4_protocol_at;
    p.payload = p.insert = header;
    read_flow(view.first(p.total), p);
    return p;
}

// Size of the extension header at the start of `rest`; 0 if it is cut off. The chain of a first fragment must be whole
// (RFC 7112 §5), so there is no other case in which it may be.
std::size_t extension_size(std::uint8_t kind, Bytes rest)
{
    if (rest.size() < 8)
        return 0;
    const std::size_t size = kind == ip_proto::fragment ? 8u : (rest[1] + 1u) * 8u;
    return size <= rest.size() ? size : 0;
}

// A jumbo payload option contradicts a payload length that is not 0, and one of 0 ends before its hop-by-hop header:
// jumbograms are refused either way (RFC 2675 §3). So are options that run over the end of their header.
bool hop_options_acceptable(Bytes header)
{
    constexpr std::uint8_t pad1 = 0, jumbo = 0xc2;
    wire::Reader in(header.subspan(2));
    while (in.left() != 0) {
        const auto type = in.get<std::uint8_t>();
        if (type == jumbo)
            return false;
        if (type != pad1)
            in.skip(in.get<std::uint8_t>());
        if (!in.ok())
            return false;
    }
    return true;
}

bool read_fragment_header(Bytes header, std::size_t at, std::size_t named_at, Packet& p)
{
    if (p.fragment_header != 0)
        return false;
    const auto offset_and_more = wire::field<std::uint16_t>(header, 2);
    p.fragment_header = at;
    p.fragment_at = named_at;
    p.fragment_offset = offset_and_more & 0xfff8u;
    p.more_fragments = (offset_and_more & 1u) != 0;
    p.fragment_id = wire::field<std::uint32_t>(header, 4);
    p.is_fragment = p.more_fragments || p.fragment_offset != 0;
    return true;
}

bool walk_chain(Bytes packet, Packet& p)
{
    std::size_t at = v6_header;
    std::size_t named_at = v6_next_header_at;
    p.insert = at;
    p.insert_at = named_at;
    for (unsigned seen = 0;; ++seen) {
        const auto kind = packet[named_at];
        // What follows the fragment header of a later fragment is the middle of something.
        if (!is_extension(kind) || p.fragment_offset != 0) {
            p.protocol = kind;
            p.protocol_at = named_at;
            p.payload = at;
            p.insert_protocol = packet[p.insert_at];
            return true;
        }
        // RFC 8200 §4.1: hop-by-hop options come right after the IPv6 header or not at all.
        if (seen == max_extension_headers || (kind == ip_proto::hop_by_hop && seen != 0))
            return false;
        const auto size = extension_size(kind, packet.subspan(at));
        if (size == 0)
            return false;
        const auto header = packet.subspan(at, size);
        if (kind == ip_proto::hop_by_hop && !hop_options_acceptable(header))
            return false;
        if (kind == ip_proto::fragment && !read_fragment_header(header, at, named_at, p))
            return false;
        p.routing_header |= kind == ip_proto::routing;
        named_at = at;
        at += size;
        // RFC 4303 §3.1.1: destination options may stand on either side; only those before one of these are outside.
        if (kind != ip_proto::dest_options) {
            p.insert = at;
            p.insert_at = named_at;
        }
    }
}

std::expected<Packet, Drop> parse_v6(Bytes view)
{
    if (view.size() < v6_header)
        return malformed;
    Packet p;
    p.family = Family::v6;
    p.total = v6_header + wire::field<std::uint16_t>(view, 4);
    if (p.total > view.size())
        return malformed;
    p.traffic_class = static_cast<std::uint8_t>(wire::field<std::uint16_t>(view, 0) >> 4);
    p.hop_limit = view[7];
    p.source = Address::v6(view.subspan<8, 16>());
    p.destination = Address::v6(view.subspan<24, 16>());
    const auto packet = view.first(p.total);
    if (!walk_chain(packet, p))
        return malformed;
    read_flow(packet, p);
    return p;
}

// One's complement addition is the same in words of any size (RFC 1071 §2), so it goes by four bytes.
std::uint64_t sum_of(Bytes bytes)
{
    std::uint64_t sum = 0;
    std::size_t at = 0;
    for (; at + 4 <= bytes.size(); at += 4)
        sum += wire::field<std::uint32_t>(bytes, at);
    if (at + 2 <= bytes.size()) {
        sum += wire::field<std::uint16_t>(bytes, at);
        at += 2;
    }
    return at < bytes.size() ? sum + bytes[at] * 256u : sum;
}

constexpr std::uint16_t complement(std::uint64_t sum)
{
    while ((sum >> 16) != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}

}  // namespace

std::expected<Packet, Drop> parse_packet(Bytes view)
{
    if (view.empty())
        return malformed;
    switch (view[0] >> 4) {
    case 4: return parse_v4(view);
    case 6: return parse_v6(view);
    default: return malformed;
    }
}

std::uint16_t plain_checksum(Bytes message)
{
    return complement(sum_of(message));
}

std::uint16_t upper_checksum(Bytes message, const Address& source, const Address& destination, std::uint8_t protocol)
{
    return complement(sum_of(message) + sum_of(source.bytes()) + sum_of(destination.bytes()) + message.size() + protocol);
}

void set_ipv4_checksum(MutableBytes header)
{
    constexpr std::size_t checksum_at = 10;
    wire::set_field<std::uint16_t>(header, checksum_at, 0);
    wire::set_field<std::uint16_t>(header, checksum_at, plain_checksum(header));
}

void rewrite_header(MutableBytes packet, Family family, std::size_t protocol_at, std::uint8_t protocol,
                    std::size_t total)
{
    packet[protocol_at] = protocol;
    if (family == Family::v6) {
        wire::set_field<std::uint16_t>(packet, 4, static_cast<std::uint16_t>(total - v6_header));
        return;
    }
    wire::set_field<std::uint16_t>(packet, 2, static_cast<std::uint16_t>(total));
    set_ipv4_checksum(packet.first((packet[0] & 0x0fu) * 4u));
}

}  // namespace latchkey
