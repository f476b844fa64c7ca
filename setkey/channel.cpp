// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/channel.hpp"

#include <array>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace latchkey::setkey {

FdChannel::~FdChannel()
{
    close(fd_);
}

int FdChannel::send(Bytes record)
{
    constexpr int longest_wait = 100;   // milliseconds until the caller looks at its own deadline
    const auto sent = ::send(fd_, record.data(), record.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
        return 0;
    if (errno == EINTR)
        return EAGAIN;
    if (errno != EAGAIN && errno != ENOBUFS)
        return errno;
    pollfd ready{fd_, POLLIN | POLLOUT, 0};
    poll(&ready, 1, longest_wait);
    return EAGAIN;
}

std::ptrdiff_t FdChannel::receive(MutableBytes room, std::chrono::milliseconds wait)
{
    // Mostly a record is there already: poll() only when none is. MSG_TRUNC gives the true size, so that a record
    // that is too long is not taken for a whole one.
    auto size = recv(fd_, room.data(), room.size(), MSG_DONTWAIT | MSG_TRUNC);
    if (size < 0 && errno == EAGAIN && wait.count() > 0) {
        std::array<pollfd, 2> ready{pollfd{fd_, POLLIN, 0}, pollfd{stop_, POLLIN, 0}};   // poll() skips -1
        if (poll(ready.data(), ready.size(), static_cast<int>(wait.count())) <= 0)
            return -EAGAIN;
        if (ready[0].revents == 0)
            return -ECANCELED;
        size = recv(fd_, room.data(), room.size(), MSG_DONTWAIT | MSG_TRUNC);
    }
    if (size < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    return static_cast<std::size_t>(size) > room.size() ? -EMSGSIZE : size;
}

}  // namespace latchkey::setkey
