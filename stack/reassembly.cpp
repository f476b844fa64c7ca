// SPDX-License-Identifier: BSD-2-Clause
#include "stack/fragment.hpp"

#include <algorithm>
#include <iterator>
#include <list>
#include <map>
#include <unordered_map>
#include <vector>

namespace latchkey {

namespace {

constexpr std::size_t largest_length = 0xffff;   // of the IPv4 total length, of the IPv6 payload length
constexpr std::size_t v6_header = 40;
constexpr std::size_t v6_fragment_header = 8;
constexpr std::size_t offset_unit = 8;

struct Key {
    Address source, destination;
    std::uint64_t provenance = 0;
    std::uint32_t id = 0;
    std::uint8_t protocol = 0;
    bool operator==(const Key&) const = default;
};

struct KeyHash {
    std::size_t operator()(const Key& key) const
    {
        const auto flow = key.source.hash() ^ mix(key.destination.hash() + key.provenance);
        return mix(flow + (std::uint64_t{key.id} << 8 | key.protocol));
    }
};

Key key_of(const Packet& p, std::uint64_t provenance)
{
    return {p.source, p.destination, provenance, p.fragment_id, p.family == Family::v4 ? p.protocol : std::uint8_t{0}};
}

// One fragment, taken apart: the header that every fragment repeats, and its piece of the datagram.
struct Part {
    Bytes header;             // up to the piece, an IPv6 fragment header included
    Bytes payload;
    std::size_t kept = 0;     // of the header, in the reassembled datagram
    std::size_t offset = 0;
    bool more = false;
    std::size_t end() const { return offset + payload.size(); }
};

Part part_of(Bytes fragment, const Packet& p)
{
    const bool v4 = p.family == Family::v4;
    const auto start = v4 ? p.payload : p.fragment_header + v6_fragment_header;
    return {fragment.first(start), fragment.subspan(start), v4 ? p.payload : p.fragment_header, p.fragment_offset,
            p.more_fragments};
}

std::size_t length_field(Family family, std::size_t kept, std::size_t payload)
{
    return kept - (family == Family::v6 ? v6_header : 0) + payload;
}

// What of an upper-layer header must be in the first fragment of an IPv6 datagram (RFC 7112 §5, RFC 8200 §4.5).
std::size_t upper_header_size(std::uint8_t protocol)
{
    switch (protocol) {
    case ip_proto::tcp: return 20;
    case ip_proto::udp:
    case ip_proto::esp: return 8;
    case ip_proto::ah: return 12;
    case ip_proto::icmpv6: return 4;
    case ip_proto::no_next: return 0;
    default: return 1;
    }
}

Drop check(const Part& part, const Packet& p)
{
    if (part.payload.empty() || (part.more && part.payload.size() % offset_unit != 0))
        return Drop::frag_malformed;
    if (p.family == Family::v6 && part.offset == 0 && p.total - p.payload < upper_header_size(p.protocol))
        return Drop::frag_malformed;
    if (length_field(p.family, part.kept, part.end()) > largest_length)
        return Drop::frag_too_big;
    return Drop::none;
}

struct Piece {
    std::unique_ptr<std::uint8_t[]> data;
    std::size_t size = 0;
    Bytes bytes() const { return {data.get(), size}; }
};

struct Datagram {
    Key key;
    Family family = Family::none;
    Time created{0};
    std::map<std::size_t, Piece> pieces;   // by offset, without overlaps
    std::vector<std::uint8_t> header;      // of the first fragment, as received
    std::size_t kept = 0;                  // of that header, in the reassembled datagram
    std::size_t fragment_at = 0;           // IPv6: the byte that names the fragment header
    std::size_t total = 0;                 // payload bytes; 0 until the last fragment has come
    std::size_t end = 0;                   // highest end of a piece
    std::size_t received = 0;
    std::size_t largest = 0;
    std::size_t charged = 0;
    unsigned ecn_seen = 0;                 // bit n: a fragment came with ECN field n
    Drop failed = Drop::none;              // no longer reassembled; what still comes is dropped for this reason
};

// Costs beside the bytes themselves: tree or hash node, list links, allocator headers. Without them, fragments of 8
// bytes would hold many times of what the limit says.
constexpr std::size_t allocator_header = 16;
constexpr std::size_t piece_cost = sizeof(std::pair<std::size_t, Piece>) + 4 * sizeof(void*) + 2 * allocator_header;
constexpr std::size_t datagram_cost =
    sizeof(Datagram) + sizeof(Key) + 5 * sizeof(void*) + 3 * allocator_header;

enum class Fit : std::uint8_t { fits, duplicate, clash };

Fit fit(const Datagram& d, const Part& part)
{
    const bool beyond = d.total != 0 && part.end() > d.total;
    const bool end_differs = part.more ? d.total != 0 && part.end() == d.total
                                       : d.total != 0 ? part.end() != d.total : part.end() <= d.end;
    if (beyond || end_differs)
        return Fit::clash;
    const auto next = d.pieces.lower_bound(part.offset);
    if (next != d.pieces.end() && next->first == part.offset && next->second.size == part.payload.size())
        return std::ranges::equal(next->second.bytes(), part.payload) ? Fit::duplicate : Fit::clash;
    if (next != d.pieces.end() && next->first < part.end())
        return Fit::clash;
    if (next != d.pieces.begin() && std::prev(next)->first + std::prev(next)->second.size > part.offset)
        return Fit::clash;
    return Fit::fits;
}

constexpr unsigned not_ect = 0, congestion_experienced = 3;

// RFC 3168 §5.3: congestion marks must survive, but never on a datagram of which a part was not ECN-capable. Fragments
// of one datagram that disagree on that are dropped.
bool ecn_agrees(unsigned seen)
{
    return (seen & 1u << not_ect) == 0 || seen == 1u << not_ect;
}

// Turns the header of a fragment into that of the datagram `whole`.
void restore_header(MutableBytes whole, Bytes header, std::size_t kept, Family family, std::size_t fragment_at,
                    bool congestion)
{
    constexpr std::size_t v4_protocol_at = 9;
    std::ranges::copy(header.first(kept), whole.begin());
    if (family == Family::v6) {
        if (congestion)
            whole[1] |= congestion_experienced << 4;
        rewrite_header(whole, family, fragment_at, header[kept], whole.size());
        return;
    }
    if (congestion)
        whole[1] |= congestion_experienced;
    const auto flags = wire::field<std::uint16_t>(whole, 6) & 0xc000u;
    wire::set_field<std::uint16_t>(whole, 6, static_cast<std::uint16_t>(flags));
    rewrite_header(whole, family, v4_protocol_at, whole[v4_protocol_at], whole.size());
}

MutableBytes make_room_for(Reassembly::Outcome& out, std::size_t size)
{
    out.datagram = std::make_unique_for_overwrite<std::uint8_t[]>(size);
    out.size = size;
    return {out.datagram.get(), size};
}

// A packet that needs nobody else: no fragment at all, or an atomic one (RFC 6946 §4).
Reassembly::Outcome alone(Bytes packet, const Packet& p)
{
    Reassembly::Outcome out;
    out.largest_fragment = packet.size();
    out.id = p.fragment_id;
    if (p.fragment_header == 0) {
        std::ranges::copy(packet, make_room_for(out, packet.size()).begin());
        return out;
    }
    const auto part = part_of(packet, p);
    const auto whole = make_room_for(out, part.kept + part.payload.size());
    restore_header(whole, part.header, part.kept, p.family, p.fragment_at, false);
    std::ranges::copy(part.payload, whole.last(part.payload.size()).begin());
    return out;
}

}  // namespace

struct Reassembly::Impl {
    using Waiting = std::list<Datagram>;
    using Slot = Waiting::iterator;

