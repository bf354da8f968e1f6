# The pure core; the daemon and the simulator link this one object.
noinst_LIBRARIES += libogdecide.a
libogdecide_a_SOURCES =

# The shell around it: observe, act, API.
noinst_LIBRARIES += libogorchestrator.a
libogorchestrator_a_SOURCES =

if HAVE_ORCHESTRATOR
bin_PROGRAMS += ogel-orchestrator
ogel_orchestrator_SOURCES = orchestrator/main.c
ogel_orchestrator_LDADD = libogorchestrator.a libogdecide.a libogproto.a libogbase.a $(BASE_LIBS)
endif
