// SPDX-License-Identifier: BSD-2-Clause
// The inbound half of the walk: take a transform off, then ask whether policy is satisfied with what protected the packet.
#include "stack/walk.hpp"

namespace latchkey {

namespace {

Protection protection(const Sa& sa, const Packet& packet, Mode mode)
{
    return {sa.protocol, mode, sa.spi, sa.reqid, packet.source, packet.destination};
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

bool matches(const Request& request, const Protection& applied)
{
    if (request.protocol != applied.protocol || (request.reqid != 0 && request.reqid != applied.reqid))
        return false;
    if (request.mode == Mode::any)
        return true;
    if (request.mode != applied.mode)
        return false;
    return request.mode == Mode::transport ||
           ((request.tunnel_source.is_unspecified() || request.tunnel_source == applied.source) &&
            (request.tunnel_destination.is_unspecified() || request.tunnel_destination == applied.destination));
}

}  // namespace

Drop Walk::open(Pbuf& packet, const Packet& parsed, History& history, Time now)
{
    const MutableBytes all = packet.bytes().first(parsed.total);
    const MutableBytes body = all.subspan(parsed.payload);
    if (body.size() < 8)
        return Drop::in_truncated;
    const auto spi = wire::field<std::uint32_t>(body, 0);
    Sa* sa = engine_.inbound(parsed.protocol, parsed.destination, spi);
    if (sa == nullptr)
        return engine_.sad().find(parsed.protocol, parsed.destination, spi) != nullptr ? Drop::in_sa_state
                                                                                       : Drop::in_unknown_spi;
    if (!sa->source.is_unspecified() && sa->source != parsed.source)
        return sa->mode == Mode::tunnel ? Drop::in_tunnel_endpoint : Drop::in_selector_mismatch;

    OpenJob job;
    job.sa = sa;
    job.packet = body;
    cipher_.open({&job, 1});
    if (job.result != Drop::none)
        return job.result;

    const bool inner_ip = job.next_header == ip_proto::ipv4 || job.next_header == ip_proto::ipv6;
    if (sa->mode == Mode::any ? false : (sa->mode == Mode::tunnel) != inner_ip)
        return Drop::in_wrong_mode;
    if (!history.push(protection(*sa, parsed, inner_ip ? Mode::tunnel : Mode::transport)))
        return Drop::in_nested;

    const std::size_t at = static_cast<std::size_t>(job.payload.data() - packet.bytes().data());
    if (inner_ip) {
        const auto inner = parse_packet(job.payload);
        if (!inner || (inner->family == Family::v4) != (job.next_header == ip_proto::ipv4))
            return Drop::in_malformed;
        if (sa->proxy && !sa->proxy->contains(inner->source))
            return Drop::in_selector_mismatch;
        const int ecn = settings.of(parsed.family).ecn;
        if (merge_ecn(ecn, parsed.traffic_class, job.payload))
            return Drop::in_malformed;
        packet.narrow(at, job.payload.size());
    } else {
        // The IP header moves up against the payload; nothing is copied but the header.
        const std::size_t head = parsed.payload;
        const std::size_t start = at - head;
        std::memmove(packet.bytes().data() + start, packet.bytes().data(), head);
        packet.narrow(start, head + job.payload.size());
        rewrite_header(packet.bytes(), parsed.family, parsed.protocol_at, job.next_header, packet.size());
    }
    if (!engine_.charge(*sa, job.payload.size(), now))
        return Drop::in_lifetime;
    ++counters.in_protected;
    return Drop::none;
}

Drop Walk::check(Direction direction, const Packet& packet, const History& history, SocketHandle, Time now)
{
    const bool transit = direction == Direction::fwd;
    if (!transit && is_link_control(packet))
        return Drop::none;
    const Policy* policy = lookup(direction, packet.flow, now).policy;
    // Scripts written for KAME (setkey -k) know only `in`: it covers transit packets where no fwd rule does.
    if (policy == nullptr && transit)
        policy = lookup(Direction::in, packet.flow, now).policy;
    if (policy == nullptr) {
        if (settings.of(packet.family).default_discard)
            return transit ? Drop::fwd_discard : Drop::in_discard;
        if (settings.of(packet.family).strict && !history.entries().empty())
            return transit ? Drop::fwd_wrong_protection : Drop::in_wrong_protection;
        return Drop::none;
    }
    switch (policy->action) {
    case Action::discard: return transit ? Drop::fwd_discard : Drop::in_discard;
    case Action::ipsec: return satisfied(*policy, packet, history, direction);
    case Action::none:
    case Action::entrust:
    case Action::bypass: break;
    }
    return Drop::none;
}

// Requests are listed innermost first, the history outermost first: both are walked from the outside in. A request of
// level `use` may be missing; every other one must have its entry, in order.
Drop Walk::satisfied(const Policy& policy, const Packet& packet, const History& history, Direction direction) const
{
    const bool transit = direction == Direction::fwd;
    if (history.loopback())
        return Drop::none;
    const auto applied = history.entries();
    std::size_t at = 0;
    for (std::size_t i = policy.requests.size(); i-- > 0;) {
        const auto& request = policy.requests[i];
        if (at < applied.size() && matches(request, applied[at])) {
            ++at;
            continue;
        }
        if (effective(request, packet.family) == Level::use)
            continue;
        if (applied.empty())
            return transit ? Drop::fwd_clear : Drop::in_clear;
        return transit ? Drop::fwd_wrong_protection : Drop::in_wrong_protection;
    }
    return Drop::none;
}

Drop Walk::check_loopback(const Packet& packet, Time now)
{
    const Policy* policy = lookup(Direction::out, packet.flow, now).policy;
    const bool discard = policy == nullptr ? settings.of(packet.family).default_discard : policy->action == Action::discard;
    return discard && !is_link_control(packet) ? Drop::out_discard : Drop::none;
}

bool Walk::is_link_control(const Packet& packet)
{
    if (packet.protocol == ip_proto::igmp)
        return packet.destination.is_multicast();
    if (packet.protocol != ip_proto::icmpv6 || !packet.flow.has_ports)
        return false;
    const auto type = packet.flow.source_port;
    const bool neighbour_discovery = type >= 133 && type <= 137 && packet.hop_limit == 255;
    const bool listener_discovery = ((type >= 130 && type <= 132) || type == 143) && packet.hop_limit == 1;
    return neighbour_discovery || listener_discovery;
}

}  // namespace latchkey
