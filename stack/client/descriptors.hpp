// SPDX-License-Identifier: BSD-2-Clause
// The few system calls that channels and sockets of the client are made of, with signals and errno dealt with: results
// are values or -errno. Async-signal-safe.
#pragma once

#include "pfkey/wire.hpp"

#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>

namespace latchkey::client {

template <class Name> sockaddr* as_sockaddr(Name& name)
{
    return static_cast<sockaddr*>(static_cast<void*>(&name));
}

// Sets errno as a system call would: the edge between the values inside and C outside.
template <class Number> Number or_errno(Number result)
{
    if (result >= 0)
        return result;
    errno = static_cast<int>(-result);
    return -1;
}

// What tells a descriptor of ours from another at the same number; 0 if it is no socket. errno is left alone.
std::uint64_t socket_cookie(int fd);

// Moves a descriptor (close-on-exec) away from the low numbers, which belong to the program. The new number, or -errno
// with the old one closed.
int move_high(int fd);

// One record, with a descriptor if `fd` >= 0. 0 or -errno, never SIGPIPE.
int send_record(int channel, Bytes record, int fd);

struct Received {
    int size = 0;              // 0: end of file; or -errno
    int fd = -1;               // owned by the caller
    bool truncated = false;
};
Received receive_record(int channel, MutableBytes room, bool keep_over_exec, bool interruptible);

// A number that differs between a process and its forked children; the same over a vfork, whose child borrows our
// memory.
std::uint32_t process_generation();

}  // namespace latchkey::client
