// SPDX-License-Identifier: BSD-2-Clause
#include "stack/door_link.hpp"

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace latchkey {

namespace {

constexpr std::size_t bytes_per_turn = 256 * 1024;
constexpr unsigned records_per_turn = 32;
constexpr unsigned records_before_request = 2048;   // more than a descriptor's queue holds
constexpr std::size_t chunk = 64 * 1024;

std::size_t received(ssize_t n)
{
    return n > 0 ? static_cast<std::size_t>(n) : 0;
}

}  // namespace

Link::Link(SocketId socket, control::SocketKind kind, Fd host_end, bool connected)
    : socket_(socket), kind_(kind), fd_(std::move(host_end)), state_(connected ? State::connected : State::unconnected),
      stale_(kind == control::SocketKind::tcp ? 1 : 0)
{
}

void Link::on_poll(std::uint32_t events)
{
    input_ = input_ || (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    write_ended_ = write_ended_ || (events & (EPOLLRDHUP | EPOLLHUP)) != 0;
    hung_up_ = hung_up_ || (events & (EPOLLHUP | EPOLLERR)) != 0;
    if ((events & EPOLLOUT) != 0) {
        output_blocked_ = false;
        output_ = true;
    }
}

void Link::on_socket(unsigned events)
{
    using namespace socket_event;
    if ((events & connected) != 0)
        state_ = State::connected;
    if ((events & failed) != 0) {
        if (state_ == State::connecting)
            state_ = State::unconnected;   // another attempt may follow
        else
            failed_ = is_stream();
    }
    input_ = input_ || (events & (writable | connected | failed)) != 0;
    output_ = output_ || (events & (readable | acceptable | failed)) != 0;
}

std::uint32_t Link::interest() const
{
    const auto wait_for_reader = output_blocked_ || listening_;
    return EPOLLIN | EPOLLRDHUP | EPOLLET | (wait_for_reader ? static_cast<std::uint32_t>(EPOLLOUT) : 0u);
}

Link::Turn Link::turn(LinkTools& tools)
{
    if (is_stream())
        return stream_turn(tools);
    const bool more_in = input_ && records_in(tools, records_per_turn);
    if (hung_up_ && !more_in)
        return Turn::over;
    const bool more_out = output_ && !output_blocked_ && records_out(tools, records_per_turn);
    return more_in || more_out ? Turn::again : Turn::idle;
}

void Link::take_in(LinkTools& tools)
{
    if (!is_stream())
        records_in(tools, records_before_request);
    else if (state_ == State::connected)
        stream_in(tools, SIZE_MAX);
}

void Link::flush(LinkTools& tools)
{
    if (is_stream())
        stream_out(tools);
    else
        while (!output_blocked_ && records_out(tools, records_per_turn)) {
        }
}

// ---- records: UDP, ping, PF_KEY -----------------------------------------------------------------------------

bool Link::records_in(LinkTools& tools, unsigned limit)
{
    for (; limit != 0; --limit) {
        const auto record = receive_record(fd(), tools.scratch);
        if (!record && record.error() == ECONNRESET)
            continue;   // the client left answers unread; what it sent before is still there
        if (!record) {
            input_ = false;
            return false;
        }
        if (record->truncated || !take_record(tools, record->bytes))
            ++tools.counters.records_malformed;
    }
    return true;
}

bool Link::take_record(LinkTools& tools, Bytes record)
{
    if (kind_ == control::SocketKind::key) {
        (void)tools.sockets.key_send(socket_, record, false, tools.now);
        output_ = true;
        return true;
    }
    wire::Reader in(record, wire::Order::host);
    const auto header = control::DataHeader::parse(in);
    if (!header)
        return false;
    if (const auto done = tools.sockets.send_datagram(socket_, header->remote, in.rest()); !done)
        tools.sockets.note_error(socket_, done.error());
    return true;
}

bool Link::records_out(LinkTools& tools, unsigned limit)
{
    for (; limit != 0 && !output_blocked_; --limit)
        if (!(kind_ == control::SocketKind::key ? key_out(tools) : datagram_out(tools))) {
            output_ = output_blocked_;
            return false;
        }
    return !output_blocked_;
}

// True: one record has left the socket's queue.
bool Link::datagram_out(LinkTools& tools)
{
    DatagramView view;
    if (!tools.sockets.front_datagram(socket_, view))
        return false;
    std::array<std::uint8_t, control::data_header_size> raw;
    wire::Writer out(raw, wire::Order::host);
    view.header.emit(out);
    const std::array<Bytes, 3> pieces{Bytes(raw), view.payload[0], view.payload[1]};
    if (!sent(send_pieces(fd(), pieces), tools))
        return false;
    tools.sockets.pop_datagram(socket_);
    return true;
}

bool Link::key_out(LinkTools& tools)
{
    const auto record = tools.sockets.key_front(socket_);
    if (record.empty() || !sent(send_pieces(fd(), {&record, 1}), tools))
        return false;
    tools.sockets.key_pop(socket_, tools.now);
    return true;
}

// Has the record left, or must it be given up? False: it has to wait.
bool Link::sent(const std::expected<std::size_t, int>& result, LinkTools& tools)
{
    if (result)
        return true;
    if (result.error() == EAGAIN || result.error() == ENOBUFS || result.error() == ENOMEM) {
        output_blocked_ = true;
        return false;
    }
    if (result.error() == EPIPE || result.error() == ECONNRESET) {
        output_ = false;   // the client reads no more; epoll tells when it is gone
        return false;
    }
    ++tools.counters.records_dropped;   // EMSGSIZE: longer than the client's descriptor can ever hold
    return true;
}

// ---- streams ------------------------------------------------------------------------------------------------

Link::Turn Link::stream_turn(LinkTools& tools)
{
    if (hung_up_ && native_option(fd(), SO_ERROR) == ECONNRESET)
        return reset_by_client(tools);
    if (state_ == State::unconnected)
        skip_stale(tools, 1);   // a connection attempt has failed: the client may see POLLOUT
    if (state_ != State::connected)
        return hung_up_ ? Turn::over : Turn::idle;
    const bool more = !failed_ && input_ && stream_in(tools, bytes_per_turn);
    if (output_ && !output_blocked_)
        stream_out(tools);
    return more ? Turn::again : end_of_stream(tools);
}

// The client closed without reading what we had given it: RFC 1122 §4.2.2.13, as every BSD does.
Link::Turn Link::reset_by_client(LinkTools& tools)
{
    const linger now{1, 0};
    std::array<std::uint8_t, sizeof now> raw;
    std::memcpy(raw.data(), &now, sizeof now);
    (void)tools.sockets.set_option(socket_, SOL_SOCKET, SO_LINGER, raw);
    return Turn::over;
}

Link::Turn Link::end_of_stream(LinkTools& tools)
{
    const auto queued = tools.sockets.peek(socket_);
    const bool unread = !queued[0].empty();
    if (failed_)
        return unread && !hung_up_ ? Turn::idle : Turn::over;   // closes with the stale byte unread: ECONNRESET
    if (hung_up_ && unread)
        return reset_by_client(tools);
    const bool drained = leftover_.empty() && fresh_bytes() == 0;
    if ((write_ended_ || fin_wanted_) && drained && !fin_sent_) {
        fin_sent_ = true;
        if (!hung_up_)
            (void)tools.sockets.shutdown(socket_, SHUT_WR);
        if (fin_wanted_)
            shutdown(fd(), SHUT_RD);   // the client's next write fails with EPIPE
    }
    if (!fin_sent_ || !(hung_up_ || end_shown_))
        return Turn::idle;
    skip_stale(tools, 0);
    return Turn::over;
}

std::size_t Link::fresh_bytes() const
{
    const auto n = unread_bytes(fd());
    return n > stale_ ? n - stale_ : 0;
}

void Link::skip_stale(LinkTools& tools, std::size_t keep)
{
    while (stale_ > keep) {
        const auto n =
            received(recv(fd(), tools.scratch.data(), std::min(tools.scratch.size(), stale_ - keep), MSG_DONTWAIT));
        if (n == 0)
            return;
        stale_ -= n;
    }
}

// From the client's descriptor to TCP, never more than TCP has room for.
bool Link::stream_in(LinkTools& tools, std::size_t limit)
{
    if (!leftover_.empty()) {
        const auto n = tools.sockets.write(socket_, leftover_).value_or(0);
        leftover_.erase(leftover_.begin(), leftover_.begin() + static_cast<std::ptrdiff_t>(n));
        if (!leftover_.empty())
            return false;
    }
    for (std::size_t taken = 0; taken < limit && !fin_sent_;) {
        skip_stale(tools, 1);
        const auto fresh = fresh_bytes();
        if (fresh == 0) {
            input_ = false;
            return false;
        }
        const auto room = tools.sockets.writable_bytes(socket_);
        if (room == 0) {
            tools.sockets.await_writable(socket_);
            return false;
        }
        const auto n = std::min({fresh, room, chunk});
        const bool all = n == fresh;   // then its last byte stays as the stale one
        std::uint8_t old = 0;
        std::array<iovec, 2> pieces{iovec{&old, stale_}, iovec{tools.scratch.data(), all ? n - 1 : n}};
        auto got = received(readv(fd(), pieces.data(), 2));
        const auto skipped = std::min(got, stale_);
        stale_ -= skipped;
        got -= skipped;
        if (all && got == n - 1 && stale_ == 0 &&
            recv(fd(), tools.scratch.data() + got, 1, MSG_PEEK | MSG_DONTWAIT) == 1) {
            stale_ = 1;
            ++got;
        }
        const auto data = Bytes(tools.scratch).first(got);
        const auto written = tools.sockets.write(socket_, data).value_or(0);
        taken += got;
        if (written < got) {
            leftover_.assign(data.begin() + static_cast<std::ptrdiff_t>(written), data.end());
            return false;
        }
    }
    return !fin_sent_;
}

void Link::stream_out(LinkTools& tools)
{
    for (;;) {
        const auto queued = tools.sockets.peek(socket_);
        if (queued[0].empty())
            break;
        const auto n = send_pieces(fd(), queued);
        if (!n) {
            output_blocked_ = n.error() == EAGAIN;
            if (n.error() == EPIPE && !hung_up_)
                (void)tools.sockets.shutdown(socket_, SHUT_RD);   // the client shut its reading side
            return;
        }
        tools.sockets.consume(socket_, *n);
    }
    output_ = false;
    if (state_ == State::connected && !failed_ && !end_shown_ && tools.sockets.finished(socket_)) {
        end_shown_ = true;
        shutdown(fd(), SHUT_WR);
    }
}

// ---- connecting and accepting -------------------------------------------------------------------------------

void Link::start_connecting(LinkTools& tools, int client_end)
{
    stale_ = unread_bytes(fd());
    skip_stale(tools, 1);
    state_ = State::connecting;
    if (client_end < 0)
        return;
    std::ranges::fill(tools.scratch, std::uint8_t{0});
    const Bytes filling(tools.scratch);
    while (const auto n = send_pieces(client_end, {&filling, 1}))
        stale_ += *n;
}

void Link::disconnected()
{
    state_ = State::unconnected;
    leftover_.clear();
    fin_wanted_ = fin_sent_ = failed_ = false;
}

std::optional<Link::Accepted> Link::accept(LinkTools& tools, int& error)
{
    error = 0;
    if (!listening_ || hung_up_ ||
        undelivered_bytes(fd()) != 0)  // one at a time, so that the backlog keeps its meaning
        return std::nullopt;
    auto ends = make_pair(SOCK_STREAM, control::SocketKind::tcp, tools.send_buffer);
    if (!ends) {
        error = ends.error();
        return std::nullopt;
    }
    const auto child = tools.sockets.accept(socket_);
    if (!child)
        return std::nullopt;
    control::DataHeader header;
    header.remote = tools.sockets.remote(*child).value_or(Endpoint{});
    std::array<std::uint8_t, control::data_header_size> raw;
    wire::Writer out(raw, wire::Order::host);
    header.emit(out);
    const Bytes bytes(raw);
    if (!send_pieces(fd(), {&bytes, 1}, ends->client.get())) {
        tools.sockets.close(*child);
        return std::nullopt;
    }
    return Accepted{*child, std::move(*ends)};
}

}  // namespace latchkey
