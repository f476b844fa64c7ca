// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/engine.hpp"

#include "pfkey/engine_impl.hpp"
#include "pfkey/lifetimes.hpp"
#include "pfkey/tables.hpp"

#include <algorithm>
#include <utility>

namespace latchkey {

std::uint32_t Rng::next32()
{
    std::array<std::uint8_t, 4> raw{};
    fill(raw);
    return wire::field<std::uint32_t>(raw, 0);
}

Engine::Engine(Rng& rng, std::int64_t wall_offset, EngineLimits limits)
    : impl_(std::make_unique<Impl>(*this, rng, wall_offset, limits))
{
}

Engine::~Engine() = default;

Engine::Impl::Impl(Engine& engine, Rng& random, std::int64_t offset, EngineLimits bounds)
    : host(engine), rng(random), wall_offset(offset), limits(bounds),
      sockets(bounds.max_key_sockets, bounds.queue_bytes), acquires(bounds.max_acquires)
{
    sockets.on_readable = [this](KeySocketId id) {
        if (host.on_readable)
            host.on_readable(id);
    };
}

// ---- key sockets ------------------------------------------------------------------------------------------------

namespace {

Result<std::uint8_t> protocol_for(SatypeRule rule, std::uint8_t satype)
{
    if (rule == SatypeRule::other)
        return std::uint8_t{0};
    if (satype == SADB_SATYPE_UNSPEC)
        return rule == SatypeRule::transform ? fail(Errc::bad_value, "the message needs an SA type")
                                             : Result<std::uint8_t>(0);
    if (const auto protocol = protocol_of_satype(satype)) {
        if (rule == SatypeRule::none)
            return fail(Errc::bad_value, "SPD messages take SA type 0");
        return *protocol;
    }
    if (satype_name(satype) == "?")
        return fail(Errc::bad_value, "no SA type has this number");
    return fail(Errc::unsupported, "this SA type is not offered");
}

std::uint64_t extensions_of(const Message& message)
{
    std::uint64_t present = 0;
    std::apply([&](const auto&... row) { ((present |= message.*row.member ? extension_bit(row.type) : 0), ...); },
               extensions);
    return present;
}

constexpr std::uint64_t bits(auto... types)
{
    return (extension_bit(static_cast<unsigned>(types)) | ... | 0);
}

}  // namespace

const Engine::Impl::Row& Engine::Impl::row_of(std::uint8_t type)
{
    // One row per message. errno, where KAME, FreeBSD and Linux differ:
    //   no such SA (UPDATE, DELETE, GET)           ESRCH    FreeBSD, Linux (KAME: ENOENT)
    //   DELETE without SA: deletes all             -        KAME (Linux: EINVAL); nothing to delete is no error
    //   GETSPI, no free SPI in the range           EEXIST   FreeBSD (Linux: ENOENT)
    //   DUMP, SPDDUMP of an empty table            ENOENT   KAME; setkey prints "No SAD entries." for it
    //   a second dump while one runs               EBUSY    Linux
    //   no such policy (SPDDELETE, DELETE2, GET)   ENOENT   Linux (KAME: EINVAL for the first two)
    //   REGISTER twice                             EEXIST   all
    //   unknown algorithm / known, not offered     ENOSYS / EOPNOTSUPP   Linux for the first
    //   EXPIRE, SPDACQUIRE, SPDEXPIRE by a user    EINVAL   KAME
    //   ACQUIRE by a user, with extensions         -        KAME: relayed (Linux: EOPNOTSUPP)
    //   weak DES keys                              EINVAL   KAME (Linux: taken unless told otherwise)
    //   AH with auth null                          -        KAME, NetBSD's tests (ESP with two nulls: EINVAL, RFC 4303)
    //   ESN without a replay window                EINVAL   Linux
    //   SENSITIVITY, SEC_CTX                       EOPNOTSUPP
    //   NAT_T_TYPE 1 / of AH, IPComp / any other   EOPNOTSUPP / EINVAL   FreeBSD: EINVAL, and silence for AH
    //   NAT_T ports without NAT_T_TYPE             -        Linux, FreeBSD: mean nothing
    //   NAT_T_TYPE without ports                   -        Linux (FreeBSD: then it means nothing); here 4500
    //   UPDATE: NEW_ADDRESS that is taken          EEXIST   FreeBSD; NAT_T ports change without it as on Linux
    //   SPD messages with SA type AH, ESP, IPComp  EINVAL   KAME (Linux: ignored; its clients all send 0)
    //   MIGRATE: no such policy / no such request  ENOENT / ENODATA   Linux
    // X_BATCH: in an open batch a socket's rows with the mark are kept and not answered; everything else is answered at
    // once as ever, and does not see them. MIGRATE is EINVAL there, and a batch in a batch EBUSY.
    constexpr auto sd = bits(SADB_EXT_ADDRESS_SRC, SADB_EXT_ADDRESS_DST);
    constexpr auto sa_sd = sd | bits(SADB_EXT_SA);
    constexpr auto policy = bits(SADB_X_EXT_POLICY);
    constexpr std::string_view needs_sd = "the message needs ADDRESS_SRC and ADDRESS_DST";
    constexpr std::string_view needs_sa = "the message needs SA, ADDRESS_SRC and ADDRESS_DST";
    constexpr std::string_view needs_policy = "the message needs ADDRESS_SRC, ADDRESS_DST and X_POLICY";
    constexpr std::string_view needs_id = "the message needs X_POLICY with an id";
    using S = SatypeRule;
    using R = Recipients;
    constexpr bool kept = true;
    // clang-format off
    static constexpr Row rows[] = {
        {SADB_GETSPI,              S::transform, sd,          needs_sd,     R::one,        &Impl::getspi},
        {SADB_UPDATE,              S::transform, sa_sd,       needs_sa,     R::all,        &Impl::update, kept},
        {SADB_ADD,                 S::transform, sa_sd,       needs_sa,     R::all,        &Impl::add, kept},
        {SADB_DELETE,              S::transform, sd,          needs_sd,     R::all,        &Impl::remove, kept},
        {SADB_GET,                 S::transform, sa_sd,       needs_sa,     R::one,        &Impl::get},
        {SADB_ACQUIRE,             S::any,       0,           {},           R::registered, &Impl::acquire_by_user},
        {SADB_REGISTER,            S::any,       0,           {},           R::registered, &Impl::enrol},
        {SADB_EXPIRE,              S::any,       0,           {},           R::one,        &Impl::not_from_users},
        {SADB_FLUSH,               S::any,       0,           {},           R::all,        &Impl::flush, kept},
        {SADB_DUMP,                S::any,       0,           {},           R::one,        &Impl::dump},
        {SADB_X_PROMISC,           S::other,     0,           {},           R::all,        &Impl::promisc},
        {SADB_X_PCHANGE,           S::any,       0,           {},           R::one,        &Impl::not_from_users},
        {SADB_X_SPDUPDATE,         S::none,      sd | policy, needs_policy, R::all,        &Impl::spd_add, kept},
        {SADB_X_SPDADD,            S::none,      sd | policy, needs_policy, R::all,        &Impl::spd_add, kept},
        {SADB_X_SPDDELETE,         S::none,      sd | policy, needs_policy, R::all,        &Impl::spd_delete, kept},
        {SADB_X_SPDGET,            S::none,      policy,      needs_id,     R::one,        &Impl::spd_get},
        {SADB_X_SPDACQUIRE,        S::none,      0,           {},           R::one,        &Impl::not_from_users},
        {SADB_X_SPDDUMP,           S::none,      0,           {},           R::one,        &Impl::spd_dump},
        {SADB_X_SPDFLUSH,          S::none,      0,           {},           R::all,        &Impl::spd_flush, kept},
        {SADB_X_SPDSETIDX,         S::none,      sd | policy, needs_policy, R::all,        &Impl::spd_add, kept},
        {SADB_X_SPDEXPIRE,         S::none,      0,           {},           R::one,        &Impl::not_from_users},
        {SADB_X_SPDDELETE2,        S::none,      policy,      needs_id,     R::all,        &Impl::spd_delete_id, kept},
        {SADB_X_NAT_T_NEW_MAPPING, S::any,       0,           {},           R::one,        &Impl::not_from_users},
        {SADB_X_MIGRATE,           S::any,       sd | policy, needs_policy, R::one,        &Impl::migrate},
    };
    static constexpr Row batch_row =
        {SADB_X_BATCH,             S::other,     0,           {},           R::one,        &Impl::batch};
    // clang-format on
    static_assert(std::ranges::all_of(rows, [](const Row& row) { return row.type == &row - rows + 1; }) &&
                  std::size(rows) == SADB_MAX);
    return type == SADB_X_BATCH ? batch_row : rows[type - 1];
}

Result<void> Engine::Impl::handle(KeySocketId from, Bytes record, Time now)
{
    KeySocket* socket = sockets.find(from);
    if (socket == nullptr)
        return fail(Errc::not_found, "no such key socket", EBADF);
    if (sockets.full(*socket))
        return fail(Errc::no_memory, "the socket's queue is full: read the answers first");
    const auto message = Message::parse(record);
    if (!message)
        return std::unexpected(message.error());
    if (message->type == SADB_RESERVED || (message->type > SADB_MAX && message->type != SADB_X_BATCH))
        return fail(Errc::malformed, "no message type has this number");
    socket->known |= extensions_of(*message) / extension_bit(SADB_X_EXT_NAT_T_OAR);   // the private ones come last

    const Row& row = row_of(message->type);
    if (socket->batch && row.kept)
        return keep(*socket->batch, record);
    Message reply;
    if (const auto done = run(from, *message, now, reply); !done)
        answer_error(from, *peek_header(record), done.error());
    else if (reply.type != SADB_RESERVED)
        sockets.deliver(row.recipients, from, reply.satype, reply.bytes());
    notify();
    return {};
}

Result<void> Engine::Impl::run(KeySocketId from, const Message& message, Time now, Message& reply)
{
    const Row& row = row_of(message.type);
    reply.type = message.type;
    reply.satype = message.satype;
    reply.seq = message.seq;
    reply.pid = message.pid;
    const auto protocol = protocol_for(row.satype, message.satype);
    if (!protocol)
        return std::unexpected(protocol.error());
    const auto present = extensions_of(message) & ~extension_bit(SADB_X_EXT_REASON);   // asks, says nothing
    if ((row.required & ~present) != 0)
        return fail(Errc::bad_value, row.needs);
    return (this->*row.run)({from, message, present, *protocol, now}, reply);
}

Result<void> Engine::Impl::not_from_users(const Call&, Message&)
{
    return fail(Errc::bad_value, "only the host sends this message");
}

void Engine::Impl::answer_error(KeySocketId to, MessageHeader header, const Error& error)
{
    KeySocket* socket = sockets.find(to);
    if (socket == nullptr)
        return;
    socket->last_error = error.reason;
    tell_refused(to, header.type, error);
    Message reply;
    reply.type = header.type;
    reply.satype = header.satype;
    reply.seq = header.seq;
    reply.pid = header.pid;
    reply.error = static_cast<std::uint8_t>(error.number());
    if (socket->knows(SADB_X_EXT_REASON))
        reply.reason = error.reason;
    sockets.deliver(Recipients::one, to, header.satype, reply.bytes());
}

void Engine::Impl::tell_refused(KeySocketId from, std::uint8_t type, const Error& error) const
{
    if (host.on_refused)
        host.on_refused(from, type, error);
}

// handle(), and remembers why not.
Result<void> Engine::Impl::take(KeySocketId from, Bytes record, Time now)
{
    auto handled = handle(from, record, now);
    if (KeySocket* socket = handled ? nullptr : sockets.find(from)) {
        socket->last_error = handled.error().reason;
        if (socket->batch)
            socket->batch->broken = true;   // the client may not have noticed
    }
    return handled;
}

Result<void> Engine::handle(KeySocketId from, Bytes record, Time now)
{
    auto handled = impl_->take(from, record, now);
    if (!handled)
        impl_->tell_refused(from, peek_header(record).value_or(MessageHeader{}).type, handled.error());
    return handled;
}

void Engine::handle_unsupervised(KeySocketId from, Bytes record, Time now)
{
    const auto handled = impl_->take(from, record, now);
    const KeySocket* socket = impl_->sockets.find(from);
    if (handled || socket == nullptr || impl_->sockets.full(*socket))
        return;
    impl_->answer_error(from, peek_header(record).value_or(MessageHeader{}), handled.error());
}

Result<KeySocketId> Engine::open_key_socket()
{
    return impl_->sockets.open();
}

void Engine::close_key_socket(KeySocketId id)
{
    if (KeySocket* socket = impl_->sockets.find(id); socket != nullptr && socket->batch)
        impl_->close_batch(*socket);
    impl_->sockets.close(id);
}

Bytes Engine::front(KeySocketId id) const
{
    const KeySocket* socket = impl_->sockets.find(id);
    return socket == nullptr || socket->queue.empty() ? Bytes{} : Bytes(socket->queue.front());
}

void Engine::pop(KeySocketId id, Time)
{
    if (KeySocket* socket = impl_->sockets.find(id)) {
        impl_->sockets.pop(*socket);
        impl_->pump(id, *socket);
    }
}

KeySocketStats Engine::stats(KeySocketId id) const
{
    const KeySocket* socket = impl_->sockets.find(id);
    return socket == nullptr ? KeySocketStats{} : KeySocketStats{socket->dropped, socket->bytes};
}

std::string_view Engine::last_error(KeySocketId id) const
{
    const KeySocket* socket = impl_->sockets.find(id);
    return socket == nullptr ? std::string_view{} : socket->last_error;
}

// ---- dumps ------------------------------------------------------------------------------------------------------

Result<void> Engine::Impl::start_dump(KeySocketId id, Dump dump)
{
    KeySocket& socket = *sockets.find(id);
    if (socket.dump)
        return fail(Errc::busy, "a dump is running on this socket");
    socket.dump = std::move(dump);
    if (!next_of_dump(socket, socket.dump->held)) {
        socket.dump.reset();
        return fail(Errc::not_found, "the table is empty, or has nothing that was asked for", ENOENT);
    }
    pump(id, socket);
    return {};
}

void Engine::Impl::pump(KeySocketId id, KeySocket& socket)
{
    while (socket.dump && sockets.room_for_dump(socket)) {
        Dump& dump = *socket.dump;
        Record following;
        const bool more = next_of_dump(socket, following);
        Record record = std::exchange(dump.held, std::move(following));
        dump.left -= dump.left > 1;
        const auto seq = more ? std::max<std::uint32_t>(static_cast<std::uint32_t>(dump.left), 1) : 0;
        wire::Writer(record, wire::Order::host).put_at<std::uint32_t>(8, seq);
        const std::uint8_t satype = dump.head.satype;
        if (!more)
            socket.dump.reset();
        sockets.deliver(Recipients::one, id, satype, std::move(record));
    }
}

// The next SA or policy that was there when the dump began, as a message.
bool Engine::Impl::next_of_dump(KeySocket& socket, Record& out)
{
    Dump& dump = *socket.dump;
    Message message = dump.head;
    if (dump.head.type == SADB_DUMP) {
        const Sa* sa = sad.next(dump.cursor, dump.protocol);
        while (sa != nullptr && dump.filter && !dump.filter->matches(*sa))
            sa = sad.next(dump.cursor, dump.protocol);
        if (sa == nullptr || sa->serial > dump.end)
            return false;
        message.satype = satype_of_protocol(sa->protocol).value_or(SADB_SATYPE_UNSPEC);
        describe(*sa, message);
        describe_keys(*sa, message);
        out = message.bytes();
        return true;
    }
    const Policy* policy = spd.next(dump.spd_cursor);
    while (policy != nullptr && policy->born > dump.end)
        policy = spd.next(dump.spd_cursor);
    if (policy == nullptr)
        return false;
    describe(*policy, message);
    out = message.bytes();
    return true;
}

// ---- the packet walk --------------------------------------------------------------------------------------------

const Policy* Engine::match(Direction direction, const Flow& flow, Time now)
{
    const Policy* policy = impl_->spd.lookup(direction, flow);
    if (policy != nullptr)
        policy->last_used = std::max(now, Time{1});
    return policy;
}

Sa* Engine::inbound(std::uint8_t ip_protocol, const Address& destination, std::uint32_t spi)
{
    Sa* sa = impl_->sad.find(ip_protocol, destination, spi);
    return sa != nullptr && sa->usable() ? sa : nullptr;
}

Engine::Selected Engine::outbound(const Policy& policy, const Request& request, const Flow& flow, const Address& source,
                                  const Address& destination, Time now)
{
    const bool tunnel = request.mode == Mode::tunnel;
    const Wanted wanted{request.protocol, request.mode, request.reqid, tunnel ? request.tunnel_source : source,
                        tunnel ? request.tunnel_destination : destination};
    const bool prefer_old = impl_->tunables.get(Tunable::key_preferred_oldsa) != 0;
    if (Sa* sa = impl_->sad.outbound(wanted.protocol, wanted.mode, wanted.source, wanted.destination, wanted.reqid,
                                     prefer_old))
        return {Selection::found, sa, 0};
    if (level_of(request, flow.source.family()) == Level::use)
        return {Selection::absent, nullptr, 0};
    return {Selection::acquiring, nullptr, impl_->acquire(policy, wanted, now)};
}

Level Engine::level_of(const Request& request, Family family) const
{
    if (request.level != Level::standard)
        return request.level;
    const bool v6 = family == Family::v6;
    const bool tunnel = request.mode == Mode::tunnel;
    if (request.protocol == ip_proto::ipcomp)   // small packets go uncompressed anyway (RFC 3173 §2.2)
        return Level::use;
    Tunable id = tunnel ? Tunable::v4_esp_net_deflev : Tunable::v4_esp_trans_deflev;
    if (request.protocol == ip_proto::ah)
        id = tunnel ? (v6 ? Tunable::v6_ah_net_deflev : Tunable::v4_ah_net_deflev)
                    : (v6 ? Tunable::v6_ah_trans_deflev : Tunable::v4_ah_trans_deflev);
    else if (v6)
        id = tunnel ? Tunable::v6_esp_net_deflev : Tunable::v6_esp_trans_deflev;
    return impl_->tunables.get(id) == 2 ? Level::require : Level::use;
}

bool Engine::charge(Sa& sa, std::size_t bytes, Time now)
{
    Impl& impl = *impl_;
    if (!sa.usable())
        return false;
    if (sa.timer.at <= now && !impl.enforce(sa, now))
        return false;
    if (hard_exceeded_by(sa, bytes)) {
        impl.expire(sa, true);
        return false;
    }
    sa.current.bytes += bytes;
    ++sa.current.allocations;
    if (sa.first_use == Time{0}) {
        sa.first_use = std::max(now, Time{1});
        sa.current.usetime = impl.wall(now);
        impl.arm(sa);
    }
    if (hard_reached(sa, now) || (sa.state == SaState::mature && soft_reached(sa, now)))
        impl.enforce(sa, now);
    return true;
}

bool Engine::encapsulates(const Address& local, std::uint16_t port) const
{
    return impl_->sad.encapsulates(local, port);
}

void Engine::set_available(const AlgorithmSet& rows)
{
    impl_->available = rows & runnable_algorithms();
}

std::uint64_t Engine::generation() const
{
    return impl_->generation + impl_->tunables.changes();
}

bool Engine::no_policies() const
{
    return impl_->spd.size() == 0;
}

bool Engine::selects_by_port(Direction direction) const
{
    return impl_->spd.selects_by_port(direction);
}

Sad& Engine::sad()
{
    return impl_->sad;
}

Spd& Engine::spd()
{
    return impl_->spd;
}

Tunables& Engine::tunables()
{
    return impl_->tunables;
}

}  // namespace latchkey
