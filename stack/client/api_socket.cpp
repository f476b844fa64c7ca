// SPDX-License-Identifier: BSD-2-Clause
// The C functions of <latchkey/socket.h>.
#include <latchkey/socket.h>

#include "stack/client/api.hpp"
#include "stack/client/calls.hpp"
#include "stack/client/descriptors.hpp"
#include "stack/client/scratch.hpp"

#include <net/pfkeyv2.h>

#include <algorithm>
#include <unistd.h>

using namespace latchkey;
using namespace latchkey::client;
using control::Op;
using control::SocketKind;

namespace {

constexpr std::size_t largest_address = sizeof(sockaddr_storage);
constexpr std::size_t longest_reason = 1024;
constexpr std::size_t reply_header = 64;   // at least a Reply's, without address and payload

Bytes bytes(const void* data, std::size_t size)
{
    return {static_cast<const std::uint8_t*>(data), data == nullptr ? 0 : size};
}

// As accept(2) and the others do it: cut to the room, with the whole size told.
void copy_address(Bytes from, void* to, socklen_t& size)
{
    if (to != nullptr)
        std::memcpy(to, from.data(), std::min<std::size_t>(from.size(), size));
    size = static_cast<socklen_t>(from.size());
}

void copy_endpoint(const Endpoint& endpoint, void* to, socklen_t& size)
{
    std::array<std::uint8_t, control::max_socket_address> raw;
    copy_address(Bytes(raw).first(control::put_socket_address(raw, endpoint)), to, size);
}

int name_call(latchkey_host* host, Op op, int fd, sockaddr* address, socklen_t* size)
{
    if (address == nullptr || size == nullptr)
        return or_errno(-EFAULT);
    Call what;
    what.fd = fd;
    what.request = {.op = op};
    std::array<std::uint8_t, reply_header + largest_address> room;
    const auto answer = host->call(what, room);
    if (answer.result < 0)
        return or_errno(answer.result);
    copy_address(answer.address, address, *size);
    return 0;
}

int address_call(latchkey_host* host, Op op, int fd, const sockaddr* address, socklen_t size)
{
    if (size > largest_address || (address == nullptr && size != 0))
        return or_errno(address == nullptr ? -EFAULT : -EINVAL);
    if (op == Op::connect)
        return or_errno(connect_socket(*host, fd, bytes(address, size)));
    return or_errno(simple_call(*host, fd, {.op = op, .address = bytes(address, size)}));
}

// Options that the descriptor has for itself (see <latchkey/socket.h>).
bool is_native(int fd, int level, int name)
{
    if (level != SOL_SOCKET)
        return false;
    switch (name) {
    case SO_RCVTIMEO:
    case SO_SNDTIMEO: return true;
    case SO_RCVBUF:
    case SO_SNDBUF:
    case SO_RCVBUFFORCE:
    case SO_SNDBUFFORCE: return kind_of(fd) == SocketKind::key;
    default: return false;
    }
}

ssize_t send_key(latchkey_host* host, int fd, Pieces pieces, int flags)
{
    if ((flags & MSG_OOB) != 0)
        return -EOPNOTSUPP;
    return send_decided(*host, fd, {}, pieces, nullptr);
}

}  // namespace

int latchkey_socket(latchkey_host* host, int domain, int type, int protocol)
{
    return or_errno(open_socket(*host, domain, type, protocol));
}

int latchkey_pfkey_open(latchkey_host* host)
{
    return latchkey_socket(host, PF_KEY, SOCK_RAW | SOCK_CLOEXEC, PF_KEY_V2);
}

int latchkey_pfkey_reason(latchkey_host* host, int fd, char* text, std::size_t room)
{
    std::array<std::uint8_t, reply_header + longest_reason> storage;
    Call what;
    what.fd = fd;
    what.request = {.op = Op::reason};
    const auto answer = host->call(what, storage);
    if (answer.fd >= 0)
        ::close(answer.fd);
    if (answer.result < 0)
        return or_errno(answer.result);
    if (room != 0) {
        const auto kept = std::min(answer.payload.size(), room - 1);
        std::copy_n(answer.payload.begin(), kept, text);
        text[kept] = '\0';
    }
    return static_cast<int>(answer.payload.size());
}

int latchkey_bind(latchkey_host* host, int fd, const sockaddr* address, socklen_t size)
{
    return address_call(host, Op::bind, fd, address, size);
}

int latchkey_connect(latchkey_host* host, int fd, const sockaddr* address, socklen_t size)
{
    return address_call(host, Op::connect, fd, address, size);
}

int latchkey_listen(latchkey_host* host, int fd, int backlog)
{
    return or_errno(simple_call(*host, fd, {.op = Op::listen, .arg = {backlog, 0, 0}}));
}

int latchkey_accept(latchkey_host* host, int fd, sockaddr* address, socklen_t* size)
{
    return latchkey_accept4(host, fd, address, size, 0);
}

int latchkey_accept4(latchkey_host* host, int fd, sockaddr* address, socklen_t* size, int flags)
{
    Endpoint peer;
    const int accepted = or_errno(accept_socket(*host, fd, flags, peer));
    if (accepted >= 0 && address != nullptr && size != nullptr)
        copy_endpoint(peer, address, *size);
    return accepted;
}

