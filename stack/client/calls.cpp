// SPDX-License-Identifier: BSD-2-Clause
#include "stack/client/calls.hpp"

#include "stack/client/descriptors.hpp"
#include "stack/client/scratch.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace latchkey::client {

namespace {

using control::Op;

constexpr std::size_t reply_room = 512;              // replies without a payload of note
constexpr std::size_t decided_from = 60'000;         // datagrams that may be too big for protection and 65,535
constexpr std::size_t most_pieces = 1024;            // UIO_MAXIOV
constexpr int most_restarts = 8;                     // of a text in parts
constexpr int type_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;

int set_nonblocking(int fd)
{
    const int flags = ::fcntl(fd, F_GETFL);
    return flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

// The pieces in one: without a copy if there is one only. Empty and false: no memory.
bool join(Pieces pieces, Scratch<2048>& room, Bytes& joined)
{
    if (pieces.size() == 1) {
        joined = Bytes(static_cast<const std::uint8_t*>(pieces[0].iov_base), pieces[0].iov_len);
        return true;
    }
    const auto size = total_size(pieces);
    const auto to = room.take(size);
    if (to.size() != size)
        return false;
    wire::Writer out(to);
    for (const auto& piece : pieces)
        out.put(Bytes(static_cast<const std::uint8_t*>(piece.iov_base), piece.iov_len));
    joined = to;
    return true;
}

// A data header in front of somebody's pieces.
class Framed {
public:
    Framed(MutableBytes header, Pieces pieces) : count_(pieces.size() + 1)
    {
        if (count_ > few_.size())
            many_.reset(new (std::nothrow) iovec[count_]);
        if (iovec* to = data(); to != nullptr) {
            to[0] = {header.data(), header.size()};
            std::copy(pieces.begin(), pieces.end(), to + 1);
        }
    }
    iovec* data() { return count_ > few_.size() ? many_.get() : few_.data(); }
    std::size_t count() const { return count_; }

private:
    std::array<iovec, 9> few_;
    std::unique_ptr<iovec[]> many_;
    std::size_t count_;
};

int data_error(int error)
{
    return error == EPIPE || error == ECONNRESET ? -ENETDOWN : -error;
}

bool is_listening(Host& host, int fd)
{
    Call what;
    what.fd = fd;
    what.request = {.op = Op::getsockopt, .arg = {SOL_SOCKET, SO_ACCEPTCONN, static_cast<std::int32_t>(sizeof(int))}};
    std::array<std::uint8_t, reply_room> room;
    const auto answer = host.call(what, room);
    return answer.result >= 0 && answer.payload.size() == sizeof(int)
        && wire::load<std::uint32_t>(answer.payload.first<4>(), wire::Order::host) != 0;
}

// Whether accept() may take the next bytes of this stream: a listening socket's come with a descriptor. Bytes of a
// connection must stay where they are.
int check_acceptable(Host& host, int fd)
{
    std::uint8_t byte = 0;
    iovec piece{&byte, 1};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const auto got = ::recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0)
        return (message.msg_flags & MSG_CTRUNC) != 0 ? 0 : -EINVAL;
    if (got == 0)
        return is_listening(host, fd) ? -ENETDOWN : -EINVAL;
    if (errno == EAGAIN || errno == EINTR)
        return is_listening(host, fd) ? 0 : -EINVAL;
    return -errno;
}

}  // namespace

int open_socket(Host& host, int domain, int type, int protocol)
{
    constexpr int base_types = 0xf;
    if ((type & ~(base_types | type_flags)) != 0)
        return -EINVAL;
    Call what;
    what.request = {.op = Op::socket, .arg = {domain, type & base_types, protocol}};
    what.keep_over_exec = (type & SOCK_CLOEXEC) == 0;
    std::array<std::uint8_t, reply_room> room;
    const auto answer = host.call(what, room);
    if (answer.result >= 0 && answer.fd < 0)
        return -EMFILE;   // the kernel had no number for it
    const int error = answer.result < 0 ? answer.result : (type & SOCK_NONBLOCK) != 0 ? set_nonblocking(answer.fd) : 0;
    if (error < 0 && answer.fd >= 0)
        ::close(answer.fd);
    return error < 0 ? error : answer.fd;
}

int simple_call(Host& host, int fd, const control::Request& request)
{
    Call what;
    what.request = request;
    what.fd = fd;
    std::array<std::uint8_t, reply_room> room;
    const auto answer = host.call(what, room);
    if (answer.fd >= 0)
        ::close(answer.fd);
    return answer.result;
}

int connect_socket(Host& host, int fd, Bytes address)
{
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    Call what;
    what.request = {.op = Op::connect, .arg = {(flags & O_NONBLOCK) != 0 ? 1 : 0, 0, 0}, .address = address};
    what.fd = fd;
    what.interruptible = true;   // the connection goes on being made, as after an interrupted connect(2)
    std::array<std::uint8_t, reply_room> room;
    return host.call(what, room).result;
}

