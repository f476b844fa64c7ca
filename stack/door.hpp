// SPDX-License-Identifier: BSD-2-Clause
// The host's door: a listening AF_UNIX path, the control channels of clients, and the data descriptors of their sockets
// (protocol.hpp has the rules). latchkeyd's loop waits for fd() and calls run(); nothing here ever blocks.
#pragma once

#include "stack/door_link.hpp"
#include "stack/host_control.hpp"

#include <memory>
#include <string>

namespace latchkey {

struct DoorOptions {
    mode_t mode = 0600;              // of the path
    std::size_t channels = 4096;     // of all clients; more are closed at once
    int send_buffer = 0;             // SO_SNDBUF of the host's data descriptors, 0: the system's
};

class Door {
public:
    // sockets.on_event belongs to the door from here on. The error says in words why the path cannot be listened on.
    static std::expected<std::unique_ptr<Door>, std::string> open(const std::string& path, Sockets& sockets,
                                                                  HostControl& control, DoorOptions options = {});
    ~Door();                         // closes every socket of its clients and removes the path
    Door(const Door&) = delete;
    Door& operator=(const Door&) = delete;

    int fd() const;                  // readable: run() has something to do
    bool run(Time now, unsigned budget);   // budget: turns of channels and sockets; true: more is waiting
    Time next_deadline() const;      // max(): none; in the past: sockets have something for their clients now
    void publish(std::string_view event);  // an address, route or link has changed: to every descriptor of change events
    const DoorCounters& counters() const;

private:
    struct Impl;
    explicit Door(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
