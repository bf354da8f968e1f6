# Types, codec and ordering rules of the one message and the report.
noinst_LIBRARIES += libogproto.a
libogproto_a_SOURCES = \
	protocol/names.c protocol/names.h \
	protocol/order.c protocol/order.h \
	protocol/types.h
