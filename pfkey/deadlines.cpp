// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/deadlines.hpp"

namespace latchkey {

void Deadlines::set(Timer& timer, Time at)
{
    if (at == Time::max())
        return cancel(timer);
    if (!timer.set()) {
        heap_.push_back(&timer);
        timer.position = static_cast<std::uint32_t>(heap_.size() - 1);
    }
    timer.at = at;
    sift_up(timer.position);
    sift_down(timer.position);
}

void Deadlines::cancel(Timer& timer)
{
    timer.at = Time::max();
    if (!timer.set())
        return;
    const std::size_t gap = timer.position;
    timer.position = Timer::idle;
    Timer* last = heap_.back();
    heap_.pop_back();
    if (last == &timer)
        return;
    put(gap, last);
    sift_up(gap);
    sift_down(last->position);
}

void Deadlines::put(std::size_t at, Timer* timer)
{
    heap_[at] = timer;
    timer->position = static_cast<std::uint32_t>(at);
}

void Deadlines::sift_up(std::size_t at)
{
    Timer* moving = heap_[at];
    while (at > 0 && moving->at < heap_[(at - 1) / 2]->at) {
        put(at, heap_[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(at, moving);
}

void Deadlines::sift_down(std::size_t at)
{
    Timer* moving = heap_[at];
    for (;;) {
        std::size_t child = 2 * at + 1;
        if (child >= heap_.size())
            break;
        if (child + 1 < heap_.size() && heap_[child + 1]->at < heap_[child]->at)
            ++child;
        if (heap_[child]->at >= moving->at)
            break;
        put(at, heap_[child]);
        at = child;
    }
    put(at, moving);
}

Time after_seconds(Time from, std::uint64_t seconds)
{
    using std::chrono::duration_cast;
    const auto room = duration_cast<std::chrono::seconds>(Time::max() - from).count() - 1;
    if (seconds > static_cast<std::uint64_t>(room))
        return Time::max();
    return from + std::chrono::seconds(seconds);
}

}  // namespace latchkey
