// SPDX-License-Identifier: BSD-2-Clause
// The outbound half of the walk: policy -> SAs -> seal, innermost request first. walk_seal.cpp has the transforms.
#include "stack/natt.hpp"
#include "stack/walk.hpp"

#include <algorithm>
#include <bit>

namespace latchkey {

namespace {

constexpr std::size_t v4_header = 20, v6_header = 40;

constexpr std::size_t header_size(Family family) { return family == Family::v4 ? v4_header : v6_header; }

// The most that any algorithm of the table adds to a packet. Used before an SA exists, so that TCP's first segments fit
// when it arrives.
struct LargestOverhead {
    std::size_t iv = 0, icv = 0, block = 4;
};

consteval LargestOverhead largest_overhead()
{
    LargestOverhead most;
    for (const auto& row : algorithms) {
        if (!row.offered())
            continue;
        most.iv = std::max<std::size_t>(most.iv, row.iv);
        most.icv = std::max<std::size_t>(most.icv, row.icv);
        most.block = std::max<std::size_t>(most.block, row.block);
    }
    return most;
}

std::size_t room_without_sa(std::uint8_t protocol, std::size_t room)
{
    constexpr auto most = largest_overhead();
    constexpr std::size_t esp_header = 8, esp_trailer = 2, ah_header = 12, ah_unit = 8;
    if (protocol == ip_proto::ipcomp)
        return room;
    const std::size_t fixed = protocol == ip_proto::ah ? (ah_header + most.icv + ah_unit - 1) / ah_unit * ah_unit
                                                       : esp_header + most.iv + most.icv;
    if (room < fixed + most.block)
        return 0;
    return protocol == ip_proto::ah ? room - fixed : (room - fixed) / most.block * most.block - esp_trailer;
}

}  // namespace

Walk::Walk(Engine& engine, CipherBackend& cipher, PacketPool& pool, Rng& rng)
    : engine_(engine), cipher_(cipher), pool_(pool), flows_(settings_.cache_entries),
      next_id_(static_cast<std::uint16_t>(rng.next32()))
{
}

void Walk::configure(const WalkSettings& settings)
{
    settings_ = settings;
    if (const auto entries = std::bit_floor(settings.cache_entries); entries != flows_.size())
        flows_ = std::vector<FlowEntry>(entries);
}

Walk::Outbound Walk::outbound(Bytes datagram, const Packet& packet, SocketHandle, Time now, bool may_cut)
{
    Outbound out;
    if (is_link_control(packet))
        return out;
    auto& entry = lookup(Direction::out, packet.flow, now);
    const Policy* policy = entry.policy;
    const auto& settings = settings_.of(packet.family);
    if (settings.enabled && (policy == nullptr ? settings.default_discard : policy->action == Action::discard)) {
        out.outcome = Outcome::dropped;
        out.drop = Drop::out_discard;
        return out;
    }
    if (!settings.enabled || policy == nullptr || policy->action != Action::ipsec) {
        ++counters.out_clear;
        return out;
    }

    Bundle chosen{};
    out.drop = select(entry, packet, chosen, out, now);
    if (out.drop != Drop::none || out.outcome == Outcome::held) {
        if (out.drop != Drop::none)
            out.outcome = Outcome::dropped;
        return out;
    }
    const Sa* first = chosen[0];
    if (may_cut && first != nullptr && first->natt && policy->requests.front().mode == Mode::tunnel &&
        first->natt->fragment != 0 && packet.total > first->natt->fragment) {
        out.outcome = Outcome::cut;
        out.piece = first->natt->fragment;
        return out;
    }
    seal_bundle(*policy, chosen, datagram, packet, out, now);
    if (out.outcome == Outcome::sealed)
        ++counters.out_protected;
    else if (out.outcome == Outcome::clear)
        ++counters.out_clear;
    return out;
}

// Fills `chosen` with one SA per request, or null where level `use` allows none. All are found before any is used: a
// packet that waits for its second SA must not consume a sequence number of the first.
Drop Walk::select(FlowEntry& entry, const Packet& packet, Bundle& chosen, Outbound& out, Time now)
{
    const Policy& policy = *entry.policy;
    if (policy.requests.size() > chosen.size())
        return Drop::out_nested;
    if (entry.selected) {
        std::ranges::copy(entry.sas, chosen.begin());
        return Drop::none;
    }
    Address source = packet.source, destination = packet.destination;
    for (std::size_t i = 0; i < policy.requests.size(); ++i) {
        Request request = policy.requests[i];
        request.level = effective(request, packet.family);
        const auto selected = engine_.outbound(policy, request, packet.flow, source, destination, now);
        switch (selected.state) {
        case Engine::Selection::found: chosen[i] = selected.sa; break;
        case Engine::Selection::acquiring:
            out.outcome = Outcome::held;
            out.acquire = selected.acquire;
            return Drop::none;
        case Engine::Selection::absent:
            if (request.level != Level::use)
                return Drop::out_no_sa;
            break;
        }
        if (request.mode == Mode::tunnel && chosen[i] != nullptr) {
            source = request.tunnel_source;
            destination = request.tunnel_destination;
        }
    }
    if (policy.requests.size() <= FlowEntry::kept && entry.generation == engine_.generation()) {
        std::copy_n(chosen.begin(), FlowEntry::kept, entry.sas.begin());
        entry.selected = true;
    }
    return Drop::none;
}

void Walk::seal_bundle(const Policy& policy, const Bundle& chosen, Bytes datagram, const Packet& packet, Outbound& out,
                       Time now)
{
    const auto generation = engine_.generation();
    const auto dropped = [&out](Drop why) {
        out.drop = why;
        out.outcome = Outcome::dropped;
        out.packet.reset();
    };
    Packet current = packet;
    Bytes view = datagram;
    for (std::size_t i = 0; i < policy.requests.size(); ++i) {
        if (chosen[i] == nullptr)
            continue;   // level use, and no SA
        // A bundle may name one SA twice, and its first use may have been its last.
        const auto here = chosen.begin() + static_cast<std::ptrdiff_t>(i);
        if (engine_.generation() != generation && std::find(chosen.begin(), here, chosen[i]) != here)
            return dropped(Drop::out_lifetime);
        Pbuf next;
        if (const auto why = seal(*chosen[i], policy.requests[i], view, current, next, now); why != Drop::none)
            return dropped(why);
        if (!next)
            continue;   // IPComp found nothing to gain
        out.packet = std::move(next);
        out.outcome = Outcome::sealed;
        view = out.packet.bytes();
        if (i + 1 < policy.requests.size()) {
            const auto parsed = parse_packet(view);
            if (!parsed)
                return dropped(parsed.error());
            current = *parsed;
        }
    }
}

const Policy* Walk::protection_of(const Flow& flow, Time now)
{
    if (!settings_.of(flow.source.family()).enabled)
        return nullptr;
    const Policy* policy = lookup(Direction::out, flow, now).policy;
    return policy != nullptr && policy->action == Action::ipsec ? policy : nullptr;
}

Walk::Layers Walk::layers(const Policy& policy, const Flow& flow) const
{
    Layers out;
    Address source = flow.source, destination = flow.destination;
    for (const auto& request : policy.requests) {
        if (out.count == out.of.size())
            break;   // such a policy sends nothing (out_nested)
        const bool tunnel = request.mode == Mode::tunnel;
        const auto& from = tunnel ? request.tunnel_source : source;
        const auto& to = tunnel ? request.tunnel_destination : destination;
        const Sa* sa = engine_.sad().outbound(request.protocol, request.mode, from, to, request.reqid, true);
        auto& layer = out.of[out.count++];
        const bool applies = sa != nullptr || effective(request, flow.source.family()) != Level::use;
        layer = {&request, source, destination, sa, applies};
        if (tunnel && layer.applies) {
            source = from;
            destination = to;
        }
    }
    out.destination = destination;
    return out;
}

std::size_t Walk::room(const Flow& flow, const std::function<std::size_t(const Address&)>& mtu, Time now)
{
    const Policy* policy = protection_of(flow, now);
    if (policy == nullptr)
        return mtu(flow.destination);
    const auto stack = layers(*policy, flow);
    std::size_t room = mtu(stack.destination);
    for (std::size_t i = stack.count; i-- > 0;) {
        const auto& layer = stack.of[i];
        if (!layer.applies)
            continue;
        const bool tunnel = layer.request->mode == Mode::tunnel;
        const auto family = tunnel ? layer.request->tunnel_destination.family() : layer.source.family();
        const std::size_t head = header_size(family), left = room > head ? room - head : 0;
        const std::size_t payload = layer.sa != nullptr ? payload_room(*layer.sa, family, left)
                                                        : room_without_sa(layer.request->protocol, left);
        room = tunnel ? payload : head + payload;
        if (tunnel && layer.sa != nullptr && layer.sa->natt && layer.sa->natt->fragment != 0)
            room = std::min<std::size_t>(room, layer.sa->natt->fragment);
    }
    return room;
}

// A packet that IPComp leaves as it is needs its full room; one that it makes smaller needs less.
std::size_t Walk::payload_room(const Sa& sa, Family outer, std::size_t room) const
{
    if (sa.protocol == ip_proto::ipcomp)
        return room;
    const std::size_t fixed =
        sa.protocol == ip_proto::ah ? ah_size(sa, outer) : sa.natt ? natt::udp_header : std::size_t{0};
    const std::size_t left = room > fixed ? room - fixed : 0;
    return sa.protocol == ip_proto::ah ? left : esp_payload_room(sa, left, settings_.of(outer).random_padding);
}

unsigned Walk::missing(const Flow& flow, Time now)
{
    const Policy* policy = protection_of(flow, now);
    if (policy == nullptr)
        return 0;
    unsigned count = 0;
    const auto stack = layers(*policy, flow);
    for (std::size_t i = 0; i < stack.count; ++i)
        count += stack.of[i].applies && stack.of[i].sa == nullptr ? 1 : 0;
    return count;
}

Level Walk::effective(const Request& request, Family family) const
{
    if (request.level != Level::standard)
        return request.level;
    const auto& levels = settings_.of(family);
    if (request.protocol == ip_proto::ah)
        return request.mode == Mode::tunnel ? levels.ah_tunnel : levels.ah_transport;
    if (request.protocol == ip_proto::ipcomp)
        return Level::use;
    return request.mode == Mode::tunnel ? levels.esp_tunnel : levels.esp_transport;
}

Walk::FlowEntry& Walk::lookup(Direction direction, const Flow& flow, Time now)
{
    const auto generation = engine_.generation();
    const auto find = [&] {
        return FlowEntry{flow, generation, engine_.match(direction, flow, now), {}, direction, false};
    };
    if (flows_.empty() || engine_.spd().size() < settings_.cache_threshold) {
        ++counters.flow_misses;
        return uncached_ = find();
    }
    const auto h = flow.source.hash() ^ mix(flow.destination.hash() + static_cast<std::uint64_t>(direction)) ^
                   mix((std::uint64_t{flow.source_port} << 32) | (std::uint64_t{flow.destination_port} << 16) |
                       (std::uint64_t{flow.protocol} << 8) | (flow.has_ports ? 1u : 0u));
    auto& entry = flows_[mix(h) & (flows_.size() - 1)];
    if (entry.generation == generation && entry.direction == direction && entry.flow == flow) {
        ++counters.flow_hits;
        if (entry.policy != nullptr)
            entry.policy->last_used = now;
        return entry;
    }
    ++counters.flow_misses;
    return entry = find();
}

}  // namespace latchkey
