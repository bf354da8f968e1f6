# The cores' own objects under fault schedules: 15 s of it in `make check`.
#
#   make check-sim MINUTES=10 FROM=1000      longer, from another seed on
#   tests/sim/sim --seed N                   one schedule again, with its trace
#   make check-mutants                       can it fail? broken copies of the cores, each found out
check_PROGRAMS += tests/sim/sim
TESTS += tests/sim/sim tests/sim/same-objects
tests_sim_sim_SOURCES = tests/sim/sim.h tests/sim/agent.c tests/sim/boss.c tests/sim/check.c \
	tests/sim/clients.c tests/sim/cover.c tests/sim/documents.c tests/sim/faults.c tests/sim/main.c tests/sim/operators.c \
	tests/sim/peers.c tests/sim/postgres.c tests/sim/project.c tests/sim/run.c tests/sim/shrink.c tests/sim/snapshots.c \
	tests/sim/steps.c tests/sim/storage.c tests/sim/stream.c tests/sim/themes.c tests/sim/wal.c tests/sim/world.c
tests_sim_sim_LDADD = libogdecide.a libogreconcile.a libogproto.a
EXTRA_DIST += tests/sim/mutants tests/sim/same-objects
CLEANFILES += tests/sim/commit.h

# A failure is replayed with its seed and its commit.
tests/sim/main.$(OBJEXT): tests/sim/commit.h
tests/sim/commit.h: commit-unless-same
	$(AM_V_at)$(MKDIR_P) tests/sim
	$(AM_V_at)commit=$$(git -C '$(srcdir)' describe --always --dirty 2>/dev/null) || commit=; \
	    printf '#define SIM_COMMIT "%s"\n' "$${commit:-$(VERSION)}" >$@.new; \
	    if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

MINUTES = 1
FROM = 1
MUTANT_SECONDS = 60
MUTANT_JOBS = 2

.PHONY: check-sim check-mutants commit-unless-same
check-sim: tests/sim/sim
	$(AM_V_at)tests/sim/sim --minutes $(MINUTES) --from $(FROM)

check-mutants:
	$(AM_V_at)$(srcdir)/tests/sim/mutants --source '$(srcdir)' --cc '$(CC)' --seconds $(MUTANT_SECONDS) \
	    --jobs $(MUTANT_JOBS)
