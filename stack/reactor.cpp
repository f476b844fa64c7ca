// SPDX-License-Identifier: BSD-2-Clause
#include "stack/reactor.hpp"

#include <algorithm>
#include <sodium/randombytes.h>
#include <sodium/utils.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

namespace latchkey {

namespace {

constexpr std::size_t frames_per_turn = 128;
constexpr unsigned clients_per_turn = 64;
constexpr std::uint64_t tag_other = std::uint64_t{1} << 32, tag_wire = std::uint64_t{2} << 32;

}  // namespace

void SystemRng::fill(MutableBytes out)
{
    while (!out.empty()) {
        if (used_ == block_.size()) {
            randombytes_buf(block_.data(), block_.size());
            used_ = 0;
        }
        const auto n = std::min(out.size(), block_.size() - used_);
        std::memcpy(out.data(), block_.data() + used_, n);
        sodium_memzero(block_.data() + used_, n);
        used_ += n;
        out = out.subspan(n);
    }
}

Time monotonic_now()
{
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

Reactor::Reactor(Host& host, Door& door, std::vector<std::unique_ptr<Wire>>& wires)
    : host_(host), door_(door), wires_(wires), generations_(wires.size(), 0), watched_(wires.size()),
      epoll_(epoll_create1(EPOLL_CLOEXEC))
{
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = 0;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, door_.fd(), &event);
    for (std::size_t i = 0; i < wires_.size(); ++i)
        follow(i);
}

Reactor::~Reactor()
{
    ::close(epoll_);
}

bool Reactor::watch(int fd)
{
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag_other | static_cast<std::uint32_t>(fd);
    return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
}

// A wire's descriptors come and go with its peers.
void Reactor::follow(std::size_t wire)
{
    for (const int fd : watched_[wire])
        epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);   // closed ones have left by themselves
    watched_[wire].clear();
    generations_[wire] = wires_[wire]->generation();
    for (const auto& w : wires_[wire]->watches()) {
        epoll_event event{};
        event.events = (w.readable ? static_cast<std::uint32_t>(EPOLLIN) : 0u) | (w.writable ? static_cast<std::uint32_t>(EPOLLOUT) : 0u);
        event.data.u64 = tag_wire | wire;
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, w.fd, &event) == 0)
            watched_[wire].push_back(w.fd);
    }
}

int Reactor::turn()
{
    const Time now = monotonic_now();
    bool more = false;
    for (std::size_t i = 0; i < wires_.size(); ++i) {
        const auto port = static_cast<unsigned>(i);
        const auto n = wires_[i]->receive([&](MutableBytes frame) { host_.frame_in(port, frame, now); }, frames_per_turn, now);
        more |= n == frames_per_turn;
    }
    more |= host_.step(now);
    more |= door_.run(now, clients_per_turn);
    more |= host_.step(now);   // what the clients sent, to this host itself as well

    Time due = std::min(host_.next_deadline(), door_.next_deadline());
    for (std::size_t i = 0; i < wires_.size(); ++i) {
        due = std::min(due, wires_[i]->next_deadline());
        if (wires_[i]->generation() != generations_[i])
            follow(i);
    }
    int timeout = -1;
    if (more || due <= now)
        timeout = 0;
    else if (due != Time::max())
        timeout = static_cast<int>(std::min<std::int64_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(due - now).count() + 1, 60'000));

    std::array<epoll_event, 16> events{};
    const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), timeout);
    for (int i = 0; i < n; ++i)
        if ((events[static_cast<std::size_t>(i)].data.u64 & tag_other) != 0)
            return static_cast<int>(events[static_cast<std::size_t>(i)].data.u64 & 0xffffffffu);
    return -1;
}

}  // namespace latchkey
