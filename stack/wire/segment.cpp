// SPDX-License-Identifier: BSD-2-Clause
// An Ethernet segment without a switch: a directory in which every host has a listening socket, and a link (AF_UNIX,
// one record per frame) between each two hosts. A host makes its socket visible, then connects to all it finds; so of
// any two hosts at least the later one connects. When both do, the link of the smaller id carries the frames and the
// other one runs dry and is closed by the host that made it. Needs no root, survives any host's death.
#include "stack/wire/fd.hpp"
#include "stack/wire/frame_queue.hpp"
#include "stack/wire/wire.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>

#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace latchkey {

namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

using HostId = std::uint64_t;
using Mac = std::uint64_t;

constexpr std::size_t queue_limit = 4 * 1024 * 1024;   // bytes per peer
constexpr int kernel_buffer = 1024 * 1024;
constexpr std::size_t max_links = 1024;
constexpr std::size_t max_strangers = 64;              // links that did not say who they are yet
constexpr Time stranger_patience = seconds(5);
constexpr std::size_t max_macs = 4096;
constexpr Time mac_age = seconds(300);
constexpr Time forgotten_after = seconds(60);
constexpr Time retry_after = std::chrono::milliseconds(50);
constexpr std::size_t frames_per_turn = 16;            // of one link before the others have theirs

constexpr std::string_view socket_suffix = ".sock";
constexpr std::string_view unfinished_suffix = ".new";
constexpr std::string_view greeting = "latchkey segment 1";

struct Link {
    Fd fd;
    std::optional<HostId> peer;   // unknown until the greeting of a link that was made by the other side
    bool made_here = false;
    bool carries = false;         // frames to this peer go here
    bool waits_for_room = false;
    Time since{};
    FrameQueue queue{queue_limit};
};

struct Neighbour {
    Link* link;
    Time seen;
};

class Segment final : public Wire {
public:
    Segment(std::string directory, HostId id) : directory_(std::move(directory)), id_(id), buffer_(max_frame) {}
    ~Segment() override;
    std::expected<void, std::string> open();

    void send(Bytes frame, Time now) override;
    std::size_t receive(const std::function<void(MutableBytes)>& sink, std::size_t budget, Time now) override;

    // One epoll descriptor stands for the listener and all links, so the set to watch never changes.
    std::vector<Watch> watches() const override { return {{poll_.get(), true, false}}; }
    Time next_deadline() const override { return retry_at_; }
    std::string name() const override { return "unix:" + directory_; }
    WireStats stats() const override { return stats_; }

private:
    std::expected<void, std::string> listen_here();
    void connect_to_all(Time now);
    void connect_to(HostId peer, Time now);
    void accept_all(Time now);
    void greet(Link& link, Bytes hello);
    Link* add_link(Fd fd, Time now);
    void close_link(Link& link);
    void sweep(Time now);

    void transmit(Link& link, Bytes frame);
    void flush(Link& link);
    void watch(Link& link, bool for_room);
    std::size_t drain(Link& link, const std::function<void(MutableBytes)>& sink, std::size_t budget, Time now);
    void deliver(Link& link, MutableBytes frame, const std::function<void(MutableBytes)>& sink, Time now);

    Link* find_neighbour(Mac mac, Time now);
    void learn(Mac mac, Link& link, Time now);

    std::string path_of(HostId id, std::string_view suffix = socket_suffix) const;

    std::string directory_;
    HostId id_;
    Fd poll_, listener_;
    bool visible_ = false;                        // our socket has its final name
    std::vector<std::unique_ptr<Link>> links_;    // closed ones (no fd) stay until sweep(): a sink may call send()
    std::unordered_map<HostId, Link*> carriers_;
    std::unordered_map<Mac, Neighbour> neighbours_;
    std::vector<std::uint8_t> buffer_;
    WireStats stats_;
    Time retry_at_ = Time::max();                 // a full backlog elsewhere, or no descriptors left here
    bool closed_some_ = false, listener_rests_ = false;
};

// ---- small things -----------------------------------------------------------------------------------------------

std::string hex(HostId id)
{
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(id));
    return text;
}

std::optional<HostId> id_of(std::string_view file, std::string_view suffix)
{
    if (file.size() != 16 + suffix.size() || !file.ends_with(suffix))
        return {};
    HostId id = 0;
    const auto [stop, error] = std::from_chars(file.data(), file.data() + 16, id, 16);
    return error == std::errc{} && stop == file.data() + 16 ? std::optional(id) : std::nullopt;
}

