# The pure core; the daemon and the simulator link this one object.
noinst_LIBRARIES += libogreconcile.a
libogreconcile_a_SOURCES = \
	agent/reasons.def \
	agent/reasons.c \
	agent/reconcile.c \
	agent/reconcile.h \
	agent/reconcile_fence.c \
	agent/reconcile_follow.c \
	agent/reconcile_identity.c \
	agent/reconcile_internal.h \
	agent/reconcile_lead.c

# The shell around it: durable promise, Postgres, replication, API.
noinst_LIBRARIES += libogagent.a
libogagent_a_SOURCES =

if HAVE_AGENT
bin_PROGRAMS += ogel-agent
ogel_agent_SOURCES = agent/main.c
ogel_agent_LDADD = libogagent.a libogreconcile.a libogproto.a libogbase.a $(BASE_LIBS)
endif
