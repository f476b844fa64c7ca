// SPDX-License-Identifier: BSD-2-Clause
#include "stack/client/channel.hpp"

#include "stack/client/descriptors.hpp"
#include "stack/client/scratch.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace latchkey::client {

namespace {

constexpr int attempts = 3;   // a host that was started anew is found by the second

// A request must be answered or its channel given up: a thread that is cancelled halfway would leave both open.
class NoCancellation {
public:
    NoCancellation() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
    ~NoCancellation() { pthread_setcancelstate(before_, nullptr); }
    NoCancellation(const NoCancellation&) = delete;
    NoCancellation& operator=(const NoCancellation&) = delete;

private:
    int before_ = 0;
};

// Channel::state and Host::trunk_ as values.
constexpr std::uint64_t busy_bit = 1;

constexpr std::uint64_t pack(std::uint32_t generation, int fd, bool busy)
{
    return (std::uint64_t{generation} << 32) | (static_cast<std::uint64_t>(fd + 1) << 1) | (busy ? busy_bit : 0);
}

constexpr std::uint32_t generation_in(std::uint64_t state)
{
    return static_cast<std::uint32_t>(state >> 32);
}

constexpr int fd_in(std::uint64_t state)
{
    return static_cast<int>((state & 0xffffffffu) >> 1) - 1;
}

constexpr std::uint32_t fold(std::uint64_t cookie)
{
    return static_cast<std::uint32_t>(cookie ^ (cookie >> 32));
}

constexpr std::uint64_t pack_trunk(int fd, std::uint64_t cookie)
{
    return (static_cast<std::uint64_t>(fd + 1) << 32) | fold(cookie);
}

constexpr int trunk_fd(std::uint64_t trunk)
{
    return static_cast<int>(trunk >> 32) - 1;
}

bool trunk_intact(std::uint64_t trunk)
{
    return trunk != 0 && fold(socket_cookie(trunk_fd(trunk))) == static_cast<std::uint32_t>(trunk);
}

// A connection to the host's path, out of the program's way; or -errno.
int connect_to(const HostPath& path)
{
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), name.sun_path);
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int result = 0;
    do
        result = ::connect(fd, as_sockaddr(name), sizeof name) < 0 ? -errno : 0;
    while (result == -EINTR);
    if (result < 0) {
        ::close(fd);
        return result;
    }
    return move_high(fd);
}

bool host_is_gone(int error)
{
    return error == -EPIPE || error == -ECONNRESET || error == -ENOTCONN || error == -ECONNREFUSED;
}

}  // namespace

struct Host::Lease {
    Channel* slot = nullptr;     // null: a channel outside the pool
    int fd = -1;                 // or -errno
    std::uint64_t cookie = 0;
};

Answer Host::call(const Call& what, MutableBytes room)
{
    const NoCancellation guard;
    Answer answer;
    const bool bad_socket = what.fd < 0 && what.fd != Call::no_socket;
    if (bad_socket || what.request.size() > control::max_record) {
        answer.result = bad_socket ? -EBADF : -EMSGSIZE;
        return answer;
    }
    for (int attempt = 0; attempt < attempts; ++attempt) {
        const auto lease = take_channel();
        if (lease.fd < 0) {
            answer.result = lease.fd;
            return answer;
        }
        const int trouble = exchange(lease.fd, what, room, answer);
        give_back(lease, trouble == 0);
        if (trouble == 0)
            return answer;
        answer.result = host_is_gone(trouble) ? -ENETDOWN : trouble;
        if (answer.reached || !host_is_gone(trouble))
            return answer;
    }
    return answer;
}

