// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/lexer.hpp"

#include <doctest/doctest.h>

using namespace latchkey;

namespace {

constexpr LexerRules rules(";[]/", '#');

std::vector<Token> tokens(std::string_view text)
{
    std::vector<Token> out;
    for (Lexer lexer(text, rules); lexer.peek().kind != TokenKind::end;)
        out.push_back(lexer.next());
    return out;
}

std::vector<std::string> texts(std::string_view text)
{
    std::vector<std::string> out;
    for (const auto& token : tokens(text))
        out.emplace_back(token.text);
    return out;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("words end at blanks, punctuation, quotes and comments")
{
    CHECK(texts("add fec0::10[any]/64 -E 0xff;") ==
          Strings{"add", "fec0::10", "[", "any", "]", "/", "64", "-E", "0xff", ";"});
    CHECK(texts("a\"b\"c#d\ne") == Strings{"a", "b", "c", "e"});
    CHECK(texts(" \t\r\n\v\f ").empty());
    CHECK(texts("").empty());
    CHECK(texts("# only a comment").empty());
}

TEST_CASE("a quoted string keeps everything up to the next quote")
{
    const auto found = tokens("\"a;#\n b\" \"\"");
    REQUIRE(found.size() == 2);
    CHECK(found[0].kind == TokenKind::quoted);
    CHECK(found[0].text == "a;#\n b");
    CHECK(found[0].end() == 8);
    CHECK(found[1].kind == TokenKind::quoted);
    CHECK(found[1].text.empty());
}

TEST_CASE("an open quote and a control character are tokens of their own kind")
{
    CHECK(tokens("x \"abc")[1].kind == TokenKind::unterminated);
    CHECK(tokens("x \"abc")[1].offset == 2);
    CHECK(tokens("a\x01")[1].kind == TokenKind::bad);
    CHECK(tokens(std::string_view("\0", 1))[0].kind == TokenKind::bad);
    CHECK(tokens("\xc3\xa9")[0].kind == TokenKind::word);
}

TEST_CASE("raw text runs to the stop mark, not to one in a comment")
{
    Lexer lexer("-P out ipsec # not; here\n esp//x ; next", rules);
    lexer.next();
    const auto raw = lexer.raw_until(';');
    CHECK(raw.text == "out ipsec # not; here\n esp//x ");
    CHECK(raw.offset == 3);
    CHECK(lexer.next().is(';'));
    CHECK(lexer.next().is("next"));

    Lexer open("out ipsec", rules);
    CHECK(open.raw_until(';').text == "out ipsec");
    CHECK(open.peek().kind == TokenKind::end);
}

TEST_CASE("places are lines and columns, also in a part of a longer text")
{
    const Source whole("f.cf", "ab\n\ncd");
    CHECK(whole.locate(0) == Position{1, 1});
    CHECK(whole.locate(1) == Position{1, 2});
    CHECK(whole.locate(3) == Position{2, 1});
    CHECK(whole.where(5) == "f.cf:3:2");
    CHECK(whole.locate(6) == Position{3, 3});   // the end of the text

    const Source part("f.cf", "ab\ncd", {7, 5});
    CHECK(part.locate(1) == Position{7, 6});
    CHECK(part.locate(3) == Position{8, 1});
}

TEST_CASE("tokens in messages: escaped, cut, and never the text of a string")
{
    CHECK(shown(tokens("abc")[0]) == "'abc'");
    CHECK(shown(tokens("a\xff")[0]) == "'a\\xff'");
    CHECK(shown(tokens("\x1b[")[0]) == "'\\x1b'");
    CHECK(shown(tokens("\"secret\"")[0]) == "a quoted string");
    CHECK(shown(tokens("\"secret")[0]) == "a quoted string without its closing quote");
    CHECK(shown(Token{}) == "the end of the input");
    CHECK(shown(tokens(std::string(100, 'x'))[0]) == "'" + std::string(40, 'x') + "...'");
}

TEST_CASE("seek goes on at any place")
{
    Lexer lexer("a \"b c\" d", rules);
    lexer.seek(5);
    CHECK(lexer.next().is("c"));
    lexer.seek(2);
    CHECK(lexer.next().kind == TokenKind::quoted);
    lexer.seek(1000);
    CHECK(lexer.peek().kind == TokenKind::end);
}
