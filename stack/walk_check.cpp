// SPDX-License-Identifier: BSD-2-Clause
// The inbound half of the walk, second step: is policy satisfied with what protected the packet?
#include "stack/walk.hpp"

#include <algorithm>

namespace latchkey {

namespace {

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

bool through_tunnel(const History& history)
{
    return std::ranges::any_of(history.entries(), [](const Protection& p) { return p.mode == Mode::tunnel; });
}

}  // namespace

Drop Walk::check(Direction direction, const Packet& packet, const History& history, SocketHandle, Time now)
{
    const bool transit = direction == Direction::fwd;
    if (!transit && is_link_control(packet))   // of this link only: what a tunnel brings is of another
        return through_tunnel(history) ? Drop::in_selector_mismatch : Drop::none;
    if (!settings_.of(packet.family).enabled)
        return Drop::none;
    const Policy* policy = lookup(direction, packet.flow, now).policy;
    // Scripts written for KAME (setkey -k) know only `in`: it covers transit packets where no fwd rule does.
    if (policy == nullptr && transit)
        policy = lookup(Direction::in, packet.flow, now).policy;
    if (policy == nullptr) {
        if (settings_.of(packet.family).default_discard)
            return transit ? Drop::fwd_discard : Drop::in_discard;
        if (settings_.of(packet.family).strict && history.secured())
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
// level `use` may be missing, and so may IPComp, which leaves small packets alone; every other one must have its entry,
// in order, around the packet that the request is about.
Drop Walk::satisfied(const Policy& policy, const Packet& packet, const History& history, Direction direction) const
{
    const bool transit = direction == Direction::fwd;
    if (history.loopback())
        return Drop::none;
    const auto applied = history.entries();
    std::size_t at = 0;
    for (std::size_t i = policy.requests.size(); i-- > 0;) {
        const auto& request = policy.requests[i];
        if (at < applied.size() && matches(request, applied[at]) &&
            (applied[at].mode == Mode::tunnel || protects(policy, i, packet, applied[at]))) {
            ++at;
            continue;
        }
        if (optional(request, packet.family))
            continue;
        if (applied.empty())
            return transit ? Drop::fwd_clear : Drop::in_clear;
        return transit ? Drop::fwd_wrong_protection : Drop::in_wrong_protection;
    }
    return Drop::none;
}

bool Walk::optional(const Request& request, Family family) const
{
    return request.protocol == ip_proto::ipcomp || effective(request, family) == Level::use;
}

// Transport mode protects between the two ends of the header that carries it: those of the nearest tunnel further in,
// or the packet's own. Another host's SA with us must not speak for them.
bool Walk::protects(const Policy& policy, std::size_t i, const Packet& packet, const Protection& applied) const
{
    const auto same = [](const Address& a, const Address& b) { return a == b || a.is_unspecified(); };
    while (i-- > 0) {
        const auto& inner = policy.requests[i];
        if (inner.mode != Mode::tunnel)
            continue;
        if (same(inner.tunnel_source, applied.source) && same(inner.tunnel_destination, applied.destination))
            return true;
        if (!optional(inner, packet.family))
            return false;
    }
    return packet.source == applied.source && packet.destination == applied.destination;
}

Drop Walk::check_loopback(const Packet& packet, Time now)
{
    const Policy* policy = lookup(Direction::out, packet.flow, now).policy;
    const auto& settings = settings_.of(packet.family);
    const bool discard = policy == nullptr ? settings.default_discard : policy->action == Action::discard;
    return discard && settings.enabled && !is_link_control(packet) ? Drop::out_discard : Drop::none;
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
