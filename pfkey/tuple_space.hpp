// SPDX-License-Identifier: BSD-2-Clause
// Tuple space of one direction of the SPD: policies are hashed under the masks that their selectors use, one table per
// combination of masks. A lookup probes each table once, best priority first, and stops when no table that is left
// could hold a better rule. Used by spd.cpp only.
//
// A port range is split into aligned blocks (at most 30), a rule into the product of its source and destination
// blocks. Where that is more than 64, only the dimension with fewer blocks is split; the other one is then checked
// on the rules found, so that memory stays O(1) per rule.
#pragma once

#include "pfkey/flat_index.hpp"
#include "pfkey/spd.hpp"

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

namespace latchkey {

class TupleSpace {
public:
    // The rule of this direction that comes next after a rank, whatever table it is in.
    using Following = std::function<const Policy*(Rank)>;

    TupleSpace();
    ~TupleSpace();
    TupleSpace(const TupleSpace&) = delete;
    TupleSpace& operator=(const TupleSpace&) = delete;

    void insert(const Policy& policy);
    void erase(const Policy& policy, const Following& following);   // `following` does not know it any more
    const Policy* lookup(const Flow& flow) const;
    const Policy* equal(const Selector& selector) const;
    std::size_t entries() const;   // of all tables

private:
    struct Table;
    std::unordered_map<std::uint64_t, std::unique_ptr<Table>> by_masks_;
    std::vector<Table*> v4_, v6_;   // ascending by the best rank they may hold
    std::vector<Table*>& tables_of(Family family) { return family == Family::v4 ? v4_ : v6_; }
};

}  // namespace latchkey
