# Base backups in an object store: taken, listed, verified, restored.
noinst_LIBRARIES += libogsnapshots.a
libogsnapshots_a_SOURCES = \
	snapshots/backup.c snapshots/backup.h \
	snapshots/bytes.h \
	snapshots/calendar.h \
	snapshots/catalog.c snapshots/catalog.h \
	snapshots/collect.c snapshots/collect.h \
	snapshots/collect_notes.c snapshots/collect_notes.h \
	snapshots/drill.c snapshots/drill.h \
	snapshots/expire.c snapshots/expire.h \
	snapshots/fetch.c snapshots/fetch.h \
	snapshots/filetable.c snapshots/filetable.h \
	snapshots/job.c snapshots/job.h \
	snapshots/keep.c snapshots/keep.h \
	snapshots/keyset.c snapshots/keyset.h \
	snapshots/manifest.c snapshots/manifest.h \
	snapshots/map.c snapshots/map.h \
	snapshots/marks.c snapshots/marks.h \
	snapshots/names.c snapshots/names.h \
	snapshots/pack.c snapshots/pack.h \
	snapshots/packset.c snapshots/packset.h \
	snapshots/pages.c snapshots/pages.h \
	snapshots/parent.c snapshots/parent.h \
	snapshots/pgmanifest.c snapshots/pgmanifest.h \
	snapshots/pipeline.c snapshots/pipeline.h \
	snapshots/plan.c snapshots/plan.h \
	snapshots/progress.h \
	snapshots/reach.c snapshots/reach.h \
	snapshots/restore.c snapshots/restore.h \
	snapshots/schedule.c snapshots/schedule.h \
	snapshots/source.c snapshots/source.h \
	snapshots/spool.c snapshots/spool.h \
	snapshots/store.c snapshots/store.h snapshots/store_internal.h \
	snapshots/store_file.c \
	snapshots/store_s3.c snapshots/store_s3_call.c snapshots/store_s3_internal.h \
	snapshots/store_s3_list.c \
	snapshots/tar.c snapshots/tar.h \
	snapshots/uploads.c snapshots/uploads.h \
	snapshots/walset.c snapshots/walset.h

# What libogsnapshots.a needs on top of BASE_LIBS.
SNAPSHOT_LIBS = $(S3_LIBS) $(ZSTD_LIBS) $(ISAL_LIBS)

unit_tests += \
	tests/unit/test_collect \
	tests/unit/test_filetable \
	tests/unit/test_jobs \
	tests/unit/test_keep \
	tests/unit/test_manifest \
	tests/unit/test_map \
	tests/unit/test_pack \
	tests/unit/test_pages \
	tests/unit/test_pgmanifest \
	tests/unit/test_pipeline \
	tests/unit/test_plan \
	tests/unit/test_restore \
	tests/unit/test_schedule \
	tests/unit/test_store \
	tests/unit/test_store_s3 \
	tests/unit/test_tar \
	tests/unit/test_walset
tests_unit_test_collect_SOURCES = tests/unit/test_collect.c tests/unit/collect_fixture.h \
	tests/unit/snapshot_fixture.h
tests_unit_test_collect_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_filetable_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_jobs_SOURCES = tests/unit/test_jobs.c tests/unit/collect_fixture.h \
	tests/unit/snapshot_fixture.h
tests_unit_test_jobs_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_keep_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_manifest_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_map_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_pack_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_pages_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_pgmanifest_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_pipeline_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_plan_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_restore_SOURCES = tests/unit/test_restore.c tests/unit/snapshot_fixture.h
tests_unit_test_restore_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_schedule_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_store_SOURCES = tests/unit/test_store.c tests/unit/store_contract.h
tests_unit_test_store_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_store_s3_SOURCES = tests/unit/test_store_s3.c tests/unit/store_contract.h \
	tests/unit/fake_s3.c tests/unit/fake_s3.h
tests_unit_test_store_s3_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_tar_SOURCES = tests/unit/test_tar.c tests/unit/tar_maker.h
tests_unit_test_tar_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_unit_test_walset_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)

fuzzers += tests/fuzz/fuzz_manifest tests/fuzz/fuzz_map tests/fuzz/fuzz_pack tests/fuzz/fuzz_tar
tests_fuzz_fuzz_manifest_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_fuzz_fuzz_map_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_fuzz_fuzz_pack_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
tests_fuzz_fuzz_tar_LDADD = libogsnapshots.a $(LDADD) $(SNAPSHOT_LIBS)
