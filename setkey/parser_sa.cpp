// SPDX-License-Identifier: BSD-2-Clause
// add, update, getspi, get, delete, deleteall: protocol, SPI, options, algorithms and keys of a security association.
#include "setkey/parser.hpp"
#include "setkey/words.hpp"

#include <array>
#include <cctype>

namespace latchkey::setkey {

SaSpec Parser::sa_command(Verb verb)
{
    SaSpec sa;
    family_options();
    sa.sources = addresses_with_port();
    const auto destination_at = token().offset;
    sa.destinations = addresses_with_port();
    check_families(sa.sources, sa.destinations, destination_at);
    const auto protocol_at = token().offset;
    sa_protocol(sa);
    if (verb == Verb::erase_all)
        return sa;
    spi(sa);
    if (verb == Verb::get || verb == Verb::erase)
        return sa;
    const bool keyed = verb != Verb::getspi;
    while (!failed() && !token().is(';'))
        if (!sa_option(sa) && !(keyed && sa_algorithm(sa)))
            expected(keyed ? "an option, an algorithm or ';'" : "an option or ';'");
    check_sa(verb, sa, protocol_at);
    return sa;
}

void Parser::sa_protocol(SaSpec& sa)
{
    if (failed())
        return;
    sa.protocol = token().is_word() ? find_word(sa_protocols, token().text) : nullptr;
    if (sa.protocol == nullptr)
        return expected_one_of("a security protocol", words_of(sa_protocols));
    lexer_.next();
    sa.flags |= sa.protocol->flags;
    // What stands between esp-udp and the SPI is the address before NAT.
    if (sa.protocol->udp_encapsulated && token().is_word() && !parse_number(token().text))
        if (const auto found = addresses(); !found.empty())
            sa.original = found.front();
}

void Parser::spi(SaSpec& sa)
{
    const auto at = token().offset;
    const auto value = number("an SPI", max64);
    if (failed())
        return;
    if (value > max32)
        return fail(at, "SPI too big: it has 32 bits");
    // RFC 3173 §3.3: a CPI has 16 bits.
    if (sa.protocol->satype == SADB_X_SATYPE_IPCOMP && value > 0xffff)
        return fail(at, "SPI too big: the CPI of ipcomp has 16 bits");
    sa.spi = static_cast<std::uint32_t>(value);
}

// One option; false: the token is none.
bool Parser::sa_option(SaSpec& sa)
{
    const auto at = token().offset;
    if (accept("-m")) {
        const auto* row = token().is_word() ? find_word(mode_words, token().text) : nullptr;
        if (row != nullptr)
            sa.mode = row->mode, lexer_.next();
        else
            expected_one_of("a mode", words_of(mode_words));
    } else if (accept("-u")) {
        sa.reqid = static_cast<std::uint32_t>(number("a request id", max32));
    } else if (accept("-r")) {
        sa.replay = static_cast<std::uint32_t>(number("a replay window in packets", max32));
        if (sa.replay != 0 && (sa.flags & SADB_X_EXT_OLD) != 0)
            fail(at, "-r does not go with " + std::string(sa.protocol->word) + ": it has no sequence numbers");
    } else if (accept("-f")) {
        flag(sa);
    } else if (accept("-lh")) {
        sa.hard.addtime = number("a number of seconds", max64);
    } else if (accept("-ls")) {
        sa.soft.addtime = number("a number of seconds", max64);
    } else if (accept("-bh")) {
        sa.hard.bytes = number("a number of bytes", max64);
    } else if (accept("-bs")) {
        sa.soft.bytes = number("a number of bytes", max64);
    } else if (token().is("-ctx")) {
        security_context();
    } else {
        return false;
    }
    return true;
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
    };
    const auto* row = token().is_word() ? find_word(flags, token().text) : nullptr;
    if (row == nullptr)
        return expected_one_of("a flag", words_of(flags));
    lexer_.next();
    sa.flags = (sa.flags & ~row->clear) | row->set;
}

