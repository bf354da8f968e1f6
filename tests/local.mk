# Tests that belong to no one directory. Unit tests of a module are listed beside it.
#
# A fuzzer's source is tests/fuzz/fuzz_<what>.c with LLVMFuzzerTestOneInput:
#   fuzzers += tests/fuzz/fuzz_json

if ENABLE_FUZZERS
noinst_PROGRAMS += $(fuzzers)
endif

.PHONY: fuzzers
fuzzers: $(fuzzers)

include tests/bench/local.mk
include tests/sim/local.mk
include tests/model/local.mk

# Real servers: run by ./runtests, not by `make check`.
EXTRA_DIST += tests/integration tests/README
