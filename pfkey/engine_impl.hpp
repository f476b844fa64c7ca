// SPDX-License-Identifier: BSD-2-Clause
// The inside of the engine, shared by engine.cpp (doors, dispatch, dumps), handlers_sa.cpp, handlers_spd.cpp,
// handlers_migrate.cpp, batch.cpp, upkeep.cpp and describe.cpp. Nobody else includes it.
#pragma once

#include "pfkey/acquire.hpp"
#include "pfkey/batch.hpp"
#include "pfkey/deadlines.hpp"
#include "pfkey/engine.hpp"
#include "pfkey/key_socket.hpp"
#include "pfkey/offer.hpp"

#include <unordered_map>
#include <vector>

namespace latchkey {

// What a message's satype may be (KAME, checked before anything else).
enum class SatypeRule : std::uint8_t {
    transform,     // AH, ESP or IPComp
    any,           // one of those, or 0 for all
    none,          // 0
    other,         // X_PROMISC and X_BATCH use the field for something else
};

// One request on its way through a handler.
struct Call {
    KeySocketId from;
    const Message& message;
    std::uint64_t present;   // extension_bit() of each extension that came
    std::uint8_t protocol;   // of message.satype, 0: unspecified
    Time now;
};

struct Engine::Impl {
    Impl(Engine& engine, Rng& random, std::int64_t offset, EngineLimits bounds);

    // A handler fills the reply, whose header is set already; its views may point into the call's message or into an SA
    // that outlives the handler. An error is answered with its errno.
    using Handler = Result<void> (Impl::*)(const Call&, Message& reply);

    // One row per message, in engine.cpp.
    struct Row {
        std::uint8_t type;
        SatypeRule satype;
        std::uint64_t required;    // extensions
        std::string_view needs;    // the reason given when one of them is missing
        Recipients recipients;     // of the answer; errors go to the sender alone
        Handler run;
        bool kept = false;         // changes the tables: a batch keeps it until the commit
    };
    static const Row& row_of(std::uint8_t type);

    // handlers_sa.cpp
    Result<void> getspi(const Call&, Message& reply);
    Result<void> update(const Call&, Message& reply);
    Result<void> add(const Call&, Message& reply);
    Result<void> remove(const Call&, Message& reply);
    Result<void> get(const Call&, Message& reply);
    Result<void> acquire_by_user(const Call&, Message& reply);
    Result<void> enrol(const Call&, Message& reply);
    Result<void> flush(const Call&, Message& reply);
    Result<void> dump(const Call&, Message& reply);
    Result<void> promisc(const Call&, Message& reply);
    Result<Sa*> existing(const Call& call);   // the SA that the message names; ESRCH
    Result<void> update_mature(const Call& call, Sa& sa);
    Sa* exact(std::uint8_t protocol, const Address& destination, std::uint32_t spi, const Sa* but = nullptr) const;
    Result<std::uint32_t> pick_spi(std::uint8_t protocol, const Address& destination, std::uint32_t low,
                                   std::uint32_t high);

    // handlers_spd.cpp
    Result<void> spd_add(const Call&, Message& reply);   // SPDADD, SPDUPDATE, SPDSETIDX
    Result<void> spd_delete(const Call&, Message& reply);
    Result<void> spd_delete_id(const Call&, Message& reply);
    Result<void> spd_get(const Call&, Message& reply);
    Result<void> spd_dump(const Call&, Message& reply);
    Result<void> spd_flush(const Call&, Message& reply);
    std::uint32_t next_policy_id(Direction direction);
    std::uint32_t next_reqid();
    const Policy& publish(Policy policy, const Policy* replaces);
    void erase(const Policy& policy);
    void enter(const Policy& policy);               // what the engine keeps beside a policy of the SPD: its timer ...
    void leave(const Policy& policy);

    // handlers_migrate.cpp
    Result<void> migrate(const Call&, Message& reply);
    void announce_migration(KeySocketId from, const Message& reply);
    void move(Sa& sa, const Address& source, const Address& destination);

    // batch.cpp
    struct Counters {
        std::uint64_t serial, order;
        std::uint32_t policy, reqid;
    };
    Result<void> batch(const Call&, Message& reply);
    Result<void> keep(Batch& batch, Bytes record);
    Batch close_batch(KeySocket& socket);
    Result<void> commit(const Call& call, const Batch& batch);
    Result<void> apply(const Call& commit, const Message& message);
    void conclude(KeySocketId from, Journal& done);
    void remember(Sa& sa);                          // the SA stays, but is about to change
    void clear_sad();
    void clear_spd();
    void undo(Journal& failed, const Counters& before);
    void undo(Journal::SaAdded&);
    void undo(Journal::SaRemoved&);
    void undo(Journal::SaReplaced&);
    void undo(Journal::SaChanged&);
    void undo(Journal::SadFlushed&);
    void undo(Journal::AcquireEnded&);
    void undo(Journal::PolicyAdded&);
    void undo(Journal::PolicyRemoved&);
    void undo(Journal::SpdFlushed&);

