// SPDX-License-Identifier: BSD-2-Clause
// What the engine does between messages and packets: ACQUIREs, entering and leaving the tables, lifetimes.
#include "pfkey/engine_impl.hpp"
#include "pfkey/lifetimes.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace latchkey {

// ---- ACQUIRE ----------------------------------------------------------------------------------------------------

// One ACQUIRE per kind of SA; it is repeated after blockacq_count packets, and given up after blockacq_lifetime.
std::uint32_t Engine::Impl::acquire(const Policy& policy, const Wanted& wanted, Time now)
{
    PendingAcquire* pending = acquires.find(wanted);
    if (pending == nullptr) {
        pending = acquires.add(wanted);
        if (pending == nullptr)
            return 0;
        const auto patience = static_cast<std::uint64_t>(tunables.get(Tunable::key_blockacq_lifetime));
        deadlines.set(pending->timer, after_seconds(now, patience));
        send_acquire(*pending, policy);
    } else if (!pending->heard || pending->blocked >= tunables.get(Tunable::key_blockacq_count)) {
        send_acquire(*pending, policy);
    } else {
        ++pending->blocked;
    }
    return pending->id;
}

void Engine::Impl::send_acquire(PendingAcquire& pending, const Policy& policy)
{
    const auto satype = satype_of_protocol(pending.wanted.protocol).value_or(SADB_SATYPE_UNSPEC);
    pending.blocked = 0;
    pending.heard = sockets.anybody_registered(satype);
    if (!pending.heard)
        return;
    Message message;
    message.type = SADB_ACQUIRE;
    message.satype = satype;
    message.seq = pending.id;
    message.source = address_ext(pending.wanted.source);
    message.destination = address_ext(pending.wanted.destination);
    message.policy = PolicyExt{static_cast<std::uint16_t>(policy.action), static_cast<std::uint8_t>(policy.direction),
                               policy.id, policy.priority, {}};
    const bool ah = pending.wanted.protocol == ip_proto::ah;
    const auto key_min = tunables.get(ah ? Tunable::key_ah_keymin : Tunable::key_esp_keymin);
    message.proposal = proposal_for(pending.wanted.protocol, available,
                                    {static_cast<std::uint64_t>(key_min), tunables.get(Tunable::key_esp_auth) != 0});
    sockets.deliver(Recipients::registered, 0, satype, message.bytes());
}

void Engine::Impl::finish(PendingAcquire& pending)
{
    ended.push_back(pending.id);
    const Time at = pending.timer.at;
    deadlines.cancel(pending.timer);
    if (journal != nullptr)
        journal->changes.emplace_back(Journal::AcquireEnded{std::make_unique<PendingAcquire>(pending), at});
    acquires.erase(pending);
}

void Engine::Impl::notify()
{
    for (const auto id : std::exchange(ended, {}))
        if (host.on_acquire_done)
            host.on_acquire_done(id);
}

// ---- the tables and time ----------------------------------------------------------------------------------------

Sa& Engine::Impl::publish(std::unique_ptr<Sa> sa, Sa* replaces, Time now)
{
    sa->created = now;
    sa->current.addtime = wall(now);
    std::unique_ptr<Sa> old;
    if (replaces != nullptr) {
        leave(*replaces);
        sa->serial = replaces->serial;
        old = sad.take(*replaces);
    }
    Sa& published = old != nullptr ? sad.fill(std::move(sa)) : **sad.insert(std::move(sa));
    enter(published);
    generation += published.usable();
    if (journal != nullptr && old != nullptr)
        journal->changes.emplace_back(Journal::SaReplaced{std::move(old), &published});
    else if (journal != nullptr)
        journal->changes.emplace_back(Journal::SaAdded{&published});
    answer_acquires(published);
    return published;
}

void Engine::Impl::answer_acquires(Sa& sa)
{
    if (!sa.usable())
        return;
    while (PendingAcquire* answered = acquires.answered_by(sa)) {
        sa.acquire_seq = answered->id;
        finish(*answered);
    }
}

void Engine::Impl::erase(Sa& sa)
{
    generation += sa.usable();
    leave(sa);
    if (journal != nullptr)
        journal->changes.emplace_back(Journal::SaRemoved{sad.take(sa)});
    else
        sad.erase(sa);
}

void Engine::Impl::enter(Sa& sa)
{
    arm(sa);
}

void Engine::Impl::leave(Sa& sa)
{
    sa_deadlines.cancel(sa.timer);
}

Time Engine::Impl::deadline_of(const Sa& sa) const
{
    return next_limit(sa, static_cast<std::uint64_t>(tunables.get(Tunable::key_larval_lifetime)));
}

void Engine::Impl::arm(Sa& sa)
{
    sa.timer.sa = &sa;
    sa_deadlines.set(sa.timer, deadline_of(sa));
}

