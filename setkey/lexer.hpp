// SPDX-License-Identifier: BSD-2-Clause
// Tokens for the policy languages: words, quoted strings, single punctuation marks, comments to the end of the line.
// Nothing here knows setkey: a language gives its LexerRules. A Token is a view into the text of its Source.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace latchkey {

struct Position {
    std::size_t line = 1;
    std::size_t column = 1;   // in bytes
    bool operator==(const Position&) const = default;
};

// A named text, or a part of one that begins at `first`. Places are byte offsets; line and column are worked out only
// when somebody asks.
class Source {
public:
    Source(std::string name, std::string_view text, Position first = {})
        : name_(std::move(name)), text_(text), first_(first)
    {
    }

    std::string_view text() const { return text_; }
    Position locate(std::size_t offset) const;
    std::string where(std::size_t offset) const;   // NAME:LINE:COLUMN

private:
    std::string name_;
    std::string_view text_;
    Position first_;
    mutable std::vector<std::size_t> line_starts_;   // filled by the first locate()
};

enum class TokenKind : std::uint8_t { word, quoted, punctuation, unterminated, bad, end };

struct Token {
    TokenKind kind = TokenKind::end;
    std::string_view text;   // of a quoted string: without the quotes
    std::size_t offset = 0;  // of the first character, the opening quote included

    bool is(char mark) const { return kind == TokenKind::punctuation && text.front() == mark; }
    bool is(std::string_view word) const { return kind == TokenKind::word && text == word; }
    bool is_word() const { return kind == TokenKind::word; }
    std::size_t end() const { return offset + text.size() + (kind == TokenKind::quoted ? 2 : 0); }
};

class LexerRules {
public:
    constexpr LexerRules(std::string_view punctuation, char comment)
    {
        for (unsigned c = 0; c < 256; ++c)
            classes_[c] = c < 0x20 || c == 0x7f ? Class::bad : Class::word;
        for (const char c : std::string_view(" \t\r\n\f\v"))
            set(c, Class::blank);
        for (const char c : punctuation)
            set(c, Class::punctuation);
        set('"', Class::quote);
        set(comment, Class::comment);
    }

    enum class Class : std::uint8_t { word, blank, punctuation, quote, comment, bad };
    constexpr Class of(char c) const { return classes_[static_cast<unsigned char>(c)]; }

private:
    constexpr void set(char c, Class to) { classes_[static_cast<unsigned char>(c)] = to; }

    std::array<Class, 256> classes_{};
};

class Lexer {
public:
    Lexer(std::string_view text, const LexerRules& rules) : text_(text), rules_(&rules) { scan(); }

    const Token& peek() const { return current_; }
    Token next();

    // Everything from the current token to the next `stop` outside comments, for a part with a grammar of its own.
    // The current token is then `stop` or the end.
    Token raw_until(char stop);

    // Goes on with the token at or behind `offset`.
    void seek(std::size_t offset);

private:
    using Class = LexerRules::Class;
    void scan();
    void skip_blank();
    void take(TokenKind kind, std::size_t from, std::size_t to);

    std::string_view text_;
    const LexerRules* rules_;
    std::size_t at_ = 0;   // first character behind the current token
    Token current_;
};

// A token as an error message may show it: control characters escaped, long ones cut, strings (keys!) not shown.
std::string shown(const Token& token);

}  // namespace latchkey