    // engine.cpp
    Result<void> not_from_users(const Call&, Message& reply);
    Result<void> handle(KeySocketId from, Bytes record, Time now);
    Result<void> run(KeySocketId from, const Message& message, Time now, Message& reply);
    Result<void> take(KeySocketId from, Bytes record, Time now);
    void tell_refused(KeySocketId from, std::uint8_t type, const Error& error) const;
    void answer_error(KeySocketId to, MessageHeader header, const Error& error);
    void pump(KeySocketId id, KeySocket& socket);   // the next records of a dump, as far as there is room
    bool next_of_dump(KeySocket& socket, Record& out);
    Result<void> start_dump(KeySocketId id, Dump dump);

    // upkeep.cpp: the tables.
    Sa& publish(std::unique_ptr<Sa> sa, Sa* replaces, Time now);
    void erase(Sa& sa);
    void enter(Sa& sa);                             // what the engine keeps beside an SA of the SAD: its timer ...
    void leave(Sa& sa);
    void answer_acquires(Sa& sa);                   // those that were waiting for an SA like this

    // upkeep.cpp: time.
    void arm(Sa& sa);
    Time deadline_of(const Sa& sa) const;
    void arm(const Policy& policy);
    bool enforce(Sa& sa, Time now);                 // applies limits that are reached; false: the SA is gone
    void expire(Sa& sa, bool hard);
    void announce_mapping(const Sa& sa);
    void fire(Timer& timer, Time now);
    void bury();                                    // frees some of what was flushed
    void bury_all(std::vector<std::unique_ptr<Sa>> flushed);
    void fire_policy(const Policy& policy, Time now);

    // upkeep.cpp: ACQUIRE.
    std::uint32_t acquire(const Policy& policy, const Wanted& wanted, Time now);
    void send_acquire(PendingAcquire& pending, const Policy& policy);
    void finish(PendingAcquire& pending);
    void notify();                                  // tells the walk which ACQUIREs ended, when all state is settled

    // describe.cpp: what a message says of an SA, a policy or an address.
    std::uint64_t wall(Time at) const;              // seconds since 1970
    void describe(const Sa& sa, Message& out) const;
    static SaExt sa_ext(const Sa& sa);
    static void describe_natt(const Sa& sa, Message& out);
    void describe_keys(const Sa& sa, Message& out) const;
    void describe(const Policy& policy, Message& out) const;
    static AddressExt address_ext(const Address& address);

    Engine& host;
    Rng& rng;
    std::int64_t wall_offset;
    EngineLimits limits;
    Tunables tunables;
    AlgorithmSet available = runnable_algorithms();
    Sad sad;
    Spd spd;
    KeySockets sockets;
    Acquires acquires;
    Deadlines sa_deadlines, deadlines;                        // of SAs; of policies and ACQUIREs
    std::vector<std::unique_ptr<Sa>> graveyard;               // flushed SAs, freed little by little
    std::vector<std::unique_ptr<Spd>> dead_policies;          // the same
    Journal* journal = nullptr;                               // while a batch is committed
    std::size_t batch_bytes = 0;                              // of all batches that are open
    std::unordered_map<std::uint32_t, Timer> policy_timers;   // by id, only of policies that expire
    std::unordered_map<std::uint32_t, std::uint32_t> unique_reqids;   // above the manual ones, and by how many requests
    std::vector<std::uint32_t> ended;                         // ACQUIREs for notify()
    std::uint64_t generation = 1;
    std::uint32_t last_policy = 0;
    std::uint32_t last_reqid = IPSEC_MANUAL_REQID_MAX;
};

// What SPD messages have in common (handlers_spd.cpp).
Result<Direction> direction_of(const PolicyExt& policy);
Result<Selector> selector_of(const Message& message);
constexpr bool protocol_is_transform(std::uint8_t protocol)
{
    return protocol == ip_proto::esp || protocol == ip_proto::ah || protocol == ip_proto::ipcomp;
}

constexpr std::uint64_t extension_bit(unsigned type)
{
    return std::uint64_t{1} << (type < SADB_X_EXT_NAT_T_OAR ? type : type - SADB_X_EXT_NAT_T_OAR + SADB_EXT_MAX + 1);
}

}  // namespace latchkey
