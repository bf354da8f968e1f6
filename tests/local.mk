# Tests that belong to no one directory. Unit tests of a module are listed beside it.
#
# A fuzzer's source is tests/fuzz/fuzz_<what>.c with LLVMFuzzerTestOneInput:
#   fuzzers += tests/fuzz/fuzz_json

if ENABLE_FUZZERS
noinst_PROGRAMS += $(fuzzers)
endif

.PHONY: fuzzers check-fuzz
fuzzers: $(fuzzers)

# All of them, two at a time, SECONDS each; what they learn is kept in FUZZ_CORPUS for the next time.
FUZZ_CORPUS = fuzz-corpus
check-fuzz: $(fuzzers)
	$(AM_V_at)$(srcdir)/tests/fuzz/run --seconds $(SECONDS) --seeds '$(srcdir)/tests/fuzz/corpus' \
	    --corpus '$(FUZZ_CORPUS)' $(fuzzers)

# Over a disk (agent/local.mk) and a network of their own.
tests_fuzz_network = tests/fuzz/fake_http.c tests/fuzz/fake_http.h
fuzzers += tests/fuzz/fuzz_agent_api tests/fuzz/fuzz_durable tests/fuzz/fuzz_events \
	tests/fuzz/fuzz_history tests/fuzz/fuzz_options tests/fuzz/fuzz_orchestrator_api \
	tests/fuzz/fuzz_postgres_text tests/fuzz/fuzz_sse
tests_fuzz_fuzz_agent_api_SOURCES = tests/fuzz/fuzz_agent_api.c $(faulty_disk) $(tests_fuzz_network)
tests_fuzz_fuzz_agent_api_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_fuzz_fuzz_durable_SOURCES = tests/fuzz/fuzz_durable.c $(faulty_disk)
tests_fuzz_fuzz_durable_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_fuzz_fuzz_events_SOURCES = tests/fuzz/fuzz_events.c $(faulty_disk)
tests_fuzz_fuzz_events_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_fuzz_fuzz_history_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_fuzz_fuzz_options_SOURCES = tests/fuzz/fuzz_options.c $(faulty_disk)
tests_fuzz_fuzz_options_LDADD = libogagent.a libogorchestrator.a libogsnapshots.a $(LDADD)
tests_fuzz_fuzz_orchestrator_api_SOURCES = tests/fuzz/fuzz_orchestrator_api.c $(tests_fuzz_network) \
	tests/unit/decide_scene.c tests/unit/decide_scene.h
tests_fuzz_fuzz_orchestrator_api_LDADD = libogorchestrator.a libogsnapshots.a $(LDADD)
tests_fuzz_fuzz_postgres_text_SOURCES = tests/fuzz/fuzz_postgres_text.c $(faulty_disk)
tests_fuzz_fuzz_postgres_text_LDADD = libogagent.a libogsnapshots.a $(LDADD)
tests_fuzz_fuzz_sse_LDADD = libogcli.a $(LDADD)
EXTRA_DIST += tests/fuzz/corpus tests/fuzz/run

include tests/bench/local.mk
include tests/sim/local.mk
include tests/chaos/local.mk
include tests/model/local.mk

# Snapshots, restores, expiry and collection at once, processes killed and frozen at moments from a seed; as root.
#   make check-snapshots COUNT=200 SEED=7 STORE=minio       without SEED one is drawn, and printed
#   make check-snapshots-cluster COUNT=200 SEED=7           ordered by orchestrators, into MinIO
COUNT = 200
STORE = file

.PHONY: check-snapshots check-snapshots-cluster
check-snapshots-cluster: all
	$(AM_V_at)seed='$(SEED)'; /usr/bin/python3 '$(srcdir)/tests/integration/snapshot_cluster_storm.py' \
	    --build '$(abs_builddir)' --count '$(COUNT)' $${seed:+--seed "$$seed"}
check-snapshots: all
	$(AM_V_at)seed='$(SEED)'; /usr/bin/python3 '$(srcdir)/tests/integration/snapshot_storm.py' \
	    --build '$(abs_builddir)' --count '$(COUNT)' --store '$(STORE)' $${seed:+--seed "$$seed"}

# Real servers: run by ./runtests, not by `make check`.
EXTRA_DIST += tests/integration tests/README
