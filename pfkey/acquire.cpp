// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/acquire.hpp"

#include <algorithm>

namespace latchkey {

namespace {

std::uint64_t hash_of(const Wanted& w)
{
    return mix(w.source.hash() * 3 + w.destination.hash() +
               (std::uint64_t{w.reqid} << 16 | std::uint64_t{w.protocol} << 8 | static_cast<std::uint8_t>(w.mode)));
}

// An SA from or to any address serves many that were asked for (Sad::outbound).
bool fits_wildcard(const Sa& sa, const Wanted& w)
{
    const auto fits = [](const Address& has, const Address& wanted) {
        return has == wanted || has == Address::any(wanted.family());
    };
    return w.protocol == sa.protocol && fits(sa.source, w.source) && fits(sa.destination, w.destination) &&
           (sa.mode == Mode::any || sa.mode == w.mode) && (w.reqid == 0 || w.reqid == sa.reqid);
}

std::vector<const Algorithm*> proposable(AlgorithmKind kind, const AlgorithmSet& offered)
{
    std::vector<const Algorithm*> rows;
    for (const auto& row : algorithms)
        if (row.kind == kind && offers(offered, row) && row.primitive != Primitive::null && !row.legacy)
            rows.push_back(&row);
    return rows;
}

// The shortest length that is long enough, or the longest if none is.
std::uint16_t shortest_key(const Algorithm& row, std::uint64_t wanted)
{
    unsigned bits = row.key_min;
    while (bits < row.key_max && bits - row.salt * 8u < wanted)
        bits += row.key_step;
    return static_cast<std::uint16_t>(bits);
}

Combination combination(const Algorithm* cipher, const Algorithm* auth, std::uint64_t key_min)
{
    // Life times as Linux proposes them: hard 24 h and 8 h of use, soft a little before.
    Combination c;
    c.hard = {0, 0, 86'400, 28'800};
    c.soft = {0, 0, 72'000, 25'200};
    if (cipher != nullptr) {
        c.encrypt = cipher->sadb_id;
        c.encrypt_min = shortest_key(*cipher, key_min);
        c.encrypt_max = cipher->key_max;
    }
    if (auth != nullptr) {
        c.auth = auth->sadb_id;
        c.auth_min = cipher == nullptr ? shortest_key(*auth, key_min) : auth->key_min;
        c.auth_max = auth->key_max;
    }
    return c;
}

}  // namespace

PendingAcquire* Acquires::find(std::uint32_t id)
{
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : &found->second;
}

PendingAcquire* Acquires::find(const Wanted& wanted)
{
    auto* found = by_wanted_.find(hash_of(wanted), [&](const PendingAcquire* p) { return p->wanted == wanted; });
    return found == nullptr ? nullptr : *found;
}

PendingAcquire* Acquires::add(const Wanted& wanted)
{
    if (by_id_.size() >= limit_)
        return nullptr;
    do
        ++last_;
    while (last_ == 0 || by_id_.contains(last_));
    PendingAcquire& pending = by_id_[last_];
    pending.id = last_;
    pending.wanted = wanted;
    pending.timer.kind = Timer::Kind::acquire;
    pending.timer.id = last_;
    by_wanted_.insert(hash_of(wanted), &pending);
    return &pending;
}

void Acquires::erase(PendingAcquire& pending)
{
    by_wanted_.erase(hash_of(pending.wanted), [&](const PendingAcquire* p) { return p == &pending; });
    by_id_.erase(pending.id);
}

PendingAcquire& Acquires::restore(const PendingAcquire& erased)
{
    PendingAcquire& pending = by_id_[erased.id] = erased;
    by_wanted_.insert(hash_of(pending.wanted), &pending);
    return pending;
}

PendingAcquire* Acquires::answered_by(const Sa& sa)
{
    if (by_id_.empty())
        return nullptr;
    if (sa.source.is_unspecified() || sa.destination.is_unspecified()) {
        const auto fitting = std::ranges::find_if(by_id_, [&](const auto& entry) {
            return fits_wildcard(sa, entry.second.wanted);
        });
        return fitting == by_id_.end() ? nullptr : &fitting->second;
    }
    if (PendingAcquire* asked = sa.message_seq == 0 ? nullptr : find(sa.message_seq)) {
        const Wanted& w = asked->wanted;
        if (w.protocol == sa.protocol && w.source == sa.source && w.destination == sa.destination)
            return asked;
    }
    for (const Mode mode : {Mode::transport, Mode::tunnel}) {
        if (sa.mode != Mode::any && sa.mode != mode)
            continue;
        for (const std::uint32_t reqid : {sa.reqid, std::uint32_t{0}})
            if (PendingAcquire* fitting = find({sa.protocol, mode, reqid, sa.source, sa.destination}))
                return fitting;
    }
    return nullptr;
}

ProposalExt proposal_for(std::uint8_t protocol, const AlgorithmSet& offered, const ProposalRules& rules)
{
    ProposalExt proposal;
    proposal.replay = IPSEC_REPLAYWSIZE;
    const auto propose = [&](const Algorithm* cipher, const Algorithm* auth) {
        proposal.combinations.push_back(combination(cipher, auth, rules.key_min));
    };
    if (protocol == ip_proto::esp) {
        const auto ciphers = proposable(AlgorithmKind::cipher, offered);
        const auto auths = proposable(AlgorithmKind::auth, offered);
        for (const auto* aead : proposable(AlgorithmKind::aead, offered))
            if (aead->primitive != Primitive::aes_gmac)   // authenticates, but does not encrypt
                propose(aead, nullptr);
        for (const auto* cipher : ciphers)
            for (const auto* auth : auths)
                propose(cipher, auth);
        if (!rules.authenticated)
            for (const auto* cipher : ciphers)
                propose(cipher, nullptr);
    } else if (protocol == ip_proto::ah) {
        for (const auto* auth : proposable(AlgorithmKind::auth, offered))
            if (auth->key_max >= rules.key_min)   // as KAME: what cannot be long enough is left out
                propose(nullptr, auth);
    } else {
        for (const auto* compression : proposable(AlgorithmKind::compression, offered))
            propose(compression, nullptr);   // as KAME
    }
    return proposal;
}

}  // namespace latchkey
