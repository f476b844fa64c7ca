// SPDX-License-Identifier: BSD-2-Clause
// One request of an outbound policy, carried out: header, transform, room. Every transform copies the packet into a
// fresh buffer; the input stays TCP's.
#include "stack/natt.hpp"
#include "stack/walk.hpp"

#include <cstring>

namespace latchkey {

namespace {

constexpr std::size_t v4_header = 20, v6_header = 40;
constexpr std::uint8_t outer_hop_limit = 64;
constexpr std::size_t smallest_v6_mtu = 1280;
constexpr std::size_t largest_datagram = 0xffff;

}  // namespace

Drop Walk::seal(Sa& sa, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now)
{
    switch (sa.protocol) {
    case ip_proto::esp: return seal_esp(sa, request, datagram, packet, sealed, now);
    case ip_proto::ah: return seal_ah(sa, request, datagram, packet, sealed, now);
    case ip_proto::ipcomp: return seal_ipcomp(sa, request, datagram, packet, sealed, now);
    default: return Drop::out_crypto;
    }
}

Walk::Inside Walk::inside(const Request& request, Bytes datagram, const Packet& packet)
{
    if (request.mode == Mode::tunnel) {
        const Family outer = request.tunnel_destination.family();
        return {outer, outer == Family::v4 ? v4_header : v6_header, datagram.first(packet.total),
                packet.family == Family::v4 ? ip_proto::ipv4 : ip_proto::ipv6};
    }
    return {packet.family, packet.insert, datagram.first(packet.total).subspan(packet.insert), packet.insert_protocol};
}

Drop Walk::seal_esp(Sa& sa, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now)
{
    const auto in = inside(request, datagram, packet);
    const auto& settings = settings_.of(in.outer);
    const std::size_t head = in.head + (sa.natt ? natt::udp_header : 0);
    const std::size_t padding = settings.random_padding >= 0 ? cipher_.extra_padding(sa, settings.random_padding) : 0;
    const std::size_t total = head + esp_sealed_size(sa, in.payload.size()) + padding;
    if (total > largest_datagram)
        return Drop::out_too_big;
    sealed = pool_.allocate(total);
    if (!sealed)
        return Drop::out_no_buffer;
    if (!take_sequence(sa, in.outer))
        return Drop::out_sequence_exhausted;

    const MutableBytes out = sealed.bytes();
    write_header(out, request, datagram, packet, sa.natt ? ip_proto::udp : ip_proto::esp);
    SealJob job;
    job.sa = &sa;
    job.sequence = sa.sequence;
    job.next_header = in.protocol;
    job.parts[0] = in.payload;
    job.part_count = 1;
    job.out = out.subspan(head);
    cipher_.break_icv = settings.break_icv;
    cipher_.seal({&job, 1});
    if (job.result != Drop::none)
        return job.result;
    if (sa.natt) {
        const bool tunnel = request.mode == Mode::tunnel;
        natt::write_header(out.subspan(in.head), *sa.natt, tunnel ? request.tunnel_source : packet.source,
                           tunnel ? request.tunnel_destination : packet.destination);
    }
    return engine_.charge(sa, in.payload.size(), now) ? Drop::none : Drop::out_lifetime;
}

Drop Walk::seal_ah(Sa& sa, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now)
{
    const auto in = inside(request, datagram, packet);
    const std::size_t ah = ah_size(sa, in.outer);
    const std::size_t total = in.head + ah + in.payload.size();
    if (total > largest_datagram)
        return Drop::out_too_big;
    sealed = pool_.allocate(total);
    if (!sealed)
        return Drop::out_no_buffer;
    if (!take_sequence(sa, in.outer))
        return Drop::out_sequence_exhausted;

    const MutableBytes out = sealed.bytes();
    write_header(out, request, datagram, packet, ip_proto::ah);
    std::memcpy(out.data() + in.head + ah, in.payload.data(), in.payload.size());
    AhSealJob job;
    job.sa = &sa;
    job.sequence = sa.sequence;
    job.next_header = in.protocol;
    job.datagram = out;
    job.at = in.head;
    job.rules = settings_.ah;
    cipher_.break_icv = settings_.of(in.outer).break_icv;
    cipher_.seal({&job, 1});
    if (job.result != Drop::none)
        return job.result;
    return engine_.charge(sa, in.payload.size(), now) ? Drop::none : Drop::out_lifetime;
}

// RFC 3173 §2.2: what does not get smaller goes without IPComp: in transport mode as it is, to the next request of the
// bundle; in tunnel mode as IP in IP, which the far end takes off just the same.
Drop Walk::seal_ipcomp(Sa& sa, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now)
{
    const auto in = inside(request, datagram, packet);
    const bool tunnel = request.mode == Mode::tunnel;
    std::size_t size = 0;
    if (in.payload.size() >= ipcomp_threshold) {
        sealed = pool_.allocate(std::min(in.head + in.payload.size(), largest_datagram));
        if (!sealed)
            return Drop::out_no_buffer;
        size = compressor().compress(in.payload, sealed.bytes().subspan(in.head + ipcomp_header));
    }
    if (size == 0) {
        sealed.reset();
        if (!tunnel)
            return Drop::none;
        const std::size_t total = in.head + in.payload.size();
        if (total > largest_datagram)
            return Drop::out_too_big;
        sealed = pool_.allocate(total);
        if (!sealed)
            return Drop::out_no_buffer;
        write_header(sealed.bytes(), request, datagram, packet, in.protocol);
        std::memcpy(sealed.bytes().data() + in.head, in.payload.data(), in.payload.size());
        return Drop::none;
    }
    sealed.narrow(0, in.head + ipcomp_header + size);
    write_header(sealed.bytes(), request, datagram, packet, ip_proto::ipcomp);
    // As in KAME: the SPI is a number of this host's own and the well-known one of the algorithm goes out, unless the
    // SA says that the SPI was agreed on.
    const bool agreed = (sa.flags & SADB_X_EXT_RAWCPI) != 0;
    wire::Writer w(sealed.bytes().subspan(in.head));
    w.put<std::uint8_t>(in.protocol);
    w.put<std::uint8_t>(0);
    w.put<std::uint16_t>(static_cast<std::uint16_t>(agreed ? sa.spi : sa.cipher->sadb_id));
    return engine_.charge(sa, in.payload.size(), now) ? Drop::none : Drop::out_lifetime;
}

// False: they are used up.
bool Walk::take_sequence(Sa& sa, Family outer)
{
    // A counter mode makes its nonce of the number, and repeating that would give the key away.
    if (settings_.of(outer).repeat_sequence && !sa.uses_counter()) {
        sa.sequence = std::max<std::uint64_t>(sa.sequence, 1);
        return true;
    }
    const bool last = sa.sequence >= sa.last_sequence();
    if (last && !sa.may_cycle())
        return false;
    sa.sequence = last ? 1 : sa.sequence + 1;
    return true;
}

void Walk::write_header(MutableBytes out, const Request& request, Bytes datagram, const Packet& packet,
                        std::uint8_t protocol)
{
    if (request.mode == Mode::tunnel)
        return write_outer_header(out, request, packet, protocol);
    std::memcpy(out.data(), datagram.data(), packet.insert);
    rewrite_header(out, packet.family, packet.insert_at, protocol, out.size());
}

// RFC 4301 §5.1.2: a fresh header; only the traffic class is taken from the inner one.
void Walk::write_outer_header(MutableBytes out, const Request& request, const Packet& inner, std::uint8_t protocol)
{
    const bool v4 = request.tunnel_destination.is_v4();
    auto traffic_class = inner.traffic_class;
    const int ecn = settings_.of(v4 ? Family::v4 : Family::v6).ecn;
    if (ecn == 0)
        traffic_class &= 0xfc;
    else if (ecn == 1 && (traffic_class & 3) == 3)
        traffic_class = static_cast<std::uint8_t>((traffic_class & 0xfc) | 2);   // CE goes out as ECT(0), RFC 3168 §9.1.1

    wire::Writer w(out);
    if (v4) {
        // Every link carries 1280 bytes of IPv6 (RFC 8200 §5): where a tunnel does not, its outer packet is cut.
        const bool uncuttable = inner.family == Family::v6 ? inner.total > smallest_v6_mtu : inner.dont_fragment;
        const bool df = settings_.dfbit == 1 || (settings_.dfbit >= 2 && uncuttable);
        w.put<std::uint8_t>(0x45);
        w.put<std::uint8_t>(traffic_class);
        w.put<std::uint16_t>(static_cast<std::uint16_t>(out.size()));
        w.put<std::uint16_t>(next_id_++);
        w.put<std::uint16_t>(df ? 0x4000 : 0);
        w.put<std::uint8_t>(outer_hop_limit);
        w.put<std::uint8_t>(protocol);
        w.put<std::uint16_t>(0);
        w.put(request.tunnel_source.bytes());
        w.put(request.tunnel_destination.bytes());
        set_ipv4_checksum(out.first(v4_header));
        return;
    }
    w.put<std::uint32_t>(0x60000000u | (std::uint32_t{traffic_class} << 20));
    w.put<std::uint16_t>(static_cast<std::uint16_t>(out.size() - v6_header));
    w.put<std::uint8_t>(protocol);
    w.put<std::uint8_t>(outer_hop_limit);
    w.put(request.tunnel_source.bytes());
    w.put(request.tunnel_destination.bytes());
}

Compressor& Walk::compressor()
{
    if (!compressor_)
        compressor_ = std::make_unique<Compressor>();
    return *compressor_;
}

}  // namespace latchkey
