# Measurements, and the load that they and the integration tests use.
noinst_PROGRAMS += tests/bench/writer
check_PROGRAMS += tests/bench/fake_agents tests/bench/floor tests/bench/http_floor tests/bench/http_load
tests_bench_fake_agents_SOURCES = tests/bench/fake_agents.c tests/bench/fake_agents.h \
	tests/bench/fake_cluster.c tests/bench/fake_postgres.c
tests_bench_fake_agents_LDADD = libogproto.a libogbase.a $(BASE_LIBS)
tests_bench_writer_SOURCES = tests/bench/writer.c
tests_bench_writer_LDADD = $(LIBPQ_LIBS)
tests_bench_floor_SOURCES = tests/bench/floor.c
tests_bench_floor_LDADD = $(LIBPQ_LIBS)
tests_bench_http_floor_SOURCES = tests/bench/http_floor.c
tests_bench_http_floor_LDADD = libogbase.a $(BASE_LIBS)
tests_bench_http_load_SOURCES = tests/bench/http_load.c
tests_bench_http_load_LDADD =

EXTRA_DIST += tests/bench/benchlib.py tests/bench/connect.py tests/bench/failover.py \
	tests/bench/fakes.py tests/bench/floor.py tests/bench/idle.py tests/bench/plot.py tests/bench/scale.py \
	tests/bench/snapshot_peers.py tests/bench/snapshots.py tests/bench/tps.py
