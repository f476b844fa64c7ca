// SPDX-License-Identifier: BSD-2-Clause
#include "stack/door_impl.hpp"

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace latchkey {

using control::Op;

namespace {

constexpr std::size_t reply_payload = control::max_record - 64;
constexpr int sysctl_set = 2;

template <class T> Answer answer(const SysResult<T>& result)
{
    return {result ? 0 : -result.error(), {}, {}, {}, false};
}

Bytes as_bytes(std::string_view text)
{
    return {static_cast<const std::uint8_t*>(static_cast<const void*>(text.data())), text.size()};
}

std::string_view as_text(Bytes bytes)
{
    return {static_cast<const char*>(static_cast<const void*>(bytes.data())), bytes.size()};
}

Answer show(std::string_view text, std::int32_t result = 0)
{
    return {result, {}, as_bytes(text), {}, false};
}

}  // namespace

// Not one whose other end we hold ourselves, a socket's or a channel's: it would keep itself alive for ever.
void Door::Impl::new_channel(Record& record)
{
    const int fd = record.passed.get();
    if (!record.passed || native_option(fd, SO_DOMAIN) != AF_UNIX || native_option(fd, SO_TYPE) != SOCK_SEQPACKET ||
        native_option(fd, SO_ACCEPTCONN) != 0 || is_host_end_name(fd) || peer_path(fd) == path) {
        ++counters.malformed;
        return;
    }
    add_channel(std::move(record.passed), record.sender);
}

Answer Door::Impl::execute(const Asked& asked, Channel& channel)
{
    switch (asked.request.op) {
    case Op::hello: {
        if (asked.request.arg[0] != control::protocol_version)
            return refuse(EPROTO);
        channel.text = control.name();
        return show(channel.text);
    }
    case Op::socket: return open_socket(asked);
    case Op::stat:
    case Op::address:
    case Op::route:
    case Op::link:
    case Op::sysctl: return host_text(asked, channel);
    case Op::bind:
    case Op::connect:
    case Op::listen:
    case Op::getsockname:
    case Op::getpeername:
    case Op::setsockopt:
    case Op::getsockopt:
    case Op::shutdown:
    case Op::send:
    case Op::reason: {
        auto* client = find_client(asked.record.passed);
        if (client == nullptr)
            return unknown_socket(asked);
        client->link.take_in(tools);
        auto result = execute_on_socket({asked.request, asked.record, &client->link, asked.channel});
        const auto id = client->link.socket();
        queue(id, *client);
        arm(id, *client);
        return result;
    }
    default: return refuse(EOPNOTSUPP);
    }
}

Answer Door::Impl::execute_on_socket(const Asked& asked)
{
    const auto& request = asked.request;
    const auto id = asked.link->socket();
    switch (request.op) {
    case Op::bind: {
        const auto local = control::parse_socket_address(request.address);
        return local ? answer(sockets.bind(id, *local)) : refuse(local.error().number());
    }
    case Op::connect: return connect(asked);
    case Op::listen: {
        const auto done = sockets.listen(id, request.arg[0]);
        if (done)
            asked.link->start_listening();
        return answer(done);
    }
    case Op::getsockname:
    case Op::getpeername: {
        const auto name = request.op == Op::getsockname ? sockets.local(id) : sockets.remote(id);
        auto result = answer(name);
        if (name)
            result.address = control::socket_address(*name);
        return result;
    }
    case Op::setsockopt: return answer(sockets.set_option(id, request.arg[0], request.arg[1], request.payload));
    case Op::getsockopt: return get_option(asked);
    case Op::shutdown: {
        const bool stream = asked.link->is_stream() && sockets.remote(id).has_value();
        const int how = request.arg[0];
        if (!stream || how == SHUT_RD || how < 0 || how > SHUT_RDWR)
            return answer(sockets.shutdown(id, how));
        asked.link->finish_writing();   // what is still on its way goes first
        asked.link->on_socket(socket_event::readable);
        return how == SHUT_RDWR ? answer(sockets.shutdown(id, SHUT_RD)) : Answer{};
    }
    case Op::send: return send(asked);
    case Op::reason: {
        const auto reason = sockets.key_reason(id);
        return reason ? show(*reason) : refuse(reason.error());
    }
    default: return refuse(EOPNOTSUPP);
    }
}

// Change events need no privilege: addresses and routes are no secret. Ends whose client has gone make room for others.
Answer Door::Impl::open_event_socket()
{
    constexpr std::size_t most = 256;
    std::erase_if(event_ends, [](const Fd& end) {
        std::uint8_t byte = 0;
        const auto got = ::recv(end.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
        return got == 0 || (got < 0 && errno != EAGAIN);
    });
    if (event_ends.size() >= most)
        return refuse(ENFILE);
    auto ends = make_pair(SOCK_SEQPACKET, control::SocketKind::event, 0);
    if (!ends)
        return refuse(ends.error());
    event_ends.push_back(std::move(ends->host));
    Answer result;
    result.passed = std::move(ends->client);
    return result;
}

// A client that does not read loses events, never holds anybody up.
void Door::Impl::publish(std::string_view event)
{
    std::vector<std::uint8_t> line(event.begin(), event.end());
    line.push_back('\n');
    const Bytes record(line);
    std::erase_if(event_ends, [&](const Fd& end) {
        const auto sent = send_pieces(end.get(), {&record, 1});
        return !sent && sent.error() != EAGAIN && sent.error() != ENOBUFS;
    });
}

Answer Door::Impl::open_socket(const Asked& asked)
{
    const auto& arg = asked.request.arg;
    const int type = arg[1] & 0xf;   // without SOCK_NONBLOCK and SOCK_CLOEXEC
    if (arg[0] == AF_UNSPEC)
        return type == SOCK_SEQPACKET ? open_event_socket() : refuse(ESOCKTNOSUPPORT);
    const auto id = sockets.open(arg[0], type, arg[2], asked.record.sender);
    if (!id)
        return refuse(id.error());
    using control::SocketKind;
    const auto kind = arg[0] == AF_KEY ? SocketKind::key
                      : type == SOCK_STREAM ? SocketKind::tcp
                      : arg[2] == 0 || arg[2] == IPPROTO_UDP ? SocketKind::udp
                                                            : SocketKind::icmp;
    auto ends = make_pair(kind == SocketKind::tcp ? SOCK_STREAM : SOCK_SEQPACKET, kind, options.send_buffer);
    if (!ends) {
        sockets.close(*id);
        return refuse(ends.error());
    }
    add_client(*id, kind, *ends, false);
    Answer result;
    result.passed = std::move(ends->client);
    return result;
}

Answer Door::Impl::connect(const Asked& asked)
{
    auto& link = *asked.link;
    const auto remote = control::parse_socket_address(asked.request.address);
    if (!remote)
        return refuse(remote.error().number());
    const auto done = sockets.connect(link.socket(), *remote);
    if (done && link.is_stream())
        link.disconnected();
    if (done || done.error() != EINPROGRESS)
        return answer(done);
    const bool wait = (asked.request.arg[0] & 1) == 0;
    link.start_connecting(tools, wait ? -1 : asked.record.passed.get());
    if (!wait)
        return answer(done);
    auto& client = clients.find(link.socket())->second;
    client.waiting_channel = asked.channel;
    client.waiting_request = asked.request.id;
    Answer result;
    result.later = true;
    return result;
}

Answer Door::Impl::send(const Asked& asked)
{
    const auto id = asked.link->socket();
    const auto payload = asked.request.payload;
    SysResult<> done;
    if (asked.link->kind() == control::SocketKind::key) {
        done = sockets.key_send(id, payload, true, tools.now);
    } else {
        const auto to =
            asked.request.address.empty() ? Result<Endpoint>{} : control::parse_socket_address(asked.request.address);
        done = to ? sockets.send_datagram(id, *to, payload) : std::unexpected(to.error().number());
    }
    asked.link->flush(tools);   // the answers are on the descriptor before send() returns
    auto result = answer(done);
    if (done)
        result.result = static_cast<std::int32_t>(payload.size());
    return result;
}

Answer Door::Impl::get_option(const Asked& asked)
{
    const auto& arg = asked.request.arg;
    const auto room = std::min<std::size_t>(option_room.size(), static_cast<std::size_t>(std::max(arg[2], 0)));
    const auto n = sockets.get_option(asked.link->socket(), arg[0], arg[1], MutableBytes(option_room).first(room));
    auto result = answer(n);
    if (n)
        result.payload = Bytes(option_room).first(*n);
    return result;
}

Result<std::string> Door::Impl::text_of(const control::Request& request)
{
    const auto text = as_text(request.payload);
    const int verb = request.arg[0];
    switch (request.op) {
    case Op::stat: return control.stat(verb);
    case Op::address: return control.address(verb, text);
    case Op::route: return control.route(verb, text);
    case Op::link: return control.link(verb, text);
    default: return control.sysctl(verb, text);
    }
}

// Everybody who reaches the host may look; changing takes the host's owner or root.
Answer Door::Impl::host_text(const Asked& asked, Channel& channel)
{
    const auto& request = asked.request;
    const auto& by = asked.record.sender;
    const int verb = request.arg[0];
    const bool change = request.op == Op::sysctl ? verb == sysctl_set : request.op != Op::stat && verb != 0;
    if (change && by.uid != 0 && by.uid != geteuid())
        return refuse(EPERM);
    if (request.arg[1] == 0) {   // later parts come from the text that the first one made
        const auto lines = text_of(request);
        if (!lines) {
            channel.text = lines.error().reason;
            return show(channel.text, -lines.error().number());
        }
        channel.text = *lines;
    }
    const auto from = std::min(channel.text.size(), static_cast<std::size_t>(std::max(request.arg[1], 0)));
    return show(std::string_view(channel.text).substr(from, reply_payload),
                static_cast<std::int32_t>(channel.text.size()));
}

// A descriptor that is not ours, or of a connection that has ended in both directions.
Answer Door::Impl::unknown_socket(const Asked& asked)
{
    const auto& passed = asked.record.passed;
    if (!passed || !is_host_end_name(passed.get()))
        return refuse(!passed || native_option(passed.get(), SO_TYPE) >= 0 ? EBADF : ENOTSOCK);
    if (asked.request.op != Op::getsockopt || asked.request.arg[0] != SOL_SOCKET || asked.request.arg[1] != SO_ERROR)
        return refuse(ENOTCONN);
    const int error = native_option(passed.get(), SO_ERROR);   // what its end has left there: ECONNRESET, or nothing
    std::memcpy(option_room.data(), &error, sizeof error);
    Answer result;
    result.payload =
        Bytes(option_room)
            .first(std::min<std::size_t>(sizeof error, static_cast<std::size_t>(std::max(asked.request.arg[2], 0))));
    return result;
}

Door::Impl::Client* Door::Impl::find_client(const Fd& passed)
{
    const auto at = by_cookie.find(passed ? socket_cookie(passed.get()) : 0);
    return at == by_cookie.end() ? nullptr : &clients.find(at->second)->second;
}

}  // namespace latchkey