// -ctx DOI ALGORITHM "label"
void Parser::security_context()
{
    const auto at = lexer_.next().offset;
    number("a domain of interpretation", max32);
    number("the algorithm of a security context", max32);
    if (failed())
        return;
    if (token().kind != TokenKind::quoted)
        return expected("a security label in quotes");
    lexer_.next();
    fail(at, "-ctx is not supported: this host has no security contexts", Diagnostic::Kind::refused);
}

// ---- algorithms -----------------------------------------------------------------------------------------------------

bool Parser::sa_algorithm(SaSpec& sa)
{
    if (token().is("-E"))
        cipher(sa);
    else if (token().is("-A"))
        auth(sa);
    else if (token().is("-C"))
        compression(sa);
    else
        return false;
    return true;
}

namespace {

// Names of DES that also say how its IV is made (RFC 1829).
struct DesVariant {
    std::string_view word;
    std::uint32_t flag;
    bool old;   // goes with esp-old only; otherwise with esp only
};
constexpr DesVariant des_variants[] = {
    {"des-deriv", SADB_X_EXT_DERIV, false},
    {"des-32iv", SADB_X_EXT_IV4B, true},
};

std::string_view kind_text(AlgorithmKind kind)
{
    switch (kind) {
    case AlgorithmKind::cipher:
    case AlgorithmKind::aead: return "an encryption algorithm";
    case AlgorithmKind::auth: return "an authentication algorithm";
    case AlgorithmKind::compression: break;
    }
    return "a compression algorithm";
}

}  // namespace

void Parser::cipher(SaSpec& sa)
{
    const auto at = lexer_.next().offset;
    if (sa.cipher != nullptr)
        return fail(at, "-E is given twice");
    const auto name = token();
    if (const auto* variant = name.is_word() ? find_word(des_variants, name.text) : nullptr) {
        if (((sa.flags & SADB_X_EXT_OLD) != 0) != variant->old)
            return fail(name.offset, std::string(variant->word) +
                                         (variant->old ? " goes with esp-old only" : " does not go with esp-old"));
        sa.flags |= variant->flag;
        lexer_.next();
        sa.cipher = algorithm_by_id(AlgorithmKind::cipher, SADB_EALG_DESCBC);
    } else {
        sa.cipher = algorithm(AlgorithmKind::cipher);
    }
    if (!failed())
        sa.cipher_key = key(*sa.cipher);
}

void Parser::auth(SaSpec& sa)
{
    const auto at = lexer_.next().offset;
    if (sa.auth != nullptr)
        return fail(at, "-A is given twice");
    sa.auth = algorithm(AlgorithmKind::auth);
    if (!failed())
        sa.auth_key = key(*sa.auth);
}

void Parser::compression(SaSpec& sa)
{
    const auto at = lexer_.next().offset;
    if (sa.compression != nullptr)
        return fail(at, "-C is given twice");
    sa.compression = algorithm(AlgorithmKind::compression);
    if (accept("-R"))
        sa.flags |= SADB_X_EXT_RAWCPI;
}

const Algorithm* Parser::algorithm(AlgorithmKind kind)
{
    if (failed())
        return nullptr;
    if (token().is_word())
        if (const auto* found = algorithm_by_name(kind, token().text)) {
            lexer_.next();
            return found;
        }
    std::vector<std::string_view> names;
    for (const auto& row : algorithms)
        if (same_space(row.kind, kind))
            names.push_back(row.name);
    expected_one_of(kind_text(kind), names);
    return nullptr;
}

// ---- keys -----------------------------------------------------------------------------------------------------------

namespace {

// "128, 192 or 256 bits"
std::string allowed_bits(const Algorithm& algorithm)
{
    static constexpr unsigned longest_list = 4;
    const unsigned low = algorithm.key_min, high = algorithm.key_max, step = algorithm.key_step;
    if (step == 0)
        return std::to_string(low) + " bits";
    if ((high - low) / step >= longest_list)
        return std::to_string(low) + " to " + std::to_string(high) + " bits in steps of " + std::to_string(step);
    std::string out = std::to_string(low);
    for (unsigned bits = low + step; bits <= high; bits += step)
        out += (bits == high ? " or " : ", ") + std::to_string(bits);
    return out + " bits";
}

Bytes octets(std::string_view text)
{
    return {static_cast<const std::uint8_t*>(static_cast<const void*>(text.data())), text.size()};
}

std::optional<std::uint8_t> nibble(char c)
{
    if (c >= '0' && c <= '9')
        return static_cast<std::uint8_t>(c - '0');
    const char lower = static_cast<char>(c | 0x20);
    if (lower >= 'a' && lower <= 'f')
        return static_cast<std::uint8_t>(lower - 'a' + 10);
    return std::nullopt;
}

}  // namespace

