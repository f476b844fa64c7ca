// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/suggest.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace latchkey;

namespace {

const std::vector<std::string_view> words{"add", "spdadd", "delete", "aes-cbc", "aes-ctr", "-m", "-lh", "-natt"};

}  // namespace

TEST_CASE("one slip: a letter too many, too few, wrong, or two in the wrong order")
{
    CHECK(nearest("addd", words) == "add");
    CHECK(nearest("ad", words) == "add");
    CHECK(nearest("aed", words) == "add");
    CHECK(nearest("dad", words) == "add");
    CHECK(nearest("spadd", words) == "spdadd");
    CHECK(nearest("delte", words) == "delete");
    CHECK(nearest("aes_cbc", words) == "aes-cbc");
}

TEST_CASE("two slips in longer words, not three")
{
    CHECK(nearest("dlet", words) == "delete");
    CHECK(nearest("spdaddit", words) == "spdadd");
    CHECK(nearest("-nat", words) == "-natt");
    CHECK(nearest("del", words).empty());
    CHECK(nearest("rc5-cbc", words).empty());
}

TEST_CASE("the fewest slips win, and of equals the first")
{
    CHECK(nearest("aes-ctb", words) == "aes-ctr");
    CHECK(nearest("aes-cbr", words) == "aes-cbc");
}

TEST_CASE("case does not count")
{
    CHECK(nearest("AES-CBC", words) == "aes-cbc");
    CHECK(nearest("Add", words) == "add");
}

TEST_CASE("no guess where every slip makes another word, and none for what is far away")
{
    CHECK(nearest("-x", words).empty());
    CHECK(nearest("-h", words) == "-lh");
    CHECK(nearest("q", words).empty());
    CHECK(nearest("", words).empty());
    CHECK(nearest("xyzzy", words).empty());
    CHECK(nearest("add", {}).empty());
    CHECK(nearest(std::string(1000, 'a'), words).empty());
    CHECK(nearest(std::string(63, 'a'), std::vector<std::string_view>{std::string_view("aaaa")}).empty());
}

TEST_CASE("as part of a message")
{
    CHECK(did_you_mean("spadd", words) == " (did you mean 'spdadd'?)");
    CHECK(did_you_mean("nothing", words) == "");
}
