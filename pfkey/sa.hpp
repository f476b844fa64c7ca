// SPDX-License-Identifier: BSD-2-Clause
// A security association. The SAD owns it; the walk borrows a reference for one packet and is the one owner of
// the mutable parts (sequence, window, counters).
#pragma once

#include "pfkey/algorithms.hpp"
#include "pfkey/deadlines.hpp"
#include "pfkey/policy.hpp"
#include "pfkey/replay.hpp"
#include "pfkey/secret.hpp"

#include <memory>
#include <optional>
#include <string>

namespace latchkey {

enum class SaState : std::uint8_t {
    larval = SADB_SASTATE_LARVAL,
    mature = SADB_SASTATE_MATURE,
    dying = SADB_SASTATE_DYING,
    dead = SADB_SASTATE_DEAD,
};

struct Lifetime {   // 0 in a field: no limit
    std::uint32_t allocations = 0;
    std::uint64_t bytes = 0;
    std::uint64_t addtime = 0;   // seconds; in `current` seconds since 1970
    std::uint64_t usetime = 0;
    bool operator==(const Lifetime&) const = default;
};

struct Identity {
    std::uint16_t type = 0;      // SADB_IDENTTYPE_*
    std::uint64_t id = 0;
    std::string text;
    bool operator==(const Identity&) const = default;
};

// The keyed cipher contexts of an SA, made by the transform at first use. pfkey/ knows only that they can be destroyed.
struct SaContext {
    virtual ~SaContext() = default;
};

// ESP in UDP (RFC 3948), as the SADB_X_EXT_NAT_T_* extensions say it. Ports in host order, of the outer UDP header as
// this SA's packets carry it; only SAs behind a NAT have one of these.
struct NatTraversal {
    std::uint8_t type = 0;                       // UDP_ENCAP_ESPINUDP (2), UDP_ENCAP_ESPINUDP_NON_IKE (1)
    std::uint16_t source_port = 0, destination_port = 0;
    std::optional<Address> original;             // NAT_T_OA: the initiator's address before NAT
    std::optional<Address> original_remote;      // NAT_T_OAR: the responder's
    std::uint16_t fragment = 0;                  // NAT_T_FRAG: cut before encapsulation to this many bytes, 0: do not
    Endpoint seen;                               // where the peer sends from by now, if elsewhere: announced already
    bool operator==(const NatTraversal&) const = default;
};

struct SaLink {
    Sa* next = nullptr;
    Sa* previous = nullptr;
};

struct Sa {
    std::uint32_t spi = 0;                       // host order
    std::uint8_t protocol = ip_proto::esp;       // esp, ah, ipcomp
    Mode mode = Mode::any;
    SaState state = SaState::larval;
    Address source;
    Address destination;
    std::uint32_t reqid = 0;
    std::uint32_t flags = 0;                     // SADB_X_EXT_*, SADB_X_SAFLAGS_*

    const Algorithm* cipher = nullptr;           // cipher, aead or (IPComp) compression; null for AH and for larval SAs
    const Algorithm* auth = nullptr;             // null with an aead
    SecretBytes cipher_key;                      // salt included, as in PF_KEY
    SecretBytes auth_key;

    std::uint64_t sequence = 0;                  // last one sent
    ReplayWindow replay;
    Lifetime current, hard, soft;                // current.addtime/usetime are wall-clock, for messages
    Time created{0};                             // monotonic, for limits
    Time first_use{0};                           // 0: never used
    std::optional<Identity> source_identity, destination_identity;
    std::optional<Prefix> proxy;
    std::unique_ptr<NatTraversal> natt;          // null: plain ESP
    std::uint32_t message_seq = 0;               // sadb_msg_seq and pid of the message that made it
    std::uint32_t message_pid = 0;
    std::uint32_t acquire_seq = 0;               // of the ACQUIRE it answers, 0: none

    std::unique_ptr<SaContext> context;

    // Bookkeeping of the SAD (links, serial) and of the engine (timer); nobody else's business.
    SaLink peer_link, reqid_link;
    std::uint64_t serial = 0;
    Timer timer;

    bool extended() const { return (flags & SADB_X_SAFLAGS_ESN) != 0; }   // 64-bit sequence numbers (RFC 4303 §2.2.1)
    bool usable() const { return state == SaState::mature || state == SaState::dying; }

    // A counter mode must never repeat a number under one key, so CYCSEQ (setkey's default) cannot excuse it there
    // (RFC 3686 §2.1, RFC 4106 §2); 64-bit numbers never come round.
    std::uint64_t last_sequence() const { return extended() ? ~std::uint64_t{0} : 0xffff'ffff; }
    bool uses_counter() const { return cipher != nullptr && cipher->counts(); }
    bool may_cycle() const { return (flags & SADB_X_EXT_CYCSEQ) != 0 && !extended() && !uses_counter(); }
};

}  // namespace latchkey
