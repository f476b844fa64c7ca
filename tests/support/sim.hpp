// SPDX-License-Identifier: BSD-2-Clause
// A world of several hosts in one process under a virtual clock. Everything that chance decides (loss, duplication, delay,
// order, each host's own random numbers) comes from one seed: a failing seed replays exactly.
#pragma once

#include "stack/instance.hpp"

#include <deque>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <vector>

namespace latchkey::sim {

struct Faults {
    double loss = 0, duplicate = 0, reorder = 0, corrupt = 0;   // 0..1, per frame and receiver
    Time delay = std::chrono::microseconds(100);
    Time jitter = std::chrono::milliseconds(3);                 // extra delay of a reordered frame, at most
};

class World {
public:
    explicit World(std::uint64_t seed);
    ~World();

    // A host whose interface net<i> is on segment segments[i].
    Instance& add(HostConfig config, const std::vector<unsigned>& segments);

    Faults faults;                                              // of every segment
    std::function<void(unsigned segment, Bytes frame)> sniff;   // sees every frame that was sent, lost ones too
    void inject(unsigned segment, Bytes frame);                 // to every host on the segment

    Time now() const { return now_; }
    void run(Time duration);
    // Runs until the condition holds; false if `limit` passed first.
    bool run_until(const std::function<bool()>& done, Time limit);
    std::uint64_t random() { return state_ = mix(state_ + 0x9e3779b97f4a7c15u); }
    bool chance(double p) { return static_cast<double>(random() >> 11) / 9007199254740992.0 < p; }
    std::uint64_t frames() const { return frames_; }

private:
    struct Host {
        std::unique_ptr<Instance> instance;
        std::vector<unsigned> segments;
    };
    struct Event {
        Time at;
        std::uint64_t order;
        std::size_t host;
        unsigned port;
        std::vector<std::uint8_t> frame;
        bool operator>(const Event& o) const { return at != o.at ? at > o.at : order > o.order; }
    };
    void sent(std::size_t host, unsigned port, Bytes frame);
    void deliver(std::size_t host, unsigned port, Bytes frame, Time delay);
    void step_all();
    bool advance(Time limit);

    std::uint64_t state_;
    Time now_ = std::chrono::seconds(1000);
    std::uint64_t order_ = 0, frames_ = 0;
    std::vector<Host> hosts_;
    std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
};

// The library has to be loaded once per host: dlopen knows files by path, so every copy is a memfd of its own that stays open.
InstanceCreate* load_private_copy();

// A counter of Instance::stat(1).
std::uint64_t counter(Instance& host, std::string_view name);
std::uint64_t dropped(Instance& host, std::string_view drop);

}  // namespace latchkey::sim
