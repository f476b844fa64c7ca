// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/tuple_space.hpp"

#include <algorithm>
#include <array>
#include <bit>

namespace latchkey {

namespace {

constexpr std::size_t max_pieces = 64;

// What one table keeps of a packet. Lengths are prefix lengths; of ports too (0: any port, 16: one port).
struct Masks {
    Family family = Family::none;
    std::uint8_t source = 0, destination = 0;
    std::uint8_t source_port = 0, destination_port = 0;
    bool protocol = false;

    std::uint64_t packed() const
    {
        return std::uint64_t{static_cast<std::uint8_t>(family)} << 40 | std::uint64_t{source} << 32 |
               std::uint64_t{destination} << 24 | std::uint64_t{source_port} << 16 |
               std::uint64_t{destination_port} << 8 | std::uint64_t{protocol};
    }
};

// A flow as five words, so that masking and hashing need no loops. Addresses stay in memory order on both sides.
struct Words {
    std::uint64_t source[2] = {}, destination[2] = {}, rest = 0;
};

// The unused tail of an IPv4 address is zero.
void load(std::uint64_t (&words)[2], const Address& address)
{
    if (address.is_v4())
        std::memcpy(words, address.bytes().data(), 4);
    else
        std::memcpy(words, address.bytes().data(), 16);
}

constexpr std::uint64_t rest_word(std::uint8_t protocol, std::uint16_t source_port, std::uint16_t destination_port)
{
    return std::uint64_t{protocol} << 32 | std::uint64_t{source_port} << 16 | destination_port;
}

constexpr std::uint16_t port_mask(unsigned length)
{
    return static_cast<std::uint16_t>(0xffff0000u >> length);
}

Words words_of(const Flow& flow)
{
    Words w;
    load(w.source, flow.source);
    load(w.destination, flow.destination);
    w.rest =
        rest_word(flow.protocol, flow.has_ports ? flow.source_port : 0, flow.has_ports ? flow.destination_port : 0);
    return w;
}

Words words_of(const Masks& masks)
{
    Address ones = masks.family == Family::v4 ? Address::v4(255, 255, 255, 255) : Address::v6([] {
        std::array<std::uint8_t, 16> all{};
        all.fill(255);
        return all;
    }());
    Words w;
    load(w.source, ones.masked(masks.source));
    load(w.destination, ones.masked(masks.destination));
    w.rest = rest_word(masks.protocol ? 0xff : 0, port_mask(masks.source_port), port_mask(masks.destination_port));
    return w;
}

// Multiplying each word by an odd constant of its own keeps swapped addresses apart; mix() spreads the sum.
std::uint64_t hash_of(const Words& w, const Words& mask)
{
    return mix(
        (w.source[0] & mask.source[0]) * 0x9e3779b97f4a7c15u + (w.source[1] & mask.source[1]) * 0xc2b2ae3d27d4eb4fu +
        (w.destination[0] & mask.destination[0]) * 0x165667b19e3779f9u +
        (w.destination[1] & mask.destination[1]) * 0xd6e8feb86659fd93u + (w.rest & mask.rest) * 0xff51afd7ed558ccdu);
}

struct PortBlock {
    std::uint16_t value = 0;
    std::uint8_t length = 0;   // as a prefix
};

struct PortBlocks {
    std::array<PortBlock, 30> block;
    std::size_t count = 0;
};

PortBlocks split(PortRange range)
{
    PortBlocks out;
    for (std::uint32_t low = range.low; low <= range.high;) {
        const std::uint32_t left = range.high - low + 1;
        const std::uint32_t aligned = low == 0 ? 0x10000 : low & ~(low - 1);
        const std::uint32_t size = std::min(aligned, std::bit_floor(left));
        const auto length = static_cast<std::uint8_t>(16 - std::countr_zero(size));
        out.block[out.count++] = {static_cast<std::uint16_t>(low), length};
        low += size;
    }
    return out;
}

// Calls visit(masks, hash) for every table entry of a selector.
template <class Visit> void for_each_piece(const Selector& selector, Visit&& visit)
{
    constexpr PortBlocks any{{}, 1};
    PortBlocks source = split(selector.source_port);
    PortBlocks destination = split(selector.destination_port);
    if (source.count * destination.count > max_pieces)
        (source.count < destination.count ? destination : source) = any;

    Masks masks{selector.source.address.family(), selector.source.length, selector.destination.length, 0, 0,
                selector.protocol != ip_proto::any};
    Words words;
    load(words.source, selector.source.address);
    load(words.destination, selector.destination.address);
    for (std::size_t s = 0; s < source.count; ++s)
        for (std::size_t d = 0; d < destination.count; ++d) {
            masks.source_port = source.block[s].length;
            masks.destination_port = destination.block[d].length;
            words.rest = rest_word(selector.protocol, source.block[s].value, destination.block[d].value);
            if (!visit(masks, hash_of(words, words_of(masks))))
                return;
        }
}

}  // namespace

namespace {

bool selects_upper_layer(const Selector& selector, const Flow& flow)
{
    if (selector.protocol != ip_proto::any && selector.protocol != flow.protocol)
        return false;
    return !selector.uses_ports() || (flow.has_ports && selector.source_port.contains(flow.source_port) &&
                                      selector.destination_port.contains(flow.destination_port));
}

}  // namespace

bool selects(const Selector& selector, const Flow& flow)
{
    return selects_upper_layer(selector, flow) && selector.source.contains(flow.source) &&
           selector.destination.contains(flow.destination);
}

// Policies of one key by rank. Nearly always there is just one; `rest` holds the others.
struct Chain {
    const Policy* best = nullptr;
    std::unique_ptr<std::vector<const Policy*>> rest;
};

struct TupleSpace::Table {
    Rank best;            // no rule here comes before it
    bool loose = false;   // there may be room between `best` and the first rule
    bool needs_ports = false;
    Words mask;
    std::uint64_t masks = 0;
    std::size_t live = 0;
    FlatIndex<Chain> chains;

