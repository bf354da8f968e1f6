# Man pages: dist_man_MANS += docs/man/ogelctl.1
# Texts:     dist_doc_DATA += docs/architecture.md
#
# Man pages and sample files are what the programs print; `make docs` writes them, `make lint` compares.

dist_doc_DATA += docs/architecture.md docs/protocol.md

.PHONY: docs
docs: $(bin_PROGRAMS)
	$(AM_V_at)$(MKDIR_P) $(srcdir)/docs/man
	$(AM_V_at)./ogelctl --print-man >$(srcdir)/docs/man/ogelctl.1
	$(AM_V_at)for daemon in ogel-agent ogel-orchestrator; do \
	    ./$$daemon --print-man >$(srcdir)/docs/man/$$daemon.8 && \
	    ./$$daemon --print-sample-config >$(srcdir)/docs/$$daemon.yaml || exit 1; \
	done
