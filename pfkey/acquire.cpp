// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/acquire.hpp"

namespace latchkey {

namespace {

std::uint64_t hash_of(const Wanted& w)
{
    return mix(w.source.hash() * 3 + w.destination.hash() +
               (std::uint64_t{w.reqid} << 16 | std::uint64_t{w.protocol} << 8 | static_cast<std::uint8_t>(w.mode)));
}

bool proposable(const Algorithm& row, AlgorithmKind kind)
{
    return row.kind == kind && row.offered() && row.primitive != Primitive::null && !row.legacy;
}

Combination combination(const Algorithm* cipher, const Algorithm* auth)
{
    // Life times as Linux proposes them: hard 24 h and 8 h of use, soft a little before.
    Combination c;
    c.hard = {0, 0, 86'400, 28'800};
    c.soft = {0, 0, 72'000, 25'200};
    if (cipher != nullptr) {
        c.encrypt = cipher->sadb_id;
        c.encrypt_min = cipher->key_min;
        c.encrypt_max = cipher->key_max;
    }
    if (auth != nullptr) {
        c.auth = auth->sadb_id;
        c.auth_min = auth->key_min;
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

PendingAcquire* Acquires::answered_by(const Sa& sa)
{
    if (by_id_.empty())
        return nullptr;
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

ProposalExt proposal_for(std::uint8_t protocol)
{
    ProposalExt proposal;
    proposal.replay = IPSEC_REPLAYWSIZE;
    auto& out = proposal.combinations;
    if (protocol == ip_proto::esp) {
        for (const auto& aead : algorithms)
            if (proposable(aead, AlgorithmKind::aead))
                out.push_back(combination(&aead, nullptr));
        for (const auto& cipher : algorithms)
            for (const auto& auth : algorithms)
                if (proposable(cipher, AlgorithmKind::cipher) && proposable(auth, AlgorithmKind::auth))
                    out.push_back(combination(&cipher, &auth));
    } else if (protocol == ip_proto::ah) {
        for (const auto& auth : algorithms)
            if (proposable(auth, AlgorithmKind::auth))
                out.push_back(combination(nullptr, &auth));
    }
    return proposal;
}

}  // namespace latchkey
