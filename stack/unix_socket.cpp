// SPDX-License-Identifier: BSD-2-Clause
#include "stack/unix_socket.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

namespace latchkey {

namespace {

constexpr int backlog = 128;
constexpr std::size_t most_passed = 16;   // descriptors that one record can bring; the kernel closes what does not fit

const sockaddr* generic(const sockaddr_un& name)
{
    return static_cast<const sockaddr*>(static_cast<const void*>(&name));
}

std::size_t queue_size(int fd, unsigned long what)
{
    int n = 0;
    return ioctl(fd, what, &n) == 0 && n > 0 ? static_cast<std::size_t>(n) : 0;
}

bool closed_by_peer(int fd)
{
    pollfd p{fd, POLLRDHUP, 0};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP)) != 0;
}

// "\0latchkey/t:0123456789abcdef"
int name_host_end(int fd, control::SocketKind kind)
{
    std::uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return EAGAIN;
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string prefix(control::socket_name_prefix);
    const int n = std::snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "%s%c:%016llx", prefix.c_str(),
                                static_cast<char>(kind), static_cast<unsigned long long>(random));
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<std::size_t>(n));
    return bind(fd, generic(name), size) == 0 ? 0 : errno;
}

void read_ancillary(msghdr& message, Record& record)
{
    for (auto* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        const auto* data = CMSG_DATA(c);
        const auto size =
            c->cmsg_len - static_cast<std::size_t>(data - static_cast<unsigned char*>(static_cast<void*>(c)));
        if (c->cmsg_type == SCM_CREDENTIALS && size >= sizeof(ucred)) {
            ucred sender{};
            std::memcpy(&sender, data, sizeof sender);
            record.sender = {sender.pid, sender.uid, sender.gid};
        }
        for (std::size_t at = 0; c->cmsg_type == SCM_RIGHTS && at + sizeof(int) <= size; at += sizeof(int)) {
            int fd = -1;
            std::memcpy(&fd, data + at, sizeof fd);
            Fd one(fd);
            if (!record.passed)
                record.passed = std::move(one);
        }
    }
}

}  // namespace

std::uint64_t socket_cookie(int fd)
{
    std::uint64_t cookie = 0;
    socklen_t size = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

int native_option(int fd, int name)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

std::size_t unread_bytes(int fd)
{
    return queue_size(fd, SIOCINQ);
}

std::size_t undelivered_bytes(int fd)
{
    return queue_size(fd, SIOCOUTQ);
}

namespace {

// With the leading NUL of an abstract name, without the one that ends a path.
std::string peer_name(int fd)
{
    sockaddr_un name{};
    socklen_t size = sizeof name;
    constexpr auto head = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path));
    if (getpeername(fd, static_cast<sockaddr*>(static_cast<void*>(&name)), &size) != 0 || name.sun_family != AF_UNIX ||
        size <= head)
        return {};
    const std::string_view text(name.sun_path, std::min<std::size_t>(size - head, sizeof name.sun_path));
    return std::string(text.front() == '\0' ? text : text.substr(0, text.find('\0')));
}

}  // namespace

bool is_host_end_name(int client_end)
{
    const auto name = peer_name(client_end);
    return !name.empty() && name.front() == '\0' &&
           std::string_view(name).substr(1).starts_with(control::socket_name_prefix);
}

std::string peer_path(int fd)
{
    const auto name = peer_name(fd);
    return name.empty() || name.front() == '\0' ? std::string() : name;
}

