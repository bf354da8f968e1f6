# systemd units, shell completion, Prometheus scrape configuration and alert rules.
systemdunitdir = $(prefix)/lib/systemd/system
nodist_systemdunit_DATA = \
	deploy/systemd/ogel-agent.service \
	deploy/systemd/ogel-orchestrator.service
CLEANFILES += $(nodist_systemdunit_DATA)

sysusersdir = $(prefix)/lib/sysusers.d
dist_sysusers_DATA = deploy/systemd/ogel.conf

prometheusdir = $(datadir)/ogel/prometheus
dist_prometheus_DATA = \
	deploy/prometheus/ogel.rules.yml \
	deploy/prometheus/scrape.yml

completiondir = $(datadir)/bash-completion/completions
nodist_completion_DATA = deploy/completion/ogelctl
CLEANFILES += $(nodist_completion_DATA)

deploy/completion/ogelctl: ogelctl$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) deploy/completion && \
	    ./ogelctl completion bash >$@.tmp && mv $@.tmp $@

EXTRA_DIST += \
	deploy/prometheus/ogel.rules.test.yml \
	deploy/systemd/ogel-agent.service.in \
	deploy/systemd/ogel-orchestrator.service.in

$(nodist_systemdunit_DATA): %.service: %.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) deploy/systemd && \
	    $(SED) 's|@bindir[@]|$(bindir)|g' $(srcdir)/$@.in >$@.tmp && mv $@.tmp $@
