# Chaos on the real system, as root; docs/testing.md explains it.
#
#   make check-chaos MINUTES=30 SEED=7       without SEED one is drawn, and printed
check_PROGRAMS += tests/chaos/relay
tests_chaos_relay_SOURCES = tests/chaos/relay.c
tests_chaos_relay_LDADD =
EXTRA_DIST += tests/chaos/chaos.py tests/chaos/check.py tests/chaos/faults.py tests/chaos/forgery.py \
	tests/chaos/ledger.py tests/chaos/load.py tests/chaos/world.py

MINUTES = 5
SEED =

.PHONY: check-chaos
check-chaos: all tests/chaos/relay
	$(AM_V_at)seed='$(SEED)'; /usr/bin/python3 '$(srcdir)/tests/chaos/chaos.py' \
	    --build '$(abs_builddir)' --minutes '$(MINUTES)' $${seed:+--seed "$$seed"}
