# ogelctl: one file per command.
noinst_LIBRARIES += libogcli.a
libogcli_a_SOURCES =

if HAVE_CLI
bin_PROGRAMS += ogelctl
ogelctl_SOURCES = cli/main.c
ogelctl_LDADD = libogcli.a libogproto.a libogbase.a $(BASE_LIBS)
endif
