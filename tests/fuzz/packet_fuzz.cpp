// SPDX-License-Identifier: BSD-2-Clause
// Packets as the wire brings them: parsed, cut, and put together. Input: one byte for the limits, then packets, each after
// a control byte (provenance, MTU, time that passes) and its length (16 bits).
#include "stack/fragment.hpp"
#include "stack/natt.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

using namespace latchkey;

namespace {

using Buffer = std::vector<std::uint8_t>;

void require(bool condition)
{
    if (!condition)
        std::abort();
}

void check_parsed(Bytes view, const Packet& p)
{
    require(p.total <= view.size());
    require(p.insert <= p.payload && p.payload <= p.total);
    require(p.insert_at < p.insert && p.protocol_at < p.payload);
    require(view[p.insert_at] == p.insert_protocol && view[p.protocol_at] == p.protocol);
    require(p.is_fragment == (p.more_fragments || p.fragment_offset != 0));
    require(p.fragment_offset % 8 == 0);
    require(p.flow.source == p.source && p.flow.destination == p.destination && p.flow.protocol == p.protocol);
    require(p.flow.has_ports || (p.flow.source_port == 0 && p.flow.destination_port == 0));
    require(!p.flow.has_ports || (p.fragment_offset == 0 && p.payload + 2 <= p.total));
    if (p.fragment_header != 0)
        require(view[p.fragment_at] == ip_proto::fragment && p.fragment_header + 8 <= p.payload);
    const auto exact = parse_packet(view.first(p.total));
    require(exact && exact->payload == p.payload && exact->flow == p.flow);
    require(p.total == 0 || !parse_packet(view.first(p.total - 1)));
}

struct Cut {
    bool done = false;
    std::vector<Buffer> pieces;
};

Cut cut(Bytes datagram, std::size_t mtu)
{
    Cut out;
    auto fragmenter = Fragmenter::cut(datagram, mtu, 0x01020304);
    if (!fragmenter)
        return out;
    Fragmenter::Piece piece;
    while (fragmenter->next(piece)) {
        require(piece.size() <= mtu);
        Buffer packet(piece.header.begin(), piece.header.begin() + static_cast<std::ptrdiff_t>(piece.header_size));
        packet.insert(packet.end(), piece.payload.begin(), piece.payload.end());
        out.pieces.push_back(std::move(packet));
    }
    out.done = true;
    return out;
}

// What was cut comes together again, whatever the order, to the same bytes.
void check_cut(Bytes datagram, const Packet& p, std::size_t mtu)
{
    auto cutting = cut(datagram.first(p.total), mtu);
    if (!cutting.done)
        return;
    require(!cutting.pieces.empty());
    if (cutting.pieces.size() == 1) {
        require(std::ranges::equal(cutting.pieces[0], datagram.first(p.total)));
        return;
    }
    if (p.is_fragment || p.fragment_header != 0)
        return;
    Reassembly reassembly;
    Reassembly::Outcome outcome;
    std::ranges::rotate(cutting.pieces, cutting.pieces.begin() + 1);
    for (const auto& piece : cutting.pieces) {
        require(outcome.datagram == nullptr);
        const auto parsed = parse_packet(piece);
        if (parsed)
            outcome = reassembly.add(piece, *parsed, 0, Time(0));
        // An IPv6 header chain that does not fit the first fragment (RFC 7112).
        if (!parsed || outcome.drop == Drop::frag_malformed) {
            require(p.family == Family::v6 && &piece == &cutting.pieces.back());
            return;
        }
        require(outcome.drop == Drop::none);
    }
    Buffer expected(datagram.begin(), datagram.begin() + static_cast<std::ptrdiff_t>(p.total));
    if (p.family == Family::v4)
        set_ipv4_checksum(MutableBytes(expected).first(p.payload));
    require(outcome.datagram != nullptr);
    require(std::ranges::equal(Bytes(outcome.datagram.get(), outcome.size), expected));
    require(reassembly.held_bytes() == 0);
}

void check_reassembled(const Reassembly::Outcome& outcome)
{
    if (outcome.datagram == nullptr)
        return;
    require(outcome.drop == Drop::none);
    const Bytes datagram(outcome.datagram.get(), outcome.size);
    const auto p = parse_packet(datagram);
    require(p && p->total == datagram.size() && !p->is_fragment && p->fragment_header == 0);
}

// Out of a NAT: only the checksum is touched, and it is right afterwards.
void check_repair(Bytes view, const Packet& p)
{
    Buffer packet(view.begin(), view.begin() + static_cast<std::ptrdiff_t>(p.total));
    natt::repair_checksum(packet, {}, true);
    std::size_t changed = 0;
    for (std::size_t i = 0; i < packet.size(); ++i)
        changed += packet[i] != view[i] ? 1 : 0;
    require(changed <= 2);
    const auto upper = Bytes(packet).subspan(p.payload);
    if (changed != 0)
        require(upper_checksum(upper, p.source, p.destination, p.protocol) == 0);
    if (p.protocol == ip_proto::udp && upper.size() >= natt::udp_header) {
        (void)natt::kind_of(upper);
        require(!natt::sound(upper, p.source, p.destination) || wire::field<std::uint16_t>(upper, 4) == upper.size());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static constexpr std::array<std::size_t, 8> mtus{28, 68, 100, 576, 1280, 1281, 1500, 9000};
    static constexpr std::array<int, 4> pauses{0, 1, 20, 61};

    wire::Reader in(Bytes(data, size));
    const auto tight = in.get<std::uint8_t>();
    Reassembly::Limits limits;
    if (tight != 0) {
        limits.bytes = tight * 64u;
        limits.datagrams = 1u + tight % 5u;
    }
    Reassembly reassembly(limits);
    Time now{0};
    while (in.ok() && in.left() > 3) {
        const auto control = in.get<std::uint8_t>();
        const std::size_t length = in.get<std::uint16_t>();
        const auto view = in.take(std::min(length, in.left()));
        now += std::chrono::seconds(pauses[control >> 6]);
        const auto held = reassembly.held_datagrams();
        require(reassembly.expire(now) + reassembly.held_datagrams() <= held);
        const auto packet = parse_packet(view);
        if (!packet)
            continue;
        check_parsed(view, *packet);
        check_repair(view, *packet);
        check_cut(view, *packet, mtus[control >> 3 & 7]);
        check_reassembled(reassembly.add(view, *packet, control & 3u, now));
        require(reassembly.held_bytes() <= limits.bytes && reassembly.held_datagrams() <= limits.datagrams);
        require((reassembly.held_bytes() == 0) == (reassembly.held_datagrams() == 0));
        require((reassembly.next_deadline() == Time::max()) == (reassembly.held_datagrams() == 0));
    }
    reassembly.expire(now + std::chrono::seconds(60));
    require(reassembly.held_bytes() == 0);
    return 0;
}
