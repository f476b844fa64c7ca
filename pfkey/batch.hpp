// SPDX-License-Identifier: BSD-2-Clause
// Messages that apply all or not at all (SADB_X_BATCH). A key socket keeps them in a Batch until the commit; while the
// commit runs, every change of the tables leaves in a Journal what undoes it. Used by the engine only.
#pragma once

#include "pfkey/acquire.hpp"
#include "pfkey/sad.hpp"
#include "pfkey/spd.hpp"

#include <variant>
#include <vector>

namespace latchkey {

using Record = std::vector<std::uint8_t>;

enum class Recipients : std::uint8_t {
    one,          // the sender
    registered,   // the sender and every socket registered for the SA type (satype 0: for any)
    all,          // every key socket
};

struct Batch {
    std::vector<SecretBytes> messages;   // well-formed; some hold keys
    std::size_t bytes = 0;               // what they cost the host
    bool broken = false;                 // a message was refused when it came: there is nothing whole to commit
};

// What an UPDATE or MIGRATE may change of an SA that stays.
struct SaBefore {
    explicit SaBefore(Sa& of);

    Sa& sa;
    SaState state;
    Lifetime hard, soft;
    Address source, destination;
    std::unique_ptr<NatTraversal> natt;
    SaLink peer_link, reqid_link;
    std::uint32_t acquire_seq;
};

struct Journal {
    struct SaAdded { Sa* sa; };
    struct SaRemoved { std::unique_ptr<Sa> sa; };
    struct SaReplaced { std::unique_ptr<Sa> old; Sa* now; };
    struct SaChanged { std::unique_ptr<SaBefore> before; };
    struct SadFlushed { std::unique_ptr<Sad> all; Deadlines deadlines; };
    struct AcquireEnded { std::unique_ptr<PendingAcquire> pending; Time at; };
    struct PolicyAdded { const Policy* policy; };
    struct PolicyRemoved { Spd::Taken policy; };
    struct SpdFlushed { std::unique_ptr<Spd> all; };
    using Change = std::variant<SaAdded, SaRemoved, SaReplaced, SaChanged, SadFlushed, AcquireEnded, PolicyAdded,
                                PolicyRemoved, SpdFlushed>;

    struct Announcement {
        Recipients to;
        std::uint8_t satype;
        Record record;
    };

    std::vector<Change> changes;
    std::vector<Announcement> announcements;   // of what succeeded; nobody hears of it before all has
};

}  // namespace latchkey
