/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For Solaris sources, with include/compat in front of the system's directories: <netdb.h> also has getipsecalgbyname(3)
 * and its relatives.
 */
#ifndef LATCHKEY_COMPAT_NETDB_H
#define LATCHKEY_COMPAT_NETDB_H

#include_next <netdb.h>

#include <latchkey/algorithms.h>

#endif
