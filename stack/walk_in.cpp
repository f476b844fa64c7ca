// SPDX-License-Identifier: BSD-2-Clause
// The inbound half of the walk, first step: take one wrapping off a packet. walk_check.cpp asks whether what was taken
// off satisfies policy.
#include "stack/natt.hpp"
#include "stack/walk.hpp"

#include <cstring>

namespace latchkey {

namespace {

constexpr std::size_t shortest_esp = 8, shortest_ah = 12;
constexpr std::size_t ah_spi_at = 4, ipcomp_cpi_at = 2;
constexpr std::uint16_t last_well_known_cpi = 255;   // RFC 3173 §3.3: below 64 an algorithm's number, to 255 reserved
constexpr std::size_t largest_datagram = 0xffff;

constexpr bool is_ip(std::uint8_t next_header)
{
    return next_header == ip_proto::ipv4 || next_header == ip_proto::ipv6;
}

// RFC 6040 in its two simplest settings; true: the inner packet must be dropped (CE on a packet that is not ECN-capable).
bool merge_ecn(int setting, std::uint8_t outer_class, MutableBytes inner)
{
    if (setting != 1 || (outer_class & 3) != 3 || inner.empty())
        return false;
    const bool v4 = (inner[0] >> 4) == 4;
    const auto word = wire::field<std::uint16_t>(inner, 0);
    const unsigned ecn = v4 ? word & 3u : (word >> 4) & 3u;
    if (ecn == 0)
        return true;
    wire::set_field<std::uint16_t>(inner, 0, static_cast<std::uint16_t>(word | (v4 ? 3u : 0x30u)));
    if (v4 && inner.size() >= 20)
        set_ipv4_checksum(inner.first((inner[0] & 0x0fu) * 4u));
    return false;
}

}  // namespace

Walk::Wrapping Walk::wrapping(Bytes bytes, const Packet& packet) const
{
    switch (packet.protocol) {
    case ip_proto::esp: return Wrapping::esp;
    case ip_proto::ah: return Wrapping::ah;
    case ip_proto::ipcomp: return Wrapping::ipcomp;
    case ip_proto::ipv4:
    case ip_proto::ipv6:
        return ipcomp_tunnel(packet) != nullptr && enabled(Wrapping::ip_in_ip, packet.family) ? Wrapping::ip_in_ip
                                                                                              : Wrapping::none;
    case ip_proto::udp: break;
    default: return Wrapping::none;
    }
    if (!packet.flow.has_ports || !settings_.of(packet.family).enabled ||
        !engine_.encapsulates(packet.destination, packet.flow.destination_port))
        return Wrapping::none;
    const auto udp = bytes.first(packet.total).subspan(packet.payload);
    switch (natt::kind_of(udp)) {
    case natt::Kind::other: return Wrapping::none;
    case natt::Kind::keepalive: return Wrapping::keepalive;
    case natt::Kind::esp: break;
    }
    return Wrapping::esp_in_udp;
}

bool Walk::enabled(Wrapping wrapping, Family family) const
{
    if (!settings_.of(family).enabled)
        return false;
    switch (wrapping) {
    case Wrapping::esp:
    case Wrapping::esp_in_udp: return settings_.esp_enabled;
    case Wrapping::ah: return settings_.ah_enabled;
    case Wrapping::ipcomp:
    case Wrapping::ip_in_ip: return settings_.ipcomp_enabled;
    case Wrapping::none:
    case Wrapping::keepalive: break;
    }
    return true;
}

Drop Walk::open(Wrapping wrapping, Pbuf& packet, const Packet& parsed, History& history, Time now)
{
    if (!enabled(wrapping, parsed.family))
        return Drop::in_disabled;
    Drop why = Drop::none;
    switch (wrapping) {
    case Wrapping::none: return Drop::none;
    case Wrapping::keepalive: return Drop::in_keepalive;
    case Wrapping::esp: why = open_esp(false, packet, parsed, history, now); break;
    case Wrapping::esp_in_udp: why = open_esp(true, packet, parsed, history, now); break;
    case Wrapping::ah: why = open_ah(packet, parsed, history, now); break;
    case Wrapping::ipcomp: why = open_ipcomp(packet, parsed, history, now); break;
    case Wrapping::ip_in_ip: return open_ip_in_ip(packet, parsed, history);
    }
    if (why == Drop::none)
        ++counters.in_protected;
    return why;
}

Drop Walk::open_esp(bool in_udp, Pbuf& packet, const Packet& parsed, History& history, Time now)
{
    const MutableBytes body = packet.bytes().first(parsed.total).subspan(parsed.payload);
    if (in_udp && !natt::sound(body, parsed.source, parsed.destination))
        return Drop::in_malformed;
    const MutableBytes esp = body.subspan(in_udp ? natt::udp_header : 0);
    if (esp.size() < shortest_esp)
        return Drop::in_truncated;
    const auto found = inbound_sa(parsed, ip_proto::esp, wire::field<std::uint32_t>(esp, 0));
    if (!found)
        return found.error();
    Sa& sa = **found;
    if ((sa.natt != nullptr) != in_udp)
        return Drop::in_encapsulation;

    OpenJob job;
    job.sa = &sa;
    job.packet = esp;
    cipher_.open({&job, 1});
    if (job.result != Drop::none)
        return job.result;
    const std::size_t size = job.payload.size();
    const Endpoint sender{parsed.source, parsed.flow.source_port, 0};
    const bool tunnel = is_ip(job.next_header) && sa.mode != Mode::transport;
    if (const auto why = unwrap(packet, parsed, {&sa, job.next_header, job.payload}, history); why != Drop::none)
        return why;
    if (in_udp) {
        if (!tunnel)
            natt::repair_checksum(packet.bytes(), *sa.natt, settings_.trust_natt_checksums);
        // The SA keeps the address that it was given until a key manager changes it. Without an ICV nobody knows who sent.
        const bool authentic = (sa.cipher->icv | (sa.auth != nullptr ? sa.auth->icv : 0)) != 0;
        const bool other_port = sa.natt->source_port != 0 && sa.natt->source_port != sender.port;
        if (!authentic)
            return engine_.charge(sa, size, now) ? Drop::none : Drop::in_lifetime;
        if (other_port || (!sa.source.is_unspecified() && sa.source != sender.address))
            engine_.peer_moved(sa, sender.address, sender.port, now);
    }
    return engine_.charge(sa, size, now) ? Drop::none : Drop::in_lifetime;
}

Drop Walk::open_ah(Pbuf& packet, const Packet& parsed, History& history, Time now)
{
    const MutableBytes all = packet.bytes().first(parsed.total);
    if (all.size() < parsed.payload + shortest_ah)
        return Drop::in_truncated;
    const auto found =
        inbound_sa(parsed, ip_proto::ah, wire::field<std::uint32_t>(all, parsed.payload + ah_spi_at));
    if (!found)
        return found.error();
    Sa& sa = **found;

    AhOpenJob job;
    job.sa = &sa;
    job.datagram = all;
    job.at = parsed.payload;
    job.rules = settings_.ah;
    cipher_.open({&job, 1});
    if (job.result != Drop::none)
        return job.result;
    if (job.next_header == ip_proto::no_next)
        return Drop::in_dummy;
    const auto payload = all.subspan(parsed.payload + job.size);
    const std::size_t size = payload.size();
    if (const auto why = unwrap(packet, parsed, {&sa, job.next_header, payload}, history); why != Drop::none)
        return why;
    return engine_.charge(sa, size, now) ? Drop::none : Drop::in_lifetime;
}

// What was compressed gets a buffer of its own size; until that is known it stands in a scratch area that is as large
// as a datagram can be.
Drop Walk::open_ipcomp(Pbuf& packet, const Packet& parsed, History& history, Time now)
{
    const Bytes all = packet.bytes().first(parsed.total);
    const Bytes body = all.subspan(parsed.payload);
    if (body.size() < ipcomp_header)
        return Drop::in_truncated;
    Drop why = Drop::none;
    Sa* sa = ipcomp_sa(parsed, body, why);
    if (sa == nullptr)
        return why;

    scratch_.resize(largest_datagram);
    const std::size_t head = parsed.payload;
    std::size_t size = 0;
    const auto room = MutableBytes(scratch_).first(largest_datagram - head);
    why = compressor().decompress(body.subspan(ipcomp_header), room, size);
    if (why != Drop::none)
        return why;
    auto whole = pool_.allocate(head + size);
    if (!whole)
        return Drop::in_no_buffer;
    std::memcpy(whole.bytes().data(), all.data(), head);
    std::memcpy(whole.bytes().data() + head, scratch_.data(), size);
    const Opened opened{sa, body[0], whole.bytes().subspan(head)};
    if (why = unwrap(whole, parsed, opened, history); why != Drop::none)
        return why;
    packet = std::move(whole);
    return engine_.charge(*sa, size, now) ? Drop::none : Drop::in_lifetime;
}

Drop Walk::open_ip_in_ip(Pbuf& packet, const Packet& parsed, History& history)
{
    const Sa* sa = ipcomp_tunnel(parsed);
    if (sa == nullptr)
        return Drop::in_unknown_spi;
    if (!history.push({ip_proto::ipcomp, Mode::tunnel, sa->spi, sa->reqid, parsed.source, parsed.destination}))
        return Drop::in_nested;
    const MutableBytes inner = packet.bytes().first(parsed.total).subspan(parsed.payload);
    return enter_inner(packet, parsed, *sa, parsed.protocol, inner);
}

std::expected<Sa*, Drop> Walk::inbound_sa(const Packet& parsed, std::uint8_t protocol, std::uint32_t spi)
{
    Sa* sa = engine_.inbound(protocol, parsed.destination, spi);
    if (sa == nullptr)
        return std::unexpected(engine_.sad().find(protocol, parsed.destination, spi) != nullptr ? Drop::in_sa_state
                                                                                               : Drop::in_unknown_spi);
    // A NAT may give its peer another address at any time (RFC 3948 §1.1).
    if (sa->natt == nullptr && !sa->source.is_unspecified() && sa->source != parsed.source)
        return std::unexpected(sa->mode == Mode::tunnel ? Drop::in_tunnel_endpoint : Drop::in_selector_mismatch);
    return sa;
}

// A well-known CPI names the algorithm only: the SA is one between the two addresses, of the mode that the packet has.
Sa* Walk::ipcomp_sa(const Packet& parsed, Bytes header, Drop& why)
{
    const auto cpi = wire::field<std::uint16_t>(header, ipcomp_cpi_at);
    if (cpi > last_well_known_cpi) {
        const auto found = inbound_sa(parsed, ip_proto::ipcomp, cpi);
        why = found ? Drop::none : found.error();
        return found.value_or(nullptr);
    }
    const auto between = [&](Mode mode) {
        return engine_.sad().outbound(ip_proto::ipcomp, mode, parsed.source, parsed.destination, 0, true);
    };
    Sa* sa = between(is_ip(header[0]) ? Mode::tunnel : Mode::transport);
    if (sa == nullptr)
        sa = between(Mode::any);
    if (sa == nullptr || sa->cipher == nullptr || sa->cipher->sadb_id != cpi)
        sa = engine_.inbound(ip_proto::ipcomp, parsed.destination, cpi);   // an SPI may be that small
    why = sa != nullptr ? Drop::none : Drop::in_unknown_spi;
    return sa;
}

const Sa* Walk::ipcomp_tunnel(const Packet& parsed) const
{
    const auto& sad = engine_.sad();
    if (sad.size(ip_proto::ipcomp) == 0)
        return nullptr;
    return sad.outbound(ip_proto::ipcomp, Mode::tunnel, parsed.source, parsed.destination, 0, true);
}

// Makes the packet that was inside out of the one that carried it.
Drop Walk::unwrap(Pbuf& packet, const Packet& parsed, const Opened& opened, History& history)
{
    const Sa& sa = *opened.sa;
    if (sa.mode == Mode::tunnel && !is_ip(opened.next_header))
        return Drop::in_wrong_mode;
    // In transport mode, IP in IP is a payload like any other.
    const bool tunnel = is_ip(opened.next_header) && sa.mode != Mode::transport;
    // A peer behind a NAT speaks for the address that its SA was given and for no other, wherever its packets come from.
    const Address& source = sa.natt && !sa.source.is_unspecified() ? sa.source : parsed.source;
    const Mode mode = tunnel ? Mode::tunnel : Mode::transport;
    if (!history.push({sa.protocol, mode, sa.spi, sa.reqid, source, parsed.destination}))
        return Drop::in_nested;
    if (tunnel)
        return enter_inner(packet, parsed, sa, opened.next_header, opened.payload);

    // The IP header moves up against the payload; nothing is copied but the header.
    const std::size_t head = parsed.payload;
    const std::size_t start = static_cast<std::size_t>(opened.payload.data() - packet.bytes().data()) - head;
    std::memmove(packet.bytes().data() + start, packet.bytes().data(), head);
    packet.narrow(start, head + opened.payload.size());
    rewrite_header(packet.bytes(), parsed.family, parsed.protocol_at, opened.next_header, packet.size());
    return Drop::none;
}

Drop Walk::enter_inner(Pbuf& packet, const Packet& parsed, const Sa& sa, std::uint8_t next_header, MutableBytes inner)
{
    const auto found = parse_packet(inner);
    if (!found || (found->family == Family::v4) != (next_header == ip_proto::ipv4))
        return Drop::in_malformed;
    if (sa.proxy && !sa.proxy->contains(found->source))
        return Drop::in_selector_mismatch;
    if (merge_ecn(settings_.of(parsed.family).ecn, parsed.traffic_class, inner))
        return Drop::in_malformed;
    packet.narrow(static_cast<std::size_t>(inner.data() - packet.bytes().data()), inner.size());
    return Drop::none;
}

}  // namespace latchkey
