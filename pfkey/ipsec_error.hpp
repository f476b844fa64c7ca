// SPDX-License-Identifier: BSD-2-Clause
// What ipsec_strerror(3) tells: the verdict of the calling thread's latest call to a function of <libpfkey.h> or
// <netinet6/ipsec.h>. Every such function ends in one of these.
#pragma once

#include <netinet6/ipsec.h>

#include <string_view>

namespace latchkey::ipsec {

// -1 with the EIPSEC_ code; errno becomes EINVAL. The detail, if any, says what was expected and what came.
int refuse(int code, std::string_view detail = {});

// -1 with EIPSEC_SYSTEM_ERROR; errno becomes `error`. The text is strerror's, with the detail behind it.
int refuse_errno(int error, std::string_view detail = {});

// EIPSEC_NO_ERROR; hands the result through.
void accept();
template <class T> T accept(T result)
{
    accept();
    return result;
}

}  // namespace latchkey::ipsec
