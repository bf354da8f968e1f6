/* Where ogelctl is, which an agent runs for what has to do with snapshots: installed beside it, or,
 * in a build tree, where $OGEL_CTL says. */
#ifndef OGEL_AGENT_OGELCTL_H
#define OGEL_AGENT_OGELCTL_H

/* Not to be freed. */
const char *ogelctl_path(void);

#endif