// 0: the reply is in the answer. Otherwise the channel is spoilt, with the reason.
int Host::exchange(int channel, const Call& what, MutableBytes room, Answer& answer)
{
    auto request = what.request;
    request.id = next_id_.fetch_add(1, std::memory_order_relaxed);
    Scratch<2048> record;
    const auto raw = record.take(request.size());
    if (raw.empty())
        return -ENOMEM;
    wire::Writer out(raw, wire::Order::host);
    request.emit(out);
    if (const int error = send_record(channel, out.written(), what.fd); error < 0)
        return error;
    answer.reached = true;

    const auto got = receive_record(channel, room, what.keep_over_exec, what.interruptible);
    if (got.size <= 0)
        return got.size == 0 ? -ENETDOWN : got.size;
    const auto whole = std::min(static_cast<std::size_t>(got.size), room.size());
    const auto reply = control::Reply::parse(room.first(whole));
    if (got.truncated || !reply || reply->id != request.id) {
        if (got.fd >= 0)
            ::close(got.fd);
        return got.truncated ? -EMSGSIZE : -EPROTO;
    }
    answer.result = reply->result;
    answer.fd = got.fd;
    answer.address = reply->address;
    answer.payload = reply->payload;
    return 0;
}

// Takes an idle channel of this process; else makes one in a free place of the pool; else one of its own.
Host::Lease Host::take_channel()
{
    forget_other_generations();
    const auto generation = process_generation();
    for (auto& slot : channels_) {
        auto state = slot.state.load(std::memory_order_relaxed);
        if (state == 0 || generation_in(state) != generation || (state & busy_bit) != 0)
            continue;
        if (!slot.state.compare_exchange_strong(state, state | busy_bit, std::memory_order_acquire))
            continue;
        const int fd = fd_in(state);
        const auto cookie = slot.cookie.load(std::memory_order_relaxed);
        if (socket_cookie(fd) == cookie)
            return {&slot, fd, cookie};
        slot.state.store(0, std::memory_order_release);   // the program closed it: the number is not ours any more
    }
    const int fd = make_channel();
    if (fd < 0)
        return {nullptr, fd, 0};
    const auto cookie = socket_cookie(fd);
    for (auto& slot : channels_) {
        std::uint64_t nothing = 0;
        if (slot.state.compare_exchange_strong(nothing, pack(generation, fd, true), std::memory_order_acquire)) {
            slot.cookie.store(cookie, std::memory_order_relaxed);
            return {&slot, fd, cookie};
        }
    }
    return {nullptr, fd, cookie};
}

void Host::give_back(const Lease& lease, bool healthy)
{
    if ((lease.slot == nullptr || !healthy) && socket_cookie(lease.fd) == lease.cookie)
        ::close(lease.fd);
    if (lease.slot != nullptr)
        lease.slot->state.store(healthy ? pack(process_generation(), lease.fd, false) : 0, std::memory_order_release);
}

// After a fork the pool is the parent's: its descriptors are shared with the parent and must not be used here.
void Host::forget_other_generations()
{
    const auto generation = process_generation();
    auto before = generation_.load(std::memory_order_relaxed);
    if (before == generation || !generation_.compare_exchange_strong(before, generation))
        return;
    for (auto& slot : channels_) {
        auto state = slot.state.load(std::memory_order_acquire);
        if (state == 0 || generation_in(state) == generation)
            continue;
        const auto cookie = slot.cookie.load(std::memory_order_relaxed);
        if (slot.state.compare_exchange_strong(state, 0) && socket_cookie(fd_in(state)) == cookie)
            ::close(fd_in(state));
    }
}

// A socketpair of which the host gets one end over the trunk. The other end, or -errno.
int Host::make_channel()
{
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) < 0)
        return -errno;
    // Already now: the first request may be queued before the host has seen its end, and needs credentials too.
    const int on = 1;
    ::setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    const int error = send_on_trunk(ends[1]);
    ::close(ends[1]);
    if (error < 0) {
        ::close(ends[0]);
        return error;
    }
    return move_high(ends[0]);
}

int Host::send_on_trunk(int host_end)
{
    std::array<std::uint8_t, 64> raw{};
    wire::Writer out(raw, wire::Order::host);
    control::Request{.op = control::Op::new_channel}.emit(out);
    int error = -ENETDOWN;
    for (int attempt = 0; attempt < attempts; ++attempt) {
        if (const int unreachable = connect_trunk(); unreachable < 0)
            return unreachable;
        auto trunk = trunk_.load(std::memory_order_acquire);
        error = send_record(trunk_fd(trunk), out.written(), host_end);
        if (!host_is_gone(error) && error != -EBADF && error != -ENOTSOCK)
            return error;
        // The dead trunk keeps its number until a living one takes it (connect_trunk), so that no thread that has
        // just read the number meets a stranger's descriptor there.
        trunk_.compare_exchange_strong(trunk, trunk ^ 0xffffffffu);
    }
    return error;
}

