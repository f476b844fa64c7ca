// SPDX-License-Identifier: BSD-2-Clause
// The security policy database: ordered rules per direction, found by tuple space (a hash per combination of masks,
// best priority first, cut off early) instead of by walking rules.
#pragma once

#include "pfkey/policy.hpp"

#include <compare>
#include <map>
#include <memory>

namespace latchkey {

// The place of a rule among all of its direction; order numbers are unique.
struct Rank {
    std::uint32_t priority = 0;
    std::uint64_t order = 0;
    auto operator<=>(const Rank&) const = default;
};

inline Rank rank_of(const Policy& policy)
{
    return {policy.priority, policy.order};
}

bool selects(const Selector& selector, const Flow& flow);

class Spd {
public:
    using Taken = std::map<Rank, Policy>::node_type;   // a policy out of its place

    Spd();
    ~Spd();
    Spd(const Spd&) = delete;
    Spd& operator=(const Spd&) = delete;

    // Publishes the policy; its order number is set here. The reference stays valid until erase.
    const Policy& insert(Policy policy);
    void erase(const Policy& policy);

    // Publishes `policy` in the place of `old` (same direction); it keeps the order number if the priority is the same,
    // so that an update does not move a rule among its equals.
    // `replaced` gets the old one.
    const Policy& replace(const Policy& old, Policy policy);
    const Policy& replace(const Policy& old, Policy policy, Taken& replaced);
    void clear();
    std::size_t size() const;
    std::size_t size(Direction direction) const;

    const Policy* find(std::uint32_t id) const;
    const Policy* find(Direction direction, const Selector& selector) const;   // equal selector

    // The first rule, by (priority, order), that matches; null if none does.
    const Policy* lookup(Direction direction, const Flow& flow) const;

    // Could a rule that names ports or ICMP types match a packet of these addresses and protocol?
    bool selects_by_port(Direction direction) const;

    // Cursor walk: direction in, out, fwd; within a direction by (priority, order). Survives changes between steps.
    struct Cursor {
        std::uint8_t direction = 0;
        std::uint32_t priority = 0;
        std::uint64_t order = 0;
    };
    const Policy* next(Cursor& cursor) const;
    std::uint64_t last_order() const;   // order numbers only grow

    // For changes that may be undone (batch.cpp), in reverse order: what was taken goes back to its old place, at its
    // old address.
    Taken take(const Policy& policy);
    void put_back(Taken taken);
    void rewind(std::uint64_t order);   // every policy above it has been taken: the numbers may be used again
    void set_aside(Spd& into);          // everything, at once; order numbers go on
    void bring_back(Spd& from);
    // Frees up to so many policies of an SPD that nobody looks into any more, and counts down; true: all are gone.
    bool wither(std::size_t& count);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