    explicit Impl(Limits l) : limits(l) {}

    Outcome add(Bytes fragment, const Packet& p, std::uint64_t provenance, Time now);
    std::optional<Slot> find_or_start(const Key& key, Family family, Time now, std::size_t& evicted);
    bool make_room(std::size_t need, const Datagram* keep, std::size_t& evicted);
    void store(Datagram& d, const Part& part, const Packet& p);
    Outcome finish(Datagram& d);
    void charge(Datagram& d, std::size_t bytes);
    Outcome fail(Datagram& d, Drop reason);
    void erase(Slot slot);
    std::size_t expire(Waiting& waiting, Time now, const Expired& expired);

    Waiting& waiting(Family family) { return family == Family::v4 ? v4 : v6; }
    Time timeout(Family family) const { return family == Family::v4 ? limits.timeout_v4 : limits.timeout_v6; }

    Limits limits;
    Waiting v4, v6;   // oldest first; two, because their timeouts differ
    std::unordered_map<Key, Slot, KeyHash> by_key;
    std::size_t held = 0;
};

Reassembly::Outcome Reassembly::Impl::add(Bytes fragment, const Packet& p, std::uint64_t provenance, Time now)
{
    if (!p.is_fragment)
        return alone(fragment, p);
    Outcome out;
    const auto part = part_of(fragment, p);
    out.drop = check(part, p);
    if (out.drop != Drop::none)
        return out;
    const auto slot = find_or_start(key_of(p, provenance), p.family, now, out.evicted);
    if (!slot) {
        out.drop = Drop::frag_limit;
        return out;
    }
    auto& d = **slot;
    if (d.failed != Drop::none) {
        out.drop = d.failed;
        return out;
    }
    const auto fits = fit(d, part);
    if (fits == Fit::duplicate)
        return out;
    if (fits == Fit::clash)
        return fail(d, Drop::frag_overlap);
    const auto cost = piece_cost + part.payload.size() + (part.offset == 0 ? part.header.size() : 0);
    if (!make_room(cost, &d, out.evicted)) {
        erase(*slot);
        out.drop = Drop::frag_limit;
        return out;
    }
    charge(d, cost);
    store(d, part, p);
    if (d.received != d.total)
        return out;
    auto done = finish(d);
    done.evicted = out.evicted;
    if (done.drop == Drop::none)
        erase(*slot);
    return done;
}

std::optional<Reassembly::Impl::Slot> Reassembly::Impl::find_or_start(const Key& key, Family family, Time now,
                                                                      std::size_t& evicted)
{
    if (const auto at = by_key.find(key); at != by_key.end())
        return at->second;
    if (limits.datagrams == 0 || !make_room(datagram_cost, nullptr, evicted))
        return std::nullopt;
    auto& list = waiting(family);
    const auto slot = list.emplace(list.end());
    slot->key = key;
    slot->family = family;
    slot->created = now;
    by_key.emplace(key, slot);
    charge(*slot, datagram_cost);
    return slot;
}

// Makes room for `need` more bytes, and for one more datagram unless `keep` is the one that grows. False: nothing is
// left to give up but `keep`, or it is the oldest itself.
bool Reassembly::Impl::make_room(std::size_t need, const Datagram* keep, std::size_t& evicted)
{
    while (held + need > limits.bytes || (keep == nullptr && by_key.size() >= limits.datagrams)) {
        if (by_key.empty())
            return false;
        const bool from_v4 = v6.empty() || (!v4.empty() && v4.front().created <= v6.front().created);
        auto& list = from_v4 ? v4 : v6;
        if (&list.front() == keep)
            return false;
        erase(list.begin());
        ++evicted;
    }
    return true;
}

void Reassembly::Impl::store(Datagram& d, const Part& part, const Packet& p)
{
    if (part.offset == 0) {
        d.header.assign(part.header.begin(), part.header.end());
        d.kept = part.kept;
        d.fragment_at = p.fragment_at;
    }
    Piece piece{std::make_unique_for_overwrite<std::uint8_t[]>(part.payload.size()), part.payload.size()};
    std::ranges::copy(part.payload, piece.data.get());
    d.pieces.emplace_hint(part.offset >= d.end ? d.pieces.end() : d.pieces.lower_bound(part.offset), part.offset,
                          std::move(piece));
    d.received += part.payload.size();
    d.end = std::max(d.end, part.end());
    if (!part.more)
        d.total = part.end();
    d.largest = std::max(d.largest, p.total);
    d.ecn_seen |= 1u << (p.traffic_class & 3u);
}

// Without overlaps, as many bytes as the last fragment announced are all of them.
Reassembly::Outcome Reassembly::Impl::finish(Datagram& d)
{
    // The first fragment may have the longest header: only now is the whole size certain.
    if (length_field(d.family, d.kept, d.total) > largest_length)
        return fail(d, Drop::frag_too_big);
    if (!ecn_agrees(d.ecn_seen))
        return fail(d, Drop::frag_malformed);
    Outcome out;
    out.largest_fragment = d.largest;
    out.id = d.key.id;
    const auto whole = make_room_for(out, d.kept + d.total);
    const bool congestion = (d.ecn_seen & 1u << congestion_experienced) != 0;
    restore_header(whole, d.header, d.kept, d.family, d.fragment_at, congestion);
    for (const auto& [offset, piece] : d.pieces)
        std::ranges::copy(piece.bytes(), whole.subspan(d.kept + offset).begin());
    return out;
}

void Reassembly::Impl::charge(Datagram& d, std::size_t bytes)
{
    d.charged += bytes;
    held += bytes;
}

// What came is given back; the key stays until the timeout, so that what still comes does not begin a new datagram.
Reassembly::Outcome Reassembly::Impl::fail(Datagram& d, Drop reason)
{
    d.failed = reason;
    d.pieces.clear();
    d.header = {};
    held -= d.charged - datagram_cost;
    d.charged = datagram_cost;
    Outcome out;
    out.drop = reason;
    return out;
}

void Reassembly::Impl::erase(Slot slot)
{
    held -= slot->charged;
    by_key.erase(slot->key);
    waiting(slot->family).erase(slot);
}

std::size_t Reassembly::Impl::expire(Waiting& list, Time now, const Expired& expired)
{
    std::size_t count = 0;
    // As many as there are now: what the callback brings in is not looked at before the next time.
    for (auto left = list.size(); left != 0 && !list.empty(); --left) {
        auto& d = list.front();
        if (now - d.created < timeout(d.family))
            break;
        count += d.failed == Drop::none ? 1 : 0;
        const auto provenance = d.key.provenance;
        auto first = std::move(d.header);
        if (!first.empty()) {
            const auto payload = d.pieces.begin()->second.bytes();
            first.insert(first.end(), payload.begin(), payload.end());
        }
        erase(list.begin());   // before the call, which may come back with a fragment
        if (expired && !first.empty())
            expired(first, provenance);
    }
    return count;
}

Reassembly::Reassembly(Limits limits) : impl_(std::make_unique<Impl>(limits)) {}

Reassembly::~Reassembly() = default;

Reassembly::Outcome Reassembly::add(Bytes view, const Packet& packet, std::uint64_t provenance, Time now)
{
    return impl_->add(view.first(packet.total), packet, provenance, now);
}

std::size_t Reassembly::expire(Time now, const Expired& expired)
{
    return impl_->expire(impl_->v4, now, expired) + impl_->expire(impl_->v6, now, expired);
}

Time Reassembly::next_deadline() const
{
    Time soonest = Time::max();
    for (const auto* list : {&impl_->v4, &impl_->v6})
        if (!list->empty())
            soonest = std::min(soonest, list->front().created + impl_->timeout(list->front().family));
    return soonest;
}

std::size_t Reassembly::held_bytes() const
{
    return impl_->held;
}

std::size_t Reassembly::held_datagrams() const
{
    return impl_->by_key.size();
}

}  // namespace latchkey
