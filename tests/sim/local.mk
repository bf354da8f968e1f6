# The cores' own objects under fault schedules: 15 s of it in `make check`.
#
#   make check-sim SECONDS=600 FROM=1000     longer, from another seed on
#   tests/sim/sim --seed N                   one schedule again, with its trace
#   make check-mutants                       can it fail? broken copies of the cores, each found out
check_PROGRAMS += tests/sim/sim
TESTS += tests/sim/sim
tests_sim_sim_SOURCES = tests/sim/sim.h tests/sim/agent.c tests/sim/boss.c tests/sim/check.c \
	tests/sim/faults.c tests/sim/main.c tests/sim/peers.c tests/sim/postgres.c tests/sim/steps.c \
	tests/sim/world.c
tests_sim_sim_LDADD = libogdecide.a libogreconcile.a libogproto.a
EXTRA_DIST += tests/sim/mutants

SECONDS = 60
FROM = 1

.PHONY: check-sim check-mutants
check-sim: tests/sim/sim
	$(AM_V_at)tests/sim/sim --seconds $(SECONDS) --from $(FROM)

check-mutants:
	$(AM_V_at)$(srcdir)/tests/sim/mutants --source '$(srcdir)' --cc '$(CC)' --seconds $(SECONDS)
