// SPDX-License-Identifier: BSD-2-Clause
// Packets for tests: from hex, or put together from parts.
#pragma once

#include "stack/packet.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

namespace latchkey::test {

using Buffer = std::vector<std::uint8_t>;

inline Buffer hex(std::string_view digits)
{
    const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    Buffer out;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        out.push_back(static_cast<std::uint8_t>(value(digits[i]) * 16 + value(digits[i + 1])));
    return out;
}

// Bytes that differ from place to place, so that a piece in the wrong place is seen.
inline Buffer pattern(std::size_t size, std::uint32_t seed = 1)
{
    Buffer out(size);
    for (auto& byte : out) {
        seed = seed * 1664525u + 1013904223u;
        byte = static_cast<std::uint8_t>(seed >> 24);
    }
    return out;
}

struct V4 {
    std::uint8_t protocol = ip_proto::udp;
    std::uint16_t id = 0x1234;
    std::uint16_t flags_and_offset = 0;
    std::uint8_t tos = 0;
    std::uint8_t last_byte_of_source = 1;
    Buffer options{};
    Buffer payload{};
};

inline Buffer build(const V4& v)
{
    const auto header = 20 + v.options.size();
    Buffer out(header + v.payload.size());
    wire::Writer w(out);
    w.put<std::uint8_t>(static_cast<std::uint8_t>(0x40 | header / 4));
    w.put<std::uint8_t>(v.tos);
    w.put<std::uint16_t>(static_cast<std::uint16_t>(out.size()));
    w.put<std::uint16_t>(v.id);
    w.put<std::uint16_t>(v.flags_and_offset);
    w.put<std::uint8_t>(64);
    w.put<std::uint8_t>(v.protocol);
    w.put<std::uint16_t>(0);
    w.put<std::uint32_t>(0x0a000000u | v.last_byte_of_source);
    w.put<std::uint32_t>(0x0a000002u);
    w.put(v.options);
    w.put(v.payload);
    set_ipv4_checksum(MutableBytes(out).first(header));
    return out;
}

struct V6 {
    std::uint8_t next_header = ip_proto::udp;
    std::uint8_t traffic_class = 0;
    std::uint8_t last_byte_of_source = 1;
    Buffer payload{};   // extension headers included
};

inline Buffer build(const V6& v)
{
    Buffer out(40 + v.payload.size());
    wire::Writer w(out);
    w.put<std::uint32_t>(0x60000000u | std::uint32_t{v.traffic_class} << 20);
    w.put<std::uint16_t>(static_cast<std::uint16_t>(v.payload.size()));
    w.put<std::uint8_t>(v.next_header);
    w.put<std::uint8_t>(64);
    for (const std::uint8_t last : {v.last_byte_of_source, std::uint8_t{2}}) {
        w.put<std::uint64_t>(0xfd00000000000000u);
        w.put<std::uint64_t>(last);
    }
    w.put(v.payload);
    return out;
}

// An extension header of `units` times 8 bytes, filled with one PadN option (right for options, harmless for routing).
inline Buffer extension(std::uint8_t next_header, std::size_t units)
{
    Buffer out(units * 8);
    out[0] = next_header;
    out[1] = static_cast<std::uint8_t>(units - 1);
    out[2] = 1;
    out[3] = static_cast<std::uint8_t>(out.size() - 4);
    return out;
}

inline Buffer fragment_header(std::uint8_t next_header, std::uint16_t offset, bool more, std::uint32_t id)
{
    Buffer out(8);
    wire::Writer w(out);
    w.put<std::uint8_t>(next_header);
    w.put<std::uint8_t>(0);
    w.put<std::uint16_t>(static_cast<std::uint16_t>(offset | (more ? 1u : 0u)));
    w.put<std::uint32_t>(id);
    return out;
}

inline Buffer join(std::initializer_list<Buffer> parts)
{
    Buffer out;
    for (const auto& part : parts)
        out.insert(out.end(), part.begin(), part.end());
    return out;
}

// The checksum of RFC 791 by its definition: all 16-bit words of a right header add up to 0xffff.
inline bool ipv4_checksum_right(Bytes header)
{
    std::uint32_t sum = 0;
    for (std::size_t at = 0; at < header.size(); at += 2)
        sum += static_cast<std::uint32_t>(header[at] << 8 | header[at + 1]);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

}  // namespace latchkey::test
