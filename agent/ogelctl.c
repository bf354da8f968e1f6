#include "agent/ogelctl.h"

#include <stdlib.h>

const char *ogelctl_path(void)
{
    const char *given = getenv("OGEL_CTL");

    return given && given[0] == '/' ? given : OGEL_BINDIR "/ogelctl";
}
