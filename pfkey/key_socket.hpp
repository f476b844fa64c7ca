// SPDX-License-Identifier: BSD-2-Clause
// The key sockets of one engine: their queues, what they registered for, and who gets which record. A slow reader loses
// records of its own and never delays anybody else.
#pragma once

#include "pfkey/engine.hpp"

#include <bitset>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

namespace latchkey {

using Record = std::vector<std::uint8_t>;

enum class Recipients : std::uint8_t {
    one,          // the sender
    registered,   // the sender and every socket registered for the SA type (satype 0: for any)
    all,          // every key socket
};

// A dump in progress. One record is held back until it is known whether another follows: only the last may say 0.
struct Dump {
    Message head;                 // type, satype, seq and pid of the request
    std::uint8_t protocol = 0;    // SAD: of these SAs only, 0: all
    std::uint64_t cursor = 0;
    Spd::Cursor spd_cursor;
    std::uint64_t end = 0;        // newer entries than this are not part of the dump
    std::size_t left = 0;         // records that follow the held one, if nothing is deleted
    Record held;
};

struct KeySocket {
    std::deque<Record> queue;
    std::size_t bytes = 0;
    std::uint64_t dropped = 0;
    std::bitset<SADB_SATYPE_MAX + 1> registered;
    bool promiscuous = false;
    bool knows_sa_replay = false;   // sent SADB_X_EXT_SA_REPLAY, so may get it
    std::optional<Dump> dump;
    std::string_view last_error;
};

class KeySockets {
public:
    KeySockets(std::size_t max_sockets, std::size_t queue_bytes) : max_sockets_(max_sockets), queue_bytes_(queue_bytes)
    {
    }

    Result<KeySocketId> open();
    void close(KeySocketId id);
    KeySocket* find(KeySocketId id);
    const KeySocket* find(KeySocketId id) const;

    // sender 0: the engine itself. The sender's own copy is never dropped, see full().
    void deliver(Recipients to, KeySocketId sender, std::uint8_t satype, Record record);
    void set_promiscuous(KeySocket& socket, bool on);
    void pop(KeySocket& socket);

    bool full(const KeySocket& socket) const { return socket.bytes >= queue_bytes_; }        // takes no more requests
    bool room_for_dump(const KeySocket& socket) const { return socket.bytes < queue_bytes_ / 2; }
    bool anybody_registered(std::uint8_t satype) const;

    std::function<void(KeySocketId)> on_readable;

private:
    void push(KeySocketId id, KeySocket& socket, Record record);
    void offer(KeySocketId id, KeySocket& socket, const Record& record);
    void copy_to_promiscuous(const Record& record);

    std::unordered_map<KeySocketId, KeySocket> sockets_;
    std::size_t max_sockets_, queue_bytes_;
    std::size_t promiscuous_ = 0;
    KeySocketId last_ = 0;
};

}  // namespace latchkey
