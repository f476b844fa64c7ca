// SPDX-License-Identifier: BSD-2-Clause
// "Did you mean ...?": the legal word that is nearest to a misspelt one. The parsers of policy languages call it for
// their error messages.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace latchkey {

// Of the words that may stand at this place the one that `word` most likely meant: at most two slips away (a letter too
// many, too few, wrong, or two in the wrong order), one in short words. Case does not count. Empty if none is near.
std::string_view nearest(std::string_view word, std::span<const std::string_view> legal);

// " (did you mean 'add'?)", or nothing.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> legal);

}  // namespace latchkey
