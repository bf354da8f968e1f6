# What all share: errors, log, config, JSON, HTTP, Postgres connections. Knows no cluster.
noinst_LIBRARIES += libogbase.a
libogbase_a_SOURCES =
