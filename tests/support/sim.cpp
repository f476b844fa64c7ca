// SPDX-License-Identifier: BSD-2-Clause
#include "support/sim.hpp"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <sys/mman.h>
#include <unistd.h>

namespace latchkey::sim {

namespace {

[[noreturn]] void give_up(const char* what, const char* why)
{
    std::fprintf(stderr, "simulation: %s: %s\n", what, why);
    std::abort();
}

}  // namespace

InstanceCreate* load_private_copy()
{
    static const std::string image = [] {
        std::ifstream file(LATCHKEY_HOST_LIBRARY, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(file), {});
    }();
    const int fd = memfd_create("latchkey-host", 0);
    if (fd < 0 || image.empty() || ::write(fd, image.data(), image.size()) != static_cast<ssize_t>(image.size()))
        give_up("private copy of the host library", LATCHKEY_HOST_LIBRARY);
    const auto path = "/proc/self/fd/" + std::to_string(fd);
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
        give_up("dlopen", dlerror());
    void* symbol = dlsym(library, "latchkey_instance_create");
    if (symbol == nullptr)
        give_up("dlsym", dlerror());
    InstanceCreate* create = nullptr;
    static_assert(sizeof(create) == sizeof(symbol));
    std::memcpy(&create, &symbol, sizeof(create));   // POSIX allows it, C++ has no cast for it
    return create;
}

World::World(std::uint64_t seed) : state_(seed) {}
World::~World() = default;

Instance& World::add(HostConfig config, const std::vector<unsigned>& segments)
{
    const std::size_t index = hosts_.size();
    config.interfaces.resize(segments.size());
    for (unsigned port = 0; port < segments.size(); ++port)
        config.interfaces[port].mac = MacAddress{0x02, 0, 0, 0, static_cast<std::uint8_t>(port), static_cast<std::uint8_t>(index + 1)};
    hosts_.push_back({nullptr, segments});
    std::string error;
    auto* made = load_private_copy()(config, random(), now_,
                                     [this, index](unsigned port, Bytes frame) { sent(index, port, frame); }, &error);
    if (made == nullptr)
        give_up("host", error.c_str());
    hosts_[index].instance.reset(made);
    return *made;
}

void World::sent(std::size_t host, unsigned port, Bytes frame)
{
    const unsigned segment = hosts_[host].segments[port];
    ++frames_;
    if (sniff)
        sniff(segment, frame);
    for (std::size_t other = 0; other < hosts_.size(); ++other)
        for (unsigned p = 0; p < hosts_[other].segments.size(); ++p) {
            if (hosts_[other].segments[p] != segment || (other == host && p == port) || chance(faults.loss))
                continue;
            const Time extra = chance(faults.reorder) ? Time(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(
                                                            faults.jitter.count() + 1)))
                                                      : Time(0);
            std::vector<std::uint8_t> copy(frame.begin(), frame.end());
            if (chance(faults.corrupt))
                copy[random() % copy.size()] ^= static_cast<std::uint8_t>(1u << (random() % 8));
            deliver(other, p, copy, faults.delay + extra);
            if (chance(faults.duplicate))
                deliver(other, p, copy, faults.delay + extra + std::chrono::microseconds(50));
        }
}

void World::inject(unsigned segment, Bytes frame)
{
    for (std::size_t host = 0; host < hosts_.size(); ++host)
        for (unsigned p = 0; p < hosts_[host].segments.size(); ++p)
            if (hosts_[host].segments[p] == segment)
                deliver(host, p, frame, faults.delay);
}

void World::deliver(std::size_t host, unsigned port, Bytes frame, Time delay)
{
    events_.push({now_ + delay, order_++, host, port, {frame.begin(), frame.end()}});
}

void World::step_all()
{
    for (auto& host : hosts_)
        while (host.instance->step(now_)) {
        }
}

// One instant: whatever is due next. False: nothing is due before the limit.
bool World::advance(Time limit)
{
    step_all();
    Time next = events_.empty() ? Time::max() : events_.top().at;
    for (auto& host : hosts_)
        next = std::min(next, host.instance->next_deadline());
    if (next > limit)
        return false;
    now_ = std::max(now_, next);
    while (!events_.empty() && events_.top().at <= now_) {
        const Event event = events_.top();
        events_.pop();
        hosts_[event.host].instance->frame_in(event.port, event.frame, now_);
    }
    step_all();
    return true;
}

void World::run(Time duration)
{
    (void)run_until([] { return false; }, duration);
}

bool World::run_until(const std::function<bool()>& done, Time limit)
{
    const Time end = now_ + limit;
    while (!done()) {
        if (!advance(end)) {
            now_ = end;
            step_all();
            return done();
        }
    }
    return true;
}

std::uint64_t counter(Instance& host, std::string_view name)
{
    const auto text = host.stat(1);
    const auto at = ("\n" + text).find("\n" + std::string(name) + " ");
    if (at == std::string::npos)
        give_up("no such counter", std::string(name).c_str());
    std::uint64_t value = 0;
    const char* digits = text.data() + at + name.size() + 1;
    std::from_chars(digits, text.data() + text.size(), value);
    return value;
}

std::uint64_t dropped(Instance& host, std::string_view drop)
{
    return counter(host, "drop_" + std::string(drop));
}

}  // namespace latchkey::sim
