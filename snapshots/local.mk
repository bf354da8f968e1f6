# Base backups in an object store: taken, listed, verified, restored.
noinst_LIBRARIES += libogsnapshots.a
libogsnapshots_a_SOURCES = \
	snapshots/store.c snapshots/store.h snapshots/store_internal.h \
	snapshots/store_file.c \
	snapshots/store_s3.c snapshots/store_s3_call.c snapshots/store_s3_internal.h \
	snapshots/store_s3_list.c

# What libogsnapshots.a needs on top of BASE_LIBS.
SNAPSHOT_LIBS = $(S3_LIBS) $(ZSTD_LIBS)

unit_tests += \
	tests/unit/test_store \
	tests/unit/test_store_s3
tests_unit_test_store_SOURCES = tests/unit/test_store.c tests/unit/store_contract.h
tests_unit_test_store_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_store_s3_SOURCES = tests/unit/test_store_s3.c tests/unit/store_contract.h \
	tests/unit/fake_s3.c tests/unit/fake_s3.h
tests_unit_test_store_s3_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
