// SPDX-License-Identifier: BSD-2-Clause
// SADB_X_BATCH: begin, commit, abandon; and the undoing of a commit that failed.
#include "pfkey/batch.hpp"

#include "pfkey/engine_impl.hpp"

#include <utility>

namespace latchkey {

SaBefore::SaBefore(Sa& of)
    : sa(of), state(of.state), hard(of.hard), soft(of.soft), source(of.source), destination(of.destination),
      natt(of.natt == nullptr ? nullptr : std::make_unique<NatTraversal>(*of.natt)), peer_link(of.peer_link),
      reqid_link(of.reqid_link), acquire_seq(of.acquire_seq)
{
}

Result<void> Engine::Impl::batch(const Call& call, Message&)
{
    KeySocket& socket = *sockets.find(call.from);
    const std::uint8_t step = call.message.satype;
    if (step == SADB_X_BATCH_BEGIN) {
        if (socket.batch)
            return fail(Errc::busy, "a batch is open on this socket already");
        socket.batch.emplace();
        return {};
    }
    if (step != SADB_X_BATCH_COMMIT && step != SADB_X_BATCH_ABANDON)
        return fail(Errc::bad_value, "X_BATCH takes satype 1 (begin), 2 (commit) or 3 (abandon)");
    if (!socket.batch)
        return fail(Errc::bad_value, "no batch is open on this socket");
    const Batch taken = close_batch(socket);
    return step == SADB_X_BATCH_COMMIT ? commit(call, taken) : Result<void>{};
}

Batch Engine::Impl::close_batch(KeySocket& socket)
{
    Batch taken = std::move(*socket.batch);
    socket.batch.reset();
    batch_bytes -= taken.bytes;
    return taken;
}

// The limit is one for all sockets, or many batches that are never committed would have none.
Result<void> Engine::Impl::keep(Batch& batch, Bytes record)
{
    const std::size_t cost = record.size() + sizeof(SecretBytes) + 32;   // and what the allocator adds
    if (batch_bytes + cost > limits.batch_bytes) {
        batch.broken = true;
        return fail(Errc::no_memory, "the batches that wait for their commit are too large");
    }
    batch.messages.emplace_back(record);
    batch.bytes += cost;
    batch_bytes += cost;
    return {};
}

Result<void> Engine::Impl::commit(const Call& call, const Batch& batch)
{
    if (batch.broken)
        return fail(Errc::bad_value, "a message of the batch was refused when it was sent", ECANCELED);
    Journal changes;
    const Counters before{sad.last_serial(), spd.last_order(), last_policy, last_reqid};
    for (const auto& record : batch.messages) {
        journal = &changes;
        const auto done = apply(call, *Message::parse(record.bytes()));
        journal = nullptr;
        if (done)
            continue;
        undo(changes, before);
        answer_error(call.from, *peek_header(record.bytes()), done.error());
        return fail(done.error().code, done.error().reason, ECANCELED);
    }
    conclude(call.from, changes);
    return {};
}

Result<void> Engine::Impl::apply(const Call& commit, const Message& message)
{
    Message reply;
    const auto done = run(commit.from, message, commit.now, reply);
    if (done && sockets.anybody_listens_to(commit.from))
        journal->announcements.push_back({row_of(message.type).recipients, reply.satype, reply.bytes()});
    return done;
}

void Engine::Impl::conclude(KeySocketId from, Journal& done)
{
    for (auto& change : done.changes)
        if (auto* removed = std::get_if<Journal::SaRemoved>(&change))
            graveyard.push_back(std::move(removed->sa));
        else if (auto* flushed = std::get_if<Journal::SadFlushed>(&change))
            bury_all(flushed->all->clear());
        else if (auto* policies = std::get_if<Journal::SpdFlushed>(&change))
            dead_policies.push_back(std::move(policies->all));
    sad.settle();
    for (const auto& announcement : done.announcements)
        sockets.announce(announcement.to, from, announcement.satype, announcement.record);
}

// ---- changes, and how they are undone -------------------------------------------------------------------------------

void Engine::Impl::remember(Sa& sa)
{
    if (journal != nullptr)
        journal->changes.emplace_back(Journal::SaChanged{std::make_unique<SaBefore>(sa)});
}

// A table that is small is emptied entry by entry: a flush that finds little must cost little, also to keep for undoing.
constexpr std::size_t small_table = 64;

void Engine::Impl::clear_sad()
{
    if (sad.size() < small_table) {
        std::uint64_t cursor = 0;
        while (Sa* sa = sad.next(cursor, 0))
            erase(*sa);
        return;
    }
    generation += sad.size() != 0;
    if (journal != nullptr) {
        auto all = std::make_unique<Sad>();
        sad.set_aside(*all);
        journal->changes.emplace_back(Journal::SadFlushed{std::move(all), std::exchange(sa_deadlines, {})});
        return;
    }
    sa_deadlines.clear();
    bury_all(sad.clear());
    bury();
}

void Engine::Impl::clear_spd()
{
    if (spd.size() < small_table) {
        Spd::Cursor cursor;
        while (const Policy* policy = spd.next(cursor))
            erase(*policy);
        return;
    }
    for (auto& [id, timer] : policy_timers)
        deadlines.cancel(timer);
    policy_timers.clear();
    unique_reqids.clear();
    generation += spd.size() != 0;
    auto all = std::make_unique<Spd>();
    spd.set_aside(*all);
    if (journal != nullptr)
        journal->changes.emplace_back(Journal::SpdFlushed{std::move(all)});
    else
        dead_policies.push_back(std::move(all));
}

void Engine::Impl::undo(Journal& failed, const Counters& before)
{
    while (!failed.changes.empty()) {
        std::visit([this](auto& change) { undo(change); }, failed.changes.back());
        failed.changes.pop_back();
    }
    sad.rewind(before.serial);
    sad.settle();
    spd.rewind(before.order);
    last_policy = before.policy;
    last_reqid = before.reqid;
    ++generation;   // what was cached of the state between was not, but references may be
}

void Engine::Impl::undo(Journal::SaAdded& added)
{
    leave(*added.sa);
    sad.take(*added.sa);
}

void Engine::Impl::undo(Journal::SaRemoved& removed)
{
    Sa& sa = *removed.sa;
    sad.put_back(std::move(removed.sa));
    enter(sa);
}

void Engine::Impl::undo(Journal::SaReplaced& replaced)
{
    leave(*replaced.now);
    sad.take(*replaced.now);
    Sa& sa = *replaced.old;
    sad.put_back(std::move(replaced.old));
    enter(sa);
}

void Engine::Impl::undo(Journal::SaChanged& changed)
{
    SaBefore& before = *changed.before;
    Sa& sa = before.sa;
    leave(sa);
    auto held = sad.take(sa);   // the SAD finds and counts it by what is about to change
    sa.state = before.state;
    sa.hard = before.hard;
    sa.soft = before.soft;
    sa.source = before.source;
    sa.destination = before.destination;
    sa.natt = std::move(before.natt);
    sa.peer_link = before.peer_link;
    sa.reqid_link = before.reqid_link;
    sad.put_back(std::move(held));
    enter(sa);
}

void Engine::Impl::undo(Journal::SadFlushed& flushed)
{
    sad.bring_back(*flushed.all);
    sa_deadlines = std::move(flushed.deadlines);
    std::uint64_t cursor = 0;
    while (Sa* sa = sad.next(cursor, 0))
        enter(*sa);
}

void Engine::Impl::undo(Journal::AcquireEnded& acquire)
{
    ended.pop_back();   // the walk has not been told yet
    deadlines.set(acquires.restore(*acquire.pending).timer, acquire.at);
}

void Engine::Impl::undo(Journal::PolicyAdded& added)
{
    leave(*added.policy);
    spd.erase(*added.policy);
}

void Engine::Impl::undo(Journal::PolicyRemoved& removed)
{
    const Policy& policy = removed.policy.mapped();
    spd.put_back(std::move(removed.policy));
    enter(policy);
}

void Engine::Impl::undo(Journal::SpdFlushed& flushed)
{
    spd.bring_back(*flushed.all);
    Spd::Cursor cursor;
    while (const Policy* policy = spd.next(cursor))
        enter(*policy);
}

}  // namespace latchkey
