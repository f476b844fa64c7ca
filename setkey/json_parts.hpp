// SPDX-License-Identifier: BSD-2-Clause
// What the objects of json.cpp and json_record.cpp have in common.
#pragma once

#include "pfkey/message.hpp"
#include "setkey/json_writer.hpp"

namespace latchkey::setkey {

std::string hex_text(Bytes bytes);
void append_json(std::string& out, const Lifetime& lifetime);
void append_json(std::string& out, const IdentityExt& identity);
void append_json_flags(std::string& out, std::uint32_t flags);          // a list of words
void add_policy_members(JsonObject& object, const PolicyExt& policy);   // direction, action, id, priority, rules

}  // namespace latchkey::setkey
