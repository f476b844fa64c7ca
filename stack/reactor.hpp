// SPDX-License-Identifier: BSD-2-Clause
// The clock, the random source and the epoll loop of a daemon: the only place where a host meets the kernel.
#pragma once

#include "stack/door.hpp"
#include "stack/host.hpp"
#include "stack/wire/wire.hpp"

#include <memory>
#include <unordered_map>
#include <vector>

namespace latchkey {

// From the operating system, in blocks: a CBC packet asks for 16 bytes.
class SystemRng : public Rng {
public:
    void fill(MutableBytes out) override;

private:
    std::array<std::uint8_t, 4096> block_{};
    std::size_t used_ = sizeof(block_);
};

Time monotonic_now();

class Reactor {
public:
    Reactor(Host& host, Door& door, std::vector<std::unique_ptr<Wire>>& wires);
    ~Reactor();
    Reactor(const Reactor&) = delete;
    Reactor& operator=(const Reactor&) = delete;

    // Also wake up for this descriptor; it is only reported, never read.
    bool watch(int fd);

    // One round: host, clients, wires, then sleep until something is due. Returns the watched fd that is readable, or -1.
    int turn();

private:
    void follow(std::size_t wire);

    Host& host_;
    Door& door_;
    std::vector<std::unique_ptr<Wire>>& wires_;
    std::vector<unsigned> generations_;
    std::vector<std::vector<int>> watched_;
    int epoll_;
};

}  // namespace latchkey
