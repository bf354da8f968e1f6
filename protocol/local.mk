# Types, codec and ordering rules of the one message and the report.
noinst_LIBRARIES += libogproto.a
libogproto_a_SOURCES = \
	protocol/codec.c protocol/codec.h \
	protocol/document.c protocol/document.h \
	protocol/fields.c protocol/fields.h \
	protocol/names.c protocol/names.h \
	protocol/order.c protocol/order.h \
	protocol/types.h

unit_tests += \
	tests/unit/test_codec \
	tests/unit/test_document \
	tests/unit/test_lineage \
	tests/unit/test_names \
	tests/unit/test_order

fuzzers += \
	tests/fuzz/fuzz_desired \
	tests/fuzz/fuzz_document \
	tests/fuzz/fuzz_report
