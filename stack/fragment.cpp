// SPDX-License-Identifier: BSD-2-Clause
#include "stack/fragment.hpp"

#include <algorithm>
#include <cstring>

namespace latchkey {

namespace {

constexpr std::size_t v4_header = 20;
constexpr std::size_t v6_header = 40;
constexpr std::size_t fragment_header = 8;
constexpr std::size_t offset_unit = 8;

// Rewrites an IPv4 header to what fragments after the first carry: only the options with the copy bit (RFC 791 §3.1).
// Returns its new size; 0 if the options run over their end.
std::size_t keep_copied_options(MutableBytes header)
{
    constexpr std::uint8_t end_of_list = 0, no_operation = 1, copy_bit = 0x80;
    std::size_t kept = v4_header;
    for (std::size_t at = v4_header; at < header.size() && header[at] != end_of_list;) {
        if (header[at] == no_operation) {
            ++at;
            continue;
        }
        const std::size_t size = at + 1 < header.size() ? header[at + 1] : 0;
        if (size < 2 || size > header.size() - at)
            return 0;
        if ((header[at] & copy_bit) != 0) {
            std::memmove(&header[kept], &header[at], size);
            kept += size;
        }
        at += size;
    }
    while (kept % 4 != 0)
        header[kept++] = end_of_list;
    header[0] = static_cast<std::uint8_t>(0x40u | kept / 4);
    return kept;
}

}  // namespace

std::expected<Fragmenter, Drop> Fragmenter::cut(Bytes datagram, std::size_t mtu, std::uint32_t id)
{
    const auto packet = parse_packet(datagram);
    if (!packet)
        return std::unexpected(packet.error());
    Fragmenter out;
    out.packet_ = *packet;
    out.datagram_ = datagram.first(packet->total);
    out.mtu_ = mtu;
    if (const auto drop = out.prepare(id); drop != Drop::none)
        return std::unexpected(drop);
    return out;
}

Drop Fragmenter::prepare(std::uint32_t id)
{
    const MutableBytes room(header_);
    const bool v4 = packet_.family == Family::v4;
    const bool has_header = packet_.fragment_header != 0;
    start_ = v4 ? packet_.payload : has_header ? packet_.fragment_header + fragment_header : packet_.insert;
    whole_ = datagram_.size() <= mtu_;
    if (whole_)
        start_ = std::min(start_, room.size());
    at_ = start_;
    header_size_ = whole_ || v4 || has_header ? start_ : start_ + fragment_header;
    if (header_size_ > room.size())
        return Drop::out_too_big;
    std::ranges::copy(datagram_.first(start_), room.begin());
    if (whole_)
        return Drop::none;

    if (header_size_ + offset_unit > mtu_)
        return Drop::out_too_big;
    const auto payload = datagram_.size() - start_;
    if (packet_.fragment_offset + payload > 0xffff || (packet_.more_fragments && payload % offset_unit != 0))
        return Drop::in_malformed;
    if (!v4 && !has_header) {
        wire::Writer out(room.subspan(start_));
        out.put<std::uint8_t>(packet_.insert_protocol);
        out.put<std::uint8_t>(0);
        out.put<std::uint16_t>(0);
        out.put<std::uint32_t>(id);
        room[packet_.insert_at] = ip_proto::fragment;
    }
    auto trial = header_;
    return v4 && keep_copied_options(MutableBytes(trial).first(start_)) == 0 ? Drop::in_malformed : Drop::none;
}

bool Fragmenter::next(Piece& piece)
{
    const auto left = datagram_.size() - at_;
    if (!first_ && left == 0)
        return false;
    // Only the last piece may end anywhere; rounding that one too is what loses datagrams elsewhere.
    const auto room = mtu_ - header_size_;
    const bool last = left <= room;
    std::ranges::copy(Bytes(header_).first(header_size_), piece.header.begin());
    piece.header_size = header_size_;
    piece.payload = datagram_.subspan(at_, last ? left : room / offset_unit * offset_unit);
    if (!whole_)
        stamp(piece, last);
    at_ += piece.payload.size();
    if (first_ && !whole_ && packet_.family == Family::v4)
        header_size_ = keep_copied_options(MutableBytes(header_).first(header_size_));
    first_ = false;
    return true;
}

void Fragmenter::stamp(Piece& piece, bool last) const
{
    const auto header = MutableBytes(piece.header).first(piece.header_size);
    const auto offset = packet_.fragment_offset + (at_ - start_);
    const bool more = !last || packet_.more_fragments;
    if (packet_.family == Family::v6) {
        wire::set_field<std::uint16_t>(header, 4, static_cast<std::uint16_t>(piece.size() - v6_header));
        wire::set_field<std::uint16_t>(header, header.size() - fragment_header + 2,
                                       static_cast<std::uint16_t>(offset | (more ? 1u : 0u)));
        return;
    }
    const auto kept_flags = wire::field<std::uint16_t>(header, 6) & 0xc000u;
    wire::set_field<std::uint16_t>(header, 2, static_cast<std::uint16_t>(piece.size()));
    const auto flags = kept_flags | (more ? 0x2000u : 0u);
    wire::set_field<std::uint16_t>(header, 6, static_cast<std::uint16_t>(flags | offset / offset_unit));
    set_ipv4_checksum(header);
}

}  // namespace latchkey