std::expected<SocketPair, int> make_pair(int type, control::SocketKind kind, int send_buffer)
{
    std::array<int, 2> ends{};
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return std::unexpected(errno);
    SocketPair pair{Fd(ends[0]), Fd(ends[1])};
    if (const int error = name_host_end(pair.host.get(), kind); error != 0)
        return std::unexpected(error);
    if (type == SOCK_STREAM && send(pair.client.get(), "", 1, MSG_DONTWAIT) != 1)
        return std::unexpected(errno);
    if (send_buffer > 0)
        setsockopt(pair.host.get(), SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
    return pair;
}

std::expected<Record, int> receive_record(int fd, MutableBytes room)
{
    iovec piece{room.data(), room.size()};
    alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(most_passed * sizeof(int))>
        ancillary;
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.data();
    message.msg_controllen = ancillary.size();
    ssize_t n = 0;
    do
        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return std::unexpected(errno);
    Record record;
    read_ancillary(message, record);
    if (n == 0 && message.msg_controllen == 0 && closed_by_peer(fd))
        return std::unexpected(EPIPE);
    record.bytes = room.first(static_cast<std::size_t>(n));
    record.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    return record;
}

std::expected<std::size_t, int> send_pieces(int fd, std::span<const Bytes> pieces, int passed)
{
    std::array<iovec, 4> list{};
    std::size_t used = 0;
    for (const auto piece : pieces)
        if (!piece.empty())
            list[used++] = {const_cast<std::uint8_t*>(piece.data()), piece.size()};
    alignas(cmsghdr) std::array<std::uint8_t, CMSG_SPACE(sizeof(int))> ancillary{};
    msghdr message{};
    message.msg_iov = list.data();
    message.msg_iovlen = used;
    if (passed >= 0) {
        message.msg_control = ancillary.data();
        message.msg_controllen = ancillary.size();
        auto* c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        std::memcpy(CMSG_DATA(c), &passed, sizeof passed);
    }
    ssize_t n = 0;
    do
        n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return std::unexpected(errno);
    return static_cast<std::size_t>(n);
}

namespace {

struct PathName {
    sockaddr_un name{};
    socklen_t size = 0;
};

// Without a value: too long, empty, or with a NUL inside.
std::expected<PathName, int> name_of(const std::string& path)
{
    PathName p;
    if (path.empty() || path.size() >= sizeof p.name.sun_path || path.find('\0') != std::string::npos)
        return std::unexpected(ENAMETOOLONG);
    p.name.sun_family = AF_UNIX;
    std::ranges::copy(path, p.name.sun_path);
    p.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    return p;
}

// A socket that nobody listens on refuses; anything else at the path is left alone.
std::string remove_stale(const std::string& path)
{
    struct stat found{};
    if (lstat(path.c_str(), &found) != 0)
        return errno == ENOENT ? "" : std::string(std::strerror(errno));
    if (!S_ISSOCK(found.st_mode))
        return "there is a file of another kind at this path";
    const auto probe = connect_to_path(path);
    if (probe || probe.error() == EAGAIN)
        return "another host is listening on this path";
    if (probe.error() == EPROTOTYPE)
        return "another program is listening on this path";
    if (probe.error() != ECONNREFUSED)
        return std::strerror(probe.error());
    return unlink(path.c_str()) == 0 || errno == ENOENT ? "" : std::string(std::strerror(errno));
}

}  // namespace

std::expected<Fd, int> connect_to_path(const std::string& path)
{
    const auto to = name_of(path);
    if (!to)
        return std::unexpected(to.error());
    Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd || connect(fd.get(), generic(to->name), to->size) != 0)
        return std::unexpected(errno);
    return fd;
}

std::expected<Fd, std::string> listen_on(const std::string& path, mode_t mode)
{
    const auto at = name_of(path);
    if (!at)
        return std::unexpected("a socket path has 1 to " + std::to_string(sizeof at->name.sun_path - 1) +
                               " characters");
    if (auto wrong = remove_stale(path); !wrong.empty())
        return std::unexpected(std::move(wrong));
    Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    // Nobody gets in between bind() and chmod(): a socket that does not listen refuses.
    if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
        bind(fd.get(), generic(at->name), at->size) != 0)
        return std::unexpected(std::strerror(errno));
    if (chmod(path.c_str(), mode) != 0 || listen(fd.get(), backlog) != 0) {
        const int error = errno;
        unlink(path.c_str());
        return std::unexpected(std::strerror(error));
    }
    return fd;
}

}  // namespace latchkey