SecretBytes Parser::key(const Algorithm& algorithm)
{
    const auto given = token();
    const bool hex = given.is_word() && looks_hex(given.text);
    if (algorithm.primitive == Primitive::null) {
        // Traditionally no key at all; FreeBSD's scripts write "".
        if (given.kind == TokenKind::quoted && given.text.empty())
            lexer_.next();
        else if (given.kind == TokenKind::quoted || hex)
            fail(given.offset, "expected no key (null takes none), got one", Diagnostic::Kind::syntax);
        return {};
    }
    if (given.kind != TokenKind::quoted && !hex) {
        expected("a key, \"TEXT\" or 0xHEX");
        return {};
    }
    auto out = hex ? hex_key(given) : SecretBytes(octets(given.text));
    lexer_.next();
    const auto bits = out.size() * 8;
    if (!failed() && (bits > algorithm.key_max || !algorithm.key_bits_ok(static_cast<unsigned>(bits))))
        fail(given.offset, "Invalid key length: " + std::string(algorithm.name) + " wants " + allowed_bits(algorithm) +
                               ", got " + std::to_string(bits));
    return out;
}

// With an odd number of digits the first one stands alone: 0xabc is 0a bc.
SecretBytes Parser::hex_key(const Token& token)
{
    auto digits = token.text.substr(2);
    std::vector<std::uint8_t> raw;
    raw.reserve((digits.size() + 1) / 2);
    unsigned value = 0;
    for (std::size_t i = 0; i < digits.size() && !failed(); ++i) {
        const auto digit = nibble(digits[i]);
        if (!digit)
            fail(token.offset + 2 + i, "expected a hexadecimal digit in the key", Diagnostic::Kind::syntax);
        value = value << 4 | digit.value_or(0);
        if ((digits.size() - i) % 2 == 1) {
            raw.push_back(static_cast<std::uint8_t>(value));
            value = 0;
        }
    }
    SecretBytes out(raw);
    sodium_memzero(raw.data(), raw.size());
    return out;
}

// ---- what the protocol asks for -------------------------------------------------------------------------------------

void Parser::check_sa(Verb verb, const SaSpec& sa, std::size_t at)
{
    if (failed() || verb == Verb::getspi)
        return;
    const auto word = std::string(sa.protocol->word);
    const bool esp = sa.protocol->satype == SADB_SATYPE_ESP;
    const bool ipcomp = sa.protocol->satype == SADB_X_SATYPE_IPCOMP;
    if (sa.cipher != nullptr && !esp)
        return fail(at, word + " does not take -E");
    if (sa.auth != nullptr && ipcomp)
        return fail(at, word + " does not take -A");
    if (sa.compression != nullptr && !ipcomp)
        return fail(at, word + " does not take -C");
    if (sa.auth != nullptr && sa.cipher != nullptr && sa.cipher->kind == AlgorithmKind::aead)
        return fail(at, std::string(sa.cipher->name) + " authenticates by itself: -A does not go with it");
    const bool tcp = sa.protocol->satype == SADB_X_SATYPE_TCPSIGNATURE;
    if (sa.auth != nullptr && (sa.auth->sadb_id == SADB_X_AALG_TCP_MD5) != tcp)
        return fail(at, std::string(sa.auth->name) + " does not go with " + word);
    if (verb == Verb::update)   // may change lifetimes alone
        return;
    if (esp && sa.cipher == nullptr)
        return fail(at, word + " needs -E (-E null for authentication alone)");
    if (ipcomp && sa.compression == nullptr)
        return fail(at, word + " needs -C");
    if (!esp && !ipcomp && sa.auth == nullptr)
        return fail(at, word + " needs -A");
}

}  // namespace latchkey::setkey
