// SPDX-License-Identifier: BSD-2-Clause
// A host with two key sockets, driven by the input: messages, batches, time, packets, readers that come and go. Whatever
// comes, the answers are well-formed, the queues and tables stay within their limits, dead things are not touched, and a
// batch that fails has changed nothing.
//
// Input: steps of one opcode byte (the low 3 bits; bit 3 picks the socket) and what it takes, see the switch below.
#include "pfkey/engine.hpp"
#include "tests/support/rng.hpp"

#include <cstdlib>

using namespace latchkey;

namespace {

void require(bool condition)
{
    if (!condition)
        std::abort();
}

constexpr EngineLimits limits{.queue_bytes = 8192, .max_sas = 64, .max_policies = 64, .max_key_sockets = 2,
                              .max_acquires = 4, .batch_bytes = 8192};
constexpr std::size_t max_record = 256 * 8;   // a step cannot be longer

class Driver {
public:
    explicit Driver(Bytes input) : in_(input)
    {
        for (auto& socket : sockets_)
            socket = *engine_.open_key_socket();
    }

    void run()
    {
        while (in_.ok() && in_.left() != 0)
            step(in_.get<std::uint8_t>());
        for (const auto socket : sockets_)
            while (!engine_.front(socket).empty())
                read(socket);
        check();
    }

private:
    void step(std::uint8_t op)
    {
        auto& socket = sockets_[op >> 3 & 1];
        switch (op & 7) {
        case 0:
        case 1:
        case 2: send(socket, in_.get<std::uint8_t>()); break;
        case 3: read(socket); break;
        case 4:
            now_ += std::chrono::seconds(in_.get<std::uint8_t>());
            engine_.tick(now_);
            break;
        case 5: send_packet(in_.get<std::uint8_t>()); break;
        case 6: receive_packet(in_.get<std::uint8_t>()); break;
        case 7:
            engine_.close_key_socket(socket);
            socket = *engine_.open_key_socket();
            break;
        }
        check();
    }

    // The header's version and length are put right, so that the input gets past them.
    void send(KeySocketId socket, std::size_t units)
    {
        const Bytes body = in_.take(std::min(units * 8, in_.left()));
        std::vector<std::uint8_t> record(body.begin(), body.end());
        wire::Writer header(record, wire::Order::host);
        header.put_at<std::uint8_t>(0, PF_KEY_V2);
        header.put_at<std::uint16_t>(4, static_cast<std::uint16_t>(record.size() / 8));
        const auto head = peek_header(record);
        const bool commits = head && head->type == SADB_X_BATCH && head->satype == SADB_X_BATCH_COMMIT;
        const std::uint64_t before = commits ? fingerprint() : 0;
        if (units % 2 == 0)
            engine_.handle_unsupervised(socket, record, now_);
        else if (const auto done = engine_.handle(socket, record, now_); !done)
            require(!done.error().reason.empty() && done.error().number() != 0);
        if (commits && !committed(socket))
            require(fingerprint() == before);
    }

    // Reads everything; what did the last answer to an X_BATCH say?
    bool committed(KeySocketId socket)
    {
        bool done = false;
        while (!engine_.front(socket).empty()) {
            if (const auto head = peek_header(engine_.front(socket)); head->type == SADB_X_BATCH)
                done = head->error == 0;
            read(socket);
        }
        return done;
    }

    // Of the tables' contents, in their order.
    std::uint64_t fingerprint()
    {
        std::uint64_t sum = mix(engine_.sad().last_serial() + 1) + mix(engine_.spd().last_order() + 2);
        const auto add = [&](std::uint64_t word) { sum = mix(sum * 3 + word); };
        for (std::uint64_t cursor = 0; const Sa* sa = engine_.sad().next(cursor, 0);) {
            add(sa->spi + sa->source.hash() * 3 + sa->destination.hash());
            add(static_cast<std::uint64_t>(sa->state) + sa->hard.addtime * 5 + sa->soft.addtime * 7 + sa->sequence * 11);
            add(sa->current.bytes + (sa->natt == nullptr ? 0 : sa->natt->destination_port));
        }
        Spd::Cursor cursor;
        while (const Policy* policy = engine_.spd().next(cursor)) {
            add(policy->id + policy->order * 3 + policy->priority * 5 + static_cast<std::uint64_t>(policy->action) * 7);
            add(policy->requests.empty() ? 0 : policy->requests[0].tunnel_source.hash() + policy->requests[0].reqid);
        }
        return sum;
    }

    void read(KeySocketId socket)
    {
        const Bytes record = engine_.front(socket);
        if (record.empty())
            return;
        require(Message::parse(record).has_value());
        engine_.pop(socket, now_);
    }

    // A packet from or to one of the addresses that the seeds use.
    static Flow flow(std::uint8_t choice)
    {
        const auto last = [](unsigned n) { return Address::v4(10, 99, 1, static_cast<std::uint8_t>(1 + n)); };
        return {last(choice & 1), last(choice >> 1 & 1), 0, 0, ip_proto::icmp, false};
    }

    void send_packet(std::uint8_t choice)
    {
        const Flow packet = flow(choice);
        const Policy* policy = engine_.match(Direction::out, packet, now_);
        if (policy == nullptr)
            return;
        for (const auto& request : policy->requests) {
            const auto selected = engine_.outbound(*policy, request, packet, packet.source, packet.destination, now_);
            require((selected.state == Engine::Selection::found) == (selected.sa != nullptr));
            if (selected.sa != nullptr) {
                require(selected.sa->usable());
                selected.sa->sequence += std::uint64_t{choice} << 24;
                engine_.charge(*selected.sa, std::size_t{choice} * 16, now_);
            }
        }
    }

    void receive_packet(std::uint8_t choice)
    {
        std::uint64_t cursor = choice;
        const Sa* any = engine_.sad().next(cursor, 0);
        if (any == nullptr)
            return;
        if (Sa* sa = engine_.inbound(any->protocol, any->destination, any->spi))
            engine_.charge(*sa, choice, now_);
    }

    void check()
    {
        require(engine_.sad().size() <= limits.max_sas);
        require(engine_.spd().size() <= limits.max_policies);
        for (const auto socket : sockets_)
            require(engine_.stats(socket).queued_bytes < limits.queue_bytes + 2 * max_record + 1024);
    }

    test::SequenceRng rng_;
    Engine engine_{rng_, 1'700'000'000, limits};
    KeySocketId sockets_[2]{};
    Time now_ = std::chrono::seconds(10);
    wire::Reader in_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    Driver({data, size}).run();
    return 0;
}
