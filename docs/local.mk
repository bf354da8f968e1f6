# Man pages and sample files are what the programs print; `make docs` writes them, `make lint` compares.
dist_man_MANS += docs/man/ogelctl.1 docs/man/ogel-agent.8 docs/man/ogel-orchestrator.8
dist_doc_DATA += README.md CHANGELOG.md docs/architecture.md docs/protocol.md docs/testing.md \
	docs/openapi.yaml docs/snapshot-format.md docs/ogel-agent.yaml docs/ogel-orchestrator.yaml
EXTRA_DIST += docs/adr docs/failover.svg docs/operations

.PHONY: docs
docs: $(bin_PROGRAMS)
	$(AM_V_at)$(MKDIR_P) $(srcdir)/docs/man
	$(AM_V_at)./ogelctl --print-man >$(srcdir)/docs/man/ogelctl.1
	$(AM_V_at)for daemon in ogel-agent ogel-orchestrator; do \
	    ./$$daemon --print-man >$(srcdir)/docs/man/$$daemon.8 && \
	    ./$$daemon --print-sample-config >$(srcdir)/docs/$$daemon.yaml || exit 1; \
	done
