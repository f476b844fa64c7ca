// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/message.hpp"

#include "pfkey/tables.hpp"

#include <algorithm>
#include <sys/socket.h>
#include <utility>

namespace latchkey {

namespace {

constexpr std::size_t header_size = 16;   // struct sadb_msg
constexpr std::size_t extension_header = 4;   // struct sadb_ext

constexpr std::size_t padded(std::size_t n)
{
    return (n + 7) / 8 * 8;
}

// ---- the walk over the extensions: one parser, sizer and emitter per row of the table -------------------------------

template <std::size_t I> Result<void> parse_row(Message& message, Bytes extension)
{
    constexpr auto& row = std::get<I>(extensions);
    auto& slot = message.*row.member;
    if (slot)
        return fail(Errc::malformed, "an extension occurs twice");
    if (extension.size() < row.min || extension.size() > row.max)
        return fail(Errc::malformed, row.size_rule);
    using Codec = typename std::remove_cvref_t<decltype(row)>::Codec;
    auto value = Codec::parse(wire::Reader(extension.subspan(extension_header), wire::Order::host));
    if (!value)
        return std::unexpected(value.error());
    slot = std::move(*value);
    return {};
}

using ParseRow = Result<void> (*)(Message&, Bytes);

constexpr auto row_parsers = []<std::size_t... I>(std::index_sequence<I...>) {
    std::array<ParseRow, extension_type_end> parsers{};
    ((parsers[std::get<I>(extensions).type] = parse_row<I>), ...);
    return parsers;
}(std::make_index_sequence<extension_count>());

// RFC 2367 §2.2: type-length-value, the length in 8-byte units. A zero length would not advance.
Result<void> parse_extensions(Message& message, Bytes rest)
{
    while (!rest.empty()) {
        wire::Reader head(rest, wire::Order::host);
        const std::size_t size = std::size_t{head.get<std::uint16_t>()} * 8;
        const std::size_t type = head.get<std::uint16_t>();
        if (size == 0)
            return fail(Errc::malformed, "an extension has length 0");
        if (size > rest.size())
            return fail(Errc::malformed, "an extension is longer than the rest of the message");
        if (type >= row_parsers.size() || row_parsers[type] == nullptr)
            return fail(Errc::malformed, "unknown extension type");
        if (auto parsed = row_parsers[type](message, rest.first(size)); !parsed)
            return parsed;
        rest = rest.subspan(size);
    }
    return {};
}

template <class Row, class Value> void emit_row(wire::Writer& out, const Row& row, const Value& value)
{
    const std::size_t size = Row::Codec::size(value);
    out.put<std::uint16_t>(static_cast<std::uint16_t>(size / 8));
    out.put<std::uint16_t>(row.type);
    Row::Codec::emit(out, value);
    out.align(8);
}

// f(row, value) for each extension that the message has.
template <class F> void each_extension(const Message& message, F f)
{
    std::apply([&](const auto&... row) { ((message.*row.member ? f(row, *(message.*row.member)) : void()), ...); },
               extensions);
}

template <class T> bool same_extension(const std::optional<T>& a, const std::optional<T>& b)
{
    if (!a || !b)
        return a.has_value() == b.has_value();
    if constexpr (std::is_same_v<T, Bytes>)
        return std::ranges::equal(*a, *b);
    else
        return *a == *b;
}

}  // namespace

Result<Message> Message::parse(Bytes record)
{
    const auto header = peek_header(record);
    if (!header)
        return fail(Errc::truncated, "a message has at least 16 bytes");
    if (header->version != PF_KEY_V2)
        return fail(Errc::malformed, "sadb_msg_version is not 2");
    if (std::size_t{header->units} * 8 != record.size())
        return fail(Errc::malformed, "sadb_msg_len differs from the size of the message");

    Result<Message> result;
    Message& message = *result;
    message.type = header->type;
    message.error = header->error;
    message.satype = header->satype;
    message.seq = header->seq;
    message.pid = header->pid;
    const auto body = record.subspan(header_size);
    if (message.type == SADB_X_PROMISC) {
        if (!body.empty() && !peek_header(body))
            return fail(Errc::malformed, "the message inside X_PROMISC has less than 16 bytes");
        message.wrapped = body;
        return result;
    }
    if (auto parsed = parse_extensions(message, body); !parsed)
        return std::unexpected(parsed.error());
    return result;
}

std::size_t Message::size() const
{
    std::size_t total = header_size + padded(wrapped.size());
    each_extension(*this, [&](const auto& row, const auto& value) {
        total += std::remove_cvref_t<decltype(row)>::Codec::size(value);
    });
    return total;
}

void Message::emit(wire::Writer& out) const
{
    out.put<std::uint8_t>(PF_KEY_V2);
    out.put<std::uint8_t>(type);
    out.put<std::uint8_t>(error);
    out.put<std::uint8_t>(satype);
    out.put<std::uint16_t>(static_cast<std::uint16_t>(size() / 8));
    out.put<std::uint16_t>(0);
    out.put<std::uint32_t>(seq);
    out.put<std::uint32_t>(pid);
    each_extension(*this, [&](const auto& row, const auto& value) { emit_row(out, row, value); });
    out.put(wrapped);
    out.align(8);
}

std::vector<std::uint8_t> Message::bytes() const
{
    std::vector<std::uint8_t> out(size());
    wire::Writer writer(out, wire::Order::host);
    emit(writer);
    return out;
}

bool KeyExt::operator==(const KeyExt& other) const
{
    return bits == other.bits && std::ranges::equal(key, other.key);
}

bool Message::operator==(const Message& other) const
{
    const auto header = [](const Message& m) { return std::tie(m.type, m.error, m.satype, m.seq, m.pid); };
    return header(*this) == header(other) && std::ranges::equal(wrapped, other.wrapped) &&
           std::apply([&](const auto&... row) { return (same_extension(this->*row.member, other.*row.member) && ...); },
                      extensions);
}

std::optional<MessageHeader> peek_header(Bytes record)
{
    wire::Reader in(record, wire::Order::host);
    MessageHeader header;
    header.version = in.get<std::uint8_t>();
    header.type = in.get<std::uint8_t>();
    header.error = in.get<std::uint8_t>();
    header.satype = in.get<std::uint8_t>();
    header.units = in.get<std::uint16_t>();
    in.skip(2);
    header.seq = in.get<std::uint32_t>();
    header.pid = in.get<std::uint32_t>();
    return in.ok() ? std::optional(header) : std::nullopt;
}

// ---- socket addresses -----------------------------------------------------------------------------------------------

namespace {

// SPIs and ports stand in network order inside host-order messages.
template <std::unsigned_integral T> T get_network(wire::Reader& in)
{
    const auto raw = in.take(sizeof(T));
    return raw.empty() ? T{0} : wire::field<T>(raw, 0);
}

template <std::unsigned_integral T> void put_network(wire::Writer& out, T value)
{
    if (const auto room = out.reserve(sizeof(T)); !room.empty())
        wire::set_field<T>(room, 0, value);
}

Family family_of(std::uint16_t number)
{
    return number == AF_INET ? Family::v4 : number == AF_INET6 ? Family::v6 : Family::none;
}

// sizeof(struct sockaddr_in), sizeof(struct sockaddr_in6); other families count as a plain struct sockaddr.
std::size_t bare_sockaddr_size(Family family)
{
    return family == Family::v6 ? 28 : 16;
}

Result<Endpoint> parse_bare_sockaddr(wire::Reader& in)
{
    Endpoint endpoint;
    const auto family = family_of(in.get<std::uint16_t>());
    if (in.ok() && family == Family::none)
        return fail(Errc::bad_family, "the address family is neither AF_INET nor AF_INET6");
    endpoint.port = get_network<std::uint16_t>(in);
    if (family == Family::v4) {
        if (const auto raw = in.take(4); !raw.empty())
            endpoint.address = Address::v4(raw.first<4>());
        in.skip(8);   // sin_zero
    } else {
        in.skip(4);   // sin6_flowinfo
        if (const auto raw = in.take(16); !raw.empty())
            endpoint.address = Address::v6(raw.first<16>());
        endpoint.scope = in.get<std::uint32_t>();
    }
    if (!in.ok())
        return fail(Errc::truncated, "a sockaddr ends early");
    return endpoint;
}

void emit_bare_sockaddr(wire::Writer& out, const Endpoint& endpoint)
{
    if (endpoint.address.family() == Family::none)
        return out.zero(bare_sockaddr_size(Family::none));
    out.put<std::uint16_t>(endpoint.address.is_v4() ? AF_INET : AF_INET6);
    put_network<std::uint16_t>(out, endpoint.port);
    if (endpoint.address.is_v6())
        out.put<std::uint32_t>(0);
    out.put(endpoint.address.bytes());
    if (endpoint.address.is_v6())
        out.put<std::uint32_t>(endpoint.scope);
    else
        out.zero(8);
}

}  // namespace

Result<Endpoint> parse_sockaddr(wire::Reader& in)
{
    auto endpoint = parse_bare_sockaddr(in);
    if (!endpoint)
        return endpoint;
    const auto bare = bare_sockaddr_size(endpoint->address.family());
    in.skip(padded(bare) - bare);
    if (!in.ok())
        return fail(Errc::truncated, "a sockaddr is not padded to 8 bytes");
    return endpoint;
}

std::size_t sockaddr_size(Family family)
{
    return padded(bare_sockaddr_size(family));
}

void emit_sockaddr(wire::Writer& out, const Endpoint& endpoint)
{
    emit_bare_sockaddr(out, endpoint);
    const auto bare = bare_sockaddr_size(endpoint.address.family());
    out.zero(padded(bare) - bare);
}

// ---- policies -------------------------------------------------------------------------------------------------------

namespace {

constexpr std::size_t policy_header = 16;   // struct sadb_x_policy
constexpr std::size_t request_header = 16;   // struct sadb_x_ipsecrequest

// The end points of a tunnel, not padded in between. A family that is unknown hides the size of its sockaddr, so
// what follows it cannot be read; what is not read stays Family::none.
Result<void> parse_end_points(wire::Reader in, Request& request)
{
    const auto source = parse_bare_sockaddr(in);
    if (!source)
        return source.error().code == Errc::bad_family ? Result<void>{} : std::unexpected(source.error());
    request.tunnel_source = source->address;
    request.tunnel_source_port = source->port;
    request.tunnel_source_scope = source->scope;

    const auto destination = parse_bare_sockaddr(in);
    if (!destination)
        return destination.error().code == Errc::bad_family ? Result<void>{} : std::unexpected(destination.error());
    request.tunnel_destination = destination->address;
    request.tunnel_destination_port = destination->port;
    request.tunnel_destination_scope = destination->scope;
    if (in.left() >= 8)
        return fail(Errc::malformed, "an ipsecrequest is longer than its two sockaddrs");
    return {};
}

// sadb_x_ipsecrequest_len counts bytes, unlike every other length of PF_KEY.
Result<Request> parse_request(wire::Reader& in)
{
    const std::size_t size = in.get<std::uint16_t>();
    if (!in.ok() || size < request_header)
        return fail(Errc::malformed, "an ipsecrequest has less than 16 bytes");
    auto body = in.sub(size - 2);
    if (!body.ok())
        return fail(Errc::malformed, "an ipsecrequest is longer than its policy");

    Request request;
    const auto protocol = body.get<std::uint16_t>();
    if (protocol > 0xff)
        return fail(Errc::malformed, "the protocol of an ipsecrequest is above 255");
    request.protocol = static_cast<std::uint8_t>(protocol);
    request.mode = static_cast<Mode>(body.get<std::uint8_t>());
    request.level = static_cast<Level>(body.get<std::uint8_t>());
    body.skip(2);
    request.reqid = body.get<std::uint32_t>();
    body.skip(4);
    if (body.left() != 0)
        if (auto end_points = parse_end_points(body, request); !end_points)
            return std::unexpected(end_points.error());
    return request;
}

bool has_end_points(const Request& request)
{
    return request.tunnel_source.family() != Family::none || request.tunnel_destination.family() != Family::none;
}

std::size_t request_size(const Request& request)
{
    if (!has_end_points(request))
        return request_header;
    return padded(request_header + bare_sockaddr_size(request.tunnel_source.family()) +
                  bare_sockaddr_size(request.tunnel_destination.family()));
}

void emit_request(wire::Writer& out, const Request& request)
{
    out.put<std::uint16_t>(static_cast<std::uint16_t>(request_size(request)));
    out.put<std::uint16_t>(request.protocol);
    out.put<std::uint8_t>(static_cast<std::uint8_t>(request.mode));
    out.put<std::uint8_t>(static_cast<std::uint8_t>(request.level));
    out.put<std::uint16_t>(0);
    out.put<std::uint32_t>(request.reqid);
    out.put<std::uint32_t>(0);
    if (has_end_points(request)) {
        emit_bare_sockaddr(out, {request.tunnel_source, request.tunnel_source_port, request.tunnel_source_scope});
        emit_bare_sockaddr(
            out, {request.tunnel_destination, request.tunnel_destination_port, request.tunnel_destination_scope});
        out.align(8);
    }
}

}  // namespace

Result<PolicyExt> parse_policy(Bytes extension)
{
    wire::Reader in(extension, wire::Order::host);
    const std::size_t size = std::size_t{in.get<std::uint16_t>()} * 8;
    const auto type = in.get<std::uint16_t>();
    if (!in.ok() || extension.size() < policy_header)
        return fail(Errc::truncated, "X_POLICY needs 16 bytes and its requests");
    if (size != extension.size())
        return fail(Errc::malformed, "sadb_x_policy_len differs from the size of the policy");
    if (type != SADB_X_EXT_POLICY)
        return fail(Errc::malformed, "sadb_x_policy_exttype is not SADB_X_EXT_POLICY");
    return formats::PolicyFormat::parse(in);
}

std::size_t policy_size(const PolicyExt& policy)
{
    return formats::PolicyFormat::size(policy);
}

void emit_policy(wire::Writer& out, const PolicyExt& policy)
{
    out.put<std::uint16_t>(static_cast<std::uint16_t>(policy_size(policy) / 8));
    out.put<std::uint16_t>(SADB_X_EXT_POLICY);
    formats::PolicyFormat::emit(out, policy);
}

// ---- the formats ----------------------------------------------------------------------------------------------------

namespace formats {

Result<SaExt> SaFormat::parse(wire::Reader in)
{
    SaExt sa;
    sa.spi = get_network<std::uint32_t>(in);
    sa.replay = in.get<std::uint8_t>();
    sa.state = in.get<std::uint8_t>();
    sa.auth = in.get<std::uint8_t>();
    sa.encrypt = in.get<std::uint8_t>();
    sa.flags = in.get<std::uint32_t>();
    return sa;
}

void SaFormat::emit(wire::Writer& out, const SaExt& sa)
{
    put_network<std::uint32_t>(out, sa.spi);
    out.put<std::uint8_t>(sa.replay);
    out.put<std::uint8_t>(sa.state);
    out.put<std::uint8_t>(sa.auth);
    out.put<std::uint8_t>(sa.encrypt);
    out.put<std::uint32_t>(sa.flags);
}

Result<Lifetime> LifetimeFormat::parse(wire::Reader in)
{
    Lifetime lifetime;
    lifetime.allocations = in.get<std::uint32_t>();
    lifetime.bytes = in.get<std::uint64_t>();
    lifetime.addtime = in.get<std::uint64_t>();
    lifetime.usetime = in.get<std::uint64_t>();
    return lifetime;
}

void LifetimeFormat::emit(wire::Writer& out, const Lifetime& lifetime)
{
    out.put<std::uint32_t>(lifetime.allocations);
    out.put<std::uint64_t>(lifetime.bytes);
    out.put<std::uint64_t>(lifetime.addtime);
    out.put<std::uint64_t>(lifetime.usetime);
}

Result<AddressExt> AddressFormat::parse(wire::Reader in)
{
    AddressExt address;
    address.protocol = in.get<std::uint8_t>();
    address.prefix_length = in.get<std::uint8_t>();
    in.skip(2);
    const auto endpoint = parse_sockaddr(in);
    if (endpoint)
        address.endpoint = *endpoint;
    else if (endpoint.error().code != Errc::bad_family)
        return std::unexpected(endpoint.error());
    if (endpoint && in.left() != 0)
        return fail(Errc::malformed, "an address extension is longer than its sockaddr");
    return address;
}

std::size_t AddressFormat::size(const AddressExt& address)
{
    return 8 + sockaddr_size(address.endpoint.address.family());
}

void AddressFormat::emit(wire::Writer& out, const AddressExt& address)
{
    out.put<std::uint8_t>(address.protocol);
    out.put<std::uint8_t>(address.prefix_length);
    out.put<std::uint16_t>(0);
    emit_sockaddr(out, address.endpoint);
}

// RFC 2367 §2.3.4: the key is padded to 8 bytes, sadb_key_bits says how much of it counts. No bits, no key: that is
// what setkey sends for the null algorithms.
Result<KeyExt> KeyFormat::parse(wire::Reader in)
{
    KeyExt key;
    key.bits = in.get<std::uint16_t>();
    in.skip(2);
    const std::size_t used = (std::size_t{key.bits} + 7) / 8;
    if (in.left() != padded(used))
        return fail(Errc::malformed, "sadb_key_bits does not fit the size of the key extension");
    key.key = in.take(used);
    return key;
}

std::size_t KeyFormat::size(const KeyExt& key)
{
    return 8 + padded(key.key.size());
}

void KeyFormat::emit(wire::Writer& out, const KeyExt& key)
{
    out.put<std::uint16_t>(key.bits);
    out.put<std::uint16_t>(0);
    out.put(key.key);
}

// RFC 2367 §2.3.5: a NUL-terminated string, or nothing when sadb_ident_id says it all.
Result<IdentityExt> IdentityFormat::parse(wire::Reader in)
{
    IdentityExt identity;
    identity.type = in.get<std::uint16_t>();
    in.skip(2);
    identity.id = in.get<std::uint64_t>();
    const auto body = in.rest();
    const auto nul = std::ranges::find(body, std::uint8_t{0});
    if (!body.empty() && nul == body.end())
        return fail(Errc::malformed, "an identity is not terminated by a NUL");
    const auto length = static_cast<std::size_t>(nul - body.begin());
    identity.text = std::string_view(static_cast<const char*>(static_cast<const void*>(body.data())), length);
    return identity;
}

std::size_t IdentityFormat::size(const IdentityExt& identity)
{
    return 16 + (identity.text.empty() ? 0 : padded(identity.text.size() + 1));
}

void IdentityFormat::emit(wire::Writer& out, const IdentityExt& identity)
{
    out.put<std::uint16_t>(identity.type);
    out.put<std::uint16_t>(0);
    out.put<std::uint64_t>(identity.id);
    if (identity.text.empty())
        return;
    const auto room = out.reserve(identity.text.size() + 1);
    if (room.empty())
        return;
    std::ranges::transform(identity.text, room.begin(), [](char c) { return static_cast<std::uint8_t>(c); });
    room.back() = 0;
}

constexpr std::size_t combination_size = 72;   // struct sadb_comb

Result<ProposalExt> ProposalFormat::parse(wire::Reader in)
{
    ProposalExt proposal;
    proposal.replay = in.get<std::uint8_t>();
    in.skip(3);
    if (in.left() % combination_size != 0)
        return fail(Errc::malformed, "PROPOSAL is not a whole number of 72-byte combinations");
    proposal.combinations.resize(in.left() / combination_size);
    for (auto& c : proposal.combinations) {
        c.auth = in.get<std::uint8_t>();
        c.encrypt = in.get<std::uint8_t>();
        for (auto* number : {&c.flags, &c.auth_min, &c.auth_max, &c.encrypt_min, &c.encrypt_max})
            *number = in.get<std::uint16_t>();
        in.skip(4);
        c.soft.allocations = in.get<std::uint32_t>();
        c.hard.allocations = in.get<std::uint32_t>();
        for (auto* number :
             {&c.soft.bytes, &c.hard.bytes, &c.soft.addtime, &c.hard.addtime, &c.soft.usetime, &c.hard.usetime})
            *number = in.get<std::uint64_t>();
    }
    return proposal;
}

std::size_t ProposalFormat::size(const ProposalExt& proposal)
{
    return 8 + proposal.combinations.size() * combination_size;
}

void ProposalFormat::emit(wire::Writer& out, const ProposalExt& proposal)
{
    out.put<std::uint8_t>(proposal.replay);
    out.zero(3);
    for (const auto& c : proposal.combinations) {
        out.put<std::uint8_t>(c.auth);
        out.put<std::uint8_t>(c.encrypt);
        for (const auto number : {c.flags, c.auth_min, c.auth_max, c.encrypt_min, c.encrypt_max})
            out.put<std::uint16_t>(number);
        out.zero(4);
        out.put<std::uint32_t>(c.soft.allocations);
        out.put<std::uint32_t>(c.hard.allocations);
        for (const auto number :
             {c.soft.bytes, c.hard.bytes, c.soft.addtime, c.hard.addtime, c.soft.usetime, c.hard.usetime})
            out.put<std::uint64_t>(number);
    }
}

constexpr std::size_t supported_size = 8;   // struct sadb_alg

Result<std::vector<SupportedAlgorithm>> SupportedFormat::parse(wire::Reader in)
{
    in.skip(4);
    std::vector<SupportedAlgorithm> list(in.left() / supported_size);
    for (auto& algorithm : list) {
        algorithm.id = in.get<std::uint8_t>();
        algorithm.iv = in.get<std::uint8_t>();
        algorithm.min_bits = in.get<std::uint16_t>();
        algorithm.max_bits = in.get<std::uint16_t>();
        in.skip(2);
    }
    return list;
}

std::size_t SupportedFormat::size(const std::vector<SupportedAlgorithm>& list)
{
    return 8 + list.size() * supported_size;
}

void SupportedFormat::emit(wire::Writer& out, const std::vector<SupportedAlgorithm>& list)
{
    out.zero(4);
    for (const auto& algorithm : list) {
        out.put<std::uint8_t>(algorithm.id);
        out.put<std::uint8_t>(algorithm.iv);
        out.put<std::uint16_t>(algorithm.min_bits);
        out.put<std::uint16_t>(algorithm.max_bits);
        out.zero(2);
    }
}

Result<SpiRangeExt> SpiRangeFormat::parse(wire::Reader in)
{
    SpiRangeExt range;
    range.min = in.get<std::uint32_t>();
    range.max = in.get<std::uint32_t>();
    return range;
}

void SpiRangeFormat::emit(wire::Writer& out, const SpiRangeExt& range)
{
    out.put<std::uint32_t>(range.min);
    out.put<std::uint32_t>(range.max);
}

Result<PolicyExt> PolicyFormat::parse(wire::Reader in)
{
    PolicyExt policy;
    policy.type = in.get<std::uint16_t>();
    policy.direction = in.get<std::uint8_t>();
    in.skip(1);
    policy.id = in.get<std::uint32_t>();
    policy.priority = in.get<std::uint32_t>();
    while (in.left() != 0) {
        const auto request = parse_request(in);
        if (!request)
            return std::unexpected(request.error());
        policy.requests.push_back(*request);
    }
    return policy;
}

std::size_t PolicyFormat::size(const PolicyExt& policy)
{
    std::size_t total = policy_header;
    for (const auto& request : policy.requests)
        total += request_size(request);
    return total;
}

void PolicyFormat::emit(wire::Writer& out, const PolicyExt& policy)
{
    out.put<std::uint16_t>(policy.type);
    out.put<std::uint8_t>(policy.direction);
    out.put<std::uint8_t>(0);
    out.put<std::uint32_t>(policy.id);
    out.put<std::uint32_t>(policy.priority);
    for (const auto& request : policy.requests)
        emit_request(out, request);
}

Result<Sa2Ext> Sa2Format::parse(wire::Reader in)
{
    Sa2Ext sa2;
    sa2.mode = in.get<std::uint8_t>();
    in.skip(3);
    sa2.sequence = in.get<std::uint32_t>();
    sa2.reqid = in.get<std::uint32_t>();
    return sa2;
}

void Sa2Format::emit(wire::Writer& out, const Sa2Ext& sa2)
{
    out.put<std::uint8_t>(sa2.mode);
    out.zero(3);
    out.put<std::uint32_t>(sa2.sequence);
    out.put<std::uint32_t>(sa2.reqid);
}

template <std::unsigned_integral T, wire::Order Order> Result<T> NumberFormat<T, Order>::parse(wire::Reader in)
{
    return Order == wire::Order::network ? get_network<T>(in) : in.get<T>();
}

template <std::unsigned_integral T, wire::Order Order> void NumberFormat<T, Order>::emit(wire::Writer& out, T number)
{
    if constexpr (Order == wire::Order::network)
        put_network<T>(out, number);
    else
        out.put<T>(number);
}

// Also for others than the table: libpfkey puts the same extensions in another order.
template struct NumberFormat<std::uint8_t>;
template struct NumberFormat<std::uint16_t>;
template struct NumberFormat<std::uint32_t>;
template struct NumberFormat<std::uint16_t, wire::Order::network>;

Result<Bytes> OpaqueFormat::parse(wire::Reader in)
{
    return in.rest();
}

std::size_t OpaqueFormat::size(Bytes body)
{
    return padded(extension_header + body.size());
}

void OpaqueFormat::emit(wire::Writer& out, Bytes body)
{
    out.put(body);
}

Result<std::string_view> TextFormat::parse(wire::Reader in)
{
    const auto body = in.rest();
    const std::string_view text(static_cast<const char*>(static_cast<const void*>(body.data())), body.size());
    return text.substr(0, text.find('\0'));
}

std::size_t TextFormat::size(std::string_view text)
{
    return padded(extension_header + text.size());
}

void TextFormat::emit(wire::Writer& out, std::string_view text)
{
    out.put(Bytes(static_cast<const std::uint8_t*>(static_cast<const void*>(text.data())), text.size()));
}

}  // namespace formats

}  // namespace latchkey
