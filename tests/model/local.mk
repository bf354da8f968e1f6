# The protocol, searched exhaustively by spin (tests/model/README). The short configurations are a stage of ./runtests.
#
#   make check-model                       all configurations: minutes on a quiet machine, up to 2 GB
#   make check-model MODEL=--long          two replaced machines as well: a quarter of an hour, 3 GB
#   make check-model MODEL=--mutants       can it fail? broken rules, each found out
#   make check-model MODEL=core      one of them
EXTRA_DIST += tests/model/README tests/model/ogel.pml tests/model/run tests/model/configurations.py \
	tests/model/replay tests/model/test_replay tests/model/test_run tests/model/good.trace tests/model/replaced.trace

MODEL =

.PHONY: check-model
check-model:
	$(AM_V_at)$(srcdir)/tests/model/run $(MODEL)
