// SPDX-License-Identifier: BSD-2-Clause
// A heap of timers that know their place in it: setting and cancelling cost O(log n), the next deadline O(1), and a
// cancelled timer leaves nothing behind. The owner of a Timer cancels it before it goes. Used by the engine only.
#pragma once

#include "pfkey/policy.hpp"

#include <cstdint>
#include <vector>

namespace latchkey {

struct Sa;

struct Timer {
    enum class Kind : std::uint8_t { sa, policy, acquire };

    Kind kind = Kind::sa;
    std::uint32_t position = idle;    // in the heap
    Time at = Time::max();            // Time::max(): not set
    Sa* sa = nullptr;                 // Kind::sa
    std::uint32_t id = 0;             // policy id or ACQUIRE id

    static constexpr std::uint32_t idle = ~std::uint32_t{0};
    bool set() const { return position != idle; }
};

class Deadlines {
public:
    void set(Timer& timer, Time at);     // moves it if it is set already; Time::max() cancels
    void cancel(Timer& timer);
    void clear() { heap_.clear(); }      // the timers are about to go, unseen
    Timer* due(Time now) const { return !heap_.empty() && heap_.front()->at <= now ? heap_.front() : nullptr; }
    Time next() const { return heap_.empty() ? Time::max() : heap_.front()->at; }
    std::size_t size() const { return heap_.size(); }

private:
    void put(std::size_t at, Timer* timer);
    void sift_up(std::size_t at);
    void sift_down(std::size_t at);

    std::vector<Timer*> heap_;
};

// now + seconds, without overflow: limits of 2^64 s are legal in PF_KEY.
Time after_seconds(Time from, std::uint64_t seconds);

}  // namespace latchkey
