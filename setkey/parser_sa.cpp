// SPDX-License-Identifier: BSD-2-Clause
// add, update, getspi, get, delete, deleteall: protocol, SPI and options of a security association, and what goes with
// what. Algorithms and keys are in parser_keys.cpp.
#include "setkey/parser.hpp"
#include "setkey/words.hpp"

namespace latchkey::setkey {

SaSpec Parser::sa_command(Verb verb)
{
    SaSpec sa;
    family_options();
    const auto source_at = token().offset;
    sa.sources = addresses_with_port();
    const auto destination_at = token().offset;
    sa.destinations = addresses_with_port();
    check_families(sa.sources, sa.destinations, destination_at);
    // A name that stands for the addresses of several hosts must not remove an SA of the wrong one.
    if (verb == Verb::erase && (sa.sources.size() > 1 || sa.destinations.size() > 1))
        fail(sa.sources.size() > 1 ? source_at : destination_at,
             "the name has several addresses, 'delete' takes one (-4 and -6 choose a family)");
    sa_protocol(sa);
    if (verb == Verb::erase_all)
        return sa;
    spi(sa);
    const bool keyed = verb == Verb::add || verb == Verb::update;
    while (!failed() && !token().is(';'))
        if (!sa_option(sa, keyed))
            break;
    check_sa(verb, sa);
    return sa;
}

void Parser::sa_protocol(SaSpec& sa)
{
    if (failed())
        return;
    sa.at.protocol = token().offset;
    sa.protocol = token().is_word() ? find_word(sa_protocols, token().text) : nullptr;
    if (sa.protocol == nullptr)
        return expected_one_of("a security protocol", words_of(sa_protocols));
    if (sa.protocol->satype == SADB_X_SATYPE_TCPSIGNATURE)
        refuse(token().offset, no_tcp_md5);
    lexer_.next();
    sa.flags |= sa.protocol->flags;
    if (!sa.protocol->udp_encapsulated)
        return;
    sa.at.natt = sa.at.protocol;
    sa.natt.emplace();
    // What stands between esp-udp and the SPI is the address before NAT.
    if (token().is_word() && !parse_number(token().text))
        sa.natt->original = one_address("esp-udp");
}

void Parser::spi(SaSpec& sa)
{
    sa.at.spi = token().offset;
    const auto value = number("an SPI", max64);
    if (failed())
        return;
    if (value > max32)
        return fail(sa.at.spi, "SPI too big: it has 32 bits");
    // RFC 3173 §3.3: a CPI has 16 bits.
    if (sa.protocol->satype == SADB_X_SATYPE_IPCOMP && value > 0xffff)
        return fail(sa.at.spi, "SPI too big: the CPI of ipcomp has 16 bits");
    sa.spi = static_cast<std::uint32_t>(value);
}

namespace {

constexpr std::string_view seconds = "a number of seconds", octets = "a number of bytes";

}  // namespace

// ---- options --------------------------------------------------------------------------------------------------------

// One option, with its argument; false: the token is none that may stand here.
bool Parser::sa_option(SaSpec& spec, bool keyed)
{
    struct Row {
        std::string_view word;
        void (*read)(Parser&, SaSpec&, std::size_t at);
        bool keyed = false;   // of an SA with its keys, not of a larval one
    };
    // clang-format off
    static constexpr Row rows[] = {
        {"-m", [](Parser& p, SaSpec& sa, std::size_t at) { p.mode(sa, at); }},
        {"-u", [](Parser& p, SaSpec& sa, std::size_t at) { p.reqid(sa, at); }},
        {"-r", [](Parser& p, SaSpec& sa, std::size_t at) { p.replay(sa, at); }},
        {"-f", [](Parser& p, SaSpec& sa, std::size_t) { p.flag(sa); }},
        {"-lh", [](Parser& p, SaSpec& sa, std::size_t at) { sa.hard.addtime = p.lifetime(sa, at, seconds); }},
        {"-ls", [](Parser& p, SaSpec& sa, std::size_t at) { sa.soft.addtime = p.lifetime(sa, at, seconds); }},
        {"-bh", [](Parser& p, SaSpec& sa, std::size_t at) { sa.hard.bytes = p.lifetime(sa, at, octets); }},
        {"-bs", [](Parser& p, SaSpec& sa, std::size_t at) { sa.soft.bytes = p.lifetime(sa, at, octets); }},
        {"-esn", [](Parser&, SaSpec& sa, std::size_t) { sa.flags |= SADB_X_SAFLAGS_ESN; }},
        {"-natt", [](Parser& p, SaSpec& sa, std::size_t at) { p.nat_traversal(sa, at); }},
        {"-natt_mtu", [](Parser& p, SaSpec& sa, std::size_t at) { p.nat_fragment(sa, at); }},
        {"-hwif", [](Parser& p, SaSpec&, std::size_t at) { p.hardware_interface(at); }},
        {"-ctx", [](Parser& p, SaSpec&, std::size_t at) { p.security_context(at); }},
        {"-E", [](Parser& p, SaSpec& sa, std::size_t at) { p.cipher(sa, at); }, true},
        {"-A", [](Parser& p, SaSpec& sa, std::size_t at) { p.auth(sa, at); }, true},
        {"-C", [](Parser& p, SaSpec& sa, std::size_t at) { p.compression(sa, at); }, true},
        {"-N", [](Parser& p, SaSpec& sa, std::size_t at) { p.nat_traversal(sa, at); }},
        {"-natt-mtu", [](Parser& p, SaSpec& sa, std::size_t at) { p.nat_fragment(sa, at); }},
    };
    // clang-format on
    const auto* row = token().is_word() ? find_word(rows, token().text) : nullptr;
    if (row != nullptr && (keyed || !row->keyed)) {
        row->read(*this, spec, lexer_.next().offset);
        return true;
    }
    std::vector<std::string_view> legal;
    for (const auto& each : rows)
        if (keyed || !each.keyed)
            legal.push_back(each.word);
    expected_one_of(keyed ? "an option, an algorithm or ';'" : "an option or ';'", legal);
    return false;
}

void Parser::mode(SaSpec& sa, std::size_t at)
{
    const auto* row = token().is_word() ? find_word(mode_words, token().text) : nullptr;
    if (row == nullptr)
        return expected_one_of("a mode", words_of(mode_words));
    lexer_.next();
    sa.mode = row->mode;
    sa.at.mode = at;
}

void Parser::reqid(SaSpec& sa, std::size_t at)
{
    sa.reqid = static_cast<std::uint32_t>(number("a request id", max32));
    sa.at.reqid = at;
}

void Parser::replay(SaSpec& sa, std::size_t at)
{
    sa.replay = static_cast<std::uint32_t>(number("a replay window in packets", max32));
    if (sa.replay != 0 && (sa.flags & SADB_X_EXT_OLD) != 0)
        fail(at, "-r does not go with " + std::string(sa.protocol->word) + ": it has no sequence numbers");
}

std::uint64_t Parser::lifetime(SaSpec& sa, std::size_t at, std::string_view what)
{
    sa.at.lifetime = at;
    return number(what, max64);
}

void Parser::flag(SaSpec& sa)
{
    struct Row {
        std::string_view word;
        std::uint32_t clear, set;
    };
    static constexpr Row flags[] = {
        {"random-pad", SADB_X_EXT_PMASK, SADB_X_EXT_PRAND},
        {"seq-pad", SADB_X_EXT_PMASK, SADB_X_EXT_PSEQ},
        {"zero-pad", SADB_X_EXT_PMASK, SADB_X_EXT_PZERO},
        {"nocyclic-seq", SADB_X_EXT_CYCSEQ, 0},
        {"esn", 0, SADB_X_SAFLAGS_ESN},
    };
    const auto* row = token().is_word() ? find_word(flags, token().text) : nullptr;
    if (row == nullptr)
        return expected_one_of("a flag", words_of(flags));
    lexer_.next();
    sa.flags = (sa.flags & ~row->clear) | row->set;
}

// -natt INITIATOR[PORT] RESPONDER[PORT] (FreeBSD): the addresses before NAT, with the ports of the outer UDP header.
void Parser::nat_traversal(SaSpec& sa, std::size_t at)
{
    if (sa.protocol->udp_encapsulated)
        return fail(at, "-natt does not go with esp-udp, which has its ports at the addresses of the SA");
    if (sa.natt && sa.natt->original)
        return fail(at, "-natt is given twice");
    if (!sa.natt)
        sa.natt.emplace();
    sa.at.natt = at;
    sa.natt->original = one_address("-natt");
    sa.natt->original->port = optional_port();
    sa.natt->original_remote = one_address("-natt");
    sa.natt->original_remote->port = optional_port();
}

void Parser::nat_fragment(SaSpec& sa, std::size_t at)
{
    if (!sa.natt) {
        sa.natt.emplace();
        sa.at.natt = at;
    }
    sa.natt->fragment = static_cast<std::uint16_t>(number("a size in bytes", 0xffff));
}

// FreeBSD: an interface that shall do the work. Here all work is done in software, so that the wish changes nothing.
void Parser::hardware_interface(std::size_t at)
{
    if (!token().is_word() || token().text.starts_with('-'))
        return expected("the name of an interface");
    lexer_.next();
    note(at, "-hwif has no effect: this stack has no hardware to do its work");
}

// -ctx DOI ALGORITHM "label"
void Parser::security_context(std::size_t at)
{
    number("a domain of interpretation", 0xff);
    number("the algorithm of a security context", 0xff);
    if (failed())
        return;
    if (token().kind != TokenKind::quoted)
        return expected("a security label in quotes");
    lexer_.next();
    refuse(at, "-ctx is not supported by this stack: it has no security contexts");
}

// ---- what goes with what --------------------------------------------------------------------------------------------

void Parser::check_sa(Verb verb, const SaSpec& sa)
{
    if (failed())
        return;
    const auto word = std::string(sa.protocol->word);
    const bool esp = sa.protocol->satype == SADB_SATYPE_ESP;
    const bool numbered = (esp || sa.protocol->satype == SADB_SATYPE_AH) && (sa.protocol->flags & SADB_X_EXT_OLD) == 0;
    if ((sa.flags & SADB_X_SAFLAGS_ESN) != 0 && !numbered)
        return fail(sa.at.protocol, "extended sequence numbers (ESN) do not go with " + word);
    if (sa.natt && (!esp || (sa.protocol->flags & SADB_X_EXT_OLD) != 0))
        return fail(sa.at.natt, "NAT traversal does not go with " + word + ", only with esp");
    if (sa.natt && !sa.natt->original && !sa.protocol->udp_encapsulated)
        return fail(sa.at.natt, "-natt_mtu goes with -natt or esp-udp");
    if (verb == Verb::add || verb == Verb::update)
        check_algorithms(verb, sa);
}

void Parser::check_algorithms(Verb verb, const SaSpec& sa)
{
    const auto word = std::string(sa.protocol->word);
    const bool esp = sa.protocol->satype == SADB_SATYPE_ESP;
    const bool ipcomp = sa.protocol->satype == SADB_X_SATYPE_IPCOMP;
    const bool tcp = sa.protocol->satype == SADB_X_SATYPE_TCPSIGNATURE;
    if (sa.cipher != nullptr && !esp)
        return fail(sa.at.cipher, word + " does not take -E");
    if (sa.auth != nullptr && ipcomp)
        return fail(sa.at.auth, word + " does not take -A");
    if (sa.compression != nullptr && !ipcomp)
        return fail(sa.at.compression, word + " does not take -C");
    if (sa.auth != nullptr && sa.cipher != nullptr && sa.cipher->kind == AlgorithmKind::aead)
        return fail(sa.at.auth,
                    std::string(sa.cipher->name) + " authenticates by itself: -A does not go with it");
    if (sa.auth != nullptr && (sa.auth->sadb_id == SADB_X_AALG_TCP_MD5) != tcp)
        return fail(sa.at.auth, std::string(sa.auth->name) + " does not go with " + word);
    if (verb == Verb::update || refusal_)   // an update may change lifetimes alone
        return;
    if (esp && sa.cipher == nullptr)
        return fail(sa.at.protocol, word + " needs -E (-E null for authentication alone)");
    if (ipcomp && sa.compression == nullptr)
        return fail(sa.at.protocol, word + " needs -C");
    if (!esp && !ipcomp && sa.auth == nullptr)
        return fail(sa.at.protocol, word + " needs -A");
}

}  // namespace latchkey::setkey
