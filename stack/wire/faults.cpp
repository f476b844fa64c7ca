// SPDX-License-Identifier: BSD-2-Clause
// A bad wire on purpose: loses, duplicates, delays past others and corrupts frames that this host sends. What happens
// to which frame depends on the seed and the frame's number alone, so a run can be repeated.
#include "stack/wire/wire.hpp"

#include <algorithm>
#include <chrono>
#include <random>

namespace latchkey {

namespace {

constexpr std::size_t max_held = 64;
constexpr Time longest_hold = std::chrono::milliseconds(20);

class Faults final : public Wire {
public:
    Faults(std::unique_ptr<Wire> inner, const WireSpec& spec)
        : inner_(std::move(inner)), loss_(spec.loss), duplicate_(spec.duplicate), reorder_(spec.reorder),
          corrupt_(spec.corrupt), random_(spec.seed)
    {
    }

    void send(Bytes frame, Time now) override
    {
        const auto fate = draw();
        if (fate.lost)
            ++lost_;
        else if (fate.held_for != 0 && held_.size() < max_held)
            held_.push_back({copy(frame, fate), fate.held_for, now + longest_hold, fate.twice});
        else
            pass(frame, fate, now);
        overtake(now);
    }

    std::size_t receive(const std::function<void(MutableBytes)>& sink, std::size_t budget, Time now) override
    {
        release(now, [now](const Held& held) { return held.deadline <= now; });
        return inner_->receive(sink, budget, now);
    }

    std::vector<Watch> watches() const override { return inner_->watches(); }
    unsigned generation() const override { return inner_->generation(); }
    std::string name() const override { return inner_->name(); }

    Time next_deadline() const override
    {
        auto next = inner_->next_deadline();
        for (const auto& held : held_)
            next = std::min(next, held.deadline);
        return next;
    }

    WireStats stats() const override
    {
        auto stats = inner_->stats();
        stats.dropped += lost_;
        return stats;
    }

private:
    struct Fate {
        bool lost, twice, corrupted;
        unsigned held_for;      // how many later frames go first; 0: none
        std::uint64_t where;    // which bit is flipped
    };
    struct Held {
        std::vector<std::uint8_t> frame;
        unsigned overtakers;
        Time deadline;          // for the case that nothing more is sent
        bool twice;
    };

    // The same number of draws for every frame: one option's rate does not move where the others strike.
    Fate draw()
    {
        Fate fate{};
        fate.lost = chance() < loss_;
        fate.twice = chance() < duplicate_;
        fate.corrupted = chance() < corrupt_;
        const bool late = chance() < reorder_;
        const auto places = static_cast<unsigned>(random_() % 3) + 1;
        fate.held_for = late ? places : 0;
        fate.where = random_();
        return fate;
    }

    // Uniform in [0, 1). Not std::uniform_real_distribution, whose results differ between libraries.
    double chance() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

    void pass(Bytes frame, const Fate& fate, Time now)
    {
        if (!fate.corrupted)
            return deliver(frame, fate.twice, now);
        const auto changed = copy(frame, fate);
        deliver(changed, fate.twice, now);
    }

    void deliver(Bytes frame, bool twice, Time now)
    {
        inner_->send(frame, now);
        if (twice)
            inner_->send(frame, now);
    }

    static std::vector<std::uint8_t> copy(Bytes frame, const Fate& fate)
    {
        std::vector<std::uint8_t> bytes(frame.begin(), frame.end());
        // Behind the Ethernet header: a wrong address there would be one more kind of loss.
        if (fate.corrupted && bytes.size() > min_frame) {
            const auto bit = fate.where % ((bytes.size() - min_frame) * 8);
            bytes[min_frame + bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
        }
        return bytes;
    }

    // One more frame went past those that wait. A frame counts itself when it joins them.
    void overtake(Time now)
    {
        release(now, [](Held& held) { return held.overtakers-- == 0; });
    }

    template <class Due> void release(Time now, Due due)
    {
        for (std::size_t i = 0; i < held_.size();) {
            if (!due(held_[i])) {
                ++i;
                continue;
            }
            const auto held = std::move(held_[i]);
            held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
            deliver(held.frame, held.twice, now);
        }
    }

    std::unique_ptr<Wire> inner_;
    double loss_, duplicate_, reorder_, corrupt_;
    std::mt19937_64 random_;
    std::vector<Held> held_;
    std::uint64_t lost_ = 0;
};

}  // namespace

std::unique_ptr<Wire> add_faults(std::unique_ptr<Wire> inner, const WireSpec& faults)
{
    return std::make_unique<Faults>(std::move(inner), faults);
}

}  // namespace latchkey