int latchkey_getsockname(latchkey_host* host, int fd, sockaddr* address, socklen_t* size)
{
    return name_call(host, Op::getsockname, fd, address, size);
}

int latchkey_getpeername(latchkey_host* host, int fd, sockaddr* address, socklen_t* size)
{
    return name_call(host, Op::getpeername, fd, address, size);
}

int latchkey_setsockopt(latchkey_host* host, int fd, int level, int name, const void* value, socklen_t size)
{
    if (is_native(fd, level, name))
        return ::setsockopt(fd, level, name, value, size);
    return or_errno(
        simple_call(*host, fd, {.op = Op::setsockopt, .arg = {level, name, 0}, .payload = bytes(value, size)}));
}

int latchkey_getsockopt(latchkey_host* host, int fd, int level, int name, void* value, socklen_t* size)
{
    if (value == nullptr || size == nullptr)
        return or_errno(-EFAULT);
    if (is_native(fd, level, name))
        return ::getsockopt(fd, level, name, value, size);
    const auto wanted = std::min<std::size_t>(*size, control::max_record - reply_header);
    Scratch<1024> storage;
    const auto room = storage.take(reply_header + wanted);
    if (room.empty())
        return or_errno(-ENOBUFS);
    Call what;
    what.fd = fd;
    what.request = {.op = Op::getsockopt, .arg = {level, name, static_cast<std::int32_t>(wanted)}};
    const auto answer = host->call(what, room);
    if (answer.result < 0)
        return or_errno(answer.result);
    const auto got = std::min(answer.payload.size(), wanted);
    std::copy_n(answer.payload.begin(), got, static_cast<std::uint8_t*>(value));
    *size = static_cast<socklen_t>(got);
    return 0;
}

int latchkey_shutdown(latchkey_host* host, int fd, int how)
{
    return or_errno(shutdown_socket(*host, fd, how));
}

ssize_t latchkey_send(latchkey_host* host, int fd, const void* data, std::size_t size, int flags)
{
    return latchkey_sendto(host, fd, data, size, flags, nullptr, 0);
}

ssize_t latchkey_sendto(latchkey_host* host, int fd, const void* data, std::size_t size, int flags,
                        const sockaddr* address, socklen_t address_size)
{
    iovec piece{const_cast<void*>(data), size};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_name = const_cast<sockaddr*>(address);
    message.msg_namelen = address == nullptr ? 0 : address_size;
    return latchkey_sendmsg(host, fd, &message, flags);
}

ssize_t latchkey_sendmsg(latchkey_host* host, int fd, const msghdr* message, int flags)
{
    const Pieces pieces(message->msg_iov, message->msg_iovlen);
    const auto address = bytes(message->msg_name, message->msg_namelen);
    const auto kind = kind_of(fd);
    if (message->msg_controllen != 0 || address.size() > largest_address)
        return or_errno<ssize_t>(-EINVAL);
    if (kind == SocketKind::key)
        return or_errno(send_key(host, fd, pieces, flags));
    if (kind == SocketKind::udp || kind == SocketKind::icmp)
        return (flags & MSG_OOB) != 0 ? or_errno<ssize_t>(-EOPNOTSUPP)
                                      : or_errno(send_datagram(*host, fd, address, pieces, flags));
    // TCP, whose address argument is ignored as by the kernel, and descriptors that are none of ours.
    msghdr plain = *message;
    if (kind) {
        plain.msg_name = nullptr;
        plain.msg_namelen = 0;
    }
    return ::sendmsg(fd, &plain, flags | MSG_NOSIGNAL);
}

ssize_t latchkey_recv(latchkey_host* host, int fd, void* data, std::size_t size, int flags)
{
    return latchkey_recvfrom(host, fd, data, size, flags, nullptr, nullptr);
}

ssize_t latchkey_recvfrom(latchkey_host* host, int fd, void* data, std::size_t size, int flags, sockaddr* address,
                          socklen_t* address_size)
{
    iovec piece{data, size};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_name = address;
    message.msg_namelen = address == nullptr || address_size == nullptr ? 0 : *address_size;
    const auto got = latchkey_recvmsg(host, fd, &message, flags);
    if (got >= 0 && address != nullptr && address_size != nullptr)
        *address_size = message.msg_namelen;
    return got;
}

ssize_t latchkey_recvmsg(latchkey_host*, int fd, msghdr* message, int flags)
{
    const auto kind = kind_of(fd);
    if (kind != SocketKind::udp && kind != SocketKind::icmp) {
        const auto got = ::recvmsg(fd, message, flags);
        if (got >= 0 && kind)
            message->msg_namelen = 0;   // the name would be that of the AF_UNIX end
        return got;
    }
    Datagram datagram;
    const auto got = receive_datagram(fd, Pieces(message->msg_iov, message->msg_iovlen), flags, datagram);
    if (got < 0)
        return or_errno(got);
    if (message->msg_name != nullptr)
        copy_endpoint(datagram.header.remote, message->msg_name, message->msg_namelen);
    else
        message->msg_namelen = 0;
    message->msg_controllen = 0;
    message->msg_flags = datagram.truncated ? MSG_TRUNC : 0;
    return got;
}
