# What all share: errors, log, config, JSON, HTTP, Postgres connections. Knows no cluster.
noinst_LIBRARIES += libogbase.a
libogbase_a_SOURCES =
libogbase_a_SOURCES += \
	base/clock.c base/clock.h \
	base/conf.c base/conf.h base/conf_print.c \
	base/err.c base/err.h \
	base/file.c base/file.h base/io_ops.h \
	base/http_client.c base/http_client.h \
	base/http_server.c base/http_server.h base/http_internal.h base/http_response.c \
	base/http_route.c base/http_route.h \
	base/json.c base/json.h \
	base/log.c base/log.h \
	base/loop.c base/loop.h \
	base/mem.c base/mem.h \
	base/notify.c base/notify.h \
	base/opts.c base/opts.h \
	base/pgconn.c base/pgconn.h \
	base/procfs.c base/procfs.h \
	base/prom.c base/prom.h \
	base/rand.c base/rand.h \
	base/redis.c base/redis.h \
	base/resolve.c base/resolve.h \
	base/roff.c base/roff.h \
	base/secret.c base/secret.h \
	base/slotfile.c base/slotfile.h \
	base/units.c base/units.h

unit_tests += tests/unit/test_loop tests/unit/test_http tests/unit/test_http_client \
	tests/unit/test_pgconn tests/unit/test_redis
tests_unit_test_http_SOURCES = tests/unit/test_http.c tests/unit/http_fixture.h
tests_unit_test_http_client_SOURCES = tests/unit/test_http_client.c tests/unit/http_fixture.h
fuzzers += tests/fuzz/fuzz_http_route

# Against real servers, as an unprivileged user: run by ./runtests, not by `make check`.
if HAVE_CMOCKA
check_PROGRAMS += tests/integration/test_base_net
endif
tests_integration_test_base_net_SOURCES = tests/integration/test_base_net.c tests/unit/tmpdir.h

unit_tests += \
	tests/unit/test_conf \
	tests/unit/test_err \
	tests/unit/test_file \
	tests/unit/test_json \
	tests/unit/test_log \
	tests/unit/test_secret \
	tests/unit/test_slotfile \
	tests/unit/test_units
EXTRA_DIST += tests/unit/tmpdir.h
fuzzers += tests/fuzz/fuzz_conf
