/* The cluster document as this agent keeps it: in <state_directory>/document, with the same care as
 * the promise. What is in the document: protocol/document.h. */
#ifndef OGEL_AGENT_DOCUMENT_H
#define OGEL_AGENT_DOCUMENT_H

#include <jansson.h>

#include "agent/pgconf.h"
#include "base/err.h"
#include "protocol/document.h"
#include "protocol/types.h"

struct slotfile;

/* Opens the file, making it where there is none. *DOCUMENT is NULL, and FACTS zero, where no
 * document was ever written; else a new reference. */
OGEL_MUST_CHECK int document_open(const char *state_directory,
                                  const char ids[NODE_COUNT][NODE_ID_SIZE], struct slotfile **file,
                                  json_t **document, struct document_facts *facts, struct err *err);

/* Durable when it returns 0; otherwise the previous one stands. Blocks as long as the disk does. */
OGEL_MUST_CHECK int document_write(struct slotfile *file, const json_t *document, struct err *err);

/* Settings and access rules of the document that the agent would leave out: ERR_REFUSED names the
 * first, with the reason. */
OGEL_MUST_CHECK int document_check_rules(const json_t *document, struct err *err);

enum { DOCUMENT_SETTINGS_MAX = 256, DOCUMENT_HBA_MAX = 256 };

/* The document in the form pgconf_write() takes. The texts belong to the document; NULL (no
 * document yet) gives safe defaults. */
struct document_rules {
    const char *listen_addresses; /* NULL: the node's own host */
    const char *database;
    const char *owner;
    struct pgconf_setting settings[DOCUMENT_SETTINGS_MAX];
    size_t setting_count;
    const char *hba[DOCUMENT_HBA_MAX];
    size_t hba_count;
};

void document_rules(const json_t *document, struct document_rules *rules);

#endif
