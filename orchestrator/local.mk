# The pure core; the daemon and the simulator link this one object.
noinst_LIBRARIES += libogdecide.a
libogdecide_a_SOURCES = orchestrator/decide.h orchestrator/reasons.def orchestrator/decide_internal.h \
	orchestrator/decide.c orchestrator/reasons.c orchestrator/decide_facts.c orchestrator/decide_leader.c \
	orchestrator/decide_ballot.c orchestrator/decide_elect.c orchestrator/decide_birth.c orchestrator/decide_request.c \
	orchestrator/decide_document.c orchestrator/decide_message.c orchestrator/decide_status.c

unit_tests += tests/unit/test_decide tests/unit/test_decide_storm tests/unit/test_golden_decide
tests_unit_test_decide_SOURCES = tests/unit/test_decide.c \
	tests/unit/decide_scene.c tests/unit/decide_scene.h
tests_unit_test_golden_decide_SOURCES = tests/unit/test_golden_decide.c \
	tests/unit/decide_scene.c tests/unit/decide_scene.h
EXTRA_DIST += tests/golden/decide

# The shell around it: observe, act, API.
noinst_LIBRARIES += libogorchestrator.a
libogorchestrator_a_SOURCES = \
	orchestrator/act.c \
	orchestrator/api.c orchestrator/api_internal.h \
	orchestrator/cluster.c orchestrator/cluster.h \
	orchestrator/connect.c orchestrator/connect.h \
	orchestrator/document.c \
	orchestrator/durations.c \
	orchestrator/history.c \
	orchestrator/metrics.c orchestrator/metrics.h \
	orchestrator/observe.c \
	orchestrator/options.c orchestrator/options.h \
	orchestrator/redis_publish.c \
	orchestrator/operator.c \
	orchestrator/shell.h \
	orchestrator/snapshot_api.c \
	orchestrator/snapshot_due.c orchestrator/snapshot_due.h \
	orchestrator/snapshot_index.c \
	orchestrator/snapshot_run.c \
	orchestrator/snapshot_status.c \
	orchestrator/snapshots.c orchestrator/snapshots.h \
	orchestrator/source.c \
	orchestrator/topology.c orchestrator/topology.h

bin_PROGRAMS += ogel-orchestrator
ogel_orchestrator_SOURCES = orchestrator/main.c
ogel_orchestrator_LDADD = libogorchestrator.a libogdecide.a libogsnapshots.a libogproto.a libogbase.a \
	$(BASE_LIBS)

unit_tests += tests/unit/test_snapshot_due tests/unit/test_snapshot_tasks
tests_unit_test_snapshot_due_LDADD = libogorchestrator.a libogsnapshots.a $(LDADD)
tests_unit_test_snapshot_tasks_SOURCES = tests/unit/test_snapshot_tasks.c tests/unit/snapshot_agents.h
tests_unit_test_snapshot_tasks_LDADD = libogorchestrator.a libogsnapshots.a $(LDADD)
