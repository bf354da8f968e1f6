#include "agent/replies.h"

#include <stdio.h>
#include <string.h>

static struct reply *find(struct replies *replies, const char *name)
{
    struct reply *oldest = &replies->reply[0];

    for (int i = 0; i < REPLIES_MAX; i++) {
        struct reply *reply = &replies->reply[i];

        if (reply->seen_ms != 0 && strcmp(reply->name, name) == 0)
            return reply;
        if (reply->seen_ms < oldest->seen_ms)
            oldest = reply;
    }
    memset(oldest, 0, sizeof *oldest);
    return oldest;
}

void replies_note(struct replies *replies, const char *name, int64_t sent_us, int64_t taken_ms)
{
    struct reply *reply = find(replies, name);

    if (reply->seen_ms == 0)
        snprintf(reply->name, sizeof reply->name, "%s", name);
    else if (reply->sent_us != sent_us)
        reply->heard_ms = reply->seen_ms;
    reply->sent_us = sent_us;
    reply->seen_ms = taken_ms;
}

int64_t replies_heard(const struct replies *replies, const char *name)
{
    for (int i = 0; i < REPLIES_MAX; i++) {
        const struct reply *reply = &replies->reply[i];

        if (reply->seen_ms != 0 && strcmp(reply->name, name) == 0)
            return reply->heard_ms;
    }
    return 0;
}
