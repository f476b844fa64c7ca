// SPDX-License-Identifier: BSD-2-Clause
#include "stack/client/descriptors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <new>

namespace latchkey::client {

namespace {

using ControlRoom = std::array<char, CMSG_SPACE(sizeof(int))>;

// A page that is all zero again in a forked child.
std::atomic<std::uint32_t>* fork_marker()
{
    static constinit std::atomic<std::atomic<std::uint32_t>*> marker{nullptr};
    if (auto* known = marker.load(std::memory_order_acquire))
        return known;
    const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* page = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return nullptr;
    if (::madvise(page, size, MADV_WIPEONFORK) < 0) {
        ::munmap(page, size);
        return nullptr;
    }
    auto* made = new (page) std::atomic<std::uint32_t>(0);
    std::atomic<std::uint32_t>* nobody = nullptr;
    if (marker.compare_exchange_strong(nobody, made, std::memory_order_acq_rel))
        return made;
    ::munmap(page, size);
    return nobody;
}

}  // namespace

std::uint64_t socket_cookie(int fd)
{
    const int error_before = errno;
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0)
        cookie = 0;
    errno = error_before;
    return cookie;
}

int move_high(int fd)
{
    constexpr int wanted = 512;
    rlimit limit{};
    const bool known = ::getrlimit(RLIMIT_NOFILE, &limit) == 0;
    const int lowest = !known || limit.rlim_cur > 2 * wanted ? wanted : static_cast<int>(limit.rlim_cur / 2);
    int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    if (moved < 0)
        moved = ::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    const int result = moved < 0 ? -errno : moved;
    ::close(fd);
    return result;
}

int send_record(int channel, Bytes record, int fd)
{
    iovec piece{const_cast<std::uint8_t*>(record.data()), record.size()};
    alignas(cmsghdr) ControlRoom control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (fd >= 0) {
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof fd);
        std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    for (;;) {
        if (::sendmsg(channel, &message, MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

Received receive_record(int channel, MutableBytes room, bool keep_over_exec, bool interruptible)
{
    iovec piece{room.data(), room.size()};
    alignas(cmsghdr) ControlRoom control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t got = 0;
    do
        got = ::recvmsg(channel, &message, keep_over_exec ? 0 : MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR && !interruptible);
    Received result;
    if (got < 0) {
        result.size = -errno;
        return result;
    }
    result.size = static_cast<int>(got);
    result.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    const cmsghdr* rights = CMSG_FIRSTHDR(&message);
    if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS)
        std::memcpy(&result.fd, CMSG_DATA(rights), sizeof result.fd);
    return result;
}

std::uint32_t process_generation()
{
    static constinit std::atomic<std::uint32_t> last{0};
    auto* marker = fork_marker();
    if (marker == nullptr)
        return static_cast<std::uint32_t>(::getpid());   // a kernel before 4.14
    auto generation = marker->load(std::memory_order_relaxed);
    if (generation != 0)
        return generation;
    // `last` is inherited: every number in an inherited pool is below the next one.
    const auto next = last.fetch_add(1, std::memory_order_relaxed) + 1;
    return marker->compare_exchange_strong(generation, next, std::memory_order_relaxed) ? next : generation;
}

}  // namespace latchkey::client