int accept_socket(Host& host, int fd, int flags, Endpoint& peer)
{
    if ((flags & ~type_flags) != 0)
        return -EINVAL;
    if (const int error = check_acceptable(host, fd); error < 0)
        return error;
    std::array<std::uint8_t, control::data_header_size> raw;
    const auto got = receive_record(fd, raw, (flags & SOCK_CLOEXEC) == 0, true);
    if (got.size < 0)
        return got.size;
    wire::Reader in(Bytes(raw).first(static_cast<std::size_t>(got.size)));
    const auto header = control::DataHeader::parse(in);
    if (got.fd < 0 || !header) {
        if (got.fd >= 0)
            ::close(got.fd);
        return got.size == 0 ? -ENETDOWN : header ? -EMFILE : -EPROTO;
    }
    peer = header->remote;
    const int error = (flags & SOCK_NONBLOCK) != 0 ? set_nonblocking(got.fd) : 0;
    if (error < 0)
        ::close(got.fd);
    return error < 0 ? error : got.fd;
}

int shutdown_socket(Host& host, int fd, int how)
{
    const int result = simple_call(host, fd, {.op = Op::shutdown, .arg = {how, 0, 0}});
    // On a connection, what is written from now on fails here and at once. (SHUT_RD here as well would look like
    // close(2) to the host.)
    if (result >= 0 && how != SHUT_RD && kind_of(fd) == control::SocketKind::tcp
        && simple_call(host, fd, {.op = Op::getpeername}) >= 0)
        ::shutdown(fd, SHUT_WR);
    return result;
}

ssize_t send_decided(Host& host, int fd, Bytes address, Pieces pieces, bool* reached)
{
    Scratch<2048> room;
    Call what;
    what.fd = fd;
    what.request = {.op = Op::send, .address = address};
    if (total_size(pieces) > control::max_record)
        return -EMSGSIZE;
    if (!join(pieces, room, what.request.payload))
        return -ENOBUFS;
    std::array<std::uint8_t, reply_room> reply;
    const auto answer = host.call(what, reply);
    if (answer.fd >= 0)
        ::close(answer.fd);
    if (reached != nullptr)
        *reached = answer.reached;
    return answer.result;
}

ssize_t send_datagram(Host& host, int fd, Bytes address, Pieces pieces, int flags)
{
    if (pieces.size() > most_pieces)
        return -EMSGSIZE;
    if (total_size(pieces) > decided_from)
        return send_decided(host, fd, address, pieces, nullptr);
    control::DataHeader header;
    if (!address.empty()) {
        const auto remote = control::parse_socket_address(address);
        if (!remote)
            return -remote.error().number();
        header.remote = *remote;
    }
    std::array<std::uint8_t, control::data_header_size> raw;
    wire::Writer out(raw);
    header.emit(out);
    Framed framed(raw, pieces);
    if (framed.data() == nullptr)
        return -ENOBUFS;
    msghdr message{};
    message.msg_iov = framed.data();
    message.msg_iovlen = framed.count();
    const auto sent = ::sendmsg(fd, &message, flags | MSG_NOSIGNAL);
    return sent < 0 ? data_error(errno) : sent - static_cast<ssize_t>(raw.size());
}

ssize_t receive_datagram(int fd, Pieces pieces, int flags, Datagram& datagram)
{
    if (pieces.size() > most_pieces)
        return -EMSGSIZE;
    std::array<std::uint8_t, control::data_header_size> raw;
    Framed framed(raw, pieces);
    if (framed.data() == nullptr)
        return -ENOBUFS;
    msghdr message{};
    message.msg_iov = framed.data();
    message.msg_iovlen = framed.count();
    const auto got = ::recvmsg(fd, &message, flags);
    if (got < 0)
        return data_error(errno);
    if (got == 0)
        return -ENETDOWN;   // every datagram has a header, an empty one too: the host is gone
    wire::Reader in(Bytes(raw).first(std::min(raw.size(), static_cast<std::size_t>(got))));
    const auto header = control::DataHeader::parse(in);
    if (!header)
        return -EPROTO;
    datagram.header = *header;
    datagram.truncated = (message.msg_flags & MSG_TRUNC) != 0 || (header->flags & 1) != 0;
    return got - static_cast<ssize_t>(raw.size());
}

int text_call(Host& host, control::Op op, int verb, std::string_view request, std::string& text)
{
    Scratch<0> storage;
    const auto room = storage.take(control::max_record);
    if (room.empty())
        return -ENOMEM;
    text.clear();
    for (int restarts = 0;;) {
        Call what;
        what.request = {.op = op, .arg = {verb, static_cast<std::int32_t>(text.size()), 0}};
        what.request.payload = Bytes(static_cast<const std::uint8_t*>(static_cast<const void*>(request.data())),
                                     request.size());
        const auto answer = host.call(what, room);
        if (answer.fd >= 0)
            ::close(answer.fd);
        text.append(answer.payload.begin(), answer.payload.end());
        if (answer.result < 0 || text.size() == static_cast<std::size_t>(answer.result))
            return std::min(answer.result, 0);
        if (!answer.payload.empty())
            continue;
        // A later part was asked on another channel, which has not the text that the first one came from.
        if (++restarts == most_restarts)
            return -EAGAIN;
        text.clear();
    }
}

std::size_t total_size(Pieces pieces)
{
    std::size_t size = 0;
    for (const auto& piece : pieces)
        size += piece.iov_len;
    return size;
}

}  // namespace latchkey::client
