// SPDX-License-Identifier: BSD-2-Clause
// Inside the door: door.cpp has the loop and the channels, door_requests.cpp what clients can ask for.
#pragma once

#include "stack/door.hpp"

#include <deque>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unordered_map>

namespace latchkey {

// A request with what came along; `link` is set when it is about a socket.
struct Asked {
    const control::Request& request;
    Record& record;
    Link* link = nullptr;
    std::uint32_t channel = 0;
};

// What to answer; `later`: somebody else will.
struct Answer {
    std::int32_t result = 0;
    std::vector<std::uint8_t> address;
    Bytes payload;
    Fd passed;
    bool later = false;
};

inline Answer refuse(int error)
{
    return {-error, {}, {}, {}, false};
}

struct Door::Impl {
    Impl(Sockets& sockets_, HostControl& control_, DoorOptions options_, Fd listener_, std::string path_);
    ~Impl();

    struct Channel {
        Fd fd;
        Credentials creator;                    // who passed the channel to us
        bool early;                             // its first request may be older than SO_PASSCRED: the creator's, then
        std::vector<std::uint8_t> unsent;       // a reply that the client has no room for; nothing is read meanwhile
        Fd unsent_fd;
        std::string text;                       // a long answer that is fetched in pieces
    };
    struct Client {                             // of one socket
        Link link;
        std::uint64_t cookie;                   // of the client's end
        std::uint32_t armed = 0;                // what epoll waits for
        bool queued = false;
        std::uint32_t waiting_channel = 0;      // a connect() that is to be answered
        std::uint32_t waiting_request = 0;
    };

    // ---- the loop
    bool run(Time now, unsigned budget);
    void poll_event(const epoll_event& event);
    void note(SocketId id, unsigned events);
    void queue(SocketId id, Client& client);
    void give_turn(SocketId id);
    void watch(int fd, std::uint64_t tag, std::uint32_t events, bool known);
    void arm(SocketId id, Client& client);
    void drop(SocketId id);
    void retry_later() { resume = tools.now + std::chrono::milliseconds(100); }

    // ---- channels
    void accept_channels();
    void add_channel(Fd fd, const Credentials& creator);
    void sweep_channels();
    void serve(std::uint32_t id);
    bool serve_one(std::uint32_t id, Channel& channel);
    void reply(std::uint32_t channel, std::uint32_t request, const Answer& answer);
    void flush_reply(std::uint32_t id, Channel& channel);
    void forget_channel(std::uint32_t id);

    // ---- requests
    Answer execute(const Asked& asked, Channel& channel);
    Answer execute_on_socket(const Asked& asked);
    void new_channel(Record& record);
    Answer open_socket(const Asked& asked);
    Answer open_event_socket();
    void publish(std::string_view event);
    Answer connect(const Asked& asked);
    Answer send(const Asked& asked);
    Answer get_option(const Asked& asked);
    Answer host_text(const Asked& asked, Channel& channel);
    Result<std::string> text_of(const control::Request& request);
    Answer unknown_socket(const Asked& asked);
    Client* find_client(const Fd& passed);
    Client& add_client(SocketId id, control::SocketKind kind, SocketPair& ends, bool connected);
    void accept_connections(SocketId id);

    Sockets& sockets;
    HostControl& control;
    const DoorOptions options;
    DoorCounters counters;
    std::vector<std::uint8_t> scratch;          // for links
    std::vector<std::uint8_t> request_room;     // links work while a request is being looked at
    std::array<std::uint8_t, 4096> option_room{};
    LinkTools tools;
    Fd poller;
    Fd listener;
    std::string path;
    struct stat place{};                        // the path as it was made: nobody else's is removed
    std::unordered_map<std::uint32_t, Channel> channels;
    std::unordered_map<SocketId, Client> clients;
    std::unordered_map<std::uint64_t, SocketId> by_cookie;
    std::vector<Fd> event_ends;                 // who wants to hear of changes
    std::deque<SocketId> ready;
    std::deque<SocketId> accept_again;          // listeners that found no descriptors
    std::uint32_t last_channel = 0;
    Time next_sweep{0};
    Time resume = Time::max();
};

}  // namespace latchkey
