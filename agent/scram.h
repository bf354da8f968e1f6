/* SCRAM verifiers, so that a password is changed only where it differs and never travels to the
 * server (nor into its log) in the clear. Source: RFC 5802, RFC 7677; PostgreSQL's manual,
 * "pg_authid". */
#ifndef OGEL_AGENT_SCRAM_H
#define OGEL_AGENT_SCRAM_H

#include <stdbool.h>

/* Does PASSWORD belong to VERIFIER, "SCRAM-SHA-256$4096:salt$StoredKey:ServerKey"? False for
 * anything else, NULL too. A password that SASLprep would change (non-ASCII) may be called
 * different although it is not: it is then set again. */
bool scram_matches(const char *verifier, const char *password);

/* A verifier with a fresh salt; malloc()ed. PASSWORD is used as it is: ASCII. MACHINE: only
 * programs use it; where it is as long as a generated one it is not stretched, because guessing it
 * is hopeless anyway and libpq spends 16 ms on stretching, in each failover and in each probe. */
char *scram_verifier(const char *password, bool machine);

#endif
