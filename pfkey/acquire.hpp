// SPDX-License-Identifier: BSD-2-Clause
// ACQUIREs that wait for a key manager: one per kind of SA that was missing, so that a flood of packets asks once.
// Used by the engine only.
#pragma once

#include "pfkey/deadlines.hpp"
#include "pfkey/flat_index.hpp"
#include "pfkey/message.hpp"
#include "pfkey/offer.hpp"

#include <unordered_map>

namespace latchkey {

// What SA is wanted.
struct Wanted {
    std::uint8_t protocol = ip_proto::esp;
    Mode mode = Mode::transport;
    std::uint32_t reqid = 0;   // 0: any
    Address source, destination;
    bool operator==(const Wanted&) const = default;
};

struct PendingAcquire {
    std::uint32_t id = 0;         // sadb_msg_seq of the ACQUIRE
    Wanted wanted;
    std::int64_t blocked = 0;     // packets since the ACQUIRE was last sent
    bool heard = false;           // a key manager was there to hear it
    Timer timer;
};

class Acquires {
public:
    explicit Acquires(std::size_t limit) : limit_(limit) {}

    PendingAcquire* find(std::uint32_t id);
    PendingAcquire* find(const Wanted& wanted);
    PendingAcquire* add(const Wanted& wanted);   // null: the limit is reached
    void erase(PendingAcquire& pending);         // its timer is cancelled already
    PendingAcquire& restore(const PendingAcquire& erased);   // with its old id; its timer is not set
    std::size_t size() const { return by_id_.size(); }

    // The pending ACQUIRE that this SA answers: by its seq and end points, or because it fits. Null if none.
    PendingAcquire* answered_by(const Sa& sa);

private:
    std::unordered_map<std::uint32_t, PendingAcquire> by_id_;
    FlatIndex<PendingAcquire*> by_wanted_;
    std::size_t limit_;
    std::uint32_t last_ = 0;
};

// What an ACQUIRE may propose: the tunables esp_keymin, ah_keymin and esp_auth.
struct ProposalRules {
    std::uint64_t key_min = 0;      // bits, without the salt; an algorithm that has no choice is proposed as it is
    bool authenticated = false;     // never encryption alone
};

// The algorithms that this host offers for a protocol, as ACQUIRE proposes them: combined modes first, then every
// cipher with every authentication algorithm, then encryption alone; nothing legacy, no null.
ProposalExt proposal_for(std::uint8_t protocol, const AlgorithmSet& offered, const ProposalRules& rules);

}  // namespace latchkey
