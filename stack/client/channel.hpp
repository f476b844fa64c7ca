// SPDX-License-Identifier: BSD-2-Clause
// A client's way to one host: requests and replies from any thread, after fork, exec, chroot and setuid, in signal
// handlers, and after the program closed descriptors that it did not know. Used by the C API, the preload library and
// the `latchkey` tool. Nothing here locks, allocates or throws, and a Host may be constant-initialised.
//
// A Host owns a *trunk* (the one connection made through the path; children inherit it) and a pool of *channels* made
// over the trunk. A request takes a channel out of the pool for itself, so replies cannot mix, whoever interrupts whom.
// A forked child finds the channels of its parent marked with another generation and makes its own.
#pragma once

#include "stack/client/protocol.hpp"

#include <sys/un.h>

#include <array>
#include <atomic>
#include <climits>

namespace latchkey::client {

// The longest path of a host's socket, with its NUL.
inline constexpr std::size_t host_path_size = sizeof(sockaddr_un{}.sun_path);
using HostPath = std::array<char, host_path_size>;

// The path that a null `given` stands for, made absolute: $LATCHKEY, else the place of this user's host.
// 0, or -ENOENT (no place is known), -ENAMETOOLONG.
int resolve_host_path(const char* given, HostPath& path);

struct Call {
    static constexpr int no_socket = INT_MIN;

    control::Request request;        // its id is set by the Host
    int fd = no_socket;              // the socket that the request is about; -EBADF if negative
    bool keep_over_exec = true;      // of a descriptor that comes with the answer
    bool interruptible = false;      // a signal ends the wait with -EINTR; the host goes on
};

struct Answer {
    int result = -ENETDOWN;          // >= 0, or -errno
    bool reached = false;            // the host has the request; otherwise `result` is this side's error
    int fd = -1;                     // owned by the caller
    Bytes address, payload;          // views into the room that was given to call()
};

class Host {
public:
    constexpr Host() = default;
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;

    // Once, before any other use. 0 or -errno.
    int set_path(const char* path);
    const char* path() const { return path_.data(); }

    // Connects if need be. To be called before the path becomes unreachable (chroot, setuid). 0 or -errno.
    int connect_trunk();

    // Asks the host for its name and compares versions; the name goes to `room`. Size or -errno.
    int hello(MutableBytes room);

    // Sends the request, waits for the reply. `room` holds the reply record; one that does not fit is -EMSGSIZE.
    Answer call(const Call& what, MutableBytes room);

    // Closes everything this process has open to the host. No call may be under way.
    void close();

private:
    struct Channel {
        std::atomic<std::uint64_t> state{0};    // generation, descriptor + 1, busy; 0: free
        std::atomic<std::uint64_t> cookie{0};   // of the descriptor; written by who made it busy
    };
    struct Lease;

    void forget_other_generations();
    int make_channel();
    int send_on_trunk(int host_end);
    int exchange(int channel, const Call& what, MutableBytes room, Answer& answer);
    Lease take_channel();
    void give_back(const Lease& lease, bool healthy);

    HostPath path_{};
    std::atomic<std::uint64_t> trunk_{0};       // descriptor + 1 and 32 bits of its cookie; 0: none
    std::atomic<std::uint32_t> generation_{0};  // the process that the channels belong to
    std::atomic<std::uint32_t> next_id_{1};
    std::array<Channel, 64> channels_{};
};

// What a descriptor is, by the name of its other end; nothing for a descriptor that is not a Latchkey socket.
// Async-signal-safe; errno is left alone.
std::optional<control::SocketKind> kind_of(int fd);

}  // namespace latchkey::client
