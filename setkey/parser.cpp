// SPDX-License-Identifier: BSD-2-Clause
// The walk over commands, recovery, and what all of them share: numbers, words, errors. Addresses are in
// parser_address.cpp, security associations in parser_sa.cpp, their keys in parser_keys.cpp, policies in
// parser_policy.cpp.
#include "setkey/parser.hpp"

#include "setkey/suggest.hpp"
#include "setkey/words.hpp"

namespace latchkey::setkey {

namespace {

constexpr LexerRules rules(";[]/", '#');

}  // namespace

Parser::Parser(const Source& source, ParseOptions options)
    : text_(source.text()), options_(std::move(options)), lexer_(source.text(), rules)
{
}

std::expected<std::optional<Command>, Diagnostic> Parser::next()
{
    error_.reset();
    refusal_.reset();
    notes_.clear();
    while (accept(';'))   // an empty command is none
        ;
    if (token().kind == TokenKind::end)
        return std::nullopt;
    begin_ = token().offset;
    std::optional<Command> command(std::in_place);
    statement(*command);
    if (!token().is(';'))
        expected("';'");
    if (!failed() && refusal_)
        error_ = std::move(refusal_);
    if (failed())
        return std::unexpected(std::move(*error_));
    lexer_.next();
    command->notes = std::move(notes_);
    return command;
}

std::size_t complete_commands(std::string_view text)
{
    std::size_t end = 0;
    for (Lexer lexer(text, rules); lexer.peek().kind != TokenKind::end;)
        if (const auto token = lexer.next(); token.is(';'))
            end = token.end();
    return end;
}

std::size_t next_command_line(std::string_view text)
{
    const auto is = [&](std::size_t at, LexerRules::Class kind) {
        return at < text.size() && rules.of(text[at]) == kind;
    };
    for (auto at = text.find('\n'); at != text.npos; at = text.find('\n', at)) {
        while (is(at, LexerRules::Class::blank))
            ++at;
        auto end = at;
        while (is(end, LexerRules::Class::word))
            ++end;
        if (find_word(verb_words, text.substr(at, end - at)) != nullptr)
            return at;
    }
    return text.size();
}

bool Parser::recover()
{
    // Read once more from its start: an error may stand anywhere in it, also in the middle of a policy.
    const auto line = begin_ + next_command_line(text_.substr(begin_));
    lexer_.seek(begin_);
    while (token().kind != TokenKind::end && token().end() <= line)
        if (lexer_.next().is(';'))
            return true;
    lexer_.seek(line);
    return line < text_.size();
}

void Parser::statement(Command& out)
{
    family_ = Family::none;
    numeric_ = options_.numeric;
    out.offset = token().offset;
    const auto* row = token().is_word() ? find_word(verb_words, token().text) : nullptr;
    if (row == nullptr)
        return expected_one_of("a command", words_of(verb_words));
    lexer_.next();
    out.verb = row->verb;
    switch (row->verb) {
    case Verb::add:
    case Verb::update:
    case Verb::getspi:
    case Verb::get:
    case Verb::erase:
    case Verb::erase_all: out.body = sa_command(row->verb); return;
    case Verb::spd_add:
    case Verb::spd_update:
    case Verb::spd_erase: out.body = policy_command(); return;
    case Verb::flush:
    case Verb::dump: out.body = table_command(); return;
    case Verb::spd_flush:
    case Verb::spd_dump:
    case Verb::quit: return;
    }
}

TableSpec Parser::table_command()
{
    if (token().is(';'))
        return {};
    const auto* protocol = token().is_word() ? find_word(sa_protocols, token().text) : nullptr;
    if (protocol == nullptr) {
        expected_one_of("a security protocol or ';'", words_of(sa_protocols));
        return {};
    }
    if (protocol->satype == SADB_X_SATYPE_TCPSIGNATURE)
        refuse(token().offset, no_tcp_md5);
    lexer_.next();
    return {protocol->satype};
}

// ---- single tokens and errors ---------------------------------------------------------------------------------------

std::uint64_t Parser::number(std::string_view what, std::uint64_t limit)
{
    if (failed())
        return 0;
    const auto value = token().is_word() ? parse_number(token().text) : std::nullopt;
    if (!value) {
        expected(what);
        return 0;
    }
    const auto word = lexer_.next();
    if (*value > limit)
        fail(word.offset, shown(word) + " is too big: " + std::string(what) + " is at most " + std::to_string(limit));
    return *value;
}

bool Parser::accept(std::string_view word)
{
    if (failed() || !token().is(word))
        return false;
    lexer_.next();
    return true;
}

bool Parser::accept(char mark)
{
    if (failed() || !token().is(mark))
        return false;
    lexer_.next();
    return true;
}

void Parser::expect(char mark, std::string_view what)
{
    if (!accept(mark))
        expected(what);
}

void Parser::expected(std::string_view what)
{
    fail(token().offset, "expected " + std::string(what) + ", got " + shown(token()), Diagnostic::Kind::syntax);
}

void Parser::expected_one_of(std::string_view what, const std::vector<std::string_view>& words)
{
    fail(token().offset, "expected " + std::string(what) + ", got " + shown(token()) +
                             (token().is_word() ? did_you_mean(token().text, words) : ""),
         Diagnostic::Kind::syntax);
}

void Parser::fail(std::size_t offset, std::string text, Diagnostic::Kind kind)
{
    if (!failed())
        error_ = Diagnostic{kind, offset, std::move(text)};
}

void Parser::refuse(std::size_t offset, std::string text)
{
    if (!failed() && !refusal_)
        refusal_ = Diagnostic{Diagnostic::Kind::refused, offset, std::move(text)};
}

void Parser::note(std::size_t offset, std::string text)
{
    if (!failed())
        notes_.push_back({Diagnostic::Kind::warning, offset, std::move(text)});
}

}  // namespace latchkey::setkey
