/* Telling systemd (Type=notify) where the daemon stands: one datagram to $NOTIFY_SOCKET; nothing
 * where there is none. */
#ifndef OGEL_BASE_NOTIFY_H
#define OGEL_BASE_NOTIFY_H

void notify_ready(void);
void notify_stopping(void);

#endif