void Engine::Impl::arm(const Policy& policy)
{
    const Time at = next_limit(policy);
    if (at == Time::max())
        return;
    Timer& timer = policy_timers[policy.id];
    timer.kind = Timer::Kind::policy;
    timer.id = policy.id;
    deadlines.set(timer, at);
}

void Engine::tick(Time now)
{
    constexpr int at_once = 4096;   // the reactor serves packets between two calls
    for (int i = 0; i < at_once; ++i) {
        Timer* timer = impl_->sa_deadlines.due(now);
        if (timer == nullptr)
            timer = impl_->deadlines.due(now);
        if (timer == nullptr)
            break;
        impl_->fire(*timer, now);
    }
    impl_->bury();
    impl_->notify();
}

Time Engine::next_deadline() const
{
    if (!impl_->graveyard.empty() || !impl_->dead_policies.empty())
        return Time{0};
    return std::min(impl_->sa_deadlines.next(), impl_->deadlines.next());
}

void Engine::Impl::bury()
{
    constexpr std::size_t at_once = 1024;
    graveyard.resize(graveyard.size() - std::min(graveyard.size(), at_once));
    if (graveyard.empty())
        graveyard.shrink_to_fit();
    for (std::size_t left = at_once; left != 0 && !dead_policies.empty();)
        if (dead_policies.back()->wither(left))
            dead_policies.pop_back();
}

void Engine::Impl::bury_all(std::vector<std::unique_ptr<Sa>> flushed)
{
    if (graveyard.empty())
        graveyard = std::move(flushed);
    else
        std::ranges::move(flushed, std::back_inserter(graveyard));
}

void Engine::Impl::fire(Timer& timer, Time now)
{
    switch (timer.kind) {
    case Timer::Kind::sa: enforce(*timer.sa, now); return;
    case Timer::Kind::policy: fire_policy(*spd.find(timer.id), now); return;
    case Timer::Kind::acquire: finish(*acquires.find(timer.id)); return;
    }
}

bool Engine::Impl::enforce(Sa& sa, Time now)
{
    if (sa.state == SaState::larval) {   // its keys never came
        erase(sa);
        return false;
    }
    if (hard_reached(sa, now)) {
        expire(sa, true);
        return false;
    }
    if (sa.state == SaState::mature && soft_reached(sa, now))
        expire(sa, false);
    arm(sa);
    return true;
}

// RFC 2367 §3.1.8: one EXPIRE per limit, with the limit that was reached.
void Engine::Impl::expire(Sa& sa, bool hard)
{
    sad.set_state(sa, hard ? SaState::dead : SaState::dying);
    ++generation;
    Message message;
    message.type = SADB_EXPIRE;
    message.satype = satype_of_protocol(sa.protocol).value_or(SADB_SATYPE_UNSPEC);
    message.seq = sa.message_seq;
    describe(sa, message);
    message.hard = hard ? std::optional(sa.hard) : std::nullopt;
    message.soft = hard ? std::nullopt : std::optional(sa.soft);
    sockets.deliver(Recipients::registered, 0, message.satype, message.bytes());
    if (hard)
        erase(sa);
}

// As Linux says it: SRC and SPORT are the old place of the peer, DST and DPORT the new one.
void Engine::Impl::announce_mapping(const Sa& sa)
{
    Message message;
    message.type = SADB_X_NAT_T_NEW_MAPPING;
    message.satype = SADB_SATYPE_ESP;
    message.seq = sa.message_seq;
    message.sa = SaExt{.spi = sa.spi};
    message.source = address_ext(sa.source);
    message.destination = address_ext(sa.natt->seen.address);
    message.natt_source_port = sa.natt->source_port;
    message.natt_destination_port = sa.natt->seen.port;
    sockets.deliver(Recipients::registered, 0, message.satype, message.bytes());
}

void Engine::peer_moved(Sa& sa, const Address& source, std::uint16_t port, Time)
{
    if (sa.natt == nullptr)
        return;
    const Endpoint from{source, port, 0};
    const bool at_home = source == sa.source && port == sa.natt->source_port;
    if (from == sa.natt->seen || (at_home && sa.natt->seen == Endpoint{}))
        return;
    sa.natt->seen = at_home ? Endpoint{} : from;
    if (!at_home)
        impl_->announce_mapping(sa);
}

void Engine::Impl::fire_policy(const Policy& policy, Time now)
{
    if (const Time at = next_limit(policy); at > now) {   // it was used since
        deadlines.set(policy_timers.at(policy.id), at);
        return;
    }
    Message message;
    message.type = SADB_X_SPDEXPIRE;
    describe(policy, message);
    sockets.deliver(Recipients::registered, 0, SADB_SATYPE_UNSPEC, message.bytes());
    erase(policy);
}

}  // namespace latchkey