    const Chain* chain(std::uint64_t hash) const { return chains.find(hash, [](const Chain&) { return true; }); }
    Chain* chain(std::uint64_t hash) { return chains.find(hash, [](const Chain&) { return true; }); }
    const Policy* first_match(std::uint64_t hash, const Words& words, const Flow& flow) const;
    bool selects(const Selector& selector, const Words& words, const Flow& flow) const;
    void add(std::uint64_t hash, const Policy& policy);
    void remove(std::uint64_t hash, const Policy& policy);
    void tighten(const Following& following);
};

TupleSpace::TupleSpace() = default;
TupleSpace::~TupleSpace() = default;

const Policy* TupleSpace::lookup(const Flow& flow) const
{
    constexpr std::size_t batch = 8;   // tables whose cache misses overlap
    const auto& tables = flow.source.family() == Family::v4 ? v4_ : v6_;
    const Words words = words_of(flow);
    std::array<std::uint64_t, batch> hashes;
    const Policy* best = nullptr;
    for (std::size_t from = 0; from < tables.size(); from += batch) {
        const std::size_t count = std::min(batch, tables.size() - from);
        for (std::size_t i = 0; i < count; ++i) {
            hashes[i] = hash_of(words, tables[from + i]->mask);
            tables[from + i]->chains.prefetch(hashes[i]);
        }
        for (std::size_t i = 0; i < count; ++i) {
            const Table& table = *tables[from + i];
            if (best != nullptr && rank_of(*best) < table.best)
                return best;
            if (table.needs_ports && !flow.has_ports)
                continue;
            const Policy* found = table.first_match(hashes[i], words, flow);
            if (found != nullptr && (best == nullptr || rank_of(*found) < rank_of(*best)))
                best = found;
        }
    }
    return best;
}

const Policy* TupleSpace::equal(const Selector& selector) const
{
    const Policy* found = nullptr;
    for_each_piece(selector, [&](const Masks& masks, std::uint64_t hash) {
        const auto table = by_masks_.find(masks.packed());
        const Chain* chain = table == by_masks_.end() ? nullptr : table->second->chain(hash);
        if (chain == nullptr)
            return false;
        if (chain->best->selector == selector) {
            found = chain->best;
        } else if (chain->rest != nullptr) {
            const auto hit =
                std::ranges::find_if(*chain->rest, [&](const Policy* p) { return p->selector == selector; });
            found = hit == chain->rest->end() ? nullptr : *hit;
        }
        return false;   // every piece would lead to the same rule
    });
    return found;
}

std::size_t TupleSpace::entries() const
{
    std::size_t count = 0;
    for (const auto& [masks, table] : by_masks_)
        count += table->live;
    return count;
}

void TupleSpace::insert(const Policy& policy)
{
    const Rank rank = rank_of(policy);
    auto& order = tables_of(policy.selector.source.address.family());
    bool reordered = false;
    for_each_piece(policy.selector, [&](const Masks& masks, std::uint64_t hash) {
        auto& table = by_masks_[masks.packed()];
        if (table == nullptr) {
            table = std::make_unique<Table>();
            table->mask = words_of(masks);
            table->needs_ports = masks.source_port != 0 || masks.destination_port != 0;
            table->masks = masks.packed();
            table->best = rank;
            order.push_back(table.get());
            reordered = true;
        }
        table->add(hash, policy);
        if (rank < table->best) {
            table->best = rank;
            table->loose = false;
            reordered = true;
        }
        return true;
    });
    if (reordered)
        std::ranges::sort(order, {}, &Table::best);
}

void TupleSpace::erase(const Policy& policy, const Following& following)
{
    auto& order = tables_of(policy.selector.source.address.family());
    bool reordered = false;
    for_each_piece(policy.selector, [&](const Masks& masks, std::uint64_t hash) {
        const auto at = by_masks_.find(masks.packed());
        Table& table = *at->second;
        table.remove(hash, policy);
        if (table.live == 0) {
            std::erase(order, &table);
            by_masks_.erase(at);
        } else if (table.loose || table.best == rank_of(policy)) {
            table.tighten(following);
            reordered = true;
        }
        return true;
    });
    if (reordered)
        std::ranges::sort(order, {}, &Table::best);
}

const Policy* TupleSpace::Table::first_match(std::uint64_t hash, const Words& words, const Flow& flow) const
{
    const Chain* found = chain(hash);
    if (found == nullptr)
        return nullptr;
    if (selects(found->best->selector, words, flow))
        return found->best;
    if (found->rest != nullptr)
        for (const Policy* policy : *found->rest)
            if (selects(policy->selector, words, flow))
                return policy;
    return nullptr;
}

// As the free function; the prefix lengths of a rule in this table are those of its masks.
bool TupleSpace::Table::selects(const Selector& selector, const Words& words, const Flow& flow) const
{
    Words rule;
    load(rule.source, selector.source.address);
    load(rule.destination, selector.destination.address);
    std::uint64_t difference = 0;
    for (int i = 0; i < 2; ++i)
        difference |= ((rule.source[i] ^ words.source[i]) & mask.source[i]) |
                      ((rule.destination[i] ^ words.destination[i]) & mask.destination[i]);
    return difference == 0 && selects_upper_layer(selector, flow);
}

void TupleSpace::Table::add(std::uint64_t hash, const Policy& policy)
{
    ++live;
    Chain* chain_found = chain(hash);
    if (chain_found == nullptr) {
        chains.insert(hash, Chain{&policy, nullptr});
        return;
    }
    if (chain_found->rest == nullptr)
        chain_found->rest = std::make_unique<std::vector<const Policy*>>();
    const Policy* second = &policy;
    if (rank_of(policy) < rank_of(*chain_found->best))
        std::swap(second, chain_found->best);
    auto& rest = *chain_found->rest;
    rest.insert(std::ranges::upper_bound(rest, rank_of(*second), {}, [](const Policy* p) { return rank_of(*p); }),
                second);
}

void TupleSpace::Table::remove(std::uint64_t hash, const Policy& policy)
{
    --live;
    Chain* found = chain(hash);
    if (found->rest == nullptr) {
        chains.erase(hash, [](const Chain&) { return true; });
        return;
    }
    auto& rest = *found->rest;
    if (found->best == &policy) {
        found->best = rest.front();
        rest.erase(rest.begin());
    } else {
        rest.erase(std::ranges::lower_bound(rest, rank_of(policy), {}, [](const Policy* p) { return rank_of(*p); }));
    }
    if (rest.empty())
        found->rest.reset();
}

// Moves `best` on to the first rule of this table. The search is short, so that an erase stays cheap: every rule it has
// passed is a better bound, and the next erase goes on from there. A loose bound costs a probe, never a wrong answer.
void TupleSpace::Table::tighten(const Following& following)
{
    constexpr int steps = 16;
    loose = true;
    for (int i = 0; i < steps && loose; ++i) {
        const Policy* next = following(best);
        if (next == nullptr)
            break;
        best = rank_of(*next);
        for_each_piece(next->selector, [&](const Masks& other, std::uint64_t) {
            loose = other.packed() != masks;
            return loose;
        });
    }
}

}  // namespace latchkey