int Host::connect_trunk()
{
    auto before = trunk_.load(std::memory_order_acquire);
    if (trunk_intact(before))
        return 0;
    int fd = connect_to(path_);
    if (fd < 0)
        return fd;
    const auto cookie = socket_cookie(fd);
    if (before != 0 && trunk_intact(before ^ 0xffffffffu) && ::dup3(fd, trunk_fd(before), O_CLOEXEC) >= 0) {
        ::close(fd);
        fd = trunk_fd(before);
    }
    if (!trunk_.compare_exchange_strong(before, pack_trunk(fd, cookie)) && trunk_fd(before) != fd)
        ::close(fd);   // another thread was faster; its trunk serves as well
    return 0;
}

int Host::set_path(const char* path)
{
    return resolve_host_path(path, path_);
}

int Host::hello(MutableBytes room)
{
    Call what;
    what.request.op = control::Op::hello;
    what.request.arg[0] = control::protocol_version;
    std::array<std::uint8_t, 512> raw{};
    const auto answer = call(what, raw);
    if (answer.fd >= 0)
        ::close(answer.fd);
    if (answer.result < 0)
        return answer.result;
    const auto size = std::min(room.size(), answer.payload.size());
    std::copy_n(answer.payload.begin(), size, room.begin());
    return static_cast<int>(size);
}

void Host::close()
{
    forget_other_generations();
    for (auto& slot : channels_) {
        const auto state = slot.state.exchange(0);
        if (state != 0 && socket_cookie(fd_in(state)) == slot.cookie.load(std::memory_order_relaxed))
            ::close(fd_in(state));
    }
    if (const auto trunk = trunk_.exchange(0); trunk_intact(trunk))
        ::close(trunk_fd(trunk));
}

int resolve_host_path(const char* given, HostPath& path)
{
    if (given == nullptr)
        given = ::secure_getenv("LATCHKEY");
    std::array<char, 4096> directory{};
    int size = 0;
    if (given != nullptr && given[0] == '/') {
        size = std::snprintf(path.data(), path.size(), "%s", given);
    } else if (given != nullptr && given[0] != '\0') {
        if (::getcwd(directory.data(), directory.size()) == nullptr)
            return -errno;
        size = std::snprintf(path.data(), path.size(), "%s/%s", directory.data(), given);
    } else if (::geteuid() == 0) {
        size = std::snprintf(path.data(), path.size(), "/run/latchkey/latchkey.sock");
    } else if (const char* runtime = ::secure_getenv("XDG_RUNTIME_DIR"); runtime != nullptr && runtime[0] == '/') {
        size = std::snprintf(path.data(), path.size(), "%s/latchkey.sock", runtime);
    } else {
        return -ENOENT;
    }
    return size > 0 && static_cast<std::size_t>(size) < path.size() ? 0 : -ENAMETOOLONG;
}

std::optional<control::SocketKind> kind_of(int fd)
{
    using control::SocketKind;
    constexpr auto prefix = control::socket_name_prefix;
    const int error_before = errno;
    sockaddr_un name{};
    socklen_t size = sizeof name;
    const bool named = ::getpeername(fd, as_sockaddr(name), &size) == 0 && name.sun_family == AF_UNIX;
    errno = error_before;
    const std::size_t shortest = offsetof(sockaddr_un, sun_path) + 1 + prefix.size() + 2;
    const char* text = name.sun_path + 1;
    if (!named || size < shortest || name.sun_path[0] != '\0' || !std::equal(prefix.begin(), prefix.end(), text)
        || text[prefix.size() + 1] != ':')
        return std::nullopt;
    switch (const auto kind = static_cast<SocketKind>(text[prefix.size()])) {
    case SocketKind::key:
    case SocketKind::tcp:
    case SocketKind::udp:
    case SocketKind::icmp:
    case SocketKind::event: return kind;
    }
    return std::nullopt;
}

}  // namespace latchkey::client
