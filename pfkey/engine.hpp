// SPDX-License-Identifier: BSD-2-Clause
// The key engine of one host: SAD, SPD, ACQUIRE and the PF_KEY sockets in front of them. It holds no clock, no random
// source and no file descriptor. Two doors lead in: key sockets (bytes in, records out) and the packet walk.
#pragma once

#include "pfkey/message.hpp"
#include "pfkey/sad.hpp"
#include "pfkey/spd.hpp"
#include "pfkey/tunables.hpp"

#include <bitset>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>

namespace latchkey {

// Randomness of the host; tests pin it.
class Rng {
public:
    virtual ~Rng() = default;
    virtual void fill(MutableBytes out) = 0;
    std::uint32_t next32();
};

using KeySocketId = std::uint32_t;

struct KeySocketStats {
    std::uint64_t dropped = 0;      // records that did not fit the queue (never replies to the socket's own dump)
    std::size_t queued_bytes = 0;
};

struct EngineLimits {
    std::size_t queue_bytes = 256 * 1024;   // per key socket
    std::size_t max_sas = 1u << 20;
    std::size_t max_policies = 1u << 20;
    std::size_t max_key_sockets = 4096;
    std::size_t max_acquires = 1024;
    std::size_t batch_bytes = 128 * 1024 * 1024;   // of all messages that wait for their batch's commit
};

class Engine {
public:
    // wall_offset: seconds to add to `now` to get the time of day, for the times in messages.
    Engine(Rng& rng, std::int64_t wall_offset, EngineLimits limits = {});
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    // ---- key sockets -------------------------------------------------------------------------------------------
    Result<KeySocketId> open_key_socket();
    void close_key_socket(KeySocketId id);

    // One record from a client. An error means malformed: nothing was queued, send() fails with its errno. ENOBUFS: the
    // client has to read its queue before it asks for more. What is refused for another reason is answered, to the
    // sender alone and as Linux does it: the 16-byte header with sadb_msg_errno (and, for a client that has ever sent
    // SADB_X_EXT_REASON, the reason in words). Otherwise every reply is queued when this returns (a dump: its first
    // records; the rest follows as the queue drains). What an open batch (SADB_X_BATCH) keeps has no reply.
    Result<void> handle(KeySocketId from, Bytes record, Time now);

    // As handle(), for a client that cannot see an error of send() (a bare fd): malformed comes back as sadb_msg_errno.
    void handle_unsupervised(KeySocketId from, Bytes record, Time now);

    // The oldest queued record; empty if none. It stays valid until pop().
    Bytes front(KeySocketId id) const;
    void pop(KeySocketId id, Time now);           // also resumes a dump that waited for room
    KeySocketStats stats(KeySocketId id) const;
    std::string_view last_error(KeySocketId id) const;   // why its latest refused message was refused, in words
    // Every message that is refused, for a log (net.key.debug); must not call the engine.
    std::function<void(KeySocketId, std::uint8_t type, const Error& why)> on_refused;
    std::function<void(KeySocketId)> on_readable; // a record was queued on an empty queue; must not call the engine

    // ---- the packet walk ---------------------------------------------------------------------------------------
    const Policy* match(Direction direction, const Flow& flow, Time now);   // null: no policy
    Sa* inbound(std::uint8_t ip_protocol, const Address& destination, std::uint32_t spi);

    enum class Selection : std::uint8_t { found, acquiring, absent };
    struct Selected {
        Selection state;
        Sa* sa;                     // found only
        std::uint32_t acquire;      // acquiring only: the id (seq) of the pending ACQUIRE, for the hold queue;
                                    // 0: too many are pending, drop the packet
    };
    // The outbound SA for one request of a policy. source/destination: of the packet as that transform will see it
    // (in tunnel mode the tunnel's end points are taken from the request). Starts an ACQUIRE for level require and
    // unique when there is none; for level use the answer is `absent`.
    Selected outbound(const Policy& policy, const Request& request, const Flow& flow, const Address& source,
                      const Address& destination, Time now);

    // Counts one packet of `bytes` (RFC 2367 §2.3.3) and applies byte, allocation and use-time limits at once:
    // sends EXPIRE, makes the SA dying or removes it. The reference may be dead afterwards; do not touch it.
    // False: the packet must not be sent or delivered: it would exceed the hard limit (which ends the SA as well).
    bool charge(Sa& sa, std::size_t bytes, Time now);

    // Of a NAT: may UDP datagrams to this local address and port be ESP? (Some SA to there says so.)
    bool encapsulates(const Address& local, std::uint16_t port) const;
    // A packet of this SA came, with a good ICV, from another address or port than before: tells the key managers
    // (X_NAT_T_NEW_MAPPING, once per change).
    void peer_moved(Sa& sa, const Address& source, std::uint16_t port, Time now);

    // Which rows of algorithms[] the transforms can run, by index; at first every row that is offered().
    using AlgorithmSet = std::bitset<std::size(algorithms)>;
    void set_available(const AlgorithmSet& rows);

    // Moves whenever a policy or SA is added, changed or removed; decisions cached under another value are void.
    std::uint64_t generation() const;
    bool no_policies() const;
    bool selects_by_port(Direction direction) const;   // does any rule of this direction name ports or ICMP types?

    std::function<void(std::uint32_t acquire)> on_acquire_done;   // SA arrived, or the ACQUIRE failed or timed out

    // What a request's level means: `default` is a tunable per protocol, mode and family (of the packet it protects).
    Level level_of(const Request& request, Family family) const;

    // ---- time --------------------------------------------------------------------------------------------------
    void tick(Time now);            // lifetimes, larval and acquire time-outs; a bounded number per call
    Time next_deadline() const;     // Time::max(): nothing is pending

    // For looking. Entries put in here directly have no generation, timers or announcements; they must not be taken out
    // directly once they have been charged.
    Sad& sad();
    Spd& spd();
    Tunables& tunables();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace latchkey
