/*
 * Host names to addresses, without ever waiting for DNS: a background thread asks getaddrinfo(),
 * which may hang, and the last good answer is kept when DNS disappears. Literals are answered at
 * once and never reach the thread. Of a name with IPv4 and IPv6 addresses the first IPv4 one
 * counts.
 */
#ifndef OGEL_BASE_RESOLVE_H
#define OGEL_BASE_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct resolver;

enum { RESOLVE_ADDRESS_SIZE = 64 }; /* an IPv6 literal with scope, and the NUL */

/* True if host is an IPv4 or IPv6 literal (without brackets). */
bool resolve_is_literal(const char *host);

/* Starts the thread; names asked for are asked again every refresh_ms (0: default, 30 s; a name
 * without an answer: each second). */
OGEL_MUST_CHECK int resolver_new(struct resolver **resolver, int refresh_ms, struct err *err);

/* Ends the thread; a lookup that hangs is left behind and frees what is left when it returns. NULL
 * is allowed. */
void resolver_free(struct resolver *resolver);

/* Writes the address known for host; never waits; any thread. True if there is one. Otherwise host
 * is being asked for and *why (NULL allowed, size why_size) says what the last attempt met. The
 * first call for a name returns false. */
bool resolve_get(struct resolver *resolver, const char *host, char address[RESOLVE_ADDRESS_SIZE],
                 char *why, size_t why_size);

/* The same, but waits up to timeout_ms for a first answer. Not for a loop's thread. */
bool resolve_wait(struct resolver *resolver, const char *host, int timeout_ms,
                  char address[RESOLVE_ADDRESS_SIZE], char *why, size_t why_size);

#endif
