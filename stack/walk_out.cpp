// SPDX-License-Identifier: BSD-2-Clause
// The outbound half of the walk: policy -> SAs -> seal, innermost request first.
#include "stack/walk.hpp"

#include <algorithm>

namespace latchkey {

namespace {

constexpr std::size_t v4_header = 20, v6_header = 40;
constexpr std::uint8_t outer_hop_limit = 64;
constexpr std::size_t smallest_v6_mtu = 1280;
constexpr std::uint64_t last_sequence = 0xffffffffu;

constexpr std::size_t header_size(Family family) { return family == Family::v4 ? v4_header : v6_header; }

// What ESP adds at most with any algorithm that this host offers: SPI and sequence, IV, padding to a block, trailer, ICV.
// Used before an SA exists, so that TCP's first segments fit when it arrives.
constexpr std::size_t payload_room_without_sa(std::size_t room)
{
    constexpr std::size_t fixed = 8 + 16 + 16, block = 16, trailer = 2;
    if (room < fixed + block)
        return 0;
    return (room - fixed) / block * block - trailer;
}

}  // namespace

Walk::Walk(Engine& engine, CipherBackend& cipher, PacketPool& pool, Rng& rng)
    : engine_(engine), cipher_(cipher), pool_(pool), flows_(flow_entries), next_id_(static_cast<std::uint16_t>(rng.next32()))
{
}

Walk::Outbound Walk::outbound(Bytes datagram, const Packet& packet, SocketHandle, Time now)
{
    Outbound out;
    if (is_link_control(packet))
        return out;
    auto& entry = lookup(Direction::out, packet.flow, now);
    const Policy* policy = entry.policy;
    if (policy == nullptr ? settings.of(packet.family).default_discard : policy->action == Action::discard) {
        out.outcome = Outcome::dropped;
        out.drop = Drop::out_discard;
        return out;
    }
    if (policy == nullptr || policy->action != Action::ipsec) {
        ++counters.out_clear;
        return out;
    }

    std::array<Sa*, 8> chosen{};
    out.drop = select(entry, packet, chosen, out, now);
    if (out.drop != Drop::none || out.outcome == Outcome::held) {
        if (out.drop != Drop::none)
            out.outcome = Outcome::dropped;
        return out;
    }

    const auto generation = engine_.generation();
    Packet current = packet;
    Bytes view = datagram;
    for (std::size_t i = 0; i < policy->requests.size(); ++i) {
        if (chosen[i] == nullptr)
            continue;   // level use, and no SA
        // A bundle may name one SA twice, and its first use may have been its last.
        const auto here = chosen.begin() + static_cast<std::ptrdiff_t>(i);
        if (engine_.generation() != generation && std::find(chosen.begin(), here, chosen[i]) != here) {
            out.outcome = Outcome::dropped;
            out.drop = Drop::out_lifetime;
            return out;
        }
        const auto& request = policy->requests[i];
        Pbuf next;
        out.drop = seal(*chosen[i], request.mode == Mode::tunnel ? Mode::tunnel : Mode::transport, request, view, current,
                        next, now);
        if (out.drop != Drop::none) {
            out.outcome = Outcome::dropped;
            return out;
        }
        out.packet = std::move(next);
        out.outcome = Outcome::sealed;
        view = out.packet.bytes();
        if (i + 1 < policy->requests.size()) {
            const auto parsed = parse_packet(view);
            if (!parsed) {
                out.drop = parsed.error();
                out.outcome = Outcome::dropped;
                return out;
            }
            current = *parsed;
        }
    }
    if (out.outcome == Outcome::sealed)
        ++counters.out_protected;
    else
        ++counters.out_clear;
    return out;
}

// Fills `chosen` with one SA per request, or null where level `use` allows none. All are found before any is used: a
// packet that waits for its second SA must not consume a sequence number of the first.
Drop Walk::select(FlowEntry& entry, const Packet& packet, std::array<Sa*, 8>& chosen, Outbound& out, Time now)
{
    const Policy& policy = *entry.policy;
    if (policy.requests.size() > chosen.size())
        return Drop::out_nested;
    if (entry.sa != nullptr) {
        chosen[0] = entry.sa;
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
    if (policy.requests.size() == 1 && entry.generation == engine_.generation())
        entry.sa = chosen[0];
    return Drop::none;
}

Drop Walk::seal(Sa& sa, Mode mode, const Request& request, Bytes datagram, const Packet& packet, Pbuf& sealed, Time now)
{
    if (sa.protocol != ip_proto::esp)
        return Drop::out_crypto;
    const bool tunnel = mode == Mode::tunnel;
    const Family outer = tunnel ? request.tunnel_destination.family() : packet.family;
    const std::size_t head = tunnel ? header_size(outer) : packet.insert;
    const Bytes payload = datagram.first(packet.total).subspan(tunnel ? 0 : packet.insert);
    const std::size_t total = head + esp_sealed_size(sa, payload.size());
    if (total > 0xffff)
        return Drop::out_too_big;

    // Only a cipher that survives a repeated sequence number may cycle (RFC 4303 §3.3.3; never a counter mode).
    const bool may_cycle = (sa.flags & SADB_X_EXT_CYCSEQ) != 0 && sa.cipher != nullptr &&
                           sa.cipher->kind != AlgorithmKind::aead && sa.cipher->primitive != Primitive::null;
    if (sa.sequence >= last_sequence && !may_cycle)
        return Drop::out_sequence_exhausted;
    sa.sequence = sa.sequence >= last_sequence ? 1 : sa.sequence + 1;

    sealed = pool_.allocate(total);
    if (!sealed)
        return Drop::out_no_buffer;
    const MutableBytes out = sealed.bytes();

    SealJob job;
    job.sa = &sa;
    job.sequence = sa.sequence;
    job.parts[0] = payload;
    job.part_count = 1;
    job.out = out.subspan(head);
    if (tunnel) {
        write_outer_header(out, request, packet, total);
        job.next_header = packet.family == Family::v4 ? ip_proto::ipv4 : ip_proto::ipv6;
    } else {
        std::memcpy(out.data(), datagram.data(), head);
        rewrite_header(out, packet.family, packet.insert_at, ip_proto::esp, total);
        job.next_header = packet.insert_protocol;
    }
    cipher_.seal({&job, 1});
    if (job.result != Drop::none)
        return job.result;
    return engine_.charge(sa, payload.size(), now) ? Drop::none : Drop::out_lifetime;
}

// RFC 4301 §5.1.2: a fresh header; only the traffic class is taken from the inner one.
std::size_t Walk::write_outer_header(MutableBytes out, const Request& request, const Packet& inner, std::size_t total)
{
    const bool v4 = request.tunnel_destination.is_v4();
    auto traffic_class = inner.traffic_class;
    const int ecn = settings.of(v4 ? Family::v4 : Family::v6).ecn;
    if (ecn == 0)
        traffic_class &= 0xfc;
    else if (ecn == 1 && (traffic_class & 3) == 3)
        traffic_class = static_cast<std::uint8_t>((traffic_class & 0xfc) | 2);   // CE goes out as ECT(0), RFC 3168 §9.1.1

    wire::Writer w(out);
    if (v4) {
        // Every link carries 1280 bytes of IPv6 (RFC 8200 §5): where a tunnel does not, its outer packet is cut.
        const bool uncuttable = inner.family == Family::v6 ? inner.total > smallest_v6_mtu : inner.dont_fragment;
        const bool df = settings.dfbit == 1 || (settings.dfbit >= 2 && uncuttable);
        w.put<std::uint8_t>(0x45);
        w.put<std::uint8_t>(traffic_class);
        w.put<std::uint16_t>(static_cast<std::uint16_t>(total));
        w.put<std::uint16_t>(next_id_++);
        w.put<std::uint16_t>(df ? 0x4000 : 0);
        w.put<std::uint8_t>(outer_hop_limit);
        w.put<std::uint8_t>(ip_proto::esp);
        w.put<std::uint16_t>(0);
        w.put(request.tunnel_source.bytes());
        w.put(request.tunnel_destination.bytes());
        set_ipv4_checksum(out.first(v4_header));
        return v4_header;
    }
    w.put<std::uint32_t>(0x60000000u | (std::uint32_t{traffic_class} << 20));
    w.put<std::uint16_t>(static_cast<std::uint16_t>(total - v6_header));
    w.put<std::uint8_t>(ip_proto::esp);
    w.put<std::uint8_t>(outer_hop_limit);
    w.put(request.tunnel_source.bytes());
    w.put(request.tunnel_destination.bytes());
    return v6_header;
}

const Policy* Walk::protection_of(const Flow& flow, Time now)
{
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
        const std::size_t payload =
            layer.sa != nullptr ? esp_payload_room(*layer.sa, left) : payload_room_without_sa(left);
        room = tunnel ? payload : head + payload;
    }
    return room;
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
    const auto& levels = settings.of(family);
    if (request.protocol == ip_proto::ah)
        return request.mode == Mode::tunnel ? levels.ah_tunnel : levels.ah_transport;
    if (request.protocol == ip_proto::ipcomp)
        return Level::use;
    return request.mode == Mode::tunnel ? levels.esp_tunnel : levels.esp_transport;
}

Walk::FlowEntry& Walk::lookup(Direction direction, const Flow& flow, Time now)
{
    const auto h = flow.source.hash() ^ mix(flow.destination.hash() + static_cast<std::uint64_t>(direction)) ^
                   mix((std::uint64_t{flow.source_port} << 32) | (std::uint64_t{flow.destination_port} << 16) |
                       (std::uint64_t{flow.protocol} << 8) | (flow.has_ports ? 1u : 0u));
    auto& entry = flows_[mix(h) % flow_entries];
    const auto generation = engine_.generation();
    if (entry.generation == generation && entry.direction == direction && entry.flow == flow) {
        ++counters.flow_hits;
        if (entry.policy != nullptr)
            entry.policy->last_used = now;
        return entry;
    }
    ++counters.flow_misses;
    entry = {flow, generation, engine_.match(direction, flow, now), nullptr, direction};
    return entry;
}

}  // namespace latchkey
