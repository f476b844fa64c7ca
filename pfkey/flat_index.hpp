// SPDX-License-Identifier: BSD-2-Clause
// An open-addressing hash index that stores hashes and small values, never keys: the caller's predicate compares what
// the value points to. Linear probing, no tombstones. Used by the SAD, the SPD and the table of pending ACQUIREs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace latchkey {

template <class Value> class FlatIndex {
public:
    // The first value under this hash that `match` takes; null if there is none. Valid until the next insert or erase.
    template <class Match> const Value* find(std::uint64_t hash, Match&& match) const
    {
        const std::size_t at = position(hash, match);
        return at == none ? nullptr : &slots_[at].value;
    }

    template <class Match> Value* find(std::uint64_t hash, Match&& match)
    {
        const std::size_t at = position(hash, match);
        return at == none ? nullptr : &slots_[at].value;
    }

    Value& insert(std::uint64_t hash, Value value)
    {
        if ((used_ + 1) * 4 > slots_.size() * 3)
            resize(slots_.empty() ? 8 : slots_.size() * 2);
        ++used_;
        return place(usable(hash), std::move(value));
    }

    template <class Match> void erase(std::uint64_t hash, Match&& match)
    {
        const std::size_t at = position(hash, match);
        if (at == none)
            return;
        close_gap(at);
        --used_;
        if (slots_.size() > 64 && used_ * 8 < slots_.size())
            resize(slots_.size() / 2);
    }

    std::size_t size() const { return used_; }

    // Starts to load the slot where find() will look first.
    void prefetch(std::uint64_t hash) const
    {
        if (!slots_.empty())
            __builtin_prefetch(&slots_[home(usable(hash))]);
    }

private:
    struct Slot {
        std::uint64_t hash = 0;   // 0: free
        Value value{};
    };

    static constexpr std::size_t none = ~std::size_t{0};
    static constexpr std::uint64_t usable(std::uint64_t hash) { return hash == 0 ? 1 : hash; }

    std::size_t home(std::uint64_t hash) const { return static_cast<std::size_t>(hash) & (slots_.size() - 1); }
    std::size_t after(std::size_t at) const { return (at + 1) & (slots_.size() - 1); }

    template <class Match> std::size_t position(std::uint64_t hash, Match&& match) const
    {
        if (used_ == 0)
            return none;
        hash = usable(hash);
        for (std::size_t at = home(hash); slots_[at].hash != 0; at = after(at))
            if (slots_[at].hash == hash && match(slots_[at].value))
                return at;
        return none;
    }

    Value& place(std::uint64_t hash, Value value)
    {
        std::size_t at = home(hash);
        while (slots_[at].hash != 0)
            at = after(at);
        slots_[at].hash = hash;
        slots_[at].value = std::move(value);
        return slots_[at].value;
    }

    // Moves later members of the cluster back, so that a probe never stops too early.
    void close_gap(std::size_t gap)
    {
        for (std::size_t at = after(gap); slots_[at].hash != 0; at = after(at)) {
            const std::size_t distance = (at - home(slots_[at].hash)) & (slots_.size() - 1);
            if (distance >= ((at - gap) & (slots_.size() - 1))) {
                slots_[gap] = std::move(slots_[at]);
                gap = at;
            }
        }
        slots_[gap] = Slot{};
    }

    void resize(std::size_t count)
    {
        std::vector<Slot> old(count);
        old.swap(slots_);
        for (auto& slot : old)
            if (slot.hash != 0)
                place(slot.hash, std::move(slot.value));
    }

    std::vector<Slot> slots_;   // a power of two, at most three quarters full
    std::size_t used_ = 0;
};

}  // namespace latchkey
