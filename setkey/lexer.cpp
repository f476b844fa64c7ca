// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/lexer.hpp"

#include <algorithm>
#include <cstdio>

namespace latchkey {

Token Lexer::next()
{
    const Token token = current_;
    scan();
    return token;
}

void Lexer::scan()
{
    skip_blank();
    if (at_ == text_.size())
        return take(TokenKind::end, at_, at_);
    const auto start = at_;
    switch (rules_->of(text_[start])) {
    case Class::punctuation: return take(TokenKind::punctuation, start, start + 1);
    case Class::quote: {
        // No escapes; a string may span lines.
        const auto close = text_.find('"', start + 1);
        if (close == text_.npos)
            return take(TokenKind::unterminated, start, text_.size());
        current_ = {TokenKind::quoted, text_.substr(start + 1, close - start - 1), start};
        at_ = close + 1;
        return;
    }
    case Class::bad: return take(TokenKind::bad, start, start + 1);
    default: break;
    }
    auto end = start;
    while (end < text_.size() && rules_->of(text_[end]) == Class::word)
        ++end;
    take(TokenKind::word, start, end);
}

void Lexer::skip_blank()
{
    while (at_ < text_.size()) {
        const auto kind = rules_->of(text_[at_]);
        if (kind == Class::blank)
            ++at_;
        else if (kind == Class::comment)
            at_ = std::min(text_.find('\n', at_), text_.size());
        else
            return;
    }
}

void Lexer::take(TokenKind kind, std::size_t from, std::size_t to)
{
    current_ = {kind, text_.substr(from, to - from), from};
    at_ = to;
}

Token Lexer::raw_until(char stop)
{
    const auto start = current_.offset;
    at_ = start;
    while (at_ < text_.size() && text_[at_] != stop)
        at_ = rules_->of(text_[at_]) == Class::comment ? std::min(text_.find('\n', at_), text_.size()) : at_ + 1;
    const Token raw{TokenKind::word, text_.substr(start, at_ - start), start};
    scan();
    return raw;
}

void Lexer::seek(std::size_t offset)
{
    at_ = std::min(offset, text_.size());
    scan();
}

Position Source::locate(std::size_t offset) const
{
    if (line_starts_.empty()) {
        line_starts_.push_back(0);
        for (auto at = text_.find('\n'); at != text_.npos; at = text_.find('\n', at + 1))
            line_starts_.push_back(at + 1);
    }
    const auto after = std::upper_bound(line_starts_.begin(), line_starts_.end(), offset);
    const auto line = static_cast<std::size_t>(after - line_starts_.begin()) - 1;
    const auto column = offset - line_starts_[line] + 1;
    return {first_.line + line, line == 0 ? first_.column + column - 1 : column};
}

std::string Source::where(std::size_t offset) const
{
    const auto at = locate(offset);
    return name_ + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
}

std::string shown(const Token& token)
{
    static constexpr std::size_t longest = 40;
    if (token.kind == TokenKind::end)
        return "the end of the input";
    if (token.kind == TokenKind::quoted)
        return "a quoted string";
    if (token.kind == TokenKind::unterminated)
        return "a quoted string without its closing quote";
    std::string out = "'";
    for (const char c : token.text.substr(0, longest)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f) {
            out += c;
        } else {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
            out += escaped;
        }
    }
    return out + (token.text.size() > longest ? "...'" : "'");
}

}  // namespace latchkey
