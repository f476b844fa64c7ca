// SPDX-License-Identifier: BSD-2-Clause
// An IP packet as the walk sees it: where its headers are and which flow it belongs to. Reads IPv4 and IPv6 (with its
// chain of extension headers) from one contiguous view; nothing is copied.
#pragma once

#include "pfkey/policy.hpp"
#include "stack/drops.hpp"

#include <expected>

namespace latchkey {

struct Packet {
    Family family = Family::none;
    Address source, destination;
    std::size_t total = 0;             // bytes of the packet by its own length field (<= the view)
    std::uint8_t protocol = 0;         // upper-layer protocol at `payload` (for a later fragment: what it would be)
    std::size_t payload = 0;           // offset of the upper-layer header: after every extension header that a host skips
    std::size_t protocol_at = 0;       // offset of the byte that names `protocol`
    // Where a transport-mode header is inserted (RFC 4303 §3.1.1): IPv4 after the options; IPv6 after hop-by-hop,
    // routing and the destination options before it.
    std::size_t insert = 0;
    std::size_t insert_at = 0;         // offset of the byte that names what follows `insert`
    std::uint8_t insert_protocol = 0;  // its value

    bool is_fragment = false;          // offset != 0 or more fragments
    std::uint32_t fragment_offset = 0; // bytes
    bool more_fragments = false;
    std::uint32_t fragment_id = 0;
    std::size_t fragment_header = 0;   // IPv6: offset of the fragment header, which atomic fragments have too; 0: none
    std::size_t fragment_at = 0;       // IPv6: offset of the byte that names the fragment header
    bool dont_fragment = false;        // IPv4
    std::uint8_t traffic_class = 0;    // TOS / traffic class
    std::uint8_t hop_limit = 0;        // TTL / hop limit
    bool routing_header = false;       // an IPv6 routing header is present

    // For TCP, UDP, SCTP, DCCP, UDP-Lite the ports; for ICMP type and code. A fragment that is not first has none.
    Flow flow;
};

// Errors: Drop::in_malformed (broken header or chain, length beyond the view). An AH header ends the chain as ESP does.
std::expected<Packet, Drop> parse_packet(Bytes view);

// ESP, AH and IPComp: what follows is a transform's.
constexpr bool is_transform(std::uint8_t protocol)
{
    return protocol == ip_proto::esp || protocol == ip_proto::ah || protocol == ip_proto::ipcomp;
}

// The Internet checksum (RFC 1071) over an upper-layer message and its pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1), the
// message's checksum field included: 0 if that is right; with the field zero, what belongs there.
std::uint16_t upper_checksum(Bytes message, const Address& source, const Address& destination, std::uint8_t protocol);

// The same without a pseudo-header, as ICMP for IPv4 has it.
std::uint16_t plain_checksum(Bytes message);

// Header checksum of an IPv4 header of `header` bytes, written into it.
void set_ipv4_checksum(MutableBytes header);

// Sets protocol/next header and length fields after a payload was replaced in place.
// protocol_at as in Packet; total: the new size of the packet. Recomputes the IPv4 checksum.
void rewrite_header(MutableBytes packet, Family family, std::size_t protocol_at, std::uint8_t protocol, std::size_t total);

}  // namespace latchkey
