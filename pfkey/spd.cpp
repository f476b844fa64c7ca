// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/spd.hpp"

#include "pfkey/flat_index.hpp"
#include "pfkey/tuple_space.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace latchkey {

namespace {

constexpr std::array directions{Direction::in, Direction::out, Direction::fwd};

constexpr std::size_t slot(Direction direction)
{
    return static_cast<std::size_t>(direction) - static_cast<std::size_t>(Direction::in);
}

// Ids count up by 8 (see engine); mixing spreads them over the index.
std::uint64_t id_hash(std::uint32_t id)
{
    return mix(id + 0x9e3779b97f4a7c15u);
}

}  // namespace

struct Spd::Impl {
    struct Side {
        std::map<Rank, Policy> rules;   // owns them; the order of dumps
        TupleSpace tuples;
        std::size_t with_ports = 0;
    };

    std::array<Side, 3> sides;
    FlatIndex<const Policy*> by_id;
    std::uint64_t last_order = 0;

    const Policy& publish(Policy policy);
    void index(const Policy& policy);
    Side& side(Direction direction) { return sides[slot(direction)]; }
};

Spd::Spd() : impl_(std::make_unique<Impl>()) {}
Spd::~Spd() = default;

const Policy& Spd::insert(Policy policy)
{
    policy.order = ++impl_->last_order;
    return impl_->publish(std::move(policy));
}

const Policy& Spd::replace(const Policy& old, Policy policy)
{
    Taken replaced;
    return replace(old, std::move(policy), replaced);
}

const Policy& Spd::replace(const Policy& old, Policy policy, Taken& replaced)
{
    policy.order = old.priority == policy.priority ? old.order : ++impl_->last_order;
    replaced = take(old);
    return impl_->publish(std::move(policy));
}

void Spd::erase(const Policy& policy)
{
    take(policy);
}

Spd::Taken Spd::take(const Policy& policy)
{
    auto& side = impl_->side(policy.direction);
    impl_->by_id.erase(id_hash(policy.id), [&](const Policy* p) { return p == &policy; });
    side.with_ports -= policy.selector.uses_ports();
    Taken taken = side.rules.extract(rank_of(policy));
    side.tuples.erase(policy, [&](Rank rank) -> const Policy* {
        const auto next = side.rules.upper_bound(rank);
        return next == side.rules.end() ? nullptr : &next->second;
    });
    return taken;
}

void Spd::put_back(Taken taken)
{
    auto& side = impl_->side(taken.mapped().direction);
    impl_->index(side.rules.insert(std::move(taken)).position->second);
}

void Spd::rewind(std::uint64_t order)
{
    impl_->last_order = order;
}

void Spd::set_aside(Spd& into)
{
    const auto order = impl_->last_order;
    into.impl_ = std::exchange(impl_, std::make_unique<Impl>());
    impl_->last_order = order;
}

void Spd::bring_back(Spd& from)
{
    impl_ = std::exchange(from.impl_, std::make_unique<Impl>());
}

bool Spd::wither(std::size_t& count)
{
    for (auto& side : impl_->sides)
        for (; count != 0 && !side.rules.empty(); --count)
            side.rules.erase(side.rules.begin());
    return std::ranges::all_of(impl_->sides, [](const auto& side) { return side.rules.empty(); });
}

void Spd::clear()
{
    const auto order = impl_->last_order;   // a dump under way relies on order numbers growing
    impl_ = std::make_unique<Impl>();
    impl_->last_order = order;
}

std::size_t Spd::size() const
{
    return impl_->by_id.size();
}

std::size_t Spd::size(Direction direction) const
{
    return impl_->side(direction).rules.size();
}

const Policy* Spd::find(std::uint32_t id) const
{
    const auto* found = impl_->by_id.find(id_hash(id), [&](const Policy* p) { return p->id == id; });
    return found == nullptr ? nullptr : *found;
}

const Policy* Spd::find(Direction direction, const Selector& selector) const
{
    return impl_->side(direction).tuples.equal(selector);
}

const Policy* Spd::lookup(Direction direction, const Flow& flow) const
{
    return impl_->side(direction).tuples.lookup(flow);
}

bool Spd::selects_by_port(Direction direction) const
{
    return impl_->side(direction).with_ports != 0;
}

const Policy* Spd::next(Cursor& cursor) const
{
    for (const Direction direction : directions) {
        const auto number = static_cast<std::uint8_t>(direction);
        if (number < cursor.direction)
            continue;
        const Rank after = number == cursor.direction ? Rank{cursor.priority, cursor.order} : Rank{};
        const auto& rules = impl_->side(direction).rules;
        if (const auto found = rules.upper_bound(after); found != rules.end()) {
            cursor = {number, found->first.priority, found->first.order};
            return &found->second;
        }
    }
    return nullptr;
}

std::uint64_t Spd::last_order() const
{
    return impl_->last_order;
}

const Policy& Spd::Impl::publish(Policy policy)
{
    const Rank rank = rank_of(policy);
    const Policy& published = side(policy.direction).rules.emplace(rank, std::move(policy)).first->second;
    index(published);
    return published;
}

void Spd::Impl::index(const Policy& policy)
{
    Side& into = side(policy.direction);
    by_id.insert(id_hash(policy.id), &policy);
    into.with_ports += policy.selector.uses_ports();
    into.tuples.insert(policy);
}

}  // namespace latchkey
