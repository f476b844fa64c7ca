// SPDX-License-Identifier: BSD-2-Clause
// -E, -A, -C: algorithms by name, and their keys.
#include "setkey/parser.hpp"
#include "setkey/words.hpp"

namespace latchkey::setkey {

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

void Parser::cipher(SaSpec& sa, std::size_t at)
{
    if (sa.cipher != nullptr)
        return fail(at, "-E is given twice");
    sa.at.cipher = at;
    const auto name = token();
    if (withdrawn_cipher())
        return;
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

void Parser::auth(SaSpec& sa, std::size_t at)
{
    if (sa.auth != nullptr)
        return fail(at, "-A is given twice");
    sa.at.auth = at;
    sa.auth = algorithm(AlgorithmKind::auth);
    if (!failed())
        sa.auth_key = key(*sa.auth);
}

void Parser::compression(SaSpec& sa, std::size_t at)
{
    if (sa.compression != nullptr)
        return fail(at, "-C is given twice");
    sa.at.compression = at;
    sa.compression = algorithm(AlgorithmKind::compression);
    if (accept("-R"))
        sa.flags |= SADB_X_EXT_RAWCPI;
}

// Names of old manual pages that no setkey takes any more: what their scripts say besides still runs.
bool Parser::withdrawn_cipher()
{
    struct Row {
        std::string_view word;
    };
    static constexpr Row names[] = {{"rc5-cbc"}, {"3des-deriv"}};
    const auto name = token();
    if (!name.is_word() || find_word(names, name.text) == nullptr)
        return false;
    lexer_.next();
    any_key();
    refuse(name.offset, shown(name) + " is not supported by this stack: it was withdrawn from IPsec");
    return true;
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
    auto out = any_key();
    const auto bits = out.size() * 8;
    if (!failed() && (bits > algorithm.key_max || !algorithm.key_bits_ok(static_cast<unsigned>(bits))))
        fail(given.offset, "Invalid key length: " + std::string(algorithm.name) + " wants " + allowed_bits(algorithm) +
                               ", got " + std::to_string(bits) +
                               (given.text.find('\n') != given.text.npos ? " (is its closing quote missing?)" : ""));
    return out;
}

// "TEXT" or 0xHEX, of any length.
SecretBytes Parser::any_key()
{
    const auto given = token();
    const bool hex = given.is_word() && looks_hex(given.text);
    if (given.kind != TokenKind::quoted && !hex) {
        expected("a key, \"TEXT\" or 0xHEX");
        return {};
    }
    auto out = hex ? hex_key(given) : SecretBytes(octets(given.text));
    lexer_.next();
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

}  // namespace latchkey::setkey