sockaddr_un address_of(const std::string& path)
{
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
}

template <class Call> int with_address(Call call, int fd, const std::string& path)
{
    const auto address = address_of(path);
    return call(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

Fd new_socket()
{
    return Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

// A socket that never got its final name: its host was killed in between.
bool is_forgotten(const fs::path& path)
{
    std::error_code error;
    const auto made = fs::last_write_time(path, error);
    return !error && fs::file_time_type::clock::now() - made > forgotten_after;
}

Mac mac_at(Bytes frame, std::size_t at)
{
    return (Mac{wire::field<std::uint16_t>(frame, at)} << 32) | wire::field<std::uint32_t>(frame, at + 2);
}

bool is_group(Mac mac)
{
    return (mac >> 40) & 1;
}

bool is_full(int error)
{
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

// ---- coming and going ---------------------------------------------------------------------------------------------

std::expected<void, std::string> Segment::open()
{
    struct stat info{};
    if (::mkdir(directory_.c_str(), 0700) < 0 && errno != EEXIST)
        return system_failure("cannot make the directory");
    if (::stat(directory_.c_str(), &info) < 0)
        return system_failure("cannot use the directory");
    if (!S_ISDIR(info.st_mode))
        return std::unexpected("this is not a directory");
    poll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!poll_)
        return system_failure("epoll_create1");
    if (auto listening = listen_here(); !listening)
        return listening;
    connect_to_all(Time{});
    return {};
}

// The socket gets its final name only when it listens: one that refuses is dead, and others may remove it.
std::expected<void, std::string> Segment::listen_here()
{
    const auto unfinished = path_of(id_, unfinished_suffix), path = path_of(id_);
    const auto longest = sizeof(sockaddr_un::sun_path) - 1 - (path.size() - directory_.size());
    if (directory_.size() > longest)
        return std::unexpected("the path has " + std::to_string(directory_.size()) +
                               " characters, a socket's directory " + std::to_string(longest) + " at most");
    listener_ = new_socket();
    if (!listener_ || with_address(::bind, listener_.get(), unfinished) < 0)
        return system_failure("cannot make a socket in the directory");
    epoll_event event{};
    event.events = EPOLLIN;
    if (::listen(listener_.get(), SOMAXCONN) < 0 ||
        ::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, listener_.get(), &event) < 0 ||
        ::rename(unfinished.c_str(), path.c_str()) < 0) {
        auto failure = system_failure("cannot listen in the directory");
        ::unlink(unfinished.c_str());
        return failure;
    }
    visible_ = true;
    return {};
}

Segment::~Segment()
{
    if (visible_)
        ::unlink(path_of(id_).c_str());
    for (auto& link : links_)
        if (link->fd)
            flush(*link);
}

void Segment::connect_to_all(Time now)
{
    retry_at_ = Time::max();
    std::error_code error;
    for (fs::directory_iterator entry(directory_, error), end; !error && entry != end; entry.increment(error)) {
        const auto file = entry->path().filename().string();
        if (const auto peer = id_of(file, socket_suffix); peer && *peer != id_ && !carriers_.contains(*peer))
            connect_to(*peer, now);
        else if (id_of(file, unfinished_suffix) && is_forgotten(entry->path()))
            ::unlink(entry->path().c_str());
    }
}

void Segment::connect_to(HostId peer, Time now)
{
    auto fd = new_socket();
    if (!fd || with_address(::connect, fd.get(), path_of(peer)) < 0) {
        if (fd && errno == ECONNREFUSED)
            ::unlink(path_of(peer).c_str());   // killed, or it would have done this itself
        else if (!fd || errno == EAGAIN)
            retry_at_ = now + retry_after;
        return;
    }
    std::array<std::uint8_t, greeting.size() + sizeof(HostId)> hello;
    wire::Writer writer(hello);
    for (const char c : greeting)
        writer.put<std::uint8_t>(static_cast<std::uint8_t>(c));
    writer.put<HostId>(id_);
    if (::send(fd.get(), hello.data(), hello.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return;
    if (auto* link = add_link(std::move(fd), now)) {
        link->peer = peer;
        link->made_here = true;
        link->carries = true;
        carriers_[peer] = link;
    }
}

void Segment::accept_all(Time now)
{
    for (;;) {
        Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (!fd && (errno == EINTR || errno == ECONNABORTED))
            continue;
        if (!fd) {
            // Out of descriptors: the listener would stay ready, and the host would spin until one is free.
            if (errno != EAGAIN) {
                ::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, listener_.get(), nullptr);
                listener_rests_ = true;
                retry_at_ = std::min(retry_at_, now + retry_after);
            }
            return;
        }
        const auto stranger = [](const auto& link) { return link->fd && !link->peer; };
        for (auto& link : links_)
            if (stranger(link) && now - link->since > stranger_patience)
                close_link(*link);
        if (std::ranges::count_if(links_, stranger) < static_cast<std::ptrdiff_t>(max_strangers))
            add_link(std::move(fd), now);
    }
}

// The first record of a link that the other side made.
void Segment::greet(Link& link, Bytes hello)
{
    wire::Reader reader(hello);
    const auto words = reader.take(greeting.size());
    const auto peer = reader.get<HostId>();
    if (!reader.done() || !std::ranges::equal(words, greeting) || peer == id_)
        return close_link(link);
    link.peer = peer;
    auto& carrier = carriers_[peer];
    if (carrier && !carrier->made_here)
        return close_link(link);   // a second one from the same host
    if (carrier && id_ < peer)
        return;                    // ours carries; this one brings what was sent before the peer knew, and ends
    if (carrier) {
        // The peer never sends on the link that we made, so nothing is lost when it goes.
        link.queue = std::move(carrier->queue);
        for (auto& [mac, neighbour] : neighbours_)
            if (neighbour.link == carrier)
                neighbour.link = &link;
        auto* const old = carrier;
        old->carries = false;
        carrier = &link;
        close_link(*old);
    }
    carrier = &link;
    link.carries = true;
    flush(link);
}

Link* Segment::add_link(Fd fd, Time now)
{
    if (links_.size() >= max_links)
        return nullptr;
    auto link = std::make_unique<Link>();
    link->fd = std::move(fd);
    link->since = now;
    // As much as the kernel grants; what does not fit waits in the link's own queue.
    ::setsockopt(link->fd.get(), SOL_SOCKET, SO_SNDBUF, &kernel_buffer, sizeof kernel_buffer);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = link.get();
    if (::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, link->fd.get(), &event) < 0)
        return nullptr;
    return links_.emplace_back(std::move(link)).get();
}

void Segment::close_link(Link& link)
{
    if (!link.fd)
        return;
    link.fd.reset();
    link.queue.clear();
    closed_some_ = true;
    if (!link.carries)
        return;
    link.carries = false;
    carriers_.erase(*link.peer);
    std::erase_if(neighbours_, [&](const auto& entry) { return entry.second.link == &link; });
}

void Segment::sweep(Time now)
{
    if (closed_some_)
        std::erase_if(links_, [](const auto& link) { return !link->fd; });
    closed_some_ = false;
    if (now < retry_at_)
        return;
    if (std::exchange(listener_rests_, false)) {
        epoll_event event{};
        event.events = EPOLLIN;
        ::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, listener_.get(), &event);
    }
    connect_to_all(now);
}

// ---- sending ------------------------------------------------------------------------------------------------------

void Segment::send(Bytes frame, Time now)
{
    if (frame.size() < min_frame || frame.size() > max_frame) {
        ++stats_.refused;
        return;
    }
    ++stats_.sent;
    const auto destination = mac_at(frame, 0);
    if (auto* const link = is_group(destination) ? nullptr : find_neighbour(destination, now))
        return transmit(*link, frame);
    for (auto& link : links_)
        if (link->carries)
            transmit(*link, frame);
}

void Segment::transmit(Link& link, Bytes frame)
{
    if (link.queue.empty() && ::send(link.fd.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return;
    if (!link.queue.empty() || is_full(errno)) {
        if (!link.queue.push(frame))
            ++stats_.dropped;
        watch(link, true);
        return;
    }
    ++stats_.dropped;
    if (errno != EMSGSIZE)
        close_link(link);
}

void Segment::flush(Link& link)
{
    while (!link.queue.empty()) {
        const auto frame = link.queue.front();
        if (::send(link.fd.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
            if (!is_full(errno))
                return close_link(link);
            break;
        }
        link.queue.pop();
    }
    watch(link, !link.queue.empty());
}

void Segment::watch(Link& link, bool for_room)
{
    if (link.waits_for_room == for_room)
        return;
    link.waits_for_room = for_room;
    epoll_event event{};
    event.events = for_room ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.ptr = &link;
    ::epoll_ctl(poll_.get(), EPOLL_CTL_MOD, link.fd.get(), &event);
}

// ---- receiving ----------------------------------------------------------------------------------------------------

std::size_t Segment::receive(const std::function<void(MutableBytes)>& sink, std::size_t budget, Time now)
{
    std::size_t taken = 0;
    for (bool more = true; more && taken < budget;) {
        // No more links than the budget serves: epoll puts those it reported behind the others.
        std::array<epoll_event, 64> events;
        const auto wanted = std::clamp<std::size_t>((budget - taken) / frames_per_turn, 1, events.size());
        const auto ready = ::epoll_wait(poll_.get(), events.data(), static_cast<int>(wanted), 0);
        more = ready == static_cast<int>(wanted);
        for (int i = 0; i < ready; ++i) {
            const auto& event = events[static_cast<std::size_t>(i)];
            auto* const link = static_cast<Link*>(event.data.ptr);
            if (!link) {
                accept_all(now);
                more = true;   // the frames of a new link are there already
                continue;
            }
            if (link->fd && (event.events & EPOLLOUT))
                flush(*link);
            const auto turn = std::min(frames_per_turn, budget - taken);
            const auto drained = drain(*link, sink, turn, now);
            taken += drained;
            more |= drained == turn;
        }
    }
    sweep(now);
    return taken;
}

std::size_t Segment::drain(Link& link, const std::function<void(MutableBytes)>& sink, std::size_t budget, Time now)
{
    std::size_t taken = 0;
    while (taken < budget && link.fd) {
        const auto got = ::recv(link.fd.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT | MSG_TRUNC);
        // ECONNRESET: the peer died with frames of ours unread. It is told once; the peer's last frames come after it.
        if (got < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0) {
            close_link(link);   // the peer has gone
            break;
        }
        ++taken;
        const auto size = static_cast<std::size_t>(got);
        if (!link.peer)
            greet(link, Bytes(buffer_).first(std::min(size, buffer_.size())));
        else if (size < min_frame || size > buffer_.size())
            ++stats_.refused;
        else
            deliver(link, MutableBytes(buffer_).first(size), sink, now);
    }
    return taken;
}

void Segment::deliver(Link& link, MutableBytes frame, const std::function<void(MutableBytes)>& sink, Time now)
{
    ++stats_.received;
    if (link.carries)
        learn(mac_at(frame, 6), link, now);
    else if (const auto carrier = carriers_.find(*link.peer); carrier != carriers_.end())
        learn(mac_at(frame, 6), *carrier->second, now);
    sink(frame);
}

// ---- who is where -------------------------------------------------------------------------------------------------

Link* Segment::find_neighbour(Mac mac, Time now)
{
    const auto at = neighbours_.find(mac);
    if (at == neighbours_.end())
        return nullptr;
    if (now - at->second.seen <= mac_age)
        return at->second.link;
    neighbours_.erase(at);
    return nullptr;
}

void Segment::learn(Mac mac, Link& link, Time now)
{
    if (is_group(mac) || mac == 0)
        return;
    if (const auto at = neighbours_.find(mac); at != neighbours_.end()) {
        at->second = {&link, now};
        return;
    }
    // Full: somebody makes addresses up. Frames for those not known go to all, so nothing breaks.
    if (neighbours_.size() >= max_macs)
        std::erase_if(neighbours_, [now](const auto& entry) { return now - entry.second.seen > mac_age; });
    if (neighbours_.size() < max_macs)
        neighbours_.emplace(mac, Neighbour{&link, now});
}

std::string Segment::path_of(HostId id, std::string_view suffix) const
{
    return directory_ + "/" + hex(id) + std::string(suffix);
}

}  // namespace

std::expected<std::unique_ptr<Wire>, std::string> open_segment(const std::string& directory)
{
    std::error_code error;
    const auto absolute = fs::absolute(directory, error);   // a daemon may change its working directory
    HostId id = 0;
    if (::getrandom(&id, sizeof id, 0) != static_cast<ssize_t>(sizeof id))
        return system_failure("getrandom");
    auto segment = std::make_unique<Segment>(error ? directory : absolute.string(), id);
    if (const auto opened = segment->open(); !opened)
        return std::unexpected(opened.error());
    return segment;
}

}  // namespace latchkey
