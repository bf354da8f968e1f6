# ogelctl: one file per command.
noinst_LIBRARIES += libogcli.a
libogcli_a_SOURCES = \
	cli/args.c cli/args.h \
	cli/cli.h \
	cli/client.c cli/client.h \
	cli/cmd_completion.c \
	cli/cmd_config.c \
	cli/cmd_connect.c \
	cli/cmd_events.c \
	cli/cmd_failover.c \
	cli/cmd_init.c \
	cli/cmd_maintenance.c \
	cli/cmd_node.c \
	cli/cmd_restart.c \
	cli/cmd_snapshot.c cli/snapshot_verbs.h \
	cli/cmd_snapshot_drill.c \
	cli/cmd_snapshot_keep.c \
	cli/cmd_status.c \
	cli/cmd_switchover.c \
	cli/cmd_version.c \
	cli/cmd_watch.c \
	cli/commands.c cli/commands.h \
	cli/operation.c cli/operation.h \
	cli/options.c cli/options.h \
	cli/report.c cli/report.h \
	cli/snapshot_orders.c cli/snapshot_orders.h \
	cli/source.c cli/source.h \
	cli/sse.c cli/sse.h \
	cli/table.c cli/table.h \
	cli/usage.c cli/usage.h \
	cli/view.c cli/view.h

bin_PROGRAMS += ogelctl
ogelctl_SOURCES = cli/main.c
ogelctl_LDADD = libogcli.a libogsnapshots.a libogproto.a libogbase.a $(BASE_LIBS) $(SNAPSHOT_LIBS)

unit_tests += \
	tests/unit/test_cli_args \
	tests/unit/test_cli_commands \
	tests/unit/test_cli_options \
	tests/unit/test_cli_orders \
	tests/unit/test_cli_snapshot \
	tests/unit/test_cli_text
tests_unit_test_cli_args_LDADD = libogcli.a libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_cli_commands_SOURCES = tests/unit/test_cli_commands.c tests/unit/cli_fixture.h
tests_unit_test_cli_commands_LDADD = libogcli.a libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_cli_options_LDADD = libogcli.a libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_cli_orders_SOURCES = tests/unit/test_cli_orders.c tests/unit/cli_fixture.h
tests_unit_test_cli_orders_LDADD = libogcli.a libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_cli_snapshot_SOURCES = tests/unit/test_cli_snapshot.c tests/unit/snapshot_fixture.h
tests_unit_test_cli_snapshot_LDADD = libogcli.a libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_cli_text_LDADD = libogcli.a libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
