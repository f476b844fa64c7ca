// SPDX-License-Identifier: BSD-2-Clause
// The host's end of one client socket's data descriptor, and what flows between it and the socket manager. The door
// tells it what epoll and the socket manager reported, and gives it turns.
//
// TCP needs care. A client must read ECONNRESET after a reset; AF_UNIX gives that only if the closing end has unread
// bytes. So the last byte that was taken over is left in the receive queue as a stale one (there is one from the
// start), until the connection has ended well.
#pragma once

#include "stack/unix_socket.hpp"

#include <optional>
#include <vector>

namespace latchkey {

struct DoorCounters {
    std::uint64_t channels = 0, channels_refused = 0, requests = 0, malformed = 0;
    std::uint64_t records_malformed = 0;           // on data descriptors
    std::uint64_t records_dropped = 0;             // too long for the client's descriptor
};

// What a link needs for its work, the door's own.
struct LinkTools {
    Sockets& sockets;
    DoorCounters& counters;
    MutableBytes scratch;                          // at least a full datagram with its header
    int send_buffer = 0;                           // SO_SNDBUF of the host's ends, 0: the system's
    Time now{0};
};

class Link {
public:
    Link(SocketId socket, control::SocketKind kind, Fd host_end, bool connected);

    SocketId socket() const { return socket_; }
    control::SocketKind kind() const { return kind_; }
    int fd() const { return fd_.get(); }
    bool is_stream() const { return kind_ == control::SocketKind::tcp; }

    void on_poll(std::uint32_t events);            // EPOLL*
    void on_socket(unsigned events);               // socket_event
    std::uint32_t interest() const;                // what to wait for, edge-triggered

    enum class Turn : std::uint8_t { idle, again, over };
    Turn turn(LinkTools& tools);

    // Everything that the client has queued so far is taken in, as far as there is room (order rule of design §1).
    void take_in(LinkTools& tools);
    void flush(LinkTools& tools);                  // what is queued for the client goes out, as far as there is room

    // connect(): forgets what was written before; `client_end` keeps the client's poll from reporting POLLOUT
    // meanwhile.
    void start_connecting(LinkTools& tools, int client_end);
    void start_listening() { listening_ = true; }
    void disconnected();                           // connect(AF_UNSPEC)
    void finish_writing() { fin_wanted_ = true; }  // FIN once the queue is empty
    bool connecting() const { return state_ == State::connecting; }

    // The next connection for a listening client, handed over by the door (which keeps a link for it).
    struct Accepted {
        SocketId socket;
        SocketPair ends;
    };
    std::optional<Accepted> accept(LinkTools& tools, int& error);

private:
    enum class State : std::uint8_t { unconnected, connecting, connected };

    bool stream_in(LinkTools& tools, std::size_t limit);       // true: stopped by the limit
    void stream_out(LinkTools& tools);
    bool records_in(LinkTools& tools, unsigned limit);
    bool records_out(LinkTools& tools, unsigned limit);
    bool take_record(LinkTools& tools, Bytes record);
    bool datagram_out(LinkTools& tools);
    bool key_out(LinkTools& tools);
    bool sent(const std::expected<std::size_t, int>& result, LinkTools& tools);
    void skip_stale(LinkTools& tools, std::size_t keep);
    std::size_t fresh_bytes() const;
    Turn stream_turn(LinkTools& tools);
    Turn end_of_stream(LinkTools& tools);
    Turn reset_by_client(LinkTools& tools);

    const SocketId socket_;
    const control::SocketKind kind_;
    Fd fd_;
    State state_;
    std::size_t stale_;                            // bytes in front of the receive queue that are dealt with
    std::vector<std::uint8_t> leftover_;           // taken from the queue, but not by TCP yet
    bool input_ = true;                            // there may be something to read
    bool output_ = true;                           // there may be something to send
    bool output_blocked_ = false;
    bool listening_ = false;
    bool hung_up_ = false;                         // the client has closed
    bool write_ended_ = false;                     // the client writes no more
    bool fin_wanted_ = false, fin_sent_ = false;
    bool end_shown_ = false;                       // the peer's FIN, to the client
    bool failed_ = false;
};

}  // namespace latchkey
