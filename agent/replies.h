/* When did a standby last reply? Its replies bear its own time, and its clock may be any. What this
 * machine's clock can tell: another reply than the one before is there, so it came since then. */
#ifndef OGEL_AGENT_REPLIES_H
#define OGEL_AGENT_REPLIES_H

#include <stdint.h>

enum { REPLIES_MAX = 16, REPLY_NAME_SIZE = 64 };

struct reply {
    char name[REPLY_NAME_SIZE]; /* application_name of the walsender */
    int64_t sent_us;            /* of the last one, by the standby's clock */
    int64_t seen_ms;            /* the last sample that showed it; 0: this entry is free */
    int64_t heard_ms;           /* it came after this; 0: not known */
};

struct replies {
    struct reply reply[REPLIES_MAX];
};

/* A sample begun at TAKEN_MS (CLOCK_BOOTTIME) shows that NAME's last reply was sent at SENT_US (0:
 * none yet), by that standby's clock. Samples come in the order of their times. */
void replies_note(struct replies *replies, const char *name, int64_t sent_us, int64_t taken_ms);

/* NAME has replied since this time (CLOCK_BOOTTIME); 0: not known. */
int64_t replies_heard(const struct replies *replies, const char *name);

#endif
