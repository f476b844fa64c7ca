// SPDX-License-Identifier: BSD-2-Clause
#include "stack/door_impl.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace latchkey {

namespace {

constexpr std::size_t scratch_size = 128 * 1024;
constexpr unsigned requests_per_turn = 16;

// In epoll's data: what, and which. Numbers of channels and sockets are not used again while anything may still name
// them.
constexpr std::uint64_t tag_listener = 0, tag_channel = std::uint64_t{1} << 32, tag_link = std::uint64_t{2} << 32;

}  // namespace

// ---- opening and closing ------------------------------------------------------------------------------------

std::expected<std::unique_ptr<Door>, std::string> Door::open(const std::string& path, Sockets& sockets,
                                                             HostControl& control, DoorOptions options)
{
    auto listener = listen_on(path, options.mode);
    if (!listener)
        return std::unexpected(std::move(listener.error()));
    auto impl = std::make_unique<Impl>(sockets, control, options, std::move(*listener), path);
    if (!impl->poller)
        return std::unexpected(std::string("epoll: ") + std::strerror(errno));
    return std::unique_ptr<Door>(new Door(std::move(impl)));
}

Door::Door(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Door::~Door() = default;

int Door::fd() const
{
    return impl_->poller.get();
}

bool Door::run(Time now, unsigned budget)
{
    return impl_->run(now, budget);
}

Time Door::next_deadline() const
{
    return impl_->ready.empty() ? impl_->resume : Time::min();
}

void Door::publish(std::string_view event)
{
    impl_->publish(event);
}

const DoorCounters& Door::counters() const
{
    return impl_->counters;
}

Door::Impl::Impl(Sockets& sockets_, HostControl& control_, DoorOptions options_, Fd listener_, std::string path_)
    : sockets(sockets_), control(control_), options(options_), scratch(scratch_size), request_room(control::max_record),
      tools{sockets_, counters, scratch, options_.send_buffer, Time{0}}, poller(epoll_create1(EPOLL_CLOEXEC)),
      listener(std::move(listener_)), path(std::move(path_))
{
    lstat(path.c_str(), &place);
    watch(listener.get(), tag_listener, EPOLLIN, false);
    sockets.on_event = [this](SocketId id, unsigned events) { note(id, events); };
}

Door::Impl::~Impl()
{
    sockets.on_event = nullptr;
    for (const auto& [id, client] : clients)
        sockets.close(id);
    struct stat now{};
    if (lstat(path.c_str(), &now) == 0 && now.st_dev == place.st_dev && now.st_ino == place.st_ino)
        unlink(path.c_str());
}

// ---- the loop -----------------------------------------------------------------------------------------------

bool Door::Impl::run(Time now, unsigned budget)
{
    tools.now = now;
    if (resume <= now) {
        resume = Time::max();
        watch(listener.get(), tag_listener, EPOLLIN, true);
        for (const auto id : std::exchange(accept_again, {}))
            note(id, socket_event::acceptable);
    }
    std::array<epoll_event, 64> events{};
    const auto room = static_cast<int>(std::min<std::size_t>(events.size(), std::max(budget, 1u)));
    const int n = epoll_wait(poller.get(), events.data(), room, 0);
    for (int i = 0; i < n; ++i)
        poll_event(events[static_cast<std::size_t>(i)]);
    for (auto turns = std::min<std::size_t>(ready.size(), std::max(budget, 1u)); turns != 0; --turns) {
        const auto id = ready.front();
        ready.pop_front();
        give_turn(id);
    }
    return !ready.empty() || n == room;
}

void Door::Impl::poll_event(const epoll_event& event)
{
    const auto id = static_cast<std::uint32_t>(event.data.u64);
    switch (event.data.u64 & ~std::uint64_t{0xffffffff}) {
    case tag_listener: return accept_channels();
    case tag_channel: return serve(id);
    default:
        if (const auto at = clients.find(id); at != clients.end()) {
            at->second.link.on_poll(event.events);
            queue(id, at->second);
        }
    }
}

// From the socket manager, maybe in the middle of packet input: only noted here.
void Door::Impl::note(SocketId id, unsigned events)
{
    const auto at = clients.find(id);
    if (at == clients.end())
        return;
    auto& client = at->second;
    const bool decided = (events & (socket_event::connected | socket_event::failed)) != 0;
    client.link.on_socket(events);
    queue(id, client);
    if (decided && client.waiting_channel != 0) {
        Answer result;
        if ((events & socket_event::connected) == 0) {
            std::array<std::uint8_t, sizeof(int)> raw{};
            int error = 0;
            (void)sockets.get_option(id, SOL_SOCKET, SO_ERROR, raw);
            std::memcpy(&error, raw.data(), sizeof error);
            result = refuse(error);
        }
        reply(std::exchange(client.waiting_channel, 0), client.waiting_request, result);
    }
}

void Door::Impl::queue(SocketId id, Client& client)
{
    if (!std::exchange(client.queued, true))
        ready.push_back(id);
}

void Door::Impl::give_turn(SocketId id)
{
    auto at = clients.find(id);
    if (at == clients.end())
        return;
    at->second.queued = false;
    accept_connections(id);
    at = clients.find(id);   // accepting adds clients
    auto& client = at->second;
    switch (client.link.turn(tools)) {
    case Link::Turn::over: return drop(id);
    case Link::Turn::again: queue(id, client); break;
    case Link::Turn::idle: break;
    }
    arm(id, client);
}

void Door::Impl::watch(int fd, std::uint64_t tag, std::uint32_t events, bool known)
{
    epoll_event event{};
    event.events = events;
    event.data.u64 = tag;
    epoll_ctl(poller.get(), known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
}

void Door::Impl::arm(SocketId id, Client& client)
{
    const auto wanted = client.link.interest();
    if (wanted != client.armed)
        watch(client.link.fd(), tag_link | id, wanted, client.armed != 0);
    client.armed = wanted;
}

void Door::Impl::drop(SocketId id)
{
    const auto node = clients.extract(id);
    by_cookie.erase(node.mapped().cookie);
    if (node.mapped().waiting_channel != 0)
        reply(node.mapped().waiting_channel, node.mapped().waiting_request, refuse(EBADF));
    sockets.close(id);
}

Door::Impl::Client& Door::Impl::add_client(SocketId id, control::SocketKind kind, SocketPair& ends, bool connected)
{
    const auto cookie = socket_cookie(ends.client.get());
    by_cookie.emplace(cookie, id);
    auto& client = clients.emplace(id, Client{Link(id, kind, std::move(ends.host), connected), cookie}).first->second;
    arm(id, client);
    queue(id, client);   // data may have come before there was a link
    return client;
}

void Door::Impl::accept_connections(SocketId id)
{
    int error = 0;
    while (auto accepted = clients.find(id)->second.link.accept(tools, error))
        add_client(accepted->socket, control::SocketKind::tcp, accepted->ends, true);
    if (error != 0) {
        accept_again.push_back(id);
        retry_later();
    }
}

// ---- channels -----------------------------------------------------------------------------------------------

void Door::Impl::accept_channels()
{
    for (unsigned n = 0; n < requests_per_turn; ++n) {
        Fd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!fd && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            watch(listener.get(), tag_listener, 0, true);   // it stays readable: look again in a while
            retry_later();
        }
        if (!fd && errno != EINTR && errno != ECONNABORTED)
            return;
        if (fd)
            add_channel(std::move(fd), {});
    }
}

void Door::Impl::add_channel(Fd fd, const Credentials& creator)
{
    if (channels.size() >= options.channels)
        sweep_channels();
    if (channels.size() >= options.channels) {
        ++counters.channels_refused;
        return;
    }
    const int on = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    const bool early = unread_bytes(fd.get()) != 0;
    do
        ++last_channel;
    while (last_channel == 0 || channels.contains(last_channel));
    ++counters.channels;
    watch(fd.get(), tag_channel | last_channel, EPOLLIN, false);
    channels.emplace(last_channel, Channel{std::move(fd), creator, early, {}, {}, {}});
}

// A client may have given us both ends of a channel, which then never hangs up. It goes when it is in the way and the
// process that passed it has ended.
void Door::Impl::sweep_channels()
{
    if (tools.now < next_sweep)
        return;
    next_sweep = tools.now + std::chrono::seconds(1);
    std::erase_if(channels, [](const auto& entry) {
        const auto pid = entry.second.creator.pid;
        return pid > 0 && kill(pid, 0) != 0 && errno == ESRCH;
    });
}

void Door::Impl::serve(std::uint32_t id)
{
    const auto at = channels.find(id);
    if (at == channels.end())
        return;
    if (!at->second.unsent.empty())
        flush_reply(id, at->second);
    for (unsigned n = 0; n < requests_per_turn; ++n) {
        const auto again = channels.find(id);   // a request may have closed it, or added others
        if (again == channels.end() || !again->second.unsent.empty() || !serve_one(id, again->second))
            return;
    }
}

// False: nothing more to read for now.
bool Door::Impl::serve_one(std::uint32_t id, Channel& channel)
{
    auto record = receive_record(channel.fd.get(), request_room);
    if (!record) {
        if (record.error() != EAGAIN)
            forget_channel(id);
        return false;
    }
    ++counters.requests;
    if (std::exchange(channel.early, false) && record->sender.pid == 0)
        record->sender = channel.creator;
    const auto request = record->truncated ? Result<control::Request>(fail(Errc::too_big, "control record too long"))
                                           : control::Request::parse(record->bytes);
    if (!request) {
        ++counters.malformed;
        if (record->bytes.size() < 8)
            forget_channel(id);   // nobody to answer to
        else
            reply(id, wire::load<std::uint32_t>(record->bytes.subspan<4, 4>(), wire::Order::host), refuse(EINVAL));
        return record->bytes.size() >= 8;
    }
    if (request->op == control::Op::new_channel) {
        new_channel(*record);
        return true;
    }
    const auto result = execute({*request, *record, nullptr, id}, channel);
    if (!result.later)
        reply(id, request->id, result);
    return true;
}

void Door::Impl::reply(std::uint32_t id, std::uint32_t request, const Answer& result)
{
    const auto at = channels.find(id);
    if (at == channels.end())
        return;
    auto& channel = at->second;
    const control::Reply form{request, result.result, result.address, result.payload};
    std::vector<std::uint8_t> raw(form.size());
    wire::Writer out(raw, wire::Order::host);
    form.emit(out);
    const Bytes bytes(raw);
    const auto sent = channel.unsent.empty() ? send_pieces(channel.fd.get(), {&bytes, 1}, result.passed.get())
                                             : std::unexpected(EBUSY);
    if (sent)
        return;
    if (sent.error() != EAGAIN) {
        shutdown(channel.fd.get(), SHUT_RDWR);   // gone, or asking without listening to answers: epoll tells, once
        return;
    }
    channel.unsent = std::move(raw);
    channel.unsent_fd = Fd(result.passed ? dup(result.passed.get()) : -1);
    watch(channel.fd.get(), tag_channel | id, EPOLLOUT, true);
}

void Door::Impl::flush_reply(std::uint32_t id, Channel& channel)
{
    const Bytes bytes(channel.unsent);
    const auto sent = send_pieces(channel.fd.get(), {&bytes, 1}, channel.unsent_fd.get());
    if (!sent && sent.error() == EAGAIN)
        return;
    channel.unsent.clear();
    channel.unsent_fd.reset();
    watch(channel.fd.get(), tag_channel | id, EPOLLIN, true);
}

void Door::Impl::forget_channel(std::uint32_t id)
{
    channels.erase(id);   // a connect() that it waits for goes on; its reply finds nobody
}

}  // namespace latchkey
