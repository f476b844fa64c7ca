// SPDX-License-Identifier: BSD-2-Clause
// Egress: whole datagram -> policy -> (sealed packet) -> route -> fragments if need be -> link.
#include "stack/choke.hpp"

#include "stack/lwip_address.hpp"

#include "latchkey_hooks.h"
#include "lwip/etharp.h"
#include "lwip/ethip6.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"

#include <algorithm>

namespace latchkey {

namespace {

constexpr std::size_t held_per_acquire = 64, held_in_all = 2048, held_bytes = 4 * 1024 * 1024;
constexpr Time longest_hold = std::chrono::seconds(30);
constexpr std::size_t smallest_segment = 64;
constexpr std::size_t smallest_v6_mtu = 1280;      // RFC 8200 §5

Bytes view(const pbuf* p)
{
    return {static_cast<const std::uint8_t*>(p->payload), p->len};
}

// netif->hints points into the PCB that sends (tcp_out, udp and raw set it around ip_output).
const void* sending_pcb(const netif& n)
{
    if (n.hints == nullptr)
        return nullptr;
    return reinterpret_cast<const std::uint8_t*>(n.hints) - offsetof(ip_pcb, netif_hints);
}

ip6_addr_t scoped(const Address& a, const Interface& on)
{
    return to_lwip6(a, a.is_link_local() || a.is_multicast() ? on.index : 0);
}

void extension_freed(u8_t, void*) {}
const tcp_ext_arg_callbacks segment_callbacks = {extension_freed, nullptr};

}  // namespace

Choke::Choke(Engine& engine, Walk& walk, PacketPool& pool, RouteTable& routes, SocketIndex& sockets, Rng& rng,
             std::vector<std::unique_ptr<Interface>>& interfaces)
    : engine_(engine), walk_(walk), pool_(pool), routes_(routes), sockets_(sockets), interfaces_(interfaces),
      next_fragment_id_(rng.next32()), segment_slot_(tcp_ext_arg_alloc_id())
{
}

Choke::~Choke() = default;

err_t Choke::output(netif& n, pbuf* p, const Address&)
{
    last_drop_ = Drop::none;
    Pbuf gathered;
    Egress e;
    e.by = interface_of(&n);
    e.whole = p;
    e.socket = sockets_.by_pcb(sending_pcb(n));
    if (p->next != nullptr) {
        gathered = pool_.gather(p);
        if (!gathered) {
            drop(last_drop_ = Drop::out_no_buffer);
            return ERR_MEM;
        }
        e.whole = gathered.get();
    }
    const auto parsed = parse_packet(view(e.whole));
    if (!parsed) {
        drop(last_drop_ = parsed.error());
        return ERR_VAL;
    }
    e.only_protected = answering_protected_ && is_icmp_error(*parsed);   // it quotes what came
    last_drop_ = dispatch(e, *parsed);
    if (last_drop_ == Drop::none)
        return ERR_OK;
    drop(last_drop_, *parsed);
    // To TCP a dropped segment is a lost one: an error would leave it unsent without a retransmission timer.
    return parsed->protocol == ip_proto::tcp ? static_cast<err_t>(ERR_OK) : static_cast<err_t>(ERR_VAL);
}

Drop Choke::dispatch(const Egress& e, const Packet& packet)
{
    if (sockets_.bypasses(e.socket, Direction::out)) {
        ++walk_.counters.out_clear;
        return transmit(e, e.whole, packet);
    }
    if (const auto size = piece_size(e, packet); size != 0)
        return dispatch_pieces(e, packet, size);
    // RFC 791, RFC 8200 §4.5: who may cut this datagram before it is encapsulated.
    const bool may_cut = packet.family == Family::v4 ? !packet.dont_fragment : e.from == nullptr;
    auto result = walk_.outbound(view(e.whole), packet, e.socket, now, may_cut);
    switch (result.outcome) {
    case Walk::Outcome::cut: return dispatch_pieces(e, packet, result.piece);
    case Walk::Outcome::dropped: return result.drop;
    case Walk::Outcome::held: return e.only_protected ? Drop::none : hold(e, packet, result.acquire);
    case Walk::Outcome::clear: return e.only_protected ? Drop::none : transmit(e, e.whole, packet);
    case Walk::Outcome::sealed: break;
    }
    return transmit_sealed(e, packet, result.packet.get());
}

// What may only be cut by its sender goes through a tunnel in pieces that the far gateway can pass on: the ones that it
// came in, or, from this host, of the size that a router behind the tunnel asked for. 0: as a whole.
std::size_t Choke::piece_size(const Egress& e, const Packet& packet)
{
    if (packet.family == Family::v4 && !packet.dont_fragment)
        return 0;
    std::size_t size = e.refragment;
    if (size == 0 && e.from == nullptr)
        size = path_mtus_.lookup(packet.destination, packet.total, now);
    if (size == 0 || size >= packet.total)
        return 0;
    const Policy* policy = walk_.protection_of(packet.flow, now);
    return policy != nullptr && policy->requests.front().mode == Mode::tunnel ? size : 0;
}

// The ports of the whole decide for every piece.
Drop Choke::dispatch_pieces(const Egress& e, const Packet& packet, std::size_t size)
{
    auto cut = Fragmenter::cut(view(e.whole), size, e.refragment != 0 ? e.refragment_id : next_fragment_id_++);
    if (!cut)
        return cut.error();
    for (Fragmenter::Piece piece; cut->next(piece);) {
        const auto fragment = assemble(piece);
        if (!fragment)
            return Drop::out_no_buffer;
        auto parsed = parse_packet(fragment.bytes());
        if (!parsed)
            return parsed.error();
        parsed->flow = packet.flow;
        auto result = walk_.outbound(fragment.bytes(), *parsed, e.socket, now);
        switch (result.outcome) {
        case Walk::Outcome::cut:   // not asked for
        case Walk::Outcome::dropped: return result.drop;
        case Walk::Outcome::held: return e.only_protected ? Drop::none : hold(e, packet, result.acquire);
        case Walk::Outcome::clear: return e.only_protected ? Drop::none : transmit(e, e.whole, packet);
        case Walk::Outcome::sealed: break;
        }
        if (const auto why = transmit_sealed(e, packet, result.packet.get()); why != Drop::none)
            return why;
    }
    return Drop::none;
}

// The sealed packet is this host's own. If it must not be cut and does not fit, the sender of a transit packet is told
// what would have (RFC 4301 §8.2).
Drop Choke::transmit_sealed(const Egress& e, const Packet& packet, pbuf* sealed)
{
    const auto parsed = parse_packet(view(sealed));
    if (!parsed)
        return Drop::out_crypto;
    Egress outer;
    outer.by = parsed->destination == packet.destination ? e.by : nullptr;
    outer.whole = sealed;
    outer.sealed = true;
    const auto why = transmit(outer, sealed, *parsed);
    if (why != Drop::out_too_big || e.from == nullptr)
        return why;
    const auto mtu = [this](const Address& to) -> std::size_t {
        const Interface* by = route(to);
        return by != nullptr ? path_mtu(*by, to) : smallest_v6_mtu;
    };
    const auto least = packet.family == Family::v6 ? smallest_v6_mtu : 0;
    send_icmp_error(*e.from, packet, IcmpError::too_big(std::max(least, walk_.room(packet.flow, mtu, now))));
    return Drop::fwd_too_big;
}

Drop Choke::transmit(const Egress& e, pbuf* p, const Packet& packet)
{
    Interface* by = e.by != nullptr ? e.by : route(packet.destination);
    if (by == nullptr) {
        if (e.from == nullptr)
            return Drop::out_no_route;
        send_icmp_error(*e.from, packet, {3, 0, 1, 0, 0});
        return Drop::fwd_no_route;
    }
    if (by->loopback || by->owns(packet.destination)) {   // a tunnel whose far end is this host
        auto copy = pool_.copy(view(p));
        if (!copy)
            return Drop::out_no_buffer;
        History self;
        if (!e.sealed && !is_transform(packet.protocol))   // what is opened again speaks for itself
            self.mark_loopback();
        enqueue({std::move(copy), by, self});
        return Drop::none;
    }
    // A router looks at its link only; what lies behind, it hears from the next one, as the sender does.
    const std::size_t mtu = e.from != nullptr ? by->mtu() : path_mtu(*by, packet.destination);
    const std::size_t unit = e.refragment != 0 ? e.refragment : p->tot_len;
    if (unit > mtu && e.from != nullptr && (packet.family == Family::v6 || packet.dont_fragment)) {
        send_icmp_error(*e.from, packet, IcmpError::too_big(mtu));
        return Drop::fwd_too_big;
    }
    if (unit > mtu && packet.dont_fragment)
        return Drop::out_too_big;
    if (unit <= mtu && e.refragment == 0) {
        link_output(*by, p, packet.destination);
        return Drop::none;
    }
    return transmit_fragments(*by, p, packet, std::min(mtu, unit),
                              e.refragment != 0 ? e.refragment_id : next_fragment_id_++);
}

Drop Choke::transmit_fragments(Interface& by, pbuf* p, const Packet& packet, std::size_t mtu, std::uint32_t id)
{
    auto cut = Fragmenter::cut(view(p), mtu, id);
    if (!cut)
        return cut.error();
    for (Fragmenter::Piece piece; cut->next(piece);) {
        const auto fragment = assemble(piece);
        if (!fragment)
            return Drop::out_no_buffer;
        link_output(by, fragment.get(), packet.destination);
    }
    return Drop::none;
}

Pbuf Choke::assemble(const Fragmenter::Piece& piece)
{
    auto fragment = pool_.allocate(piece.size());
    if (!fragment)
        return {};
    wire::Writer w(fragment.bytes());
    w.put(Bytes(piece.header).first(piece.header_size));
    w.put(piece.payload);
    return fragment;
}

void Choke::link_output(Interface& by, pbuf* p, const Address& destination)
{
    const Address hop = next_hop(by, destination);
    if (destination.is_v4()) {
        const auto a = to_lwip4(hop);
        etharp_output(&by.lwip, p, &a);
    } else {
        const auto a = scoped(hop, by);
        ethip6_output(&by.lwip, p, &a);
    }
}

ip6_addr_t Choke::next_hop_v6(const netif& on, const ip6_addr_t& destination) const
{
    const auto& by = *interface_of(&on);
    return scoped(next_hop(by, from_lwip(destination)), by);
}

Drop Choke::hold(const Egress& e, const Packet& packet, std::uint32_t acquire)
{
    // Too many ACQUIREs are pending, or it has waited once: then it goes on waiting only for another SA of its bundle.
    if (acquire == 0)
        return Drop::out_no_sa;
    if (e.retry != nullptr && (e.retry->acquire == acquire || now - e.retry->since > longest_hold))
        return Drop::out_no_sa;
    auto& waiting = held_[acquire];
    if (waiting.size() >= held_per_acquire || held_packets_ >= held_in_all ||
        held_bytes_ + e.whole->tot_len > held_bytes)
        return Drop::out_hold_full;
    auto copy = pool_.copy(view(e.whole));
    if (!copy)
        return Drop::out_no_buffer;
    waiting.push_back({std::move(copy), e.by, e.socket, acquire, walk_.missing(packet.flow, now),
                       e.retry != nullptr ? e.retry->since : now, e.refragment, e.refragment_id});
    ++held_packets_;
    held_bytes_ += e.whole->tot_len;
    ++walk_.counters.out_held;
    return Drop::none;
}

void Choke::acquire_done(std::uint32_t acquire)
{
    const auto at = held_.find(acquire);
    if (at == held_.end())
        return;
    for (auto& held : at->second)
        released_.push_back(std::move(held));
    held_.erase(at);
}

void Choke::forget(const Interface& gone)
{
    std::erase_if(queue_, [&](const Queued& q) { return q.in == &gone; });
    for (auto& held : released_)
        if (held.by == &gone)
            held.by = nullptr;
    for (auto& [acquire, waiting] : held_)
        for (auto& held : waiting)
            if (held.by == &gone)
                held.by = nullptr;
}

err_t Choke::loop_output(netif& n, pbuf* p)
{
    last_drop_ = Drop::none;
    Interface* by = interface_of(&n);
    auto copy = pool_.gather(p);
    if (!copy) {
        drop(last_drop_ = Drop::out_no_buffer);
        return ERR_MEM;
    }
    const auto parsed = parse_packet(copy.bytes());
    last_drop_ = parsed ? walk_.check_loopback(*parsed, now) : parsed.error();
    if (last_drop_ != Drop::none) {
        parsed ? drop(last_drop_, *parsed) : drop(last_drop_);
        return ERR_VAL;
    }
    History self;
    self.mark_loopback();
    enqueue({std::move(copy), by, self});
    return ERR_OK;
}

u16_t Choke::segment_size(u16_t wanted, const void* remote_ip, bool announce)
{
    const auto* inside = static_cast<const std::uint8_t*>(remote_ip) - offsetof(tcp_pcb, remote_ip);
    auto* pcb = const_cast<tcp_pcb*>(reinterpret_cast<const tcp_pcb*>(inside));
    if (!announce)
        tcp_ext_arg_set(pcb, segment_slot_, reinterpret_cast<void*>(static_cast<std::uintptr_t>(wanted)));
    tcp_ext_arg_set_callbacks(pcb, segment_slot_, &segment_callbacks);

    Flow flow;
    flow.source = from_lwip(pcb->local_ip);
    flow.destination = from_lwip(pcb->remote_ip);
    flow.source_port = pcb->local_port;
    flow.destination_port = pcb->remote_port;
    flow.protocol = ip_proto::tcp;
    flow.has_ports = true;
    const auto mtu = [this](const Address& to) -> std::size_t {
        const Interface* by = route(to);
        return by != nullptr ? path_mtu(*by, to) : 1280;
    };
    const std::size_t headers = (flow.destination.is_v4() ? 20u : 40u) + 20u;
    const std::size_t room = path_mtus_.lookup(flow.destination, walk_.room(flow, mtu, now), now);
    const std::size_t fits = room > headers + smallest_segment ? room - headers : smallest_segment;
    return static_cast<u16_t>(std::min<std::size_t>(wanted, fits));
}

void Choke::resize_segments()
{
    for (tcp_pcb* pcb = tcp_active_pcbs; pcb != nullptr; pcb = pcb->next) {
        const auto announced = reinterpret_cast<std::uintptr_t>(tcp_ext_arg_get(pcb, segment_slot_));
        if (announced != 0)
            latchkey_tcp_set_mss(pcb, segment_size(static_cast<u16_t>(announced), &pcb->remote_ip, false));
    }
}

Interface* Choke::route(const Address& destination)
{
    for (const auto& i : interfaces_)
        if (i->up() && i->owns(destination))
            return i.get();
    const Route* r = routes_.lookup(destination);
    if (r == nullptr)   // a group on a link needs no route: the first interface that speaks the family
        for (const auto& i : interfaces_)
            if (destination.is_multicast() && i->up() && !i->loopback && i->source_for(destination.family()) != nullptr)
                return i.get();
    if (r == nullptr)
        return nullptr;
    for (const auto& i : interfaces_)
        if (i->index == r->interface)
            return i->up() ? i.get() : nullptr;
    return nullptr;
}

Address Choke::next_hop(const Interface& on, const Address& destination) const
{
    if (destination.is_multicast() || destination.is_link_local() || on.is_broadcast(destination))
        return destination;
    const Route* r = routes_.lookup(destination);
    return r != nullptr && r->interface == on.index && r->gateway.family() != Family::none ? r->gateway : destination;
}

std::size_t Choke::path_mtu(const Interface& by, const Address& destination) const
{
    return path_mtus_.lookup(destination, by.mtu(), now);
}

Interface* Choke::interface_of(const netif* n) const
{
    return static_cast<Interface*>(n->state);
}

}  // namespace latchkey
