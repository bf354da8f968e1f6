# The pure core; the daemon and the simulator link this one object.
noinst_LIBRARIES += libogreconcile.a
libogreconcile_a_SOURCES = \
	agent/reasons.def \
	agent/reasons.c \
	agent/reconcile.c \
	agent/reconcile.h \
	agent/reconcile_document.c \
	agent/reconcile_fence.c \
	agent/reconcile_follow.c \
	agent/reconcile_identity.c \
	agent/reconcile_internal.h \
	agent/reconcile_lead.c

# The shell around it: durable promise, Postgres, replication, API.
noinst_LIBRARIES += libogagent.a
libogagent_a_SOURCES =

libogagent_a_SOURCES += \
	agent/api.c \
	agent/api_internal.h \
	agent/apply.c \
	agent/child.c \
	agent/child.h \
	agent/document.c \
	agent/document.h \
	agent/document_api.c \
	agent/durable.c \
	agent/durable.h \
	agent/events.c \
	agent/events.h \
	agent/health.c \
	agent/health.h \
	agent/health_api.c \
	agent/lane.c \
	agent/lane.h \
	agent/listing.c \
	agent/metrics.c \
	agent/node.c \
	agent/node.h \
	agent/observe.c \
	agent/ogelctl.c \
	agent/ogelctl.h \
	agent/options.c \
	agent/options.h \
	agent/peers.c \
	agent/permit.c \
	agent/permit.h \
	agent/recall.c \
	agent/recall.h \
	agent/replies.c \
	agent/replies.h \
	agent/report.c \
	agent/retry.c \
	agent/retry.h \
	agent/roles.c \
	agent/sampler.c \
	agent/sampler.h \
	agent/sampler_sql.c \
	agent/scram.c \
	agent/scram.h \
	agent/source_api.c \
	agent/steps.c \
	agent/steps.h \
	agent/steps_conf.c \
	agent/steps_sql.c \
	agent/task.c \
	agent/task.h \
	agent/task_api.c \
	agent/task_child.c \
	agent/task_child.h \
	agent/worker.c \
	agent/worker.h

# What is done to a Postgres on this machine.
libogagent_a_SOURCES += \
	agent/command.c \
	agent/command.h \
	agent/conftext.c \
	agent/conftext.h \
	agent/memory.c \
	agent/memory.h \
	agent/pgconf.c \
	agent/pgconf.h \
	agent/pgconf_rules.c \
	agent/pgdata.c \
	agent/pgdata.h \
	agent/pgdata_clone.c \
	agent/pgdata_history.c \
	agent/pgdata_wal.c \
	agent/postmaster.c \
	agent/postmaster.h \
	agent/postmaster_cause.c \
	agent/proc.c \
	agent/proc.h

unit_tests += tests/unit/test_pgconf tests/unit/test_pgdata tests/unit/test_proc
tests_unit_test_pgconf_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_pgdata_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_proc_LDADD = libogagent.a libogsnapshots.a $(LDADD)

unit_tests += tests/unit/test_agent_parts tests/unit/test_durable tests/unit/test_events \
	tests/unit/test_health tests/unit/test_permit tests/unit/test_retry tests/unit/test_task \
	tests/unit/test_task_child
# A fault at every call of what the agent keeps, and what is read of it when it is damaged.
unit_tests += tests/unit/test_broken_files tests/unit/test_faults tests/unit/test_faults_events
faulty_disk = tests/unit/faulty_disk.c tests/unit/faulty_disk.h
tests_unit_test_broken_files_SOURCES = tests/unit/test_broken_files.c $(faulty_disk)
tests_unit_test_broken_files_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_faults_SOURCES = tests/unit/test_faults.c $(faulty_disk)
tests_unit_test_faults_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_faults_events_SOURCES = tests/unit/test_faults_events.c $(faulty_disk)
tests_unit_test_faults_events_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_agent_parts_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_durable_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_events_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_health_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_permit_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_retry_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_task_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_unit_test_task_child_LDADD = libogagent.a libogsnapshots.a $(LDADD)

# Against real servers, as an unprivileged user: run by ./runtests, not by `make check`.
if HAVE_CMOCKA
check_PROGRAMS += tests/integration/test_postgres_layer tests/integration/test_postgres_wal
endif
tests_integration_test_postgres_layer_SOURCES = \
	tests/integration/postgres_node.c \
	tests/integration/postgres_node.h \
	tests/integration/test_postgres_layer.c
tests_integration_test_postgres_layer_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_integration_test_postgres_wal_SOURCES = \
	tests/integration/postgres_node.c \
	tests/integration/postgres_node.h \
	tests/integration/test_postgres_wal.c
tests_integration_test_postgres_wal_LDADD = libogagent.a libogsnapshots.a $(LDADD)

bin_PROGRAMS += ogel-agent
ogel_agent_SOURCES = agent/main.c
ogel_agent_LDADD = libogagent.a libogsnapshots.a libogreconcile.a libogproto.a libogbase.a $(BASE_LIBS)

unit_tests += tests/unit/test_reconcile tests/unit/test_reconcile_join tests/unit/test_reconcile_identity \
	tests/unit/test_reconcile_source
tests_unit_test_reconcile_identity_SOURCES = tests/unit/test_reconcile_identity.c \
	tests/unit/reconcile_world.c tests/unit/reconcile_world.h
tests_unit_test_reconcile_source_SOURCES = tests/unit/test_reconcile_source.c \
	tests/unit/reconcile_world.c tests/unit/reconcile_world.h
tests_unit_test_reconcile_SOURCES = tests/unit/test_reconcile.c \
	tests/unit/reconcile_world.c tests/unit/reconcile_world.h
tests_unit_test_reconcile_join_SOURCES = tests/unit/test_reconcile_join.c \
	tests/unit/reconcile_world.c tests/unit/reconcile_world.h
