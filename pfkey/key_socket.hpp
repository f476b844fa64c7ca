// SPDX-License-Identifier: BSD-2-Clause
// The key sockets of one engine: their queues, what they registered for, and who gets which record. A slow reader loses
// records of its own and never delays anybody else.
#pragma once

#include "pfkey/batch.hpp"
#include "pfkey/dump_filter.hpp"
#include "pfkey/engine.hpp"

#include <bitset>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

namespace latchkey {

// A dump in progress. One record is held back until it is known whether another follows: only the last may say 0.
struct Dump {
    Message head;                 // type, satype, seq and pid of the request
    std::uint8_t protocol = 0;    // SAD: of these SAs only, 0: all
    std::optional<DumpFilter> filter;   // SAD: and of these
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
    std::uint64_t known = 0;        // private_bit() of every private extension that it has sent, so may get
    std::optional<Dump> dump;
    std::optional<Batch> batch;
    std::string_view last_error;

    bool knows(unsigned extension) const { return (known & private_bit(extension)) != 0; }

    // Extensions that only this family of stacks knows are numbered from 64 up (design: never one that a client can't
    // know, whose libipsec would refuse the whole message for it).
    static constexpr std::uint64_t private_bit(unsigned extension)
    {
        return extension < SADB_X_EXT_NAT_T_OAR ? 0 : std::uint64_t{1} << (extension - SADB_X_EXT_NAT_T_OAR);
    }
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

    // sender 0: the engine itself. The sender's own copy is never dropped, see full(). Whoever does not know a private
    // extension of the record gets it without.
    void deliver(Recipients to, KeySocketId sender, std::uint8_t satype, Record record);
    void announce(Recipients to, KeySocketId sender, std::uint8_t satype, const Record& record);   // to the others only
    void set_promiscuous(KeySocket& socket, bool on);
    void pop(KeySocket& socket);

    bool full(const KeySocket& socket) const { return socket.bytes >= queue_bytes_; }        // takes no more requests
    bool room_for_dump(const KeySocket& socket) const { return socket.bytes < queue_bytes_ / 2; }
    bool anybody_registered(std::uint8_t satype) const;
    bool anybody_listens_to(KeySocketId sender) const { return promiscuous_ != 0 || sockets_.size() > 1 || !find(sender); }

    std::function<void(KeySocketId)> on_readable;

private:
    void push(KeySocketId id, KeySocket& socket, Record record);
    void offer(KeySocketId id, KeySocket& socket, const Record& record);
    void copy_to_promiscuous(const Record& record, std::uint64_t carried);

    std::unordered_map<KeySocketId, KeySocket> sockets_;
    std::size_t max_sockets_, queue_bytes_;
    std::size_t promiscuous_ = 0;
    KeySocketId last_ = 0;
};

}  // namespace latchkey
